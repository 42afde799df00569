"""The summary of a check for the terminal, and the tables that it shares with the page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from ohem_tf.checking import findings as kinds
from ohem_tf.checking.outcome import Outcome
from ohem_tf.checking.recall import SIZES

Table = tuple[list[str], list[list[Any]]]  # columns, rows

_EXAMPLES = 3
_WIDTH = 180  # characters of a message


def summary(outcome: Outcome) -> str:
    """Tables of splits, classes, recall and findings, with the first few of each kind."""
    parts = [_text(split_rows(outcome)), _text(overview(outcome))]
    recall = recall_rows(outcome)
    if recall:
        parts.append("recall of the proposals at IoU 0.5, %\n" + _text(recall))
    counts = kinds.count(outcome.findings)
    if counts:
        rows = [[level, kind, number] for (level, kind), number in counts.items()]
        parts.append(_text((["level", "finding", "number"], rows)))
        for level, kind in counts:
            chosen = [f for f in outcome.findings if (f.level, f.kind) == (level, kind)]
            lines = [f"{kind}:"] + [_line(f.message) for f in chosen[:_EXAMPLES]]
            if len(chosen) > _EXAMPLES:
                lines.append(f"  ... and {len(chosen) - _EXAMPLES} more")
            parts.append("\n".join(lines))
    parts.append(
        f"{outcome.errors} errors: {outcome.stops}"
        if outcome.errors
        else f"no error; {sum(counts.values())} findings to look at"
    )
    return "\n\n".join(parts)


def split_rows(outcome: Outcome) -> Table:
    """A row for each split: what it holds."""
    infos = {split.name: split.as_json(outcome.classes) for split in outcome.splits}
    keys = ["images", "readable", "without_object", "objects", "difficult", "crowd", "clipped"]
    traits = list(dict.fromkeys(trait for info in infos.values() for trait in info["traits"]))
    rows = [
        [name, *(info[key] for key in keys), *(info["traits"].get(trait, 0) for trait in traits)]
        for name, info in infos.items()
    ]
    return ["split", *(key.replace("_", " ") for key in keys), *traits], rows


def overview(outcome: Outcome) -> Table:
    """A row for each class: its objects in each split, neither difficult nor crowd."""
    splits = [split for split in outcome.splits if split.annotated]
    counts = [split.per_class(outcome.classes) for split in splits]
    rows = [[name, *(count[name] for count in counts)] for name in outcome.classes]
    return ["class", *(split.name for split in splits)], rows


def recall_rows(outcome: Outcome) -> Table | None:
    """A row for each size and class: which share of its objects a proposal covers, per split."""
    found = {
        split.name: split.recall.as_json() for split in outcome.splits if split.recall is not None
    }
    if not found:
        return None
    rows: list[list[Any]] = [["all", *(_percent(recall["all"]) for recall in found.values())]]
    for group, names in (("sizes", tuple(SIZES)), ("classes", outcome.classes)):
        for name in names:
            rows.append([name, *(_percent(recall[group][name]) for recall in found.values())])
    each = [f"{recall['proposals_per_image']:.0f}" for recall in found.values()]
    return ["objects", *found], [["proposals an image", *each], *rows]


def _percent(share: dict[str, Any]) -> str:
    return "" if share["recall"] is None else f"{100 * share['recall']:.1f}"


def _text(table: Table | Sequence[Any]) -> str:
    columns, rows = table
    align = ["left" if column in ("level", "finding") else "right" for column in columns]
    align[0] = "left"
    return tabulate(rows, columns, tablefmt="simple", colalign=align, disable_numparse=True)


def _line(message: str) -> str:
    return "  " + textwrap.shorten(message, _WIDTH, placeholder=" ...")
