"""Writes the tables and the commands in docs/reproduce.md: python -m benchmarks.reproduce.

They are made from the rows of configs/paper.py, each between a line <!-- rows: WHICH --> and a line
<!-- end of rows -->; the text around them is written by hand. WHICH is the number of a table of the
paper, "release" (the authors' own reruns), "section" (experiments in the paper's text) or
"commands".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from configs.paper import ROWS
from ohem_tf.errors import run

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reproduce.md"
_MADE = re.compile(r"(<!-- rows: (\w+) -->\n).*?(<!-- end of rows -->\n)", re.DOTALL)


def filled(page: str) -> str:
    """The page with its tables and commands as configs/paper.py has them now."""

    def made(found: re.Match[str]) -> str:
        text = _commands() if found[2] == "commands" else _table(found[2])
        return f"{found[1]}\n{text}\n\n{found[3]}"

    return _MADE.sub(made, page)


def _table(which: str) -> str:
    columns = ["row", "data", "method", "expected", "table", "training"]
    cells = [
        [
            f"`{row.name}`",
            row.data.name,
            row.title,
            row.expected,
            row.tables,
            row.duration or f"model of `{row.trained_by}`",
        ]
        for row in ROWS.values()
        if which in (place.split()[0] for place in row.tables.split(", "))
    ]
    return tabulate(cells, columns, tablefmt="github", disable_numparse=True)


def _commands() -> str:
    lines = []
    for row in ROWS.values():
        lines += [f"# {row.data.name}: {row.title}", *row.commands(), ""]
    return "\n".join(["```", *lines[:-1], "```"])


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    run(main)
