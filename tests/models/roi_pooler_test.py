"""Which map a RoI is pooled from, against Lin et al.'s formula and one level at a time."""

import math

import numpy as np
import pytest
import tensorflow as tf

from ohem_tf.models.roi_pooler import RoIPooler
from ohem_tf.roi_pooling import POOLING

STRIDES = (4, 8, 16, 32)


def level_by_hand(box):
    """Equation 1 of Lin et al. 2017 with k0 = 4, as an index into `STRIDES` (P2 to P5)."""
    height, width = (float(x) for x in box[2:] - box[:2])
    if height * width <= 0:
        return 0
    k = math.floor(4 + math.log2(math.sqrt(height * width) / 224))
    return min(max(k, 2), 5) - 2


def rois(count=60, seed=0):
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(8), np.log(900), (count, 2)))
    corners = rng.uniform(-20, 300, (count, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1)
    exact = [[0, 0, side, side] for side in (56, 112, 223, 224, 448, 896)]
    return np.concatenate([boxes, exact, [[5, 5, 5, 9]]]).astype(np.float32)


def maps(channels=3, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(1, 640 // s, 640 // s, channels)).astype(np.float32) for s in STRIDES]


def test_levels_are_those_of_the_formula():
    boxes = rois()
    found = RoIPooler(7, STRIDES).levels(boxes).numpy()
    np.testing.assert_array_equal(found, [level_by_hand(box) for box in boxes])
    assert set(found) == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", POOLING)
def test_each_roi_is_pooled_from_its_own_map(kind):
    boxes, features = rois(), maps()
    found = tf.function(RoIPooler(3, STRIDES, kind))(features, tf.constant(boxes)).numpy()
    for box, pooled in zip(boxes, found, strict=True):
        level = level_by_hand(box)
        expected = POOLING[kind](features[level], box[None], [0], 3, STRIDES[level])[0]
        np.testing.assert_allclose(pooled, expected, atol=1e-4)
    assert RoIPooler(3, STRIDES, kind)(features, tf.zeros([0, 4])).shape == (0, 3, 3, 3)


@pytest.mark.parametrize("kind", POOLING)
@pytest.mark.parametrize("strides", [(16,), STRIDES])
def test_rois_of_equal_cells_pool_alike(kind, strides):
    boxes = rois(400)
    boxes = np.concatenate([boxes, boxes[:20] + np.float32(0.25), boxes[:9]])
    pooler = RoIPooler(3, strides, kind)
    features = maps()[-len(strides) :]
    pooled = pooler(features, boxes).numpy().reshape(len(boxes), -1)
    _, first, inverse = np.unique(
        pooler.cells(boxes).numpy(), axis=0, return_index=True, return_inverse=True
    )
    assert len(first) <= len(boxes) - 9 - 10 * (kind == "max")
    np.testing.assert_array_equal(pooled, pooled[first][inverse.ravel()])


@pytest.mark.parametrize("kind", POOLING)
@pytest.mark.parametrize("strides", [(16,), STRIDES])
@pytest.mark.parametrize("count", [400, 0])
def test_distinct_rois_are_those_of_distinct_rows(kind, strides, count):
    """As TensorFlow's UniqueV2, which has no kernel on a GPU, finds them."""
    boxes = rois(400)[:count]
    boxes = np.concatenate([boxes, boxes[:20] + np.float32(0.25), boxes[:9] * [1, 1, 1, 2]])
    boxes = np.concatenate([boxes, boxes[::-1]]).astype(np.float32)
    pooler = RoIPooler(3, strides, kind)
    first, group = (x.numpy() for x in tf.function(pooler.distinct)(tf.constant(boxes)))
    cells = pooler.cells(boxes)
    rows, row = (x.numpy() for x in tf.raw_ops.UniqueV2(x=cells, axis=[0]))
    np.testing.assert_array_equal(group, row)
    np.testing.assert_array_equal(cells.numpy()[first], rows)
    np.testing.assert_array_equal(first, [np.flatnonzero(row == g)[0] for g in range(len(rows))])
