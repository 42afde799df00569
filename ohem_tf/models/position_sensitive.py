"""The head of R-FCN (Dai et al., NIPS 2016): a RoI costs no more than a look-up in score maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ohem_tf.models.heads import Head
from ohem_tf.models.precision import dtype_policy


@keras.saving.register_keras_serializable("ohem_tf")
class PositionSensitiveHead(Head):
    """P x P score maps for each class, and for one box that all classes share (section 2).

    All layers are convolutions over the image; each bin of a RoI reads the maps made for its place,
    and the mean over the bins decides.
    """

    pooling = "position_sensitive"

    def __init__(
        self,
        num_classes: int,
        channels: int,
        pool_size: int = 7,
        widths: Sequence[int] = (1024,),
        dtype: str = "float32",
    ) -> None:
        """Builds the layers, initialised as in the paper.

        Args:
          num_classes: K, background not counted.
          channels: channels of the feature map.
          pool_size: P.
          widths: channels of the 1 x 1 convolutions before the score maps.
          dtype: "float32", or "bfloat16" or "float16" to compute those in that precision; weights
            and outputs are float32.
        """
        super().__init__(num_classes, pool_size, dtype)
        self._channels = channels
        self._widths = tuple(widths)

        def conv(name: str, filters: int, dtype: str = "float32") -> keras.layers.Conv2D:
            init = keras.initializers.RandomNormal(stddev=0.01)
            policy = dtype_policy(dtype)
            return keras.layers.Conv2D(filters, 1, kernel_initializer=init, name=name, dtype=policy)

        self.convs = [conv(f"conv{i}", width, dtype) for i, width in enumerate(widths, start=1)]
        self.cls_score = conv("cls_score", pool_size**2 * (num_classes + 1))
        self.bbox_pred = conv("bbox_pred", pool_size**2 * 4)
        self.build((None, None, None, channels))

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Creates the weights for a feature map [N, H, W, C]."""
        for layer in self.convs:
            layer.build(shape)
            shape = (None, None, None, layer.filters)
        self.cls_score.build(shape)
        self.bbox_pred.build(shape)
        self.add_statistics()
        self.built = True

    def maps(self, features: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Score maps [1, h, w, P * P * (K + 5)] of the first of `features` [1, h, w, C]."""
        x = features[0]
        for layer in self.convs:
            x = tf.nn.relu(layer(x))
        x = tf.cast(x, tf.float32)
        cells = tf.shape(x)[:3]
        bins = self.pool_size**2
        outputs = [
            tf.reshape(layer(x), tf.concat([cells, [bins, layer.filters // bins]], axis=0))
            for layer in (self.cls_score, self.bbox_pred)
        ]
        depth = self.num_classes + 5
        merged = tf.concat(outputs, axis=-1)
        return [tf.reshape(merged, tf.concat([cells, [bins * depth]], axis=0))]

    def call(
        self, pooled: tf.Tensor, dropout_seed: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores RoIs.

        Args:
          pooled: [R, P, P, K + 5] float32, see `ps_roi_pooling`.
          dropout_seed: has no effect; there is no dropout.

        Returns:
          As `RoIHead.call`.
        """
        mean = tf.reduce_mean(pooled, axis=[1, 2])
        logits, deltas = mean[:, :-4], mean[:, -4:]
        return logits, tf.repeat(deltas[:, None], self.num_classes + 1, axis=1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for Keras."""
        return {
            "num_classes": self.num_classes,
            "channels": self._channels,
            "pool_size": self.pool_size,
            "widths": self._widths,
            "dtype": self.compute_in,
        }

    def _per_output(self, values: np.ndarray) -> np.ndarray:
        return np.tile(values[1], self.pool_size**2)  # the same for all classes
