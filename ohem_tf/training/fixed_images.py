"""A few images of the training split, always the same: what a model mines in them, drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image

from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.hard_mining import HardMining
from ohem_tf.inference.detection import Detections
from ohem_tf.inference.roi_pictures import Mined, draw_mining
from ohem_tf.models.batches import Batch, unbatch
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.models.selection import Selection, select
from ohem_tf.sampler import Sampler

LEAST_SCORE = 0.5  # of a detection that is drawn, as of ohem_tf.detect


class FixedImages:
    """The images, not flipped and as training resizes them, and the pass that mines in them.

    It draws no random number from a generator that training uses, and reads a stream of its own.

    Attributes:
      ids: of the images.
    """

    def __init__(
        self, model: FastRCNN, sampler: Sampler, stream: TrainingStream, count: int, chunk: int
    ) -> None:
        """Reads the images.

        Args:
          model: its weights may change; each call sees those of the moment.
          sampler: what mines, or chooses RoIs in another way.
          stream: that the model is trained on.
          count: images; fewer if there are fewer.
          chunk: RoIs per forward step, see `models.selection.select`.

        Raises:
          tf.errors.OpError: one of them cannot be read.
        """
        alone = dataclasses.replace(stream, images_per_step=1, seed=0, flip="none")
        count = min(count, len(stream.records))
        self.ids = [alone.image_ids(position)[0] for position in range(count)]
        self._classes = stream.records.classes
        self._sampler = sampler
        batches = alone.dataset().take(count)
        self._batches: list[Batch] = list(batches)
        seed = tf.TensorSpec([2], tf.int32)
        self._select = tf.function(
            lambda batch, seed: select(model, sampler, unbatch(batch)[0], seed, chunk),
            input_signature=[batches.element_spec, seed],
        )

    def mined(self, step: int) -> list[Mined]:
        """What the model mines in each image now; pixels are those of the resized image.

        Args:
          step: the seed of a sampler that draws at random.
        """
        found = []
        for position, batch in enumerate(self._batches):
            selection = self._select(batch, tf.constant([step, position], tf.int32))
            selection = Selection(*(x.numpy() for x in selection))
            boxes = selection.boxes * batch["scale"][0].numpy()
            left_out = self._removed(selection.losses, selection.selected)
            found.append(Mined(boxes, *selection[1:], left_out))
        return found

    def picture(
        self,
        index: int,
        mined: Mined,
        detect: Callable[[np.ndarray, np.ndarray], Detections],
        side: int = 400,
    ) -> Image.Image:
        """The image `index` with its RoIs and its detections.

        Args:
          mined: of the same image.
          detect: from an image [H, W, 3] uint8 and proposals [R, 4] to detections, as numpy arrays.
          side: of the longer side of a panel, pixels.
        """
        (image,) = unbatch(self._batches[index])
        photo = np.clip(np.round(image["image"].numpy()), 0, 255).astype(np.uint8)
        found = detect(photo, image["proposals"].numpy() * image["scale"].numpy())
        sure = found.scores >= LEAST_SCORE
        found = Detections(*(x[sure] for x in found))
        return draw_mining(photo, mined, found, self._classes, side)

    def _removed(self, losses: np.ndarray, selected: np.ndarray) -> np.ndarray:
        """Those that the NMS of hard mining removed; none where a limit on foreground did too."""
        sampler = self._sampler
        if not isinstance(sampler, HardMining) or sampler.fg_fraction < 1 or not len(selected):
            return np.zeros(0, np.int32)
        harder = np.flatnonzero(losses > losses[selected].min())
        return np.setdiff1d(harder, selected)
