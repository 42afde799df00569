"""The RoI network after pooling: fc6, fc7, and the sibling outputs (Fast R-CNN, section 2.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.models.precision import dtype_policy
from ohem_tf.seeds import fold_in


class Head(keras.layers.Layer):
    """What every head has: its classes, and the normalisation of regression targets.

    A head regresses *normalised* deltas, (delta - mean) / std per class; it carries mean and std as
    weights, so a checkpoint is complete without the data set they were computed from.

    Attributes:
      num_classes: K.
      pool_size: P of the pooled features that it takes.
      compute_in: precision of its hidden layers.
      pooling: the only kind of RoI pooling that suits it; None: any.
      hidden: its fully connected layers fc6, fc7, ...
      bbox_pred: the layer that predicts the deltas.
    """

    pooling: str | None = None
    bbox_pred: keras.layers.Layer

    def __init__(self, num_classes: int, pool_size: int, compute_in: str) -> None:
        super().__init__(name="roi_head")
        self.num_classes = num_classes
        self.pool_size = pool_size
        self.compute_in = compute_in
        self.hidden: list[keras.layers.Dense] = []

    def maps(self, features: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Maps that RoIs are pooled from in the place of the backbone's; here none."""
        return []

    def add_statistics(self) -> None:
        """Creates mean and std of the regression targets."""
        shape = (self.num_classes + 1, 4)
        self.target_mean = self.add_weight(
            name="target_mean", shape=shape, initializer="zeros", trainable=False
        )
        self.target_std = self.add_weight(
            name="target_std", shape=shape, initializer="ones", trainable=False
        )

    def normalise(self, targets: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Regression targets [R, 4] of classes `labels` [R] in normalised units."""
        return (targets - tf.gather(self.target_mean, labels)) / tf.gather(self.target_std, labels)

    def decode(self, deltas: tf.Tensor, references: tf.Tensor) -> tf.Tensor:
        """Boxes [R, K+1, 4] from normalised `deltas` [R, K+1, 4] and RoIs `references` [R, 4]."""
        deltas = deltas * tf.convert_to_tensor(self.target_std) + self.target_mean
        return box_ops.decode(deltas, references[:, None, :])

    def set_target_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Sets mean and std of the regression targets, each [K+1, 4] (row 0 is not used)."""
        self.target_mean.assign(mean)
        self.target_std.assign(std)

    def change_target_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Goes over to another normalisation; the boxes that the head predicts stay the same.

        What one normalisation takes away from bbox_pred, the other gives back: with deltas
        d * old_std + old_mean = d' * std + mean, d' = d * old_std / std + (old_mean - mean) / std.

        Args:
          mean, std: [K+1, 4], as in `set_target_statistics`.
        """
        old_mean, old_std, mean, std = (
            np.asarray(x, np.float64)
            for x in (self.target_mean.numpy(), self.target_std.numpy(), mean, std)
        )
        kernel, bias = self.bbox_pred.get_weights()
        factor = self._per_output(old_std / std)
        offset = self._per_output((old_mean - mean) / std)
        self.bbox_pred.set_weights([kernel * factor, bias * factor + offset])
        self.set_target_statistics(mean, std)

    @contextlib.contextmanager
    def folded(self) -> Iterator[None]:
        """A context within which the normalisation is folded into bbox_pred, as in the release.

        Its output then is the delta itself: kernel * std, bias * std + mean, and the statistics are
        mean 0 and std 1. Afterwards every weight is what it was, to the bit.
        """
        layer, mean, std = self.bbox_pred, self.target_mean.numpy(), self.target_std.numpy()
        before = layer.get_weights()
        try:
            self.change_target_statistics(np.zeros_like(mean), np.ones_like(std))
            yield
        finally:
            layer.set_weights(before)
            self.set_target_statistics(mean, std)

    def _per_output(self, values: np.ndarray) -> np.ndarray:
        """`values` [K+1, 4] of the deltas, one for each output of bbox_pred."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("ohem_tf")
class RoIHead(Head):
    """Pooled features to class logits and per-class box deltas, through fully connected layers."""

    def __init__(
        self,
        num_classes: int,
        channels: int,
        pool_size: int = 7,
        hidden: Sequence[int] = (4096, 4096),
        dropout: float = 0.5,
        dtype: str = "float32",
    ) -> None:
        """Builds the layers, initialised as in the paper.

        Args:
          num_classes: K, background not counted.
          channels: channels of the feature map.
          pool_size: P of the RoI pooling.
          hidden: widths of the fully connected layers fc6, fc7, ...
          dropout: rate after each of them.
          dtype: "float32", or "bfloat16" or "float16" to compute the hidden layers in that
            precision; weights and outputs are float32.
        """
        super().__init__(num_classes, pool_size, dtype)
        self._dropout = dropout
        self._channels = channels

        def dense(
            name: str, units: int, init: keras.Initializer, dtype: str = "float32"
        ) -> keras.layers.Dense:
            policy = dtype_policy(dtype)
            return keras.layers.Dense(units, kernel_initializer=init, name=name, dtype=policy)

        normal = keras.initializers.RandomNormal
        self.hidden = [
            dense(f"fc{i}", width, keras.initializers.HeNormal(), dtype)
            for i, width in enumerate(hidden, start=6)
        ]
        self.cls_score = dense("cls_score", num_classes + 1, normal(stddev=0.01))
        self.bbox_pred = dense("bbox_pred", 4 * (num_classes + 1), normal(stddev=0.001))
        self.build((None, pool_size, pool_size, channels))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for Keras."""
        return {
            "num_classes": self.num_classes,
            "channels": self._channels,
            "pool_size": self.pool_size,
            "hidden": [layer.units for layer in self.hidden],
            "dropout": self._dropout,
            "dtype": self.compute_in,
        }

    def build(self, pooled_shape: tuple[int | None, int, int, int]) -> None:
        """Creates the weights for pooled features [R, P, P, C]."""
        width = int(np.prod(pooled_shape[1:]))
        for layer in self.hidden:
            layer.build((None, width))
            width = layer.units
        self.cls_score.build((None, width))
        self.bbox_pred.build((None, width))
        self.add_statistics()
        self.built = True

    def call(
        self, pooled: tf.Tensor, dropout_seed: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores RoIs.

        Args:
          pooled: [R, P, P, C] float32.
          dropout_seed: [2] integers that fix the dropout masks; None switches dropout off.

        Returns:
          Logits [R, K+1] (class 0 is background) and normalised deltas [R, K+1, 4], float32.
        """
        x = tf.reshape(pooled, [-1, int(np.prod(pooled.shape[1:]))])
        for i, layer in enumerate(self.hidden):
            x = tf.nn.relu(layer(x))
            if dropout_seed is not None and self._dropout > 0.0:
                seed = fold_in(dropout_seed, i)
                x = tf.nn.experimental.stateless_dropout(x, self._dropout, seed)
        return self._outputs(x)

    def estimator(
        self, basis: np.ndarray, dtype: str = "float32"
    ) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """Scores RoIs by less than their pooled features, without dropout.

        Pooled features U z U^T go through fc6 as z goes through fc6's weights times U, Q^2 / P^2 of
        the arithmetic.

        Args:
          basis: U [P, Q], see `RoIPooler.coarse`.
          dtype: to multiply the matrices in.

        Returns:
          What takes z [R, Q, Q, C] and returns as `call`; the weights are multiplied once.
        """
        first, *others = self.hidden
        cells, coefficients = (size**2 for size in basis.shape)
        planes = np.kron(basis, basis).T.astype(np.float32)  # [Q Q, P P]
        kernel = planes @ tf.reshape(first.kernel, [cells, -1])
        kernels = [tf.reshape(kernel, [coefficients * self._channels, first.units])]
        kernels += [tf.convert_to_tensor(layer.kernel) for layer in others]
        kernels = [tf.cast(kernel, dtype) for kernel in kernels]

        def estimate(coarse: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x = tf.reshape(coarse, [-1, coefficients * self._channels])
            for layer, kernel in zip(self.hidden, kernels, strict=True):
                x = tf.cast(tf.cast(x, dtype) @ kernel, tf.float32)
                x = tf.nn.relu(x + layer.bias)
            return self._outputs(x)

        return estimate

    def _outputs(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        deltas = tf.reshape(self.bbox_pred(x), [-1, self.num_classes + 1, 4])
        return self.cls_score(x), deltas

    def _per_output(self, values: np.ndarray) -> np.ndarray:
        return values.ravel()
