"""COCO's twelve numbers, by pycocotools, from the same lists that the VOC metrics take."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ohem_tf.evaluation import inputs

# In the order of COCOeval.stats.
NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)

_MAX = 100  # detections of an image and class that COCOeval takes


def coco_metrics(
    ground_truth: Sequence[Mapping], detections: Sequence[Mapping]
) -> dict[str, float | None]:
    """AP and AR over IoU 0.5, 0.55 ... 0.95, at 100 detections per image, as COCO reports them.

    Args:
      ground_truth: one dict per image: "boxes" [G, 4] as [ymin, xmin, ymax, xmax] in pixels,
        "classes" [G], "difficult" [G], and where known "crowd" [G] bool and "area" [G] (COCO's
        area of the segment, which decides between small, medium and large; else the box's area).
        COCO has no `difficult`: such an object becomes a crowd-like region, which is never missed
        and which excuses any number of detections that lie in it.
      detections: one dict per image, in the same order: "boxes" [D, 4], "scores" [D] and
        "classes" [D].

    Returns:
      {name: value in [0, 1]} for `NAMES`; None for "no data" (pycocotools' -1): no object that
      counts, in all or of that size.

    Raises:
      InputError: bad lists (see `inputs.check`).
    """
    ground_truth, detections = inputs.check(ground_truth, detections)
    if not any(len(image["boxes"]) for image in ground_truth):
        return dict.fromkeys(NAMES)  # COCOeval does not take an empty data set
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = COCOeval(
            *(_indexed(dataset) for dataset in as_coco(ground_truth, detections)), iouType="bbox"
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = evaluation.stats.tolist()
    return {name: None if value < 0 else value for name, value in zip(NAMES, values, strict=True)}


def as_coco(
    ground_truth: Sequence[inputs.Arrays], detections: Sequence[inputs.Arrays]
) -> tuple[dict, dict]:
    """Both lists (see `coco_metrics`), after `inputs.check`, as COCO's json has them.

    Ids start at 1: COCOeval takes annotation 0 for "no match".
    """
    lists = (*ground_truth, *detections)
    classes = np.unique(np.concatenate([image["classes"] for image in lists])).tolist()
    return (
        _dataset(classes, [_objects(image) for image in ground_truth]),
        _dataset(classes, [_guesses(_counted(image)) for image in detections]),
    )


def _crowd(image: inputs.Arrays) -> np.ndarray:
    return image["difficult"] | image.get("crowd", False)


def _objects(image: inputs.Arrays) -> list[dict]:
    rows = _rows(image)
    if "area" in image:
        for row, area in zip(rows, image["area"].tolist(), strict=True):
            row["area"] = area
    for row, crowd in zip(rows, _crowd(image).tolist(), strict=True):
        row["iscrowd"] = int(crowd)
    return rows


def _counted(image: inputs.Arrays) -> inputs.Arrays:
    """The detections of an image that pycocotools looks at: the best `_MAX` of each class.

    It keeps the first of equal scores, and so do we; they stay in their order. Without them its
    lists of dicts are smaller, and the values the same.
    """
    order = np.lexsort((-image["scores"], image["classes"]))  # stable
    classes = image["classes"][order]
    rank = np.arange(len(order)) - np.searchsorted(classes, classes)
    kept = np.sort(order[rank < _MAX])
    return {name: array[kept] for name, array in image.items()}


def _guesses(image: inputs.Arrays) -> list[dict]:
    rows = _rows(image)
    for row, score in zip(rows, image["scores"].tolist(), strict=True):
        row["score"] = score
    return rows


def _rows(image: inputs.Arrays) -> list[dict]:
    """COCO's annotations: x, y, width, height."""
    return [
        {
            "category_id": class_id,
            "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
            "area": (xmax - xmin) * (ymax - ymin),
            "iscrowd": 0,
        }
        for class_id, (ymin, xmin, ymax, xmax) in zip(
            image["classes"].tolist(), image["boxes"].tolist(), strict=True
        )
    ]


def _dataset(classes: list[int], images: list[list[dict]]) -> dict:
    annotations: list[dict] = []
    for image_id, rows in enumerate(images, 1):
        for row in rows:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **row})
    return {
        "images": [{"id": i} for i in range(1, len(images) + 1)],
        "categories": [{"id": c, "name": str(c)} for c in classes],
        "annotations": annotations,
    }


def _indexed(dataset: dict) -> COCO:
    """A COCO object made in memory."""
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco
