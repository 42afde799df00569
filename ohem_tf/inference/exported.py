"""Runs a SavedModel that export.saved_model wrote, without the code of its model."""

from __future__ import annotations

import json
import os

import numpy as np
import tensorflow as tf

from ohem_tf.errors import InputError, first_line
from ohem_tf.inference.detection import Detections


class ExportedPredictor:
    """An exported detector, called as `inference.predict.Predictor`.

    Attributes:
      classes: names of the classes 1..K.
      needs_proposals: whether the model takes proposals with an image.
    """

    def __init__(self, folder: str) -> None:
        """Loads EXPORT_DIR/VERSION, or of EXPORT_DIR the highest version, as the server does.

        Raises:
          InputError: no SavedModel, or not one of ours.
        """
        path = _version(folder)
        try:
            # The signatures belong to the loaded object, which has to stay.
            self._loaded = tf.saved_model.load(path)
            self._detect = self._loaded.signatures["from_tensors"]
            answer = self._loaded.signatures["metadata"](key=tf.constant(["classes"]))
        except (OSError, KeyError, tf.errors.OpError) as error:
            reason = first_line(error)
            raise InputError(
                f"--saved_model: {path} is not an export of export.saved_model: {reason}"
            ) from error
        self.needs_proposals = "proposals" in self._detect.structured_input_signature[1]
        self.classes: tuple[str, ...] = tuple(json.loads(answer["value"].numpy()[0]))

    def __call__(self, image: np.ndarray, proposals: np.ndarray | None = None) -> Detections:
        """Detections of one image, as numpy arrays.

        Args:
          image: [H, W, 3] uint8.
          proposals: [R, 4]; a model that needs none takes its own instead.

        Raises:
          InputError: the model refuses the image or the proposals.
        """
        inputs = {"images": tf.constant(image[None])}
        if self.needs_proposals:
            if proposals is None:
                raise InputError("proposals: this model needs them with each image")
            inputs["proposals"] = tf.constant(proposals[None], tf.float32)
        try:
            outputs = self._detect(**inputs)
        except tf.errors.InvalidArgumentError as error:
            reason = next(x for x in str(error).splitlines() if "[" in x)
            raise InputError(f"the exported model refuses this: {reason}") from error
        return from_outputs({k: v.numpy() for k, v in outputs.items()}, [image.shape[:2]])[0]


def from_outputs(outputs: dict[str, np.ndarray], sizes: list[tuple[int, int]]) -> list[Detections]:
    """The outputs of `serving_default` or `from_tensors` as detections in pixels.

    Args:
      outputs: {"detection_boxes": [B, D, 4], ...}, see export/served.py.
      sizes: (height, width) of the B images.

    Returns:
      B times `Detections` of numpy arrays, without what fills up.
    """
    found = []
    for i, (height, width) in enumerate(sizes):
        count = int(outputs["num_detections"][i])
        scale = np.array([height, width, height, width], np.float32)
        found.append(
            Detections(
                outputs["detection_boxes"][i, :count] * scale,
                outputs["detection_scores"][i, :count],
                outputs["detection_classes"][i, :count].astype(np.int32),
            )
        )
    return found


def version_numbers(folder: str) -> list[int]:
    """The versions in an export folder, ascending; unfinished ones (`.tmp-...`) do not count."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(name) for name in names if name.isdecimal())


def _version(folder: str) -> str:
    """`folder` itself if it is a SavedModel, else its highest version."""
    if os.path.isfile(os.path.join(folder, "saved_model.pb")):
        return folder
    versions = version_numbers(folder)
    if not versions:
        raise InputError(
            f"--saved_model: {folder} is no SavedModel and holds no version of one; expected what "
            "python -m export.saved_model wrote"
        )
    return os.path.join(folder, str(versions[-1]))
