"""The exported module: a trained detector behind the signatures of the Object Detection API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from export import checked
from ohem_tf.inference.detection import detect
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.settings import DetectionSettings

_BYTES = tf.TensorSpec([None], tf.string)
_IMAGE = tf.TensorSpec([None, None, 3], tf.uint8)
_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8)
_BOXES = tf.TensorSpec([None, 4], tf.float32)
_PROPOSALS = tf.TensorSpec([None, None, 4], tf.float32)


class ServedDetector(tf.Module):
    """Whole detection of B images as one graph, in operations that every TensorFlow has.

    Outputs of `serving_default` and `from_tensors`, named and scaled as the TF Object Detection
    API's exporter does (research/object_detection/exporter_lib_v2.py), all float32:

      detection_boxes: [B, D, 4] [ymin, xmin, ymax, xmax] normalized: from 0 to 1.
      detection_scores: [B, D], descending.
      detection_classes: [B, D] 1-based: 1 is the first line of assets/classes.txt.
      num_detections: [B]: how many rows of each image are detections; zeros fill up to D, which is
        the setting `max_detections`.

    The B images go through one after the other, each with all threads: that takes the memory of
    one.
    """

    def __init__(
        self,
        model: FastRCNN,
        settings: DetectionSettings,
        metadata: Mapping[str, Any],
        max_pixels: int,
    ) -> None:
        """Compiles the signatures.

        Args:
          model: the trained detector.
          settings: of `detection.detect`.
          metadata: what the signature `metadata` answers with, anything that json writes.
          max_pixels: the largest height times width of an image.
        """
        super().__init__(name="served_detector")
        self._settings, self._max_pixels = settings, max_pixels
        self._metadata = {key: json.dumps(value) for key, value in metadata.items()}
        self._detect = tf.function(
            lambda image, proposals=None: detect(model, image, proposals, settings),
            input_signature=[_IMAGE, _BOXES] if model.needs_proposals else [_IMAGE],
        )
        given = [_PROPOSALS] if model.needs_proposals else []
        self.serving_default = tf.function(self._serve_bytes, input_signature=[_BYTES, *given])
        self.from_tensors = tf.function(self._serve_tensors, input_signature=[_IMAGES, *given])
        # The graph's own list: walking the attributes of a Keras model may miss some.
        self.weights = self.by_name()["serving_default"].variables

    def by_name(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures, as `tf.saved_model.save` takes them."""
        functions = (self.serving_default, self.from_tensors, self.metadata)
        names = ("serving_default", "from_tensors", "metadata")
        return {
            name: function.get_concrete_function()
            for name, function in zip(names, functions, strict=True)
        }

    def _serve_bytes(
        self, image_bytes: tf.Tensor, proposals: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Detects in encoded images, each of any size.

        Args:
          image_bytes: [B] string, JPEG or PNG files. An EXIF orientation is ignored.
          proposals: [B, R, 4] float32 [ymin, xmin, ymax, xmax] in pixels of the image as sent;
            rows of zeros fill up where an image has fewer than R. R may be 0. A model that needs
            no proposals has no such input.
        """

        def decode(encoded: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
            return checked.decode(encoded, row, self._max_pixels)

        with checked.same_batch(image_bytes, "image_bytes", 1, proposals):
            return self._detect_each(decode, tf.identity(image_bytes), proposals)

    def _serve_tensors(
        self, images: tf.Tensor, proposals: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Detects in images of one size that are decoded already.

        Args:
          images: [B, H, W, 3] uint8 RGB.
          proposals: as in `serving_default`.
        """

        def check(image: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
            height, width = tf.unstack(tf.shape(image)[:2])
            with checked.size_checked("images", height, width, row, self._max_pixels):
                return tf.identity(image)

        with checked.same_batch(images, "images", 4, proposals):
            return self._detect_each(check, tf.identity(images), proposals)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def metadata(self, key: tf.Tensor) -> dict[str, tf.Tensor]:
        """Tells a client what it needs to know of the model.

        It has an input because the server's REST interface calls no signature without one.

        Args:
          key: [N] string, keys of assets/metadata.json, such as "classes".

        Returns:
          value: [N] string, their values there as json.
        """
        known = list(self._metadata)
        matches = key[:, None] == tf.constant(known)
        found = tf.reduce_all(tf.reduce_any(matches, axis=1))
        with tf.control_dependencies(
            [tf.debugging.Assert(found, [f"key: expected of {', '.join(known)}; got", key])]
        ):
            which = tf.argmax(tf.cast(matches, tf.int32), axis=1)
        return {"value": tf.gather(tf.constant(list(self._metadata.values())), which)}

    def _detect_each(
        self,
        image_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        inputs: tf.Tensor,
        proposals: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        size = self._settings.max_detections

        def one(row: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
            index, given, *boxes = row
            image = image_of(given, index)
            height, width = tf.unstack(tf.shape(image)[:2])
            found = self._detect(
                image, *(checked.proposals_of(x, height, width, index) for x in boxes)
            )
            count = tf.shape(found.scores)[0]
            scale = tf.cast(tf.stack([height, width, height, width]), tf.float32)

            def filled(values: tf.Tensor) -> tf.Tensor:
                rest = tf.zeros(tf.concat([[size - count], tf.shape(values)[1:]], axis=0))
                full = tf.concat([tf.cast(values, tf.float32), rest], axis=0)
                return tf.ensure_shape(full, [size, *values.shape[1:]])

            return {
                "detection_boxes": filled(found.boxes / scale),
                "detection_scores": filled(found.scores),
                "detection_classes": filled(found.classes),
                "num_detections": tf.cast(count, tf.float32),
            }

        given = () if proposals is None else (tf.identity(proposals),)
        rows = (tf.range(tf.shape(inputs)[0]), inputs, *given)
        specs = {
            "detection_boxes": tf.TensorSpec([size, 4]),
            "detection_scores": tf.TensorSpec([size]),
            "detection_classes": tf.TensorSpec([size]),
            "num_detections": tf.TensorSpec([]),
        }
        return tf.map_fn(one, rows, fn_output_signature=specs, parallel_iterations=1)
