"""Draws who imports whom, from the code: docs/images/architecture.svg and docs/architecture.md.

    python -m docs.scripts.architecture

Rows are the layers of pyproject.toml, [tool.importlinter]; an arc on the right is what one row
imports of another, the thicker the more; not drawn: arcs to the two rows at the bottom. `make
build-files` runs this file too, and a test fails while the drawing differs from the code.
"""

from __future__ import annotations

import ast
import collections
import html
import pathlib
import re
import tomllib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs/images/architecture.svg"
PAGE = ROOT / "docs/architecture.md"
_TABLE = re.compile(
    r"(?<=<!-- rooms: made by docs/scripts/architecture.py -->\n\n).*(?=\n\n<!-- end)", re.S
)
# Folders that are no packages, so that no docstring says what they are for.
_ABOUT = {
    "benchmarks": "Measurements: scripts that write the pages of docs/results.",
    "configs": "Experiments: what --config takes.",
    "docs": "The site, and the scripts that draw and gather its pages.",
    "examples": "Detectors of others, trained with the miner.",
}
# Pixels.
_WIDTH, _LEFT, _CHIPS, _LINE, _GAP = 940, 20, 700, 30, 16
_BASE = 2  # rows at the bottom that nearly all import: arcs to them would hide the others
_COLOURS = ("#1b6ca8", "#b5541c", "#3a7d44", "#7a4ea3", "#a8324a", "#5b6770", "#8a6d00")


def layers() -> list[list[str]]:
    """The rows from top to bottom: names below ohem_tf, and the folders beside it."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    outer, inner = (
        next(c["layers"] for c in contracts if c["type"] == "layers" and test(c))
        for test in (lambda c: "containers" not in c, lambda c: "containers" in c)
    )
    return [re.split(r" [|:] ", row) for row in [*outer[:-1], *inner]]


def modules(room: str) -> list[pathlib.Path]:
    """The Python files of a room: ohem_tf/ROOM.py, or those of a folder."""
    file = ROOT / f"ohem_tf/{room}.py"
    if file.is_file():
        return [file]
    folder = ROOT / room if (ROOT / room).is_dir() else ROOT / "ohem_tf" / room
    return sorted(folder.rglob("*.py"))


def imported(path: pathlib.Path) -> Iterator[str]:
    """What a file imports, as dotted names; not what it imports for types alone."""
    pending: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))


def imports() -> dict[tuple[str, str], int]:
    """How many imports of another room the files of each room have: (room, other) -> count."""
    rooms = {room for row in layers() for room in row}
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for room in rooms:
        for path in modules(room):
            for name in imported(path):
                parts = name.split(".")
                other = parts[1] if parts[0] == "ohem_tf" and len(parts) > 1 else parts[0]
                if other in rooms and other != room:
                    counts[room, other] += 1
    return dict(counts)


def picture() -> str:
    """The drawing, SVG."""
    rows, counts = layers(), imports()
    top, shapes, middles = _GAP, [], []
    for row in rows:
        chips, height = _chips(row, top)
        shapes.append(
            f'<rect x="{_LEFT - 8}" y="{top - 6}" width="{_CHIPS + 16}" height="{height + 8}" '
            'rx="8" fill="#eef2f6"/>'
        )
        shapes += chips
        middles.append(top - 2 + height // 2)
        top += height + _GAP
    right = _LEFT + _CHIPS + 8
    for (i, j), count in sorted(_between_rows(rows, counts).items()):
        if j >= len(rows) - _BASE:
            continue
        # A curve bulges three quarters of the way to its control points.
        reach = 14 + (_WIDTH - right - 30) * (j - i) / (0.75 * len(rows))
        start, end = middles[i] + 2, middles[j] - 2
        shapes.append(
            f'<path d="M{right},{start} C{right + reach:.0f},{start} {right + reach:.0f},{end} '
            f'{right + 5},{end}" fill="none" stroke="{_COLOURS[i % len(_COLOURS)]}" '
            f'stroke-width="{0.6 + count**0.5 / 3:.1f}" stroke-opacity="0.65" '
            f'marker-end="url(#tip)"><title>{html.escape(_words(rows[i]))} import '
            f"{html.escape(_words(rows[j]))}: {count}</title></path>"
        )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" '
            'font-family="sans-serif" font-size="13" role="img" aria-labelledby="title">',
            '<title id="title">Layers of ohem_tf: imports run downwards</title>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" markerUnits="userSpaceOnUse" orient="180">'
            '<path d="M0,0 L8,4 L0,8 z" fill="#44505c"/></marker></defs>',
            f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def _chips(row: list[str], top: int) -> tuple[list[str], int]:
    """A box for each room, wrapped; and the height of all."""
    shapes, left, line = [], _LEFT, 0
    for room in row:
        count = len(modules(room))
        label = room if count == 1 else f"{room}/ {count}"
        width = 18 + int(7.6 * len(label))
        if left + width > _LEFT + _CHIPS:
            left, line = _LEFT, line + 1
        y = top + line * _LINE
        fill = "#ffffff" if count == 1 else "#d7e3f1"
        shapes.append(
            f'<rect x="{left}" y="{y}" width="{width}" height="24" rx="5" fill="{fill}" '
            f'stroke="#8896a5"/><text x="{left + width / 2:g}" y="{y + 17}" text-anchor="middle" '
            f'fill="#1c2733">{label}</text>'
        )
        left += width + 8
    return shapes, line * _LINE + 24


def _between_rows(
    rows: list[list[str]], counts: dict[tuple[str, str], int]
) -> dict[tuple[int, int], int]:
    place = {room: i for i, row in enumerate(rows) for room in row}
    sums: collections.Counter[tuple[int, int]] = collections.Counter()
    for (room, other), count in counts.items():
        if place[room] != place[other]:
            sums[place[room], place[other]] += count
    return dict(sums)


def _words(row: list[str]) -> str:
    return row[0] if len(row) == 1 else f"{row[0]} and {len(row) - 1} beside it"


def table() -> str:
    """What each room is for, by its own docstring, and what it imports."""
    counts = imports()
    lines = ["| room | files | what | imports |", "|---|---|---|---|"]
    for row in layers():
        for room in row:
            files = modules(room)
            named = [p for p in files if p.name == "__init__.py" and p.parent.name == room]
            about = ast.get_docstring(ast.parse((named or files)[0].read_text("utf-8"))) or ""
            first = _ABOUT.get(room) or about.split("\n")[0].replace("|", "\\|")
            others = sorted(other for one, other in counts if one == room)
            lines.append(f"| `{room}` | {len(files)} | {first} | {', '.join(others)} |")
    return "\n".join(lines)


def page() -> str:
    """docs/architecture.md with the table of today."""
    return _TABLE.sub(lambda _: table(), PAGE.read_text("utf-8"))


def write() -> None:
    """Brings picture and page up to date."""
    PICTURE.write_text(picture(), "utf-8")
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    write()
