"""What all binaries have in common."""

import importlib
import pathlib

import pytest
from absl import flags
from command_line import run

ROOT = pathlib.Path(__file__).resolve().parents[1]
BINARIES = sorted(p.stem for p in (ROOT / "ohem_tf").glob("*.py") if "def cli()" in p.read_text())
WORDLESS = [name for name in BINARIES if name not in ("__main__", "debug_step", "report")]


@pytest.mark.parametrize("name", WORDLESS)
def test_stray_words_are_refused(name):
    required = ["--format=voc", "--split=train", "--output=x"] if name == "prepare" else []
    done = run(f"ohem_tf.{name}", *required, "config.train.steps=3")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: config.train.steps=3: not a flag; expected --NAME=VALUE"
    )


def test_binaries_and_benchmarks_define_no_flags_when_imported(monkeypatch):
    """So that one can use another's functions: both have --config."""
    monkeypatch.syspath_prepend(str(ROOT))
    for name in (*(f"ohem_tf.{x}" for x in BINARIES), "benchmarks.report"):
        importlib.import_module(name)
    assert not {"config", "workdir", "output"} & set(flags.FLAGS)
