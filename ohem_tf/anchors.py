"""Anchors: the boxes that a region proposal network starts from (Ren et al. 2015, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.arrays import Array

IGNORED = -1  # label of an anchor that is neither object nor background


def make_anchors(
    height: Array | int,
    width: Array | int,
    stride: int,
    scales: Sequence[float],
    aspect_ratios: Sequence[float],
) -> tf.Tensor:
    """The anchors of a feature map, around the centre of each of its cells.

    The areas are exact; the release of Faster R-CNN rounds the sides to whole pixels.

    Args:
      height, width: of the map, in cells.
      stride: pixels per cell.
      scales: side of a square anchor, in cells.
      aspect_ratios: height / width.

    Returns:
      [height * width * A, 4] float32 pixels of the image that the map was computed from: row by
      row, cell by cell, and in a cell for each scale each of the ratios.
    """
    side = stride * np.repeat(scales, len(aspect_ratios))
    ratio = np.sqrt(np.tile(aspect_ratios, len(scales)))
    half = np.stack([side * ratio, side / ratio], axis=-1).astype(np.float32) / 2
    y = (tf.range(height, dtype=tf.float32) + 0.5) * stride
    x = (tf.range(width, dtype=tf.float32) + 0.5) * stride
    centres = tf.stack(tf.meshgrid(y, x, indexing="ij"), axis=-1)[:, :, None, :]
    return tf.reshape(tf.concat([centres - half, centres + half], axis=-1), [-1, 4])


class AnchorMatches(NamedTuple):
    """What each of A anchors should be.

    Attributes:
      labels: [A] int32: 1 object, 0 background, `IGNORED`.
      targets: [A, 4] float32 (dy, dx, dh, dw) to the object; 0 unless the label is 1.
    """

    labels: tf.Tensor
    targets: tf.Tensor


def match_anchors(
    anchors: Array, gt_boxes: Array, fg_iou: float = 0.7, bg_iou: float = 0.3
) -> AnchorMatches:
    """Labels anchors (Ren et al. 2015, section 3.1.2).

    An anchor is an object if its IoU with one is >= `fg_iou`, or if no anchor overlaps that object
    more (several may overlap it equally); background if its IoU with every object is < `bg_iou`.
    It is then regressed to the object that it overlaps most.

    Args:
      anchors: [A, 4] float32; those that should not count are to be left out.
      gt_boxes: [G, 4] float32 in the same pixels; G may be 0.
      fg_iou, bg_iou: 0.7 and 0.3 in the paper.

    Returns:
      `AnchorMatches`.
    """
    anchors, gt_boxes = tf.cast(anchors, tf.float32), tf.cast(gt_boxes, tf.float32)
    overlaps = box_ops.iou(anchors, gt_boxes)
    most = tf.reduce_max(overlaps, axis=0, keepdims=True)
    is_best = tf.reduce_any(tf.logical_and(overlaps == most, most > 0.0), axis=1)
    # A column of zeros first: "no object", which also makes G = 0 an ordinary case.
    overlaps = tf.pad(overlaps, [[0, 0], [1, 0]])
    max_iou, best = tf.reduce_max(overlaps, axis=1), tf.argmax(overlaps, axis=1)
    is_object = tf.logical_and(tf.logical_or(max_iou >= fg_iou, is_best), best > 0)
    labels = tf.where(is_object, 1, tf.where(max_iou < bg_iou, 0, IGNORED))
    matched = tf.gather(tf.pad(gt_boxes, [[1, 0], [0, 0]]), best)
    # The others are encoded against themselves (0), so no value is ever infinite.
    unit = tf.constant([0.0, 0.0, 1.0, 1.0])
    targets = box_ops.encode(
        tf.where(is_object[:, None], matched, unit), tf.where(is_object[:, None], anchors, unit)
    )
    return AnchorMatches(labels, targets)
