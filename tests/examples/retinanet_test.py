"""examples/retinanet.py: the loss of the hard anchors in numpy, and a short training."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from by_hand import iou
from command_line import run

import ohem_tf

pytest.importorskip("keras_hub", reason="needs the extra [hub]")

import keras_hub

from examples import retinanet


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return retinanet.build(3)


@pytest.fixture(scope="module")
def batch(dataset):
    records = ohem_tf.RecordReader(dataset, "train")
    return next(iter(retinanet.examples(records, 8)))


def test_examples_have_boxes_in_their_pixels(dataset, batch):
    images, y = batch
    assert images.shape == (8, 256, 256, 3)
    assert float(tf.reduce_max(images)) <= 1
    records = ohem_tf.TrainingStream(ohem_tf.RecordReader(dataset, "train"), 8, 0, (192,), 256)
    expected = next(iter(records.dataset()))
    for i in range(8):
        count = int(np.sum(expected["gt_mask"][i]))
        boxes, labels = y["boxes"][i].numpy(), y["labels"][i].numpy()
        scaled = expected["gt_boxes"][i, :count] * expected["scale"][i]
        np.testing.assert_allclose(boxes[:count], scaled, rtol=1e-5)
        assert labels[:count].tolist() == (expected["gt_classes"][i, :count] - 1).numpy().tolist()
        assert np.all(boxes[count:] == -1)
        assert len(boxes) > count
        assert np.all(labels[count:] == -1)


def test_the_loss_is_the_mean_of_the_hard_anchors(model, batch):
    x, y = batch
    y_pred = model(x)
    losses, labels = (v.numpy() for v in model.anchor_losses(x, y, y_pred))
    anchors = np.concatenate([v.numpy() for v in model.anchor_generator(x).values()])
    assert losses.shape == (8, len(anchors))
    logits = y_pred["cls_logits"].numpy().astype(np.float64)
    total, count = 0.0, 0
    for i in range(8):
        foreground = labels[i] >= 0
        classes = np.eye(3)[labels[i].astype(int)] * foreground[:, None]
        entropy = np.sum(np.log1p(np.exp(logits[i])) - classes * logits[i], axis=1)
        background = labels[i] == -1
        np.testing.assert_allclose(losses[i][background], entropy[background], atol=1e-4)
        assert np.all(losses[i][foreground] >= entropy[foreground] - 1e-4)
        kept = []
        for k in np.argsort(-losses[i], kind="stable"):
            if labels[i, k] == -2 or len(kept) == 128:
                continue
            if all(iou(anchors[k], anchors[other]) <= 0.7 for other in kept):
                kept.append(k)
        total, count = total + losses[i][kept].sum(), count + len(kept)
    assert (labels >= 0).any()
    found = model.compute_loss(x, y, y_pred)
    assert float(found) == pytest.approx(total / count, rel=1e-4)


@pytest.mark.slow
def test_the_loss_falls_on_a_preset(dataset, tmp_path):
    preset = str(tmp_path / "preset")
    keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 8, 8, 8],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    ).save_to_preset(preset)
    arguments = [f"--records={dataset}", f"--preset={preset}", "--images_per_step=2"]
    done = run("examples.retinanet", *arguments, "--epochs=3", "--steps=4")
    assert done.returncode == 0, done.stderr
    losses = [float(x) for x in re.findall(r" loss: (\S+)", done.stdout)]
    assert len(losses) == 3
    assert losses[2] < losses[0], done.stdout
    done = run("examples.retinanet", "--records=nowhere")
    assert done.returncode == 1
    assert "nowhere" in done.stderr.splitlines()[-1]
