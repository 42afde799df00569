"""R-FCN's head: its maps and outputs by hand, dilated backbones, training, saving, export."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf import boxes as box_ops
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError
from ohem_tf.hard_mining import HardMining
from ohem_tf.models import backbones, cutting
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.models.position_sensitive import PositionSensitiveHead
from ohem_tf.ps_roi_pooling import ps_roi_pool
from ohem_tf.sampling import HeuristicSampling
from ohem_tf.training.optimizer import CaffeSGD


def rfcn(sampler=None):
    keras.utils.set_random_seed(0)
    conv = tiny.backbone()
    head = PositionSensitiveHead(3, conv.channels, 3, (12,))
    head.set_target_statistics(np.zeros((4, 4)), np.full((4, 4), 0.2))
    return FastRCNN(conv, head, sampler)


def test_a_roi_has_the_mean_of_its_bins():
    model = rfcn()
    head, rng = model.roi_head, np.random.default_rng(0)
    for variable in head.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    image = rng.uniform(0, 255, (64, 96, 3)).astype(np.float32)
    rois = np.float32([[3, 5, 40, 60], [0, 0, 64, 96], [20, 30, 28, 39]])
    x = np.maximum(model.backbone(image[None]) @ head.convs[0].kernel[0, 0] + head.convs[0].bias, 0)
    logits = np.reshape(x @ head.cls_score.kernel[0, 0] + head.cls_score.bias, (1, 4, 6, 9, 4))
    deltas = np.reshape(x @ head.bbox_pred.kernel[0, 0] + head.bbox_pred.bias, (1, 4, 6, 9, 4))
    expected = []
    for maps in (logits, deltas):
        pooled = ps_roi_pool(maps.reshape(1, 4, 6, 36), rois, [0] * 3, 3, 16)
        expected.append(np.mean(pooled, axis=(1, 2)))
    scores, boxes = model.score_rois(model.image_features(image), rois, tf.constant(1.0))
    np.testing.assert_allclose(scores, tf.nn.softmax(expected[0]), atol=1e-5)
    for k in range(4):  # one box for all classes
        decoded = box_ops.decode(0.2 * expected[1], rois)
        np.testing.assert_allclose(boxes[:, k], decoded, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("sampler", [HardMining(16), HeuristicSampling(16)])
def test_it_learns(dataset, sampler):
    model = rfcn(sampler)
    model.compile(CaffeSGD(0.05, 0.9, 0.0))
    model.optimizer.build(model.trainable_variables)
    records = RecordReader(dataset, "train")
    batch = next(iter(TrainingStream(records, 2, 3, (64,), 96, "none").dataset()))
    before = [v.numpy() for v in model.trainable_variables]
    step = tf.function(model.train_step)
    logs = [step(batch) for _ in range(30)]
    assert float(logs[-1]["loss/hard"]) < float(logs[0]["loss/hard"])
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.abs(variable.numpy() - old).max() > 0, variable.path


def test_the_read_only_pass_reads_the_maps_of_the_regular_one():
    """OHEM adds no convolution: one layer of the head is called once an image."""
    calls = []
    model = rfcn(HardMining(16))
    layer = model.roi_head.cls_score
    original = layer.call
    layer.call = lambda x: (calls.append(1), original(x))[1]
    model.compile(CaffeSGD(0.01))
    model.optimizer.build(model.trainable_variables)
    record = tiny.make_record(3, 64, 96, objects=2)
    model.train_step(
        {
            "image": tf.cast(tf.io.decode_png(record.encoded), tf.float32)[None],
            "size": tf.constant([[64, 96]]),
            "scale": tf.constant([1.0]),
            "proposals": record.proposals[None],
            "proposals_mask": tf.ones([1, len(record.proposals)], tf.bool),
            "gt_boxes": record.boxes[None],
            "gt_classes": record.classes[None],
            "gt_mask": tf.ones([1, 2], tf.bool),
            "position": tf.constant([0], tf.int64),
        }
    )
    assert len(calls) == 1


def test_predictions_outlive_a_save_and_the_folding_of_the_normalisation(tmp_path):
    model = rfcn()
    image = np.random.default_rng(0).uniform(0, 255, (64, 96, 3)).astype(np.float32)
    rois = np.float32([[3, 5, 40, 60], [0, 0, 64, 96]])

    def predict(one):
        return one.score_rois(one.image_features(image), rois, tf.constant(1.0))

    expected = predict(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with model.roi_head.folded():
        folded = predict(model)
        np.testing.assert_array_equal(model.roi_head.target_std, 1)
    for found in (predict(loaded), folded):
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-4)


def small_resnet():
    images = keras.Input((None, None, 3))
    x = images
    for i in range(4):
        x = keras.layers.Conv2D(4, 3, 2, "same", name=f"down{i}")(x)
    short = keras.layers.Conv2D(6, 1, 2, name="short")(x)
    x = keras.layers.Conv2D(4, 1, 2, name="halve", activation="relu")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", name="wide")(x)
    return keras.Model(images, keras.layers.Add(name="sum")([x, short]))


def test_a_dilated_network_computes_between_the_cells_what_it_computed_on_them():
    network = small_resnet()
    dilated = cutting.dilate(network, "small")
    assert cutting.stride(dilated, dilated.output) == 16
    assert dilated.get_layer("wide").dilation_rate == (2, 2)
    image = np.random.default_rng(0).normal(size=(1, 160, 192, 3)).astype(np.float32)
    before, after = network(image).numpy(), dilated(image).numpy()
    assert after.shape == (1, 10, 12, 6)
    np.testing.assert_allclose(after[:, ::2, ::2], before, atol=1e-4)


@pytest.mark.slow
def test_resnet50_is_dilated_to_its_end():
    backbone, _ = backbones.build("ResNet50", "none", dilated=True)
    assert backbone.network.layers[-1].name == "conv5_block3_out"
    assert backbone.strides == (16,)
    assert backbone.channels == 2048


def test_what_cannot_be_dilated_is_refused():
    images = x = keras.Input((None, None, 3))
    for i in range(4):
        x = keras.layers.Conv2D(4, 3, 2, "same", name=f"down{i}")(x)
    with pytest.raises(InputError, match="does not end at stride 32"):
        cutting.dilate(keras.Model(images, x), "flat")
    with pytest.raises(InputError, match="layer pool of pooled halves the map"):
        cutting.dilate(keras.Model(images, keras.layers.MaxPooling2D(name="pool")(x)), "pooled")
