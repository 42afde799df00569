"""Which labels a trained model doubts: online hard example mining as a label checker.

Training with OHEM looks for the RoIs that the network gets most wrong. After training, what is
still wrong is either too hard for the model, or wrong in the annotations. So the losses of all RoIs
are computed once more, without dropout, and shown are

- background RoIs with a high loss: the model sees an object where none is annotated. Left out are
  RoIs that the annotations explain: they overlap an object a little less than foreground does, or
  they are a part of an object of the class that the model sees (or that it takes for one), or hold
  one. Of overlapping RoIs one is shown, by the NMS of hard mining.
- annotated boxes, as RoIs of their own, with a high loss: the model sees another class there, or
  the same class with another box, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from ohem_tf import boxes as box_ops
from ohem_tf import devices, experiment
from ohem_tf.checking import findings as kinds
from ohem_tf.checking.findings import Finding, Mark, Picture
from ohem_tf.data import statistics
from ohem_tf.data.joined import check_classes, open_split
from ohem_tf.data.reader import RecordReader, read_dataset_info
from ohem_tf.data.records import Record, from_example
from ohem_tf.errors import InputError
from ohem_tf.hard_mining import select_hard_rois
from ohem_tf.losses import roi_losses
from ohem_tf.models.batches import Batch, unbatch
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.models.roi_network import NON_FINITE, Features
from ohem_tf.progress import tqdm
from ohem_tf.workdir import checkpoint_path, load_saved

EXPLAINED_IOU = 0.3  # with an annotated object of any class
EXPLAINED_SHARE = 0.5  # of the smaller of two boxes, with an object of the class that is seen
SHOWN_IOU = 0.3  # of two background RoIs that overlap by more, the one with the higher loss
PER_IMAGE = 5  # background RoIs shown of an image at most


class Examined(NamedTuple):
    """The RoIs of one image, annotated boxes first; numpy, R RoIs.

    Attributes:
      boxes: [R, 4] float32 pixels of the original image.
      labels: [R] int32, 0 for background.
      losses: [R] float32 classification and box, as hard mining ranks them.
      probabilities: [R, K+1] float32.
      annotated: how many of them are annotated boxes.
      proposals: [P, 4] float32 pixels: what detection looks at, of the record or the model's own.
    """

    boxes: np.ndarray
    labels: np.ndarray
    losses: np.ndarray
    probabilities: np.ndarray
    annotated: int
    proposals: np.ndarray


class Image(NamedTuple):
    """An image that was examined: its record, and its split with its classes."""

    examined: Examined
    record: Record
    split: str
    classes: tuple[str, ...]

    def doubts(self, min_loss: float) -> list[Finding]:
        """The labels that the model doubts, in no order; see `LabelCheck.findings`."""
        losses = self.examined.losses[: self.examined.annotated]
        annotated = np.flatnonzero(losses >= min_loss)
        chosen = (*unlabelled(self.examined, self.record, min_loss), *annotated)
        return [_describe(self, int(index)) for index in chosen]


def trained_on(workdir: str) -> tuple[str, str]:
    """The folder of records and the split that the model of a workdir was trained on."""
    data = experiment.trained_config(None, {}, workdir).data
    return data.dir, data.train_split


class LabelCheck:
    """A trained model, and the records whose labels it is to look at."""

    def __init__(
        self, workdir: str, checkpoint: str, directory: str, expressions: Sequence[str]
    ) -> None:
        """Opens both; looks at no image yet.

        Args:
          workdir, checkpoint: see `experiment.load_model`.
          directory, expressions: the records and their splits, see `joined.open_split`; none: all.
            A split without annotations is left out.

        Raises:
          InputError: as `experiment.load_model` and `open_split`; records of other classes than
            the model's, or without the proposals that it needs.
        """
        devices.use_one()
        self._config = experiment.trained_config(None, {}, workdir)
        looked_at = self._config.copy_and_resolve_references()
        looked_at.data.dir = directory
        classes = load_saved(workdir)["classes"]
        self._splits: dict[str, RecordReader] = {}
        for name in expressions or read_dataset_info(directory)["splits"]:
            records = open_split(directory, name, "--split", annotated=False)
            if records.annotated:
                check_classes(f"--workdir: {workdir}", classes, name, records.classes)
                experiment.check_proposals(looked_at, records, "--split")
                self._splits[name] = records
        self._model = _open_model(self._config, workdir, checkpoint)

    def findings(self, min_loss: float) -> list[Finding]:
        """The labels that the model doubts, by descending loss.

        Args:
          min_loss: of a RoI that is reported; at 1, its label has a probability of 0.37 or less.

        Raises:
          InputError: a loss is not finite.
        """
        found = [doubt for image in self.images() for doubt in image.doubts(min_loss)]
        return sorted(found, key=by_loss)

    def images(self, most: int | None = None) -> Iterator[Image]:
        """The images, examined one after the other, with progress.

        Args:
          most: of each split at most so many, chosen at random but always the same; None: all.

        Raises:
          InputError: a loss is not finite.
        """
        for name, records in self._splits.items():
            yield from _of_split(self._model, self._config, records, name, most)


def by_loss(finding: Finding) -> float:
    """The key that sorts what `Image.doubts` gives by descending loss."""
    return -float(dict(finding.details)["loss"])


def _open_model(config: ConfigDict, workdir: str, checkpoint: str) -> FastRCNN:
    """The model of a workdir, with the losses of training."""
    model = experiment.load_model(config, workdir, checkpoint)
    if checkpoint_path(workdir, checkpoint).endswith(".weights.h5"):
        # The normalisation of the targets is folded into these; the box loss counts it.
        data = config.data
        train = open_split(data.dir, data.train_split, "config.data.train_split")
        measured = statistics.target_statistics(
            train, data.max_proposals, True, config.fg_iou, data.crowd_ioa
        )
        model.roi_head.change_target_statistics(*measured)
    return model


def examine(model: FastRCNN, image: Batch) -> dict[str, tf.Tensor]:
    """`Examined` of one image of `unbatch`, as tensors."""
    network = model.roi_network
    features = model.image_features(image["image"])
    rois = model.training_rois(image, features)
    pooled = network.pooler(features, box_ops.scale(rois.boxes, image["scale"]))
    logits, deltas = network.head(pooled)
    losses = roi_losses(logits, deltas, rois.labels, rois.targets)
    return {
        "boxes": rois.boxes,
        "labels": rois.labels,
        "losses": network.checked(losses.ranking),
        "probabilities": tf.nn.softmax(logits),
        "annotated": tf.shape(image["gt_boxes"])[0],
        "proposals": _proposals(model, image, features),
    }


def _proposals(model: FastRCNN, image: Batch, features: Features) -> tf.Tensor:
    if model.proposer.needs_proposals:
        return image["proposals"]
    return model.propose(features, tf.shape(image["image"])[:2], image["scale"])


def _of_split(
    model: FastRCNN, config: ConfigDict, records: RecordReader, split: str, most: int | None
) -> Iterator[Image]:
    config = config.copy_and_resolve_references()
    config.data.flip, config.train.images_per_step, config.seed = "none", 1, 0
    stream = experiment.training_stream(config, records)
    count = len(records) if most is None else min(most, len(records))
    dataset = stream.dataset().take(count)

    @tf.function(input_signature=[dataset.element_spec])
    def compiled(batch: Batch) -> dict[str, tf.Tensor]:
        return examine(model, unbatch(batch)[0])

    bar = tqdm(total=count, desc=f"trained model, {split}", unit="image")
    for position, batch in enumerate(dataset):
        try:
            tensors = compiled(batch)
        except tf.errors.InvalidArgumentError as error:
            if NON_FINITE not in str(error):
                raise
            raise InputError(f"--workdir: a loss is not finite in {split}") from error
        examined = Examined(**{name: value.numpy() for name, value in tensors.items()})
        record = from_example(records[stream.choice(position).record])
        bar.update()
        yield Image(examined, record, split, records.classes)
    bar.close()


def unlabelled(examined: Examined, record: Record, min_loss: float) -> np.ndarray:
    """Indices [K] of the background RoIs that look like objects, by descending loss."""
    background = np.flatnonzero((examined.labels == 0) & (examined.losses >= min_loss))
    background = background[~_explained(examined, background, record)]
    boxes, losses = examined.boxes[background], examined.losses[background]
    return background[select_hard_rois(boxes, losses, PER_IMAGE, SHOWN_IOU).numpy()]


def _explained(examined: Examined, chosen: np.ndarray, record: Record) -> np.ndarray:
    """[K] bool: of RoIs [K], those that an annotated object, also a difficult one, explains."""
    boxes, objects = examined.boxes[chosen], record.boxes
    if not len(objects) or not len(boxes):
        return np.zeros(len(boxes), np.bool_)
    overlaps = box_ops.iou(boxes, objects).numpy()
    shares = np.maximum(box_ops.ioa(boxes, objects), tf.transpose(box_ops.ioa(objects, boxes)))
    seen = 1 + np.argmax(examined.probabilities[:, 1:], axis=1)
    same = seen[chosen, None] == record.classes[None, :]
    # What is wrong about the class of an object is said once, of the object itself.
    countable = np.flatnonzero(~(record.difficult | record.crowd))
    same[:, countable] |= seen[chosen, None] == seen[None, : examined.annotated]
    near = (overlaps > EXPLAINED_IOU) | ((shares > EXPLAINED_SHARE) & same)
    return np.any(near, axis=1)


def _describe(image: Image, index: int) -> Finding:
    examined, record, split, classes = image
    label, loss = int(examined.labels[index]), float(examined.losses[index])
    probabilities = examined.probabilities[index]
    # For background the class that it looks like most, even if background seems likelier still.
    seen = int(np.argmax(probabilities)) if label else 1 + int(np.argmax(probabilities[1:]))
    score = float(probabilities[seen])
    what = classes[seen - 1] if seen else "background"
    name = classes[label - 1] if label else "background"
    ymin, xmin, ymax, xmax = examined.boxes[index].tolist()
    where = f"{split}: image {record.image_id}: [{ymin:.0f}, {xmin:.0f}, {ymax:.0f}, {xmax:.0f}]"
    if label == 0:
        kind, said = kinds.UNLABELLED, f"looks like an unlabelled {what} ({score:.2f})"
    elif seen == 0:
        kind, said = kinds.UNSEEN, f"annotated {name}, the model sees nothing ({score:.2f})"
    elif seen == label:
        said = f"annotated {name}, the model agrees ({score:.2f}), but puts the box elsewhere"
        kind = kinds.SUSPECT
    else:
        kind, said = kinds.SUSPECT, f"annotated {name}, the model sees {what} ({score:.2f})"
    mark = Mark((ymin, xmin, ymax, xmax), f"{what} {score:.2f}")
    details: dict[str, Any] = {"loss": loss, "annotated": name, "seen": what, "score": score}
    return Finding(
        kind,
        kinds.LOOK,
        split,
        f"{where} {said}; loss {loss:.2f}",
        (Picture(split, record.image_id, (mark,)),),
        tuple(details.items()),
    )
