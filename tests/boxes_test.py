"""Box arithmetic against numpy written here, and against Caffe's inclusive corners."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from by_hand import iou
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ohem_tf import boxes

coordinate = st.floats(-50, 1000, width=32, allow_subnormal=False)
box_lists = st.integers(0, 6).flatmap(lambda n: hnp.arrays(np.float32, (n, 4), elements=coordinate))


@st.composite
def proper_boxes(draw, count=None):
    """[N, 4] boxes of at least 1 pixel."""
    n = draw(st.integers(0, 6)) if count is None else count
    corners = draw(hnp.arrays(np.float32, (n, 2), elements=st.floats(0, 500, width=32)))
    sizes = draw(hnp.arrays(np.float32, (n, 2), elements=st.floats(1, 500, width=32)))
    return np.concatenate([corners, corners + sizes], axis=1)


@functools.cache
def in_graph(function):
    """One graph for all numbers of boxes, with numpy arrays in and tensors out."""
    return tf.function(function, input_signature=[tf.TensorSpec([None, 4])] * 2)


@settings(deadline=None, max_examples=60)
@given(proper_boxes(), proper_boxes())
def test_iou_is_intersection_over_union(a, b):
    found = in_graph(boxes.iou)(a, b)
    assert found.shape == (len(a), len(b))
    expected = np.reshape([iou(p, q) for p in a for q in b], found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(box_lists, box_lists)
def test_iou_of_any_boxes_lies_in_0_1_and_is_symmetric(a, b):
    found = in_graph(boxes.iou)(a, b).numpy()
    assert np.all((found >= 0) & (found <= 1.0001))
    np.testing.assert_array_equal(found, in_graph(boxes.iou)(b, a).numpy().T)


def test_iou_never_adds_a_pixel():
    # [0, 10) and [5, 15) share 5 of 15; with Caffe's +1 on these numbers it would be 6 / 16.
    found = boxes.iou([[0.0, 0.0, 1.0, 10.0]], [[0.0, 5.0, 1.0, 15.0]])
    assert found.numpy()[0, 0] == pytest.approx(1 / 3)


def test_iou_of_a_box_without_area_is_0():
    flat = np.float32([[3, 3, 3, 9], [5, 5, 2, 2], [0, 0, 0, 0]])
    everything = np.float32([[0, 0, 10, 10], [3, 3, 3, 9], [5, 5, 2, 2], [0, 0, 0, 0]])
    assert not boxes.iou(flat, everything).numpy().any()


def test_area_of_an_inverted_box_is_0():
    some = np.float32([[1, 1, 3, 4], [5, 1, 2, 9], [1, 9, 5, 2], [5, 5, 2, 2], [3, 3, 3, 9]])
    np.testing.assert_array_equal(boxes.area(some), [6, 0, 0, 0, 0])


def test_iou_equals_caffes_on_inclusive_corners():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 50, (20, 2, 2))
    low, high = corners.min(axis=1), corners.max(axis=1)  # inclusive corners
    halfopen = np.concatenate([low, high + 1], axis=1).astype(np.float32)
    expected = np.zeros((20, 20))
    for i, j in np.ndindex(20, 20):
        sides = np.minimum(high[i], high[j]) - np.maximum(low[i], low[j]) + 1
        shared_area = np.prod(np.maximum(sides, 0))
        areas = [np.prod(high[k] - low[k] + 1) for k in (i, j)]
        expected[i, j] = shared_area / (sum(areas) - shared_area)
    np.testing.assert_allclose(boxes.iou(halfopen, halfopen), expected, atol=1e-6)


def ioa_by_hand(boxes_, regions):
    out = np.zeros((len(boxes_), len(regions)))
    for i, (y1, x1, y2, x2) in enumerate(boxes_.astype(np.float64)):
        for j, (r1, s1, r2, s2) in enumerate(regions.astype(np.float64)):
            if y2 > y1 and x2 > x1:
                height, width = max(min(y2, r2) - max(y1, r1), 0), max(min(x2, s2) - max(x1, s1), 0)
                out[i, j] = height * width / ((y2 - y1) * (x2 - x1))
    return out


@settings(deadline=None, max_examples=60)
@given(proper_boxes(), proper_boxes())
def test_ioa_is_the_share_of_the_box_that_the_region_covers(a, regions):
    found = in_graph(boxes.ioa)(a, regions)
    assert found.shape == (len(a), len(regions))
    np.testing.assert_allclose(found, ioa_by_hand(a, regions), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(box_lists, box_lists)
def test_ioa_of_any_boxes_lies_in_0_1(a, regions):
    found = in_graph(boxes.ioa)(a, regions).numpy()
    assert np.all((found >= 0) & (found <= 1.0001))


@settings(deadline=None, max_examples=60)
@given(proper_boxes(count=1), st.tuples(*[st.floats(0, 9)] * 4))
def test_ioa_of_a_box_inside_a_region_is_exactly_1(box, margins):
    region = box + np.float32([-margins[0], -margins[1], margins[2], margins[3]])
    assert in_graph(boxes.ioa)(box, region).numpy()[0, 0] == 1.0


def test_ioa_divides_by_the_box_not_by_the_region():
    quarter, whole = np.float32([[0, 0, 5, 5]]), np.float32([[0, 0, 10, 10]])
    assert boxes.ioa(quarter, whole).numpy()[0, 0] == 1
    assert boxes.ioa(whole, quarter).numpy()[0, 0] == 0.25
    assert boxes.ioa(np.float32([[3, 3, 3, 9], [5, 5, 2, 2]]), whole).numpy().tolist() == [[0], [0]]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 5).flatmap(lambda n: st.tuples(proper_boxes(n), proper_boxes(n))))
def test_decode_inverts_encode(pair):
    targets, references = pair
    deltas = in_graph(boxes.encode)(targets, references)
    assert deltas.shape == targets.shape
    np.testing.assert_allclose(in_graph(boxes.decode)(deltas, references), targets, atol=0.05)


def test_encode_is_dy_dx_dh_dw():
    deltas = boxes.encode([[10.0, 30.0, 30.0, 40.0]], [[0.0, 0.0, 10.0, 20.0]]).numpy()[0]
    # centres (20, 35) and (5, 10); sizes (20, 10) and (10, 20)
    np.testing.assert_allclose(deltas, [1.5, 1.25, np.log(2), -np.log(2)], rtol=1e-6)


def test_decode_broadcasts_classes():
    deltas = np.zeros((2, 3, 4), np.float32)
    rois = np.float32([[0, 0, 10, 10], [5, 5, 9, 20]])
    found = boxes.decode(deltas, rois[:, None, :]).numpy()
    np.testing.assert_allclose(found, np.repeat(rois[:, None], 3, axis=1))


@settings(deadline=None, max_examples=40)
@given(box_lists)
def test_clip_keeps_boxes_inside(some):
    found = boxes.clip(some, 100, 200).numpy()
    np.testing.assert_array_equal(
        found, np.clip(some, [0, 0, 0, 0], [100, 200, 100, 200]).reshape(-1, 4)
    )


def test_flip_twice_changes_nothing_and_once_mirrors_x():
    box = np.float32([[1, 2, 5, 7]])
    np.testing.assert_array_equal(boxes.flip(box, 20).numpy(), [[1, 13, 5, 18]])
    np.testing.assert_array_equal(boxes.flip(boxes.flip(box, 20), 20), box)


def test_flip_of_a_pixel_box_lies_on_the_mirrored_pixel():
    image = np.zeros((4, 6), np.float32)
    image[1:3, 4:5] = 1
    ymin, xmin, ymax, xmax = boxes.flip([[1.0, 4.0, 3.0, 5.0]], 6).numpy()[0].astype(int)
    assert image[:, ::-1][ymin:ymax, xmin:xmax].all()


def test_scale_scales_caffes_inclusive_corners():
    y1, x1, y2, x2 = 10, 20, 59, 99  # inclusive
    s = 1.6
    found = boxes.scale([[y1, x1, y2 + 1.0, x2 + 1.0]], s).numpy()[0]
    np.testing.assert_allclose(found, [s * y1, s * x1, s * y2 + 1, s * x2 + 1], rtol=1e-6)
