"""Non-maximum suppression class by class: hard, and Gaussian Soft-NMS (Bodla et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from ohem_tf import boxes as box_ops


class Candidates(NamedTuple):
    """M boxes of one image, each with one class and one score; a RoI may give many of them.

    Sorted by ascending class, unless stated otherwise.

    Attributes:
      boxes: [M, 4] float32 pixels.
      scores: [M] float32.
      classes: [M] int32, 1-based.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor

    def take(self, indices: tf.Tensor) -> Candidates:
        """The candidates at `indices` [K] int32, in that order."""
        return Candidates(*(tf.gather(x, indices) for x in self))

    def at_least(self, threshold: float) -> Candidates:
        """The candidates with score >= `threshold`, in the same order."""
        return self.take(tf.where(self.scores >= threshold)[:, 0])

    def range_of(self, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """First and one past the last index of each of `classes` [C] int32: two [C] int32."""
        # int64: TensorFlow takes int32 to the host where the data are on a GPU.
        members, classes = tf.cast(self.classes, tf.int64), tf.cast(classes, tf.int64)
        low, high = (tf.searchsorted(members, classes, side) for side in ("left", "right"))
        return low, high


def merge(parts: Sequence[Candidates]) -> Candidates:
    """The candidates of all `parts`, those of a class in the order of the parts."""
    if len(parts) == 1:
        return parts[0]
    merged = Candidates(*(tf.concat(fields, axis=0) for fields in zip(*parts, strict=True)))
    return merged.take(tf.argsort(merged.classes, stable=True))


def hard(candidates: Candidates, iou_threshold: float, max_per_class: int) -> Candidates:
    """Drops a box whose IoU with a better one of its class is greater than `iou_threshold`.

    Args:
      candidates: M of them; 0 is fine. Ties: the lower index first.
      iou_threshold: suppress if IoU > this.
      max_per_class: keep at most this many of each class.

    Returns:
      The survivors, by ascending class, within a class sorted by descending score.
    """

    def suppress(boxes: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        kept = tf.image.non_max_suppression(boxes, scores, max_per_class, iou_threshold)
        return kept, tf.gather(scores, kept)

    return _per_class(candidates, suppress)


def gaussian(
    candidates: Candidates, sigma: float, score_threshold: float, max_per_class: int
) -> Candidates:
    """Soft-NMS, Gaussian: each box that is kept multiplies the scores of those left in its class.

        score = score * exp(-IoU^2 / sigma)

    A step takes the best box that is left of every class. (TensorFlow's own Soft-NMS does one class
    at a time, and runs on the host only.)

    Args:
      candidates: M of them; 0 is fine. Ties: the lower index first.
      sigma: 0.5 in the paper of Soft-NMS.
      score_threshold: drop a box whose score has decayed below this.
      max_per_class: keep at most this many of each class.

    Returns:
      The survivors with their scores after the decay, by ascending class, within a class sorted by
      descending score.
    """

    present = tf.unique(candidates.classes)[0]
    low, high = (tf.cast(x, tf.int64)[:, None] for x in candidates.range_of(present))
    # One row per class [C, W], its boxes on the left; a score of -1 marks what is taken or padding.
    index = low + tf.range(tf.reduce_max(tf.concat([high - low, [[1]]], axis=0)))
    members = tf.where(index < high, index, 0)
    boxes = tf.gather(candidates.boxes, members)
    scores = tf.where(index < high, tf.gather(candidates.scores, members), -1.0)

    def take_best(
        step: tf.Tensor, left: tf.Tensor, taken: tf.TensorArray, at: tf.TensorArray
    ) -> tuple:
        best = tf.argmax(left, axis=1)[:, None]  # of equals the first
        overlap = box_ops.elementwise_iou(tf.gather(boxes, best, batch_dims=1), boxes)
        taken = taken.write(step, tf.gather(members, best, batch_dims=1)[:, 0])
        at = at.write(step, tf.gather(left, best, batch_dims=1)[:, 0])
        decayed = left * tf.exp(-tf.square(overlap) / sigma)
        gone = tf.logical_or(left < 0.0, tf.range(tf.shape(left, tf.int64)[1]) == best)
        return step + 1, tf.where(gone, -1.0, decayed), taken, at

    steps = [tf.TensorArray(x.dtype, 0, dynamic_size=True) for x in (members, scores)]
    _, _, taken, at = tf.while_loop(
        lambda step, left, *_: tf.logical_or(  # one step at least: no steps cannot be stacked
            step < 1,
            tf.logical_and(step < max_per_class, tf.reduce_any(left >= score_threshold)),
        ),
        take_best,
        (tf.constant(0), scores, *steps),
    )
    taken, at = tf.transpose(taken.stack()), tf.transpose(at.stack())
    kept = at >= score_threshold
    return candidates.take(tf.boolean_mask(taken, kept))._replace(scores=tf.boolean_mask(at, kept))


def _per_class(
    candidates: Candidates,
    suppress: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
) -> Candidates:
    """Runs `suppress` on the boxes and scores of each class.

    `suppress` gives indices of those to keep and their new scores.
    """
    present = tf.unique(candidates.classes)[0]
    low, high = candidates.range_of(present)

    def of_class(i: tf.Tensor, indices: tf.Tensor, scores: tf.Tensor) -> tuple:
        members = slice(low[i], high[i])
        kept, new_scores = suppress(candidates.boxes[members], candidates.scores[members])
        indices = tf.concat([indices, low[i] + kept], axis=0)
        return i + 1, indices, tf.concat([scores, new_scores], axis=0)

    any_size = tf.TensorShape([None])
    _, indices, scores = tf.while_loop(
        lambda i, *_: i < tf.size(present),
        of_class,
        (tf.constant(0), tf.zeros([0], tf.int32), tf.zeros([0])),
        shape_invariants=(tf.TensorShape([]), any_size, any_size),
    )
    return candidates.take(indices)._replace(scores=scores)
