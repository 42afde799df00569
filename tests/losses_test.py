"""Losses per RoI against numpy written here."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ohem_tf.losses import RoILosses, roi_losses, smooth_l1

RELEASE_CLAMP = -np.log(2.2e-16)  # 36.05: numpy's epsilon, as the release writes it


def smooth_l1_by_hand(x):
    return np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5)


def losses_by_hand(logits, deltas, labels, targets):
    cls, box = np.zeros(len(labels)), np.zeros(len(labels))
    for r, label in enumerate(labels):
        scores = logits[r].astype(np.float64)
        scores -= scores.max()
        cls[r] = -(scores[label] - np.log(np.exp(scores).sum()))
        if label > 0:
            own = deltas[r, label].astype(np.float64)
            box[r] = smooth_l1_by_hand(own - targets[r].astype(np.float64)).sum()
    return cls, box


def random_rois(rng, count, classes):
    logits = rng.normal(0, 4, (count, classes + 1)).astype(np.float32)
    deltas = rng.normal(0, 2, (count, classes + 1, 4)).astype(np.float32)
    labels = rng.integers(0, classes + 1, count).astype(np.int32)
    targets = rng.normal(0, 2, (count, 4)).astype(np.float32)
    return logits, deltas, labels, targets


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(1, 20))
def test_equals_numpy(seed, count, classes):
    rois = random_rois(np.random.default_rng(seed), count, classes)
    found, (cls, box) = roi_losses(*rois), losses_by_hand(*rois)
    assert found.cls.shape == found.box.shape == found.ranking.shape == (count,)
    np.testing.assert_allclose(found.cls, cls, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.box, box, rtol=1e-5, atol=1e-5)
    ranking = np.minimum(cls, RELEASE_CLAMP) + box
    np.testing.assert_allclose(found.ranking, ranking, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.float32, 20, elements=st.floats(-1e4, 1e4, width=32)))
def test_smooth_l1(x):
    np.testing.assert_allclose(smooth_l1(x), smooth_l1_by_hand(x), rtol=1e-6, atol=1e-30)


def test_smooth_l1_at_the_corner():
    # The two pieces and their slopes meet at 1.
    x = tf.constant([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = smooth_l1(x)
    np.testing.assert_allclose(y, [1.5, 0.5, 0.125, 0.0, 0.125, 0.5, 1.5])
    np.testing.assert_allclose(tape.gradient(y, x), [-1, -1, -0.5, 0, 0.5, 1, 1])


def test_uniform_scores_cost_log_of_the_number_of_classes():
    found = roi_losses(np.zeros((1, 21), np.float32), np.zeros((1, 21, 4)), [5], np.zeros((1, 4)))
    np.testing.assert_allclose(found.cls, [np.log(21)], rtol=1e-6)


def test_background_has_no_box_loss_and_no_box_gradient():
    logits, deltas, _, targets = random_rois(np.random.default_rng(0), 6, 3)
    labels = np.int32([0, 1, 0, 2, 0, 3])
    deltas = tf.constant(deltas)
    with tf.GradientTape() as tape:
        tape.watch(deltas)
        box = roi_losses(logits, deltas, labels, targets).box
    gradient = tape.gradient(box, deltas).numpy()
    assert not box.numpy()[[0, 2, 4]].any()
    assert not gradient[[0, 2, 4]].any()
    assert gradient[[1, 3, 5]].any()


def test_background_ignores_its_targets_whatever_they_are():
    logits, deltas, _, _ = random_rois(np.random.default_rng(0), 3, 2)
    targets = np.float32([[np.inf] * 4, [1e30] * 4, [-np.inf] * 4])
    found = roi_losses(logits, deltas, np.int32([0, 0, 0]), targets)
    np.testing.assert_array_equal(found.box, [0, 0, 0])


def test_only_the_deltas_of_the_own_class_count():
    logits, deltas, labels, targets = random_rois(np.random.default_rng(1), 8, 4)
    labels = np.maximum(labels, 1)
    before = roi_losses(logits, deltas, labels, targets).box
    others = deltas + 100.0
    others[np.arange(8), labels] = deltas[np.arange(8), labels]
    np.testing.assert_array_equal(roi_losses(logits, others, labels, targets).box, before)
    assert np.all(roi_losses(logits, deltas + 100.0, labels, targets).box.numpy() > before + 100)


def test_ranking_clamps_only_the_class_part_as_the_release():
    logits = np.float32([[50, 0], [200, 0], [0, 10], [30, 0]])  # losses 50, 200, ~0, 30 for class 1
    deltas, targets = np.zeros((4, 2, 4), np.float32), np.full((4, 4), 25.5, np.float32)
    found = roi_losses(logits, deltas, np.int32([1, 1, 1, 1]), targets)
    np.testing.assert_allclose(found.cls, [50, 200, np.log1p(np.exp(-10)), 30], rtol=1e-3)
    expected = [RELEASE_CLAMP + 100, RELEASE_CLAMP + 100, 100.0000454, 130]
    np.testing.assert_allclose(found.ranking, expected, rtol=1e-6)
    assert pytest.approx(36.0525, abs=1e-3) == RELEASE_CLAMP


def test_training_loss_is_not_clamped_so_hopeless_rois_still_learn():
    logits = tf.constant([[200.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        cls = roi_losses(logits, np.zeros((1, 2, 4), np.float32), [1], np.zeros((1, 4))).cls
    np.testing.assert_allclose(tape.gradient(cls, logits), [[1.0, -1.0]], atol=1e-6)


def test_gradients_of_some_rois_against_numpy():
    rng = np.random.default_rng(7)
    logits, deltas, labels, targets = random_rois(rng, 12, 5)
    some, weights = [1, 4, 4, 9], rng.normal(size=(2, 4)).astype(np.float32)
    with tf.GradientTape() as tape:
        watched = [tf.constant(logits), tf.constant(deltas)]
        tape.watch(watched)
        taken = roi_losses(*watched, labels, targets).take(some)  # whose gradients are sparse
        total = tf.reduce_sum(taken.cls * weights[0] + taken.box * weights[1])
    of_logits, of_deltas = np.zeros_like(logits), np.zeros_like(deltas)
    for r, of_cls, of_box in zip(some, *weights, strict=True):
        scores = np.exp(logits[r] - logits[r].max())
        of_logits[r] += of_cls * (scores / scores.sum() - np.eye(6)[labels[r]])
        if labels[r]:
            slope = np.clip(deltas[r, labels[r]] - targets[r], -1, 1)
            of_deltas[r, labels[r]] += of_box * slope
    found = tape.gradient(total, watched)
    np.testing.assert_allclose(found[0], of_logits, atol=1e-5)
    np.testing.assert_allclose(found[1], of_deltas, atol=1e-5)


def test_ranking_adds_both_parts_one_to_one():
    losses = RoILosses(tf.constant([1.0, 2.0]), tf.constant([0.0, 5.0]))
    np.testing.assert_allclose(losses.ranking, [1.0, 7.0])


def test_no_rois_in_a_graph_of_unknown_size():
    specs = [
        tf.TensorSpec([None, 4]),
        tf.TensorSpec([None, 4, 4]),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None, 4]),
    ]
    compiled = tf.function(lambda *x: (*roi_losses(*x), roi_losses(*x).ranking), specs)
    rois = random_rois(np.random.default_rng(2), 5, 3)
    assert all(x.shape == (0,) for x in compiled(*(x[:0] for x in rois)))
    np.testing.assert_allclose(compiled(*rois)[0], losses_by_hand(*rois)[0], rtol=1e-5, atol=1e-5)
