"""ohem_tf.load and Detector.detect, of a training run and of its export."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tiny
from PIL import Image

import ohem_tf
from ohem_tf import experiment
from ohem_tf.data import proposals
from ohem_tf.errors import InputError
from ohem_tf.inference.detection import Detections, detect


@pytest.fixture(scope="module")
def record():
    return tiny.make_record(1, 96, 128, objects=2)


@pytest.fixture
def path(record, tmp_path):
    (tmp_path / "image.png").write_bytes(record.encoded)
    return tmp_path / "image.png"


def assert_same(found, expected, atol=0.0):
    assert isinstance(found, Detections)
    assert len(found.scores) > 5
    for mine, other in zip(found, expected, strict=True):
        assert isinstance(mine, np.ndarray)
        np.testing.assert_allclose(mine, other, atol=atol)


def test_a_run_gives_what_its_model_gives(workdir, config, record, path):
    detector = ohem_tf.load(workdir)
    assert isinstance(detector, ohem_tf.Detector)
    assert detector.classes == tiny.CLASSES
    assert detector.needs_proposals
    model = experiment.load_model(config, workdir)
    image = tf.io.decode_png(record.encoded).numpy()
    expected = detect(model, image, record.proposals, experiment.detection_settings(config))
    for given in (path, str(path), image, tf.constant(image), Image.fromarray(image)):
        assert_same(detector.detect(given, record.proposals), expected, atol=1e-4)
    best = ohem_tf.load(pathlib.Path(workdir), checkpoint="best").detect(image, record.proposals)
    assert not np.array_equal(best.scores, expected.scores)


def test_an_export_gives_what_its_run_gives(exported, workdir, record):
    image = tf.io.decode_png(record.encoded).numpy()
    expected = ohem_tf.load(workdir).detect(image, record.proposals)
    for folder in (exported, os.path.dirname(exported)):
        detector = ohem_tf.load(folder)
        assert detector.classes == tiny.CLASSES
        assert_same(detector.detect(image, record.proposals), expected, atol=1e-3)


class BoxesBack:
    """A model that detects its proposals."""

    needs_proposals = True

    def __call__(self, image, boxes):
        return Detections(boxes, np.ones(len(boxes)), np.ones(len(boxes), np.int32))


def test_proposals_are_searched_for_where_none_are_given(record, path):
    detector = ohem_tf.Detector(BoxesBack(), ["cat"])
    image = tf.io.decode_png(record.encoded).numpy()
    fast, quality = (proposals.selective_search(image, mode) for mode in proposals.MODES)
    assert len(fast) != len(quality)
    for given in (image, path):  # a PNG: OpenCV and TensorFlow read the same
        assert np.array_equal(detector.detect(given).boxes, fast)
        found = detector.detect(given, selective_search_mode="quality")
        assert np.array_equal(found.boxes, quality)


def test_a_model_with_proposals_of_its_own_takes_none():
    class Own:
        needs_proposals = False

        def __call__(self, image):
            return Detections(np.zeros((0, 4)), np.zeros(0), np.array(image.shape))

    detector = ohem_tf.Detector(Own(), ["cat"])
    image = np.zeros((9, 7, 3), np.uint8)
    assert detector.detect(image).classes.tolist() == [9, 7, 3]
    with pytest.raises(InputError, match="proposals: this model makes its own"):
        detector.detect(image, np.zeros((1, 4)))


def test_bad_input_is_refused_by_name(workdir, exported, tmp_path):
    detector, image = ohem_tf.load(workdir), np.zeros((40, 50, 3), np.uint8)
    for bad, words in (
        (image[..., 0], r"image: an array of uint8 \[40, 50\]"),
        (image / 255, "image: an array of float64"),
        (image[:0], r"image: .*\[0, 50, 3\]"),
        (None, "image: an array of object"),
        (tmp_path / "no.jpg", "image .*no.jpg: .*No such file"),
    ):
        with pytest.raises(InputError, match=words):
            detector.detect(bad)
    for boxes, words in (
        (np.zeros(4), r"proposals: an array of float64 \[4\]"),
        ([["a"] * 4], "proposals: an array of <U1"),
        (np.full((1, 4), np.nan), "proposals: not all finite"),
    ):
        with pytest.raises(InputError, match=words):
            detector.detect(image, boxes)
    with pytest.raises(InputError, match="selective search mode 'slow'; expected one of"):
        detector.detect(image, selective_search_mode="slow")
    with pytest.raises(InputError, match=r"path: .* holds no config.json of a training run, no"):
        ohem_tf.load(tmp_path)
    with pytest.raises(InputError, match="checkpoint: has no effect with an export"):
        ohem_tf.load(exported, checkpoint="best")
    with pytest.raises(InputError, match="nowhere"):
        ohem_tf.load(workdir, checkpoint="nowhere")
