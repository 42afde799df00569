"""report.html: everything that a report says, on one page that needs nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ohem_tf.checking.thumbnails import Pictures
from ohem_tf.evaluation.mistakes import Mistake
from ohem_tf.reporting import charts, classes, compared, galleries, quality, training
from ohem_tf.reporting.content import Analysis
from ohem_tf.reporting.doubts import Doubts
from ohem_tf.reporting.runs import Run
from ohem_tf.web_page import document, escape, section

MAX_BYTES = 3_000_000  # of the pictures: a page stays below 5 MB


@dataclasses.dataclass(frozen=True)
class Report:
    """What a page is drawn from.

    Attributes:
      runs: the first is reported on, the others stand beside it.
      analyses: of each run.
      sentences: how far the first run is from the others, and how sure that is.
      split: its name.
      proposals: recall of the first run's proposals, as `Recall.as_json`; None: not measured.
      proposals_are: a sentence that says where they are from.
      doubts: of the first run's model; None if it did not run.
      false_positives, misses: the worst of the first run.
      comparison: json of ohem_tf.compare, or None.
      read: gives the bytes of the image file of (split, image id).
    """

    runs: Sequence[Run]
    analyses: Sequence[Analysis]
    sentences: Sequence[str]
    split: str
    proposals: Mapping[str, Any] | None
    proposals_are: str
    doubts: Doubts | None
    false_positives: Sequence[Mistake]
    misses: Sequence[Mistake]
    comparison: Mapping[str, Any] | None
    read: Callable[[str, str], bytes]


def page(report: Report, most: int) -> str:
    """The page.

    Args:
      report: what it says.
      most: findings that a gallery shows of the doubts of each kind.
    """
    runs, analyses = report.runs, report.analyses
    first, found = runs[0], analyses[0]
    pictures = Pictures(report.read, MAX_BYTES)
    seen = (report.split, first.image_ids, first.classes)
    parts = {
        "overview": ("Overview", quality.overview(runs, analyses, report.sentences)),
        "training": ("Training", training.curves(runs)),
        "classes": ("AP per class", classes.average_precision(runs, analyses)),
        "curves": ("Precision and recall", classes.precision_recall(runs, analyses)),
        "confusion": ("Confusion between classes", classes.confusion(first, found)),
        "errors": ("Error types", quality.errors(runs, analyses)),
        "sizes": ("AP by size", quality.by_size(runs, analyses)),
        "calibration": ("Calibration", quality.calibration(runs, analyses)),
        "recall": (
            "Recall and its ceiling",
            quality.recall(runs, analyses, report.proposals, report.proposals_are),
        ),
        "losses": (
            "RoIs with the highest loss",
            galleries.highest_losses(report.doubts, most, pictures),
        ),
        "false": (
            "Worst false positives",
            galleries.false_positives(report.false_positives, *seen, pictures),
        ),
        "misses": (
            "Worst misses",
            galleries.misses(report.misses, *seen, found.min_score, pictures),
        ),
        "settings": ("Settings and versions", training.settings(runs)),
    }
    if report.comparison is not None:
        parts["compared"] = ("Comparison", compared.section_body(report.comparison))
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, (title, _) in parts.items())
    others = ", ".join(run.name for run in runs[1:])
    beside = f"<p>Beside it: {escape(others)}.</p>" if others else ""
    full = (
        f"<p>The pictures stop where they take {MAX_BYTES / 1e6:g} MB.</p>" if pictures.full else ""
    )
    body = "\n".join(section(name, title, text) for name, (title, text) in parts.items())
    style = charts.STYLE + classes.STYLE + compared.STYLE
    navigation = f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
    return document(f"Report on {first.name}", f"{beside}{full}{navigation}{body}", style)
