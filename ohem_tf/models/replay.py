"""A training step again, of one image and without its update: what each RoI's loss was."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from ohem_tf.losses import RoILosses
from ohem_tf.models.batches import Batch
from ohem_tf.models.fast_rcnn import PROPOSING, REGULAR_DROPOUT, SAMPLING, FastRCNN
from ohem_tf.models.roi_network import Features
from ohem_tf.sampler import RoIs


class Pass(NamedTuple):
    """One pass of the RoI network over an image.

    Attributes:
      indices: [K] int32 which of the image's RoIs: its ground truth boxes, then its proposals.
      rois: those K RoIs.
      losses: of each of them; they need not be finite.
    """

    indices: tf.Tensor
    rois: RoIs
    losses: RoILosses

    @property
    def wrong(self) -> tf.Tensor:
        """[W] int64 which of the K have a loss that is not finite."""
        finite = [tf.math.is_finite(loss) for loss in self.losses]
        return tf.where(~tf.reduce_all(finite, axis=0))[:, 0]


class Replay(NamedTuple):
    """What a training step computes of an image before the gradients.

    Attributes:
      features: the feature maps that RoIs are pooled from.
      read_only: the pass that ranks RoIs; None if the sampler does not look at losses.
      regular: the pass over the selected RoIs; None where the losses that select them are wrong.
      others: the losses of a model's own proposals {name: [] float32}.
    """

    features: Features
    read_only: Pass | None
    regular: Pass | None
    others: dict[str, tf.Tensor]


def replay(model: FastRCNN, image: Batch) -> Replay:
    """Steps 1 to 4 of `FastRCNN.train_step` on an image, with the same random numbers.

    Args:
      model: its weights are those before the step, and so is `optimizer.iterations`.
      image: of `batches.unbatch`.
    """
    features = model.training_features(image["image"])
    predicted = model.predicted(features)
    rois = model.training_rois(image, features)
    everything = tf.range(tf.shape(rois.labels)[0])
    with model.roi_network.unchecked():
        others = model.proposer.losses(predicted, image, model.random_seed(image, PROPOSING))
        read_only, losses = None, model.read_only_losses(features, rois, image)
        if losses is not None and tf.size(losses.cls) == tf.size(everything):
            read_only = Pass(everything, rois, losses)
            if tf.size(read_only.wrong):
                return Replay(features, read_only, None, others)
        selected = model.sampler.select(rois, losses, model.random_seed(image, SAMPLING))
        indices = everything if selected is None else tf.cast(selected, tf.int32)
        hard = rois.take(indices)
        seed = model.random_seed(image, REGULAR_DROPOUT)
        regular = Pass(
            indices, hard, model.roi_network.losses(features, hard, image["scale"], seed)
        )
    return Replay(features, read_only, regular, others)
