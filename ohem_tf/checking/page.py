"""check.html: what a check found, on one page that needs nothing else, not even a network."""

from __future__ import annotations

from collections.abc import Sequence

from ohem_tf.checking import findings as kinds
from ohem_tf.checking.findings import MEANING, Finding
from ohem_tf.checking.outcome import Outcome
from ohem_tf.checking.terminal import overview, recall_rows, split_rows
from ohem_tf.checking.thumbnails import Pictures
from ohem_tf.progress import tqdm
from ohem_tf.web_page import document, escape, escaped, picture_list, section, table

MAX_BYTES = 10_000_000  # of the pictures on a page; findings after that have none
PER_FINDING = 4  # pictures, of many copies

_LEVELS = {
    kinds.ERROR: "error: prepare, or training on the records, stops at it",
    kinds.DROPPED: "dropped: prepare leaves it out",
    kinds.LOOK: "look: kept, but a person should look",
}


def page(outcome: Outcome, title: str, per_kind: int) -> str:
    """The page.

    Args:
      outcome: of the check.
      title: what was checked.
      per_kind: findings of a kind that are shown, the first ones; check.json has all.
    """
    pictures = Pictures(outcome.read, MAX_BYTES)
    by_kind = kinds.count(outcome.findings)
    sections, links = [], []
    for number, (level, kind) in enumerate(tqdm(by_kind, desc="page", unit="section")):
        found = [f for f in outcome.findings if (f.level, f.kind) == (level, kind)]
        links.append([f'<a href="#k{number}">{escape(kind)}</a>', _level(level), str(len(found))])
        sections.append(_section(f"k{number}", level, kind, found, per_kind, pictures))
    verdict = (
        f'<p class="error">{outcome.errors} errors: {escape(outcome.stops)}.</p>'
        if outcome.errors
        else "<p>No error.</p>"
    )
    above = [
        table("Findings", ("kind", "level", "number"), links) if links else "",
        table("Splits", *escaped(*split_rows(outcome))),
    ]
    classes = table("Objects, neither difficult nor crowd", *escaped(*overview(outcome)))
    recall = recall_rows(outcome)
    if recall:
        classes += table("Recall of the proposals at IoU 0.5, %", *escaped(*recall))
    full = (
        f"<p>The pictures stop where they take {MAX_BYTES / 1e6:.0f} MB; check.json has all "
        "findings.</p>"
        if pictures.full
        else ""
    )
    body = [verdict, full, *above, '<p><a href="#classes">Classes</a></p>', *sections]
    body.append(section("classes", "Classes", classes))
    return document(title, "\n".join(body))


def _section(
    anchor: str,
    level: str,
    kind: str,
    found: Sequence[Finding],
    per_kind: int,
    pictures: Pictures,
) -> str:
    shown = found[:per_kind]
    rest = ""
    if len(found) > len(shown):
        rest = f'<p class="soft">{len(shown)} of {len(found)} shown; check.json has all.</p>'
    with_pictures, lines = [], []
    for finding in shown:
        images = "".join(pictures.show(picture) for picture in finding.pictures[:PER_FINDING])
        message = escape(finding.message)
        if images:
            with_pictures.append((images, message))
        else:
            lines.append(f"<li>{message}</li>")
    body = picture_list(with_pictures) if with_pictures else ""
    if lines:
        body += f'<ul class="lines">{"".join(lines)}</ul>'
    meaning = f"<p>{escape(MEANING.get(kind, ''))} {_level(level, long=True)}</p>"
    return section(anchor, f"{kind}: {len(found)}", f"{meaning}{rest}{body}")


def _level(level: str, long: bool = False) -> str:
    words = _LEVELS[level].capitalize() + "." if long else level
    return f'<span class="{level}">{escape(words)}</span>'
