"""Workdirs as a report reads them: which files, what they are called, what is refused."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import tiny
from evaluated import FOUND, evaluated

from ohem_tf.errors import InputError
from ohem_tf.reporting.runs import read_runs

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_a_workdir(dataset, tmp_path):
    folder = evaluated(tmp_path / "runs/ohem", dataset)
    (run,), comparison = read_runs([folder])
    assert comparison is None
    assert (run.name, run.workdir) == ("ohem", folder)
    assert (run.classes, run.method, run.iou_threshold) == (tiny.CLASSES, "voc07", 0.5)
    assert run.split.endswith("/val")
    assert [line["step"] for line in run.log] == [2, 4, 4]
    np.testing.assert_array_equal(run.detections[0]["boxes"], FOUND[0]["boxes"])


def test_names_have_as_many_parts_as_tell_them_apart(dataset, tmp_path):
    folders = [evaluated(tmp_path / f"{name}/seed-0", dataset) for name in ("ohem", "frcn")]
    assert [run.name for run in read_runs(folders)[0]] == ["ohem/seed-0", "frcn/seed-0"]
    assert [run.name for run in read_runs([*folders, folders[0]])[0]] == [
        *("ohem/seed-0", "frcn/seed-0")
    ]


def test_another_evaluation_of_a_model(dataset, tmp_path):
    folder = evaluated(tmp_path / "ohem", dataset)
    evaluated(tmp_path / "ohem", dataset, "flipped.json")
    runs, _ = read_runs([folder, f"{folder}/flipped.json"])
    assert [run.name for run in runs] == ["ohem", "flipped"]


@pytest.fixture
def compared(dataset, tmp_path):
    """The folder of a comparison of two methods, two seeds each."""
    content = json.loads((ROOT / "docs/results/voc07_320.json").read_text())
    for method in ("frcn", "ohem"):
        for seed in (0, 1):
            folder = tmp_path / f"compare/{method}/seed-{seed}"
            evaluated(folder, dataset, "compared.metrics.json")
    (tmp_path / "compare/compare.json").write_text(json.dumps(content))
    return tmp_path / "compare"


def test_a_comparison_stands_for_two_runs(compared, dataset):
    runs, comparison = read_runs([str(compared)])
    assert [run.name for run in runs] == ["ohem/seed-0", "frcn/seed-0"]
    assert comparison["methods"][0] == "frcn"
    other = evaluated(compared.parent / "mine", dataset)
    both, _ = read_runs([other, str(compared)])
    assert [run.workdir for run in both] == [other, *(run.workdir for run in runs)]


def test_a_comparison_that_is_damaged(compared):
    content = json.loads((compared / "compare.json").read_text())
    (compared / "compare.json").write_text(json.dumps(content | {"runs": [1]}))
    with pytest.raises(InputError, match=r"compare\.json: is not what ohem_tf.compare writes"):
        read_runs([str(compared)])
    del content["search"]
    (compared / "compare.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match='has no "search"'):
        read_runs([str(compared)])


def test_a_comparison_whose_runs_were_made_elsewhere(compared):
    for file in compared.glob("*/*/compared.metrics.json"):
        file.unlink()
    with pytest.raises(InputError, match="made elsewhere"):
        read_runs([str(compared)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "metrics.json").unlink(), "no metrics.json; run .*evaluate"),
        (lambda path: (path / "metrics.json").write_text("{"), "metrics.json cannot be read"),
        (lambda path: (path / "metrics.json").write_text("{}"), 'has no "method"'),
        (
            lambda path: (path / "metrics.json").write_text('{"method": 1, "iou_threshold": 2}'),
            "is not what ohem_tf.evaluate writes",
        ),
        (lambda path: (path / "detections.npz").unlink(), "cannot be read as detections"),
        (lambda path: (path / "config.json").unlink(), "config.json cannot be read"),
        (
            lambda path: (path / "config.json").write_text(
                (path / "config.json").read_text().replace('"sampler": "', '"sampler": "no')
            ),
            "config.sampler is ",
        ),
        (lambda path: (path / "log.jsonl").unlink(), "log.jsonl cannot be read"),
    ],
)
def test_what_was_not_evaluated_is_refused(damage, message, dataset, tmp_path):
    folder = evaluated(tmp_path / "ohem", dataset)
    damage(tmp_path / "ohem")
    with pytest.raises(InputError, match=message):
        read_runs([folder])


def test_runs_must_go_together(dataset, tmp_path):
    first = evaluated(tmp_path / "a", dataset)
    classes = evaluated(tmp_path / "b", dataset, classes=("disc", "bar", "square"))
    images = evaluated(tmp_path / "c", dataset, image_ids=["1", "2", "3", "4"])
    with pytest.raises(InputError, match="its classes are disc, bar, square"):
        read_runs([first, classes])
    with pytest.raises(InputError, match="the images are not the same"):
        read_runs([first, images])
