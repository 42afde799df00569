"""What preparation does with one image, as pure functions.

`check_image` reads and checks an image and its annotation; `make_record` turns what was checked
into a record; `serialize` gives its bytes. They are functions of their arguments and of the one
file (or two: image and annotation) that these name; they write nothing and keep nothing between
calls, and arguments and results are picklable. So whatever runs over the images maps them: the
processes of workers.py, or Beam's (beam.py). Checking is a function of its own because all images
are checked before the long work begins, and only then are the classes of a data set known;
serializing is, because it takes TensorFlow, which worker processes should not load.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ohem_tf.data import checks, proposals, records
from ohem_tf.data.listed import Listed
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a record depends on besides its image.

    Attributes:
      classes: names of the classes 1..K; every object has one of them.
      search_mode: of selective search, one of `proposals.MODES`.
      min_proposal_size: least width and height of a proposal that is searched, in pixels.
      limits: on its files.
    """

    classes: tuple[str, ...]
    search_mode: str = "fast"
    min_proposal_size: float = 2.0
    limits: Limits = DEFAULT


class Counts(NamedTuple):
    """What the summary adds up over the images."""

    proposals: int
    without_proposals: int  # 1 if the image has none
    countable: int  # objects neither difficult nor crowd
    covered: int  # those of them with a proposal at IoU 0.5


class Prepared(NamedTuple):
    """A checked record, and its counts."""

    record: records.Record
    counts: Counts


def check_image(image: checks.Entry | Listed, limits: Limits = DEFAULT) -> checks.Checked:
    """Reads and checks one image, and its annotation where that is a file of its own.

    This is what a worker process maps over the images that a split lists.

    Args:
      image: an image with its objects, as formats of one file for all images have it, or one whose
        own file is still to be read.
      limits: on its files.

    Returns:
      The size of the image, its good objects, and a problem for each thing that
      `--on_bad_record=skip` drops; not `readable` if that is the image itself.

    Raises:
      InputError: what checks.py and the reader of the format refuse in either mode.
    """
    entry = image if isinstance(image, checks.Entry) else image.read(limits)
    return checks.check_entry(entry, limits)


def files_of(image: checks.Entry | checks.Checked | Listed, *_: object) -> str:
    """The files that the functions above read for an image, for messages; whatever follows it."""
    if isinstance(image, checks.Entry | checks.Checked):
        return image.image_path or image.annotation
    return image.files()


def make_record(entry: checks.Checked, boxes: np.ndarray | None, settings: Settings) -> Prepared:
    """Makes the record of one checked image: reads it again, and searches it for proposals.

    This is what a worker process, here or on Beam, maps over the entries that `check_image` made.

    Args:
      entry: it is `readable`, and its objects are all of `settings.classes`.
      boxes: [R, 4] proposals from elsewhere, tidy (see `proposals.tidy`); None: selective search.

    Raises:
      InputError: an image that changed since it was checked.
    """
    try:
        if boxes is None:
            encoded, image_format, boxes = proposals.read_and_search(
                entry.image_path, settings.search_mode, settings.min_proposal_size, settings.limits
            )
        else:
            encoded, image_format = checks.read_encoded(entry.image_path, settings.limits)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{entry.image_path}: {error}; the file has changed since it was checked, run again"
        ) from None
    objects = entry.objects
    pixels = np.array([item.box for item in objects], np.float32).reshape(-1, 4)
    areas = np.prod(pixels[:, 2:] - pixels[:, :2], axis=1)
    labels = {name: label for label, name in enumerate(settings.classes, 1)}
    record = records.Record(
        image_id=entry.image_id,
        encoded=encoded,
        image_format=image_format,
        height=entry.height,
        width=entry.width,
        boxes=pixels,
        classes=np.array([labels[item.name] for item in objects], np.int32),
        difficult=np.array([item.difficult for item in objects], np.bool_),
        crowd=np.array([item.crowd for item in objects], np.bool_),
        area=np.array(
            [a if o.area is None else o.area for o, a in zip(objects, areas, strict=True)],
            np.float32,
        ),
        proposals=boxes,
        filename=Path(entry.image_path).name,
    )
    return Prepared(record, _count(record))


def serialize(record: records.Record, classes: Sequence[str]) -> bytes:
    """The Example of a record; an image that TensorFlow does not decode becomes a PNG in it."""
    encoded, image_format = checks.as_decodable(
        record.encoded, record.image_format, record.height, record.width
    )
    record = dataclasses.replace(record, encoded=encoded, image_format=image_format)
    return records.to_example(record, classes)


def _count(record: records.Record) -> Counts:
    countable = record.boxes[~(record.difficult | record.crowd)]
    return Counts(
        proposals=len(record.proposals),
        without_proposals=int(not len(record.proposals)),
        countable=len(countable),
        covered=int(np.sum(proposals.covered(countable, record.proposals))),
    )
