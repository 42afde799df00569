"""VGG_CNN_M_1024 against plain numpy: Caffe's sizes, LRN, pooling that rounds up."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ohem_tf.models import backbones, caffe_networks

BGR_MEAN = np.float32([102.9801, 115.9465, 122.7717])


@pytest.fixture(scope="module")
def vggm():
    keras.utils.set_random_seed(1)
    return backbones.build("vgg_cnn_m_1024", "none", frozen_until="conv1")[0]


def caffe_lrn(x, size=5, alpha=5e-4, beta=0.75, k=2.0):
    """[..., C]: Caffe's formula, channel by channel."""
    out = np.empty_like(x)
    for c in range(x.shape[-1]):
        window = x[..., max(c - size // 2, 0) : c + size // 2 + 1]
        out[..., c] = x[..., c] * (k + alpha / size * (window**2).sum(-1)) ** -beta
    return out


def caffe_pool(x, kernel=3, stride=2):
    """[N, H, W, C]: Caffe's max pooling without padding; windows are cut to the map."""
    rows, columns = (math.ceil((n - kernel) / stride) + 1 for n in x.shape[1:3])
    out = np.empty((len(x), rows, columns, x.shape[-1]), x.dtype)
    for i in range(rows):
        for j in range(columns):
            y, z = i * stride, j * stride
            out[:, i, j] = x[:, y : y + kernel, z : z + kernel].max(axis=(1, 2))
    return out


@settings(max_examples=40, deadline=None)
@given(height=st.integers(2, 12), width=st.integers(2, 12), seed=st.integers(0, 99))
def test_pooling_rounds_up_and_pads_with_nothing(height, width, seed):
    """All values are negative: padding with zeros would win."""
    x = -1 - np.random.default_rng(seed).random((2, height, width, 3), np.float32)
    found = caffe_networks.CeilMaxPooling()(x)
    np.testing.assert_array_equal(found, caffe_pool(x))


@pytest.mark.parametrize("channels", [1, 4, 5, 96])
def test_lrn(channels):
    x = np.random.default_rng(0).normal(0, 200, (2, 3, 4, channels)).astype(np.float32)
    found = caffe_networks.LocalResponseNormalization(name="norm")(x)
    np.testing.assert_allclose(found, caffe_lrn(x), rtol=1e-4, atol=1e-4)
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
    assert caffe_sizes(600) == (297, 148, 73, 36)  # worked out by hand in the paper's notes
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
        backbones._stride(vggm.network, x) for x in vggm.network.layers if "pad" not in x.name
    ]
    assert strides == [1, 2, 2, 4, 8, 8, 16, 16, 16, 16]


def reference(network, image):
    """The network op by op, pooling and LRN in numpy, in Caffe's order."""

    def conv(x, name, stride=1, pad=0):
        kernel, bias = network.get_layer(name).get_weights()
        padded = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        return np.maximum(tf.nn.conv2d(padded, kernel, stride, "VALID") + bias, 0)

    x = conv(image[..., ::-1] - BGR_MEAN, "conv1", 2)
    x = caffe_pool(caffe_lrn(x))
    x = conv(x, "conv2", 2, pad=1)
    x = caffe_pool(caffe_lrn(x))
    for name in ("conv3", "conv4", "conv5"):
        x = conv(x, name, pad=1)
    return x


@pytest.mark.parametrize("size", [(97, 130), (112, 81)])
def test_vggm_equals_a_chain_of_plain_ops(vggm, size):
    image = np.random.default_rng(2).integers(0, 256, (1, *size, 3)).astype(np.float32)
    expected = reference(vggm.network, image)
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
