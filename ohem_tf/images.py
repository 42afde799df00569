"""Images: decoding and the resizing that training and detection share."""

from __future__ import annotations

import tensorflow as tf


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """JPEG or PNG bytes [] string to RGB [H, W, 3] uint8."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def resize(
    image: tf.Tensor, shortest_side: int | tf.Tensor, longest_side: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes (bilinear) so that the shortest side is `shortest_side`, the longest at most a cap.

    Args:
      image: [H, W, 3], any dtype, 0..255.
      shortest_side: target length of the shortest side in pixels (600 in the paper).
      longest_side: cap on the longest side in pixels (1000 in the paper).

    Returns:
      The image [h, w, 3] float32 and the scale factor [] float32 that `boxes.scale` takes.
    """
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    height, width = tf.unstack(size)  # OpenVINO takes a tf.reduce_min of the size for another
    scale = tf.minimum(
        tf.cast(shortest_side, tf.float32) / tf.minimum(height, width),
        tf.cast(longest_side, tf.float32) / tf.maximum(height, width),
    )
    # At least one pixel, or a thin strip would vanish.
    target = tf.maximum(tf.cast(tf.round(size * scale), tf.int32), 1)
    return tf.image.resize(image, target, method="bilinear"), scale
