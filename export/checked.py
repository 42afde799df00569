"""What the exported graph checks of a request: shapes, the image and its size, the proposals.

A check that fails ends the request with an error that names the input and the row of the batch; the
next request runs as if nothing had happened. Where TensorFlow's own decoder finds the fault, the
error names the input by the decoder's place in the graph.
"""

from __future__ import annotations

import contextlib

import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf import images

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def same_batch(
    inputs: tf.Tensor, field: str, rank: int, proposals: tf.Tensor | None
) -> contextlib.AbstractContextManager:
    """A context whose operations run only if the shapes of a batch fit each other.

    The signature's shapes are not enough: the server feeds whatever shape it is sent.

    Args:
      inputs: [B] string or [B, H, W, 3] uint8.
      field: its name in the signature.
      rank: 1 or 4.
      proposals: [B, R, 4] float32; None if the model takes none.
    """
    shape = tf.shape(inputs)
    wanted = "[B] strings" if rank == 1 else "[B, H, W, 3]"
    checks = [
        tf.debugging.Assert(
            tf.logical_and(tf.size(shape) == rank, rank == 1 or shape[-1] == 3),
            [f"{field}: expected {wanted}, got the shape", shape],
        )
    ]
    if proposals is not None:
        boxes_shape = tf.shape(proposals)
        checks += [
            tf.debugging.Assert(
                tf.logical_and(tf.size(boxes_shape) == 3, boxes_shape[-1] == 4),
                ["proposals: expected [B, R, 4], got the shape", boxes_shape],
            ),
            tf.debugging.Assert(
                boxes_shape[0] == shape[0],
                [f"proposals: of another number of images than {field}:", boxes_shape[0], shape[0]],
            ),
        ]
    return tf.control_dependencies(checks)


def decode(encoded: tf.Tensor, row: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Decodes the image of one row, once its header says that it is not too large.

    Args:
      encoded: [] string, a whole JPEG or PNG file.
      row: [] int32, its place in the batch, for messages.
      max_pixels: the largest height times width that is decoded.

    Returns:
      [H, W, 3] uint8 RGB, as `images.decode`.
    """
    is_png = tf.strings.substr(encoded, 0, len(_PNG)) == _PNG
    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG)) == _JPEG
    known = tf.debugging.Assert(
        tf.logical_or(is_png, is_jpeg), ["image_bytes: neither a JPEG nor a PNG file; row", row]
    )
    with tf.control_dependencies([known]), tf.name_scope("image_bytes_truncated_or_damaged"):
        height, width = tf.cond(is_png, lambda: _png_size(encoded), lambda: _jpeg_size(encoded))
        with size_checked("image_bytes", height, width, row, max_pixels):
            return images.decode(tf.identity(encoded))


def size_checked(
    field: str, height: tf.Tensor, width: tf.Tensor, row: tf.Tensor, max_pixels: int
) -> contextlib.AbstractContextManager:
    """A context whose operations run only if an image of this size may be processed."""
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    pixels = height * width
    message = [
        f"{field}: expected 1 to {max_pixels} pixels; height, width, row:",
        height,
        width,
        row,
    ]
    fits = tf.debugging.Assert(tf.logical_and(pixels > 0, pixels <= max_pixels), message)
    return tf.control_dependencies([fits])


def proposals_of(
    boxes: tf.Tensor, height: tf.Tensor, width: tf.Tensor, row: tf.Tensor
) -> tf.Tensor:
    """The proposals of one row: clipped to the image, without those that then cover nothing.

    That drops the rows of zeros that fill up a batch, and also the copies of a proposal's first
    number with which the server's own batching fills up (batching_util.h, AddPadding).

    Args:
      boxes: [R, 4] float32 [ymin, xmin, ymax, xmax] in pixels of the image as sent; R may be 0.
      height, width: of the image.
      row: [] int32, its place in the batch, for messages.

    Returns:
      [R', 4] float32, in the same order.
    """
    finite = tf.debugging.Assert(
        tf.reduce_all(tf.math.is_finite(boxes)), ["proposals: NaN or infinite; row", row]
    )
    upright = tf.debugging.Assert(
        tf.reduce_all(boxes[:, 2:] >= boxes[:, :2]),
        ["proposals: ymax < ymin or xmax < xmin; expected [ymin, xmin, ymax, xmax]; row", row],
    )
    with tf.control_dependencies([finite, upright]):
        clipped = box_ops.clip(boxes, height, width)
    return tf.boolean_mask(clipped, box_ops.area(clipped) > 0.0)


def _png_size(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width from the IHDR chunk, which comes first: two big-endian numbers."""
    # A file that ends before has zeros there; the check of the size then refuses it.
    head = tf.strings.join([tf.strings.substr(encoded, 0, 24), b"\0" * 24])
    digits = tf.cast(tf.io.decode_raw(tf.strings.substr(head, 16, 8), tf.uint8), tf.int64)
    width, height = tf.unstack(
        tf.linalg.matvec(tf.reshape(digits, [2, 4]), tf.constant([2**24, 2**16, 2**8, 1], tf.int64))
    )
    return height, width


def _jpeg_size(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width from the frame header; nothing behind it is read."""
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded, tf.int64), num=3)
    return height, width
