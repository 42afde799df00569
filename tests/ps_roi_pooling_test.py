"""Position-sensitive RoI pooling against loops over cells."""

import itertools

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from ohem_tf.ps_roi_pooling import ps_roi_pool


def by_hand(features, boxes, image_ids, size, stride):
    """The Caffe layer: x1, y1, x2, y2 inclusive, rounded half up."""
    _, height, width, channels = features.shape
    depth = channels // size**2
    found = np.zeros((len(boxes), size, size, depth))
    for r, (ymin, xmin, ymax, xmax) in enumerate(np.float32(boxes)):
        limits = []
        for near, far, cells in ((ymin, ymax, height), (xmin, xmax, width)):
            start = np.floor(near + 0.5) / stride
            end = (np.floor(far - 1 + 0.5) + 1) / stride
            bin_size = np.float32(max(end - start, 0.1)) / size
            edges = np.arange(size + 1, dtype=np.float32) * bin_size + np.float32(start)
            limits.append(
                [
                    range(max(int(np.floor(a)), 0), min(int(np.ceil(b)), cells))
                    for a, b in itertools.pairwise(edges)
                ]
            )
        for i, rows in enumerate(limits[0]):
            for j, columns in enumerate(limits[1]):
                if len(rows) and len(columns):
                    place = (i * size + j) * depth
                    cells = features[image_ids[r], rows.start : rows.stop]
                    cells = cells[:, columns.start : columns.stop, place : place + depth]
                    found[r, i, j] = cells.mean(axis=(0, 1))
    return found


coordinate = st.integers(-40, 240)
roi = st.tuples(coordinate, coordinate, st.integers(0, 200), st.integers(0, 200))


@hypothesis.given(st.lists(roi, min_size=1, max_size=8), st.integers(1, 4))
@hypothesis.settings(max_examples=60, deadline=None)
def test_bins_average_their_own_channels(rois, size):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 9, 12, size * size * 3)).astype(np.float32)
    rois = np.float32(rois)
    boxes = np.concatenate([rois[:, :2], rois[:, :2] + rois[:, 2:]], axis=1)
    ids = np.arange(len(boxes)) % 2
    found = ps_roi_pool(features, boxes, ids, size, 16)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, by_hand(features, boxes, ids, size, 16), atol=1e-5)


def test_an_image_without_rois():
    assert ps_roi_pool(np.zeros((1, 4, 5, 18)), np.zeros((0, 4)), [], 3, 16).shape == (0, 3, 3, 2)


def test_large_values_in_the_image_do_not_blur_a_small_roi():
    """The integral image would, in float32."""
    features = np.full((1, 60, 60, 1), 1e4, np.float32)
    features[0, 50, 50] = 0.125
    found = ps_roi_pool(features, [[800.0, 800, 816, 816]], [0], 1, 16)
    assert float(found[0, 0, 0, 0]) == pytest.approx(0.125, abs=1e-6)


def test_the_gradient_is_that_of_the_mean():
    features = tf.Variable(np.random.default_rng(1).normal(size=(1, 6, 7, 8)), dtype=tf.float32)
    boxes, weights = [[0.0, 16, 64, 80], [8, 8, 90, 100]], np.arange(16.0).reshape(2, 2, 2, 2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(ps_roi_pool(features, boxes, [0, 0], 2, 16) * weights)
    found = tf.convert_to_tensor(tape.gradient(loss, features)).numpy()
    expected = np.zeros_like(found)
    for index in np.ndindex(expected.shape):
        one = np.zeros_like(expected)
        one[index] = 1.0
        expected[index] = np.sum(by_hand(one, boxes, [0, 0], 2, 16) * weights)
    np.testing.assert_allclose(found, expected, atol=1e-5)
