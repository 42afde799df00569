"""Anchors and their labels, by hand."""

import hypothesis
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ohem_tf import boxes as box_ops
from ohem_tf.anchors import IGNORED, make_anchors, match_anchors


def test_those_of_vgg16_are_the_nine_of_faster_r_cnn():
    found = make_anchors(2, 3, 16, (8, 16, 32), (0.5, 1, 2)).numpy()
    assert found.shape == (2 * 3 * 9, 4)
    heights, widths = (found[:, 2:] - found[:, :2]).T
    np.testing.assert_allclose((heights * widths)[:9] ** 0.5, np.repeat([128, 256, 512], 3))
    np.testing.assert_allclose((heights / widths)[:9], [0.5, 1, 2] * 3, rtol=1e-6)
    centres = (found[:, :2] + found[:, 2:]).reshape(2, 3, 9, 2) / 2
    expected = np.stack(np.meshgrid([8, 24], [8, 24, 40], indexing="ij"), axis=-1)
    np.testing.assert_allclose(centres, np.broadcast_to(expected[:, :, None], centres.shape))


def test_a_map_without_cells_has_none():
    assert make_anchors(0, 3, 16, (8,), (1,)).shape == (0, 4)


def labels_by_hand(anchors, gt_boxes, fg_iou, bg_iou):
    overlaps = box_ops.iou(anchors, gt_boxes).numpy()
    labels, matched = [], []
    for row in overlaps:
        best = int(row.argmax()) if len(row) else None
        is_best_of_one = any(row[g] == overlaps[:, g].max() > 0 for g in range(len(row)))
        if best is not None and row[best] > 0 and (row[best] >= fg_iou or is_best_of_one):
            labels.append(1)
        else:
            labels.append(0 if best is None or row[best] < bg_iou else IGNORED)
        matched.append(best)
    return labels, matched


def boxes(count):
    corners = arrays.arrays(np.float32, (count, 2), elements=st.integers(0, 40))
    sizes = arrays.arrays(np.float32, (count, 2), elements=st.integers(1, 40))
    return st.builds(lambda a, b: np.concatenate([a, a + b], axis=1), corners, sizes)


@hypothesis.given(boxes(12), st.integers(0, 4).flatmap(boxes))
@hypothesis.settings(max_examples=60, deadline=None)
def test_labels_and_targets_are_those_of_the_paper(anchors, gt_boxes):
    labels, matched = labels_by_hand(anchors, gt_boxes, 0.7, 0.3)
    found = match_anchors(anchors, gt_boxes)
    np.testing.assert_array_equal(found.labels, labels)
    for i, (label, best) in enumerate(zip(labels, matched, strict=True)):
        if label == 1:
            decoded = box_ops.decode(found.targets[i], anchors[i])
            np.testing.assert_allclose(decoded, gt_boxes[best], atol=1e-3)
        else:
            np.testing.assert_array_equal(found.targets[i], 0)


def test_an_object_far_from_every_anchor_gets_the_one_that_overlaps_it_most():
    anchors = np.float32([[0, 0, 100, 100], [0, 0, 90, 90], [200, 200, 300, 300]])
    found = match_anchors(anchors, [[40, 40, 45, 45]])  # inside the first two, IoU 0.0025 and 0.003
    np.testing.assert_array_equal(found.labels, [0, 1, 0])


def test_an_object_that_no_anchor_touches_has_none():
    found = match_anchors(np.float32([[0, 0, 10, 10]]), [[40, 40, 45, 45]])
    np.testing.assert_array_equal(found.labels, [0])


def test_it_runs_in_a_graph_without_knowing_sizes():
    spec = tf.TensorSpec([None, 4])
    traced = tf.function(match_anchors, input_signature=[spec, spec])
    found = traced(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))
    assert found.labels.shape == (0,)
    assert found.targets.shape == (0, 4)
