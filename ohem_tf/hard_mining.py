"""Hard RoI selection (paper, section 4.1): non-maximum suppression with score = loss."""

from __future__ import annotations

import dataclasses
from typing import Self

import tensorflow as tf

from ohem_tf.arrays import Array
from ohem_tf.losses import RoILosses
from ohem_tf.sampler import RoIs, Sampler
from ohem_tf.sampling import HeuristicSampling
from ohem_tf.settings import HardMiningSettings


def select_hard_rois(
    boxes: Array,
    losses: Array,
    max_selected: int | tf.Tensor,
    iou_threshold: float = 0.7,
    labels: Array | None = None,
    valid: Array | None = None,
) -> tf.Tensor:
    """Indices of the hardest RoIs of one image, overlapping ones counted once.

    RoIs are visited by descending loss (ties: lower index first); one is dropped if its IoU
    with a RoI already kept is greater than `iou_threshold`: co-located RoIs have nearly the same
    loss and share feature cells, so their loss would count twice.

    Args:
      boxes: [R, 4] float32 RoIs as they went into the RoI network (not regressed).
      losses: [R] float32 loss of each RoI in the read-only pass. NaN, an overflow of float16, is
        the hardest: an NMS would drop it unseen.
      max_selected: B/N, the number of RoIs to keep of this image.
      iou_threshold: suppress if IoU > this. 0.7 in the paper and the release.
      labels: None for one NMS over all RoIs, as the paper describes; [R] integer labels of the
        RoIs for one NMS per label, as the release does.
      valid: None, or [R] bool: RoIs that may be selected.

    Returns:
      [K] int32 indices into the RoIs, K <= max_selected, sorted by descending loss. Fewer
      survivors than `max_selected` give a smaller batch (so does the release).
    """
    boxes, losses = tf.cast(boxes, tf.float32), tf.cast(losses, tf.float32)
    losses = tf.where(tf.math.is_nan(losses), float("inf"), losses)
    candidates = tf.range(tf.shape(losses)[0])
    if valid is not None:  # Removed, not given a low score: a loss of -inf is selected on a GPU.
        candidates = tf.boolean_mask(candidates, tf.convert_to_tensor(valid))
        boxes, losses = tf.gather(boxes, candidates), tf.gather(losses, candidates)

    if labels is None:
        kept = tf.image.non_max_suppression(boxes, losses, max_selected, iou_threshold)
    else:
        labels = tf.gather(tf.convert_to_tensor(labels), candidates)
        kept = _suppress_per_label(boxes, losses, labels, max_selected, iou_threshold)
    return tf.gather(candidates, kept)


def _suppress_per_label(
    boxes: tf.Tensor,
    losses: tf.Tensor,
    labels: tf.Tensor,
    max_selected: int | tf.Tensor,
    iou_threshold: float,
) -> tf.Tensor:
    """NMS in each label apart, then the hardest `max_selected` of all survivors: [K] int32."""

    def survivors_of(label: tf.Tensor, survivors: tf.Tensor) -> tf.Tensor:
        members = tf.cast(tf.where(tf.equal(labels, label))[:, 0], tf.int32)
        kept = tf.image.non_max_suppression(
            tf.gather(boxes, members), tf.gather(losses, members), max_selected, iou_threshold
        )
        return tf.concat([survivors, tf.gather(members, kept)], axis=0)

    present = tf.unique(labels)[0]
    _, survivors = tf.while_loop(
        lambda i, _: i < tf.size(present),
        lambda i, survivors: (i + 1, survivors_of(present[i], survivors)),
        (tf.constant(0), tf.zeros([0], tf.int32)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])),
    )
    survivors = tf.sort(survivors)  # so that the stable sort puts the lower index first in a tie
    hardest_first = tf.argsort(tf.gather(losses, survivors), direction="DESCENDING", stable=True)
    return tf.gather(survivors, hardest_first[:max_selected])


@dataclasses.dataclass(frozen=True)
class HardMining(HardMiningSettings, Sampler):
    """OHEM: the RoIs with the highest losses in the read-only pass (paper, section 4.1).

    Attributes:
      before: chooses the RoIs until `start_step`.
    """

    before: HeuristicSampling | None = None

    needs_losses = True

    def __post_init__(self) -> None:
        if self.start_step and self.before is None:
            raise ValueError("start_step needs `before`, the sampler until then")

    def select(self, rois: RoIs, losses: RoILosses | None, seed: tf.Tensor) -> tf.Tensor | None:
        """[K] int32 indices of the hard RoIs; see `Sampler.select`."""
        assert losses is not None
        if self.before is None:
            return self.hardest(rois, losses)
        return tf.cond(
            tf.size(losses.cls) > 0,
            lambda: self.hardest(rois, losses),
            lambda: self.before.select(rois, None, seed),
        )

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """The inverse of `get_config`."""
        before = config["before"] and HeuristicSampling(**config["before"])
        return cls(**{**config, "before": before})

    def hardness(self, losses: RoILosses) -> tf.Tensor:
        """[R] what RoIs are ranked by."""
        return losses.cls if self.rank_by == "cls" else losses.ranking

    def hardest(self, rois: RoIs, losses: RoILosses) -> tf.Tensor:
        """[K] int32 indices of the hard RoIs, sorted by descending loss.

        With a limit on foreground, the hardest of it first, then background.
        """
        hardness = self.hardness(losses)
        labels = rois.labels if self.per_label else None

        def hardest_of(count: int | tf.Tensor, valid: tf.Tensor | None = None) -> tf.Tensor:
            return select_hard_rois(rois.boxes, hardness, count, self.iou_threshold, labels, valid)

        if self.fg_fraction == 1.0:
            return hardest_of(self.rois_per_image)
        is_foreground = rois.labels > 0
        foreground = hardest_of(int(self.fg_fraction * self.rois_per_image), is_foreground)
        background = hardest_of(
            self.rois_per_image - tf.size(foreground), tf.logical_not(is_foreground)
        )
        return tf.concat([foreground, background], axis=0)


@dataclasses.dataclass(frozen=True)
class MaskedHardMining(HardMining):
    """The naive form that the paper rejects (section 4.2), for comparisons of speed and memory.

    One pass over all RoIs, forward and backward; the losses of those not selected are dropped. It
    has no read-only pass: `dropout`, `chunk` and `candidates` have no effect.
    """

    needs_losses = False

    def select(self, rois: RoIs, losses: RoILosses | None, seed: tf.Tensor) -> tf.Tensor | None:
        """None: all RoIs go through the regular pass."""
        return None

    def count(self, rois: RoIs, losses: RoILosses) -> tuple[RoIs, RoILosses]:
        """The hard RoIs and their losses; see `Sampler.count`."""
        hard = self.hardest(rois, losses)
        return rois.take(hard), losses.take(hard)
