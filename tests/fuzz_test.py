"""benchmarks.fuzz: a few thousand damaged files, its outcomes, and what it has found."""

from __future__ import annotations

import json

import pytest

from benchmarks import fuzz
from benchmarks.fuzzing.target import Target
from benchmarks.fuzzing.targets import TARGETS
from ohem_tf import experiment
from ohem_tf.config import paper
from ohem_tf.data import coco
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError
from ohem_tf.workdir import save_config

WITHOUT_TENSORFLOW = {
    **{"YOLO txt": 300, "YOLO data.yaml": 300, "LabelMe json": 300, "CVAT xml": 300},
    **{"Label Studio json": 300, "Open Images csv": 300},
    **{"VOC xml": 500, "COCO json": 700, ".mat v5": 300, ".mat v7.3": 300, ".caffemodel": 300},
    **{"proposals .npz": 300, "proposals .json": 400, "detections .npz": 200},
}
WITH_TENSORFLOW = {
    "dataset.json": 200,
    "TFRecord shard": 60,
    "config.json": 100,
    "images": 150,
    "request": 150,
}


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        *(pytest.param(*row, marks=pytest.mark.slow) for row in WITH_TENSORFLOW.items()),
        *WITHOUT_TENSORFLOW.items(),
    ],
)
def test_nothing_but_refused_and_right(name, inputs):
    result = fuzz.fuzz(name, inputs, seed=1)
    assert result["findings"] == []
    assert result["refused"] + result["right"] == inputs
    assert result["right"] > 0  # at least the one that is not damaged


def test_every_target_is_tested():
    assert {*WITHOUT_TENSORFLOW, *WITH_TENSORFLOW} == set(TARGETS)
    assert sum(fuzz.shares(1000).values()) >= 1000


def answer_to(content: bytes) -> str:
    if content == b"error":
        raise KeyError("x")
    if content == b"refused":
        raise InputError("no")
    return content.decode()


def test_outcomes(tmp_path):
    def read(folder):
        return answer_to((folder / "x").read_bytes())

    target = Target("x", [b"right"], read, lambda _, answer: answer == "right")
    for data in (b"right", b"refused", b"error", b"wrong"):
        assert fuzz.outcome(target, tmp_path, data)[0] == data.decode()
    assert fuzz.outcome(target, tmp_path, b"error")[1] == "KeyError: 'x' (answer_to)"
    assert fuzz.content(target, "x", 0, 0) == b"right"
    damaged = [fuzz.content(target, "x", number, 0) for number in range(1, 30)]
    assert damaged == [fuzz.content(target, "x", number, 0) for number in range(1, 30)]
    assert len(set(damaged)) > 20


CHILD = """
import json, os, sys, time
from pathlib import Path
from benchmarks import fuzz
from benchmarks.fuzzing.target import Target

def read(folder):
    if (folder / "x").read_bytes() == b"crash":
        os.kill(os.getpid(), 11)
    if (folder / "x").read_bytes() == b"hang":
        time.sleep(100)

target = Target("x", [b"right"], read, lambda content, answer: True)
fuzz.TARGETS["x"] = (lambda folder: target, 1)
fuzz.SECONDS = 1
fuzz.content = lambda target, name, number, seed: [b"right", b"crash", b"hang", b"right"][number]
fuzz.run_inputs(*json.loads(sys.argv[1]))
"""


def test_a_process_that_dies_is_started_again(monkeypatch):
    monkeypatch.setattr(fuzz, "_CHILD", CHILD)
    result = fuzz.fuzz("x", 4)
    assert [result[key] for key in fuzz.OUTCOMES] == [0, 2, 0, 1, 1, 0]
    assert [finding[:2] for finding in result["findings"]] == [[1, "crash"], [2, "hang"]]


def test_the_page():
    row = dict.fromkeys(fuzz.OUTCOMES, 0) | {"inputs": 5, "refused": 3, "right": 2, "seconds": 1.6}
    page = fuzz.page({"a": row, "b": row}, {"seed": 0}, "# Title")
    assert "| a | 5 | 3 | 2 | 0 | 0 | 0 | 0 | 2 |" in page
    assert "| all | 10 | 6 | 4 | 0 | 0 | 0 | 0 | 3 |" in page


def test_whole_numbers_of_any_size_in_a_coco_box(tmp_path):
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 2, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 10**400, 5]}],
    }
    (tmp_path / "x.json").write_text(json.dumps(data))
    entries, _, _ = coco.read_entries(tmp_path / "x.json", tmp_path)
    assert entries[0].objects[0].problem.cause == "box not numeric"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("classes", [], "classes: expected names"),
        ("classes", ["a/b"], "the class name 'a/b'"),
        ("category_ids", [1], "category_ids: expected null, or a number for each class"),
        ("splits", {"train": 1}, r"splits\.train: expected a map"),
        ("splits", {"train": {}}, r"splits\.train\.shards: expected a list"),
        ("splits", {"train": {"shards": [1]}}, r"expected maps with \"file\""),
        ("splits", {"train": {"shards": [{"file": "../x", "records": 1}]}}, "expected file names"),
        ("splits", {"train": {"shards": [{"file": "x" * 300, "records": 1}]}}, "is missing"),
    ],
)
def test_a_damaged_dataset_json_is_refused_with_its_field(tmp_path, field, value, message):
    info = {"classes": ["cat", "dog"], "splits": {"train": {"shards": []}}} | {field: value}
    (tmp_path / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=message):
        RecordReader(tmp_path, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("classes"), "'classes' is missing"),
        (lambda x: x.update(overrides=[]), "'overrides' is missing or no dict"),
        (lambda x: x["classes"].append("a\nb"), "the class name"),
        (lambda x: x["config"]["train"].update(steps="many"), "value of another kind"),
        (lambda x: x["config"]["train"].update(steps=None), "value of another kind|steps"),
        (lambda x: x["config"].update(train=7), "value of another kind"),
        (lambda x: x["config"]["train"].update(momentum=10**400), "value of another kind"),
        (lambda x: x["config"]["train"].update(steps=0), r"train\.steps"),
        (lambda x: x["config"]["train"].update(stepps=9), r"train\.stepps is no field"),
        (lambda x: x["config"].update(seeed=3), "seeed is no field"),
    ],
)
def test_a_damaged_config_of_a_workdir_is_refused(tmp_path, change, message):
    save_config(paper(), {}, ("cat",), str(tmp_path))
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    change(saved)
    path.write_text(json.dumps(saved))
    with pytest.raises(InputError, match=rf"config\.json: .*({message})"):
        experiment.trained_config(None, {}, str(tmp_path))
