"""What a check finds, and what each kind of it means."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from ohem_tf.data.checks import Checked, Problem
from ohem_tf.data.duplicates import Copy, across
from ohem_tf.data.remarks import DOUBLED_IOU, MIN_SIDE, Box

# Levels, the worst first.
ERROR = "error"  # `prepare` refuses the data because of it, or records cannot be trained on
DROPPED = "dropped"  # `prepare` leaves it out and counts it
LOOK = "look"  # kept; a person should look

SPLIT = "split refused"
RARE = "class with few examples"
ACROSS, TWICE = "same image in two splits", "same image twice in a split"
UNLABELLED, SUSPECT, UNSEEN = "looks unlabelled", "suspect label", "object not seen"

MEANING = {
    SPLIT: "As a whole the split cannot be prepared.",
    "annotation unreadable": "The annotation, or what it says of the image, cannot be read.",
    "record unreadable": "The bytes of the record are not what prepare wrote.",
    "image missing": "There is no such file, or it cannot be opened.",
    "image unreadable": "The image does not decode.",
    "wrong size": "The image is not the one that was annotated, so its boxes would be wrong.",
    "box outside the image": "Boxes up to a pixel outside are clipped; these are not.",
    "empty box": "No width or no height, or the corners are exchanged.",
    "box not numeric": "The box is not four numbers.",
    "box without area": "COCO's files hold a few; its readers drop them.",
    "unknown class": "The class is none of --classes, or of the first split.",
    "unknown image": "An annotation of an image that the file does not list.",
    "proposals refused": "The file of proposals does not fit the image.",
    "turned by EXIF": "Viewers turn the image; this project, VOC and COCO read pixels as stored.",
    "tiny box": f"A side is shorter than {MIN_SIDE:g} px: most often a slip.",
    "doubled box": f"Two boxes of one class with IoU > {DOUBLED_IOU:g}: most often one object.",
    ACROSS: "What is measured on it has been trained on.",
    TWICE: "It counts twice; if its annotations differ, one of them is wrong.",
    RARE: "AP of such a class is mostly chance, if it can be learned at all.",
    UNLABELLED: (
        "The background RoIs with the highest loss: the trained model sees an object where none "
        "is annotated. Either it is wrong, or the annotation is missing."
    ),
    SUSPECT: (
        "The annotated boxes with the highest loss where the trained model sees another class, or "
        "another box of the class."
    ),
    UNSEEN: (
        "The annotated boxes with the highest loss where the trained model sees background: too "
        "hard for it, or not what the annotation says."
    ),
}


@dataclasses.dataclass(frozen=True)
class Mark:
    """A box to draw, [ymin, xmin, ymax, xmax] in pixels, and what to write at it.

    `beside`: it is not what the picture is about, but what stands there instead: in another colour.
    """

    box: Box
    label: str = ""
    beside: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image of a finding: where it stands, and the boxes to draw in it."""

    split: str
    image_id: str
    marks: tuple[Mark, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
      kind: a key of `MEANING`, or the cause of a `checks.Problem`.
      level: `ERROR`, `DROPPED` or `LOOK`.
      split: where; the first of two.
      message: one line for the user.
      pictures: what to show; none if there is nothing to see.
      details: more numbers for check.json.
    """

    kind: str
    level: str
    split: str
    message: str
    pictures: tuple[Picture, ...] = ()
    details: tuple[tuple[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As in check.json."""
        return {
            "kind": self.kind,
            "level": self.level,
            "split": self.split,
            "message": self.message,
            "images": [
                {
                    "split": picture.split,
                    "image_id": picture.image_id,
                    "boxes": [[float(side) for side in mark.box] for mark in picture.marks],
                }
                for picture in self.pictures
            ],
            **dict(self.details),
        }


def error(kind: str, split: str, message: str, image_id: str = "") -> Finding:
    """A finding of what is refused in any case."""
    pictures = (Picture(split, image_id),) if image_id else ()
    return Finding(kind, ERROR, split, message, pictures)


def of_problem(problem: Problem, split: str, image_id: str, on_bad_record: str) -> Finding:
    """A finding of what `prepare` drops under --on_bad_record=skip."""
    level = DROPPED if problem.known or on_bad_record == "skip" else ERROR
    marks = () if problem.box is None else (Mark(problem.box),)
    pictures = (Picture(split, image_id, marks),) if image_id else ()
    return Finding(problem.cause, level, split, problem.message, pictures)


def of_entry(entry: Checked, split: str, on_bad_record: str) -> list[Finding]:
    """The findings in one checked image."""
    found = [of_problem(p, split, entry.image_id, on_bad_record) for p in entry.problems]
    for remark in entry.look.remarks:
        picture = Picture(split, entry.image_id, tuple(Mark(box) for box in remark.boxes))
        found.append(Finding(remark.kind, LOOK, split, remark.message, (picture,)))
    return found


def of_copies(group: Sequence[Copy]) -> Finding:
    """A finding of images that look the same."""
    same = len({image.entry.digest for image in group}) == 1
    names = ", ".join(f"{image.entry.image_path} ({image.split})" for image in group)
    how = "the same file" if same else "these look the same"
    pictures = tuple(
        Picture(image.split, image.entry.image_id, tuple(Mark(o.box) for o in image.entry.objects))
        for image in group
    )
    kind = ACROSS if across(group) else TWICE
    details = (("identical", same),)
    return Finding(kind, LOOK, group[0].split, f"{how}: {names}", pictures, details)


def of_classes(split: str, counts: dict[str, int], least: int, training: bool) -> list[Finding]:
    """A finding for each class with too few examples.

    Args:
      split: its name.
      counts: {class name: objects neither difficult nor crowd}.
      least: examples that are enough in a training split; in others one is.
      training: whether it is the training split.
    """
    enough = least if training else min(least, 1)
    consequence = "few to learn from" if training else "its AP is not defined"
    return [
        Finding(
            RARE,
            LOOK,
            split,
            f"{split}: class {name!r} has {count} examples (neither difficult nor crowd): "
            f"{consequence}",
            details=(("class", name), ("examples", count)),
        )
        for name, count in counts.items()
        if count < enough
    ]


def count(findings: Iterable[Finding]) -> dict[tuple[str, str], int]:
    """{(level, kind): number}, the worst level first, then as in `MEANING`."""
    counts: dict[tuple[str, str], int] = {}
    for finding in findings:
        key = (finding.level, finding.kind)
        counts[key] = counts.get(key, 0) + 1
    levels, kinds = (ERROR, DROPPED, LOOK), list(MEANING)

    def rank(key: tuple[str, str]) -> tuple[int, int, str]:
        level, kind = key
        return levels.index(level), kinds.index(kind) if kind in kinds else len(kinds), kind

    return {key: counts[key] for key in sorted(counts, key=rank)}
