"""Feature pyramid (Lin et al., CVPR 2017): maps of all strides, each as rich as the deepest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ohem_tf.models.precision import dtype_policy


@keras.saving.register_keras_serializable("ohem_tf")
class FeaturePyramid(keras.layers.Layer):
    """Top-down pathway with lateral connections (section 3 of the paper).

    A 1 x 1 convolution brings each map of the network to the same channels; from the coarsest down,
    each is added to the next, at twice its size; a 3 x 3 convolution ends each level. Extra levels
    take every second cell of the one before (footnote 2).

    Attributes:
      channels: C of all its maps.
      extra: how many levels it has beyond those of the network.
    """

    def __init__(
        self, widths: Sequence[int], extra: int = 1, channels: int = 256, dtype: str = "float32"
    ) -> None:
        """Builds the layers.

        Args:
          widths: channels of the network's maps, by ascending stride.
          extra, channels: see the attributes.
          dtype: to compute in; weights and maps are float32.
        """
        super().__init__(name="pyramid")
        self.channels = channels
        self.extra = extra
        self._widths = tuple(int(width) for width in widths)
        self._compute_in = dtype

        def conv(name: str, kernel_size: int) -> keras.layers.Conv2D:
            policy = dtype_policy(dtype)
            return keras.layers.Conv2D(
                channels, kernel_size, padding="same", name=name, dtype=policy
            )

        self._laterals = [conv(f"lateral{i}", 1) for i in range(len(widths))]
        self._outputs = [conv(f"output{i}", 3) for i in range(len(widths))]
        self.build([(None, None, None, width) for width in self._widths])

    def build(self, shapes: Sequence[tuple]) -> None:
        """Creates the weights for maps of these shapes."""
        for lateral, output, shape in zip(self._laterals, self._outputs, shapes, strict=True):
            lateral.build(shape)
            output.build((None, None, None, self.channels))
        self.built = True

    def call(self, maps: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Makes a pyramid.

        Args:
          maps: [N, h, w, C_i] float32 by ascending stride, each stride twice the one before.

        Returns:
          [N, h, w, channels] float32 for each of `maps`, then for each extra level.
        """
        levels: list[tf.Tensor] = []
        above: tf.Tensor | None = None
        for lateral, output, x in reversed(
            list(zip(self._laterals, self._outputs, maps, strict=True))
        ):
            here = tf.cast(lateral(x), tf.float32)
            if above is not None:  # half as high and wide, rounded in either way
                here += _enlarge(above, tf.shape(here)[1:3])
            above = here
            levels.insert(0, tf.cast(output(here), tf.float32))
        for _ in range(self.extra):
            levels.append(tf.nn.max_pool2d(levels[-1], 1, 2, "VALID"))  # no slice, for OpenVINO
        return levels

    def load(self, other: keras.layers.Layer, levels: Sequence[int]) -> list[str]:
        """Takes over the weights of a pyramid of KerasHub, level by level, where they fit.

        Args:
          other: the `feature_pyramid` of a RetinaNet's backbone.
          levels: of this one.

        Returns:
          The levels taken over: "P3", ... The coarsest of the other, which are convolutions of the
          level before, have no counterpart here.
        """
        taken = []
        for level, lateral, output in zip(
            (f"P{level}" for level in levels), self._laterals, self._outputs, strict=False
        ):
            pairs = [
                (lateral, other.lateral_conv_layers.get(level)),
                (output, other.output_conv_layers.get(level)),
            ]
            if not other.use_batch_norm and all(x is not None and _fits(y, x) for y, x in pairs):
                for mine, theirs in pairs:
                    mine.set_weights(theirs.get_weights())
                taken.append(level)
        return taken

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for Keras."""
        return {
            "widths": self._widths,
            "extra": self.extra,
            "channels": self.channels,
            "dtype": self._compute_in,
        }


def _fits(layer: keras.layers.Layer, other: keras.layers.Layer) -> bool:
    return [tuple(x.shape) for x in layer.weights] == [tuple(x.shape) for x in other.weights]


def _enlarge(x: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """`x` [N, h, w, C] to `size`: cell i is cell floor(i h / H), which is i // 2 if H = 2h or 2h-1.

    Not tf.image.resize, whose nearest neighbour of a centre is another cell where H = 2h - 1.
    """
    return tf.raw_ops.ResizeNearestNeighbor(images=x, size=size)
