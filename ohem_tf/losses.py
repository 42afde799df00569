"""Loss per RoI: log loss over K+1 classes plus smooth-L1 on the box (Fast R-CNN, section 2.3)."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from ohem_tf.arrays import Array


class RoILosses(NamedTuple):
    """Losses of R RoIs, each [R] float32 and unnormalised; they count 1:1.

    Attributes:
      cls: -log(probability of the RoI's class).
      box: smooth-L1 summed over the 4 deltas of the RoI's class; 0 for background.
    """

    cls: tf.Tensor
    box: tf.Tensor

    def take(self, indices: Array) -> RoILosses:
        """The losses of the RoIs at `indices` [K] int32."""
        return RoILosses(*(tf.gather(x, indices) for x in self))

    def weighted(self, weights: Array | None) -> RoILosses:
        """The losses with `cls` times `weights` [R] float32; None: as they are."""
        return self if weights is None else self._replace(cls=self.cls * weights)

    @property
    def ranking(self) -> tf.Tensor:
        """[R] the loss that hard mining ranks by: cls + box, cls as the release computes it.

        The release takes -log(max(p, 2.2e-16)), so RoIs more wrong than that are equally hard.
        """
        return tf.minimum(self.cls, -math.log(2.2e-16)) + self.box


def smooth_l1(x: Array) -> tf.Tensor:
    """0.5 x^2 where |x| < 1, else |x| - 0.5; same shape as `x`."""
    magnitude = tf.abs(x)
    return tf.where(magnitude < 1.0, 0.5 * tf.square(x), magnitude - 0.5)


def roi_losses(logits: Array, deltas: Array, labels: Array, targets: Array) -> RoILosses:
    """Losses of each RoI.

    Args:
      logits: [R, K+1] float32 class scores before the softmax; class 0 is background.
      deltas: [R, K+1, 4] float32 predicted (dy, dx, dh, dw) per class, in normalised units.
      labels: [R] int32 class of each RoI.
      targets: [R, 4] float32 regression targets in normalised units; ignored for background.

    Returns:
      `RoILosses`.
    """
    logits, deltas, targets = (tf.cast(x, tf.float32) for x in (logits, deltas, targets))
    return RoILosses(*_roi_losses(logits, deltas, tf.cast(labels, tf.int64), targets))


@tf.custom_gradient
def _roi_losses(
    logits: tf.Tensor, deltas: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor
) -> tuple:
    """The losses, and their gradient in a few ops: a GPU waits longer for an op than it works."""
    cls, softmax_minus_one_hot = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
        features=logits, labels=labels
    )
    count, classes, _ = tf.unstack(tf.shape(deltas, tf.int64))
    own = tf.gather(tf.reshape(deltas, [-1, 4]), tf.range(count) * classes + labels)
    difference, foreground = own - targets, labels > 0
    box = tf.where(foreground, tf.reduce_sum(smooth_l1(difference), axis=-1), 0.0)

    def gradient(of_cls: tf.Tensor, of_box: tf.Tensor) -> tuple:
        of_cls, of_box = (tf.convert_to_tensor(x) for x in (of_cls, of_box))  # of some RoIs: slices
        slope = tf.clip_by_value(difference, -1.0, 1.0)  # of smooth L1
        of_own = slope * tf.where(foreground, of_box, 0.0)[:, None]
        of_deltas = tf.one_hot(labels, tf.shape(deltas)[1])[:, :, None] * of_own[:, None, :]
        return of_cls[:, None] * softmax_minus_one_hot, of_deltas, None, None

    return (cls, box), gradient
