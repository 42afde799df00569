"""Region proposal network (Ren et al., "Faster R-CNN", NIPS 2015), on one map or on a pyramid."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.anchors import make_anchors, match_anchors
from ohem_tf.hard_mining import select_hard_rois
from ohem_tf.losses import smooth_l1
from ohem_tf.models.batches import Batch
from ohem_tf.models.precision import dtype_policy
from ohem_tf.models.proposers import Proposer
from ohem_tf.sampling import draw
from ohem_tf.settings import RPNSettings

# Where smooth-L1 goes over from square to line, in the release: sigma = 3.
_BETA = 1.0 / 9.0


class Level(NamedTuple):
    """What the network predicts for the A anchors of one map.

    Attributes:
      logits: [A] float32 of being an object.
      deltas: [A, 4] float32 (dy, dx, dh, dw).
      anchors: [A, 4] float32 pixels of the resized image.
    """

    logits: tf.Tensor
    deltas: tf.Tensor
    anchors: tf.Tensor


@keras.saving.register_keras_serializable("ohem_tf")
class RegionProposalNetwork(Proposer):
    """A 3 x 3 convolution, and for each anchor a logit and a box; the same weights on all maps.

    The release has two logits and a softmax; the sigmoid of their difference is the same.
    """

    def __init__(
        self,
        channels: int,
        strides: Sequence[int],
        settings: RPNSettings | None = None,
        dtype: str = "float32",
    ) -> None:
        """Builds the layers.

        Args:
          channels, strides: of the backbone's maps.
          settings: the defaults are those of the release with VGG16.
          dtype: to compute the 3 x 3 convolution in; weights and outputs are float32.
        """
        super().__init__(name="rpn")
        self.settings = settings or RPNSettings()
        self._channels = channels
        self._strides = tuple(strides)
        self._compute_in = dtype
        per_cell = len(self.settings.anchor_scales) * len(self.settings.aspect_ratios)

        def conv(
            name: str, filters: int, kernel_size: int, dtype: str = "float32"
        ) -> keras.layers.Conv2D:
            return keras.layers.Conv2D(
                filters,
                kernel_size,
                padding="same",
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                name=name,
                dtype=dtype_policy(dtype),
            )

        self.conv = conv("conv", self.settings.channels, 3, dtype)
        self.cls_score = conv("cls_score", per_cell, 1)
        self.bbox_pred = conv("bbox_pred", 4 * per_cell, 1)
        self.build([(1, None, None, channels)] * len(self._strides))

    def build(self, shapes: Sequence[tuple]) -> None:
        """Creates the weights for maps of these shapes, of equal channels."""
        self.conv.build(shapes[0])
        for layer in (self.cls_score, self.bbox_pred):
            layer.build((None, None, None, self.settings.channels))
        self.built = True

    def call(self, features: Sequence[tf.Tensor]) -> list[Level]:
        """A `Level` for each map [1, h, w, C] of one image."""
        levels = []
        for x, stride in zip(features, self._strides, strict=True):
            hidden = tf.cast(tf.nn.relu(self.conv(x)), tf.float32)
            height, width = tf.unstack(tf.shape(x)[1:3])
            shapes = (self.settings.anchor_scales, self.settings.aspect_ratios)
            anchors = make_anchors(height, width, stride, *shapes)
            logits = tf.reshape(self.cls_score(hidden), [-1])
            levels.append(Level(logits, tf.reshape(self.bbox_pred(hidden), [-1, 4]), anchors))
        return levels

    def boxes(
        self, predicted: list[Level], size: tf.Tensor, scale: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """The proposals [R, 4] of an image, the likeliest objects first; see `Proposer.boxes`.

        Of each map the likeliest candidates, clipped to the image, those too small left out, after
        an NMS of their own; then the likeliest of all maps.
        """
        settings = self.settings
        candidates, count = (
            (settings.train_candidates, settings.train_proposals)
            if training
            else (settings.test_candidates, settings.test_proposals)
        )
        height, width = tf.unstack(tf.cast(size, tf.float32))
        parts = []
        for level in predicted:
            likeliest = tf.minimum(candidates, tf.size(level.logits))
            logits, best = tf.math.top_k(level.logits, likeliest)
            boxes = box_ops.decode(tf.gather(level.deltas, best), tf.gather(level.anchors, best))
            boxes = box_ops.clip(boxes, height, width)
            least = settings.min_size * scale
            large = tf.reduce_all(boxes[:, 2:] - boxes[:, :2] >= least, axis=1)
            boxes, logits = tf.boolean_mask(boxes, large), tf.boolean_mask(logits, large)
            kept = tf.image.non_max_suppression(boxes, logits, count, settings.nms_iou)
            parts.append((tf.gather(boxes, kept), tf.gather(logits, kept)))
        boxes, logits = (tf.concat(part, axis=0) for part in zip(*parts, strict=True))
        _, best = tf.math.top_k(logits, tf.minimum(count, tf.size(logits)))
        original = box_ops.unscale(tf.gather(boxes, best), scale)
        return box_ops.clip(original, height / scale, width / scale)

    def losses(self, predicted: list[Level], image: Batch, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """{"rpn_cls", "rpn_box"}: means over the anchors that train the network, see `select`."""
        logits, deltas, anchors = (
            tf.concat(parts, axis=0) for parts in zip(*predicted, strict=True)
        )
        gt_boxes = box_ops.scale(image["gt_boxes"], image["scale"])
        height, width = tf.unstack(tf.cast(tf.shape(image["image"])[:2], tf.float32))
        if self.settings.inside_only:
            inside = tf.reduce_all(
                tf.concat([anchors[:, :2] >= 0.0, anchors[:, 2:] <= [height, width]], axis=1),
                axis=1,
            )
            logits, deltas, anchors = (
                tf.boolean_mask(x, inside) for x in (logits, deltas, anchors)
            )
        labels, targets = match_anchors(
            anchors, gt_boxes, self.settings.fg_iou, self.settings.bg_iou
        )
        is_object = tf.cast(labels > 0, tf.float32)
        cls = tf.nn.sigmoid_cross_entropy_with_logits(labels=is_object, logits=logits)
        box = is_object * tf.reduce_sum(_BETA * smooth_l1((deltas - targets) / _BETA), axis=1)
        chosen = self.select(anchors, labels, tf.stop_gradient(cls + box), seed)
        count = tf.cast(tf.size(chosen), tf.float32)
        return {
            "rpn_cls": tf.math.divide_no_nan(tf.reduce_sum(tf.gather(cls, chosen)), count),
            "rpn_box": tf.math.divide_no_nan(tf.reduce_sum(tf.gather(box, chosen)), count),
        }

    def select(
        self, anchors: tf.Tensor, labels: tf.Tensor, losses: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Which anchors train the network.

        Objects and background at random, background filling up where objects are short, as in the
        release; or, with `hard_mining`, those with the highest losses after the NMS of OHEM.

        Args:
          anchors: [A, 4] float32.
          labels: [A] int32, see `match_anchors`.
          losses: [A] float32.
          seed: [2] int32.

        Returns:
          [K] int32 indices, K <= anchors_per_image.
        """
        count = self.settings.anchors_per_image
        if self.settings.hard_mining:
            return select_hard_rois(anchors, losses, count, valid=labels >= 0)
        order = tf.random.stateless_uniform(tf.shape(labels), seed)
        objects = draw(labels == 1, order, round(self.settings.fg_fraction * count))
        background = draw(labels == 0, order, count - tf.size(objects))
        return tf.concat([objects, background], axis=0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for Keras."""
        return {
            "channels": self._channels,
            "strides": self._strides,
            "settings": dataclasses.asdict(self.settings),
            "dtype": self._compute_in,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RegionProposalNetwork:
        """The inverse of `get_config`."""
        return cls(**{**config, "settings": RPNSettings(**config["settings"])})
