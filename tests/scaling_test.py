"""benchmarks.scaling: which images meet which device, and the bytes that are exchanged."""

import pytest
import tensorflow as tf
import tiny

from benchmarks import scaling
from ohem_tf.models.fast_rcnn import FastRCNN


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_backbone")
def test_the_images_of_a_step_are_shared(dataset, monkeypatch):
    config = tiny.config(dataset, **{"train.images_per_step": 2})
    met, step = [], FastRCNN.train_step

    def train_step(model, batch):
        replica = tf.distribute.get_replica_context()
        met.append((replica.num_replicas_in_sync, batch["image"].shape[0]))
        return step(model, batch)

    monkeypatch.setattr(FastRCNN, "train_step", train_step)
    seconds, gradients = scaling.measure(config, ["CPU:0", "CPU:1"], proposals=10, repeats=2)
    assert [len(values) for values in seconds.values()] == [2, 2, 2]
    names = ["1 device, 2 images", "2 devices, 2 images", "1 device, 1 images"]
    assert list(seconds) == names
    assert sorted(met) == [(1, 1), (1, 2), (2, 1), (2, 1)]  # each traced once
    # conv2 to conv4 of 8 channels (conv1 is frozen), fc of 3 x 3 x 8 to 16 to 16, 21 outputs and
    # their boxes.
    weights = 3 * (9 * 8 * 8 + 8) + (72 * 16 + 16) + (16 * 16 + 16) + 5 * (16 * 21 + 21)
    assert gradients == 4 * weights
    seconds = dict(zip(names, ([4.0, 4.0], [2.0, 3.0], [2.0, 2.0]), strict=True))
    page = scaling.page(seconds, {"rounds": 2}, "# Title")
    assert "| 1 device, 2 images | 4.000 | 0.62 | 0.50 to 0.75 |" in page
    assert "| 1 device, 1 images | 2.000 | 1.25 | 1.00 to 1.50 |" in page
