"""Boxes: IoU, regression targets, clipping, flipping, scaling.

A box is float32 `[ymin, xmin, ymax, xmax]` in pixels, continuous, half-open, 0-based: a box that
covers exactly the first pixel is [0, 0, 1, 1]. Its height is ymax - ymin; nothing here adds 1.
Caffe's inclusive corners (x1, y1, x2, y2) are [y1, x1, y2 + 1, x2 + 1], so its "+1" widths and
ours are equal.

Every function takes numpy arrays or tensors, eager or in a graph, and any number of boxes,
0 included.
"""

from __future__ import annotations

import tensorflow as tf

from ohem_tf.arrays import Array


def _edges(boxes: Array) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    return tf.unstack(tf.cast(boxes, tf.float32), num=4, axis=-1)


def area(boxes: Array) -> tf.Tensor:
    """Areas of `boxes` [..., 4] in square pixels, [...] float32; an inverted box has area 0."""
    ymin, xmin, ymax, xmax = _edges(boxes)
    return tf.maximum(ymax - ymin, 0.0) * tf.maximum(xmax - xmin, 0.0)


def _intersection(a: Array, b: Array) -> tf.Tensor:
    """Intersection areas of `a` [..., 4] and `b` [..., 4] (broadcast): [...] float32."""
    a_ymin, a_xmin, a_ymax, a_xmax = _edges(a)
    b_ymin, b_xmin, b_ymax, b_xmax = _edges(b)
    height = tf.maximum(tf.minimum(a_ymax, b_ymax) - tf.maximum(a_ymin, b_ymin), 0.0)
    width = tf.maximum(tf.minimum(a_xmax, b_xmax) - tf.maximum(a_xmin, b_xmin), 0.0)
    return height * width


def iou(a: Array, b: Array) -> tf.Tensor:
    """Pairwise intersection over union of `a` [N, 4] and `b` [M, 4]: [N, M] float32 in [0, 1].

    A box without area has IoU 0 with everything.
    """
    return elementwise_iou(tf.cast(a, tf.float32)[:, None], tf.cast(b, tf.float32)[None, :])


def elementwise_iou(a: Array, b: Array) -> tf.Tensor:
    """`iou` of each of `a` [..., 4] with its counterpart in `b` [..., 4] (broadcast): [...]."""
    intersection = _intersection(a, b)
    return tf.math.divide_no_nan(intersection, area(a) + area(b) - intersection)


def ioa(boxes: Array, regions: Array) -> tf.Tensor:
    """Share of each of `boxes` [N, 4] that each of `regions` [M, 4] covers: [N, M] float32, 0 to 1.

    The intersection divided by the area of the *box*, as COCO matches detections to crowd regions;
    0 for a box without area.
    """
    boxes, regions = tf.cast(boxes, tf.float32)[:, None], tf.cast(regions, tf.float32)[None, :]
    return tf.math.divide_no_nan(_intersection(boxes, regions), area(boxes))


def first(boxes: Array, at_most: int) -> tf.Tensor:
    """The first `at_most` of `boxes` [N, 4], or all of them if it is 0: [M, 4] float32."""
    boxes = tf.cast(boxes, tf.float32)
    return boxes[:at_most] if at_most else boxes


def _centres_and_sizes(boxes: Array) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    ymin, xmin, ymax, xmax = _edges(boxes)
    height, width = ymax - ymin, xmax - xmin
    return ymin + 0.5 * height, xmin + 0.5 * width, height, width


def encode(boxes: Array, references: Array) -> tf.Tensor:
    """Regression targets that turn `references` into `boxes` (R-CNN's parameterisation).

    Args:
      boxes: [N, 4] target boxes with positive height and width.
      references: [N, 4] boxes to start from (RoIs) with positive height and width.

    Returns:
      [N, 4] float32 (dy, dx, dh, dw): the shift of the centre in units of the reference's size,
      and the log of the ratio of sizes. Caffe orders them (dx, dy, dw, dh).
    """
    y, x, height, width = _centres_and_sizes(boxes)
    ref_y, ref_x, ref_height, ref_width = _centres_and_sizes(references)
    return tf.stack(
        [
            (y - ref_y) / ref_height,
            (x - ref_x) / ref_width,
            tf.math.log(height / ref_height),
            tf.math.log(width / ref_width),
        ],
        axis=-1,
    )


def decode(deltas: Array, references: Array) -> tf.Tensor:
    """The inverse of `encode`: boxes from `deltas` [..., 4] and `references` [..., 4] (broadcast).

    The released code leaves a decoded box one pixel wider and higher than the target, since it
    takes ctr + 0.5 * w for an *inclusive* corner; here the round trip is exact.
    """
    dy, dx, dh, dw = _edges(deltas)
    ref_y, ref_x, ref_height, ref_width = _centres_and_sizes(references)
    y, x = ref_y + dy * ref_height, ref_x + dx * ref_width
    half_height, half_width = 0.5 * tf.exp(dh) * ref_height, 0.5 * tf.exp(dw) * ref_width
    return tf.stack([y - half_height, x - half_width, y + half_height, x + half_width], axis=-1)


def clip(boxes: Array, height: Array | float, width: Array | float) -> tf.Tensor:
    """`boxes` [..., 4] cut to an image of `height` x `width` pixels."""
    ymin, xmin, ymax, xmax = _edges(boxes)
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    return tf.stack(
        [
            tf.clip_by_value(ymin, 0.0, height),
            tf.clip_by_value(xmin, 0.0, width),
            tf.clip_by_value(ymax, 0.0, height),
            tf.clip_by_value(xmax, 0.0, width),
        ],
        axis=-1,
    )


def flip(boxes: Array, width: Array | float) -> tf.Tensor:
    """`boxes` [..., 4] of an image `width` pixels wide, after the image is flipped left-right."""
    ymin, xmin, ymax, xmax = _edges(boxes)
    width = tf.cast(width, tf.float32)
    return tf.stack([ymin, width - xmax, ymax, width - xmin], axis=-1)


def scale(boxes: Array, s: Array | float) -> tf.Tensor:
    """`boxes` [..., 4] as Caffe sees them on the image resized by the factor `s`.

    Caffe scales the inclusive corners, so the far edge in half-open pixels is s * (ymax - 1) + 1.
    `roi_pooling.roi_max_pool` gives Caffe's feature cells for boxes scaled this way; nothing else
    scales boxes, neither in training nor in detection.
    """
    ymin, xmin, ymax, xmax = _edges(boxes)
    s = tf.cast(s, tf.float32)
    return tf.stack([s * ymin, s * xmin, s * (ymax - 1.0) + 1.0, s * (xmax - 1.0) + 1.0], axis=-1)


def unscale(boxes: Array, s: Array | float) -> tf.Tensor:
    """The inverse of `scale`: `boxes` [..., 4] of the resized image in original pixels."""
    ymin, xmin, ymax, xmax = _edges(boxes)
    s = tf.cast(s, tf.float32)
    return tf.stack([ymin / s, xmin / s, (ymax - 1.0) / s + 1.0, (xmax - 1.0) / s + 1.0], axis=-1)
