"""Non-maximum suppression class by class: hard, and Gaussian Soft-NMS (Bodla et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf


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
        low, high = (tf.searchsorted(self.classes, classes, side) for side in ("left", "right"))
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

    Args:
      candidates: M of them; 0 is fine. Ties: the lower index first.
      sigma: 0.5 in the paper of Soft-NMS.
      score_threshold: drop a box whose score has decayed below this.
      max_per_class: keep at most this many of each class.

    Returns:
      The survivors with their scores after the decay, by ascending class, within a class sorted by
      descending score.
    """

    def suppress(boxes: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # TensorFlow's sigma is half of the paper's; it keeps scores > its threshold, we >= ours;
        # it also drops a box whose IoU is greater than iou_threshold, which 1 never is.
        kept, scores = tf.image.non_max_suppression_with_scores(
            boxes, scores, max_per_class, 1.0, score_threshold - 1e-6, sigma / 2
        )
        high = scores >= score_threshold
        return tf.boolean_mask(kept, high), tf.boolean_mask(scores, high)

    return _per_class(candidates, suppress)


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
