"""Precision-recall curves to look at, and the score at which a detector is best used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ohem_tf.evaluation.voc import Curve, Matched

LEVELS = np.linspace(0.0, 1.0, 101)  # COCO's recall levels


class Operating(NamedTuple):
    """A detector whose detections below `score` are left out; all in [0, 1]."""

    score: float
    precision: float
    recall: float
    f1: float  # harmonic mean of precision and recall


def interpolated(curve: Curve) -> np.ndarray:
    """[101] float64: the best precision at a recall of at least each of `LEVELS`, 0 where none is.

    Their mean is AP as COCO defines it. `nan` without an object.
    """
    if not curve.objects:
        return np.full(len(LEVELS), np.nan)
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return np.append(envelope, 0.0)[np.searchsorted(curve.recall, LEVELS)]


def best_f1(curve: Curve) -> Operating | None:
    """The score with the highest F1; None without an object or a detection."""
    if not curve.objects or not len(curve.scores):
        return None
    # A threshold takes all detections of a score: the last of equal ones says what it gives.
    last = np.flatnonzero(np.append(np.diff(curve.scores) != 0, True))
    precision, recall = curve.precision[last], curve.recall[last]
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(np.argmax(f1))
    score = float(curve.scores[last[best]])
    return Operating(score, float(precision[best]), float(recall[best]), float(f1[best]))


def all_classes(matches: Mapping[int, Matched]) -> Matched:
    """The detections of all classes as if they were of one; `matches`: see `voc.match`."""
    parts = list(matches.values())
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="stable")
    return Matched(
        images=np.concatenate([part.images for part in parts])[order],
        hits=np.concatenate([part.hits for part in parts])[order],
        scores=scores[order],
        objects=np.sum([part.objects for part in parts], axis=0),
    )
