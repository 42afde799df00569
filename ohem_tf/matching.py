"""RoIs against ground truth: class labels and regression targets (Fast R-CNN, section 2.3)."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.arrays import Array


class Matches(NamedTuple):
    """What each of R RoIs should be.

    Attributes:
      labels: [R] int32 class of the RoI: that of the ground truth it covers, or 0 (background).
      max_iou: [R] float32 its highest IoU with a ground truth box; 0 where there is none.
      targets: [R, 4] float32 (dy, dx, dh, dw) to that ground truth box; 0 for background.
      gt: [R] int32 which ground truth box it covers; -1 for background.
    """

    labels: tf.Tensor
    max_iou: tf.Tensor
    targets: tf.Tensor
    gt: tf.Tensor


def match(rois: Array, gt_boxes: Array, gt_classes: Array, fg_iou: float = 0.5) -> Matches:
    """Labels RoIs: foreground where the highest IoU with a ground truth box is >= `fg_iou`.

    Args:
      rois: [R, 4] float32 RoIs of one image.
      gt_boxes: [G, 4] float32 ground truth boxes of the image; G may be 0.
      gt_classes: [G] int32 their classes, 1-based.
      fg_iou: 0.5 in the paper.

    Returns:
      `Matches`. Of several boxes with the same IoU the first counts. Background is everything
      else: the lower bound on its IoU (bg_lo) belongs to the heuristic sampler (sampling.py).
    """
    rois, gt_boxes = tf.cast(rois, tf.float32), tf.cast(gt_boxes, tf.float32)
    # A column of zeros first: "no ground truth", which also makes G = 0 an ordinary case.
    overlaps = tf.pad(box_ops.iou(rois, gt_boxes), [[0, 0], [1, 0]])
    max_iou = tf.reduce_max(overlaps, axis=1)
    best = tf.argmax(overlaps, axis=1, output_type=tf.int32)
    foreground = tf.logical_and(max_iou >= fg_iou, best > 0)
    best = tf.where(foreground, best, 0)

    labels = tf.gather(tf.pad(tf.cast(gt_classes, tf.int32), [[1, 0]]), best)
    matched = tf.gather(tf.pad(gt_boxes, [[1, 0], [0, 0]]), best)
    # Background RoIs are encoded against themselves (0), so no value is ever infinite.
    unit = tf.constant([0.0, 0.0, 1.0, 1.0])
    references = tf.where(foreground[:, None], rois, unit)
    targets = box_ops.encode(tf.where(foreground[:, None], matched, unit), references)
    return Matches(labels, max_iou, targets, best - 1)
