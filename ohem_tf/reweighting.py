"""Importance-based sample reweighting: all sampled RoIs train, the important ones count more.

Cao et al., "Prime Sample Attention in Object Detection" (PISA), CVPR 2020, section 4. RoIs are
ranked twice, among those that compete for one object and then across objects ("hierarchical local
rank"), and weighted by their rank. The least important have a weight near 0, but are not dropped.

PISA ranks foreground by the IoU of the regressed box, and background by the highest foreground
probability. Here the losses of the read-only pass stand for both: the box loss, lower for a closer
box, and the probability of not being background, exp(-cls) of 1.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.losses import RoILosses
from ohem_tf.sampler import RoIs, Sampler
from ohem_tf.sampler_settings import ISRSettings
from ohem_tf.sampling import draw


@dataclasses.dataclass(frozen=True)
class ImportanceReweighting(ISRSettings, Sampler):
    """Random foreground and the highest-ranked background, weighted by importance."""

    needs_losses = True

    def select(self, rois: RoIs, losses: RoILosses | None, seed: tf.Tensor) -> tf.Tensor | None:
        """[K] int32 indices, foreground first; see `Sampler.select`.

        Background by rank; where too little of it scores above the threshold, the rest is random.
        """
        assert losses is not None
        order = tf.random.stateless_uniform(tf.shape(rois.labels), tf.cast(seed, tf.int32))
        is_foreground = rois.labels > 0
        foreground = draw(is_foreground, order, round(self.fg_fraction * self.rois_per_image))
        wanted = self.rois_per_image - tf.size(foreground)
        hard, is_hard = self._hard_background(rois, losses)
        easy = tf.logical_not(tf.logical_or(is_foreground, is_hard))
        hard = hard[:wanted]
        return tf.concat([foreground, hard, draw(easy, order, wanted - tf.size(hard))], axis=0)

    def weights(
        self, rois: RoIs, losses: RoILosses | None, selected: tf.Tensor
    ) -> tf.Tensor | None:
        """[K] float32 weights of the classification losses; see `Sampler.weights`.

        Those of foreground and those of background keep the sum of their losses (in the read-only
        pass), so that the reweighting moves no loss from one to the other.
        """
        assert losses is not None
        chosen, cls = rois.take(selected), tf.gather(losses.cls, selected)
        is_foreground = chosen.labels > 0
        split = tf.math.count_nonzero(is_foreground, dtype=tf.int32)
        foreground = self._foreground_weights(
            RoIs(*(x[:split] for x in chosen)), tf.gather(losses.box, selected)[:split]
        )
        background = self._background_weights(rois, losses, tf.shape(selected)[0] - split)
        return tf.concat(
            [_keep_sum(foreground, cls[:split]), _keep_sum(background, cls[split:])], axis=0
        )

    def _foreground_weights(self, rois: RoIs, box_losses: tf.Tensor) -> tf.Tensor:
        """Rank among the RoIs of one object by ascending box loss, then among those of a class."""
        local = _rank(tf.zeros_like(rois.gt), box_losses, rois.gt)
        rank = _rank(local, box_losses, rois.labels)
        labels = tf.cast(rois.labels, tf.int64)  # int32 is compared on the host
        same_class = labels[:, None] == labels
        largest = tf.reduce_max(tf.math.count_nonzero(same_class, axis=1))
        importance = 1.0 - tf.cast(rank, tf.float32) / tf.cast(largest, tf.float32)
        return self._emphasise(importance, self.fg_power)

    def _background_weights(self, rois: RoIs, losses: RoILosses, count: tf.Tensor) -> tf.Tensor:
        """Weights of `count` selected background RoIs: those with a rank, then the random ones."""
        hard, _ = self._hard_background(rois, losses)
        of = tf.cast(tf.maximum(tf.maximum(tf.size(hard), count), 1), tf.float32)
        ranked = tf.minimum(tf.size(hard), count)
        place = tf.minimum(tf.range(count), tf.maximum(ranked - 1, 0))  # random: as the last one
        return self._emphasise(1.0 - tf.cast(place, tf.float32) / of, self.bg_power)

    def _hard_background(self, rois: RoIs, losses: RoILosses) -> tuple[tf.Tensor, tf.Tensor]:
        """Background above the score threshold, by rank: indices [H] int32, and mask [R]."""
        score = 1.0 - tf.exp(-losses.cls)
        is_hard = tf.logical_and(rois.labels == 0, score > self.score_threshold)
        members = tf.cast(tf.where(is_hard)[:, 0], tf.int32)
        boxes, score = tf.gather(rois.boxes, members), tf.gather(score, members)
        leaders = tf.image.non_max_suppression(boxes, score, tf.size(members), self.group_iou)
        # A RoI is of the group of the first leader, by descending score, that it overlaps (or is);
        # RoIs without area, which overlap none, are one group.
        near = box_ops.iou(tf.gather(boxes, leaders), boxes) > self.group_iou
        near = tf.pad(near, [[0, 1], [0, 0]], constant_values=True)
        group = tf.argmax(tf.cast(near, tf.float32), axis=0, output_type=tf.int32)
        local = _rank(tf.zeros_like(group), -score, group)
        return tf.gather(members, _order(local, -score)), is_hard

    def _emphasise(self, importance: tf.Tensor, power: float) -> tf.Tensor:
        return tf.pow(self.bias + (1.0 - self.bias) * importance, power)


def _rank(first: tf.Tensor, second: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
    """[N] int32 place of each of N in its `group`, by ascending `first`, then `second`, then index.

    Args:
      first: [N] int32.
      second: [N] float32.
      group: [N] int32.
    """
    place = tf.cast(tf.math.invert_permutation(_order(first, second)), tf.int64)
    group = tf.cast(group, tf.int64)  # int32 is compared on the host
    ahead = tf.logical_and(group[:, None] == group, place < place[:, None])
    return tf.math.count_nonzero(ahead, axis=1, dtype=tf.int32)


def _order(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """[N] int32 indices by ascending `first`, then `second`, then index."""
    by_second = tf.argsort(second, stable=True)
    return tf.gather(by_second, tf.argsort(tf.gather(first, by_second), stable=True))


def _keep_sum(weights: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
    """`weights` [K] times the factor that leaves the sum of `losses` [K] as it was."""
    total = tf.reduce_sum(weights * losses)
    return tf.where(total > 0.0, weights * (tf.reduce_sum(losses) / total), weights)
