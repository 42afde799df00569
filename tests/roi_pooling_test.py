"""RoI pooling against loops over bins and samples, and against Caffe's own arithmetic."""

import numpy as np
import pytest
import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.roi_pooling import roi_align, roi_max_pool


def pool_by_hand(features, boxes, image_ids, pool_size, stride):
    """The formula of the contract, one bin at a time."""
    _, height, width, channels = features.shape
    out = np.zeros((len(boxes), pool_size, pool_size, channels), features.dtype)

    def bins(low, high, cells):
        start = int(np.floor(np.float32(low) / stride + 0.5))
        end = int(np.floor((np.float32(high) - 1) / stride + 0.5))
        size = max(end - start + 1, 1)
        for i in range(pool_size):
            first = start + (i * size) // pool_size
            past = start + -(-(i + 1) * size // pool_size)
            yield slice(min(max(first, 0), cells), min(max(past, 0), cells))

    for r, (box, image) in enumerate(zip(boxes, image_ids, strict=True)):
        for i, rows in enumerate(bins(box[0], box[2], height)):
            for j, columns in enumerate(bins(box[1], box[3], width)):
                cells = features[image, rows, columns].reshape(-1, channels)
                if len(cells):
                    out[r, i, j] = cells.max(axis=0)
    return out


def caffe_cells(x1, x2, spatial_scale, pooled, cells):
    """Bins of roi_pooling_layer.cpp along one axis, from inclusive corners, in float64."""

    def c_round(value):  # half away from zero
        return int(np.floor(abs(value) + 0.5) * np.sign(value))

    start, end = c_round(x1 * spatial_scale), c_round(x2 * spatial_scale)
    size = max(end - start + 1, 1)
    out = []
    for i in range(pooled):
        low = int(np.floor(i * size / pooled)) + start
        high = int(np.ceil((i + 1) * size / pooled)) + start
        out.append((min(max(low, 0), cells), min(max(high, 0), cells)))
    return out


def random_boxes(rng, count, limit):
    """Boxes in and around an image of `limit` pixels, some inverted or without area."""
    corners = rng.uniform(-0.2 * limit, 1.2 * limit, (count, 4)).astype(np.float32)
    corners[: count // 2] = np.concatenate(
        [
            np.minimum(corners[: count // 2, :2], corners[: count // 2, 2:]),
            np.maximum(corners[: count // 2, :2], corners[: count // 2, 2:]),
        ],
        axis=1,
    )
    return corners


@pytest.mark.parametrize("pool_size", [1, 2, 6, 7])
@pytest.mark.parametrize(("height", "width"), [(19, 31), (5, 3), (1, 1), (64, 9)])
def test_equals_the_loop(pool_size, height, width):
    rng = np.random.default_rng(height)
    features = rng.normal(size=(2, height, width, 3)).astype(np.float32) - 1.0
    boxes = random_boxes(rng, 60, 16 * max(height, width))
    image_ids = rng.integers(0, 2, len(boxes))
    found = roi_max_pool(features, boxes, image_ids, pool_size, 16)
    np.testing.assert_array_equal(found, pool_by_hand(features, boxes, image_ids, pool_size, 16))


def test_covers_caffes_cells_of_scaled_boxes():
    rng = np.random.default_rng(1)
    cells, scale = 40, np.float32(1.6)
    ramp = np.arange(cells, dtype=np.float32)
    features = np.tile(ramp[None, :, None, None], (1, 1, cells, 1))  # the row number
    features = np.concatenate([features, -features], axis=-1)  # max gives the last and first row
    y1 = rng.integers(0, 300, 200)
    y2 = np.minimum(y1 + rng.integers(0, 300, 200), 399)
    boxes = np.stack([y1, y1 * 0, y2 + 1, y1 * 0 + 50], axis=1).astype(np.float32)
    pooled = roi_max_pool(features, box_ops.scale(boxes, scale), [0] * 200, 7, 16).numpy()
    for r in range(200):
        expected = caffe_cells(
            np.float64(y1[r] * scale), np.float64(y2[r] * scale), 1 / 16, 7, cells
        )
        for i, (low, high) in enumerate(expected):
            if high > low:
                assert (pooled[r, i, 0, 0], -pooled[r, i, 0, 1]) == (high - 1, low)


def test_no_rois_and_empty_bins():
    features = np.ones((1, 4, 4, 2), np.float32)
    assert roi_max_pool(features, np.zeros((0, 4)), np.zeros(0, np.int32), 7, 16).shape == (
        0,
        7,
        7,
        2,
    )
    far_away = roi_max_pool(-features, [[500.0, 500.0, 600.0, 600.0]], [0], 7, 16)
    assert not far_away.numpy().any()


def test_gradient_goes_to_the_largest_cell_of_each_bin():
    rng = np.random.default_rng(2)
    features = rng.permutation(12 * 10 * 2).reshape(1, 12, 10, 2).astype(np.float32)
    boxes = random_boxes(rng, 20, 160)
    weights = rng.normal(size=(20, 3, 3, 2)).astype(np.float32)
    expected = np.zeros_like(features)
    pooled = pool_by_hand(features, boxes, [0] * 20, 3, 16)
    nonempty = pool_by_hand(np.ones_like(features), boxes, [0] * 20, 3, 16) > 0
    for index in np.argwhere(nonempty):
        value, channel = pooled[tuple(index)], index[3]
        y, x = np.argwhere(features[0, :, :, channel] == value)[0]
        expected[0, y, x, channel] += weights[tuple(index)]
    tensor = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        total = tf.reduce_sum(roi_max_pool(tensor, boxes, [0] * 20, 3, 16) * weights)
    np.testing.assert_allclose(tape.gradient(total, tensor), expected, atol=1e-5)


def test_gradient_of_tied_cells_and_large_bins_is_that_of_the_maxima():
    # With most_cells, the maxima over windows are differentiated automatically.
    rng = np.random.default_rng(5)
    features = tf.constant(rng.integers(0, 4, (2, 50, 37, 3)).astype(np.float32))
    boxes = np.concatenate([random_boxes(rng, 30, 800), [[0, 0, 800, 592]]]).astype(np.float32)
    image_ids = rng.integers(0, 2, len(boxes))
    weights = rng.normal(size=(len(boxes), 3, 3, 3)).astype(np.float32)

    def gradient(most_cells):
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = roi_max_pool(features, boxes, image_ids, 3, 16, most_cells)
            total = tf.reduce_sum(pooled * weights)
        return tape.gradient(total, features)

    np.testing.assert_allclose(gradient(0), gradient(50), atol=1e-5)


def test_runs_in_a_graph_with_unknown_sizes():
    specs = [
        tf.TensorSpec([None, None, None, 3]),
        tf.TensorSpec([None, 4]),
        tf.TensorSpec([None], tf.int32),
    ]
    compiled = tf.function(lambda f, b, i: roi_max_pool(f, b, i, 7, 16), input_signature=specs)
    rng = np.random.default_rng(3)
    for height, width in [(7, 9), (20, 11)]:
        features = rng.normal(size=(1, height, width, 3)).astype(np.float32)
        boxes = random_boxes(rng, 10, 16 * width)
        ids = np.zeros(10, np.int32)
        np.testing.assert_array_equal(
            compiled(features, boxes, ids), pool_by_hand(features, boxes, ids, 7, 16)
        )
    assert compiled(features, boxes[:0], ids[:0]).shape == (0, 7, 7, 3)


def align_by_hand(features, box, pool_size, stride):
    """RoIAlign of one RoI, one sample at a time, by its definition."""
    height, width, channels = features.shape

    def at(y, x):  # bilinear, coordinates in cells, clamped to the outermost centres
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        y0, x0 = min(int(y), max(height - 2, 0)), min(int(x), max(width - 2, 0))
        y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
        top = features[y0, x0] * (1 - (x - x0)) + features[y0, x1] * (x - x0)
        bottom = features[y1, x0] * (1 - (x - x0)) + features[y1, x1] * (x - x0)
        return top * (1 - (y - y0)) + bottom * (y - y0)

    ymin, xmin, ymax, xmax = np.asarray(box, np.float64) / stride - 0.5
    out = np.zeros((pool_size, pool_size, channels))
    for i in range(pool_size):
        for j in range(pool_size):
            values = [
                at(
                    ymin + (i + a) * (ymax - ymin) / pool_size,
                    xmin + (j + b) * (xmax - xmin) / pool_size,
                )
                for a in (0.25, 0.75)
                for b in (0.25, 0.75)
            ]
            out[i, j] = np.mean(values, axis=0)
    return out


@pytest.mark.parametrize("shape", [(9, 13), (1, 1), (1, 7), (2, 2)])
def test_align_is_the_mean_of_bilinear_samples(shape):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2, *shape, 3)).astype(np.float32)
    limits = np.array([*shape, *shape]) * 16
    boxes = np.sort(rng.uniform(0, 1, (20, 2, 2)), axis=1).reshape(20, 4) * limits
    boxes[0] = [0, 0, *limits[2:]]  # the whole map
    boxes[1, 2:] = boxes[1, :2]  # no area
    image_ids = rng.integers(2, size=20)
    found = roi_align(features, boxes.astype(np.float32), image_ids, 3, 16).numpy()
    assert found.dtype == np.float32
    for box, image, one in zip(boxes, image_ids, found, strict=True):
        np.testing.assert_allclose(one, align_by_hand(features[image], box, 3, 16), atol=2e-5)


def test_align_tells_rois_apart_that_share_their_cells():
    features = np.random.default_rng(2).normal(size=(1, 8, 8, 2)).astype(np.float32)
    boxes = np.float32([[20, 20, 70, 70], [21, 22, 69, 72]])
    same = roi_max_pool(features, boxes, [0, 0], 3, 16).numpy()
    apart = roi_align(features, boxes, [0, 0], 3, 16).numpy()
    np.testing.assert_array_equal(same[0], same[1])
    assert np.abs(apart[0] - apart[1]).max() > 1e-3


def test_align_of_no_rois_and_of_bfloat16_features():
    features = tf.ones([1, 4, 4, 2], tf.bfloat16)
    assert roi_align(features, np.zeros((0, 4), np.float32), [], 3, 16).shape == (0, 3, 3, 2)
    pooled = roi_align(features, np.float32([[0, 0, 64, 64]]), [0], 3, 16)
    np.testing.assert_array_equal(pooled, np.ones((1, 3, 3, 2)))
