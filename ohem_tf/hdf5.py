"""Reads HDF5, a format whose library a damaged file can crash: to be called apart (apart.py)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ohem_tf.apart import Apart
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT


def check(path: str) -> None:
    """Reads a whole file in a process apart, before this one does.

    Raises:
      InputError: that process died, or took too long; something in the file lies in another one.
      ValueError: it is no such file, or damaged.
    """
    with Apart(DEFAULT) as process:
        process.call(walk, path, what=path)


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
            item = member(path, group, name)
            size += look(item) if isinstance(item, h5py.Group) else values(path, item).nbytes
        return size

    with h5py.File(path) as file:
        return look(file)


def member(path: str, group: Any, name: str) -> Any:
    """`group[name]`, which may be no link: it might lead to any file."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise InputError(f"{path}: {name!r} is a link; expected the data in the file itself")
    return group[name]


def values(path: str, dataset: Any) -> np.ndarray:
    """The values of a dataset; they may not lie in another file, whatever that is."""
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{path}: {dataset.name} lies in another file; expected it in this one")
    return np.asarray(dataset[()])
