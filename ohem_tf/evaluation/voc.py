"""Average precision as the PASCAL VOC devkit computes it. Plain numpy.

G, D: ground-truth boxes and detections of one image. Boxes are [ymin, xmin, ymax, xmax] in pixels,
half-open; all arithmetic is float64, so boxes with integer corners give the devkit's IoU exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ohem_tf.errors import InputError
from ohem_tf.evaluation import inputs

METHODS = ("voc07", "area")

# Recall levels of the 11-point AP, in the floats of the evaluator that the authors' release uses
# (py-faster-rcnn's voc_eval, and every Python evaluator that we know). Three of them lie one unit
# in the last place above 3/10, 6/10 and 7/10: a recall of exactly 0.6 does not reach the level 0.6.
_LEVELS = np.arange(0.0, 1.1, 0.1)

# What became of a detection, see `assign`.
FALSE, TRUE, IGNORED = 0, 1, 2


class Curve(NamedTuple):
    """Precision and recall of one class after each counted detection, by descending score.

    T is the number of detections that count (those matched to a `difficult` object do not).
    """

    precision: np.ndarray  # [T] float64
    recall: np.ndarray  # [T] float64; nan where `objects` is 0
    scores: np.ndarray  # [T] float64, descending
    objects: int  # ground truth objects that are not `difficult`


class Matched(NamedTuple):
    """The detections of one class over I images, matched to its objects.

    T is the number of detections that count.
    """

    images: np.ndarray  # [T] int64 image of each detection, by descending score
    hits: np.ndarray  # [T] bool: found an object, as the first
    scores: np.ndarray  # [T] float64, descending
    objects: np.ndarray  # [I] objects in each image that are not `difficult`

    def curve(self, weights: np.ndarray | None = None) -> Curve:
        """Precision and recall; with `weights` [I], as if image i stood there weights[i] times."""
        weights = np.ones(len(self.objects), np.int64) if weights is None else weights
        times = weights[self.images]
        hits, counted = np.cumsum(times * self.hits), np.cumsum(times)
        objects = int(np.sum(weights * self.objects))
        return Curve(
            precision=np.divide(hits, counted, out=np.zeros(len(hits)), where=counted > 0),
            recall=hits / objects if objects else np.full(len(hits), np.nan),
            scores=self.scores,
            objects=objects,
        )


class Assigned(NamedTuple):
    """What became of each detection, one image after the other; D in all."""

    outcomes: np.ndarray  # [D] int64: TRUE, FALSE, or IGNORED
    objects: np.ndarray  # [D] int64 over all images: that of its class that it overlaps most


def average_precision(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    iou_threshold: float = 0.5,
    method: str = "voc07",
) -> dict[int, float]:
    """Average precision per class.

    Args:
      ground_truth: one dict per image: "boxes" [G, 4], "classes" [G], "difficult" [G] bool.
      detections: one dict per image, in the same order: "boxes" [D, 4], "scores" [D] and
        "classes" [D].
      iou_threshold: a detection matches at IoU >= this, in (0, 1].
      method: "voc07", mean of the best precision at recall >= 0, 0.1 ... 1 (VOC 2007 and the
        paper's VOC07 tables); or "area", the area under the precision-recall curve made monotone
        (VOC 2010 and later).

    Returns:
      {class: AP in [0, 1]} for every class in the ground truth or the detections, ascending.
      `nan` for a class without an object that counts.

    Raises:
      InputError: bad lists (see `inputs.check`), unknown method, threshold out of range.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}: it must be one of {', '.join(METHODS)}")
    return summarize(precision_recall(ground_truth, detections, iou_threshold), method)


def summarize(curves: Mapping[int, Curve], method: str) -> dict[int, float]:
    """{class: AP} of the curves of each class, see `average_precision`."""
    summary = _eleven_points if method == "voc07" else _area
    return {c: summary(curve) if curve.objects else math.nan for c, curve in curves.items()}


def precision_recall(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    iou_threshold: float = 0.5,
) -> dict[int, Curve]:
    """The precision-recall curve of every class; arguments and errors as `average_precision`."""
    matched = match(ground_truth, detections, iou_threshold)
    return {class_id: found.curve() for class_id, found in matched.items()}


def match(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    iou_threshold: float = 0.5,
) -> dict[int, Matched]:
    """Detections against objects, class by class; arguments and errors as `average_precision`."""
    assigned = assign(ground_truth, detections, iou_threshold)
    ground_truth, detections = inputs.check(ground_truth, detections)
    gt_classes = _concatenate([image["classes"] for image in ground_truth], np.int64)
    difficult = _concatenate([image["difficult"] for image in ground_truth], bool)
    classes = _concatenate([image["classes"] for image in detections], np.int64)
    scores = _concatenate([image["scores"] for image in detections], np.float64)
    gt_images, images = (_image_of_each(x) for x in (ground_truth, detections))

    matched = {}
    for class_id in np.union1d(gt_classes, classes).tolist():
        mine = np.flatnonzero((classes == class_id) & (assigned.outcomes != IGNORED))
        mine = mine[np.argsort(-scores[mine], kind="stable")]
        objects = gt_images[(gt_classes == class_id) & ~difficult]
        matched[class_id] = Matched(
            images=images[mine],
            hits=assigned.outcomes[mine] == TRUE,
            scores=scores[mine],
            objects=np.bincount(objects, minlength=len(ground_truth)),
        )
    return matched


def assign(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    iou_threshold: float = 0.5,
) -> Assigned:
    """Detections against objects; arguments and errors as `average_precision`.

    The devkit's matching (VOCevaldet.m). The detections of a class over all images, by descending
    score (equal scores stay in their order): each looks at the one object of its class and image
    with the highest IoU, taken or not. Below the threshold it is false. Else, if that object is
    `difficult` it does not count; it is true if it is the first on that object, and false if not.
    """
    if not 0 < iou_threshold <= 1:
        raise InputError(f"iou_threshold is {iou_threshold}: it must lie in (0, 1]")
    ground_truth, detections = inputs.check(ground_truth, detections)
    difficult = _concatenate([image["difficult"] for image in ground_truth], bool)
    scores = _concatenate([image["scores"] for image in detections], np.float64)
    best, overlap = _best_objects(ground_truth, detections)
    order = np.argsort(-scores, kind="stable")  # an object is of one class: all classes at once
    outcomes = np.empty(len(scores), np.int64)
    outcomes[order] = _outcomes(best[order], overlap[order] >= iou_threshold, difficult)
    return Assigned(outcomes, best)


def mean_average_precision(ap: Mapping[int, float]) -> float:
    """Mean over the classes that have data: those whose AP is not `nan`. `nan` if none has."""
    values = [value for value in ap.values() if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def _best_objects(
    ground_truth: list[inputs.Arrays], detections: list[inputs.Arrays]
) -> tuple[np.ndarray, np.ndarray]:
    """For each detection over all images: index (over all images) and IoU of its best object.

    IoU is -1 where the image has no object of the detection's class; ties go to the first object.
    """
    best, overlap = [], []
    first = 0
    for truth, found in zip(ground_truth, detections, strict=True):
        if len(truth["boxes"]) and len(found["boxes"]):
            overlaps = iou(found["boxes"], truth["boxes"])
            overlaps[found["classes"][:, None] != truth["classes"]] = -1
            best.append(first + overlaps.argmax(axis=1))
            overlap.append(overlaps.max(axis=1))
        else:
            best.append(np.zeros(len(found["boxes"]), np.int64))
            overlap.append(np.full(len(found["boxes"]), -1.0))
        first += len(truth["boxes"])
    return _concatenate(best, np.int64), _concatenate(overlap, np.float64)


def _outcomes(best: np.ndarray, matched: np.ndarray, difficult: np.ndarray) -> np.ndarray:
    """True, false or ignored for detections that come by descending score."""
    outcome = np.full(len(best), FALSE)
    hits = np.flatnonzero(matched)
    _, first = np.unique(best[hits], return_index=True)
    outcome[hits[first]] = TRUE
    outcome[hits[difficult[best[hits]]]] = IGNORED
    return outcome


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU [N, M] in float64; 0 for a box without area. (`boxes.iou` needs TensorFlow.)"""
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    area_a = np.prod(np.maximum(a[:, 2:] - a[:, :2], 0), axis=1)
    area_b = np.prod(np.maximum(b[:, 2:] - b[:, :2], 0), axis=1)
    union = area_a[:, None] + area_b - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _eleven_points(curve: Curve) -> float:
    first = np.searchsorted(curve.recall, _LEVELS)  # the first point that reaches each level
    best = np.append(_envelope(curve.precision), 0.0)
    return float(best[first].mean())


def _area(curve: Curve) -> float:
    return float(np.sum(np.diff(curve.recall, prepend=0) * _envelope(curve.precision)))


def _envelope(precision: np.ndarray) -> np.ndarray:
    """At each point the best precision from there on."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _image_of_each(images: list[inputs.Arrays]) -> np.ndarray:
    """Which image each box of a list is in, [boxes of all images] int64."""
    return np.repeat(np.arange(len(images)), [len(image["boxes"]) for image in images])


def _concatenate(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *arrays])
