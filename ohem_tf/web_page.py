"""What the HTML pages of this project share: one file each, that opens without a network.

Nothing is loaded from elsewhere and no script runs; the page's Content-Security-Policy says so to
the browser. Light and dark as the reader's system is, wide and narrow, and by keyboard: what
scrolls sideways can be focused.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

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
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .25rem .5rem; }
h1 { font-size: 1.7rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .25rem; border-top: 1px solid var(--line);
  padding-top: 1rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 46rem; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); }
.error { color: var(--error); } .dropped { color: var(--dropped); } .look { color: var(--look); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
details { margin: .5rem 0 1rem; }
summary { cursor: pointer; color: var(--link); }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; }
caption { text-align: left; font-weight: 600; padding-bottom: .25rem; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
@media (max-width: 40rem) { th[scope="row"] { white-space: normal; } }
ul { padding: 0; margin: .5rem 0; list-style: none; }
ul.pictures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); }
ul.lines li { padding: .15rem 0; overflow-wrap: anywhere; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .6rem; height: 100%; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto .4rem; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, body: str, style: str = "") -> str:
    """A whole page.

    Args:
      title: text.
      body: HTML, what stands below the title.
      style: CSS that this page needs beyond what all have.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{_STYLE}{style}</style>
</head>
<body>
<a class="skip" href="#content">To the content</a>
<main id="content">
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
"""


def section(anchor: str, title: str, body: str) -> str:
    """A part of a page with a heading: `anchor` is its id, `title` text, `body` HTML."""
    heading = f'<h2 id="{anchor}">{escape(title)}</h2>'
    return f'<section aria-labelledby="{anchor}">{heading}{body}</section>'


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already; the first of a row is its header."""
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return scrolling(
        caption,
        f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>",
    )


def scrolling(label: str, content: str) -> str:
    """HTML that scrolls sideways where it is too wide, by keyboard too; `label` is HTML."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">{content}</div>'


def more(summary: str, content: str) -> str:
    """HTML that a click, or Enter, shows; `summary` is text."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def picture_list(figures: Sequence[tuple[str, str]]) -> str:
    """A grid of pictures, each (HTML of its images, HTML of its caption)."""
    items = (
        f"<li><figure>{images}<figcaption>{caption}</figcaption></figure></li>"
        for images, caption in figures
    )
    return f'<ul class="pictures">{"".join(items)}</ul>'


def escaped(
    columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of any values as the HTML that `table` takes."""
    return [escape(c) for c in columns], [[escape(str(cell)) for cell in row] for row in rows]


def escape(words: str) -> str:
    """Text as HTML, within an attribute too."""
    return html.escape(words, quote=True)
