"""The code blocks of the pages, and the commands in those of the shell."""

import re
import subprocess

from docs.scripts.pages import ROOT

_HANDLE = """
set -u
id() { echo 1000; }
command_not_found_handle() { printf '%s\\0' "$@" >> "$NOTES"; printf '\\n\\0' >> "$NOTES"; }
"""
# Blocks of a page. Those in another language than the shell's say so; ``` alone is the shell's.
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A program in a virtual environment is called by its path.
_VENV = re.compile(r"(?<!\S)\.\w+/bin/(?=\w)")


def blocks(name, language):
    """The blocks of a page in a language."""
    text = (ROOT / name).read_text()
    return [block for found, block in BLOCK.findall(text) if found == language]


def noted(block, folder):
    """The commands of a shell block, each a list of words.

    They run in bash with an empty PATH, so that loops, quotes and variables are the shell's own
    business, and every command ends in `command_not_found_handle`, which notes it.
    """
    notes = folder / "notes"
    notes.write_text("")
    script = _HANDLE + _VENV.sub("", block)
    env = {"PATH": "/nowhere", "NOTES": str(notes)}
    done = subprocess.run(
        ["/bin/bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True
    )
    assert not done.stderr, f"{done.stderr}\n{block}"
    return [words.rstrip("\0").split("\0") for words in notes.read_text().split("\n\0")[:-1]]
