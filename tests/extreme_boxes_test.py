"""Boxes at the edge of what there is: everything that trains and detects stays finite.

One pixel, the whole image, 1:100 and outside by a hair, as ground truth and as proposals, all at
once or alone.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ohem_tf import boxes as box_ops
from ohem_tf.hard_mining import HardMining, select_hard_rois
from ohem_tf.inference.detection import vote
from ohem_tf.losses import roi_losses
from ohem_tf.matching import match
from ohem_tf.models.replay import replay
from ohem_tf.nms import Candidates, gaussian, hard
from ohem_tf.roi_pooling import roi_align, roi_max_pool
from ohem_tf.training.optimizer import CaffeSGD

HEIGHT, WIDTH = 64, 100
HAIR = 1e-3
EXAMPLES = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def box(ymin, xmin, height, width):
    return [ymin, xmin, ymin + height, xmin + width]


def positions(height, width):
    """Where a box of this size lies within the image."""
    return st.tuples(st.floats(0, HEIGHT - height), st.floats(0, WIDTH - width)).map(
        lambda corner: box(*corner, height, width)
    )


hairs = st.sampled_from([-HAIR, -1e-6, 0.0, 1e-6, HAIR])
extreme = st.one_of(
    positions(1, 1),
    st.just(box(0, 0, HEIGHT, WIDTH)),
    positions(1, 100),
    positions(64, 0.64),
    st.tuples(hairs, hairs, hairs, hairs).map(lambda d: [d[0], d[1], HEIGHT + d[2], WIDTH + d[3]]),
    hairs.map(lambda d: box(HEIGHT - 1 + d, WIDTH - 1 + d, 1, 1)),
)


def several(least, most):
    return st.lists(extreme, min_size=least, max_size=most).map(
        lambda rows: np.array(rows, np.float32).reshape(-1, 4)
    )


def assert_finite(values):
    for value in tf.nest.flatten(values):
        assert np.isfinite(np.asarray(value)).all()


@EXAMPLES
@given(several(0, 6), several(1, 20), st.floats(0.3, 20))
def test_matching_losses_and_pooling(gt_boxes, rois, scale):
    """As in a training step, with an image that is resized by `scale`."""
    found = match(rois, gt_boxes, np.ones(len(gt_boxes), np.int32))
    back = box_ops.decode(found.targets, rois)
    covered = np.flatnonzero(found.labels)
    np.testing.assert_allclose(
        back.numpy()[covered], gt_boxes[found.gt.numpy()[covered]], atol=1e-3
    )
    logits, deltas = tf.zeros([len(rois), 2]), tf.Variable(tf.zeros([len(rois), 2, 4]))
    with tf.GradientTape() as tape:
        losses = roi_losses(logits, deltas, found.labels, found.targets)
        loss = tf.reduce_sum(losses.ranking)
    assert_finite([*found, *losses, tape.gradient(loss, deltas)])

    windows, ids = box_ops.scale(rois, scale), np.zeros(len(rois), np.int32)
    maps = tf.Variable(tf.random.stateless_normal([1, 5, 8, 3], [1, 2]))
    for pool in (roi_max_pool, roi_align):
        with tf.GradientTape() as tape:
            pooled = pool(maps, windows, ids, 3, 16)
            loss = tf.reduce_sum(pooled)
        assert_finite([pooled, tape.gradient(loss, maps)])


@EXAMPLES
@given(several(1, 20), st.data())
def test_suppression_and_voting(boxes, data):
    """Of a voted box every edge lies between those of its neighbours."""
    numbers = st.floats(0, 1, width=32)
    scores = np.float32(data.draw(st.lists(numbers, min_size=len(boxes), max_size=len(boxes))))
    kept = select_hard_rois(boxes, scores, 8).numpy()
    assert 1 <= len(set(kept)) == len(kept) <= 8
    classes = np.ones(len(boxes), np.int32)
    candidates = Candidates(tf.constant(boxes), tf.constant(scores), tf.constant(classes))
    for found in (hard(candidates, 0.3, 100), gaussian(candidates, 0.5, 0.0, 100)):
        assert_finite(found)
        assert len(found.boxes) >= 1
        voted = vote(found.boxes, boxes, scores).numpy()
        assert_finite(voted)
        near = box_ops.iou(found.boxes, boxes).numpy() >= 0.5
        for result, own, mine in zip(voted, found.boxes.numpy(), near, strict=True):
            edges = np.concatenate([own[None], boxes[mine]])
            assert (edges.min(axis=0) - 1e-3 <= result).all()
            assert (result <= edges.max(axis=0) + 1e-3).all()


@pytest.fixture(scope="module")
def step():
    """A training step on one image: what it reports; the model keeps what it learns."""
    model = tiny.model(HardMining(rois_per_image=8))
    model.compile(CaffeSGD(0.01))
    model.optimizer.build(model.trainable_variables)
    shapes = {"image": [1, HEIGHT, WIDTH, 3], "size": [1, 2], "scale": [1]}
    shapes |= {"proposals": [1, None, 4], "proposals_mask": [1, None]}
    shapes |= {"gt_boxes": [1, None, 4], "gt_classes": [1, None], "gt_mask": [1, None]}
    types = {"size": tf.int32, "gt_classes": tf.int32, "position": tf.int64}
    types |= {"proposals_mask": tf.bool, "gt_mask": tf.bool}
    signature = {
        name: tf.TensorSpec(shape, types.get(name, tf.float32))
        for name, shape in {**shapes, "position": [1]}.items()
    }
    return model, tf.function(model.train_step, input_signature=[signature])


def batch_of(gt_boxes, proposals, position):
    rng = np.random.default_rng(position)
    return {
        "image": tf.constant(rng.uniform(0, 255, (1, HEIGHT, WIDTH, 3)), tf.float32),
        "size": tf.constant([[HEIGHT, WIDTH]]),
        "scale": tf.constant([1.0]),
        "proposals": tf.constant(proposals[None]),
        "proposals_mask": tf.ones([1, len(proposals)], tf.bool),
        "gt_boxes": tf.constant(gt_boxes[None]),
        "gt_classes": tf.constant(1 + np.arange(len(gt_boxes), dtype=np.int32)[None] % 3),
        "gt_mask": tf.ones([1, len(gt_boxes)], tf.bool),
        "position": tf.constant([position], tf.int64),
    }


@pytest.mark.slow
@EXAMPLES
@given(several(0, 4), several(1, 12), st.integers(0, 1000))
def test_a_training_step_forward_and_backward(step, gt_boxes, proposals, position):
    model, train_step = step
    found = train_step(batch_of(gt_boxes, proposals, position))
    assert_finite(list(found.values()))
    assert_finite([variable.numpy() for variable in model.variables])


def test_a_replayed_step_has_the_losses_of_the_step():
    """What debug_step looks at, against what train_step reports, with dropout."""
    model = tiny.model(HardMining(rois_per_image=8))
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    boxes = np.float32([box(10, 10, 30, 40), box(0, 0, 1, 1), box(5, 20, 40, 30)])
    batch = batch_of(boxes[:2], np.concatenate([boxes, boxes + 4]), position=3)
    image = {name: value[0] for name, value in batch.items()}
    done = replay(model, image)
    found = model.train_step(batch)
    means = [tf.reduce_mean(x).numpy() for x in done.regular.losses]
    np.testing.assert_allclose(means, [found["cls"], found["box"]], rtol=1e-6)
    everything = tf.reduce_mean(done.read_only.losses.ranking)
    np.testing.assert_allclose(everything, found["loss/all_rois"], rtol=1e-6)
    assert not tf.size(done.regular.wrong)
