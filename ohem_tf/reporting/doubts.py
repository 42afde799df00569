"""The RoIs with the highest losses, of the split that a run was evaluated on: its model runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ohem_tf import boxes as box_ops
from ohem_tf.checking.findings import LOOK, Finding, Mark, Picture
from ohem_tf.checking.labels import Image, LabelCheck, by_loss
from ohem_tf.checking.recall import Recall
from ohem_tf.checking.stored import entry
from ohem_tf.errors import InputError
from ohem_tf.hard_mining import select_hard_rois
from ohem_tf.reporting.runs import Run
from ohem_tf.reporting.split import Split
from ohem_tf.workdir import CHECKPOINTS, SNAPSHOTS

HARD = "other hard RoI"
MEANING = (
    "RoIs with a high loss that the annotations explain: background beside an object or in it, and "
    "proposals of an object with a poor box. What hard mining selects when the labels are right."
)
MIN_LOSS = 1.0  # at 1, a label has a probability of 0.37 or less
_PER_IMAGE = 2


class Doubts(NamedTuple):
    """What a model finds hard.

    Attributes:
      findings: by descending loss, see `checking.labels`, and those of the kind `HARD`.
      images: how many it looked at.
      recall: of the proposals in them.
    """

    findings: list[Finding]
    images: int
    recall: Recall


def checkpoint_of(run: Run) -> str:
    """The path of the weights that made the detections of a run.

    Raises:
      InputError: they are gone.
    """
    name = os.path.basename(run.settings["checkpoint"])
    for folder in (CHECKPOINTS, "", SNAPSHOTS):
        path = os.path.join(run.workdir, folder, name)
        if os.path.exists(path if name.endswith(".weights.h5") else f"{path}.index"):
            return path
    raise InputError(
        f"{run.workdir}: {name}, which made its detections, is gone; evaluate again, or give "
        "--loss_images=0 for a report without the RoIs of the highest losses"
    )


def look(run: Run, split: Split, most: int) -> Doubts:
    """Runs the model of `run` on at most `most` images of `split`, with progress.

    Raises:
      InputError: see `checkpoint_of` and `checking.labels.LabelCheck`.
    """
    check = LabelCheck(run.workdir, checkpoint_of(run), split.directory, [split.name])
    findings: list[Finding] = []
    recall = Recall(run.classes)
    for image in check.images(most):
        doubted = image.doubts(MIN_LOSS)
        findings += doubted
        findings += _others(image, {finding.pictures[0].marks[0].box for finding in doubted})
        objects = entry(image.record, split.name, image.classes).objects
        recall.add(objects, image.examined.proposals)
    return Doubts(sorted(findings, key=by_loss), recall.images, recall)


def _others(image: Image, doubted: set[tuple[float, ...]]) -> Iterator[Finding]:
    """The hardest RoIs of an image that are no doubt of its labels."""
    examined = image.examined
    high = np.flatnonzero(examined.losses >= MIN_LOSS)
    chosen = select_hard_rois(examined.boxes[high], examined.losses[high], len(high)).numpy()
    others = [i for i in high[chosen] if tuple(examined.boxes[i].tolist()) not in doubted]
    for i in others[:_PER_IMAGE]:
        label, loss = int(examined.labels[i]), float(examined.losses[i])
        seen = int(np.argmax(examined.probabilities[i]))
        names = ("background", *image.classes)
        score = float(examined.probabilities[i, seen])
        mark = Mark(tuple(examined.boxes[i].tolist()), f"{names[seen]} {score:.2f}")
        said = f"labelled {names[label]}, the model sees {names[seen]} ({score:.2f})"
        yield Finding(
            HARD,
            LOOK,
            image.split,
            f"image {image.record.image_id}: {said}; loss {loss:.2f}",
            (Picture(image.split, image.record.image_id, (mark, *_beside(image, i))),),
            (("loss", loss),),
        )


def _beside(image: Image, index: int) -> Iterator[Mark]:
    """The annotated object that a RoI overlaps most, if there is one and it is not the RoI."""
    box, objects = image.examined.boxes[index : index + 1], image.record.boxes
    overlaps = box_ops.iou(box, objects).numpy()[0] if len(objects) else np.zeros(0)
    if len(overlaps) and 0 < overlaps.max() < 1:
        nearest = int(np.argmax(overlaps))
        name = image.classes[image.record.classes[nearest] - 1]
        yield Mark(tuple(objects[nearest].tolist()), name, beside=True)
