"""Prints the notes of a release: its section of CHANGELOG.md, without the heading.

    python -m docs.scripts.release_notes [VERSION]

VERSION is by default that of ohem_tf. A section that is still called "unreleased" is an error, so
that a release has a date.
"""

from __future__ import annotations

import pathlib
import re
import sys

from ohem_tf.version import __version__

CHANGELOG = pathlib.Path(__file__).resolve().parents[2] / "CHANGELOG.md"


def notes(version: str, changelog: str) -> str:
    """The entries of a version, Markdown.

    Args:
      version: as in a heading, "## VERSION (YYYY-MM-DD)".
      changelog: the text of CHANGELOG.md.

    Raises:
      ValueError: no such heading, no date in it, or nothing below it.
    """
    found = re.search(
        rf"^## {re.escape(version)} \(([^)\n]*)\)\n(.*?)(?=^## |\Z)",
        changelog,
        re.MULTILINE | re.DOTALL,
    )
    if not found:
        raise ValueError(f"CHANGELOG.md: expected a heading '## {version} (YYYY-MM-DD)'")
    date, text = found[1], found[2].strip()
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        raise ValueError(f"CHANGELOG.md: {version} is '({date})'; expected its date, (YYYY-MM-DD)")
    if not text:
        raise ValueError(f"CHANGELOG.md: nothing stands below the heading of {version}")
    return text


if __name__ == "__main__":
    try:
        print(notes((sys.argv[1:] or [__version__])[0], CHANGELOG.read_text("utf-8")))
    except ValueError as error:
        sys.exit(f"error: {error}")
