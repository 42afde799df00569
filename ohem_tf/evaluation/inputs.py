"""Checks the two lists that every metric takes: ground truth and detections, one dict per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ohem_tf.errors import InputError

# key: (dtype, shape of one row, required)
_GROUND_TRUTH = {
    "boxes": (np.float64, (4,), True),
    "classes": (np.int64, (), True),
    "difficult": (bool, (), True),
    "crowd": (bool, (), False),
    "area": (np.float64, (), False),
}
_DETECTIONS = {
    "boxes": (np.float64, (4,), True),
    "scores": (np.float64, (), True),
    "classes": (np.int64, (), True),
}

Arrays = dict[str, np.ndarray]


def check(
    ground_truth: Sequence[Mapping], detections: Sequence[Mapping]
) -> tuple[list[Arrays], list[Arrays]]:
    """Returns both lists as arrays of fixed dtypes (float64, int64, bool), or says what is wrong.

    Args:
      ground_truth: one dict per image: "boxes" [G, 4] as [ymin, xmin, ymax, xmax] in pixels,
        "classes" [G], "difficult" [G], and where the data set has them "crowd" [G] and "area" [G].
      detections: one dict per image, in the same order: "boxes" [D, 4], "scores" [D] and
        "classes" [D].

    Raises:
      InputError: lists or arrays of different lengths, a missing key, a wrong shape, a class that
        is not a whole number, a value that is not finite.
    """
    if len(ground_truth) != len(detections):
        raise InputError(
            f"ground_truth has {len(ground_truth)} images and detections has {len(detections)}: "
            "both need one entry per image, in the same order"
        )
    return (
        [_arrays(x, _GROUND_TRUTH, f"ground_truth[{i}]") for i, x in enumerate(ground_truth)],
        [_arrays(x, _DETECTIONS, f"detections[{i}]") for i, x in enumerate(detections)],
    )


def _arrays(entry: Mapping, fields: dict, where: str) -> Arrays:
    required = [key for key, (_, _, needed) in fields.items() if needed]
    missing = [key for key in required if key not in entry]
    if missing:
        raise InputError(f"{where} has no {missing[0]!r}: it needs {', '.join(required)}")
    arrays = {
        key: _array(entry[key], dtype, row, f"{where}[{key!r}]")
        for key, (dtype, row, _) in fields.items()
        if key in entry
    }
    size = len(arrays["boxes"])
    for key, array in arrays.items():
        if len(array) != size:
            raise InputError(
                f"{where}[{key!r}] has {len(array)} entries for {size} boxes: it needs one per box"
            )
    return arrays


def _array(value: object, dtype: type, row: tuple[int, ...], where: str) -> np.ndarray:
    wanted = "[N, 4]" if row else "[N]"
    try:
        array = np.asarray(value)
        if array.size == 0:
            # An image without boxes may come as [], [0] or [0, 4].
            return np.zeros((0, *row), dtype)
        numbers = array.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where} does not hold numbers: it needs an array {wanted}") from None
    if array.ndim != 1 + len(row) or array.shape[1:] != row:
        raise InputError(f"{where} has shape {list(array.shape)}: it needs {wanted}")
    if not np.isfinite(numbers).all():
        raise InputError(f"{where} holds a value that is not finite: every value must be a number")
    if dtype is np.int64 and (numbers != np.floor(numbers)).any():
        raise InputError(f"{where} holds {numbers[numbers % 1 != 0][0]}: classes are whole numbers")
    return array.astype(dtype)
