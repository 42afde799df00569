"""What TensorBoard is given; tests/resume_test.py: and that a training is none the other for it."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from PIL import Image

from ohem_tf import experiment
from ohem_tf.data.reader import RecordReader
from ohem_tf.evaluation import voc
from ohem_tf.inference.detection import Detections
from ohem_tf.inference.predict import Predictor
from ohem_tf.inference.roi_pictures import Mined
from ohem_tf.train import train
from ohem_tf.training import board, fixed_images
from ohem_tf.training.log import TrainingLog


def summaries(workdir):
    """{tag: {step: (plugin, value)}}; of a PR curve or a histogram its numbers."""
    found = {}
    for path in sorted((workdir / "tensorboard").iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.plugin_name
                array = tf.make_ndarray(value.tensor)
                found.setdefault(value.tag, {})[event.step] = (plugin, array)
    return found


@pytest.mark.slow
def test_a_training_shows_what_is_mined_in_its_images(dataset, tiny_backbone, tmp_path, capsys):
    settings = {"train.steps": 5, "train.eval_every": 4, "train.pictures_every": 2}
    train(tiny.config(dataset, **settings, **{"data.flip": "random"}), str(tmp_path))
    assert "no more pictures" not in capsys.readouterr().out
    found = summaries(tmp_path)
    records = RecordReader(dataset, "train")
    ids = {records.record(i).image_id: records.record(i) for i in range(len(records))}
    pictures = {tag: x for tag, x in found.items() if tag.removeprefix("rois/") in ids}
    assert len(pictures) == 4
    for steps in pictures.values():
        assert list(steps) == [2, 4, 5]
        plugin, (width, height, encoded) = steps[5]
        assert plugin == "images"
        with Image.open(io.BytesIO(encoded)) as picture:
            assert picture.size == (int(width), int(height))
            assert picture.format == "JPEG"
    every, hard = (found[f"roi_loss/{name}"][5][1] for name in ("all", "hard"))  # [bins, 3]
    rois = [len(x.proposals) + len(x.boxes) for n, x in ids.items() if f"rois/{n}" in pictures]
    assert every[:, 2].sum() == sum(rois)
    assert 0 < hard[:, 2].sum() <= 4 * 8  # B/N = 8
    assert hard[0, 0] > every[0, 0]  # the easiest was not selected
    shares = {tag: x[5][1] for tag, x in found.items() if tag.startswith("hard_rois/class/")}
    np.testing.assert_allclose(sum(shares.values()), found["hard_rois/foreground"][5][1], atol=1e-6)
    assert list(found["hard_rois/kept"]) == [4, 5]
    assert all(0 <= x <= 1 for _, x in found["hard_rois/kept"].values())
    assert list(found["pr/disc"]) == [4, 5]
    assert found["pr/disc"][5][0] == "pr_curves"


@pytest.fixture
def callback(dataset, tiny_backbone, tmp_path):
    """A callback of a model that was not trained, every step, and two images."""
    config = tiny.config(dataset)
    records = RecordReader(dataset, "train")
    model = experiment.build_model(config, len(tiny.CLASSES))
    model.compile(keras.optimizers.SGD(0.0))
    log = TrainingLog(str(tmp_path), 2, 1)
    detect = Predictor(model, experiment.detection_settings(config))
    made = board.Board(log, experiment.training_stream(config, records), detect, 1, 2, 0)
    made.set_model(model)
    return made


def test_what_fails_is_said_once_and_the_training_goes_on(callback, tmp_path, monkeypatch, capsys):
    def no_memory(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory\nat all")

    callback.on_train_begin()
    monkeypatch.setattr(fixed_images.FixedImages, "mined", no_memory)
    for step in range(3):
        callback.on_train_batch_end(step)
    callback.on_train_end()
    assert capsys.readouterr().out == "no more pictures in TensorBoard: no memory\n"
    assert "roi_loss/all" not in summaries(tmp_path)


def test_images_that_cannot_be_read_are_left_out(callback, monkeypatch, capsys):
    monkeypatch.setattr(board, "FixedImages", lambda *_: 1 / 0)
    callback.on_train_begin()
    callback.on_train_batch_end(0)
    callback.on_train_end()
    assert capsys.readouterr().out == "no more pictures in TensorBoard: division by zero\n"


def test_the_nms_is_said_to_have_removed_what_is_harder_and_not_selected(callback):
    callback.on_train_begin()
    for found in callback._images.mined(step=0):
        least = min(found.losses[i] for i in found.selected)
        expected = [i for i, x in enumerate(found.losses) if x > least and i not in found.selected]
        assert found.left_out.tolist() == expected
        assert len(expected) > 0


def mined(boxes, selected):
    boxes = np.float32(boxes)
    some = np.zeros(len(boxes), np.int32)
    return Mined(boxes, some, some.astype(np.float32), np.int32(selected), some[:0])


def test_the_share_that_was_selected_before_by_hand():
    """In the first image one of two stays and one has moved by a pixel; in the other none stays."""
    before = [
        mined([[0, 0, 10, 10], [0, 20, 10, 30], [50, 50, 60, 60]], [0, 1]),
        mined([[0, 0, 10, 10]], [0]),
    ]
    now = [
        mined([[0, 0, 10, 10], [0, 21, 10, 31], [50, 50, 60, 60]], [0, 1, 2]),
        mined([[0, 5, 10, 15]], [0]),
    ]
    assert board.share_kept(before, now) == pytest.approx(2 / 4)
    empty = [mined(np.zeros((0, 4)), [])]
    assert board.share_kept(empty, empty) == 0.0
    assert board.share_kept(empty, now[1:]) == 0.0


def test_a_pr_curve_by_hand():
    """Three objects; hits at 0.9 and 0.5, a false one at 0.7."""
    found = board.curve_values(
        voc.Matched(
            images=np.array([0, 0, 1]),
            hits=np.array([True, False, True]),
            scores=np.array([0.9, 0.7, 0.5]),
            objects=np.array([2, 1]),
        )
    )
    assert found.shape == (6, 101)
    expected = {  # score: true, false, -, missed, precision, recall
        0: (2, 1, 0, 1, 2 / 3, 2 / 3),
        50: (2, 1, 0, 1, 2 / 3, 2 / 3),
        51: (1, 1, 0, 2, 1 / 2, 1 / 3),
        71: (1, 0, 0, 2, 1, 1 / 3),
        90: (1, 0, 0, 2, 1, 1 / 3),
        91: (0, 0, 0, 3, 0, 0),
        100: (0, 0, 0, 3, 0, 0),
    }
    for place, values in expected.items():
        np.testing.assert_allclose(found[:, place], values, rtol=1e-6, err_msg=str(place))


def test_pr_curves_are_of_classes_with_objects(tmp_path):
    truth = [{"boxes": [[0, 0, 9, 9]], "classes": [2], "difficult": [False]}]
    truth = [{name: np.array(x) for name, x in image.items()} for image in truth]
    boxes, scores = np.float32([[0, 0, 9, 9], [0, 0, 5, 5]]), np.float32([0.5, 0.005])
    found = [Detections(boxes, scores, np.int32([2, 1]))._asdict()]
    log = TrainingLog(str(tmp_path), 2, 1)
    board.write_curves(log, 7, truth, found, ("cat", "a dog"), 0.5)
    (tag,) = summaries(tmp_path)
    assert tag == "pr/a dog"
    plugin, values = summaries(tmp_path)[tag][7]
    assert plugin == "pr_curves"
    np.testing.assert_array_equal(values[5], np.arange(101) <= 50)
