"""Matching of RoIs to ground truth against a loop written here."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from by_hand import iou
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ohem_tf.matching import match


def match_by_hand(rois, gt_boxes, gt_classes, fg_iou=0.5):
    """Labels, highest IoU, targets and ground truth index: plain loops in float64."""
    labels, max_iou = np.zeros(len(rois), np.int32), np.zeros(len(rois))
    targets, gt = np.zeros((len(rois), 4)), np.full(len(rois), -1)
    for r, roi in enumerate(rois.astype(np.float64)):
        best = None
        for g, box in enumerate(gt_boxes.astype(np.float64)):
            if iou(roi, box) > max_iou[r]:  # strictly: of equals the first stays
                max_iou[r], best = iou(roi, box), g
        if best is None or max_iou[r] < fg_iou:
            continue
        box, (height, width) = gt_boxes[best].astype(np.float64), roi[2:] - roi[:2]
        labels[r], gt[r] = gt_classes[best], best
        targets[r] = [
            ((box[0] + box[2]) / 2 - (roi[0] + roi[2]) / 2) / height,
            ((box[1] + box[3]) / 2 - (roi[1] + roi[3]) / 2) / width,
            np.log((box[2] - box[0]) / height),
            np.log((box[3] - box[1]) / width),
        ]
    return labels, max_iou, targets, gt


@functools.cache
def in_graph(fg_iou):
    """`match` in one graph for all numbers of boxes."""
    specs = [tf.TensorSpec([None, 4]), tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32)]
    return tf.function(lambda *boxes: match(*boxes, fg_iou), input_signature=specs)


def assert_matches(rois, gt_boxes, gt_classes, fg_iou=0.5):
    found = in_graph(fg_iou)(rois, gt_boxes, gt_classes)
    labels, max_iou, targets, gt = match_by_hand(rois, gt_boxes, gt_classes, fg_iou)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.gt, gt)
    np.testing.assert_allclose(found.max_iou, max_iou, atol=1e-5)
    np.testing.assert_allclose(found.targets, targets, atol=1e-4)
    assert (found.labels.dtype, found.max_iou.dtype, found.targets.dtype) == (
        tf.int32,
        tf.float32,
        tf.float32,
    )


@st.composite
def integer_boxes(draw, limit=12):
    """[N, 4] boxes with whole corners in a small square: many overlaps, ties and empty boxes.

    Areas are small integers, so float32 and float64 agree on which IoU is higher.
    """
    n = draw(st.integers(0, 8))
    return draw(hnp.arrays(np.int64, (n, 4), elements=st.integers(0, limit))).astype(np.float32)


@settings(deadline=None, max_examples=80)
@given(integer_boxes(), integer_boxes(), st.sampled_from([0.3, 0.5, 0.75]), st.randoms())
def test_equals_the_loop(rois, gt_boxes, fg_iou, random):
    gt_classes = np.array([random.randint(1, 5) for _ in gt_boxes], np.int32)
    assert_matches(rois, gt_boxes, gt_classes, fg_iou)


def test_equals_the_loop_on_many_shaken_boxes():
    rng = np.random.default_rng(0)
    corners, sizes = rng.uniform(0, 400, (9, 2)), rng.uniform(20, 200, (9, 2))
    gt_boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
    shaken = gt_boxes[rng.integers(0, 9, 500)] + rng.uniform(-25, 25, (500, 4))
    rois = shaken.astype(np.float32)
    gt_classes = rng.integers(1, 21, 9).astype(np.int32)
    labels, max_iou, *_ = match_by_hand(rois, gt_boxes, gt_classes)
    assert 100 < np.sum(labels > 0) < 490  # both kinds, or this test says little
    assert np.min(np.abs(max_iou - 0.5)) > 1e-5
    assert_matches(rois, gt_boxes, gt_classes)


def test_no_ground_truth_makes_everything_background():
    rois = np.float32([[0, 0, 9, 9], [3, 3, 3, 3]])
    found = match(rois, np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    np.testing.assert_array_equal(found.labels, [0, 0])
    np.testing.assert_array_equal(found.max_iou, [0, 0])
    np.testing.assert_array_equal(found.targets, np.zeros((2, 4)))


@pytest.mark.parametrize("objects", [0, 2])
def test_no_rois(objects):
    found = match(np.zeros((0, 4)), np.ones((objects, 4)), np.ones(objects, np.int32))
    assert found.labels.shape == found.max_iou.shape == (0,)
    assert found.targets.shape == (0, 4)


def test_exactly_the_threshold_is_foreground():
    # 50 of 100 square pixels, exact in float32; one pixel less is background.
    rois = np.float32([[0, 0, 10, 10], [0, 0, 10, 10.125]])
    found = match(rois, [[0.0, 0.0, 10.0, 5.0]], [7])
    assert found.max_iou.numpy()[0] == 0.5
    np.testing.assert_array_equal(found.labels, [7, 0])
    assert not found.targets.numpy()[1].any()


def test_of_equal_ious_the_first_counts():
    gt_boxes = np.float32([[0, 8, 8, 16], [0, 0, 8, 8], [0, 4, 8, 12], [0, 4, 8, 12]])
    roi = np.float32([[0, 4, 8, 12]])
    assert match(roi, gt_boxes, [1, 2, 3, 4]).labels.numpy()[0] == 3
    assert match(roi, gt_boxes[:2], [1, 2], fg_iou=0.3).labels.numpy()[0] == 1
    assert match(roi, gt_boxes[1::-1], [2, 1], fg_iou=0.3).labels.numpy()[0] == 2


def test_a_ground_truth_box_matches_itself_with_zero_targets():
    gt_boxes = np.float32([[1, 2, 30, 40], [5, 5, 6, 6], [100.5, 3.25, 200, 250]])
    found = match(gt_boxes, gt_boxes, [3, 1, 2])
    np.testing.assert_array_equal(found.labels, [3, 1, 2])
    np.testing.assert_array_equal(found.max_iou, [1, 1, 1])
    np.testing.assert_array_equal(found.targets, np.zeros((3, 4)))


def test_the_roi_is_the_reference():
    # RoI 20 high, 10 wide at (10, 5); object 20 high, 8 wide at (12, 5).
    found = match([[0.0, 0.0, 20.0, 10.0]], [[2.0, 1.0, 22.0, 9.0]], [1])
    np.testing.assert_allclose(found.targets, [[0.1, 0.0, 0.0, np.log(0.8)]], atol=1e-6)


any_boxes = st.integers(0, 5).flatmap(
    lambda n: hnp.arrays(np.float32, (n, 4), elements=st.floats(-1000, 1000, width=32))
)


@settings(deadline=None, max_examples=80)
@given(any_boxes, any_boxes, st.sampled_from([0.0, 0.5, 1.0]))
def test_any_boxes_at_all_give_finite_values(rois, gt_boxes, fg_iou):
    rois = np.concatenate([rois, rois[:, [0, 1, 0, 1]], gt_boxes])  # some without area
    gt_classes = np.arange(1, len(gt_boxes) + 1, dtype=np.int32)
    found = in_graph(fg_iou)(rois, gt_boxes, gt_classes)
    assert np.isfinite(found.max_iou).all()
    assert np.isfinite(found.targets).all()
    labels = found.labels.numpy()
    assert np.all((labels >= 0) & (labels <= len(gt_boxes)))
    assert not found.targets.numpy()[labels == 0].any()


def test_a_roi_without_area_is_background_even_on_top_of_an_object_without_area():
    flat = np.float32([[4, 4, 4, 9], [4, 4, 4, 4], [9, 9, 4, 4]])
    found = match(flat, np.concatenate([flat, np.float32([[0, 0, 10, 10]])]), [1, 2, 3, 4])
    np.testing.assert_array_equal(found.labels, [0, 0, 0])
    np.testing.assert_array_equal(found.targets, np.zeros((3, 4)))
