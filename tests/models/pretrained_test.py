"""Weights from files into VGG_CNN_M_1024 and into fc6 and fc7 of the head."""

import keras
import numpy as np
import pytest

from ohem_tf import experiment
from ohem_tf.config import paper
from ohem_tf.errors import InputError
from ohem_tf.models import backbones, pretrained

SHAPES = {
    "conv1": (7, 7, 3, 96),
    "conv2": (5, 5, 96, 256),
    "conv3": (3, 3, 256, 512),
    "conv4": (3, 3, 512, 512),
    "conv5": (3, 3, 512, 512),
    "fc6": (2 * 2 * 512, 24),
    "fc7": (24, 8),
}


def random_arrays(**other_shapes):
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in {**SHAPES, **other_shapes}.items():
        arrays[f"{name}/kernel"] = rng.standard_normal(shape, np.float32)
        arrays[f"{name}/bias"] = rng.standard_normal(shape[-1], np.float32)
    return arrays


def save(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def settings(weights):
    config = paper()
    config.backbone.name, config.backbone.frozen_until = "vgg_cnn_m_1024", "conv1"
    config.backbone.weights = weights
    config.head.pool_size, config.head.hidden = 2, (24, 8)
    return config


def assert_holds(layer, arrays):
    for name, value in zip(("kernel", "bias"), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(value, arrays[f"{layer.name}/{name}"])


def test_a_whole_file_starts_backbone_and_head(tmp_path, capsys):
    arrays = random_arrays()
    model = experiment.build_model(settings(save(tmp_path / "w.npz", arrays)), 3)
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        assert_holds(model.backbone.network.get_layer(name), arrays)
    assert [layer.name for layer in model.roi_head.hidden] == ["fc6", "fc7"]
    for layer in model.roi_head.hidden:
        assert_holds(layer, arrays)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("present", [(), ("fc6",), ("fc7",)])
def test_what_a_file_lacks_of_the_head_starts_at_random_and_is_said(tmp_path, capsys, present):
    arrays = random_arrays()
    kept = {k: x for k, x in arrays.items() if not k.startswith("fc") or k.startswith(present)}
    path = save(tmp_path / "w.npz", kept)
    model = experiment.build_model(settings(path), 3)
    lacking = [name for name in ("fc6", "fc7") if name not in present]
    (line,) = capsys.readouterr().out.splitlines()
    assert path in line
    assert all(name in line for name in lacking)
    assert not any(name in line for name in present)
    for layer in model.roi_head.hidden:
        if layer.name in present:
            assert_holds(layer, arrays)
        else:
            assert 0 < np.std(layer.get_weights()[0]) < 0.5  # not the file's, whose is 1


def refusal(function, *args):
    with pytest.raises(InputError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("layer", "shape"), [("conv2", (5, 5, 48, 256)), ("fc6", (18432, 24)), ("fc7", (24, 16))]
)
def test_a_file_of_other_shapes_names_file_layer_and_both(tmp_path, layer, shape):
    path = save(tmp_path / "w.npz", random_arrays(**{layer: shape}))
    message = refusal(experiment.build_model, settings(path), 3)
    assert message.startswith(f"config.backbone.weights: {path}: layer {layer} ")
    assert str(shape) in message
    assert str(SHAPES[layer]) in message


def test_fc6_without_bias_is_refused(tmp_path):
    arrays = random_arrays()
    del arrays["fc6/bias"]
    path = save(tmp_path / "w.npz", arrays)
    message = refusal(experiment.build_model, settings(path), 3)
    assert message.startswith(f"config.backbone.weights: {path}: layer fc6 ")


def dense(name, inputs, units):
    layer = keras.layers.Dense(units, name=name)
    layer.build((None, inputs))
    return layer


def test_keras_download_starts_the_layers_that_fit(capsys):
    """A small head on VGG16 is no error: nobody chose the sizes of that download."""
    source = {
        name: [np.ones((6, 6), np.float32), np.ones(6, np.float32)] for name in ("fc6", "fc7")
    }
    layers = [dense("fc6", 4, 6), dense("fc7", 6, 6), dense("fc8", 6, 6)]
    before = [layer.get_weights()[0] for layer in layers]
    pretrained.init_fc_layers(layers, source, "imagenet")
    after = [layer.get_weights()[0] for layer in layers]
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], np.ones((6, 6)))
    np.testing.assert_array_equal(after[2], before[2])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("fc6 ")


@pytest.mark.parametrize("weights", ["imagenet", "hed"])
def test_weights_that_vggm_has_not_are_refused(weights):
    message = refusal(backbones.build, "vgg_cnn_m_1024", weights)
    assert message.startswith(f"config.backbone.weights: '{weights}' ")
    assert "convert_caffe" in message


def test_vggm_from_a_file_that_keras_wrote(tmp_path):
    saved = backbones.build("vgg_cnn_m_1024", "none")[0].network
    path = str(tmp_path / "vggm.weights.h5")
    saved.save_weights(path)
    found, fully_connected = backbones.build("vgg_cnn_m_1024", path)
    for a, b in zip(found.network.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert fully_connected == {}
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6)])
    other.save_weights(path)
    assert path in refusal(backbones.build, "vgg_cnn_m_1024", path)


def test_a_layer_inside_another_is_assigned_by_its_own_name():
    """Inside the head fc6's weights are called roi_head/fc6/kernel."""
    head = experiment.build_model(settings("none"), 3).roi_head
    source = {"fc6": {"kernel": np.ones((2048, 24), np.float32), "bias": np.ones(24, np.float32)}}
    pretrained.assign(head.hidden[:1], source, "x")
    np.testing.assert_array_equal(head.hidden[0].get_weights()[0], 1.0)
    assert refusal(pretrained.assign, head.hidden, source, "x").startswith("x: layer fc7 needs ")
