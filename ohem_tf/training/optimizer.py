"""Caffe's SGD on Keras' SGD, and its step schedule."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("ohem_tf")
class CaffeSGD(keras.optimizers.SGD):
    """SGD with momentum as Caffe's solver computes it, for weight w with gradient g:

        v <- momentum * v + lr * lr_mult * (g + weight_decay * decay_mult * w);   w <- w - v

    The decay enters *before* momentum (Keras' own `weight_decay` is decoupled, and about ten times
    weaker at momentum 0.9), and once per update: it is added after the gradients of the replicas
    are summed. Multipliers as in the Fast R-CNN and OHEM prototxts: biases learn at twice the
    rate; biases of the RoI head are not decayed, those of the conv layers are.

    Attributes:
      averages: with `ema`, the moving average of each variable, in their order; else empty.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.001,
        momentum: float = 0.9,
        weight_decay: float = 0.0005,
        ema: float = 0.0,
    ) -> None:
        """As Keras' SGD, and:

        Args:
          learning_rate, momentum: see above.
          weight_decay: see above.
          ema: momentum of moving averages of the variables, see `averaged`; 0: none. In update t
            (from 0) it is t / (t + 9) at most, so that the first updates do not linger.
        """
        super().__init__(learning_rate=learning_rate, momentum=momentum, name="caffe_sgd")
        self._l2 = weight_decay  # not `weight_decay`: Keras would apply that by itself
        self._ema = ema  # nor its `use_ema`: it overwrites the weights at the end of `fit`
        self._multipliers: list[tuple[float, float]] = []
        self.averages: list[keras.Variable] = []

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the momentum of each variable, and its average, and looks up its multipliers."""
        if self.built:
            return
        self._multipliers = [multipliers(variable.path) for variable in variables]
        super().build(variables)
        if self._ema:
            self.averages = [self.add_variable_from_reference(x, "average") for x in variables]

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Updates one variable with its gradient, already summed over the replicas."""
        index = self._get_variable_index(variable)
        lr_mult, decay_mult = self._multipliers[index]
        rate = lr_mult * learning_rate
        gradient = gradient + self._l2 * decay_mult * variable
        if self.momentum:
            # One fused pass over the memory of v and w; fc6 of VGG16 alone has 103 million weights.
            update = tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.handle,
                accum=self.momentums[index].value.handle,
                lr=rate,
                grad=gradient,
                momentum=self.momentum,
            )
        else:
            update = variable.assign_sub(rate * gradient)
        if self._ema:
            step = tf.cast(self.iterations, tf.float32)
            kept = tf.minimum(self._ema, step / (step + 9.0))
            average = self.averages[index].value
            with tf.control_dependencies([update] if update is not None else []):
                average.assign_sub((1.0 - kept) * (average - variable))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        return {
            "learning_rate": config["learning_rate"],
            "momentum": config["momentum"],
            "weight_decay": self._l2,
            "ema": self._ema,
        }


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """A context within which the weights of `model` are their moving averages, if it has those."""
    averages = getattr(model.optimizer, "averages", [])
    if not averages or not int(tf.convert_to_tensor(model.optimizer.iterations)):
        yield
        return
    variables = model.trainable_variables
    kept = [variable.numpy() for variable in variables]
    for variable, average in zip(variables, averages, strict=True):
        variable.assign(average)
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


def multipliers(path: str) -> tuple[float, float]:
    """(lr_mult, decay_mult) of the variable at `path`, as in the released train.prototxt files."""
    if not path.endswith("/bias"):
        return 1.0, 1.0
    return 2.0, 0.0 if "roi_head" in path else 1.0


@keras.saving.register_keras_serializable("ohem_tf")
class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """base * gamma^(number of boundaries <= step), after an optional linear warm-up.

    Caffe's "step" policy; Keras' PiecewiseConstantDecay would change one update later.
    """

    def __init__(
        self, base: float, boundaries: Sequence[int], gamma: float = 0.1, warmup_steps: int = 0
    ) -> None:
        self._base = base
        self._boundaries = tuple(boundaries)
        self._gamma = gamma
        self._warmup_steps = warmup_steps

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """Learning rate, [] float32, of the update number `step` (from 0)."""
        step = tf.cast(step, tf.int32)
        boundaries = tf.constant(self._boundaries, tf.int32)
        passed = tf.reduce_sum(tf.cast(boundaries <= step, tf.float32))
        rate = self._base * self._gamma**passed
        if self._warmup_steps:
            done = (tf.cast(step, tf.float32) + 1.0) / self._warmup_steps
            rate = rate * tf.minimum(done, 1.0)
        return rate

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "base": self._base,
            "boundaries": self._boundaries,
            "gamma": self._gamma,
            "warmup_steps": self._warmup_steps,
        }
