"""Mean and standard deviation of the regression targets over a training set."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ohem_tf.data.pipeline import training_proposals
from ohem_tf.data.reader import RecordReader
from ohem_tf.matching import Matches, match
from ohem_tf.progress import tqdm

FIXED_MEAN = (0.0, 0.0, 0.0, 0.0)
FIXED_STD = (0.1, 0.1, 0.2, 0.2)  # dy, dx, dh, dw
_MIN_SAMPLES = 2


def fixed_target_statistics(num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean 0 and std (.1, .1, .2, .2) for every class: two [K+1, 4] float32."""
    rows = num_classes + 1
    return (
        np.tile(np.array(FIXED_MEAN, np.float32), (rows, 1)),
        np.tile(np.array(FIXED_STD, np.float32), (rows, 1)),
    )


def target_statistics(
    records: RecordReader,
    max_proposals: int,
    with_flips: bool,
    fg_iou: float = 0.5,
    crowd_ioa: float = 0.7,
) -> tuple[np.ndarray, np.ndarray]:
    """Per-class statistics over all foreground RoIs of the set (the release's roidb.py).

    RoIs are those of training, ground truth boxes and proposals, with IoU >= `fg_iou`; difficult
    and crowd objects are left out. A class with fewer than two such RoIs, or a delta that never
    varies, takes the values of all classes together.

    Args:
      records: the training split.
      max_proposals: see `pipeline.training_proposals`.
      with_flips: count every image a second time, flipped (dx changes its sign).
      fg_iou: as in training.
      crowd_ioa: see `pipeline.training_proposals`.

    Returns:
      Mean and std, each [K+1, 4] float32 in the order dy, dx, dh, dw; row 0 (background) is
      not used.
    """
    rows = len(records.classes) + 1
    count, total, squares = np.zeros((rows, 1)), np.zeros((rows, 4)), np.zeros((rows, 4))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 4]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.bool),
            tf.TensorSpec([None], tf.bool),
            tf.TensorSpec([None, 4]),
        ]
    )
    def matched(
        boxes: tf.Tensor,
        classes: tf.Tensor,
        difficult: tf.Tensor,
        crowd: tf.Tensor,
        proposals: tf.Tensor,
    ) -> Matches:
        counted = tf.logical_not(tf.logical_or(difficult, crowd))
        gt_boxes = tf.boolean_mask(boxes, counted)
        kept = training_proposals(proposals, boxes, crowd, max_proposals, crowd_ioa)
        rois = tf.concat([gt_boxes, kept], axis=0)
        return match(rois, gt_boxes, tf.boolean_mask(classes, counted), fg_iou)

    for index in tqdm(range(len(records)), desc="target statistics", unit="image"):
        r = records.record(index)
        matches = matched(r.boxes, r.classes, r.difficult, r.crowd, r.proposals)
        labels, targets = matches.labels.numpy(), matches.targets.numpy()
        labels, targets = labels[labels > 0], targets[labels > 0].astype(np.float64)
        np.add.at(count, labels, 1.0)
        np.add.at(total, labels, targets)
        np.add.at(squares, labels, np.square(targets))
    if with_flips:
        count, total, squares = 2 * count, 2 * total * [1, 0, 1, 1], 2 * squares

    def moments(n: np.ndarray, s: np.ndarray, s2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = s / np.maximum(n, 1)
        return mean, np.sqrt(np.maximum(s2 / np.maximum(n, 1) - np.square(mean), 0.0))

    mean, std = moments(count, total, squares)
    all_mean, all_std = moments(count.sum(), total.sum(axis=0), squares.sum(axis=0))
    all_std = np.where(all_std > 1e-3, all_std, FIXED_STD)
    unusable = (count < _MIN_SAMPLES) | (std <= 1e-3)
    mean, std = np.where(unusable, all_mean, mean), np.where(unusable, all_std, std)
    return mean.astype(np.float32), std.astype(np.float32)
