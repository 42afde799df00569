"""Loss scaling: the updates of CaffeSGD, steps that overflow, and resuming."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf import experiment
from ohem_tf.errors import InputError
from ohem_tf.models import backbones, precision
from ohem_tf.train import train
from ohem_tf.training.loss_scale import LossScaledSGD
from ohem_tf.training.optimizer import CaffeSGD
from ohem_tf.workdir import CHECKPOINTS

START = np.float32([[1.0, -2.0], [0.5, 3.0]])


def run(make, gradients, replicas=1):
    """Updates a kernel and a bias; `gradients` [steps, replicas, 2, 2] of the loss, not scaled.

    Returns the optimizer and, per step, the weights, the momentum, and (scale, finite steps).
    """
    strategy = tiny.mirrored(replicas) if replicas > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        variables = [keras.Variable(START, name="kernel"), keras.Variable(START[0], name="bias")]
        optimizer = make()
        optimizer.build(variables)

    @tf.function
    def step(gradient):
        scaled = optimizer.scale_loss(gradient)  # linear, as differentiation is
        optimizer.apply([scaled, scaled[0]], variables)

    history = []
    for parts in gradients:
        values = strategy.experimental_distribute_values_from_function(
            lambda context, parts=parts: tf.constant(parts[context.replica_id_in_sync_group])
        )
        strategy.run(step, (values,))
        state = [x.numpy() for x in (*variables, *optimizer.momentums)]
        own = [optimizer.scale, optimizer.finite_steps] if hasattr(optimizer, "scale") else []
        history.append((state, tuple(float(tf.convert_to_tensor(x)) for x in own)))
    return optimizer, history


def random_gradients(steps, replicas=1):
    values = np.random.default_rng(0).normal(size=(steps, replicas, 2, 2))
    return values.astype(np.float32)


def scaled(**changes):
    return LossScaledSGD(0.05, 0.9, 0.01, **changes)


@pytest.mark.parametrize("replicas", [1, 2])
def test_finite_steps_are_those_of_caffe_sgd(replicas):
    """To the bit: a scale is a power of 2."""
    gradients = random_gradients(6, replicas)
    _, expected = run(lambda: CaffeSGD(0.05, 0.9, 0.01), gradients, replicas)
    _, found = run(lambda: scaled(growth_steps=4), gradients, replicas)
    for (state, _), (mine, _) in zip(expected, found, strict=True):
        for a, b in zip(state, mine, strict=True):
            np.testing.assert_array_equal(a, b)
    assert [x for _, x in found] == [
        *((2.0**15, n) for n in (1, 2, 3)),
        *((2.0**16, n) for n in (0, 1, 2)),
    ]


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_an_overflow_on_any_replica_skips_the_step_on_all(replicas, value):
    gradients = random_gradients(5, replicas)
    gradients[2, -1, 1, 0] = value
    optimizer, history = run(scaled, gradients, replicas)
    assert int(tf.convert_to_tensor(optimizer.iterations)) == 5  # a step is a batch
    for before, after in zip(history[1][0], history[2][0], strict=True):
        np.testing.assert_array_equal(before, after)
    assert [x for _, x in history][1:4] == [(2.0**15, 2), (2.0**14, 0), (2.0**14, 1)]
    kept = [0, 1, 3, 4]
    _, expected = run(lambda: CaffeSGD(0.05, 0.9, 0.01), gradients[kept], replicas)
    for a, b in zip(expected[-1][0], history[-1][0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_scale_below_1_ends_training_before_it_changes_a_weight():
    gradients = np.full([3, 1, 2, 2], np.nan, np.float32)
    _, history = run(lambda: scaled(initial_scale=4.0), gradients[:2])
    assert history[-1][1] == (1.0, 0)
    np.testing.assert_array_equal(history[-1][0][0], START)
    with pytest.raises(tf.errors.InvalidArgumentError, match="non-finite loss"):
        run(lambda: scaled(initial_scale=4.0), gradients)


def test_keras_makes_it_anew_from_its_config():
    config = keras.saving.serialize_keras_object(scaled(initial_scale=64.0, growth_steps=3))
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == scaled(initial_scale=64.0, growth_steps=3).get_config()
    assert type(again) is LossScaledSGD


@pytest.fixture
def half_backbone(monkeypatch):
    """The backbone of tiny.py, in the precision of the config."""

    def build(dtype, **_):
        with precision.computing_in(dtype):
            network = tiny.backbone().network
        return backbones.Backbone(network, "tf", frozen_until="conv1"), {}

    monkeypatch.setattr(backbones, "build", build)


@pytest.fixture
def config(dataset, half_backbone):
    return tiny.config(dataset, dtype="float16", **{"train.checkpoint_every": 1})


def values(workdir):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(workdir / CHECKPOINTS)))
    names = [n for n in reader.get_variable_to_shape_map() if n.startswith(("weights", "optim"))]
    return {name: reader.get_tensor(name) for name in names}


@pytest.mark.slow
def test_a_step_in_float16_is_that_of_float32_within_its_rounding(config, tmp_path):
    config.train.steps = 1
    config.head.dropout = 0.0
    config.sampler = "heuristic"  # the same RoIs in both
    moved = []
    for dtype in ("float32", "float16"):
        config.dtype = dtype
        start = experiment.build_model(config, 3).trainable_variables
        end = train(config, str(tmp_path / dtype)).trainable_variables
        moved.append([b.numpy() - a.numpy() for a, b in zip(start, end, strict=True)])
    for variable, a, b in zip(start, *moved, strict=True):
        error = np.linalg.norm(b - a) / np.linalg.norm(a)
        assert error < 0.02, variable.path
    assert error != 0


@pytest.mark.slow
def test_training_overflows_recovers_and_resumes_as_if_nothing_had_happened(
    config, tmp_path, monkeypatch
):
    """From a scale that float16 overflows with; growing every two steps."""
    changed = functools.partial(LossScaledSGD, initial_scale=2.0**30, growth_steps=2)
    monkeypatch.setattr(experiment, "LossScaledSGD", changed)
    scales = []
    for name, parts in (("unbroken", [12]), ("resumed", [3, 7, 12])):
        for steps in parts:
            config.train.steps = steps
            model = train(config, str(tmp_path / name))
        assert model.step == 12
        scales.append(float(model.optimizer.scale.value))
    assert scales[0] == scales[1] < 2.0**30
    expected, found = values(tmp_path / "unbroken"), values(tmp_path / "resumed")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)
        assert np.isfinite(value).all()


def test_a_model_that_diverges_in_float16_ends_training(config, tmp_path, monkeypatch):
    changed = functools.partial(LossScaledSGD, initial_scale=2.0)
    monkeypatch.setattr(experiment, "LossScaledSGD", changed)
    build = experiment.build_model

    def broken(*args):
        model = build(*args)
        kernel = model.roi_head.hidden[0].kernel
        kernel.assign(np.full(kernel.shape, 1e6))  # infinite in float16
        return model

    monkeypatch.setattr(experiment, "build_model", broken)
    with pytest.raises(InputError, match="not finite in step 2"):
        train(config, str(tmp_path))
