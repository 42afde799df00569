"""The solver against Caffe's arithmetic in numpy, on 1 and on 2 replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf.config import paper
from ohem_tf.experiment import build_optimizer
from ohem_tf.training.optimizer import CaffeSGD, StepDecay, multipliers

# (lr_mult, decay_mult) of the release's train.prototxt.
PROTOTXT = {
    "conv/kernel": (1, 1),
    "conv/bias": (2, 1),
    "roi_head/fc6/kernel": (1, 1),
    "roi_head/fc6/bias": (2, 0),
}
BASE, DECAY, STEPS = 0.02, 0.05, 20  # strong decay, so that its place in the update shows


class RoIHead(keras.layers.Layer):
    def __init__(self):
        super().__init__(name="roi_head")
        self.fc6 = keras.layers.Dense(3, name="fc6")

    def build(self, shape):
        self.fc6.build(shape)

    def call(self, x):
        return self.fc6(x)


class TwoLayers(keras.Model):
    """A conv layer and a 'roi_head' dense layer; weights the same for every call."""

    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv2D(4, 3, name="conv")
        self.roi_head = RoIHead()
        self.conv.build((None, 6, 6, 2))
        self.roi_head.build((None, 4))
        self.built = True
        rng = np.random.default_rng(0)
        for variable in self.trainable_variables:
            variable.assign(rng.normal(0, 0.5, variable.shape))

    def call(self, x):
        return self.roi_head(tf.reduce_mean(tf.nn.tanh(self.conv(x)), axis=[1, 2]))


def batches(count=STEPS):
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield (
            rng.normal(size=(4, 6, 6, 2)).astype(np.float32),
            rng.normal(size=(4, 3)).astype(np.float32),
        )


def gradients_of(model, x, y, global_n):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(x) - y)) / global_n
    return tape.gradient(loss, model.trainable_variables)


def schedule():
    return StepDecay(BASE, boundaries=(8, 15), gamma=0.1, warmup_steps=4)


def rates_by_hand():
    """The schedule, number by number: warm-up over 4 updates, a tenth from update 8 and from 15."""
    return [BASE * x for x in [0.25, 0.5, 0.75, 1, 1, 1, 1, 1] + [0.1] * 7 + [0.01] * 5]


def train_by_hand():
    """Caffe's SGDSolver: Regularize (adds the decay), ComputeUpdateValue (momentum), Update.

    Returns the weights after each update, {path: array}.
    """
    model = TwoLayers()
    paths = [v.path for v in model.trainable_variables]
    history = [np.zeros(v.shape) for v in model.trainable_variables]
    after = []
    for rate, (x, y) in zip(rates_by_hand(), batches(), strict=True):
        gradients = [g.numpy().astype(np.float64) for g in gradients_of(model, x, y, 4)]
        for i, (path, variable) in enumerate(zip(paths, model.trainable_variables, strict=True)):
            lr_mult, decay_mult = PROTOTXT[path]
            weight = variable.numpy().astype(np.float64)
            diff = gradients[i] + DECAY * decay_mult * weight
            history[i] = 0.9 * history[i] + rate * lr_mult * diff
            variable.assign(weight - history[i])
        after.append(dict(zip(paths, model.get_weights(), strict=True)))
    return after


def train(optimizer, strategy=None):
    """20 updates, each replica on its share of the batch."""
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = TwoLayers()
        optimizer = optimizer()
        optimizer.build(model.trainable_variables)
    replicas = strategy.num_replicas_in_sync

    @tf.function
    def step(x, y):
        gradients = gradients_of(model, x, y, 4)
        optimizer.apply(gradients, model.trainable_variables)

    for x, y in batches():
        shares = [
            strategy.experimental_distribute_values_from_function(
                lambda context, whole=whole: tf.constant(
                    np.split(whole, replicas)[context.replica_id_in_sync_group]
                )
            )
            for whole in (x, y)
        ]
        strategy.run(step, shares)
    return {v.path: v.numpy() for v in model.trainable_variables}


def caffe_sgd():
    return CaffeSGD(schedule(), momentum=0.9, weight_decay=DECAY)


def largest_difference(a, b):
    assert a.keys() == b.keys() == PROTOTXT.keys()
    return max(np.max(np.abs(a[path] - b[path])) for path in a)


@pytest.fixture(scope="module")
def by_hand():
    return train_by_hand()


@pytest.fixture(scope="module")
def expected(by_hand):
    return by_hand[-1]


def test_20_updates_equal_caffes(expected):
    assert largest_difference(train(caffe_sgd), expected) < 2e-6


def test_2_replicas_give_the_weights_of_1(expected):
    strategy = tiny.mirrored(2)
    assert strategy.num_replicas_in_sync == 2
    # The gradients are summed and the decay counts once: twice would differ by far more.
    assert largest_difference(train(caffe_sgd, strategy), expected) < 2e-6


@pytest.mark.parametrize("devices", [1, 2])
def test_averages_follow_the_weights(by_hand, devices):
    made = []

    def averaging():
        made.append(CaffeSGD(schedule(), momentum=0.9, weight_decay=DECAY, ema=0.6))
        return made[0]

    weights = train(averaging, tiny.mirrored(2) if devices == 2 else None)
    assert largest_difference(weights, by_hand[-1]) < 2e-6  # as without averages
    expected = dict.fromkeys(PROTOTXT, 0.0)
    for step, after in enumerate(by_hand):
        kept = min(0.6, step / (step + 9))  # 0 in the first update, 0.6 from the 14th on
        expected = {path: kept * expected[path] + (1 - kept) * after[path] for path in PROTOTXT}
    found = dict(zip(weights, (x.numpy() for x in made[0].averages), strict=True))
    assert largest_difference(found, expected) < 2e-6


def test_decay_alone_reaches_what_the_prototxt_decays():
    model = TwoLayers()
    before = [v.numpy() for v in model.trainable_variables]
    optimizer = CaffeSGD(0.1, momentum=0.9, weight_decay=0.5)
    zeros = [tf.zeros(v.shape) for v in model.trainable_variables]
    for _ in range(2):
        optimizer.apply(zeros, model.trainable_variables)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        lr_mult, decay_mult = PROTOTXT[variable.path]
        rate = 0.1 * lr_mult * 0.5 * decay_mult
        # v1 = rate * w; w1 = w - v1; v2 = 0.9 v1 + rate * w1; w2 = w1 - v2
        expected = old * ((1 - rate) - 0.9 * rate - rate * (1 - rate))
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)


def test_multipliers_reach_every_weight_of_the_detector():
    for variable in tiny.model().trainable_variables:
        is_bias, in_head = variable.path.endswith("bias"), variable.path.startswith("roi_head/")
        assert multipliers(variable.path) == (2 if is_bias else 1, 0 if is_bias and in_head else 1)


def test_the_papers_schedule_drops_exactly_at_the_boundary():
    optimizer = build_optimizer(paper())
    rate = optimizer._learning_rate
    for step, expected in [(0, 1e-3), (29999, 1e-3), (30000, 1e-4), (59999, 1e-4), (60000, 1e-5)]:
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5)
    optimizer.build([])
    optimizer.iterations.assign(30000)
    assert float(optimizer.learning_rate) == pytest.approx(1e-4, rel=1e-5)


def test_warm_up_rises_linearly_and_then_stays():
    rate = StepDecay(1.0, boundaries=(), warmup_steps=4)
    np.testing.assert_allclose([float(rate(t)) for t in range(6)], [0.25, 0.5, 0.75, 1, 1, 1])
    assert float(StepDecay(1.0, boundaries=())(0)) == 1.0


def test_the_schedule_survives_its_config():
    again = StepDecay.from_config(schedule().get_config())
    np.testing.assert_allclose([float(again(t)) for t in range(STEPS)], rates_by_hand(), rtol=1e-5)


def test_momentum_is_part_of_a_checkpoint(tmp_path, expected):
    """10 updates, a checkpoint, a fresh process' worth of objects, 10 more: the same weights."""

    def fresh():
        model, optimizer = TwoLayers(), caffe_sgd()
        optimizer.build(model.trainable_variables)
        return model, optimizer, tf.train.Checkpoint(model=model, optimizer=optimizer)

    def run(model, optimizer, some):
        for x, y in some:
            gradients = gradients_of(model, x, y, 4)
            optimizer.apply(gradients, model.trainable_variables)

    model, optimizer, checkpoint = fresh()
    run(model, optimizer, list(batches())[:10])
    path = checkpoint.save(tmp_path / "ckpt")
    model, optimizer, checkpoint = fresh()
    checkpoint.restore(path).assert_existing_objects_matched()
    run(model, optimizer, list(batches())[10:])
    found = {v.path: v.numpy() for v in model.trainable_variables}
    assert largest_difference(found, expected) < 2e-6
