"""ohem_tf.report from workdirs to the page, with the model and without it."""

from __future__ import annotations

import re
import shutil

import command_line
import numpy as np
import pytest
import tiny
from evaluated import evaluated
from html_reader import Reader

from ohem_tf import experiment
from ohem_tf.checking.labels import Examined, Image
from ohem_tf.data.ground_truth import ground_truth
from ohem_tf.data.reader import RecordReader
from ohem_tf.evaluation.report import metrics
from ohem_tf.reporting import doubts
from ohem_tf.reporting.runs import read_runs
from ohem_tf.workdir import checkpoint_of

pytestmark = pytest.mark.usefixtures("tiny_backbone")


def report(*arguments):
    return command_line.run("ohem_tf.report", *arguments)


@pytest.fixture
def folder(dataset, tmp_path):
    """A workdir that was evaluated."""
    return evaluated(tmp_path / "ohem", dataset)


def with_weights(folder, dataset):
    """The checkpoint that made its detections, of a model that is not trained."""
    config = tiny.config(dataset)
    model = experiment.build_model(config, len(tiny.CLASSES))
    model.roi_head.set_target_statistics(np.zeros((4, 4)), np.full((4, 4), 0.2))
    checkpoint = checkpoint_of(model)
    checkpoint.save_counter.assign(3)
    assert checkpoint.save(f"{folder}/checkpoints/ckpt").endswith("ckpt-4")
    return folder


@pytest.mark.slow
def test_a_page_beside_a_baseline(folder, dataset, tmp_path):
    other = evaluated(tmp_path / "frcn", dataset)
    with_weights(folder, dataset)
    done = report(folder, other, "--loss_images=3", "--pictures=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{folder}/report.html: 0.")
    text = (tmp_path / "ohem/report.html").read_text()
    read = Reader(text)
    read.check_whole()
    (run, _), _ = read_runs([folder, other])
    truth = ground_truth(RecordReader(dataset, "val"))
    expected = metrics(truth, run.detections, tiny.CLASSES)["mAP"]
    assert f"<td>{100 * expected:.1f}</td>" in text
    assert "ohem +0.0 mAP against frcn: one seed each, an anecdote" in text
    assert "Of 3 images the model computed the loss of every RoI" in text
    # A model that knows nothing takes every object for something else.
    found = re.findall(r"(\d+) of (\d+), the highest losses first", text)
    assert sum(int(shown) for shown, _ in found) >= 3
    assert all(int(shown) <= 2 for shown, _ in found)


def test_without_the_model_and_with_records_that_have_moved(folder, dataset, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(dataset, moved)
    output = tmp_path / "pages/mine.html"
    done = report(folder, "--loss_images=0", f"--records={moved}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    read = Reader(output.read_text())
    read.check_whole()
    assert "They are those of the records." in "".join(read.text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: give WORKDIR"),
        (["{}/none"], "none cannot be read"),
        (["{}", "--output={}"], "--output: .* is a folder; give a file, ending .html"),
        (["{}", "--records={}", "--loss_images=0"], "there is no dataset.json in it"),
        (["{}"], "ckpt-4, which made its detections, is gone; evaluate again, or give --loss_imag"),
    ],
)
def test_bad_input_is_one_line(arguments, message, folder):
    done = report(*(argument.format(folder) for argument in arguments))
    assert done.returncode == 1
    assert re.search(message, done.stderr)
    assert done.stderr.count("\n") == 1


def test_records_of_other_images(dataset, tmp_path):
    ids = ["1", "2", "3", "4"]
    done = report(evaluated(tmp_path / "a", dataset, image_ids=ids), "--loss_images=0")
    assert "val does not hold the images" in done.stderr.splitlines()[-1]


def test_other_hard_rois_are_none_of_the_doubts():
    """Of three RoIs with a high loss one is a doubt, one lies on another, one is shown."""
    record = tiny.make_record(0, 96, 128, objects=1)
    box = record.boxes[0]
    rois = np.float32([box, box + 0.5, [0, 0, 8, 8], [80, 100, 90, 120]])
    examined = Examined(
        boxes=rois,
        labels=np.int32([record.classes[0], record.classes[0], 0, 0]),
        losses=np.float32([3, 5, 4, 0.5]),
        probabilities=np.float32([[0.1, 0.2, 0.3, 0.4]] * 4),
        annotated=1,
        proposals=rois[1:],
    )
    image = Image(examined, record, "val", tiny.CLASSES)
    chosen = list(doubts._others(image, {tuple(rois[2].tolist())}))
    assert [dict(finding.details)["loss"] for finding in chosen] == [5]
    (picture,) = chosen[0].pictures
    mark, beside = picture.marks
    assert mark.label == "bar 0.40"
    assert beside.beside
    np.testing.assert_array_equal(np.float32(beside.box), box)
