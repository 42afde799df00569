"""The region proposal network: its proposals and losses against numpy, and training with it."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf import boxes as box_ops
from ohem_tf.anchors import match_anchors
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.hard_mining import HardMining
from ohem_tf.models.batches import unbatch
from ohem_tf.models.rpn import Level, RegionProposalNetwork
from ohem_tf.settings import RPNSettings
from ohem_tf.training.optimizer import CaffeSGD

SETTINGS = RPNSettings(
    channels=4,
    anchor_scales=(2.0, 4.0),
    train_candidates=50,
    train_proposals=15,
    test_candidates=12,
    test_proposals=6,
    min_size=10.0,
    anchors_per_image=24,
)


def network(**changes):
    keras.utils.set_random_seed(1)
    made = RegionProposalNetwork(4, (16, 32), dataclasses.replace(SETTINGS, **changes))
    rng = np.random.default_rng(0)
    for variable in made.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    return made


def features():
    rng = np.random.default_rng(2)
    return [tf.constant(rng.normal(size=(1, h, w, 4)), tf.float32) for h, w in ((6, 8), (3, 4))]


def nms_by_hand(boxes, scores, count, threshold):
    overlaps, kept = box_ops.iou(boxes, boxes).numpy(), []
    for i in np.argsort(-scores, kind="stable"):
        if len(kept) < count and all(overlaps[i, j] <= threshold for j in kept):
            kept.append(i)
    return kept


def test_an_anchor_has_the_logit_and_the_box_of_its_place():
    rpn = network()
    fine, coarse = rpn(features())
    assert fine.logits.shape == (6 * 8 * 6,)
    assert coarse.anchors.shape == (3 * 4 * 6, 4)
    hidden = np.maximum(rpn.conv(features()[0]), 0)[0]  # [6, 8, 4]
    kernels = [layer.kernel.numpy()[0, 0] for layer in (rpn.cls_score, rpn.bbox_pred)]
    for y, x, a in ((0, 0, 0), (5, 7, 5), (2, 3, 4)):
        place = (y * 8 + x) * 6 + a
        logit = hidden[y, x] @ kernels[0][:, a] + rpn.cls_score.bias[a]
        np.testing.assert_allclose(fine.logits[place], logit, rtol=1e-4)
        mine = slice(4 * a, 4 * a + 4)
        deltas = hidden[y, x] @ kernels[1][:, mine] + rpn.bbox_pred.bias.numpy()[mine]
        np.testing.assert_allclose(fine.deltas[place], deltas, rtol=1e-4, atol=1e-6)
        centre = (fine.anchors[place, :2] + fine.anchors[place, 2:]) / 2
        np.testing.assert_allclose(centre, [16 * y + 8, 16 * x + 8], atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_proposals_are_those_of_numpy(training):
    rpn, scale = network(), 1.25
    predicted = rpn(features())
    candidates, count = (50, 15) if training else (12, 6)
    boxes, logits = [], []
    for level in predicted:
        best = np.argsort(-level.logits.numpy(), kind="stable")[:candidates]
        decoded = box_ops.decode(level.deltas.numpy()[best], level.anchors.numpy()[best]).numpy()
        decoded = np.clip(decoded, 0, [90, 120, 90, 120])
        large = np.all(decoded[:, 2:] - decoded[:, :2] >= 10 * scale, axis=1)
        decoded, scores = decoded[large], level.logits.numpy()[best][large]
        kept = nms_by_hand(decoded, scores, count, 0.7)
        boxes.append(decoded[kept])
        logits.append(scores[kept])
    boxes, logits = np.concatenate(boxes), np.concatenate(logits)
    expected = boxes[np.argsort(-logits, kind="stable")[:count]]
    found = rpn.boxes(predicted, tf.constant([90, 120]), tf.constant(scale), training)
    assert len(found) == count
    again = np.minimum(box_ops.scale(found, scale), [90, 120, 90, 120])
    np.testing.assert_allclose(again, expected, atol=1.3 * (scale - 1))  # clipped to the original
    inside = np.all(expected[:, 2:] < [88, 118], axis=1)
    np.testing.assert_allclose(again[inside], expected[inside], atol=1e-3)
    assert inside.any()
    assert np.all(found >= 0)
    assert np.all(found[:, 2:] <= [90 / scale + 1e-4, 120 / scale + 1e-4])


def image(**changes):
    return {
        "image": tf.zeros([90, 120, 3]),
        "scale": tf.constant(1.25),
        "gt_boxes": tf.constant([[10.0, 10, 40, 50], [50, 60, 70, 90]]),
        "gt_classes": tf.constant([1, 2]),
        **changes,
    }


def losses_by_hand(levels, chosen, inside):
    logits, deltas, anchors = (np.concatenate(x) for x in zip(*levels, strict=True))
    gt_boxes = box_ops.scale(image()["gt_boxes"], 1.25)
    keep = np.all(anchors[:, :2] >= 0, axis=1) & np.all(anchors[:, 2:] <= [90, 120], axis=1)
    keep = keep if inside else np.ones(len(anchors), bool)
    logits, deltas, anchors = logits[keep], deltas[keep], anchors[keep]
    labels, targets = match_anchors(anchors, gt_boxes)
    labels = labels.numpy()[chosen]
    cls = np.where(labels == 1, np.log1p(np.exp(-logits[chosen])), np.log1p(np.exp(logits[chosen])))
    x = np.abs(deltas - targets)[chosen]
    box = np.where(x < 1 / 9, 4.5 * x**2, x - 1 / 18).sum(axis=1) * (labels == 1)
    return cls.mean(), box.mean()


@pytest.mark.parametrize("hard_mining", [False, True])
@pytest.mark.parametrize("inside_only", [False, True])
def test_losses_are_those_of_the_release(inside_only, hard_mining):
    rpn = network(inside_only=inside_only, hard_mining=hard_mining)
    predicted, selections = rpn(features()), []

    def select(*args):
        selections.append(RegionProposalNetwork.select(rpn, *args))
        return selections[-1]

    rpn.select = select
    found = rpn.losses(predicted, image(), tf.constant([1, 2]))
    levels = [Level(*(x.numpy() for x in level)) for level in predicted]
    cls, box = losses_by_hand(levels, selections[0].numpy(), inside_only)
    assert float(found["rpn_cls"]) == pytest.approx(cls, rel=1e-4)
    assert float(found["rpn_box"]) == pytest.approx(box, rel=1e-4)


def test_random_anchors_are_half_objects_at_most():
    labels = tf.constant([1] * 30 + [0] * 40 + [-1] * 30)
    rpn = network()
    for seed in range(5):
        chosen = rpn.select(tf.zeros([100, 4]), labels, tf.zeros([100]), tf.constant([0, seed]))
        found = np.bincount(labels.numpy()[chosen], minlength=2)
        assert found.tolist() == [12, 12]
        assert len(set(chosen.numpy())) == 24
    few = tf.constant([1] * 3 + [0] * 40 + [-1] * 57)
    chosen = rpn.select(tf.zeros([100, 4]), few, tf.zeros([100]), tf.constant([0, 0]))
    assert np.bincount(few.numpy()[chosen]).tolist() == [21, 3]


def test_hard_anchors_have_the_highest_losses_and_do_not_overlap():
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 60, (80, 2))
    anchors = np.concatenate([corners, corners + rng.uniform(20, 40, (80, 2))], axis=1)
    losses, labels = rng.uniform(size=80), rng.integers(-1, 2, 80)
    rpn = network(hard_mining=True)
    chosen = rpn.select(tf.constant(anchors, tf.float32), labels, losses, None).numpy()
    valid = np.flatnonzero(labels >= 0)
    kept = nms_by_hand(np.float32(anchors)[valid], losses[valid], 24, 0.7)
    np.testing.assert_array_equal(chosen, valid[kept])


@pytest.mark.parametrize("gt_boxes", [np.zeros((0, 4)), [[1000.0, 1000, 1001, 1001]]])
def test_an_image_whose_anchors_match_nothing_teaches_background(gt_boxes):
    found = network().losses(
        network()(features()),
        image(gt_boxes=tf.reshape(tf.constant(gt_boxes, tf.float32), [-1, 4])),
        tf.constant([0, 0]),
    )
    assert float(found["rpn_cls"]) > 0
    assert float(found["rpn_box"]) == 0


def stream(dataset, images_per_step=2):
    records = RecordReader(dataset, "train")
    return TrainingStream(records, images_per_step, 3, (48, 64), 96, "random")


def compiled(**kwargs):
    model = tiny.faster_rcnn(HardMining(rois_per_image=16), **kwargs)
    model.compile(CaffeSGD(0.02, 0.9, 0.0005))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("pyramid", [False, True])
def test_both_networks_learn_in_one_step(dataset, pyramid):
    model = compiled(pyramid=pyramid, inside_only=not pyramid)  # few fit in on the coarsest map
    batch = next(iter(stream(dataset).dataset()))
    before = [v.numpy() for v in model.trainable_variables]
    step = tf.function(model.train_step)
    logs = [step(batch) for _ in range(12)]
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.abs(variable.numpy() - old).max() > 0, variable.path
    for name in ("rpn_cls", "rpn_box", "loss/hard"):
        assert float(logs[-1][name]) < float(logs[0][name]), name


def test_no_gradient_flows_through_the_boxes_of_proposals(dataset):
    """The loss of the RoI network does not train the RPN (Ren et al., section 3.2)."""
    model = compiled()
    model.proposer.losses = lambda *_: {}
    image = unbatch(next(iter(stream(dataset).dataset())))[0]
    gradients = model._image_step(image, 1)[0]
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert (gradient is None) == variable.path.startswith("rpn/"), variable.path


def test_its_proposals_enter_the_step_beside_the_ground_truth(dataset):
    model = compiled()
    image = unbatch(next(iter(stream(dataset).dataset())))[0]
    features = model.image_features(image["image"])
    rois = model.training_rois(image, features)
    count = len(image["gt_boxes"])
    np.testing.assert_array_equal(rois.boxes[:count], image["gt_boxes"])
    size = tf.shape(image["image"])[:2]
    predicted = model.proposer(features)
    own = model.proposer.boxes(predicted, size, image["scale"], training=True)
    np.testing.assert_array_equal(rois.boxes[count:], own)


def test_two_replicas_learn_as_one(dataset):
    found = []
    for devices in (1, 2):
        with tiny.mirrored(devices).scope():
            model = compiled(pyramid=True)
        distributed = tf.distribute.get_strategy() if devices == 1 else model.distribute_strategy
        batches = iter(stream(dataset).dataset(replicas=devices))
        for _ in range(2):
            if devices == 1:
                model.train_step(next(batches))
            else:
                parts = [next(batches) for _ in range(devices)]
                values = distributed.experimental_distribute_values_from_function(
                    lambda context, parts=parts: parts[context.replica_id_in_sync_group]
                )
                distributed.run(tf.function(model.train_step), (values,))
        found.append([v.numpy() for v in model.trainable_variables])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_an_image_smaller_than_a_stride_is_one_cell():
    model = tiny.faster_rcnn(pyramid=True)
    features = model.image_features(tf.zeros([9, 11, 3]))
    assert [x.shape[1:3] for x in features] == [(3, 3), (2, 2), (1, 1), (1, 1)]
    found = model.propose(features, tf.constant([9, 11]), tf.constant(1.0))
    assert np.all(found[:, 2:] <= [9, 11])


def test_a_saved_model_proposes_the_same(tmp_path):
    model = tiny.faster_rcnn(pyramid=True)
    for variable in model.proposer.trainable_variables:
        variable.assign(variable + 0.1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not loaded.needs_proposals
    picture = tf.random.stateless_uniform([64, 80, 3], [0, 1], 0.0, 255.0)
    size, scale = tf.constant([64, 80]), tf.constant(0.8)
    found = [m.propose(m.image_features(picture), size, scale) for m in (model, loaded)]
    assert len(found[0]) > 0
    np.testing.assert_allclose(*found, atol=1e-4)
