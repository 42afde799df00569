"""VGG_CNN_M_1024 against plain numpy: Caffe's sizes, LRN, pooling that rounds up."""

import math

import caffe_by_hand
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ohem_tf.models import backbones, caffe_networks, cutting


@pytest.fixture(scope="module")
def vggm():
    keras.utils.set_random_seed(1)
    return backbones.build("vgg_cnn_m_1024", "none", frozen_until="conv1")[0]


@settings(max_examples=40, deadline=None)
@given(height=st.integers(2, 12), width=st.integers(2, 12), seed=st.integers(0, 99))
def test_pooling_rounds_up_and_pads_with_nothing(height, width, seed):
    """All values are negative: padding with zeros would win."""
    x = -1 - np.random.default_rng(seed).random((2, height, width, 3), np.float32)
    found = caffe_networks.CeilMaxPooling()(x)
    for image, pooled in zip(x, found, strict=True):
        expected = caffe_by_hand.max_pool(image.transpose(2, 0, 1))
        np.testing.assert_array_equal(pooled, expected.transpose(1, 2, 0))


@pytest.mark.parametrize("channels", [1, 4, 5, 96])
def test_lrn(channels):
    x = np.random.default_rng(0).normal(0, 200, (1, 3, 4, channels)).astype(np.float32)
    found = caffe_networks.LocalResponseNormalization(name="norm")(x)
    expected = caffe_by_hand.lrn(x[0].transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)
    # One channel of 100: 100 / (2 + 1e-4 * 100^2)^0.75 = 100 / 3^0.75.
    single = caffe_networks.LocalResponseNormalization(name="norm")(np.full((1, 1, 1, 1), 100.0))
    assert float(single[0, 0, 0, 0]) == pytest.approx(100 / 3**0.75, rel=1e-5)


def caffe_sizes(pixels):
    """After conv1, pool1, conv2, pool2: convolutions round down, pooling up."""
    conv1 = (pixels - 7) // 2 + 1
    pool1 = math.ceil((conv1 - 3) / 2) + 1
    conv2 = (pool1 + 2 - 5) // 2 + 1
    return conv1, pool1, conv2, math.ceil((conv2 - 3) / 2) + 1


def test_vggm_sizes_are_caffes(vggm):
    network = vggm.network
    stages = [network.get_layer(name).output for name in ("conv1", "pool1", "conv2", "pool2")]
    probe = keras.Model(network.inputs, [*stages, network.output])
    assert caffe_sizes(600) == (297, 148, 73, 36)  # worked out by hand
    assert caffe_sizes(800)[-1] == 49
    for pixels in [600, 800, 1000, *range(450, 482)]:
        shapes = probe.compute_output_shape((1, pixels, 800, 3))
        cells = caffe_sizes(pixels)
        assert tuple(shape[1] for shape in shapes) == (*cells, cells[-1])
        assert all(shape[2] == n for shape, n in zip(shapes, caffe_sizes(800), strict=False))


def test_vggm_ends_with_conv5_at_stride_16_and_trains_from_conv2(vggm):
    convs = [x for x in vggm.network.layers if isinstance(x, keras.layers.Conv2D)]
    assert [x.name for x in convs] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert vggm.network.layers[-1].name == "conv5"
    assert vggm.channels == 512
    sizes = ((7, 3, 96), (5, 96, 256), (3, 256, 512), (3, 512, 512), (3, 512, 512))
    assert vggm.count_params() == sum(k * k * i * o + o for k, i, o in sizes)
    trained = [v.path for v in vggm.trainable_variables]
    assert trained == [f"conv{i}/{kind}" for i in (2, 3, 4, 5) for kind in ("kernel", "bias")]
    strides = [
        cutting.stride(vggm.network, x.output) for x in vggm.network.layers if "pad" not in x.name
    ]
    assert strides == [1, 2, 2, 4, 8, 8, 16, 16, 16, 16]


@pytest.mark.parametrize("size", [(97, 130), (112, 81)])
def test_vggm_equals_caffes_layers(vggm, size):
    image = np.random.default_rng(2).integers(0, 256, (1, *size, 3)).astype(np.float32)
    convs = [vggm.network.get_layer(f"conv{i}") for i in range(1, 6)]
    layers = {x.name: (x.kernel.numpy().transpose(3, 2, 0, 1), x.bias.numpy()) for x in convs}
    expected = caffe_by_hand.vgg_cnn_m(layers, image[0, ..., ::-1]).transpose(1, 2, 0)[None]
    found = vggm(image)
    assert found.shape == expected.shape
    assert expected.max() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_vggm_in_bfloat16_keeps_lrn_exact_and_trains(vggm):
    half, _ = backbones.build("vgg_cnn_m_1024", "none", dtype="bfloat16", frozen_until="conv1")
    half.network.set_weights(vggm.network.get_weights())
    assert half.network.get_layer("norm1").compute_dtype == "float32"
    assert half.network.get_layer("conv2").compute_dtype == "bfloat16"
    image = np.random.default_rng(2).integers(0, 256, (1, 97, 130, 3)).astype(np.float32)
    exact = vggm(image).numpy()
    with tf.GradientTape() as tape:
        features = half(image)
    np.testing.assert_allclose(features, exact, rtol=0.1, atol=0.05 * exact.max())
    gradients = tape.gradient(features, half.trainable_variables)
    assert all(np.abs(g.numpy()).max() > 0 for g in gradients)
