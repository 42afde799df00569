"""Single mistakes of a detector: what is false and why, what is missed, what is mixed up.

Detections are matched to objects as VOC's metric does it (`voc.assign`). G, D: objects and
detections of an image. An object counts unless it is `difficult`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ohem_tf.evaluation import inputs, voc
from ohem_tf.evaluation.error_types import BACKGROUND_IOU

PER_IMAGE = 2  # mistakes shown of one image at most: others have something to show too


class Seen(NamedTuple):
    """An object or a detection: its box in pixels, its class from 1 on, its score (objects: 1)."""

    box: tuple[float, ...]
    label: int
    score: float


class Mistake(NamedTuple):
    """A false detection, or a missed object.

    Attributes:
      image: number of the image.
      kind: of a false detection, of `error_types.TYPES`; of a miss "Miss".
      what: the false detection, or the missed object.
      beside: the object that the detection overlaps most, or the detection that stands where the
        object is; None: nothing is there.
      iou: of both; 0 if nothing is there.
    """

    image: int
    kind: str
    what: Seen
    beside: Seen | None
    iou: float


class _Image(NamedTuple):
    truth: inputs.Arrays
    found: inputs.Arrays
    outcomes: np.ndarray  # [D]
    objects: np.ndarray  # [D]: index of its object where a detection is true
    overlaps: np.ndarray  # [D, G] IoU


def false_positives(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    iou_threshold: float,
    most: int,
) -> list[Mistake]:
    """The false detections with the highest scores, by descending score.

    Args:
      ground_truth, detections, iou_threshold: as `voc.average_precision`.
      most: how many.
    """
    found = []
    for number, image in enumerate(_images(ground_truth, detections, iou_threshold)):
        false = np.flatnonzero(image.outcomes == voc.FALSE)
        scores = image.found["scores"]
        for i in false[np.argsort(-scores[false], kind="stable")][:PER_IMAGE]:
            found.append(_false_positive(number, image, int(i), iou_threshold))
    return sorted(found, key=lambda mistake: -mistake.what.score)[:most]


def misses(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    iou_threshold: float,
    min_score: float,
    most: int,
) -> list[Mistake]:
    """Objects that count without a true detection of score >= `min_score`.

    Args:
      ground_truth, detections, iou_threshold: as `voc.average_precision`.
      min_score: detections below it are as good as none.
      most: how many.

    Returns:
      First those that no detection found at all, the largest first; then by ascending score.
    """
    found = []
    for number, image in enumerate(_images(ground_truth, detections, iou_threshold)):
        scores = _scores_of_objects(image)
        sizes = _areas(image.truth["boxes"])
        missed = np.flatnonzero(~image.truth["difficult"] & (scores < min_score))
        for i in missed[np.lexsort((-sizes[missed], scores[missed]))][:PER_IMAGE]:
            miss = _miss(number, image, int(i), iou_threshold)
            found.append((float(scores[i]), -float(sizes[i]), number, miss))
    return [miss for *_, miss in sorted(found, key=lambda entry: entry[:3])[:most]]


def scores_of_objects(
    ground_truth: Sequence[Mapping], detections: Sequence[Mapping], iou_threshold: float
) -> list[np.ndarray]:
    """For each image [G] the score of the true detection of each object, -1 where there is none."""
    images = _images(ground_truth, detections, iou_threshold)
    return [_scores_of_objects(image) for image in images]


def confusion(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    num_classes: int,
    iou_threshold: float,
    min_score: float,
) -> np.ndarray:
    """How often an object of each class was taken for which.

    True detections stand on the diagonal. Each false one, by descending score, is matched to the
    object that it overlaps most among those that have no detection yet, whatever the class.

    Args:
      ground_truth, detections, iou_threshold: as `voc.average_precision`.
      num_classes: K.
      min_score: of the detections that are looked at.

    Returns:
      [K+1, K+1] int64: row the class annotated, column the class detected. Row 0: detections
      without an object (of the background, with a poor box, or a second one of an object); column
      0: objects without a detection.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    sure = [_above(image, min_score) for image in detections]
    for image in _images(ground_truth, sure, iou_threshold):
        labels, guesses = image.truth["classes"], image.found["classes"]
        true = np.flatnonzero(image.outcomes == voc.TRUE)
        np.add.at(matrix, (labels[image.objects[true]], guesses[true]), 1)
        left = ~image.truth["difficult"]
        left[image.objects[true]] = False
        false = np.flatnonzero(image.outcomes == voc.FALSE)
        for i in false[np.argsort(-image.found["scores"][false], kind="stable")]:
            overlaps = np.where(left, image.overlaps[i], 0.0)
            if len(overlaps) and overlaps.max() >= iou_threshold:
                nearest = int(overlaps.argmax())
                left[nearest] = False
                matrix[labels[nearest], guesses[i]] += 1
            else:
                matrix[0, guesses[i]] += 1
        matrix[:, 0] += np.bincount(labels[left], minlength=num_classes + 1)
    return matrix


def _images(
    ground_truth: Sequence[Mapping], detections: Sequence[Mapping], iou_threshold: float
) -> Iterator[_Image]:
    assigned = voc.assign(ground_truth, detections, iou_threshold)
    ground_truth, detections = inputs.check(ground_truth, detections)
    first = start = 0
    for truth, found in zip(ground_truth, detections, strict=True):
        end = start + len(found["boxes"])
        outcomes, objects = assigned.outcomes[start:end], assigned.objects[start:end] - first
        overlaps = voc.iou(found["boxes"], truth["boxes"])
        yield _Image(truth, found, outcomes, objects, overlaps)
        first, start = first + len(truth["boxes"]), end


def _false_positive(number: int, image: _Image, i: int, iou_threshold: float) -> Mistake:
    """TIDE's type of a false detection, and what it overlaps, of the objects that count."""
    label = image.found["classes"][i]
    counted = ~image.truth["difficult"]
    same = counted & (image.truth["classes"] == label)
    own, own_iou = _nearest(image.overlaps[i], same)
    other, other_iou = _nearest(image.overlaps[i], counted & ~same)
    what = _seen(image.found, i)
    if BACKGROUND_IOU <= own_iou < iou_threshold:
        return Mistake(number, "Loc", what, _seen(image.truth, own), own_iou)
    if other_iou >= iou_threshold:
        return Mistake(number, "Cls", what, _seen(image.truth, other), other_iou)
    if own_iou >= iou_threshold:
        return Mistake(number, "Dupe", what, _seen(image.truth, own), own_iou)
    if other_iou >= BACKGROUND_IOU:
        return Mistake(number, "Both", what, _seen(image.truth, other), other_iou)
    return Mistake(number, "Bkg", what, None, 0.0)


def _miss(number: int, image: _Image, i: int, iou_threshold: float) -> Mistake:
    """A missed object, and the detection with the highest score that is there in its place."""
    overlaps = image.overlaps[:, i]
    own = image.found["classes"] == image.truth["classes"][i]
    near = np.where(own, overlaps >= BACKGROUND_IOU, overlaps >= iou_threshold)
    # One that found another object is no answer to this one.
    near &= (image.outcomes == voc.FALSE) | (image.objects == i)
    there = np.flatnonzero(near)
    what = _seen(image.truth, i)
    if not len(there):
        return Mistake(number, "Miss", what, None, 0.0)
    best = int(there[np.argmax(image.found["scores"][there])])
    return Mistake(number, "Miss", what, _seen(image.found, best), float(overlaps[best]))


def _scores_of_objects(image: _Image) -> np.ndarray:
    scores = np.full(len(image.truth["boxes"]), -1.0)
    true = image.outcomes == voc.TRUE
    scores[image.objects[true]] = image.found["scores"][true]
    return scores


def _nearest(overlaps: np.ndarray, chosen: np.ndarray) -> tuple[int, float]:
    if not chosen.any():
        return -1, 0.0
    best = int(np.argmax(np.where(chosen, overlaps, -1.0)))
    return best, float(overlaps[best])


def _seen(arrays: Mapping[str, np.ndarray], i: int) -> Seen:
    score = float(arrays["scores"][i]) if "scores" in arrays else 1.0
    return Seen(tuple(arrays["boxes"][i].tolist()), int(arrays["classes"][i]), score)


def _above(found: Mapping, min_score: float) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(found[name]) for name in ("boxes", "scores", "classes")}
    kept = arrays["scores"] >= min_score
    return {name: array[kept] for name, array in arrays.items()}


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
