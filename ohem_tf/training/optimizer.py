"""Caffe's SGD on Keras' SGD, and its step schedule."""

from __future__ import annotations

from collections.abc import Sequence

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
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.001,
        momentum: float = 0.9,
        weight_decay: float = 0.0005,
    ) -> None:
        super().__init__(learning_rate=learning_rate, momentum=momentum, name="caffe_sgd")
        self._l2 = weight_decay  # not `weight_decay`: Keras would apply that by itself
        self._multipliers: list[tuple[float, float]] = []

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the momentum of each variable and looks up its multipliers."""
        if not self.built:
            self._multipliers = [multipliers(variable.path) for variable in variables]
        super().build(variables)

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Updates one variable with its gradient, already summed over the replicas."""
        index = self._get_variable_index(variable)
        lr_mult, decay_mult = self._multipliers[index]
        rate = lr_mult * learning_rate
        gradient = gradient + self._l2 * decay_mult * variable
        if not self.momentum:
            variable.assign_sub(rate * gradient)
            return
        # One fused pass over the memory of v and w; fc6 of VGG16 alone has 103 million weights.
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[index].value.handle,
            lr=rate,
            grad=gradient,
            momentum=self.momentum,
        )

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        return {
            "learning_rate": config["learning_rate"],
            "momentum": config["momentum"],
            "weight_decay": self._l2,
        }


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
