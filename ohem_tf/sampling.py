"""Samplers that draw RoIs at random: Fast R-CNN's heuristic, the baseline, and Libra R-CNN's."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from ohem_tf.arrays import Array
from ohem_tf.losses import RoILosses
from ohem_tf.sampler import RoIs, Sampler
from ohem_tf.sampler_settings import HeuristicSettings, IoUBalancedSettings


@dataclasses.dataclass(frozen=True)
class HeuristicSampling(HeuristicSettings, Sampler):
    """The sampler of the baseline (Fast R-CNN, section 2.3).

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
        return draw(tf.logical_or(is_foreground, is_background), order, settings.rois_per_image)
    fg_count = round(settings.fg_fraction * settings.rois_per_image)
    foreground = draw(is_foreground, order, fg_count)
    background = draw(is_background, order, settings.rois_per_image - tf.size(foreground))
    return tf.concat([foreground, background], axis=0)


@dataclasses.dataclass(frozen=True)
class IoUBalancedSampling(IoUBalancedSettings, Sampler):
    """Background drawn evenly over its IoU ("Libra R-CNN", section 3.1).

    Random background is mostly easy, with an IoU near 0; the hard one overlaps an object. This
    draws from K intervals of IoU alike, at random within each.

    Attributes:
      fg_iou: foreground has IoU >= this with a ground truth box.
    """

    fg_iou: float = 0.5

    def select(self, rois: RoIs, losses: RoILosses | None, seed: tf.Tensor) -> tf.Tensor | None:
        """[K] int32 indices, foreground first; see `Sampler.select`."""
        return sample_iou_balanced(rois.max_iou, seed, self)


def sample_iou_balanced(max_iou: Array, seed: Array, settings: IoUBalancedSampling) -> tf.Tensor:
    """Random foreground, and background in equal numbers from intervals of IoU.

    The intervals divide [0, fg_iou) evenly, as in the paper (MMDetection's divide -1 to the highest
    IoU of the image). Where an interval holds too few, the rest comes from all background left.

    Args:
      max_iou: [R] float32 highest IoU of each RoI with a ground truth box.
      seed: [2] integers; the same seed gives the same RoIs.
      settings: see `IoUBalancedSampling`.

    Returns:
      [K] int32 indices, K <= rois_per_image; foreground, then background by ascending interval,
      then what fills up.
    """
    max_iou = tf.cast(max_iou, tf.float32)
    order = tf.random.stateless_uniform(tf.shape(max_iou), tf.cast(seed, tf.int32))
    is_foreground = max_iou >= settings.fg_iou
    fg_count = round(settings.fg_fraction * settings.rois_per_image)
    drawn = [draw(is_foreground, order, fg_count)]
    wanted = settings.rois_per_image - tf.size(drawn[0])
    interval = tf.cast(max_iou * (settings.bins / settings.fg_iou), tf.int32)
    interval = tf.minimum(interval, settings.bins - 1)  # an IoU just below fg_iou may round up
    for i in range(settings.bins):
        members = tf.logical_and(interval == i, tf.logical_not(is_foreground))
        drawn.append(draw(members, order, wanted // settings.bins))
    so_far = tf.concat(drawn, axis=0)
    background = tf.cast(tf.logical_not(is_foreground), tf.float32)  # a GPU scatters no bool
    left = tf.tensor_scatter_nd_update(
        background, so_far[:, None], tf.zeros_like(so_far, tf.float32)
    )
    rest = draw(left > 0.0, order, settings.rois_per_image - tf.size(so_far))
    return tf.concat([so_far, rest], axis=0)


def draw(candidates: tf.Tensor, order: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """At most `count` indices of true `candidates` [R], in the random order `order` [R]."""
    indices = tf.cast(tf.where(candidates)[:, 0], tf.int32)
    return tf.gather(indices, tf.argsort(tf.gather(order, indices))[:count])
