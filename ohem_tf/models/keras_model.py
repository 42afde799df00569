"""What Keras has to be told about a model that is built at once and computes its own losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ohem_tf.models.batches import Batch

WAITED = "waited"  # what a step of `fit` reports: the seconds until its batch was there


class KerasModel(keras.Model):
    """A `keras.Model` that is built in its constructor, and whose steps compute its losses."""

    train_function: Callable[[Iterator[Batch]], dict[str, tf.Tensor]] | None

    def compile(self, optimizer: Any = "rmsprop", **kwargs: Any) -> None:
        """As Keras'; the losses are the model's own. Not jit-compiled unless asked for.

        Keras' default compiles for a single GPU, where shapes that differ from image to image would
        be compiled anew each time.
        """
        super().compile(optimizer=optimizer, **{"jit_compile": False, **kwargs})

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was when it was saved; Keras then loads the momentum."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @property
    def step(self) -> int:
        """The number of updates so far."""
        return int(tf.convert_to_tensor(self.optimizer.iterations))  # one per device, all equal

    def make_train_function(self, force: bool = False) -> None:
        """As Keras'; a step also reports `WAITED`, 0 in the first one, in which its graph is made.

        But not if XLA compiles it, which cannot call Python.
        """
        if self.jit_compile or (self.train_function is not None and not force):
            super().make_train_function(force)
            return
        called: list[float] = []

        def since() -> np.float32:
            return np.float32(time.perf_counter() - called[-1] if len(called) > 1 else 0.0)

        def step(batch: Batch) -> dict[str, tf.Tensor]:
            with tf.control_dependencies(tf.nest.flatten(batch)):
                # Not tf.timestamp, which TensorFlow refuses where operations are deterministic.
                waited = tf.ensure_shape(tf.numpy_function(since, [], tf.float32), [])
            with tf.control_dependencies([waited]):  # or the step might have begun before
                batch = tf.nest.map_structure(tf.identity, batch)
            return {**self.train_step(batch), WAITED: waited}

        function = self._make_function(step)

        def train_function(iterator: Iterator[Batch]) -> dict[str, tf.Tensor]:
            called[:] = [*called[-1:], time.perf_counter()]
            return function(iterator)

        self.train_function = train_function

    def _maybe_symbolic_build(self, iterator: object = None, data_batch: object = None) -> None:
        """Keras would average a batch over the replicas to build the model; this one is built."""
        if self.compiled and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def _make_function(self, step_function: Callable[[Batch], dict[str, tf.Tensor]]) -> Callable:
        """Over several machines Keras averages what a step reports along axis 0: it gets one."""
        if not isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return super()._make_function(step_function)

        def step(batch: Batch) -> dict[str, tf.Tensor]:
            return {name: value[None] for name, value in step_function(batch).items()}

        return super()._make_function(step)
