"""Draws the training step, with the lines of the code that do each of the paper's five steps.

    python -m docs.scripts.training_step

writes docs/images/training_step.svg and the table of docs/how.md. `make build-files` runs this file
too, and a test fails while they differ from ohem_tf/models/fast_rcnn.py.
"""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = "ohem_tf/models/fast_rcnn.py"
PICTURE = ROOT / "docs/images/training_step.svg"
PAGE = ROOT / "docs/how.md"
_TABLE = re.compile(
    r"(?<=<!-- steps: made by docs/scripts/training_step.py -->\n\n).*(?=\n\n<!-- end)", re.DOTALL
)
_WIDTH, _BOX, _TOP, _HEIGHT = 960, 196, 70, 92
# Of each step: what the drawing says, and what goes from it to the next.
_BOXES = (
    ("Conv network", "once an image", "features"),
    ("Read-only RoI network", "all RoIs, forward only", "2000 losses"),
    ("Hard RoI selection", "NMS on the losses, IoU 0.7", "64 RoIs"),
    ("Regular RoI network", "forward and backward", "gradients"),
)


def steps() -> list[tuple[int, str]]:
    """Line and comment of the five steps, in their order."""
    found = {}
    for line, text in enumerate((ROOT / CODE).read_text("utf-8").splitlines(), 1):
        if match := re.fullmatch(r"\s+# (\d)\. (.+)", text):
            found[int(match[1])] = (line, match[2])
    if sorted(found) != [1, 2, 3, 4, 5]:
        raise ValueError(f"{CODE}: expected the comments '# 1.' to '# 5.', found {sorted(found)}")
    return [found[number] for number in range(1, 6)]


def table() -> str:
    """The steps with links to their lines."""
    rows = [
        f"| {number} | {comment} | [line {line}](../{CODE}#L{line}) |"
        for number, (line, comment) in enumerate(steps(), 1)
    ]
    return "\n".join(["| step | comment in the code | where |", "|---|---|---|", *rows])


def picture() -> str:
    """The drawing, SVG."""
    lines = [line for line, _ in steps()]
    gap = (_WIDTH - 4 * _BOX - 40) // 3
    shapes = [
        _text(_WIDTH / 2, 26, "for each of the N images of a step", "#44505c"),
        f'<rect x="8" y="38" width="{_WIDTH - 16}" height="172" rx="10" fill="#f4f6f9" '
        'stroke="#c3ccd6"/>',
    ]
    for i, (title, about, out) in enumerate(_BOXES):
        left = 20 + i * (_BOX + gap)
        fill = ("#ffffff", "#fdebd3", "#f9d4c4", "#dcebdc")[i]
        shapes += [
            f'<rect x="{left}" y="{_TOP}" width="{_BOX}" height="{_HEIGHT}" rx="8" fill="{fill}" '
            'stroke="#66727f"/>',
            _text(left + _BOX / 2, _TOP + 26, f"{i + 1}. {title}", weight="bold"),
            _text(left + _BOX / 2, _TOP + 50, about),
            _text(left + _BOX / 2, _TOP + 74, f"line {lines[i]}", "#44505c"),
        ]
        if i < 3:
            x = left + _BOX
            shapes.append(_arrow(f"M{x + 2},{_TOP + 46} L{x + gap - 3},{_TOP + 46}"))
        shapes.append(_text(left + _BOX / 2, _TOP + _HEIGHT + 22, f"gives {out}", "#44505c"))
    middle = 20 + 3 * (_BOX + gap) + _BOX / 2
    left = _WIDTH - 20 - 2 * _BOX
    shapes += [
        _arrow(f"M{middle:g},212 L{middle:g},239"),
        f'<rect x="{left}" y="242" width="{2 * _BOX}" height="56" rx="8" fill="#d7e3f1" '
        'stroke="#66727f"/>',
        _text(left + _BOX, 266, "5. One weight update, with the sum over images", weight="bold"),
        _text(left + _BOX, 287, f"line {lines[4]}", "#44505c"),
        _text(300, 274, "1 is shared: 2 and 4 pool their RoIs from the same features.", "#44505c"),
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} 310" '
            'font-family="sans-serif" font-size="13" role="img" aria-labelledby="title">',
            '<title id="title">The five steps of a training step with OHEM</title>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
            '<path d="M0,0 L8,4 L0,8 z" fill="#44505c"/></marker></defs>',
            f'<rect width="{_WIDTH}" height="310" fill="#ffffff"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, text: str, colour: str = "#1c2733", weight: str = "normal") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="{colour}" '
        f'font-weight="{weight}">{text}</text>'
    )


def _arrow(path: str) -> str:
    return f'<path d="{path}" stroke="#44505c" fill="none" marker-end="url(#tip)"/>'


def page() -> str:
    """docs/how.md with the lines of today."""
    return _TABLE.sub(lambda _: table(), PAGE.read_text("utf-8"))


def write() -> None:
    """Brings picture and page up to date."""
    PICTURE.write_text(picture(), "utf-8")
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    write()
