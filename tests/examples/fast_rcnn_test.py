"""examples/fast_rcnn.py: its parts by hand, and a short training on the tiny data set."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from by_hand import iou, random_boxes
from command_line import run

from examples import fast_rcnn
from ohem_tf import boxes


def test_overlaps_and_targets_are_those_of_the_package():
    rng = np.random.default_rng(0)
    rois, gt = random_boxes(rng, 30), random_boxes(rng, 4)
    padded, classes = np.concatenate([gt, np.zeros((2, 4), np.float32)]), [1, 2, 3, 1, 0, 0]
    found = fast_rcnn.pairwise_iou(rois[None], gt[None])[0]
    expected = np.array([[iou(roi, box) for box in gt] for roi in rois])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    labels, targets = fast_rcnn.match(tf.constant(rois[None]), padded[None], [classes])
    near = expected.max(axis=1) >= 0.5
    nearest = expected.argmax(axis=1)
    assert near.any()
    assert labels[0].numpy().tolist() == np.where(near, np.array(classes)[nearest], 0).tolist()
    wanted = boxes.encode(gt[nearest], rois) / [0.1, 0.1, 0.2, 0.2]
    np.testing.assert_allclose(targets[0][near], wanted[near], atol=1e-4)


def test_an_image_without_objects_is_background():
    labels, _ = fast_rcnn.match(tf.ones([1, 3, 4]), tf.zeros([1, 0, 4]), tf.zeros([1, 0], tf.int32))
    assert labels.numpy().tolist() == [[0, 0, 0]]


@pytest.mark.slow
def test_the_losses_fall(dataset):
    how = "--rois_per_image=12", "--epochs=3", "--steps=25"
    done = run("examples.fast_rcnn", f"--records={dataset}", *how)
    assert done.returncode == 0, done.stderr
    for name in ("loss", "loss_all"):
        losses = [float(x) for x in re.findall(rf" {name}: (\S+)", done.stdout)]
        assert len(losses) == 3
        assert losses[2] < losses[0], done.stdout
    done = run("examples.fast_rcnn", "--records=nowhere")
    assert "error: --records: nowhere/dataset.json is missing" in str(done.returncode)


def test_it_is_short_and_takes_the_miner_alone_from_the_package():
    text = pathlib.Path(fast_rcnn.__file__).read_text()
    assert len(text.splitlines()) <= 150
    assert re.findall(r"^(?:from|import) ohem_tf.*", text, re.MULTILINE) == [
        "from ohem_tf import OnlineHardExampleMiner"
    ]
