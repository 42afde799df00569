"""Feature pyramids: against numpy, on real backbones, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ohem_tf.errors import InputError
from ohem_tf.models import backbones
from ohem_tf.models.pyramid import FeaturePyramid


def conv_by_hand(x, layer):
    """ "Same" convolution at stride 1: [h, w, C] with odd kernels."""
    kernel, bias = (v.numpy() for v in layer.weights)
    half = kernel.shape[0] // 2
    height, width = x.shape[:2]
    padded = np.pad(x, [(half, half), (half, half), (0, 0)])
    windows = [
        padded[i : i + height, j : j + width] @ kernel[i, j]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    return sum(windows) + bias


def test_each_level_adds_the_one_above_at_twice_its_size():
    keras.utils.set_random_seed(0)
    pyramid = FeaturePyramid((3, 5), extra=1, channels=4)
    for variable in pyramid.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    rng = np.random.default_rng(0)
    fine, coarse = rng.normal(size=(5, 6, 3)), rng.normal(size=(3, 3, 5))  # 5 rounded up, 6 not
    by_name = {layer.name: layer for layer in pyramid._flatten_layers()}
    above = conv_by_hand(coarse, by_name["lateral1"])
    enlarged = above[np.ix_([0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2])]
    below = conv_by_hand(fine, by_name["lateral0"]) + enlarged
    expected = [conv_by_hand(below, by_name["output0"]), conv_by_hand(above, by_name["output1"])]
    expected.append(expected[1][::2, ::2])
    found = pyramid([tf.constant(x[None], tf.float32) for x in (fine, coarse)])
    assert [x.shape for x in found] == [(1, 5, 6, 4), (1, 3, 3, 4), (1, 2, 2, 4)]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine[0], theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "strides", "roi_strides", "cuts"),
    [
        (
            "ResNet50",
            (4, 8, 16, 32, 64),
            (4, 8, 16, 32),
            ["conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"],
        ),
        ("vgg16", (4, 8, 16, 32, 64), (4, 8, 16), [f"block{i}_conv3" for i in (3, 4, 5)]),
    ],
)
def test_where_backbones_are_cut(name, strides, roi_strides, cuts):
    backbone, _ = backbones.build(name, "none", pyramid_levels=(2, 3, 4, 5, 6), pyramid_channels=8)
    assert backbone.strides == strides
    assert backbone.roi_strides == roi_strides
    assert backbone.channels == 8
    outputs = [x._keras_history.operation.name for x in backbone.network.outputs]
    assert outputs == cuts
    maps = backbone(np.zeros((1, 70, 101, 3), np.float32))
    assert [x.shape[1:] for x in maps] == [
        (-(-70 // stride), -(-101 // stride), 8) for stride in strides
    ]
    assert all(x.dtype == tf.float32 for x in maps)


def resnet():
    """A KerasHub backbone with levels P2 to P5."""
    keras_hub = pytest.importorskip("keras_hub", reason="needs the extra [hub]")
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64, 64, 64],  # it demands 64
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    )


def test_levels_of_a_keras_hub_backbone_are_its_pyramid_outputs():
    network = resnet()
    cut, extra = backbones.cutting.cut_levels(network, (3, 4, 5, 6), "small")
    assert extra == 1
    outputs = [network.pyramid_outputs[name] for name in ("P3", "P4", "P5")]
    assert [x is y for x, y in zip(cut.outputs, outputs, strict=True)] == [True] * 3


@pytest.mark.parametrize("channels", [256, 32])  # KerasHub's have 256
def test_the_pyramid_of_a_keras_hub_detector_is_loaded_where_it_fits(tmp_path, capsys, channels):
    keras_hub = pytest.importorskip("keras_hub", reason="needs the extra [hub]")
    whole = keras_hub.models.RetinaNetBackbone(resnet(), min_level=3, max_level=7, use_p5=True)
    whole.save_to_preset(str(tmp_path))
    backbone, _ = backbones.build(
        str(tmp_path),
        "imagenet",
        "torch",
        pyramid_levels=(2, 3, 4, 5, 6),
        pyramid_channels=channels,
    )
    said = "P3, P4, P5" if channels == 256 else "no level"
    assert f"pyramid: weights of {said} are those of" in capsys.readouterr().out
    assert backbone.strides == (4, 8, 16, 32, 64)
    mine = {layer.name: layer.get_weights() for layer in backbone.pyramid._flatten_layers()}
    for i, level in ((1, "P3"), (2, "P4"), (3, "P5")) if channels == 256 else ():
        for kind, layers in (
            ("lateral", whole.feature_pyramid.lateral_conv_layers),
            ("output", whole.feature_pyramid.output_conv_layers),
        ):
            theirs = layers[level].get_weights()
            for one, other in zip(mine[f"{kind}{i}"], theirs, strict=True):
                np.testing.assert_array_equal(one, other)
    encoder = whole.image_encoder.get_weights()
    assert len(backbone.network.weights) == len(encoder)
    assert any(np.array_equal(backbone.network.get_weights()[0], x) for x in encoder)


@pytest.mark.parametrize("levels", [(1, 2, 3), (6, 7)])
def test_levels_that_a_backbone_lacks_are_refused(levels):
    images = x = keras.Input((None, None, 3))
    for stride in (4, 2, 2):  # no map at stride 2
        x = keras.layers.Conv2D(4, 3, stride, "same")(x)
    with pytest.raises(InputError, match=r"config\.pyramid\.levels: small has no map at stride"):
        backbones.cutting.cut_levels(keras.Model(images, x), levels, "small")


def test_a_backbone_with_a_pyramid_is_rebuilt_from_its_config():
    backbone, _ = backbones.build("vgg16", "none", pyramid_levels=(3, 4, 5), pyramid_channels=8)
    other = backbones.Backbone.from_config(backbone.get_config())
    other.set_weights(backbone.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 80, 3)).astype(np.float32)
    for mine, theirs in zip(backbone(image), other(image), strict=True):
        np.testing.assert_array_equal(mine, theirs)
