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


def restored(coarse, basis):
    """U z U^T."""
    return np.einsum("pk,rklc,ql->rpqc", basis, coarse, basis)


def smooth_map():
    """A map whose values grow linearly; 40 x 40 cells of stride 16."""
    y, x = np.mgrid[:40, :40].astype(np.float32)
    return [np.stack([0.1 * y - 0.2 * x, 0 * y + 3, 0.3 * x + 0.1 * y], axis=-1)[None]]


@pytest.mark.parametrize("kind", POOLING)
def test_coarse_features_stand_for_linear_ones(kind):
    """A straight line is known from its values at 3 bins, and nearly from 3 cosines."""
    rng = np.random.default_rng(3)
    corners = rng.uniform(60, 200, (30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(230, 330, (30, 2))], 1)
    boxes = tf.constant(boxes, tf.float32)
    pooler, features = RoIPooler(7, (16,), kind), smooth_map()
    coarse, basis = pooler.coarse(features, boxes), pooler.coarse_basis
    assert coarse.shape == (30, 3, 3, 3)
    assert basis.shape == (7, 3)
    off = np.abs(restored(coarse.numpy(), basis) - pooler(features, boxes).numpy()).max()
    assert off < {"align": 1e-4, "max": 0.6}[kind]  # the values span 8


def test_coarse_max_pooling_is_the_best_of_its_size():
    """Least squares: what is left is orthogonal to every product of two of the cosines."""
    pooler, boxes = RoIPooler(7, (16,), "max"), tf.constant(rois())
    features = [maps()[2]]
    coarse, basis = pooler.coarse(features, boxes), pooler.coarse_basis
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)
    left = pooler(features, boxes).numpy() - restored(coarse.numpy(), basis)
    np.testing.assert_allclose(restored(left, basis.T), 0, atol=1e-5)


@pytest.mark.parametrize("kind", POOLING)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_small_pool_size_is_not_made_coarser(kind, size):
    pooler, features, boxes = RoIPooler(size, STRIDES, kind), maps(), tf.constant(rois())
    coarse, basis = pooler.coarse(features, boxes), pooler.coarse_basis
    np.testing.assert_allclose(
        restored(coarse.numpy(), basis), pooler(features, boxes), rtol=1e-4, atol=1e-5
    )


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
