"""Fast R-CNN whose training step mines hard RoIs online (paper, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.hard_mining import HardMining, select_hard_rois
from ohem_tf.losses import RoILosses, roi_losses
from ohem_tf.matching import match
from ohem_tf.models.backbones import STRIDE, Backbone
from ohem_tf.models.heads import RoIHead
from ohem_tf.roi_pooling import POOLING, covered_cells, roi_max_pool
from ohem_tf.sampling import HeuristicSampling, sample_rois

# Random numbers of an image come from (seed, position in the stream of examples, purpose): they do
# not depend on the number of replicas, nor on where training was interrupted.
_READ_ONLY_DROPOUT, _REGULAR_DROPOUT, _SAMPLING = range(3)

NON_FINITE = "non-finite loss"  # in the message of the error that train_step raises


class RoIs(NamedTuple):
    """R RoIs of one image, in training its ground truth boxes and then its proposals.

    Attributes:
      boxes: [R, 4] float32 pixels of the original image.
      labels: [R] int32 class, 0 for background.
      max_iou: [R] float32 highest IoU with a ground truth box.
      targets: [R, 4] float32 normalised regression targets.
    """

    boxes: tf.Tensor
    labels: tf.Tensor
    max_iou: tf.Tensor
    targets: tf.Tensor

    def take(self, indices: tf.Tensor) -> RoIs:
        """The RoIs at `indices` [K] int32."""
        return RoIs(*(tf.gather(x, indices) for x in self))


class FastRCNN(keras.Model):
    """Fast R-CNN with the training step of OHEM, or of the heuristic baseline.

    Attributes:
      backbone: images to feature maps at stride 16.
      roi_head: pooled features to scores and boxes.
    """

    def __init__(
        self,
        backbone: Backbone,
        roi_head: RoIHead,
        sampler: HardMining | HeuristicSampling | None = None,
        pool_size: int = 7,
        fg_iou: float = 0.5,
        seed: int = 0,
        pooling: str = "max",
    ) -> None:
        """Assembles the model.

        Args:
          backbone: see `backbones.build`.
          roi_head: made for the channels of `backbone` and for `pool_size`.
          sampler: which RoIs train the network; the default is OHEM as in the paper.
          pool_size: P of the RoI pooling.
          fg_iou: a RoI is foreground if its IoU with a ground truth box is >= this.
          seed: of dropout and of the random sampler.
          pooling: "max", the paper's RoI pooling, or "align", RoIAlign.
        """
        super().__init__(name="fast_rcnn")
        self.backbone = backbone
        self.roi_head = roi_head
        self._sampler = sampler or HardMining()
        self._pool, self._pool_size = POOLING[pooling], pool_size
        self._fg_iou = fg_iou
        self._seed = seed
        self._masked_backward = getattr(self._sampler, "masked_backward", False)
        self.built = True

    @property
    def step(self) -> int:
        """The number of updates so far."""
        return int(tf.convert_to_tensor(self.optimizer.iterations))  # mirrored on several devices

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One SGD step on the N images of `batch` (see data/pipeline.py), image by image."""
        images = _unbatch(batch)
        global_n = len(images) * self.distribute_strategy.num_replicas_in_sync
        variables, gradients, metrics = self.trainable_variables, [], []
        for image in images:
            rois = self._training_rois(image)
            with tf.control_dependencies(gradients), tf.GradientTape() as tape:
                # 1. Conv network, once.
                features = self.backbone(image["image"][None])
                if self._masked_backward:  # The paper's strawman: no steps 2 to 4.
                    hard, hard_losses, losses = self._masked_losses(features, rois, image)
                else:
                    with tape.stop_recording():
                        if isinstance(self._sampler, HardMining):
                            # 2. Read-only RoI network: all RoIs, forward only.
                            losses = self._read_only_losses(features, rois, image)
                            # 3. Hard RoI selection: NMS on the losses.
                            selected = self._select_hard(rois, losses)
                        else:  # The baseline draws RoIs without looking at their losses.
                            losses = None
                            seed = self._random_seed(image, _SAMPLING)
                            selected = sample_rois(rois.max_iou, seed, self._sampler)
                    # 4. Regular RoI network: forward and backward on the selected RoIs only.
                    hard = rois.take(selected)
                    seed = self._random_seed(image, _REGULAR_DROPOUT)
                    hard_losses = self._roi_losses(features, hard, image["scale"], seed)
                cls, box = _mean(hard_losses.cls), _mean(hard_losses.box)
                loss = (cls + box) / global_n
            with tf.control_dependencies([loss]):  # which is finite, or the step ends here
                gradients = _accumulate(gradients, tape.gradient(loss, variables))
            metrics.append(_image_metrics(cls, box, hard, losses))
        # 5. One weight update.
        with tf.control_dependencies(gradients):
            self.optimizer.apply(gradients, variables)
        return {name: tf.add_n([m[name] for m in metrics]) / len(images) for name in metrics[0]}

    def image_features(self, image: tf.Tensor) -> tf.Tensor:
        """The feature map of one image, for `score_rois`.

        Args:
          image: [H, W, 3] float32 RGB in 0..255, already resized.

        Returns:
          [1, ~H/16, ~W/16, C], in the precision that the head computes in.
        """
        return self._lean(self.backbone(image[None]))

    def score_rois(
        self, features: tf.Tensor, rois: tf.Tensor, scale: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and regresses RoIs of one image.

        RoIs that pooling cannot tell apart go through the network once, as in the release: at
        600 px this spares a fifth of selective search's proposals, at 240 px a third.

        Args:
          features: [1, h, w, C] of `image_features`.
          rois: [R, 4] float32 pixels of the original image.
          scale: [] float32 factor from the original to the resized image.

        Returns:
          Class probabilities [R, K+1] (class 0 is background) and boxes [R, K+1, 4] in pixels of
          the original image, one per class, not clipped; float32.
        """
        windows = box_ops.scale(rois, scale)
        if self._pool is roi_max_pool:  # a box that covers just the same cells
            cells = tf.cast(covered_cells(windows, STRIDE), tf.float32)
            windows = cells * STRIDE + tf.constant([0.0, 0.0, 1.0, 1.0])
        windows, row = tf.raw_ops.UniqueV2(x=windows, axis=[0])
        logits, deltas = self._head(features, windows, tf.constant(1.0), dropout_seed=None)
        boxes = self.roi_head.decode(tf.gather(deltas, row), rois)
        return tf.gather(tf.nn.softmax(logits), row), boxes

    def proposal_losses(self, batch: dict[str, tf.Tensor]) -> list[RoILosses]:
        """Losses of all proposals of each of the N images of `batch` (paper, figure 3).

        Whatever the sampler: no ground truth boxes among the RoIs, and no dropout.

        Args:
          batch: as in `train_step`.

        Returns:
          N times `RoILosses`, in the order of the proposals; on normalised regression targets.
        """
        losses = []
        for image in _unbatch(batch):
            rois = self._matched(image["proposals"], image)
            features = self._lean(self.backbone(image["image"][None]))
            losses.append(self._roi_losses(features, rois, image["scale"], dropout_seed=None))
        return losses

    def _training_rois(self, image: dict[str, tf.Tensor]) -> RoIs:
        """Ground truth boxes and proposals, matched."""
        return self._matched(tf.concat([image["gt_boxes"], image["proposals"]], axis=0), image)

    def _matched(self, boxes: tf.Tensor, image: dict[str, tf.Tensor]) -> RoIs:
        """`boxes` [R, 4] matched. Targets use original pixels, as Caffe does."""
        matches = match(boxes, image["gt_boxes"], image["gt_classes"], self._fg_iou)
        normalised = self.roi_head.normalise(matches.targets, matches.labels)
        foreground = (matches.labels > 0)[:, None]
        return RoIs(boxes, matches.labels, matches.max_iou, tf.where(foreground, normalised, 0.0))

    def _read_only_losses(
        self, features: tf.Tensor, rois: RoIs, image: dict[str, tf.Tensor]
    ) -> tf.Tensor:
        """[R] float32 ranking loss of every RoI. Nothing is kept for a backward pass."""
        features = self._lean(tf.stop_gradient(features))
        chunk, seed = self._sampler.chunk, None
        if self._sampler.dropout:
            seed = self._random_seed(image, _READ_ONLY_DROPOUT)
        if not chunk:
            return self._roi_losses(features, rois, image["scale"], seed).ranking

        def ranking(start: tf.Tensor) -> tf.Tensor:
            some = RoIs(*(x[start : start + chunk] for x in rois))
            mask = None if seed is None else tf.random.fold_in(seed, start)
            return self._roi_losses(features, some, image["scale"], mask).ranking

        count = tf.shape(rois.labels)[0]
        _, losses = tf.while_loop(
            lambda start, _: start < count,
            lambda start, done: (start + chunk, tf.concat([done, ranking(start)], axis=0)),
            (tf.constant(0), tf.zeros([0])),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])),
            parallel_iterations=1,
        )
        return losses

    def _select_hard(self, rois: RoIs, losses: tf.Tensor) -> tf.Tensor:
        settings = self._sampler
        labels = rois.labels if settings.per_label else None
        return select_hard_rois(
            rois.boxes, losses, settings.rois_per_image, settings.iou_threshold, labels
        )

    def _masked_losses(
        self, features: tf.Tensor, rois: RoIs, image: dict[str, tf.Tensor]
    ) -> tuple[RoIs, RoILosses, tf.Tensor]:
        """Forward, and later backward, through *all* RoIs; those not selected lose their loss.

        Returns:
          The hard RoIs, their losses, and [R] the ranking loss of all RoIs.
        """
        seed = self._random_seed(image, _REGULAR_DROPOUT)
        losses = self._roi_losses(features, rois, image["scale"], seed)
        selected = self._select_hard(rois, losses.ranking)
        return rois.take(selected), losses.take(selected), losses.ranking

    def _roi_losses(
        self, features: tf.Tensor, rois: RoIs, scale: tf.Tensor, dropout_seed: tf.Tensor | None
    ) -> RoILosses:
        logits, deltas = self._head(features, rois.boxes, scale, dropout_seed)
        losses = roi_losses(logits, deltas, rois.labels, rois.targets)
        return RoILosses(*(tf.debugging.assert_all_finite(x, NON_FINITE) for x in losses))

    def _head(
        self,
        features: tf.Tensor,
        boxes: tf.Tensor,
        scale: tf.Tensor,
        dropout_seed: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        image_ids = tf.zeros(tf.shape(boxes)[:1], tf.int32)
        scaled = box_ops.scale(boxes, scale)
        pooled = self._pool(features, scaled, image_ids, self._pool_size, STRIDE)
        return self.roi_head(pooled, dropout_seed=dropout_seed)

    def _lean(self, features: tf.Tensor) -> tf.Tensor:
        """Features in the head's precision, half the bytes to pool in bfloat16.

        For forward passes only: the gradient of pooling adds up many RoIs, in float32.
        """
        return tf.cast(features, self.roi_head.compute_in)

    def _random_seed(self, image: dict[str, tf.Tensor], purpose: int) -> tf.Tensor:
        position = tf.cast(image["position"], tf.int32)
        return tf.random.fold_in(tf.stack([self._seed, position]), purpose)

    def _maybe_symbolic_build(self, iterator: object = None, data_batch: object = None) -> None:
        """Keras would average a batch over the replicas to build the model; this one is built."""


def _unbatch(batch: dict[str, tf.Tensor]) -> list[dict[str, tf.Tensor]]:
    """The N images of a batch, each cut back to its own size, without padding."""
    images = []
    for i in range(batch["image"].shape[0]):
        image = {name: value[i] for name, value in batch.items()}
        height, width = image["size"][0], image["size"][1]
        images.append(
            {
                "image": image["image"][:height, :width],
                "scale": image["scale"],
                "position": image["position"],
                "proposals": tf.boolean_mask(image["proposals"], image["proposals_mask"]),
                "gt_boxes": tf.boolean_mask(image["gt_boxes"], image["gt_mask"]),
                "gt_classes": tf.boolean_mask(image["gt_classes"], image["gt_mask"]),
            }
        )
    return images


def _mean(values: tf.Tensor) -> tf.Tensor:
    """Mean of `values` [K]; 0 for K = 0."""
    return tf.math.divide_no_nan(tf.reduce_sum(values), tf.cast(tf.shape(values)[0], values.dtype))


def _accumulate(
    total: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor | None]
) -> list[tf.Tensor]:
    if any(g is None for g in gradients):  # Keras would drop these with no more than a warning.
        raise RuntimeError("the loss does not depend on every trainable variable")
    gradients = [tf.convert_to_tensor(g) for g in gradients]
    return [a + b for a, b in zip(total, gradients, strict=True)] if total else gradients


def _image_metrics(
    cls: tf.Tensor, box: tf.Tensor, hard: RoIs, all_losses: tf.Tensor | None
) -> dict[str, tf.Tensor]:
    """What train_step reports of an image: means over its selected RoIs (and over all RoIs)."""
    metrics = {
        "loss/hard": cls + box,
        "cls": cls,
        "box": box,
        "fg": _mean(tf.cast(hard.labels > 0, tf.float32)),
    }
    if all_losses is not None:  # known only where the read-only pass ran
        metrics["loss/all_rois"] = _mean(all_losses)
    return metrics
