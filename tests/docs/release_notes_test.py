"""Release notes are a section of the changelog."""

import re

import pytest

from docs.scripts import release_notes
from ohem_tf.version import __version__

CHANGELOG = """# Changelog

## 0.10.0 (unreleased)

- to come

## 0.1.0 (2026-12-01)

- one
  more of one
- two

## 0.0.9 (2026-01-01)

"""


def test_the_section_of_a_version():
    assert release_notes.notes("0.1.0", CHANGELOG) == "- one\n  more of one\n- two"


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("0.10.0", "0.10.0 is '(unreleased)'; expected its date"),
        ("0.2.0", "expected a heading '## 0.2.0 (YYYY-MM-DD)'"),
        ("0.0.9", "nothing stands below"),
        ("0.1", "expected a heading '## 0.1 "),
    ],
)
def test_what_is_no_release(version, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        release_notes.notes(version, CHANGELOG)


def test_the_changelog_has_the_version_of_the_package():
    text = release_notes.CHANGELOG.read_text()
    dated = text.replace(f"## {__version__} (unreleased)", f"## {__version__} (2026-12-01)")
    assert release_notes.notes(__version__, dated).startswith("- ")
