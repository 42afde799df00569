"""Hard and soft NMS per class against loops, and values worked out by hand."""

import by_hand
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ohem_tf import nms
from ohem_tf.nms import Candidates

METHODS = {
    "hard": lambda found, threshold: nms.hard(found, 0.3, 1000).at_least(threshold),
    "gaussian": lambda found, threshold: nms.gaussian(found, 0.5, threshold, 1000),
}


def candidates(boxes, scores, classes):
    """Grouped by class, as the functions take them."""
    order = np.argsort(classes, kind="stable")
    boxes, scores, classes = (np.asarray(x)[order] for x in (boxes, scores, classes))
    return Candidates(
        tf.constant(boxes.reshape(-1, 4), tf.float32),
        tf.constant(scores, tf.float32),
        tf.constant(classes, tf.int32),
    )


def random_candidates(seed, count=120, classes=4):
    rng = np.random.default_rng(seed)
    labels = 2 * rng.integers(1, classes, count)  # with gaps between the classes
    return candidates(by_hand.random_boxes(rng, count), rng.uniform(0, 1, count), labels)


def sorted_rows(found):
    """Rows (class, score, box) in an order that does not depend on the method's."""
    rows = np.column_stack([found.classes, found.scores, found.boxes])
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("threshold", [0.0, 0.25])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop(method, threshold, seed):
    found = random_candidates(seed)
    kept = tf.function(METHODS[method])(found, threshold)
    expected = by_hand.suppress(*(x.numpy() for x in found), method, threshold=threshold)
    indices, scores = [i for i, _ in expected], [score for _, score in expected]
    assert len(indices) > 10
    assert len(indices) < 120 or (method != "hard" and threshold == 0.0)
    expected = found.take(tf.constant(indices))._replace(scores=tf.constant(scores))
    np.testing.assert_allclose(sorted_rows(kept), sorted_rows(expected), rtol=1e-5)


def test_decays_by_hand():
    # IoU with the best: 1/3 for the second (from which the third is away), 0 for the third.
    found = candidates(
        [[0, 0, 10, 10], [0, 5, 10, 15], [0, 50, 10, 60]], [0.9, 0.8, 0.3], [1, 1, 1]
    )
    decayed = 0.8 * np.exp(-(1 / 9) / 0.5)
    np.testing.assert_allclose(nms.gaussian(found, 0.5, 0.0, 9).scores, [0.9, decayed, 0.3], 1e-6)
    decayed = 0.8 * np.exp(-(1 / 9) / 0.2)
    np.testing.assert_allclose(nms.gaussian(found, 0.2, 0.0, 9).scores, [0.9, decayed, 0.3], 1e-6)
    np.testing.assert_allclose(nms.hard(found, 0.3, 9).scores, [0.9, 0.3])
    np.testing.assert_allclose(nms.hard(found, 0.4, 9).scores, [0.9, 0.8, 0.3])


def test_other_classes_neither_suppress_nor_decay():
    found = candidates([[0, 0, 10, 10]] * 3, [0.9, 0.8, 0.7], [3, 1, 2])
    for method in METHODS.values():
        assert sorted(method(found, 0.0).scores.numpy()) == sorted(found.scores.numpy())


def test_iou_equal_to_the_threshold_does_nothing():
    found = candidates([[0, 0, 1, 10], [0, 0, 1, 5]], [0.9, 0.8], [1, 1])  # IoU 0.5
    np.testing.assert_array_equal(nms.hard(found, 0.5, 9).scores, found.scores)


@pytest.mark.parametrize("method", METHODS)
def test_a_score_equal_to_the_threshold_stays(method):
    found = candidates([[0, 0, 10, 10], [0, 50, 10, 60]], [0.75, 0.5], [1, 1])
    assert METHODS[method](found, 0.5).scores.numpy().tolist() == [0.75, 0.5]
    assert METHODS[method](found, 0.5001).scores.numpy().tolist() == [0.75]


def test_soft_nms_drops_what_decays_below_the_threshold():
    found = candidates([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.8], [1, 1])
    assert len(nms.gaussian(found, 0.5, 0.1, 9).scores) == 2  # 0.8 * exp(-2) = 0.108
    assert len(nms.gaussian(found, 0.5, 0.11, 9).scores) == 1


def test_caps():
    found = random_candidates(9)
    for per_class in (nms.hard(found, 0.3, 2), nms.gaussian(found, 0.5, 0.0, 2)):
        assert np.unique(per_class.classes, return_counts=True)[1].tolist() == [2, 2, 2]


@pytest.mark.parametrize("method", METHODS)
def test_nothing(method):
    kept = tf.function(METHODS[method])(candidates([], [], []), 0.0)
    assert [x.shape for x in kept] == [(0, 4), (0,), (0,)]


corner = st.integers(0, 6)
box = st.tuples(corner, corner, corner, corner).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


@given(st.lists(st.tuples(box, st.sampled_from([0.1, 0.5, 0.9]), st.integers(1, 2)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_hard_nms_with_ties_and_boxes_without_area(drawn):
    boxes, scores, classes = zip(*drawn, strict=True) if drawn else ([], [], [])
    found = candidates(boxes, scores, classes)
    kept = nms.hard(found, 0.3, 100)
    expected = by_hand.suppress(*(x.numpy() for x in found), "hard")
    expected = found.take(tf.constant([i for i, _ in expected], tf.int32))
    np.testing.assert_array_equal(sorted_rows(kept), sorted_rows(expected))


def test_merge_groups_by_class_and_keeps_the_order_of_the_parts():
    boxes = np.arange(20, dtype=np.float32).reshape(5, 4)
    first = candidates(boxes[:3], [0.1, 0.2, 0.3], [1, 1, 3])
    second = candidates(boxes[3:], [0.4, 0.5], [1, 2])
    merged = nms.merge([first, second])
    assert merged.classes.numpy().tolist() == [1, 1, 1, 2, 3]
    np.testing.assert_allclose(merged.scores, [0.1, 0.2, 0.4, 0.5, 0.3])
    np.testing.assert_array_equal(merged.boxes, boxes[[0, 1, 3, 4, 2]])
    low, high = merged.range_of(tf.constant([1, 3, 4]))
    assert [low.numpy().tolist(), high.numpy().tolist()] == [[0, 4, 5], [3, 5, 5]]


@pytest.mark.parametrize("cap", [7, 1000])
def test_soft_nms_is_tensorflows_own(cap):
    """Which takes one class at a time, and has no kernel on a GPU."""
    found = random_candidates(11, count=200)
    kept = nms.gaussian(found, 0.5, 0.2, cap)
    for label in np.unique(found.classes):
        members = found.take(np.flatnonzero(found.classes == label))
        # TensorFlow's sigma is half of that of the paper of Soft-NMS.
        indices, scores = tf.image.non_max_suppression_with_scores(
            members.boxes, members.scores, cap, 1.0, 0.2, 0.25
        )
        mine = kept.take(np.flatnonzero(kept.classes == label))
        np.testing.assert_array_equal(mine.boxes, tf.gather(members.boxes, indices))
        np.testing.assert_allclose(mine.scores, scores, rtol=1e-6)
