"""What a report says of a run, as numbers: pure functions of detections and ground truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ohem_tf.checking.recall import Recall
from ohem_tf.comparison import intervals
from ohem_tf.evaluation import error_types, mistakes, pr_curves, report, voc
from ohem_tf.evaluation.error_types import Calibration, ErrorTypes
from ohem_tf.evaluation.mistakes import Mistake
from ohem_tf.evaluation.pr_curves import Operating

CURVE_POINTS = 120  # of a training curve on the page; more lines of the log are averaged


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The detections of one run.

    Attributes:
      metrics: of `evaluation.report.metrics`, with COCO's.
      curves: {class: [101] precision at `pr_curves.LEVELS` of recall}, where there are objects.
      best: {class: where F1 is highest}, None where it is not defined.
      overall: the same of the detections of all classes as one.
      confusion: [K+1, K+1], see `mistakes.confusion`, from the score of `overall` on.
      errors, calibration: see `error_types`.
      recall: objects found at any score, as `Recall.as_json`.
      resampled: mAP over drawn images, see `intervals.resampled_map`.
    """

    metrics: Mapping[str, Any]
    curves: Mapping[str, np.ndarray]
    best: Mapping[str, Operating | None]
    overall: Operating | None
    confusion: np.ndarray
    errors: ErrorTypes
    calibration: Calibration
    recall: Mapping[str, Any]
    resampled: Sequence[float]

    @property
    def min_score(self) -> float:
        """The score from which on detections are counted where one is needed."""
        return self.overall.score if self.overall else 0.0


def analyse(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    classes: Sequence[str],
    method: str,
    iou_threshold: float,
    resamples: int = intervals.RESAMPLES,
) -> Analysis:
    """The analysis of one run.

    Args:
      ground_truth, detections, classes, method, iou_threshold: as `evaluation.report.metrics`.
      resamples: how often images are drawn for the interval of a difference; 0 where there is no
        other run.
    """
    plain = report.ignoring_crowds(ground_truth)
    matches = voc.match(plain, detections, iou_threshold)
    named = {classes[label - 1]: matched.curve() for label, matched in matches.items()}
    named = {name: named[name] for name in classes if name in named}
    overall = pr_curves.best_f1(pr_curves.all_classes(matches).curve()) if matches else None
    min_score = overall.score if overall else 0.0
    errors, calibration = error_types.analyse(ground_truth, detections, iou_threshold)
    drawn = intervals.resampled_map(matches, method, resamples) if matches and resamples else []
    return Analysis(
        report.metrics(ground_truth, detections, classes, method, iou_threshold, coco=True),
        {name: pr_curves.interpolated(curve) for name, curve in named.items() if curve.objects},
        {name: pr_curves.best_f1(curve) for name, curve in named.items()},
        overall,
        mistakes.confusion(plain, detections, len(classes), iou_threshold, min_score),
        errors,
        calibration,
        _found(plain, detections, classes, iou_threshold),
        drawn,
    )


def worst(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    iou_threshold: float,
    min_score: float,
    most: int,
) -> tuple[list[Mistake], list[Mistake]]:
    """The worst false positives and misses, at most `most` of each; see `mistakes`."""
    plain = report.ignoring_crowds(ground_truth)
    return (
        mistakes.false_positives(plain, detections, iou_threshold, most),
        mistakes.misses(plain, detections, iou_threshold, min_score, most),
    )


def confusions(
    matrix: np.ndarray, classes: Sequence[str], most: int
) -> list[tuple[str, str, int, float]]:
    """The most frequent confusions of two classes.

    Args:
      matrix: see `mistakes.confusion`.
      classes: names of the classes 1..K.
      most: how many.

    Returns:
      (annotated, detected, number, share of the objects of the annotated class).
    """
    pairs = matrix[1:, 1:].copy()
    np.fill_diagonal(pairs, 0)
    order = np.argsort(-pairs, axis=None, kind="stable")[:most]
    found = []
    for row, column in zip(*np.unravel_index(order, pairs.shape), strict=True):
        if count := int(pairs[row, column]):
            share = count / int(matrix[row + 1].sum())
            found.append((classes[row], classes[column], count, share))
    return found


def difference(names: tuple[str, str], analysis: Analysis, reference: Analysis) -> str | None:
    """How far a run is from another one in mAP, and how sure that is, as a sentence.

    None where one of them has no mAP.
    """
    own, other = analysis.metrics["mAP"], reference.metrics["mAP"]
    if own is None or other is None or not analysis.resampled:
        return None
    images = intervals.over_images([analysis.resampled], [reference.resampled])
    apart = own - other
    return intervals.verdict(names[0], names[1], apart, [apart], images)


def training_curves(
    log: Sequence[Mapping[str, Any]], points: int = CURVE_POINTS
) -> dict[str, list[tuple[float, float]]]:
    """{what the log holds: [(step, value), ...]}, at most `points` of each, means over the rest.

    A value that is not finite breaks no curve: it is left out.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in log:
        for name, value in line.items():
            number = isinstance(value, (int, float)) and np.isfinite(value)
            if name != "step" and number:
                curves.setdefault(name, []).append((line["step"], float(value)))
    return {name: _thinned(curve, points) for name, curve in curves.items()}


def _thinned(curve: list[tuple[float, float]], points: int) -> list[tuple[float, float]]:
    if len(curve) <= points:
        return curve
    parts = np.array_split(np.array(curve), points)
    return [(float(part[-1, 0]), float(part[:, 1].mean())) for part in parts]


def _found(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    classes: Sequence[str],
    iou_threshold: float,
) -> dict[str, Any]:
    recall = Recall(classes)
    scores = mistakes.scores_of_objects(ground_truth, detections, iou_threshold)
    for image, found in zip(ground_truth, scores, strict=True):
        boxes = np.asarray(image["boxes"]).reshape(-1, 4)
        areas = image.get("area", np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        for i in np.flatnonzero(~np.asarray(image["difficult"], bool)):
            name = classes[int(image["classes"][i]) - 1]
            recall.count(name, float(areas[i]), bool(found[i] >= 0))
    return recall.as_json()
