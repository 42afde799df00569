"""What a check gathers over the splits of a data set, and what all sources of data share."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ohem_tf.checking import findings as kinds
from ohem_tf.checking.findings import Finding
from ohem_tf.checking.recall import Recall
from ohem_tf.data import duplicates
from ohem_tf.data.checks import Checked


@dataclasses.dataclass
class CheckedSplit:
    """One split.

    Attributes:
      name: of the split.
      listed: number of images that it lists.
      annotated: whether it has ground truth.
      entries: its readable images, with the good objects of known classes.
      recall: of its proposals; None where there are none.
    """

    name: str
    listed: int
    annotated: bool
    entries: list[Checked] = dataclasses.field(default_factory=list)
    recall: Recall | None = None

    def per_class(self, classes: Sequence[str]) -> dict[str, int]:
        """{class name: objects neither difficult nor crowd}."""
        counts = collections.Counter(
            item.name
            for entry in self.entries
            for item in entry.objects
            if not (item.difficult or item.crowd)
        )
        return {name: counts[name] for name in classes}

    def as_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """As in check.json."""
        objects = [item for entry in self.entries for item in entry.objects]
        traits = collections.Counter(t for entry in self.entries for t in entry.look.traits)
        return {
            "images": self.listed,
            "readable": len(self.entries),
            "annotated": self.annotated,
            "without_object": sum(not entry.objects for entry in self.entries),
            "objects": len(objects),
            "difficult": sum(item.difficult for item in objects),
            "crowd": sum(item.crowd for item in objects),
            "clipped": sum(entry.clipped for entry in self.entries),
            "traits": dict(traits),
            "per_class": self.per_class(classes),
            "proposals": self.recall and self.recall.as_json(),
        }


@dataclasses.dataclass
class Outcome:
    """A whole data set.

    Attributes:
      classes: names of the classes 1..K.
      splits: the training split first.
      findings: in the order in which they were found.
      read: gives the bytes of the image file of (split, image id).
      stops: what errors stop, as a sentence.
    """

    classes: tuple[str, ...]
    splits: list[CheckedSplit]
    findings: list[Finding]
    read: Callable[[str, str], bytes]
    stops: str

    def compare(self, min_examples: int) -> None:
        """Adds what only all images together show: copies, and classes with few examples."""
        readable = {split.name: split.entries for split in self.splits}
        self.findings += [kinds.of_copies(group) for group in duplicates.find(readable)]
        for number, split in enumerate(self.splits):
            if split.annotated:
                counts = split.per_class(self.classes)
                self.findings += kinds.of_classes(split.name, counts, min_examples, number == 0)

    @property
    def errors(self) -> int:
        """Number of findings because of which `prepare`, or training on records, stops."""
        return sum(finding.level == kinds.ERROR for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """check.json: {"errors", "counts", "classes", "splits", "findings"}."""
        return {
            "errors": self.errors,
            "counts": [
                {"level": level, "kind": kind, "count": count}
                for (level, kind), count in kinds.count(self.findings).items()
            ],
            "classes": list(self.classes),
            "splits": {split.name: split.as_json(self.classes) for split in self.splits},
            "findings": [finding.as_json() for finding in self.findings],
        }
