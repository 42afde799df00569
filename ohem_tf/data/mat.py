"""Reads the .mat files of proposals of the Fast R-CNN release: MATLAB's v5 and v7.3 (HDF5).

To be called apart (apart.py): scipy and h5py crash on some damaged files. So this module imports
little.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ohem_tf import hdf5
from ohem_tf.errors import InputError

_KEYS = ("boxes", "images")


def read(path: str) -> dict[str, np.ndarray]:
    """The boxes of each image.

    Args:
      path: of a file with `images`, a cell of N image ids, and `boxes`, a cell of N arrays [R, 4]
        of 1-based inclusive (y1, x1, y2, x2).

    Returns:
      {image id: [R, 4] float64 half-open 0-based boxes}; what is no such array of numbers is as it
      is in the file.

    Raises:
      InputError: a variable is missing, or another file is to be read, or there are not as many
        ids as arrays.
      Exception: whatever scipy and h5py raise for a damaged file.
    """
    import scipy.io

    try:
        data = scipy.io.loadmat(path, variable_names=list(_KEYS))
        _need_keys(path, data)
        ids = [str(np.ravel(cell)[0]) for cell in np.ravel(data["images"])]
        boxes = list(np.ravel(data["boxes"]))
    except NotImplementedError:  # v7.3 is HDF5
        ids, boxes = _read_hdf5(path)
    if len(ids) != len(boxes):
        raise InputError(
            f"{path}: {len(ids)} images but {len(boxes)} arrays of boxes; expected as many of each"
        )
    return dict(zip(ids, map(_from_matlab, boxes), strict=True))


def _need_keys(path: str, found: Any) -> None:
    for key in _KEYS:
        if key not in found:
            raise InputError(f"{path}: lacks {key!r}; expected the variables 'boxes' and 'images'")


def _read_hdf5(path: str) -> tuple[list[str], list[np.ndarray]]:
    import h5py

    with h5py.File(path) as file:
        _need_keys(path, file)
        boxes, images = (np.ravel(hdf5.values(path, hdf5.member(path, file, x))) for x in _KEYS)
        ids = ["".join(map(chr, np.ravel(hdf5.values(path, file[cell])))) for cell in images]
        return ids, [_matlab_array(path, file[cell]) for cell in boxes]


def _matlab_array(path: str, dataset: Any) -> np.ndarray:
    """A MATLAB array from HDF5: transposed, and an empty one is stored as its dimensions."""
    values = hdf5.values(path, dataset)
    return np.zeros((0, 4)) if dataset.attrs.get("MATLAB_empty") else np.transpose(values)


def _from_matlab(boxes: np.ndarray) -> np.ndarray:
    """1-based inclusive (y1, x1, y2, x2) to half-open: the first two corners move by one."""
    boxes = np.asarray(boxes)
    # An empty array has any shape in MATLAB; one of another kind or shape is reported later.
    if boxes.dtype.kind in "iuf" and boxes.ndim == 2 and boxes.shape[1] == 4:
        return boxes.astype(np.float64) - [1, 1, 0, 0]
    return boxes
