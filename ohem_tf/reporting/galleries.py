"""The galleries of a report: pictures of the mistakes of a run, with the boxes drawn in."""

from __future__ import annotations

from collections.abc import Sequence

from ohem_tf.checking.findings import MEANING, SUSPECT, UNLABELLED, UNSEEN, Mark, Picture
from ohem_tf.checking.thumbnails import Pictures
from ohem_tf.evaluation.error_types import TYPES
from ohem_tf.evaluation.mistakes import Mistake
from ohem_tf.reporting import doubts as hard
from ohem_tf.reporting.doubts import Doubts
from ohem_tf.web_page import escape, picture_list

_KINDS = {  # suspected label errors first
    SUSPECT: MEANING[SUSPECT],
    UNLABELLED: MEANING[UNLABELLED],
    UNSEEN: MEANING[UNSEEN],
    hard.HARD: hard.MEANING,
}


def highest_losses(doubts: Doubts | None, most: int, pictures: Pictures) -> str:
    """What the model finds hardest, the suspected label errors first."""
    if doubts is None:
        return "<p>The model did not run for this page (--loss_images=0).</p>"
    parts = [
        f"<p>Of {doubts.images} images the model computed the loss of every RoI, as in training. "
        f"Shown are those with a loss of {hard.MIN_LOSS:g} or more: orange, the RoI, and what the "
        "model sees in it; blue, the annotated object that it overlaps, if it is not itself "
        "one.</p>"
    ]
    for kind, meaning in _KINDS.items():
        found = [finding for finding in doubts.findings if finding.kind == kind]
        shown = [
            (pictures.show(finding.pictures[0]), escape(finding.message))
            for finding in found[:most]
        ]
        said = f"{escape(meaning)} {len(shown)} of {len(found)}, the highest losses first."
        parts.append(
            f"<h3>{escape(kind[0].upper() + kind[1:])}</h3><p>{said}</p>{picture_list(shown)}"
        )
    return "".join(parts)


def false_positives(
    mistakes: Sequence[Mistake],
    split: str,
    image_ids: Sequence[str],
    classes: Sequence[str],
    pictures: Pictures,
) -> str:
    """False detections: orange the detection, blue the object that it overlaps."""
    shown = []
    for mistake in mistakes:
        what, beside = mistake.what, mistake.beside
        name, image_id = classes[what.label - 1], image_ids[mistake.image]
        marks = [Mark(_box(what.box), f"{name} {what.score:.2f}")]
        said = f"{name} {what.score:.2f}: {mistake.kind}, {TYPES[mistake.kind]}"
        if beside is not None:
            object_name = classes[beside.label - 1]
            marks.append(Mark(_box(beside.box), object_name, beside=True))
            said += f"; annotated: {object_name}, IoU {mistake.iou:.2f}"
        shown.append((marks, image_id, said))
    return (
        "<p>The false detections with the highest scores, at most two of an image. Orange: the "
        "detection; blue: the annotated object that it overlaps most.</p>"
        f"{_pictures(shown, split, pictures)}"
    )


def misses(
    mistakes: Sequence[Mistake],
    split: str,
    image_ids: Sequence[str],
    classes: Sequence[str],
    min_score: float,
    pictures: Pictures,
) -> str:
    """Missed objects: orange the object, blue the detection that stands in its place."""
    shown = []
    for mistake in mistakes:
        what, beside = mistake.what, mistake.beside
        name, image_id = classes[what.label - 1], image_ids[mistake.image]
        marks = [Mark(_box(what.box), name)]
        said = f"{name}: no detection near it"
        if beside is not None:
            seen = f"{classes[beside.label - 1]} {beside.score:.2f}"
            marks.append(Mark(_box(beside.box), seen, beside=True))
            said = f"{name}: the best detection there is {seen}, IoU {mistake.iou:.2f}"
        shown.append((marks, image_id, said))
    return (
        f"<p>Objects that no true detection with a score of {min_score:.2f} or more has found, at "
        "most two of an image; first those that none has found at all, the largest first. Orange: "
        "the object; blue: the detection with the highest score in its place.</p>"
        f"{_pictures(shown, split, pictures)}"
    )


def _pictures(shown: Sequence[tuple[list[Mark], str, str]], split: str, pictures: Pictures) -> str:
    if not shown:
        return "<p>None.</p>"
    return picture_list(
        [
            (
                pictures.show(Picture(split, image_id, tuple(marks))),
                escape(f"{said}. Image {image_id}."),
            )
            for marks, image_id, said in shown
        ]
    )


def _box(box: tuple[float, ...]) -> tuple[float, float, float, float]:
    ymin, xmin, ymax, xmax = box
    return ymin, xmin, ymax, xmax
