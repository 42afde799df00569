"""OnlineHardExampleMiner against an NMS in numpy, and in other people's Keras models."""

import doctest

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import ohem_tf
from ohem_tf import miner as module
from ohem_tf.errors import InputError
from ohem_tf.miner import OnlineHardExampleMiner


def overlaps(box, boxes):
    """IoU of a box with [R, 4] boxes, in float64."""
    box, boxes = np.float64(box), np.float64(boxes)
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.where(shared > 0, shared / np.where(shared > 0, areas - shared, 1), 0)


def hardest(boxes, losses, count, threshold, labels=None, valid=None):
    """Greedy NMS with a vector of those still alive."""
    alive = np.ones(len(losses), bool) if valid is None else valid.copy()
    kept = []
    for i in np.argsort(-np.where(np.isnan(losses), np.inf, losses), kind="stable"):
        if alive[i] and len(kept) < count:
            kept.append(int(i))
            if threshold is not None:
                rivals = True if labels is None else labels == labels[i]
                alive &= ~((overlaps(boxes[i], boxes) > threshold) & rivals)
    return kept


def examples(rng, *shape):
    """Boxes of integers, many overlapping, and losses of float16 with ties, NaN and infinity."""
    corners = rng.integers(0, 12, (*shape, 2))
    boxes = np.concatenate([corners, corners + rng.integers(5, 20, (*shape, 2))], axis=-1)
    losses = rng.integers(0, 30, shape).astype(np.float16)
    losses[losses == 29], losses[losses == 28] = np.nan, np.inf
    return boxes.astype(np.float32), losses


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 3),
    st.integers(0, 40),
    st.integers(1, 12),
    st.sampled_from([None, 0.0, 0.4, 0.7]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_equals_an_nms_in_numpy(seed, images, count, most, threshold, labelled, masked, shared):
    rng = np.random.default_rng(seed)
    boxes, losses = examples(rng, images, count)
    labels = rng.integers(0, 3, (images, count)) if labelled and threshold is not None else None
    valid = rng.integers(0, 2, (images, count)).astype(bool) if masked else None
    boxes = examples(rng, count)[0] if shared else boxes
    miner = OnlineHardExampleMiner(most, threshold)
    mask = miner.mask(boxes, losses, labels, valid).numpy()
    indices, filled = (x.numpy() for x in miner.padded_indices(boxes, losses, labels, valid))
    assert mask.shape == (images, count)
    assert mask.dtype == filled.dtype == bool
    assert indices.shape == filled.shape == (images, min(most, count))
    assert indices.dtype == np.int32
    for i in range(images):
        parts = [None if x is None else x[i] for x in (labels, valid)]
        own = boxes if shared else boxes[i]
        expected = hardest(own, losses[i], most, threshold, *parts)
        assert np.flatnonzero(mask[i]).tolist() == sorted(expected)
        assert indices[i, filled[i]].tolist() == expected
        assert not indices[i, len(expected) :].any()
        assert miner.indices(own, losses[i], *parts).numpy().tolist() == expected
        assert np.array_equal(miner.mask(own, losses[i], *parts), mask[i])


def test_without_nms_boxes_are_not_needed():
    miner = OnlineHardExampleMiner(2, None)
    assert miner.indices(None, [1.0, 3.0, 2.0]).numpy().tolist() == [1, 2]
    assert miner.mask(None, [[1.0, 3.0, 2.0]]).numpy().tolist() == [[False, True, True]]
    found = miner.indices(None, [3.0, 2.0, -np.inf], valid=[False, False, True])
    assert found.numpy().tolist() == [2]


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "XLA"])
@pytest.mark.parametrize("threshold", [None, 0.4])
def test_a_graph_gives_what_eager_execution_gives(threshold, compiled):
    rng = np.random.default_rng(0)
    boxes, losses = examples(rng, 2, 30)
    valid, labels = rng.integers(0, 2, (2, 30)).astype(bool), rng.integers(0, 3, (2, 30))
    miner = OnlineHardExampleMiner(8, threshold)

    def both(boxes, losses, labels, valid):
        given = boxes, losses, None if threshold is None else labels, valid
        return miner.mask(*given), *miner.padded_indices(*given)

    size = 30 if compiled else None
    specs = [
        tf.TensorSpec([None, size, *rest], dtype)
        for rest, dtype in (([4], tf.float32), ([], tf.float16), ([], tf.int64), ([], tf.bool))
    ]
    traced = tf.function(both, jit_compile=compiled, input_signature=specs)
    given = boxes, losses, labels, valid
    for found, expected in zip(traced(*given), both(*given), strict=True):
        assert np.array_equal(found, expected)


def test_no_gradient_flows_through_the_selection():
    scores = tf.Variable([[1.0, 3.0, 2.0]])
    with tf.GradientTape() as tape:
        hard = OnlineHardExampleMiner(2).mask(tf.eye(3, 4) * 9.0, scores**2)
        loss = tf.reduce_sum(tf.where(hard, scores**2, 0.0))
    assert tape.gradient(loss, scores).numpy().tolist() == [[0.0, 6.0, 4.0]]


class Classifier(keras.Model):
    """Somebody's head: a class for each RoI, trained on the hard RoIs."""

    def __init__(self):
        super().__init__()
        self.scores = keras.layers.Dense(3, kernel_initializer="zeros")
        self.miner = OnlineHardExampleMiner(4, 0.5)

    def call(self, inputs):
        return self.scores(inputs["features"])

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, y_pred)
        hard = self.miner.mask(x["rois"], losses, valid=x["valid"] > 0)
        return tf.reduce_sum(tf.where(hard, tf.cast(losses, tf.float32), 0.0)) / 4


def batches():
    rng = np.random.default_rng(3)
    rois, _ = examples(rng, 4, 12)
    x = {
        "features": rng.normal(size=(4, 12, 5)).astype(np.float32),
        "rois": rois,
        "valid": rng.integers(0, 2, (4, 12)),  # Keras cannot reduce bools of two replicas
    }
    return tf.data.Dataset.from_tensors((x, rng.integers(0, 3, (4, 12)))).unbatch().batch(4)


def fitted(**how):
    model = Classifier()
    model.compile(keras.optimizers.SGD(0.05), **how)
    model.fit(batches(), epochs=3, verbose=0, shuffle=False)
    return model.scores.get_weights()[0]


def test_in_keras_fit_every_way_of_running_gives_the_same_weights():
    expected = fitted(run_eagerly=True)
    assert np.abs(expected).max() > 0.05  # they were 0
    for jit in (False, True):
        np.testing.assert_allclose(fitted(jit_compile=jit), expected, atol=1e-5)
    with tiny.mirrored(2).scope():  # two images each; Keras sums the gradients
        np.testing.assert_allclose(fitted(), expected, atol=1e-5)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = fitted()
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(half, expected, atol=0.02)


def test_a_replica_mines_its_own_images():
    boxes, losses = examples(np.random.default_rng(5), 4, 20)
    expected = OnlineHardExampleMiner(5).mask(boxes, losses).numpy()
    strategy = tiny.mirrored(2)
    dataset = tf.data.Dataset.from_tensor_slices((boxes, losses)).batch(4)
    (batch,) = strategy.experimental_distribute_dataset(dataset)
    run = tf.function(lambda *x: strategy.run(OnlineHardExampleMiner(5).mask, x))
    parts = strategy.experimental_local_results(run(*batch))
    assert len(parts) == 2
    assert np.array_equal(np.concatenate(parts), expected)


BAD = {
    "max_selected is 0": lambda: OnlineHardExampleMiner(0),
    "max_selected is True": lambda: OnlineHardExampleMiner(True),
    "max_selected is 2.5": lambda: OnlineHardExampleMiner(2.5),
    "iou_threshold is 1.5": lambda: OnlineHardExampleMiner(1, 1.5),
    "iou_threshold is nan": lambda: OnlineHardExampleMiner(1, float("nan")),
    "losses: (2, 3) float32; expected [R] floats": lambda: mined("indices", (2, 3)),
    "losses: (3,) float32; expected [N, R] floats": lambda: mined("padded_indices", (3,)),
    "losses: () float32; expected [R] or [N, R] floats": lambda: mined("mask", ()),
    "losses: (3,) int32": lambda: OnlineHardExampleMiner(1).mask(np.eye(3, 4), [1, 2, 3]),
    "boxes: (4, 4) float32; expected (2, 3, 4) or (3, 4)": lambda: mined("mask", (2, 3), (4, 4)),
    "boxes: (3, 2, 4)": lambda: mined("mask", (2, 3), (3, 2, 4)),
    "boxes: missing": lambda: OnlineHardExampleMiner(1).mask(None, [1.0]),
    "labels: (2,) int32; expected (3,) integers": lambda: mined("mask", (3,), labels=[1, 2]),
    "labels: (3,) float32": lambda: mined("mask", (3,), labels=[1.0, 2.0, 3.0]),
    "valid: (3,) int32; expected (3,) bool": lambda: mined("mask", (3,), valid=[1, 0, 1]),
    "valid: (1,) bool": lambda: mined("mask", (3,), valid=[True]),
    "labels: have no effect": lambda: OnlineHardExampleMiner(1, None).mask(None, [1.0], [1]),
}


def mined(method, losses, boxes=None, **given):
    boxes = (*losses, 4) if boxes is None else boxes
    miner = OnlineHardExampleMiner(1)
    getattr(miner, method)(np.zeros(boxes, np.float32), np.zeros(losses, np.float32), **given)


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_refused_by_name(words):
    with pytest.raises(InputError) as error:
        BAD[words]()
    assert words in str(error.value)


def test_the_example_of_the_docstring_runs():
    found = doctest.testmod(module, extraglobs={"tf": tf})
    assert found.attempted >= 5
    assert found.failed == 0
    assert ohem_tf.OnlineHardExampleMiner is OnlineHardExampleMiner
