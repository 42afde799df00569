"""Hard RoI selection (paper, section 4.1): non-maximum suppression with score = loss."""

from __future__ import annotations

import dataclasses
from typing import Self

import tensorflow as tf

from ohem_tf.arrays import Array
from ohem_tf.losses import RoILosses
from ohem_tf.sampler import RoIs, Sampler
from ohem_tf.sampler_settings import HardMiningSettings
from ohem_tf.sampling import HeuristicSampling


def select_hard_rois(
    boxes: Array | None,
    losses: Array,
    max_selected: int | tf.Tensor,
    iou_threshold: float | None = 0.7,
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
      iou_threshold: suppress if IoU > this. 0.7 in the paper and the release. None: no NMS;
        `boxes` and `labels` are not looked at.
      labels: None for one NMS over all RoIs, as the paper describes; [R] integer labels of the
        RoIs for one NMS per label, as the release does.
      valid: None, or [R] bool: RoIs that may be selected.

    Returns:
      [K] int32 indices into the RoIs, K <= max_selected, sorted by descending loss. Fewer
      survivors than `max_selected` give a smaller batch (so does the release).
    """
    losses = tf.cast(losses, tf.float32)
    losses = tf.where(tf.math.is_nan(losses), float("inf"), losses)
    if iou_threshold is None:
        return _highest(losses, max_selected, valid)
    boxes = tf.cast(boxes, tf.float32)
    if labels is not None:
        return _suppress_per_label(boxes, losses, labels, valid, max_selected, iou_threshold)
    if valid is None:
        return tf.image.non_max_suppression(boxes, losses, max_selected, iou_threshold)
    candidates = _where(tf.convert_to_tensor(valid))
    return _suppress(boxes, losses, candidates, max_selected, iou_threshold)


def _where(condition: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.where(condition)[:, 0], tf.int32)


def _suppress(
    boxes: tf.Tensor,
    losses: tf.Tensor,
    candidates: tf.Tensor,
    max_selected: int | tf.Tensor,
    iou_threshold: float,
) -> tf.Tensor:
    """NMS among the RoIs at `candidates` [C] int32: [K] int32 of them.

    The others are removed, not given a low score: a loss of -inf is selected on a GPU.
    """
    kept = tf.image.non_max_suppression(
        tf.gather(boxes, candidates), tf.gather(losses, candidates), max_selected, iou_threshold
    )
    return tf.gather(candidates, kept)


def _highest(losses: tf.Tensor, count: int | tf.Tensor, valid: Array | None) -> tf.Tensor:
    """The `count` highest losses: [K] int32.

    Invalid ones are removed at the end, since XLA has to know how many are sorted.
    """
    if valid is not None:
        losses = tf.where(valid, tf.maximum(losses, losses.dtype.min), -float("inf"))
    indices = tf.math.top_k(losses, tf.minimum(count, tf.size(losses))).indices
    return indices if valid is None else tf.boolean_mask(indices, tf.gather(valid, indices))


def _suppress_per_label(
    boxes: tf.Tensor,
    losses: tf.Tensor,
    labels: Array,
    valid: Array | None,
    max_selected: int | tf.Tensor,
    iou_threshold: float,
) -> tf.Tensor:
    """NMS in each label apart, then the hardest `max_selected` of all survivors: [K] int32."""
    labels = tf.convert_to_tensor(labels)
    present = tf.unique(labels)[0]

    def add_survivors(label: tf.Tensor, survivors: tf.Tensor) -> tf.Tensor:
        members = tf.equal(labels, label)
        members = _where(members if valid is None else tf.logical_and(members, valid))
        kept = _suppress(boxes, losses, members, max_selected, iou_threshold)
        return tf.tensor_scatter_nd_update(survivors, kept[:, None], tf.ones_like(kept, tf.float32))

    _, survivors = tf.while_loop(
        lambda i, _: i < tf.size(present),
        lambda i, survivors: (i + 1, add_survivors(present[i], survivors)),
        # Floats, since a GPU has no scatter of bools.
        (tf.constant(0), tf.zeros_like(losses)),
    )
    return _highest(losses, max_selected, survivors > 0)


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
