"""A trained model and images of its training split, for scripts that look into a training step."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from ohem_tf import experiment
from ohem_tf.data import statistics
from ohem_tf.data.ground_truth import ground_truth
from ohem_tf.data.joined import open_split
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError
from ohem_tf.hard_mining import HardMining
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.workdir import restore


class Trained:
    """The model of a workdir.

    Attributes:
      config: that it was trained with, but for one image a batch, without flips.
      records: its training split.
      model: without weights until `restore`.
    """

    def __init__(self, workdir: str) -> None:
        self.config: ConfigDict = experiment.trained_config(None, {}, workdir)
        data = self.config.data
        self.records: RecordReader = open_split(
            data.dir, data.train_split, "config.data.train_split"
        )
        self._sampler = experiment.build_sampler(self.config)
        data.flip, self.config.train.images_per_step, self.config.seed = "none", 1, 0
        self._stream = experiment.training_stream(self.config, self.records)
        classes = len(self.records.classes)
        self.model: FastRCNN = experiment.build_model(self.config, classes, load_weights=False)
        self._statistics = statistics.target_statistics(
            self.records, data.max_proposals, True, self.config.fg_iou, data.crowd_ioa
        )

    def hard_mining(self) -> HardMining:
        """Its sampler.

        Raises:
          InputError: it was not trained with the paper's ranking.
        """
        sampler = self._sampler
        if (
            not isinstance(sampler, HardMining)
            or sampler.fg_fraction < 1
            or sampler.rank_by == "cls"
        ):
            raise InputError("--workdir: this model was not trained with the paper's OHEM")
        return sampler

    def restore(self, path: str) -> None:
        """Loads weights; the losses that the model then computes are those of training."""
        restore(self.model, path)
        self.model.roi_head.change_target_statistics(*self._statistics)

    def batches(self, images: int) -> tf.data.Dataset:
        """The first `images` of the training stream, or all if there are fewer, one a batch."""
        return self._stream.dataset().take(min(images, len(self.records)))

    def difficult(self, images: int) -> list[np.ndarray]:
        """Of the same images the boxes [G, 4] of `difficult` objects, which training leaves out."""
        truth = {image["image_id"]: image for image in ground_truth(self.records)}
        ids = [self._stream.image_ids(i)[0] for i in range(min(images, len(self.records)))]
        return [truth[i]["boxes"][truth[i]["difficult"]] for i in ids]
