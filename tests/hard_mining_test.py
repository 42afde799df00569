"""Hard RoI selection against greedy NMS written here."""

import numpy as np
import pytest
import tensorflow as tf
from by_hand import iou
from hypothesis import given, settings
from hypothesis import strategies as st

from ohem_tf.hard_mining import HardMining, select_hard_rois
from ohem_tf.losses import RoILosses
from ohem_tf.sampler import RoIs


def select_by_hand(boxes, losses, max_selected, threshold=0.7, labels=None, valid=None):
    """Visit RoIs by descending loss (ties: lower index); drop those too close to a kept one."""
    kept = []
    for i in sorted(range(len(losses)), key=lambda i: (-losses[i], i)):
        if valid is not None and not valid[i]:
            continue
        rivals = [j for j in kept if labels is None or labels[i] == labels[j]]
        if all(iou(boxes[i], boxes[j]) <= threshold for j in rivals):
            kept.append(i)
    return kept[:max_selected]


def clustered(rng, count):
    """Integer boxes in a few clusters, so that many overlap; losses with ties."""
    centres = rng.integers(0, 60, (4, 2))
    corners = centres[rng.integers(0, 4, count)] + rng.integers(-3, 4, (count, 2))
    sizes = rng.integers(8, 30, (4, 2))[rng.integers(0, 4, count)] + rng.integers(-2, 3, (count, 2))
    boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
    return boxes, rng.integers(0, 12, count).astype(np.float32)


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 40),
    st.integers(1, 20),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 0.7, 1.0]),
)
def test_equals_greedy_nms(seed, count, max_selected, per_label, masked, threshold):
    rng = np.random.default_rng(seed)
    boxes, losses = clustered(rng, count)
    labels = rng.integers(0, 3, count) if per_label else None
    valid = rng.integers(0, 2, count).astype(bool) if masked else None
    found = select_hard_rois(boxes, losses, max_selected, threshold, labels, valid)
    assert found.dtype == tf.int32
    assert found.numpy().tolist() == select_by_hand(
        boxes, losses, max_selected, threshold, labels, valid
    )


def test_suppresses_only_above_the_threshold():
    # [0, 10) and [0, 7): IoU exactly 0.7 in float32 too.
    boxes = np.float32([[0, 0, 1, 10], [0, 0, 1, 7], [0, 0, 1, 7.5]])
    assert select_hard_rois(boxes, [3.0, 2.0, 1.0], 3, 0.7).numpy().tolist() == [0, 1]
    assert select_hard_rois(boxes[:2], [2.0, 1.0], 2, 0.69).numpy().tolist() == [0]


def test_ties_take_the_lower_index_first():
    boxes = np.float32([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9], [60, 0, 69, 9]])
    assert select_hard_rois(boxes, [1.0, 2.0, 2.0, 1.0], 3).numpy().tolist() == [1, 2, 0]
    labels = [1, 0, 1, 0]
    found = select_hard_rois(boxes, [1.0, 2.0, 2.0, 1.0], 3, labels=labels)
    assert found.numpy().tolist() == [1, 2, 0]


def test_co_located_rois_count_once_but_not_across_labels():
    boxes = np.float32([[0, 0, 100, 100], [0, 0, 100, 99], [300, 300, 340, 340]])
    losses = [5.0, 4.0, 1.0]
    assert select_hard_rois(boxes, losses, 2).numpy().tolist() == [0, 2]
    assert select_hard_rois(boxes, losses, 2, labels=[1, 0, 0]).numpy().tolist() == [0, 1]


def test_labels_far_apart_lose_no_precision():
    # A class offset added to coordinates would merge these at label 10 ** 6 in float32.
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 6.9]])
    found = select_hard_rois(boxes, [2.0, 1.0], 2, labels=[10**6, 10**6])
    assert found.numpy().tolist() == [0, 1]


def test_invalid_rois_never_come_back_whatever_their_loss():
    boxes = np.float32([[0, 0, 9, 9], [20, 0, 29, 9]])
    losses = [-5.0, np.inf]
    assert select_hard_rois(boxes, losses, 2, valid=[True, False]).numpy().tolist() == [0]
    assert select_hard_rois(boxes, losses, 2, valid=[False, False]).shape == (0,)
    found = select_hard_rois(boxes, losses, 2, labels=[1, 1], valid=[False, False])
    assert found.shape == (0,)


def test_degenerate_rois_are_not_suppressed():
    boxes = np.float32([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 9, 9]])
    assert select_hard_rois(boxes, [3.0, 2.0, 1.0], 3).numpy().tolist() == [0, 1, 2]


@pytest.mark.parametrize("per_label", [False, True])
def test_a_loss_that_overflowed_is_the_hardest(per_label):
    boxes = np.float32([[10 * i, 0, 10 * i + 9, 9] for i in range(5)])
    losses = np.float32([1, np.nan, 3, np.inf, 2])
    labels = np.int32([0, 0, 1, 1, 0]) if per_label else None
    for count, expected in ((2, [1, 3]), (5, [1, 3, 2, 4, 0])):
        assert select_hard_rois(boxes, losses, count, labels=labels).numpy().tolist() == expected


@pytest.mark.parametrize("per_label", [False, True])
def test_runs_in_a_graph_with_unknown_sizes(per_label):
    specs = [tf.TensorSpec([None, 4]), tf.TensorSpec([None]), tf.TensorSpec([None], tf.int32)]
    compiled = tf.function(
        lambda b, s, y: select_hard_rois(b, s, 5, labels=y if per_label else None),
        input_signature=specs,
    )
    rng = np.random.default_rng(0)
    for count in (0, 1, 30):
        boxes, losses = clustered(rng, count)
        labels = rng.integers(0, 3, count).astype(np.int32)
        expected = select_by_hand(boxes, losses, 5, labels=labels if per_label else None)
        assert compiled(boxes, losses, labels).numpy().tolist() == expected


def rois_with_losses(rng, count):
    """RoIs of three labels and losses of both kinds."""
    boxes, losses = clustered(rng, count)
    labels = rng.integers(0, 3, count).astype(np.int32)
    rois = RoIs(
        tf.constant(boxes),
        tf.constant(labels),
        tf.zeros([count]),
        tf.zeros([count, 4]),
        tf.constant(labels) - 1,
    )
    box = np.where(labels > 0, rng.uniform(0, 5, count), 0).astype(np.float32)
    return rois, RoILosses(tf.constant(losses), tf.constant(box))


@pytest.mark.parametrize("threshold", [0.7, 1.0])
def test_ranking_by_classification_alone(threshold):
    rois, losses = rois_with_losses(np.random.default_rng(1), 50)
    both, cls = (
        HardMining(12, threshold, rank_by=by).select(rois, losses, tf.constant([0, 0])).numpy()
        for by in ("loss", "cls")
    )
    boxes, values = rois.boxes.numpy(), losses.cls.numpy()
    assert cls.tolist() == select_by_hand(boxes, values, 12, threshold)
    assert both.tolist() == select_by_hand(boxes, values + losses.box.numpy(), 12, threshold)
    assert both.tolist() != cls.tolist()


def test_without_suppression_the_highest_losses_are_taken_even_of_equal_boxes():
    rois, losses = rois_with_losses(np.random.default_rng(2), 30)
    rois = rois._replace(boxes=tf.tile([[0.0, 0.0, 9.0, 9.0]], [30, 1]))
    found = HardMining(10, 1.0).select(rois, losses, tf.constant([0, 0])).numpy()
    expected = np.argsort(-losses.ranking.numpy(), kind="stable")[:10]
    assert found.tolist() == expected.tolist()
    assert len(HardMining(10, 0.99).select(rois, losses, tf.constant([0, 0]))) == 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 20), st.floats(0, 0.99))
def test_a_limit_on_foreground_mines_foreground_and_background_apart(seed, count, most, share):
    rois, losses = rois_with_losses(np.random.default_rng(seed), count)
    sampler = HardMining(most, 1.0, fg_fraction=share)
    found = sampler.select(rois, losses, tf.constant([0, 0])).numpy().tolist()
    order = np.argsort(-losses.ranking.numpy(), kind="stable").tolist()
    foreground = [i for i in order if rois.labels[i] > 0][: int(share * most)]
    background = [i for i in order if rois.labels[i] == 0][: most - len(foreground)]
    assert found == foreground + background
