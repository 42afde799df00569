"""check.html: what a check found, on one page that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from ohem_tf.checking import findings as kinds
from ohem_tf.checking.findings import MEANING, Finding, Picture
from ohem_tf.checking.outcome import Outcome
from ohem_tf.checking.terminal import overview, recall_rows, split_rows
from ohem_tf.checking.thumbnails import thumbnail

MAX_BYTES = 10_000_000  # of the pictures on a page; findings after that have none
PER_FINDING = 4  # pictures, of many copies

_LEVELS = {
    kinds.ERROR: "error: prepare, or training on the records, stops at it",
    kinds.DROPPED: "dropped: prepare leaves it out",
    kinds.LOOK: "look: kept, but a person should look",
}
_STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1c1c1a; --soft: #5c5c58;
  --line: #d5d5d0; --card: #f3f3f0; --link: #0b57a4; --error: #b3261e; --dropped: #8a5300;
  --look: #2f5d3a; }
@media (prefers-color-scheme: dark) { :root { --paper: #161615; --ink: #ececea; --soft: #a9a9a4;
  --line: #3b3b38; --card: #20201f; --link: #8ab8f0; --error: #ff8a80; --dropped: #f0b860;
  --look: #8fd19e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; }
a { color: var(--link); }
a:focus-visible, [tabindex]:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .25rem .5rem; }
h1 { font-size: 1.7rem; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .25rem; border-top: 1px solid var(--line);
  padding-top: 1rem; }
p { margin: .25rem 0 .75rem; max-width: 46rem; }
.soft, figcaption { color: var(--soft); }
.error { color: var(--error); } .dropped { color: var(--dropped); } .look { color: var(--look); }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; }
caption { text-align: left; font-weight: 600; padding-bottom: .25rem; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
ul { padding: 0; margin: .5rem 0; list-style: none; }
ul.pictures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
ul.lines li { padding: .15rem 0; overflow-wrap: anywhere; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .6rem; height: 100%; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto .4rem; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class _Pictures:
    """The pictures of a page, within its limit."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._left = MAX_BYTES

    def show(self, picture: Picture) -> str:
        """An <img>, or nothing: no image, one that does not decode, or a page that is full."""
        if self._left <= 0:
            return ""
        try:
            data = self._outcome.read(picture.split, picture.image_id)
            encoded = base64.b64encode(thumbnail(data, picture.marks)).decode()
        except (OSError, ValueError, KeyError):
            return ""
        self._left -= len(encoded)
        boxes = f"{len(picture.marks)} boxes drawn" if picture.marks else "no box drawn"
        labels = ", ".join(mark.label for mark in picture.marks if mark.label)
        text = f"Image {picture.image_id} of {picture.split}, {labels or boxes}"
        return f'<img loading="lazy" alt="{_text(text)}" src="data:image/jpeg;base64,{encoded}">'

    @property
    def full(self) -> bool:
        """Whether pictures had to be left out."""
        return self._left <= 0


def page(outcome: Outcome, title: str, per_kind: int) -> str:
    """The page.

    Args:
      outcome: of the check.
      title: what was checked.
      per_kind: findings of a kind that are shown, the first ones; check.json has all.
    """
    pictures = _Pictures(outcome)
    by_kind = kinds.count(outcome.findings)
    sections, links = [], []
    for number, (level, kind) in enumerate(tqdm(by_kind, desc="page", unit="section")):
        found = [f for f in outcome.findings if (f.level, f.kind) == (level, kind)]
        links.append([f'<a href="#k{number}">{_text(kind)}</a>', _level(level), str(len(found))])
        sections.append(_section(f"k{number}", level, kind, found, per_kind, pictures))
    verdict = (
        f'<p class="error">{outcome.errors} errors: {_text(outcome.stops)}.</p>'
        if outcome.errors
        else "<p>No error.</p>"
    )
    above = [
        _table("Findings", ("kind", "level", "number"), links) if links else "",
        _table("Splits", *_escaped(*split_rows(outcome))),
    ]
    classes = _table("Objects, neither difficult nor crowd", *_escaped(*overview(outcome)))
    below = ['<section aria-labelledby="classes"><h2 id="classes">Classes</h2>', classes]
    recall = recall_rows(outcome)
    if recall:
        below.append(_table("Recall of the proposals at IoU 0.5, %", *_escaped(*recall)))
    below.append("</section>")
    full = (
        f"<p>The pictures stop where they take {MAX_BYTES / 1e6:.0f} MB; check.json has all "
        "findings.</p>"
        if pictures.full
        else ""
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<a class="skip" href="#content">To the findings</a>
<main id="content">
<h1>{_text(title)}</h1>
{verdict}
{full}
{"".join(above)}
<p><a href="#classes">Classes</a></p>
{"".join(sections)}
{"".join(below)}
</main>
</body>
</html>
"""


def _section(
    anchor: str,
    level: str,
    kind: str,
    found: Sequence[Finding],
    per_kind: int,
    pictures: _Pictures,
) -> str:
    shown = found[:per_kind]
    rest = ""
    if len(found) > len(shown):
        rest = f'<p class="soft">{len(shown)} of {len(found)} shown; check.json has all.</p>'
    with_pictures, lines = [], []
    for finding in shown:
        images = "".join(pictures.show(picture) for picture in finding.pictures[:PER_FINDING])
        text = _text(finding.message)
        if images:
            caption = f"<figcaption>{text}</figcaption>"
            with_pictures.append(f"<li><figure>{images}{caption}</figure></li>")
        else:
            lines.append(f"<li>{text}</li>")
    body = ""
    if with_pictures:
        body += f'<ul class="pictures">{"".join(with_pictures)}</ul>'
    if lines:
        body += f'<ul class="lines">{"".join(lines)}</ul>'
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{_text(kind)}: {len(found)}</h2>'
        f"<p>{_text(MEANING.get(kind, ''))} {_level(level, long=True)}</p>{rest}{body}</section>"
    )


def _level(level: str, long: bool = False) -> str:
    text = _LEVELS[level].capitalize() + "." if long else level
    return f'<span class="{level}">{_text(text)}</span>'


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already; the first of a row is its header."""
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table>'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


def _escaped(
    columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> tuple[list[str], list[list[str]]]:
    return [_text(c) for c in columns], [[_text(str(cell)) for cell in row] for row in rows]


def _text(text: str) -> str:
    return html.escape(text, quote=True)
