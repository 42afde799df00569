"""Networks for inference: the same maps, by the weights of the network that is trained."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ohem_tf import winograd
from ohem_tf.models import backbones, forward_only


def network(**changes):
    """A 3 x 3 convolution with enough channels, and what comes after it."""
    options = {"padding": "same", "activation": "relu", "name": "conv"} | changes
    images = keras.Input((None, None, 128))
    x = keras.layers.Conv2D(8, 3, **options)(images)
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(images, keras.layers.Conv2D(4, 1)(x))


@pytest.fixture
def convolved(monkeypatch):
    """The shapes of what went through Winograd's algorithm."""
    shapes, convolve = [], winograd.convolve

    def counted(x, kernel):
        shapes.append(tuple(kernel.shape))
        return convolve(x, kernel)

    monkeypatch.setattr(winograd, "convolve", counted)
    return shapes


def fast_form(model, convolved):
    """`forward_only` of the model; Keras traces it, which does not count."""
    fast = forward_only.forward_only(model)
    convolved.clear()
    return fast


def assert_same(fast, model, x):
    np.testing.assert_allclose(fast(x), model(x, training=False), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"use_bias": False}, {"activation": "tanh"}])
def test_the_same_maps_before_and_after_an_update(changes, convolved):
    model = network(**changes)
    fast = fast_form(model, convolved)
    x = tf.random.stateless_normal([1, 9, 13, 128], [0, 1])
    assert_same(fast, model, x)
    for variable in model.weights:
        variable.assign(variable + 0.01)
    assert_same(fast, model, x)
    assert convolved == [(3, 3, 128, 8)] * 2


@pytest.mark.parametrize(
    "changes",
    [{"strides": 2}, {"dilation_rate": 2}, {"padding": "valid"}, {"groups": 2}],
)
def test_other_convolutions_stay_as_they_are(changes, convolved):
    model = network(**changes)
    x = tf.random.stateless_normal([1, 9, 13, 128], [0, 1])
    assert_same(fast_form(model, convolved), model, x)
    assert convolved == []


def test_vgg16_gives_the_features_of_training(convolved):
    keras.utils.set_random_seed(3)
    backbone = backbones.build("vgg16", "none", frozen_until="block2_pool")[0]
    image = np.random.default_rng(0).integers(0, 256, (1, 75, 50, 3)).astype(np.float32)
    expected = backbone(image).numpy()
    convolved.clear()
    found = backbone.forward_only(image).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    assert [shape[2] for shape in convolved] == [128] * 2 + [256] * 3 + [512] * 5
    assert len(backbone.weights) == 26  # nothing of its own


def test_a_gpu_runs_the_network_itself(convolved, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    model = network()
    x = tf.random.stateless_normal([1, 9, 13, 128], [0, 1])
    np.testing.assert_array_equal(fast_form(model, convolved)(x), model(x))
    assert convolved == []


def test_bfloat16_stays_as_it_is(convolved):
    model = network(dtype="mixed_bfloat16")
    x = tf.random.stateless_normal([1, 9, 13, 128], [0, 1])
    np.testing.assert_array_equal(fast_form(model, convolved)(x), model(x, training=False))
    assert convolved == []
