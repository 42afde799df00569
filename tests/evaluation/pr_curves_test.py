"""Sampled curves against pycocotools' own arrays; the best F1 by hand."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ohem_tf.evaluation import inputs, pr_curves, voc
from ohem_tf.evaluation.coco import as_coco


def curve(hits, scores, objects):
    hits = np.array(hits, bool)
    zeros = np.zeros(len(hits), np.int64)
    return voc.Matched(zeros, hits, np.array(scores, float), np.array([objects])).curve()


def test_the_levels_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    images, guesses = [], []
    for _ in range(30):
        # Objects far from each other, so that both ways of matching find the same.
        corners = 100.0 * rng.choice(16, 4, replace=False)[:, None] + rng.uniform(0, 20, (4, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(20, 60, (4, 2))], axis=1)
        classes = rng.integers(1, 4, 4)
        images.append({"boxes": boxes, "classes": classes, "difficult": np.zeros(4, bool)})
        moved = np.repeat(boxes, 2, axis=0) + rng.normal(0, 6, (8, 4))
        kinds = np.where(rng.random(8) < 0.8, np.repeat(classes, 2), rng.integers(1, 4, 8))
        guesses.append({"boxes": moved, "classes": kinds, "scores": rng.random(8)})
    with contextlib.redirect_stdout(io.StringIO()):
        sets = []
        for content in as_coco(*inputs.check(images, guesses)):
            sets.append(COCO())
            sets[-1].dataset = content
            sets[-1].createIndex()
        reference = COCOeval(*sets, "bbox")
        reference.evaluate()
        reference.accumulate()
    for number, found in enumerate(voc.precision_recall(images, guesses).values()):
        expected = reference.eval["precision"][0, :, number, 0, -1]
        np.testing.assert_allclose(pr_curves.interpolated(found), expected, atol=1e-12)
        assert 0.1 < expected.mean() < 0.9


def test_without_objects_or_detections():
    assert np.isnan(pr_curves.interpolated(curve([False], [0.5], 0))).all()
    assert not pr_curves.interpolated(curve([], [], 2)).any()
    assert pr_curves.best_f1(curve([False], [0.5], 0)) is None
    assert pr_curves.best_f1(curve([], [], 2)) is None
    assert pr_curves.best_f1(curve([False], [0.5], 2)).f1 == 0


def test_the_best_f1_by_hand():
    """At 0.7: precision 2/3, recall 2/4, F1 4/7; at 0.9: 1 and 1/4, 2/5; at 0.2: 2/5, 1/2, 4/9."""
    best = pr_curves.best_f1(curve([1, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.3, 0.2], 4))
    assert best == pytest.approx((0.7, 2 / 3, 0.5, 4 / 7))


def test_a_score_takes_all_detections_that_have_it():
    best = pr_curves.best_f1(curve([1, 0, 0], [0.5, 0.5, 0.5], 1))
    assert best == pytest.approx((0.5, 1 / 3, 1, 0.5))


def test_all_classes_as_one():
    matches = {
        1: voc.Matched(np.array([0, 1]), np.array([True, False]), np.array([0.9, 0.4]), np.ones(2)),
        2: voc.Matched(np.array([1]), np.array([True]), np.array([0.6]), np.array([0, 3])),
    }
    merged = pr_curves.all_classes(matches)
    assert merged.scores.tolist() == [0.9, 0.6, 0.4]
    assert merged.hits.tolist() == [True, True, False]
    assert merged.images.tolist() == [0, 1, 1]
    assert merged.objects.tolist() == [1, 4]
