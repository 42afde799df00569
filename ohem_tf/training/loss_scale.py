"""SGD on the gradients of a scaled loss, for float16 (Micikevicius et al., "Mixed Precision
Training", ICLR 2018, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ohem_tf.models.roi_network import NON_FINITE
from ohem_tf.training.optimizer import CaffeSGD


@keras.saving.register_keras_serializable("ohem_tf")
class LossScaledSGD(CaffeSGD):
    """`CaffeSGD` that multiplies the loss by a scale, and divides the gradients by it again.

    In float16 a gradient below 6e-8 is 0 and one above 65504 infinite. A step with a gradient that
    is not finite, on any replica, changes neither weights nor momentum, and halves the scale;
    `growth_steps` finite ones in a row double it. A scale below 1 ends training: then it is not the
    scale that overflows.

    Keras' LossScaleOptimizer does the same, but does not count a step that it skips. Here a step is
    a batch of the stream, updated or not, so that schedule and resuming do not depend on overflows.

    Attributes:
      scale: [] float32 variable, part of a checkpoint.
      finite_steps: [] int32 variable, finite steps since the scale changed; as well.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.001,
        momentum: float = 0.9,
        weight_decay: float = 0.0005,
        ema: float = 0.0,
        initial_scale: float = 2.0**15,
        growth_steps: int = 2000,
    ) -> None:
        """Args as of `CaffeSGD`; the defaults of the scale are Keras'."""
        super().__init__(learning_rate, momentum, weight_decay, ema)
        self._initial_scale = initial_scale
        self._growth_steps = growth_steps

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the momentum of each variable, and the scale."""
        if self.built:
            return
        super().build(variables)
        self.scale = self.add_variable(
            (),
            keras.initializers.Constant(self._initial_scale),
            "float32",
            aggregation="only_first_replica",
            name="loss_scale",
        )
        self.finite_steps = self.add_variable(
            (), "zeros", "int32", aggregation="only_first_replica", name="finite_steps"
        )

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss that is to be differentiated; call `build` before."""
        return loss * self.scale

    def apply(
        self,
        grads: Sequence[tf.Tensor],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Updates with `grads` of the scaled loss, or skips the step.

        Raises:
          tf.errors.InvalidArgumentError: the scale has fallen below 1.
        """
        finite = self._all_finite(grads)
        too_low = tf.logical_and(tf.logical_not(finite), self.scale < 2.0)
        divisor = tf.debugging.check_numerics(
            tf.where(too_low, float("nan"), self.scale), f"{NON_FINITE}, at a loss scale of 1"
        )
        # NaN marks the gradients of a step to skip: their sum over the replicas stays NaN.
        factor = tf.where(finite, 1.0 / divisor, float("nan"))
        with tf.control_dependencies([divisor]):  # nothing changes in a step that ends training
            super().apply([gradient * factor for gradient in grads], trainable_variables)

        steps = tf.where(finite, self.finite_steps + 1, 0)
        grows = steps >= self._growth_steps
        self.scale.assign(self.scale * tf.where(finite, tf.where(grows, 2.0, 1.0), 0.5))
        self.finite_steps.assign(tf.where(grows, 0, steps))

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Updates one variable, unless `apply` has marked its gradient."""

        def update() -> None:
            super(LossScaledSGD, self).update_step(gradient, variable, learning_rate)

        tf.cond(tf.math.is_finite(tf.reshape(gradient, [-1])[0]), update, lambda: None)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = {"initial_scale": self._initial_scale, "growth_steps": self._growth_steps}
        return {**super().get_config(), **own}

    def _all_finite(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        """[] bool: whether the gradients of all replicas are finite."""
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        overflows = tf.cast(tf.logical_not(finite), tf.float32)
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, overflows) == 0.0
