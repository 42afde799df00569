"""Detections as the files that the VOC and COCO servers take.

VOC: `comp4_det_SPLIT_CLASS.txt` for each class, with lines `image_id score xmin ymin xmax ymax` in
1-based inclusive pixels. COCO: `detections_SPLIT_results.json`, a list of {"image_id",
"category_id", "bbox", "score"} with the data set's own ids and 0-based [x, y, width, height].

Corners are written to a thousandth of a pixel; scores in full, so that they rank as they did.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ohem_tf.errors import InputError
from ohem_tf.files import atomic, make_folder
from ohem_tf.names import check_class


def check_folder(
    directory: str, classes: Sequence[str], category_ids: Sequence[int] | None
) -> None:
    """Makes the folder of --write_results, before the long work of detection.

    Args:
      directory, classes, category_ids: as for `write`.

    Raises:
      InputError: it cannot be a folder or be written to, or a class name is no part of a file name.
    """
    make_folder(directory, "write_results")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InputError(
            f"--write_results: {directory} cannot be written to; choose another folder"
        )
    for name in classes if category_ids is None else ():
        check_class(name, "--write_results")


def write(
    directory: str,
    split: str,
    classes: Sequence[str],
    category_ids: Sequence[int] | None,
    image_ids: Sequence[str],
    detections: Sequence[Mapping],
) -> list[str]:
    """Writes the detections of a split, in COCO's form if it has category ids, else in VOC's.

    Args:
      directory: see `check_folder`.
      split: its name, for those of the files.
      classes: names of the classes 1..K.
      category_ids: COCO's ids of the classes; None for VOC.
      image_ids: of each image; COCO's are whole numbers.
      detections: one dict per image, in the same order: "boxes" [D, 4] as [ymin, xmin, ymax, xmax]
        in pixels, half-open, 0-based; "scores" [D]; "classes" [D], 1-based.

    Returns:
      Paths of the files. Each is written atomically.
    """
    images = list(zip(image_ids, detections, strict=True))
    if category_ids is not None:
        path = os.path.join(directory, f"detections_{split}_results.json")
        _write(path, _coco_text(images, category_ids))
        return [path]
    paths = []
    for label, name in enumerate(classes, 1):
        paths.append(os.path.join(directory, f"comp4_det_{split}_{name}.txt"))
        _write(paths[-1], _voc_text(images, label))
    return paths


def _voc_text(images: Iterable[tuple[str, Mapping]], label: int) -> Iterator[str]:
    """The lines of one class. The inclusive xmax of pixels [xmin, xmax) is xmax itself, 1-based."""
    for image_id, found in images:
        mine = np.asarray(found["classes"]) == label
        boxes = np.asarray(found["boxes"], np.float64).reshape(-1, 4)[mine]
        scores = np.asarray(found["scores"], np.float32)[mine]
        for (ymin, xmin, ymax, xmax), score in zip(boxes, scores, strict=True):
            # The shortest digits that give this very float32 again, without an exponent.
            score = np.format_float_positional(score, trim="0")
            yield f"{image_id} {score} {xmin + 1:.3f} {ymin + 1:.3f} {xmax:.3f} {ymax:.3f}\n"


def _coco_text(images: Iterable[tuple[str, Mapping]], category_ids: Sequence[int]) -> Iterator[str]:
    between = "[\n"
    for image_id, found in images:
        boxes = np.asarray(found["boxes"], np.float64).reshape(-1, 4)
        scores = np.asarray(found["scores"], np.float32)
        for (ymin, xmin, ymax, xmax), score, label in zip(
            boxes, scores, found["classes"], strict=True
        ):
            bbox = [round(float(x), 3) for x in (xmin, ymin, xmax - xmin, ymax - ymin)]
            row = {"image_id": int(image_id), "category_id": category_ids[label - 1]}
            yield between + json.dumps(row | {"bbox": bbox, "score": float(str(score))})
            between = ",\n"
    yield "[]\n" if between == "[\n" else "\n]\n"


def _write(path: str, text: Iterable[str]) -> None:
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(text)
