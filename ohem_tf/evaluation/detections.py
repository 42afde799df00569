"""Detections of a split as one file, to be scored again without a model.

A compressed .npz of numpy arrays, without pickle; D detections in I images, one image after the
other: `boxes` [D, 4] float32, `scores` [D] float32, `classes` [D] int32, `counts` [I] int64
(detections of each image), `image_ids` [I] str, and `settings`, a json string.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ohem_tf import npz
from ohem_tf.errors import InputError, first_line
from ohem_tf.files import atomic

# key: (dtype, shape of one detection)
_FIELDS = {"boxes": (np.float32, (4,)), "scores": (np.float32, ()), "classes": (np.int32, ())}


def save(
    path: str | os.PathLike[str],
    image_ids: Sequence[str],
    detections: Sequence[Mapping],
    settings: Mapping[str, Any],
) -> None:
    """Writes the detections of a split, atomically.

    Args:
      path: of the file, ending .npz.
      image_ids: of each image.
      detections: one dict per image, in the same order: "boxes" [D, 4] as [ymin, xmin, ymax, xmax]
        in pixels, half-open, 0-based; "scores" [D]; "classes" [D], 1-based.
      settings: how they were made, "settings" in metrics.json: "split", "checkpoint", "detection".
    """
    pairs = list(zip(image_ids, detections, strict=True))
    arrays: dict[str, Any] = {
        name: np.concatenate(
            [np.zeros((0, *row), dtype)]
            + [np.asarray(found[name], dtype).reshape(-1, *row) for _, found in pairs]
        )
        for name, (dtype, row) in _FIELDS.items()
    }
    with atomic(path) as temporary:
        np.savez_compressed(
            temporary,
            **arrays,
            counts=np.array([len(found["scores"]) for _, found in pairs], np.int64),
            image_ids=np.array([image_id for image_id, _ in pairs], np.str_),
            settings=np.array(json.dumps(settings)),
        )


def load(
    path: str | os.PathLike[str],
) -> tuple[list[str], list[dict[str, np.ndarray]], dict[str, Any]]:
    """Reads what `save` wrote.

    Returns:
      image_ids, detections and settings, with the dtypes of the file; a tuple within `settings`
      comes back as a list.

    Raises:
      InputError: the file is absent or damaged, or is none of `save`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {
                name: npz.read(file, name) for name in (*_FIELDS, "counts", "image_ids", "settings")
            }
        settings = json.loads(str(arrays.pop("settings")))
        counts, image_ids = arrays.pop("counts"), arrays.pop("image_ids").tolist()
        _check(arrays, counts, image_ids, settings)
    except Exception as error:  # the file system, zip, zlib, numpy and json each raise their own
        raise InputError(
            f"{path} cannot be read as detections ({first_line(error)}); expected a file that "
            "ohem_tf.evaluate wrote, such as WORKDIR/detections.npz"
        ) from error
    ends = np.cumsum(counts)
    detections = [
        {name: array[end - count : end] for name, array in arrays.items()}
        for count, end in zip(counts, ends, strict=True)
    ]
    return image_ids, detections, settings


def _check(
    arrays: Mapping[str, np.ndarray], counts: np.ndarray, image_ids: list, settings: object
) -> None:
    """Raises ValueError unless the parts of a file fit each other."""
    if counts.dtype != np.int64 or counts.shape != (len(image_ids),) or (counts < 0).any():
        raise ValueError(f"its counts do not fit {len(image_ids)} images")
    total = counts.sum()
    wanted = {name: (np.dtype(dtype), (total, *row)) for name, (dtype, row) in _FIELDS.items()}
    if {name: (array.dtype, array.shape) for name, array in arrays.items()} != wanted:
        raise ValueError(f"its arrays do not fit {total} detections")
    if not isinstance(settings, dict) or not all(isinstance(x, str) for x in image_ids):
        raise ValueError("its settings or image ids are of another kind")
