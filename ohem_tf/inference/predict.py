"""Runs a detector over the images of a split."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ohem_tf.data.pipeline import evaluation_examples
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError
from ohem_tf.inference.detection import Detections, detect
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.progress import tqdm
from ohem_tf.settings import DetectionSettings


class Predictor:
    """`detection.detect` compiled once for images and proposals of any size.

    Attributes:
      needs_proposals: whether the model does.
    """

    def __init__(self, model: FastRCNN, settings: DetectionSettings) -> None:
        self.needs_proposals = model.needs_proposals
        boxes = [tf.TensorSpec([None, 4], tf.float32)] if model.needs_proposals else []
        self._detect = tf.function(
            lambda image, proposals=None: detect(model, image, proposals, settings),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), *boxes],
        )

    def __call__(self, image: np.ndarray, proposals: np.ndarray | None = None) -> Detections:
        """Detections of one image, as numpy arrays.

        Args:
          image: [H, W, 3] uint8.
          proposals: [R, 4]; a model that needs none takes its own instead.

        Raises:
          InputError: None, but the model needs proposals.
        """
        if self.needs_proposals and proposals is None:
            raise InputError("proposals: this model needs them with each image")
        inputs = (image, proposals) if self.needs_proposals else (image,)
        return Detections(*(x.numpy() for x in self._detect(*inputs)))


def predict_split(
    predictor: Predictor, records: RecordReader, progress: bool = True
) -> list[dict[str, np.ndarray]]:
    """Detections in every image of a split.

    Args:
      predictor: the detector.
      records: the split.
      progress: whether to show it.

    Returns:
      One dict per image, in the order of the records, as `evaluation.report.metrics` takes them;
      `data.ground_truth` reads what they are compared with.
    """
    examples = evaluation_examples(records)
    return [
        predictor(example["image"], example["proposals"])._asdict()
        for example in tqdm(
            examples, total=len(records), desc="evaluating", unit="image", disable=not progress
        )
    ]
