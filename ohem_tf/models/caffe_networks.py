"""The paper's two conv networks with Caffe's geometry, cut at the last map: VGG16, VGG_CNN_M_1024.

Both have stride 16. Caffe rounds the sizes of pooled maps up and those of convolved maps down.
"""

from __future__ import annotations

import keras
import tensorflow as tf

_VGG16_BLOCKS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)


@keras.saving.register_keras_serializable("ohem_tf")
class LocalResponseNormalization(keras.layers.Layer):
    """Caffe's LRN across channels, with the settings of VGG_CNN_M_1024.

        y_c = x_c / (2 + (5e-4 / 5) * sum of x_d^2 over the 5 channels d around c)^0.75

    Channels off the map count as 0. Caffe divides its alpha by the window, tf.nn takes the
    quotient.
    """

    def __init__(self, name: str) -> None:
        """Computes in float32 always: TensorFlow has no bfloat16 kernel for it."""
        super().__init__(name=name, dtype="float32")

    def get_config(self) -> dict[str, str]:
        """The constructor's argument, for Keras."""
        return {"name": self.name}

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[N, H, W, C] to the same shape."""
        return tf.nn.local_response_normalization(
            x, depth_radius=2, bias=2.0, alpha=5e-4 / 5, beta=0.75
        )


@keras.saving.register_keras_serializable("ohem_tf")
class CeilMaxPooling(keras.layers.Layer):
    """3x3 max pooling at stride 2 whose output size is rounded up, as in Caffe.

    H becomes ceil((H - 3) / 2) + 1. The window that overhangs (where H is even) does so at the
    bottom or right. "same" padding would put a row on each side of an odd H: other cells.
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[N, H, W, C] to [N, ceil((H - 1) / 2), ceil((W - 1) / 2), C]."""
        # One row and column, whatever H and W: no window reaches them where H or W is odd.
        x = tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]], constant_values=-float("inf"))
        return tf.nn.max_pool2d(x, ksize=3, strides=2, padding="VALID")


def vgg16() -> keras.Model:
    """VGG16 up to conv5_3, layer names as in Keras Applications: block1_conv1, ...

    H pixels give ceil(H / 16) cells: 600 px give 38. Here "same" pooling is Caffe's.
    """
    images = keras.Input((None, None, 3))
    x = images
    for block, widths in enumerate(_VGG16_BLOCKS, start=1):
        for conv, filters in enumerate(widths, start=1):
            x = _conv(x, f"block{block}_conv{conv}", filters, 3)
        if block < len(_VGG16_BLOCKS):
            x = keras.layers.MaxPooling2D(2, 2, padding="same", name=f"block{block}_pool")(x)
    return keras.Model(images, x, name="vgg16")


def vgg_cnn_m_1024() -> keras.Model:
    """VGG_CNN_M_1024 (Chatfield et al. 2014) up to conv5, layer names as in Caffe: conv1, ...

    600 px give 297, 148, 73, 36 cells after conv1, pool1, conv2, pool2; conv3 to conv5 keep 36.
    """
    images = keras.Input((None, None, 3))
    x = _conv(images, "conv1", 96, 7, strides=2, padding="valid")
    x = LocalResponseNormalization(name="norm1")(x)
    x = CeilMaxPooling(name="pool1")(x)
    x = keras.layers.ZeroPadding2D(1, name="pad2")(x)
    x = _conv(x, "conv2", 256, 5, strides=2, padding="valid")
    x = LocalResponseNormalization(name="norm2")(x)
    x = CeilMaxPooling(name="pool2")(x)
    for name in ("conv3", "conv4", "conv5"):
        x = _conv(x, name, 512, 3)
    return keras.Model(images, x, name="vgg_cnn_m_1024")


def _conv(
    x: keras.KerasTensor,
    name: str,
    filters: int,
    kernel_size: int,
    strides: int = 1,
    padding: str = "same",
) -> keras.KerasTensor:
    """Convolution and ReLU. "same" puts equal padding on all sides, as Caffe, at stride 1 only."""
    layer = keras.layers.Conv2D(
        filters, kernel_size, strides, padding=padding, activation="relu", name=name
    )
    return layer(x)


NETWORKS = {"vgg16": vgg16, "vgg_cnn_m_1024": vgg_cnn_m_1024}
