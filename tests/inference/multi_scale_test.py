"""Views of an image: which scale a RoI takes, what is computed how often, flipped images."""

import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf import boxes as box_ops
from ohem_tf.inference import multi_scale
from ohem_tf.inference.multi_scale import View, assign, make_views
from ohem_tf.settings import SCALE_CHOICES


class Counting:
    """A stand-in for the detector: its features are the mean colour; counts its calls."""

    def __init__(self):
        self.calls = tf.Variable(0)

    def image_features(self, image):
        self.calls.assign_add(1)
        return tf.reduce_mean(image, axis=[0, 1], keepdims=True)[None]


def view(scale, used=True):
    return View(
        tf.zeros([1, 1, 1, 1]), None, tf.constant([1, 1]), tf.constant(scale), tf.constant(used)
    )


def squares(*sides):
    return np.float32([[1, 2, 1 + side, 2 + side] for side in sides])


def test_best_is_the_scale_with_an_area_closest_to_224_squared():
    views = [view(0.5), view(1.0), view(2.0)]
    sides = (1000, 448, 447, 224, 160, 120, 112, 8, 0)
    areas = np.array(sides)[:, None] * np.array([0.5, 1.0, 2.0])
    expected = np.abs(areas**2 - 224**2).argmin(axis=1)
    assert set(expected) == {0, 1, 2}
    for i, members in enumerate(assign(squares(*sides), views, "best")):
        assert members.numpy().tolist() == np.flatnonzero(expected == i).tolist()


def test_best_compares_areas_not_their_ratios():
    # 224^2 - 150^2 = 27676 but 280^2 - 224^2 = 28224, although 280 / 224 < 224 / 150.
    chosen = assign(squares(280), [view(150 / 280), view(1.0)], "best")
    assert [len(members) for members in chosen] == [1, 0]


def test_best_takes_the_smaller_of_equal_scales():
    chosen = assign(squares(100, 500), [view(0.5), view(0.5, used=False)], "best")
    assert [members.numpy().tolist() for members in chosen] == [[0, 1], []]
    chosen = assign(squares(0), [view(0.5), view(1.0)], "best")  # 0 pixels at every scale
    assert [len(members) for members in chosen] == [1, 0]


def test_all_takes_every_roi_at_every_scale_that_is_used():
    chosen = assign(squares(100, 500, 9), [view(0.5), view(1.0), view(1.0, used=False)], "all")
    assert [members.numpy().tolist() for members in chosen] == [[0, 1, 2], [0, 1, 2], []]


@pytest.mark.parametrize("choice", SCALE_CHOICES)
def test_no_rois(choice):
    for members in assign(tf.zeros([0, 4]), [view(0.5), view(1.0)], choice):
        assert members.shape == (0,)


@pytest.mark.parametrize("flip", [False, True])
def test_scales_that_the_cap_makes_equal_are_computed_once(flip):
    model = Counting()

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def scales_of(image):
        views = make_views(model, image, (90, 60, 80, 60, 30), 100, flip)
        return [(v.scale, v.used, v.features, v.features if flip else 0.0) for v in views]

    # 50 x 100: the cap allows 50. 50 x 60: it allows 83. 10 x 10: it allows all.
    for size, scales, used in [
        ((50, 100), (0.6, 1, 1, 1), (1, 1, 0, 0)),
        ((60, 50), (0.6, 1.2, 1.6, 100 / 60), (1, 1, 1, 1)),
        ((10, 10), (3, 6, 8, 9), (1, 1, 1, 1)),
        ((1, 1), (30, 60, 80, 90), (1, 1, 1, 1)),
    ]:
        model.calls.assign(0)
        views = scales_of(np.full((*size, 3), 7, np.uint8))
        np.testing.assert_allclose([v[0] for v in views], scales, rtol=1e-6)
        assert [int(v[1]) for v in views] == list(used)
        assert int(model.calls) == sum(used) * (2 if flip else 1)
        for features in (v[2] for v in views):
            np.testing.assert_allclose(features, np.full((1, 1, 1, 3), 7.0))
    assert scales_of.experimental_get_tracing_count() == 1


def test_a_flipped_view_sees_the_flipped_image_and_rois():
    model = tiny.model()
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.float32)
    rois = np.float32([[3, 5, 40, 50], [10, 20, 60, 90], [0, 0, 64, 96]])
    (both,) = make_views(model, tf.constant(image), (64,), 1000, True)
    (flipped,) = make_views(model, tf.constant(image[:, ::-1].copy()), (64,), 1000, False)
    np.testing.assert_array_equal(both.flipped, flipped.features)
    ((scores, boxes),) = multi_scale.score(model, [both], [rois], tf.constant(96))
    straight = model.score_rois(both.features, rois, both.scale)
    other = model.score_rois(flipped.features, box_ops.flip(rois, 96), both.scale)
    np.testing.assert_allclose(scores, (straight[0] + other[0]) / 2, rtol=1e-6)
    other_boxes = other[1].numpy()[..., [0, 3, 2, 1]] * [1, -1, 1, -1] + [0, 96, 0, 96]
    np.testing.assert_allclose(boxes, (straight[1] + other_boxes) / 2, rtol=1e-5)
    assert np.abs(straight[0] - other[0]).max() > 1e-4  # an image without symmetry
