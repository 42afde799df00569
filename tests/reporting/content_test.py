"""The numbers of a report, by hand, or against what computes them elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from ohem_tf.evaluation.report import metrics
from ohem_tf.reporting import content

CLASSES = ("cat", "dog", "cow")
LEFT, FAR = (0, 0, 40, 40), (50, 50, 70, 70)


def image(*objects, crowd=()):
    """Objects (box, class); `crowd`: their numbers."""
    boxes = np.float32([box for box, _ in objects]).reshape(-1, 4)
    return {
        "boxes": boxes,
        "classes": np.int32([label for _, label in objects]),
        "difficult": np.zeros(len(objects), bool),
        "crowd": np.array([i in crowd for i in range(len(objects))], bool),
        "area": np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
    }


def found(*detections):
    """Detections (box, class, score)."""
    return {
        "boxes": np.float32([box for box, _, _ in detections]).reshape(-1, 4),
        "classes": np.int32([label for _, label, _ in detections]),
        "scores": np.float32([score for *_, score in detections]),
    }


TRUTH = [image((LEFT, 1), (FAR, 2)), image((LEFT, 1), (FAR, 1), crowd=(1,)), image()]
FOUND = [found((LEFT, 1, 0.9), (FAR, 1, 0.8)), found((FAR, 1, 0.7), (LEFT, 1, 0.1)), found()]


def test_an_analysis_by_hand():
    got = content.analyse(TRUTH, FOUND, CLASSES, "voc07", 0.5, resamples=20)
    assert got.metrics == metrics(TRUTH, FOUND, CLASSES, coco=True)
    # cat: true, false, (at a crowd, which does not count), true: two objects.
    assert got.curves["cat"].tolist() == pytest.approx([1] * 51 + [2 / 3] * 50)
    assert got.curves["dog"].tolist() == [0] * 101
    assert "cow" not in got.curves
    assert got.best["cat"] == pytest.approx((0.1, 2 / 3, 1, 0.8))
    # All together: three objects; at 0.1 precision 2/3 and recall 2/3, at 0.9 1 and 1/3.
    assert got.overall == pytest.approx((0.1, 2 / 3, 2 / 3, 2 / 3))
    assert got.min_score == pytest.approx(0.1)
    # The dog is taken for a cat.
    assert got.confusion[:3, :3].tolist() == [[0, 0, 0], [0, 2, 0], [0, 1, 0]]
    assert content.confusions(got.confusion, CLASSES, 5) == [("dog", "cat", 1, 1.0)]
    assert got.errors.counts["Cls"] == 1
    assert got.recall["all"] == {"objects": 3, "recall": pytest.approx(2 / 3)}
    assert got.recall["classes"]["dog"] == {"objects": 1, "recall": 0}
    assert got.recall["sizes"]["small"] == {"objects": 1, "recall": 0}
    assert got.recall["sizes"]["medium"] == {"objects": 2, "recall": 1}
    assert len(got.resampled) == 20


def test_without_objects_or_detections():
    empty = content.analyse([image()], [found()], CLASSES, "area", 0.5)
    assert (empty.metrics["mAP"], empty.overall, empty.min_score) == (None, None, 0)
    assert empty.curves == {}
    assert content.difference(("a", "b"), empty, empty) is None
    missed = content.analyse(TRUTH, [found()] * 3, CLASSES, "area", 0.5, 10)
    assert missed.confusion[:, 0].tolist() == [0, 2, 1, 0]
    assert "a +0.0 mAP against b" in content.difference(("a", "b"), missed, missed)


def test_the_worst_by_hand():
    false, missed = content.worst(TRUTH, FOUND, 0.5, 0.5, 5)
    assert [(m.kind, m.what.label, m.image) for m in false] == [("Cls", 1, 0)]
    # The dog has no true detection, the second cat one with a low score.
    assert [(m.what.label, m.image) for m in missed] == [(2, 0), (1, 1)]


def test_confusions_are_sorted_and_have_no_zero():
    matrix = np.array([[0, 9, 9], [1, 5, 4], [0, 8, 2]])
    assert content.confusions(matrix, ("cat", "dog"), 9) == [
        ("dog", "cat", 8, 0.8),
        ("cat", "dog", 4, 0.4),
    ]
    assert content.confusions(matrix, ("cat", "dog"), 1) == [("dog", "cat", 8, 0.8)]
    assert content.confusions(np.diag([0, 3, 4]), ("cat", "dog"), 9) == []


def test_training_curves():
    log = [
        {"step": i, "cls": 10.0 - i, "loss/hard": float("nan") if i == 2 else 1.0} for i in (1, 2)
    ]
    log.append({"step": 2, "eval/mAP": 0.5})
    assert content.training_curves(log) == {
        "cls": [(1, 9.0), (2, 8.0)],
        "loss/hard": [(1, 1.0)],
        "eval/mAP": [(2, 0.5)],
    }


def test_a_long_log_is_averaged():
    log = [{"step": 10 * i, "cls": float(i)} for i in range(1, 1001)]
    curve = content.training_curves(log, 10)["cls"]
    assert curve == [(1000 * k, pytest.approx(100 * k - 49.5)) for k in range(1, 11)]
