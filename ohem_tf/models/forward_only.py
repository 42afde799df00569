"""A conv network for inference on a CPU: the same weights, faster convolutions."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from ohem_tf import winograd

_LEAST_CHANNELS = 128  # with 64, moving the tiles about costs what the arithmetic spares


class _WinogradConvolution(keras.layers.Layer):
    """What a Conv2D layer does, by Winograd's algorithm and with that layer's weights."""

    def __init__(self, layer: keras.layers.Conv2D) -> None:
        super().__init__(name=layer.name)
        self._layer = layer

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[N, H, W, C] to [N, H, W, D]."""
        x = winograd.convolve(x, tf.convert_to_tensor(self._layer.kernel))
        if self._layer.use_bias:
            x = x + self._layer.bias
        return self._layer.activation(x)


def forward_only(network: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from images to what `network` makes of them, without dropout; for no gradients.

    It follows the weights of the network, and has none of its own. A GPU runs the network as it is.

    Args:
      network: functional model of one input.
    """
    # A function, not a model: Keras would save the weights of a model twice.
    fast = keras.models.clone_model(network, clone_function=_faster)

    def call(images: tf.Tensor) -> tf.Tensor:
        on_gpu = tf.config.list_physical_devices("GPU")
        return (network if on_gpu else fast)(images, training=False)

    return call


def _faster(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer itself, or what computes the same faster."""
    suits = (
        type(layer) is keras.layers.Conv2D
        and layer.kernel_size == (3, 3)
        and layer.strides == layer.dilation_rate == (1, 1)
        and (layer.padding, layer.groups, layer.data_format) == ("same", 1, "channels_last")
        and layer.compute_dtype == "float32"
        and layer.kernel.shape[2] >= _LEAST_CHANNELS
    )
    return _WinogradConvolution(layer) if suits else layer
