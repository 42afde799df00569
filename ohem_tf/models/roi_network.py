"""The RoI network: pooling, fc layers, outputs and losses, in its read-only and its regular use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.losses import RoILosses, roi_losses
from ohem_tf.matching import match
from ohem_tf.models.heads import Head, RoIHead
from ohem_tf.models.roi_pooler import RoIPooler
from ohem_tf.processor import has_bfloat16
from ohem_tf.sampler import RoIs
from ohem_tf.seeds import fold_in

Features = Sequence[tf.Tensor]  # for each stride of the pooler a map [1, h, w, C] of one image

NON_FINITE = "non-finite loss"  # in the message of the error that `losses` raises


class RoINetwork:
    """What is done with the RoIs of one image, given its feature maps.

    All boxes are [R, 4] float32 pixels of the original image; `scale` [] float32 is the factor from
    the original to the resized image that the maps were computed from.

    Attributes:
      head: fc layers and outputs, with the weights.
      pooler: from maps to what the head takes.
    """

    def __init__(self, head: Head, pooler: RoIPooler) -> None:
        self.head = head
        self.pooler = pooler
        self._checks = True

    def match(
        self, boxes: tf.Tensor, gt_boxes: tf.Tensor, gt_classes: tf.Tensor, fg_iou: float
    ) -> RoIs:
        """RoIs with labels and normalised targets, in original pixels as Caffe; see `matching`."""
        matches = match(boxes, gt_boxes, gt_classes, fg_iou)
        normalised = self.head.normalise(matches.targets, matches.labels)
        foreground = (matches.labels > 0)[:, None]
        targets = tf.where(foreground, normalised, 0.0)
        return RoIs(boxes, matches.labels, matches.max_iou, targets, matches.gt)

    def losses(
        self, features: Features, rois: RoIs, scale: tf.Tensor, dropout_seed: tf.Tensor | None
    ) -> RoILosses:
        """The losses of `rois`, each of them `checked`."""
        pooled = self.pooler(features, box_ops.scale(rois.boxes, scale))
        logits, deltas = self.head(pooled, dropout_seed=dropout_seed)
        return self._checked(roi_losses(logits, deltas, rois.labels, rois.targets))

    def read_only_losses(
        self,
        features: Features,
        rois: RoIs,
        scale: tf.Tensor,
        dropout_seed: tf.Tensor | None,
        chunk: int = 0,
        candidates: int = 0,
        hardness: Callable[[RoILosses], tf.Tensor] = lambda losses: losses.ranking,
    ) -> RoILosses:
        """The losses of `rois` forward only: nothing is kept for a backward pass.

        With `candidates`, the losses of all RoIs are estimated (see `estimator`), and those of the
        `candidates` RoIs that seem hardest are then computed as they are; the others keep
        their estimates. The RoIs that hard mining selects reach down to two or three times their
        number in the order of the losses, because of the NMS; that far down, and some way further,
        the estimates need not be right. benchmarks/candidates.py measures how often it errs.

        Args:
          features, rois, scale, dropout_seed: as in `losses`.
          chunk: RoIs per forward step, to bound its memory; 0 takes all at once.
          candidates: how many losses are exact; 0: all.
          hardness: [R] of losses, what candidates are chosen by.
        """
        features = self.forward_only([tf.stop_gradient(x) for x in features])
        if not candidates:

            def exact(some: RoIs, start: tf.Tensor | None) -> RoILosses:
                seed = dropout_seed
                if seed is not None and start is not None:  # the first chunk has the whole's mask
                    seed = tf.where(start > 0, fold_in(seed, start), seed)
                return self.losses(features, some, scale, seed)

            return _in_chunks(exact, rois, chunk)
        estimate = self.estimator(features, scale)
        estimates = _in_chunks(lambda some, _: estimate(some), rois, chunk)
        count = tf.minimum(candidates, tf.shape(rois.labels)[0])
        best = tf.math.top_k(hardness(estimates), count, sorted=False).indices
        exact_losses = self.losses(features, rois.take(best), scale, dropout_seed)
        return RoILosses(
            *(
                tf.tensor_scatter_nd_update(estimated, best[:, None], exact)
                for estimated, exact in zip(estimates, exact_losses, strict=True)
            )
        )

    def estimator(self, features: Features, scale: tf.Tensor) -> Callable[[RoIs], RoILosses]:
        """About the losses of RoIs, forward only and without dropout.

        The network is the same, but pooling is coarser (see `RoIPooler.coarse`): for P = 7, fc6
        has a fifth of the arithmetic.

        Args:
          features, scale: as in `losses`.
        """
        assert isinstance(self.head, RoIHead)  # no other has anything to spare
        head = self.head.estimator(self.pooler.coarse_basis, _quick_dtype())

        def estimate(rois: RoIs) -> RoILosses:
            logits, deltas = head(self.pooler.coarse(features, box_ops.scale(rois.boxes, scale)))
            return self._checked(roi_losses(logits, deltas, rois.labels, rois.targets))

        return estimate

    def score(
        self, views: Sequence[tuple[Features, tf.Tensor, tf.Tensor]]
    ) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Scores and regresses RoIs on one or several views of an image.

        RoIs that pooling cannot tell apart go through the network once, as in the release: at
        600 px this spares a fifth of selective search's proposals, at 240 px a third. The fc layers
        read their weights once for all views.

        Args:
          views: feature maps, boxes [R, 4] and scale of each.

        Returns:
          For each view class probabilities [R, K+1] (class 0 is background) and boxes [R, K+1, 4]
          in pixels of the original image, one per class, not clipped; float32.
        """
        pooled, rows = [], []
        for features, boxes, scale in views:
            windows = box_ops.scale(boxes, scale)
            first, row = self.pooler.distinct(windows)
            pooled.append(self.pooler(features, tf.gather(windows, first)))
            rows.append(row)
        logits, deltas = self.head(tf.concat(pooled, axis=0))
        counts = [tf.shape(x)[0] for x in pooled]
        scores, deltas = (tf.split(x, counts) for x in (tf.nn.softmax(logits), deltas))
        return [
            (tf.gather(s, row), self.head.decode(tf.gather(d, row), boxes))
            for s, d, row, (_, boxes, _) in zip(scores, deltas, rows, views, strict=True)
        ]

    def forward_only(self, features: Features) -> list[tf.Tensor]:
        """Feature maps in the head's precision, half the bytes to pool in bfloat16.

        Not for a backward pass: the gradient of pooling adds up many RoIs, in float32.
        """
        return [tf.cast(x, self.head.compute_in) for x in features]

    def checked(self, loss: tf.Tensor) -> tf.Tensor:
        """`loss`; one that is not finite is an InvalidArgumentError.

        But in float16, which overflows: there the optimizer skips the step (`training.loss_scale`).
        """
        if self.head.compute_in == "float16" or not self._checks:
            return loss
        return tf.debugging.assert_all_finite(loss, NON_FINITE)

    @contextlib.contextmanager
    def unchecked(self) -> Iterator[None]:
        """A context in which a loss that is not finite is no error; for eager calls."""
        self._checks = False
        try:
            yield
        finally:
            self._checks = True

    def _checked(self, losses: RoILosses) -> RoILosses:
        return RoILosses(*(self.checked(x) for x in losses))


def _in_chunks(
    losses: Callable[[RoIs, tf.Tensor | None], RoILosses], rois: RoIs, chunk: int
) -> RoILosses:
    """`losses` of all `rois`, or one after the other of `chunk` of them and their first index."""
    if not chunk:
        return losses(rois, None)

    def step(start: tf.Tensor, cls: tf.Tensor, box: tf.Tensor) -> tuple[tf.Tensor, ...]:
        more = losses(RoIs(*(x[start : start + chunk] for x in rois)), start)
        return start + chunk, tf.concat([cls, more.cls], 0), tf.concat([box, more.box], 0)

    count, any_size = tf.shape(rois.labels)[0], tf.TensorShape([None])
    _, cls, box = tf.while_loop(
        lambda start, *_: start < count,
        step,
        (tf.constant(0), tf.zeros([0]), tf.zeros([0])),
        shape_invariants=(tf.TensorShape([]), any_size, any_size),
        parallel_iterations=1,
    )
    return RoILosses(cls, box)


def _quick_dtype() -> str:
    """To multiply matrices in where a few more bits do not matter."""
    on_cpu = not tf.config.list_physical_devices("GPU")  # which multiplies in TF32 by itself
    return "bfloat16" if on_cpu and has_bfloat16() else "float32"
