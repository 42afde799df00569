"""What TensorBoard shows beside the log: what is mined in a few fixed images, and PR curves."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.pr_curve import metadata as curve_metadata

from ohem_tf import boxes as box_ops
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.errors import first_line
from ohem_tf.evaluation import voc
from ohem_tf.evaluation.report import ignoring_crowds
from ohem_tf.inference.detection import Detections
from ohem_tf.inference.roi_pictures import Mined
from ohem_tf.progress import say
from ohem_tf.training.fixed_images import FixedImages
from ohem_tf.training.log import TrainingLog

# Two RoIs that overlap more are one, as for the paper's NMS on the losses.
SAME_IOU = 0.7
_THRESHOLDS = 101  # scores 0, 0.01 ... 1 of a PR curve


class Board(keras.callbacks.Callback):
    """Mines in the same few training images every `every` steps and at the end, and shows it.

    Pictures (see `roi_pictures.draw_mining`), histograms of the loss over all RoIs and over the
    selected ones, the share of foreground and of each class among the selected, and how many of
    them were selected the last time too. It goes to TensorBoard alone, changes nothing of the
    training, and never ends it: if it fails, it says so once and stops.

    Its cost is a forward pass over, and a detection in, each image: that of two or three steps for
    four images. The time is left out of the log's images/s.
    """

    def __init__(
        self,
        log: TrainingLog,
        stream: TrainingStream,
        detect: Callable[[np.ndarray, np.ndarray], Detections],
        every: int,
        images: int,
        chunk: int,
    ) -> None:
        """Stands behind `log` in the list of callbacks.

        Args:
          log: whose TensorBoard is written to.
          stream: the training examples.
          detect: as of `FixedImages.picture`.
          every: steps; 0 does nothing.
          images: how many.
          chunk: RoIs per forward step, to bound the memory of the pass; 0 takes all at once.
        """
        super().__init__()
        self._log, self._stream, self._detect = log, stream, detect
        self._every, self._count, self._chunk = every, images, chunk
        self._images: FixedImages | None = None
        self._before: list[Mined] = []
        self._looked = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Reads the images."""
        if self._every:
            try:
                self._images = FixedImages(
                    self.model, self.model.sampler, self._stream, self._count, self._chunk
                )
            except Exception as error:  # a record that is damaged: training comes to it by itself
                self._stop(error)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at every `every`-th step."""
        if self._images is not None and self.model.step % self._every == 0:
            self._look(self._images)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Looks at the final weights."""
        if self._images is not None and self._looked != self.model.step:
            self._look(self._images)

    def _look(self, images: FixedImages) -> None:
        self._looked = step = self.model.step
        try:
            mined = images.mined(step)
            pictures = [images.picture(i, x, self._detect) for i, x in enumerate(mined)]
            with self._log.summaries(step):
                for name, picture in zip(images.ids, pictures, strict=True):
                    _write_image(f"rois/{name}", picture)
                self._write_values(mined)
            self._before = mined
        except Exception as error:  # no memory for it on a GPU, say
            self._stop(error)
        self._log.restart_clock()

    def _write_values(self, mined: Sequence[Mined]) -> None:
        """Histograms and scalars of all images together."""
        every, hard = [x.losses for x in mined], [x.losses[x.selected] for x in mined]
        for name, losses in (("all", np.concatenate(every)), ("hard", np.concatenate(hard))):
            tf.summary.histogram(f"roi_loss/{name}", losses[np.isfinite(losses)])
        labels = np.concatenate([x.labels[x.selected] for x in mined])
        if len(labels):
            tf.summary.scalar("hard_rois/foreground", np.mean(labels > 0))
            for label in np.unique(np.concatenate([x.labels for x in mined])):
                if label:
                    name = self._stream.records.classes[label - 1]
                    tf.summary.scalar(f"hard_rois/class/{name}", np.mean(labels == label))
        if self._before:
            tf.summary.scalar("hard_rois/kept", share_kept(self._before, mined))

    def _stop(self, error: Exception) -> None:
        self._images = None
        say(f"no more pictures in TensorBoard: {first_line(error)}")


def share_kept(before: Sequence[Mined], now: Sequence[Mined]) -> float:
    """How many of the selected RoIs of the same images were selected before too, in [0, 1].

    A RoI was, if its IoU with one that was selected then is above `SAME_IOU`: proposals of the
    model's own move, and of two recorded ones that overlap so much, the NMS takes either.
    """
    kept, count = 0, 0
    for old, new in zip(before, now, strict=True):
        overlap = box_ops.iou(new.boxes[new.selected], old.boxes[old.selected]).numpy()
        kept += int(np.sum(overlap.max(axis=1, initial=0.0) > SAME_IOU))
        count += len(new.selected)
    return kept / max(count, 1)


def write_curves(
    log: TrainingLog,
    step: int,
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    class_names: Sequence[str],
    iou_threshold: float,
) -> None:
    """The precision-recall curve of each class, for TensorBoard's PR CURVES.

    Args:
      log: whose TensorBoard is written to.
      step: that the detections are of.
      ground_truth, detections, class_names, iou_threshold: as of `evaluation.report.metrics`;
        detections with a score below 0.01 are left out.

    Raises:
      WriteError: they cannot be written.
    """
    sure = [_at_least(found, 1 / (_THRESHOLDS - 1)) for found in detections]
    matched = voc.match(ignoring_crowds(ground_truth), sure, iou_threshold)
    with log.summaries(step):
        for label, of_class in matched.items():
            if np.sum(of_class.objects):
                name = f"pr/{class_names[label - 1]}"
                metadata = curve_metadata.create_summary_metadata(name, "", _THRESHOLDS)
                tf.summary.write(name, curve_values(of_class), metadata=metadata)


def curve_values(matched: voc.Matched) -> np.ndarray:
    """[6, 101] float32: a PR curve at scores of at least 0, 0.01 ... 1, as TensorBoard has it.

    True and false positives, true negatives (there are none in detection), false negatives,
    precision (0 without a detection), recall.
    """
    least = np.linspace(0.0, 1.0, _THRESHOLDS)
    counts = np.searchsorted(-matched.scores, -least, side="right")
    hits = np.append(0, np.cumsum(matched.hits))[counts]
    objects = np.sum(matched.objects)
    precision = hits / np.maximum(counts, 1)
    rows = hits, counts - hits, np.zeros(_THRESHOLDS), objects - hits, precision, hits / objects
    return np.stack(rows).astype(np.float32)


def _at_least(found: Mapping, score: float) -> dict:
    sure = np.asarray(found["scores"]) >= score
    return {name: np.asarray(found[name])[sure] for name in ("boxes", "scores", "classes")}


def _write_image(tag: str, picture: Image.Image) -> None:
    """As tf.summary.image, but as JPEG: a fifth of the bytes."""
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=85)
    tf.summary.write(
        tag,
        tf.constant([str(picture.width), str(picture.height), encoded.getvalue()]),
        metadata=image_metadata.create_summary_metadata(None, ""),
    )
