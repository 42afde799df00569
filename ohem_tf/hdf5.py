"""Weights in HDF5, a format whose library a damaged file can crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from ohem_tf.errors import InputError, first_line
from ohem_tf.limits import DEFAULT, Limits


def check(path: str, limits: Limits = DEFAULT) -> None:
    """Reads a whole file in a process apart, before this one does.

    In one that knows nothing of the caller's script: that may load a model without having said
    what is to be done if it is the main module, which `apart.Apart` needs.

    Raises:
      InputError: it is no such file, or damaged: that process died, or took too long; or something
        in it lies in another file.
    """
    importable = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", "from ohem_tf import hdf5; hdf5._read_apart()", path]
    try:
        done = subprocess.run(
            command, env=importable, capture_output=True, text=True, timeout=limits.seconds
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{path}: reading it takes longer than {limits.seconds:g} s; the file is damaged or "
            "too large"
        ) from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise InputError(
            f"{path}: reading it ended the process that did ({name}); the file is damaged"
        )
    if done.returncode:
        raise InputError(f"{path}: {(done.stderr.splitlines() or ['cannot be read'])[-1]}")


def walk(path: str) -> int:
    """Reads all data and attributes of a file; returns the bytes of its data.

    Raises:
      InputError: something lies in another file.
      Exception: whatever h5py raises for a damaged one.
    """
    import h5py

    def look(group: Any) -> int:
        _ = [group.attrs[name] for name in group.attrs]
        size = 0
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise InputError(f"{name!r} is a link; expected the data in the file itself")
            item = group[name]
            if isinstance(item, h5py.Group):
                size += look(item)
            elif item.external or item.is_virtual:
                raise InputError(f"{item.name} lies in another file; expected it in this one")
            else:
                size += item[()].nbytes
        return size

    with h5py.File(path) as file:
        return look(file)


def _read_apart() -> None:
    """What the process apart does with the file on its command line."""
    DEFAULT.apply_here()
    try:
        walk(sys.argv[1])
    except Exception as error:  # of any kind, from a library that reads what is damaged
        sys.exit(first_line(error))
