"""Error types and calibration, each by hand; AP is pycocotools'."""

from __future__ import annotations

import numpy as np
import pytest

from ohem_tf.evaluation.coco import coco_metrics
from ohem_tf.evaluation.error_types import TYPES, analyse

BOX = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)


def truth(*objects, difficult=False):
    """Objects (box, class) of an image."""
    return {
        "boxes": [box for box, _ in objects],
        "classes": [label for _, label in objects],
        "difficult": [difficult] * len(objects),
    }


def found(*detections):
    """Detections (box, class, score) in an image."""
    return {
        "boxes": [box for box, _, _ in detections],
        "classes": [label for _, label, _ in detections],
        "scores": [score for *_, score in detections],
    }


@pytest.mark.parametrize(
    ("kind", "objects", "detections", "cost"),
    [
        ("Cls", [(BOX, 1)], [(BOX, 2, 0.9)], 1),
        ("Loc", [(BOX, 1)], [((0, 0, 10, 4), 1, 0.9)], 1),
        # Without it nothing has been found either.
        ("Both", [(BOX, 1)], [((0, 0, 10, 4), 2, 0.9)], 0),
        ("Dupe", [(BOX, 1), (FAR, 1)], [(BOX, 1, 0.9), ((0, 0, 10, 9), 1, 0.8), (FAR, 1, 0.7)], 1),
        ("Bkg", [(BOX, 1)], [(FAR, 1, 0.9), (BOX, 1, 0.8)], 0.5),
        # 51 of 101 recall levels are reached, and all of those of the object that is left.
        ("Miss", [(BOX, 1), (FAR, 1)], [(BOX, 1, 0.9)], 1 - 51 / 101),
    ],
)
def test_each_error_type(kind, objects, detections, cost):
    errors, _ = analyse([truth(*objects)], [found(*detections)])
    counts = {name: count for name, count in errors.counts.items() if count}
    expected = {"Both": 1, "Miss": 1} if kind == "Both" else {kind: 1}
    assert counts == expected
    if kind == "Dupe":  # one false between two true ones: precision 2/3 beyond recall 0.5
        cost = 50 / 101 * (1 - 2 / 3)
    assert errors.costs[kind] == pytest.approx(cost)
    assert set(errors.counts) == set(TYPES)
    assert {"FP", "FN"} < set(errors.costs)


def test_ap_is_that_of_pycocotools():
    rng = np.random.default_rng(0)
    images, guesses = [], []
    for _ in range(20):
        corners, sides = rng.uniform(0, 100, (4, 2)), rng.uniform(10, 80, (4, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        classes = rng.integers(1, 4, 4)
        images.append({"boxes": boxes, "classes": classes, "difficult": rng.random(4) < 0.2})
        moved = np.repeat(boxes, 3, axis=0) + rng.normal(0, 4, (12, 4))
        scores = rng.integers(0, 50, 12) / 50
        kinds = np.where(rng.random(12) < 0.7, np.repeat(classes, 3), rng.integers(1, 4, 12))
        guesses.append({"boxes": moved, "classes": kinds, "scores": scores})
    errors, _ = analyse(images, guesses)
    assert errors.ap == pytest.approx(coco_metrics(images, guesses)["AP50"], abs=1e-12)
    assert all(errors.counts[name] for name in ("Cls", "Loc", "Dupe", "Bkg"))
    strict, _ = analyse(images, guesses, 0.75)
    assert strict.ap == pytest.approx(coco_metrics(images, guesses)["AP75"], abs=1e-12)
    assert 0 < strict.ap < errors.ap


def test_a_difficult_object_excuses():
    images = [truth((BOX, 1), difficult=True), truth((FAR, 1))]
    errors, calibration = analyse(images, [found((BOX, 1, 0.9)), found((FAR, 1, 0.8))])
    assert not any(errors.counts.values())
    assert errors.ap == pytest.approx(1)
    assert [b.detections for b in calibration.bins] == [1]


def test_calibration_by_hand():
    """Scores 0.9, 0.94 (one true) and 0.3 (true): 2/3 |1/2 - 0.92| + 1/3 |1 - 0.3|."""
    images = [truth((BOX, 1), (FAR, 1))]
    guesses = [found((BOX, 1, 0.94), ((20, 0, 30, 10), 1, 0.9), (FAR, 1, 0.3))]
    _, calibration = analyse(images, guesses)
    assert calibration.error == pytest.approx((2 * 0.42 + 0.7) / 3)
    low, high = calibration.bins
    assert tuple(low) == pytest.approx((0.3, 0.4, 0.3, 1, 1))
    assert tuple(high) == pytest.approx((0.9, 1, 0.92, 0.5, 2))


def test_without_objects_or_detections():
    errors, calibration = analyse([truth()], [found()])
    assert (errors.ap, calibration.error, calibration.bins) == (0, 0, [])
    errors, calibration = analyse([truth((BOX, 1))], [found()])
    assert errors.counts["Miss"] == 1
    errors, calibration = analyse([truth()], [found((BOX, 1, 0.7))])
    assert errors.counts["Bkg"] == 1
    assert calibration.error == pytest.approx(0.7)
