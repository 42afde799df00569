"""Arrays of .npz files, with their checksums compared."""

from __future__ import annotations

import io

import numpy as np
from numpy.lib.npyio import NpzFile


def size(file: NpzFile, key: str) -> int:
    """Bytes of an array once unpacked, as the file states them."""
    assert file.zip is not None  # it is open
    return file.zip.getinfo(_member(file, key)).file_size


def read(file: NpzFile, key: str) -> np.ndarray:
    """An array of a file that `np.load` opened.

    numpy reads as much of a member as the array's header says, so that the zip's checksum is not
    compared where a damaged header says less. This reads all of it.

    Raises:
      ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error: the file is damaged.
      KeyError: it holds no such array.
    """
    assert file.zip is not None  # it is open
    data = io.BytesIO(file.zip.read(_member(file, key)))
    array = np.lib.format.read_array(data, allow_pickle=False)
    if data.read(1):
        raise ValueError(f"{key}: more data than its header says")
    return array


def _member(file: NpzFile, key: str) -> str:
    assert file.zip is not None  # it is open
    return f"{key}.npy" if f"{key}.npy" in file.zip.NameToInfo else key
