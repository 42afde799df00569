"""Caffe's weights made ours: VGG_CNN_M_1024 against a forward pass in numpy as Caffe does it."""

import json
import math

import caffe_by_hand
import numpy as np
import pytest
import tiny
import tiny_caffe
from command_line import run

from ohem_tf import convert_caffe, experiment
from ohem_tf.config import paper
from ohem_tf.errors import InputError
from ohem_tf.workdir import load_saved

CONVERT = "ohem_tf.convert_caffe"
POOL, HIDDEN = 2, (32, 16)
SHAPES = {
    "conv1": (96, 3, 7, 7),
    "conv2": (256, 96, 5, 5),
    "conv3": (512, 256, 3, 3),
    "conv4": (512, 512, 3, 3),
    "conv5": (512, 512, 3, 3),
    "fc6": (HIDDEN[0], 512 * POOL * POOL),
    "fc7": (HIDDEN[1], HIDDEN[0]),
    "cls_score": (4, HIDDEN[1]),
    "bbox_pred": (16, HIDDEN[1]),
}


@pytest.fixture(scope="module")
def arrays():
    """VGG_CNN_M_1024 and a small head for three classes, as Caffe keeps them."""
    rng = np.random.default_rng(0)
    layers = {}
    for name, shape in SHAPES.items():
        kernel = rng.standard_normal(shape, np.float32) * math.sqrt(2 / math.prod(shape[1:]))
        layers[name] = [kernel, rng.standard_normal(shape[0], np.float32) * np.float32(0.1)]
    for name in ("cls_score", "bbox_pred"):  # logits and deltas of about 1
        layers[name][0] *= np.float32(0.03)
    return layers


def write(path, arrays, **options):
    """A .caffemodel with the copies of the head that OHEM's release has, and a classifier."""
    small = [np.ones((2, 3), np.float32), np.ones(2, np.float32)]
    layers = {"fc6_readonly": small, **arrays, "fc8": small}
    path.write_bytes(
        tiny_caffe.net(*(tiny_caffe.layer(n, x, **options) for n, x in layers.items()))
    )
    return str(path)


@pytest.fixture(scope="module")
def caffemodel(tmp_path_factory, arrays):
    return write(tmp_path_factory.mktemp("caffe") / "detector.caffemodel", arrays)


def settings(**changes):
    config = paper()
    config.backbone.name, config.backbone.frozen_until = "vgg_cnn_m_1024", "conv1"
    config.head.pool_size, config.head.hidden = POOL, HIDDEN
    config.update_from_flattened_dict(changes)
    return config


def test_a_released_detector_gives_what_caffe_gives(caffemodel, arrays, tmp_path):
    workdir = str(tmp_path / "new")
    convert_caffe.write_workdir(caffemodel, settings(), {}, tiny.CLASSES, workdir)
    config = experiment.trained_config(settings(), {}, workdir)
    model = experiment.load_model(config, workdir)

    rgb = np.random.default_rng(1).integers(0, 256, (113, 150, 3)).astype(np.float32)
    rois = np.float32([[0, 0, 149, 112], [10, 20, 90, 70], [64, 5, 149, 60], [30, 40, 45, 47]])
    probabilities, boxes = caffe_by_hand.detector(arrays, rgb[..., ::-1], rois)
    assert np.ptp(probabilities, axis=0).max() > 0.1  # the RoIs differ, and so do the deltas
    assert np.abs(boxes - rois[:, None]).max() > 10

    ours = rois[:, [1, 0, 3, 2]] + np.float32([0, 0, 1, 1])
    found = model.score_rois(model.image_features(rgb), ours, 1.0)
    np.testing.assert_allclose(found[0], probabilities, atol=1e-4)
    np.testing.assert_allclose(found[1], boxes[..., [1, 0, 3, 2]], atol=0.02)


def test_the_older_layout_gives_the_same_weights(caffemodel, arrays, tmp_path, capsys):
    found = convert_caffe.read_weights(write(tmp_path / "v1.caffemodel", arrays, v1=True))
    assert "left out fc6_readonly, fc8\n" in capsys.readouterr().out
    expected = convert_caffe.read_weights(caffemodel)
    assert list(found) == list(expected) == list(SHAPES)
    for name in SHAPES:
        for kind in ("kernel", "bias"):
            np.testing.assert_array_equal(found[name][kind], expected[name][kind])


def numbers(*shape):
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("v1", [True, False])
def test_names_and_orders(tmp_path, v1):
    """Index by index, on layers with as many channels as in no network."""
    conv, fc6, boxes = numbers(5, 4, 3, 2), numbers(7, 5 * 9), numbers(8, 7)
    layers = {
        "conv1_2": [numbers(4, 3, 3, 3), numbers(4)],
        "conv5_3": [conv, numbers(5)],
        "fc6": [fc6, numbers(7)],
        "bbox_pred": [boxes, numbers(8)],
    }
    found = convert_caffe.read_weights(write(tmp_path / "x.caffemodel", layers, v1=v1))
    assert list(found) == ["block1_conv2", "block5_conv3", "fc6", "bbox_pred"]
    kernel = found["block5_conv3"]["kernel"]
    assert kernel.shape == (3, 2, 4, 5)
    assert all(kernel[i, j, c, o] == conv[o, c, i, j] for o, c, i, j in np.ndindex(5, 4, 3, 2))
    kernel = found["fc6"]["kernel"].reshape(3, 3, 5, 7)
    caffe = fc6.reshape(7, 5, 3, 3)
    assert all(kernel[i, j, c, o] == caffe[o, c, i, j] for o, c, i, j in np.ndindex(7, 5, 3, 3))
    np.testing.assert_array_equal(found["bbox_pred"]["bias"], [1, 0, 3, 2, 5, 4, 7, 6])
    np.testing.assert_array_equal(found["bbox_pred"]["kernel"].T, boxes[[1, 0, 3, 2, 5, 4, 7, 6]])
    assert all(
        x.dtype == np.float32 and x.flags.c_contiguous for w in found.values() for x in w.values()
    )


def refusal(function, *args):
    with pytest.raises(InputError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


BAD_LAYERS = {
    "no bias": {"conv1": [numbers(4, 3, 3, 3)]},
    "three arrays": {"conv1": [numbers(4, 3, 3, 3), numbers(4), numbers(4)]},
    "a bias for other outputs": {"conv1": [numbers(4, 3, 3, 3), numbers(3)]},
    "a flat convolution": {"conv1": [numbers(4, 27), numbers(4)]},
    "a fully connected map": {"fc7": [numbers(4, 3, 3, 3), numbers(4)]},
    "no square map": {
        "conv1": [numbers(4, 3, 3, 3), numbers(4)],
        "fc6": [numbers(2, 8), numbers(2)],
    },
    "no convolution before": {"fc6": [numbers(2, 9), numbers(2)]},
    "boxes of 3 sides": {"bbox_pred": [numbers(6, 2), numbers(6)]},
}


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_a_layer_that_is_not_what_its_name_says_is_refused(tmp_path, case):
    path = write(tmp_path / "x.caffemodel", BAD_LAYERS[case])
    message = refusal(convert_caffe.read_weights, path)
    assert message.startswith(f"{path}: layer {list(BAD_LAYERS[case])[-1]} ")


def refused_workdir(path, workdir, config=None, classes=tiny.CLASSES):
    message = refusal(
        convert_caffe.write_workdir, path, config or settings(), {}, classes, str(workdir)
    )
    assert not workdir.exists()
    return message


def test_another_number_of_classes_is_refused(caffemodel, tmp_path):
    message = refused_workdir(caffemodel, tmp_path / "new", classes=("disc", "square"))
    assert message.startswith(
        f"{caffemodel}: cls_score has 4 outputs, background and 3 classes; 2 "
    )
    for classes in (("disc", "disc", "bar"), ("disc", "", "bar")):
        assert "--classes" in refused_workdir(caffemodel, tmp_path / "new", classes=classes)


def test_a_missing_layer_is_named(arrays, tmp_path):
    for name, pattern in [("conv4", "layer conv4 needs"), ("cls_score", "no layer cls_score")]:
        rest = {n: x for n, x in arrays.items() if n != name}
        path = write(tmp_path / "x.caffemodel", rest)
        message = refused_workdir(path, tmp_path / "new")
        assert message.startswith(f"{path}: ")
        assert pattern in message


def test_a_config_of_other_sizes_is_refused(caffemodel, tmp_path):
    for changes, layer, shapes in [
        ({"head.pool_size": 3}, "fc6", ("(4608, 32)", "(2048, 32)")),
        ({"head.hidden": (32, 8)}, "fc7", ("(32, 8)", "(32, 16)")),
    ]:
        message = refused_workdir(caffemodel, tmp_path / "new", settings(**changes))
        assert message.startswith(f"{caffemodel}: layer {layer} needs arrays of shapes")
        assert all(shape in message for shape in shapes)
    for changes, spare in [  # each lacks layers that the file has
        ({"head.hidden": HIDDEN[:1]}, "fc7"),
        ({"backbone.name": "vgg16", "backbone.frozen_until": ""}, "conv1, conv2, conv3"),
    ]:
        message = refused_workdir(caffemodel, tmp_path / "new", settings(**changes))
        assert message.startswith(f"{caffemodel}: the detector of the config lacks {spare}")
    message = refused_workdir(
        caffemodel, tmp_path / "new", settings(**{"backbone.name": "ResNet50"})
    )
    assert message.startswith("config.backbone.name: 'ResNet50'")
    message = refused_workdir(caffemodel, tmp_path / "new", settings(fg_iou=7.0))
    assert message.startswith("config.fg_iou")


def test_a_workdir_in_use_is_refused_and_stays(caffemodel, tmp_path):
    workdir = str(tmp_path / "new")
    convert_caffe.write_workdir(caffemodel, settings(), {}, tiny.CLASSES, workdir)
    before = load_saved(workdir)
    other = settings(seed=5)
    message = refusal(convert_caffe.write_workdir, caffemodel, other, {}, tiny.CLASSES, workdir)
    assert message.startswith(f"--workdir: {workdir} ")
    assert load_saved(workdir) == before


CONFIG = """
from ohem_tf.config import paper

def get_config():
    config = paper()
    config.data.dir, config.data.eval_split = {data!r}, "val"
    config.backbone.name, config.backbone.frozen_until = "vgg_cnn_m_1024", "conv1"
    config.head.pool_size, config.head.hidden = {pool}, {hidden}
    config.detection.shortest_sides, config.detection.longest_side = (96,), 160
    config.detection.score_threshold = 0.0
    return config
"""


@pytest.mark.slow
def test_a_released_detector_is_evaluated(caffemodel, dataset, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(data=str(dataset), pool=POOL, hidden=HIDDEN))
    flags = [f"--config={config}", f"--workdir={tmp_path / 'new'}"]
    done = run(CONVERT, f"--caffemodel={caffemodel}", *flags)  # classes of the data set
    assert done.returncode == 0, done.stderr
    done = run("ohem_tf.evaluate", *flags)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert list(result["AP"]) == list(tiny.CLASSES)
    assert 0 <= result["mAP"] <= 1


def test_the_binary_writes_an_npz(caffemodel, tmp_path):
    output = tmp_path / "folder" / "weights.npz"
    done = run(CONVERT, f"--caffemodel={caffemodel}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{output}: {', '.join(SHAPES)}"
    assert [x.name for x in output.parent.iterdir()] == [output.name]
    with np.load(output) as found:
        expected = convert_caffe.read_weights(caffemodel)
        assert set(found) == {f"{name}/{kind}" for name in SHAPES for kind in ("kernel", "bias")}
        np.testing.assert_array_equal(found["fc6/kernel"], expected["fc6"]["kernel"])


WRONG_FLAGS = {
    "no file": (["--output=w.npz"], "--caffemodel is missing"),
    "no way": (["--caffemodel=x"], "give either --output=FILE.npz"),
    "both ways": (["--caffemodel=x", "--output=w.npz", "--workdir=d"], "give either --output"),
    "half a way": (["--caffemodel=x", "--workdir=d"], "give either --output"),
    "not an npz": (["--caffemodel=x", "--output=w.h5"], "--output: w.h5"),
    "absent": (["--caffemodel=x", "--output=w.npz"], "x: cannot be read"),
}


@pytest.mark.parametrize("case", WRONG_FLAGS)
def test_wrong_flags_end_in_one_line(case, tmp_path, monkeypatch):
    given, expected = WRONG_FLAGS[case]
    monkeypatch.chdir(tmp_path)
    done = run(CONVERT, *given)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {expected}")
