"""The scripts that look at what OHEM selects: candidates, hard_set and nms_on_losses."""

from dataclasses import replace

import command_line
import numpy as np
import pytest
import tiny
from PIL import Image

from benchmarks import candidates, hard_set
from benchmarks.trained import Trained
from ohem_tf import experiment
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import from_example
from ohem_tf.errors import InputError
from ohem_tf.workdir import save_config, save_weights

pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture
def trained(tmp_path):
    """A model with OHEM, four hard RoIs of an image, and images whose last object is difficult."""
    images = [tiny.make_record(i, 90, 110, objects=1 + i % 3) for i in range(8)]
    difficult = [np.arange(len(image.boxes)) == len(image.boxes) - 1 for image in images]
    images = [replace(i, difficult=d) for i, d in zip(images, difficult, strict=True)]
    dataset = tiny.write_dataset(tmp_path, {"train": images, "val": images[:1]})
    config = tiny.config(dataset, **{"train.rois_per_step": 8, "head.pool_size": 5})
    workdir, weights = str(tmp_path), str(tmp_path / "model.weights.h5")
    save_config(config, {}, tiny.CLASSES, workdir)
    save_weights(experiment.build_model(config, len(tiny.CLASSES), load_weights=False), weights)
    found = Trained(workdir)
    found.restore(weights)
    return found


def test_candidates_agree_when_all_rois_are_candidates(trained):
    found = candidates.agreement(trained, [1, 1000], trained.batches(100))
    assert found.alike.shape == (8, 2)  # all images, though a step would take two
    some, everything = found.alike.T
    assert np.all((some >= 0) & (some <= 1))
    assert np.all(everything == 1.0)
    assert trained.hard_mining().rois_per_image == 4
    assert np.all((found.depth >= 4) & (found.depth <= found.rois))


def test_figures_of_a_selection_by_hand():
    """Five RoIs: the hardest, a copy of it that the NMS removed, two more, and an easy one."""
    image = {
        "boxes": np.float32([[0, 0, 9, 9], [0, 0, 9, 9], [0, 20, 9, 29], [30, 30, 40, 40]] * 2)[:5],
        "losses": np.float32([5, 4, 3, 2, 1]),
        "labels": np.array([0, 0, 2, 0, 0]),
        "selected": np.array([0, 2, 3]),
        "difficult": np.float32([[0, 0, 9, 8], [90, 90, 99, 99]]),
    }
    before = [{"selected": np.array([0, 4])}]
    found = hard_set.figures([image], before, fg_iou=0.5)
    assert found == {
        "selected": 3,
        "fg": pytest.approx(100 / 3),
        "fg_all": pytest.approx(20),
        "removed": 1,
        "loss_share": pytest.approx(100 * 10 / 15),
        "difficult": pytest.approx(50),  # of the two that are background, the first
        "kept": pytest.approx(100 / 3),
    }
    assert hard_set.figures([image], None, fg_iou=0.5)["kept"] is None


def test_measures_every_image(trained):
    found = hard_set.measure(trained.model, trained.hard_mining(), trained.batches(3))
    assert len(found) == 3
    for image in found:
        assert image["losses"][image["selected"][0]] == image["losses"].max()
        assert len(image["selected"]) <= 4 < len(image["boxes"]) == len(image["labels"])


def test_difficult_objects_are_those_of_the_images_in_the_order_of_the_stream(trained):
    records = [from_example(trained.records[index]) for index in range(8)]
    found = trained.difficult(100)
    for batch, boxes in zip(trained.batches(100), found, strict=True):
        count = batch["proposals_mask"].numpy().sum()
        (record,) = [
            record
            for record in records
            if len(record.proposals) == count
            and np.array_equal(record.proposals, batch["proposals"][0, :count])
        ]
        np.testing.assert_array_equal(boxes, record.boxes[record.difficult])
    assert sum(map(len, found)) == 8


def test_another_sampler_is_refused(dataset, tmp_path):
    config = tiny.config(dataset, sampler="heuristic")
    save_config(config, {}, RecordReader(str(dataset), "train").classes, str(tmp_path))
    with pytest.raises(InputError, match="was not trained with the paper's OHEM"):
        Trained(str(tmp_path)).hard_mining()


def test_the_nms_on_losses_is_drawn(trained, tmp_path):
    assert len(trained.records) == 8
    given = (f"--workdir={tmp_path}", f"--checkpoint={tmp_path}/model.weights.h5")
    path = tmp_path / "nms.png"
    done = command_line.run("docs.scripts.nms_on_losses", *given, "--image=1", f"--output={path}")
    assert done.returncode == 0, done.stderr
    assert "the 4 selected are among the " in done.stdout
    assert np.ptp(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0).min() > 200
    done = command_line.run("docs.scripts.nms_on_losses", *given, "--image=8", f"--output={path}")
    assert done.stderr.splitlines()[-1] == "error: --image: a number from 0 to 7"
