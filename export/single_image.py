"""The flavour for other runtimes: one decoded image in, detections out, as a plain graph."""

from __future__ import annotations

import tensorflow as tf

from export import convertible, warmup
from ohem_tf import boxes as box_ops
from ohem_tf import images
from ohem_tf.errors import InputError
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.settings import DetectionSettings

_IMAGE = tf.TensorSpec([None, None, 3], tf.uint8, "image")
_PROPOSALS = tf.TensorSpec([None, 4], tf.float32, "proposals")


class SingleImageDetector(tf.Module):
    """Detection in one image, in operations that tf2onnx and OpenVINO convert.

    The detections are those of `detection.detect`. The only signature is `serving_default`, which
    every converter takes by itself:

      image: [H, W, 3] uint8 RGB, original size.
      proposals: [R, 4] float32 [ymin, xmin, ymax, xmax] in pixels of `image`; R may be 0. A model
        that needs none has no such input.

    Outputs as those of `served.ServedDetector`, but for the batch, all float32:

      detection_boxes: [D, 4] [ymin, xmin, ymax, xmax] normalized: from 0 to 1.
      detection_scores: [D], descending.
      detection_classes: [D] 1-based.
      num_detections: []: how many of the D rows are detections; zeros fill up.

    Nothing is checked: there is no operation for it.
    """

    def __init__(self, model: FastRCNN, settings: DetectionSettings) -> None:
        """Compiles the signature.

        Args:
          model: the trained detector, in float32.
          settings: of `detection.detect`.

        Raises:
          InputError: as `check_settings`.
        """
        super().__init__(name="single_image_detector")
        check_settings(settings)
        self._model, self._settings = model, settings
        self._pooler = convertible.ConvertiblePooler(
            model.roi_network.pooler, settings.longest_side
        )
        given = [_IMAGE, _PROPOSALS] if model.needs_proposals else [_IMAGE]
        self.detect = tf.function(self._detect, input_signature=given)
        # The graph's own list: walking the attributes of a Keras model may miss some.
        self.weights = self.by_name()["serving_default"].variables

    def by_name(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures, as `tf.saved_model.save` takes them."""
        return {"serving_default": self.detect.get_concrete_function()}

    def _detect(self, image: tf.Tensor, proposals: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        model, settings = self._model, self._settings
        height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
        (side,) = set(settings.shortest_sides)
        resized, scale = images.resize(tf.cast(image, tf.float32), side, settings.longest_side)
        features = model.image_features(resized, plain=True)
        if proposals is None:
            proposals = model.propose(features, tf.shape(resized)[:2], scale)
        else:
            proposals = box_ops.clip(proposals, height, width)
            proposals = tf.boolean_mask(proposals, box_ops.area(proposals) > 0.0)
        rois = box_ops.first(proposals, settings.max_proposals)
        logits, deltas = model.roi_head(self._pooler(features, box_ops.scale(rois, scale)))
        boxes = box_ops.clip(model.roi_head.decode(deltas, rois), height, width)
        boxes, *others = convertible.select(tf.nn.softmax(logits), boxes, settings)
        names = ("detection_scores", "detection_classes", "num_detections")
        return {
            "detection_boxes": boxes / tf.stack([height, width, height, width]),
            **dict(zip(names, others, strict=True)),
        }


def random_inputs(side: int, needs_proposals: bool) -> dict[str, tf.Tensor]:
    """An image of noise, as wide again by a third as `side` pixels, and proposals if need be."""
    (request,) = warmup.requests(side, side * 4 // 3, needs_proposals)[:1]
    inputs = {"image": images.decode(tf.constant(request["image_bytes"][0]))}
    if needs_proposals:
        inputs["proposals"] = tf.constant(request["proposals"][0])
    return inputs


def check_settings(settings: DetectionSettings) -> None:
    """Raises InputError for what a single pass over a single image does not do."""
    for name, fits, expected in (
        ("shortest_sides", len(set(settings.shortest_sides)) == 1, "one scale"),
        ("flip", not settings.flip, "False"),
        ("rounds", settings.rounds == 1, "1"),
        ("nms", settings.nms == "hard", "'hard'"),
        ("voting", not settings.voting, "False"),
    ):
        if not fits:
            raise InputError(
                f"config.detection.{name} is {getattr(settings, name)!r}; --flavour=single_image "
                f"takes {expected}"
            )
