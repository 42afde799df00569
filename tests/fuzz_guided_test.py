"""benchmarks.fuzz_guided: inputs that reach something new, and what becomes of the bad ones."""

import pytest

from benchmarks import fuzz, fuzz_guided
from benchmarks.fuzzing.targets import TARGETS
from ohem_tf.errors import InputError

pytest.importorskip("atheris", reason="needs atheris")

PLANTED = """
import json, os, sys, time
from benchmarks import fuzz, fuzz_guided
from benchmarks.fuzzing.target import Target

def read(folder):
    data = (folder / "x").read_bytes()
    if data[:1] == b"b":
        raise KeyError("x")
    if data[:1] == b"c":
        os.kill(os.getpid(), 11)
    if data[:1] == b"h":
        time.sleep(100)
    return data

def right(content, answer):
    return content[:1] != b"d"

target = Target("x", [sys.argv[2].encode()], read, right)
fuzz_guided.TARGETS["x"] = (lambda folder: target, 1)
fuzz.SECONDS = 1
fuzz_guided.mutations.of_bytes = lambda rng, data, seeds: seeds[0]
fuzz_guided.run_here(*json.loads(sys.argv[1]))
"""


def test_what_it_reads_and_leaves_out():
    assert {*fuzz_guided.GUIDED, *fuzz_guided.APART} == set(TARGETS)


def test_inputs_that_reach_something_new_are_kept():
    result = fuzz_guided.guided("YOLO txt", 4)
    assert result["findings"] == []
    assert result["inputs"] == result["refused"] + result["right"] > 100
    assert result["right"] > 0
    assert result["kept"] > 5


@pytest.mark.parametrize(("first", "ending"), [("b", "error"), ("c", "crash"), ("d", "wrong")])
def test_inputs_that_do_worse_are_counted_and_kept(tmp_path, monkeypatch, first, ending):
    monkeypatch.setattr(fuzz_guided, "_CHILD", PLANTED.replace("sys.argv[2]", repr(first)))
    result = fuzz_guided.guided("x", 1, keep=str(tmp_path))
    assert result[ending] > 0
    assert 0 < len(result["findings"]) <= fuzz.SHOWN
    assert first.encode() in [path.read_bytes() for path in tmp_path.iterdir()]


def test_an_input_that_takes_too_long(monkeypatch):
    monkeypatch.setattr(fuzz_guided, "_CHILD", PLANTED.replace("sys.argv[2]", repr("h")))
    assert fuzz_guided.guided("x", 1)["hang"] == 1


def test_a_target_that_does_not_start(monkeypatch):
    monkeypatch.setattr(fuzz_guided, "_CHILD", "raise SystemExit('no atheris')")
    with pytest.raises(InputError, match="YOLO txt: no atheris"):
        fuzz_guided.guided("YOLO txt", 1)
