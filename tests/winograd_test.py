"""Winograd's convolution against TensorFlow's own in float64."""

import numpy as np
import pytest
import tensorflow as tf

from ohem_tf import winograd


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (4, 8), (5, 7), (38, 50)])
@pytest.mark.parametrize("images", [1, 2])
def test_equals_the_sum_of_products(size, images):
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(images, *size, 32)), 0)
    kernel = rng.normal(0, 0.1, (3, 3, 32, 5))
    expected = tf.nn.conv2d(x, kernel, 1, "SAME").numpy()
    found = winograd.convolve(tf.constant(x, tf.float32), tf.constant(kernel, tf.float32))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=4e-6 * np.abs(expected).max())


def test_of_images_of_any_size_in_a_graph():
    traced = tf.function(winograd.convolve)
    kernel = tf.constant(np.random.default_rng(1).normal(size=(3, 3, 8, 4)), tf.float32)
    spec = tf.TensorSpec([None, None, None, 8])
    function = traced.get_concrete_function(spec, tf.TensorSpec(kernel.shape))
    assert function.output_shapes.as_list() == [None, None, None, 4]
    for size in ((2, 5, 6), (1, 6, 5)):
        x = tf.random.stateless_normal([*size, 8], [0, 1])
        expected = tf.nn.conv2d(x, kernel, 1, "SAME")
        np.testing.assert_allclose(function(x, kernel), expected, atol=1e-4)
