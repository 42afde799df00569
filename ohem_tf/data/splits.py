"""Splits of a raw data set: what they list, what of it is good, and their classes."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence

from absl import logging

from ohem_tf.data import checks, coco, one_image, voc
from ohem_tf.data.listed import Listed, Listing
from ohem_tf.data.workers import Workers
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits
from ohem_tf.progress import tqdm

ON_BAD_RECORD = ("error", "skip")
_SHOWN = 20  # dropped records that are named one by one; all are counted


@dataclasses.dataclass
class Split:
    """A split between reading and writing.

    Attributes:
      name: name of the split.
      images: what its list holds, for `one_image.check_image`.
      category_ids: {class name: category id} in the order of the ids (COCO); else empty.
      classes: names in the order that the data gives them; empty where it gives none.
      on_bad_record: "error" or "skip".
      entries: its good entries.
      skipped: {cause: number of records dropped for it}.
      dropped: the problems themselves.
    """

    name: str
    images: Sequence[checks.Entry | Listed]
    category_ids: dict[str, int]
    on_bad_record: str
    entries: list[checks.Checked] = dataclasses.field(default_factory=list)
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    dropped: list[checks.Problem] = dataclasses.field(default_factory=list)
    classes: tuple[str, ...] = ()

    def drop(self, problem: checks.Problem) -> None:
        """Counts a problem under "skip", or if it is `known`; else raises it."""
        if self.on_bad_record == "error" and not problem.known:
            raise InputError(f"{problem.message} (--on_bad_record=skip drops it)")
        if sum(self.skipped.values()) < _SHOWN:
            logging.warning("skipped: %s", problem.message)
        self.skipped[problem.cause] = self.skipped.get(problem.cause, 0) + 1
        self.dropped.append(problem)

    def check(self, workers: Workers, limits: Limits = DEFAULT) -> None:
        """Reads and checks all images, and annotations of a file of their own; fills `entries`.

        Raises:
          InputError: a bad record under "error", what checks.py and the format's reader refuse in
            either mode, or no image that can be read.
        """
        with tqdm(total=len(self.images), desc=f"checking {self.name}", unit="image") as progress:
            check = functools.partial(one_image.check_image, limits=limits)
            for entry in workers.map(check, self.images, what=one_image.files_of):
                for problem in entry.problems:
                    self.drop(problem)
                if entry.readable:
                    self.entries.append(entry)
                progress.update()
        if not self.entries:
            raise InputError(
                f"split {self.name!r} is empty: none of its {len(self.images)} images can be read"
            )

    def keep_classes(self, classes: Sequence[str]) -> None:
        """Drops (or reports) the objects whose class is not one of `classes`."""
        for i, entry in enumerate(self.entries):
            known = []
            for item in entry.objects:
                problem = checks.check_class(item, entry, classes)
                if problem is None:
                    known.append(item)
                else:
                    self.drop(problem)
            self.entries[i] = dataclasses.replace(entry, objects=tuple(known))


def of_listing(name: str, listing: Listing, on_bad_record: str = "error") -> Split:
    """The split that a format has listed.

    Raises:
      InputError: under "error", one of the listing's problems.
    """
    split = Split(
        name, listing.images, listing.category_ids, on_bad_record, classes=listing.classes
    )
    for problem in listing.problems:
        split.drop(problem)
    return split


def list_voc(
    root: str | os.PathLike[str], name: str, on_bad_record: str = "error", annotated: bool = True
) -> Split:
    """The image ids of a VOC split; annotations and images are read by `Split.check`.

    Raises:
      InputError: as `voc.read_split`.
    """
    images = [voc.Listed(str(root), i, annotated) for i in voc.read_split(root, name)]
    return Split(name, images, {}, on_bad_record)


def list_coco(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str],
    name: str,
    on_bad_record: str = "error",
    annotated: bool = True,
    limits: Limits = DEFAULT,
) -> Split:
    """The entries of a COCO split; images are read by `Split.check`.

    Args:
      annotations: the instances json, or the image info json of a split without ground truth.
      images: the folder of images.
      limits: see `coco.read_entries`.

    Raises:
      InputError: as `coco.read_json`; under "error", an annotation of an unknown image.
    """
    entries, category_ids, problems = coco.read_entries(annotations, images, annotated, limits)
    listing = Listing(entries, problems=tuple(problems), category_ids=category_ids)
    return of_listing(name, listing, on_bad_record)


def find_classes(split: Split) -> tuple[str, ...]:
    """Those that the data lists (COCO: all categories), else the names of its objects, sorted."""
    names = {item.name for entry in split.entries for item in entry.objects}
    classes = tuple(split.category_ids) or split.classes or tuple(sorted(names))
    if not classes:
        raise InputError(
            f"split {split.name!r} has no object, so no classes can be found in it; expected the "
            "training split first, or --classes"
        )
    return classes


def category_ids(
    splits: Sequence[Split], classes: Sequence[str], known: dict[str, int]
) -> list[int]:
    """COCO's ids of the classes, the same in every split.

    Args:
      known: {class name: category id} of the splits that are prepared already.

    Raises:
      InputError: two ids of one class, or a class that is no category.
    """
    found = dict(known)
    for split in splits:
        for name, number in split.category_ids.items():
            if name in classes and found.setdefault(name, number) != number:
                raise InputError(
                    f"split {split.name!r}: category {name!r} has id {number}, but {found[name]} "
                    "in another split; expected the same categories"
                )
    unknown = [name for name in classes if name not in found]
    if unknown:
        have = dict.fromkeys([*known, *(name for split in splits for name in split.category_ids)])
        raise InputError(f"--classes: {unknown[0]!r} is no category; expected {', '.join(have)}")
    return [found[name] for name in classes]
