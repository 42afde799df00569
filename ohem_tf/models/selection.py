"""Which RoIs of an image a sampler selects with the weights as they are, and all their losses."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from ohem_tf.hard_mining import HardMining
from ohem_tf.models.batches import Batch
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.sampler import Sampler


class Selection(NamedTuple):
    """The R RoIs of one image, its ground truth boxes and then its proposals.

    Attributes:
      boxes: [R, 4] float32 pixels of the original image.
      labels: [R] int32 class, 0 for background.
      losses: [R] float32 that hard mining ranks by; they need not be finite.
      selected: [K] int32 indices of those that the sampler selects.
    """

    boxes: tf.Tensor
    labels: tf.Tensor
    losses: tf.Tensor
    selected: tf.Tensor


def select(
    model: FastRCNN, sampler: Sampler, image: Batch, seed: tf.Tensor, chunk: int = 0
) -> Selection:
    """The RoIs that `sampler` selects, and the losses of all, whether it looks at them or not.

    Forward only, and without dropout, so that two selections differ by the weights alone. Hard
    mining with a `start_step` mines from the first step on, and with `candidates` exactly.

    Args:
      model: see `FastRCNN`.
      sampler: its own, or another.
      image: of `batches.unbatch`.
      seed: [2] int32, for a sampler that draws at random.
      chunk: RoIs per forward step, to bound its memory; 0 takes all at once.
    """
    features = model.image_features(image["image"])
    rois = model.training_rois(image, features)
    with model.roi_network.unchecked():
        losses = model.roi_network.read_only_losses(features, rois, image["scale"], None, chunk)
    if isinstance(sampler, HardMining):
        return Selection(
            rois.boxes, rois.labels, sampler.hardness(losses), sampler.hardest(rois, losses)
        )
    selected = sampler.select(rois, losses if sampler.needs_losses else None, seed)
    if selected is None:
        selected = tf.range(tf.shape(rois.labels)[0])
    return Selection(rois.boxes, rois.labels, losses.ranking, selected)
