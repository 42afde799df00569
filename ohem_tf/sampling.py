"""The baseline: Fast R-CNN's heuristic sampling of RoIs (Fast R-CNN, section 2.3)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from ohem_tf.arrays import Array
from ohem_tf.losses import RoILosses
from ohem_tf.sampler import RoIs, Sampler
from ohem_tf.settings import HeuristicSettings


@dataclasses.dataclass(frozen=True)
class HeuristicSampling(HeuristicSettings, Sampler):
    """The sampler of the baseline.

    Attributes:
      fg_iou: foreground has IoU >= this with a ground truth box.
    """

    fg_iou: float = 0.5

    def select(self, rois: RoIs, losses: RoILosses | None, seed: tf.Tensor) -> tf.Tensor | None:
        """[K] int32 indices of random RoIs; see `Sampler.select`."""
        return sample_rois(rois.max_iou, seed, self)


def sample_rois(max_iou: Array, seed: Array, settings: HeuristicSampling) -> tf.Tensor:
    """Random RoIs of one image, at a fixed ratio of foreground to background unless switched off.

    Both are drawn without replacement; where foreground is short, background fills up, and where
    background is short the batch is smaller, as in the release.

    Args:
      max_iou: [R] float32 highest IoU of each RoI with a ground truth box.
      seed: [2] integers; the same seed gives the same RoIs.
      settings: see `HeuristicSampling`.

    Returns:
      [K] int32 indices, K <= rois_per_image; at a fixed ratio foreground first.
    """
    max_iou = tf.cast(max_iou, tf.float32)
    order = tf.random.stateless_uniform(tf.shape(max_iou), tf.cast(seed, tf.int32))
    is_foreground = max_iou >= settings.fg_iou
    is_background = tf.logical_and(max_iou >= settings.bg_lo, max_iou < settings.bg_hi)
    if not settings.fixed_ratio:
        return _draw(tf.logical_or(is_foreground, is_background), order, settings.rois_per_image)
    fg_count = round(settings.fg_fraction * settings.rois_per_image)
    foreground = _draw(is_foreground, order, fg_count)
    background = _draw(is_background, order, settings.rois_per_image - tf.size(foreground))
    return tf.concat([foreground, background], axis=0)


def _draw(candidates: tf.Tensor, order: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """At most `count` indices of true `candidates` [R], in the random order `order` [R]."""
    indices = tf.cast(tf.where(candidates)[:, 0], tf.int32)
    return tf.gather(indices, tf.argsort(tf.gather(order, indices))[:count])
