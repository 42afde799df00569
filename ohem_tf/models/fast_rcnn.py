"""Fast R-CNN whose training step mines hard RoIs online (paper, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ohem_tf.hard_mining import HardMining, MaskedHardMining
from ohem_tf.losses import RoILosses
from ohem_tf.models.backbones import Backbone
from ohem_tf.models.batches import Batch, image_metrics, mean, mean_metrics, unbatch
from ohem_tf.models.heads import Head
from ohem_tf.models.keras_model import KerasModel
from ohem_tf.models.proposers import Proposer, RecordedProposals
from ohem_tf.models.roi_network import Features, RoINetwork
from ohem_tf.models.roi_pooler import RoIPooler
from ohem_tf.reweighting import ImportanceReweighting
from ohem_tf.sampler import RoIs, Sampler
from ohem_tf.sampling import HeuristicSampling, IoUBalancedSampling
from ohem_tf.seeds import fold_in

# Random numbers of an image come from (seed, position in the stream of examples, purpose): they do
# not depend on the number of replicas, nor on where training was interrupted.
READ_ONLY_DROPOUT, REGULAR_DROPOUT, SAMPLING, PROPOSING = range(4)

for _sampler in (
    *(HardMining, MaskedHardMining, HeuristicSampling),
    *(IoUBalancedSampling, ImportanceReweighting),
):
    keras.saving.register_keras_serializable("ohem_tf")(_sampler)


@keras.saving.register_keras_serializable("ohem_tf")
class FastRCNN(KerasModel):
    """Fast R-CNN with the training step of OHEM, of another sampler here, or of your own.

    Its batches are those of `data.pipeline.TrainingStream`, in `fit`, `evaluate` and `predict`:
    N images, padded, with their proposals (and, to train and to evaluate, their ground truth).

    Attributes:
      backbone: images to feature maps.
      proposer: where the RoIs come from.
      roi_head: pooled features to scores and boxes.
      roi_network: what is done with RoIs, around `roi_head`.
      sampler: which RoIs train the network.
    """

    def __init__(
        self,
        backbone: Backbone,
        roi_head: Head,
        sampler: Sampler | None = None,
        pooling: str = "max",
        fg_iou: float = 0.5,
        seed: int = 0,
        proposer: Proposer | None = None,
    ) -> None:
        """Assembles the model.

        Args:
          backbone: see `backbones.build`.
          roi_head: made for the channels of `backbone`.
          sampler: the default is OHEM as in the paper.
          pooling: "max", the paper's RoI pooling, or "align", RoIAlign; a head that suits only one
            kind decides by itself.
          fg_iou: a RoI is foreground if its IoU with a ground truth box is >= this.
          seed: of dropout and of random samplers.
          proposer: proposes regions by itself, and is trained with the rest; None: proposals come
            with the images.
        """
        super().__init__(name="fast_rcnn")
        self.backbone = backbone
        self.roi_head = roi_head
        self.sampler = sampler or HardMining()
        self.roi_network = RoINetwork(
            roi_head,
            RoIPooler(roi_head.pool_size, backbone.roi_strides, roi_head.pooling or pooling),
        )
        self.proposer = proposer or RecordedProposals()
        self._fg_iou = fg_iou
        self._seed = seed
        self.built = True

    @property
    def needs_proposals(self) -> bool:
        """Whether the proposals of an image are part of the input."""
        return self.proposer.needs_proposals

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One SGD step on the N images of `batch`, image by image."""
        images = unbatch(batch)
        global_n = len(images) * self.distribute_strategy.num_replicas_in_sync
        gradients: list[tf.Tensor] = []
        metrics: list[dict[str, tf.Tensor]] = []
        for image in images:
            with tf.control_dependencies(gradients):  # memory for one image at a time
                image_gradients, image_metrics = self._image_step(image, global_n)
            gradients = _accumulate(gradients, image_gradients)
            metrics.append(image_metrics)
        # 5. One weight update.
        with tf.control_dependencies(gradients):
            self.optimizer.apply(gradients, self.trainable_variables)
        return mean_metrics(metrics)

    def _image_step(
        self, image: Batch, global_n: int
    ) -> tuple[list[tf.Tensor | None], dict[str, tf.Tensor]]:
        """Steps 1 to 4 of the paper for one image: the gradients of its loss, and metrics."""
        with tf.GradientTape() as tape:
            # 1. Conv network, once.
            features = self.training_features(image["image"])
            predicted = self.predicted(features)
            with tape.stop_recording():
                rois = self._training_rois(image, predicted)
                # 2. Read-only RoI network: all RoIs, forward only, if the sampler looks at losses.
                all_losses = self.read_only_losses(features, rois, image)
                # 3. Hard RoI selection: NMS on the losses (or another sampler's choice).
                selected = self.sampler.select(rois, all_losses, self.random_seed(image, SAMPLING))
                weights = self.sampler.weights(rois, all_losses, selected)
            # 4. Regular RoI network: forward and backward on the selected RoIs only.
            hard = rois if selected is None else rois.take(selected)
            seed = self.random_seed(image, REGULAR_DROPOUT)
            losses = self.roi_network.losses(features, hard, image["scale"], seed)
            losses = losses.weighted(weights)
            all_losses = losses if selected is None else all_losses
            hard, losses = self.sampler.count(hard, losses)
            cls, box = mean(losses.cls), mean(losses.box)
            seed = self.random_seed(image, PROPOSING)
            others = self.proposer.losses(predicted, image, seed)  # none, if records have them
            others = {name: self.roi_network.checked(x) for name, x in others.items()}
            loss = self.optimizer.scale_loss(tf.add_n([cls, box, *others.values()]) / global_n)
        with tf.control_dependencies([loss]):  # which is finite, or the step ends here
            gradients = tape.gradient(loss, self.trainable_variables)
        return gradients, {**image_metrics(cls, box, hard, all_losses), **others}

    def test_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Means over all proposals (paper, figure 3), see `proposal_losses`, then over images."""
        losses = self.proposal_losses(batch)
        return mean_metrics(
            [
                {"loss": mean(x.cls) + mean(x.box), "cls": mean(x.cls), "box": mean(x.box)}
                for x in losses
            ]
        )

    def call(self, batch: Batch, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Scores and regresses the proposals of N images; no ground truth is needed.

        Args:
          batch: "image", "size", "scale" and "proposals", "proposals_mask" of a batch; without the
            latter two, of a model that proposes by itself.
          training: has no effect: dropout is off, batch normalisation frozen.

        Returns:
          {"scores" [N, R, K+1], "boxes" [N, R, K+1, 4]} float32, see `score_rois`; 0 where a
          proposal is padding. `inference.detection` makes detections of them.
        """
        outputs: dict[str, list[tf.Tensor]] = {"scores": [], "boxes": []}
        for i in range(batch["image"].shape[0]):
            size, scale = batch["size"][i], batch["scale"][i]
            features = self.image_features(batch["image"][i, : size[0], : size[1]])
            if self.needs_proposals:
                rois, real = batch["proposals"][i], batch["proposals_mask"][i]
            else:
                rois = self.propose(features, size, scale)
                real = tf.ones(tf.shape(rois)[:1], tf.bool)
            scores, boxes = self.score_rois(features, rois, scale)
            real = tf.cast(real, tf.float32)[:, None]
            outputs["scores"].append(scores * real)
            outputs["boxes"].append(boxes * real[..., None])
        return {name: tf.ragged.stack(x).to_tensor() for name, x in outputs.items()}

    def image_features(self, image: tf.Tensor, plain: bool = False) -> Features:
        """The feature maps of one image, for `score_rois`; not for a backward pass.

        Args:
          image: [H, W, 3] float32 RGB in 0..255, already resized.
          plain: whether convolutions are left as they are, for a runtime that chooses how to
            compute them; see `forward_only`.

        Returns:
          Those of the head, if it has any, then one [1, ~H/stride, ~W/stride, C] per stride of the
          backbone, in the precision that the head computes in.
        """
        backbone = self.backbone if plain else self.backbone.forward_only
        return self.roi_network.forward_only(self._with_maps(backbone(image[None])))

    def score_rois(
        self, features: Features, rois: tf.Tensor, scale: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and regresses RoIs of one image on one view of it; see `score_views`.

        Args:
          features: of `image_features`.
          rois: [R, 4] float32 pixels of the original image.
          scale: [] float32 factor from the original to the resized image.
        """
        (found,) = self.score_views([(features, rois, scale)])
        return found

    def score_views(
        self, views: Sequence[tuple[Features, tf.Tensor, tf.Tensor]]
    ) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Scores and regresses RoIs of one image; see `RoINetwork.score`.

        Args:
          views: for each features, RoIs and scale as of `score_rois`.
        """
        return self.roi_network.score(views)

    def propose(self, features: Features, size: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """Proposals of an image, by a model that needs none with it.

        Args:
          features: of `image_features`.
          size: [2] int32 height and width of the resized image.
          scale: [] float32 factor from the original to the resized image.

        Returns:
          [R, 4] float32 pixels of the original image.

        Raises:
          InputError: it does need them.
        """
        return self.proposer.boxes(self.predicted(features), size, scale, training=False)

    def training_rois(self, image: Batch, features: Features) -> RoIs:
        """The RoIs of a training step on one image: ground truth boxes, then proposals; matched.

        Args:
          image: of `batches.unbatch`.
          features: of `image_features`.
        """
        return self._training_rois(image, self.predicted(features))

    def proposal_losses(self, batch: Batch) -> list[RoILosses]:
        """Losses of all proposals of each of the N images of `batch` (paper, figure 3).

        Whatever the sampler: no ground truth boxes among the RoIs, and no dropout.

        Args:
          batch: as in `train_step`.

        Returns:
          N times `RoILosses`, in the order of the proposals; on normalised regression targets.
        """
        losses = []
        for image in unbatch(batch):
            features = self.image_features(image["image"])
            proposals = self._proposals(image, self.predicted(features), training=False)
            rois = self._matched(proposals, image)
            losses.append(
                self.roi_network.losses(features, rois, image["scale"], dropout_seed=None)
            )
        return losses

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for Keras."""
        serialize = keras.saving.serialize_keras_object
        return {
            "backbone": serialize(self.backbone),
            "roi_head": serialize(self.roi_head),
            "sampler": serialize(self.sampler),
            "pooling": self.roi_network.pooler.kind,
            "fg_iou": self._fg_iou,
            "seed": self._seed,
            "proposer": serialize(self.proposer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> FastRCNN:
        """The inverse of `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("backbone", "roi_head", "sampler", "proposer")
        }
        return cls(**{**config, **parts})

    def training_features(self, image: tf.Tensor) -> Features:
        """As `image_features`, in full precision and for a backward pass."""
        return self._with_maps(self.backbone(image[None]))

    def _with_maps(self, maps: tf.Tensor | list[tf.Tensor]) -> list[tf.Tensor]:
        """Feature maps, and before them those of the head, if RoIs are pooled from those."""
        features = tf.nest.flatten(maps)
        return [*self.roi_head.maps(features), *features]

    def predicted(self, features: Features) -> Any:
        """What the proposer makes of the backbone's maps, among `features`."""
        return self.proposer(features[-len(self.backbone.strides) :])

    def _proposals(self, image: Batch, predicted: Any, training: bool) -> tf.Tensor:
        if self.needs_proposals:
            return image["proposals"]
        size = tf.shape(image["image"])[:2]
        return self.proposer.boxes(predicted, size, image["scale"], training)

    def _training_rois(self, image: Batch, predicted: Any) -> RoIs:
        proposals = self._proposals(image, predicted, training=True)
        return self._matched(tf.concat([image["gt_boxes"], proposals], axis=0), image)

    def _matched(self, boxes: tf.Tensor, image: Batch) -> RoIs:
        return self.roi_network.match(boxes, image["gt_boxes"], image["gt_classes"], self._fg_iou)

    def read_only_losses(self, features: Features, rois: RoIs, image: Batch) -> RoILosses | None:
        """Losses of all RoIs, forward only; None if the sampler does not look at losses.

        Of no RoI before the sampler's first step.
        """
        sampler = self.sampler
        if not sampler.needs_losses:
            return None
        seed = self.random_seed(image, READ_ONLY_DROPOUT) if sampler.dropout else None
        options = (sampler.chunk, sampler.candidates, sampler.hardness)

        def losses() -> RoILosses:
            return self.roi_network.read_only_losses(features, rois, image["scale"], seed, *options)

        if not sampler.start_step:
            return losses()
        started = tf.convert_to_tensor(self.optimizer.iterations) >= sampler.start_step
        return tf.cond(started, losses, lambda: RoILosses(tf.zeros([0]), tf.zeros([0])))

    def random_seed(self, image: Batch, purpose: int) -> tf.Tensor:
        """[2] int32, of an image of `batches.unbatch` for one of the purposes above."""
        position = tf.cast(image["position"], tf.int32)
        return fold_in(tf.stack([self._seed, position]), purpose)


def _accumulate(
    total: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor | None]
) -> list[tf.Tensor]:
    if any(g is None for g in gradients):  # Keras would drop these with no more than a warning.
        raise RuntimeError("the loss does not depend on every trainable variable")
    gradients = [tf.convert_to_tensor(g) for g in gradients]
    return [a + b for a, b in zip(total, gradients, strict=True)] if total else gradients
