"""What every sampler of RoIs is: the joint between the training step and the methods compared.

OHEM (hard_mining.py), the heuristic baseline and its relatives (sampling.py), and re-weighting
(reweighting.py) are samplers; a method of your own is a subclass of `Sampler`, given to
`models.fast_rcnn.FastRCNN`.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Self

import tensorflow as tf

from ohem_tf.losses import RoILosses


class RoIs(NamedTuple):
    """R RoIs of one image, in training its ground truth boxes and then its proposals.

    Attributes:
      boxes: [R, 4] float32 pixels of the original image.
      labels: [R] int32 class, 0 for background.
      max_iou: [R] float32 highest IoU with a ground truth box.
      targets: [R, 4] float32 normalised regression targets.
      gt: [R] int32 index of the ground truth box that the RoI covers; -1 for background.
    """

    boxes: tf.Tensor
    labels: tf.Tensor
    max_iou: tf.Tensor
    targets: tf.Tensor
    gt: tf.Tensor

    def take(self, indices: tf.Tensor) -> RoIs:
        """The RoIs at `indices` [K] int32."""
        return RoIs(*(tf.gather(x, indices) for x in self))


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Chooses the RoIs of an image that train the network.

    Attributes:
      rois_per_image: B/N, how many to choose at most.
      needs_losses: whether `select` is given the losses of all RoIs: the read-only pass of the
        paper (section 4.1), forward only, is run for it.
      dropout: whether dropout is active in that pass, with a mask of its own.
      chunk: RoIs per forward step of that pass, to bound its memory; 0 takes all at once.
      candidates: of how many RoIs the losses are exact, if not of all; see
        `RoINetwork.read_only_losses`.
      start_step: the update from which that pass is run; before it, `select` is given no losses.
    """

    rois_per_image: int = 64

    needs_losses = False
    dropout = True
    chunk = 0
    candidates = 0
    start_step = 0

    def select(self, rois: RoIs, losses: RoILosses | None, seed: tf.Tensor) -> tf.Tensor | None:
        """Which RoIs go through the regular pass, forward and backward.

        Args:
          rois: all R RoIs of the image.
          losses: of each of them in the read-only pass; None unless `needs_losses`; of no RoI
            before `start_step`.
          seed: [2] int32, of this image at this step, for random choices.

        Returns:
          [K] int32 indices into `rois`; None: all RoIs.
        """
        raise NotImplementedError(f"{type(self).__name__} has no select()")

    def hardness(self, losses: RoILosses) -> tf.Tensor:
        """[R] what `candidates` are chosen by, the highest first."""
        return losses.ranking

    def weights(
        self, rois: RoIs, losses: RoILosses | None, selected: tf.Tensor
    ) -> tf.Tensor | None:
        """How much the classification loss of each selected RoI counts in the regular pass.

        Args:
          rois, losses: as of `select`.
          selected: [K] int32, what `select` returned.

        Returns:
          [K] float32; None: all the same, 1.
        """
        return None

    def count(self, rois: RoIs, losses: RoILosses) -> tuple[RoIs, RoILosses]:
        """Which RoIs of the regular pass make up the loss of the image, and with which losses.

        The loss is the mean of what this returns; unless overridden, of all that were selected.

        Args:
          rois: the K selected RoIs.
          losses: theirs in the regular pass; gradients flow through them.

        Returns:
          K' RoIs and their losses.
        """
        return rois, losses

    def get_config(self) -> dict:
        """The constructor's arguments, for Keras."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """The inverse of `get_config`."""
        return cls(**config)
