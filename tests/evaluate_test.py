"""evaluate: metrics, results files, and splits that were prepared without annotations."""

import importlib
import json
import math
import os
import pathlib
import subprocess
import sys

import command_line
import numpy as np
import pytest
import tiny

from ohem_tf import experiment, progress
from ohem_tf.config import paper
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import from_example
from ohem_tf.errors import InputError
from ohem_tf.evaluate import evaluate
from ohem_tf.evaluation import detections, voc
from ohem_tf.workdir import save_config, save_weights

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(config, workdir, split=None, results=None):
    return evaluate(config, str(workdir), split, "a.weights.h5", results)


def again(config, workdir, **flags):
    """Scores WORKDIR/detections.npz, or another file, once more."""
    flags = {"from_results": workdir / "detections.npz"} | flags
    return evaluate(
        config, str(workdir), **{k: v if k == "jobs" else str(v) for k, v in flags.items()}
    )


def members(*numbers):
    return [tiny.make_record(n, 64, 80, objects=2) for n in numbers]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("records")
    for name in ("voc07", "voc12", "coco"):
        (root / name).mkdir()
    tiny.write_dataset(root / "voc07", {"val": members(1, 2)})
    tiny.write_dataset(root / "voc12", {"test": members(3, 4)}, annotated=False)
    tiny.write_dataset(root / "coco", {"val": members(5, 6)}, category_ids=(9, 2, 40))
    return root


@pytest.fixture
def config(folder):
    config = paper()
    config.data.dir, config.data.eval_split = str(folder), "voc07/val"
    config.detection.shortest_sides, config.detection.longest_side = (64,), 80
    config.detection.score_threshold = 0.1
    return config


@pytest.fixture
def workdir(tmp_path, config, monkeypatch):
    """A workdir whose model, with weights as initialised, finds every class everywhere."""
    save_config(config, {}, tiny.CLASSES, str(tmp_path))
    monkeypatch.setattr(experiment, "load_model", lambda *_: tiny.model())
    return tmp_path


def test_metrics_and_files_of_parts_that_are_evaluated_as_one_split(config, workdir, folder):
    results = str(workdir / "results")
    result = run(config, workdir, "voc07/val+coco/val", results=results)
    assert result["images"] == 4
    assert sum(result["objects"].values()) == 8
    assert json.loads(json.dumps(result)) == json.loads((workdir / "metrics.json").read_text())
    assert set(result["AP"]) == set(tiny.CLASSES)
    assert sorted(os.listdir(results)) == [
        f"comp4_det_val_{name}.txt" for name in sorted(tiny.CLASSES)
    ]
    readers = [RecordReader(folder / name, "val") for name in ("voc07", "coco")]
    records = [from_example(item) for reader in readers for item in reader]
    found = {r.image_id: {"boxes": [], "scores": [], "classes": []} for r in records}
    for label, name in enumerate(tiny.CLASSES, 1):
        for line in (workdir / f"results/comp4_det_val_{name}.txt").read_text().splitlines():
            image_id, score, *corners = line.split()
            x1, y1, x2, y2 = map(float, corners)
            row = {"boxes": [y1 - 1, x1 - 1, y2, x2], "scores": float(score), "classes": label}
            for key, value in row.items():
                found[image_id][key].append(value)
    assert min(len(f["scores"]) for f in found.values()) > 3
    truth = [{k: getattr(r, k) for k in ("boxes", "classes", "difficult")} for r in records]
    again = voc.average_precision(truth, list(found.values()))
    assert {tiny.CLASSES[label - 1]: ap for label, ap in again.items()} == pytest.approx(
        {name: math.nan if ap is None else ap for name, ap in result["AP"].items()}, nan_ok=True
    )


def test_a_split_without_annotations_is_only_written(config, workdir):
    (workdir / "metrics.json").write_text("of another split")
    results = str(workdir / "results")
    result = run(config, workdir, "voc12/test", results=results)
    assert result == {"results": results, "images": 2}
    assert (workdir / "metrics.json").read_text() == "of another split"
    text = (workdir / f"results/comp4_det_test_{tiny.CLASSES[0]}.txt").read_text()
    assert {line.split()[0] for line in text.splitlines()} == {"000003", "000004"}


def test_coco_ids_are_the_original_ones(config, workdir):
    results = workdir / "results"
    run(config, workdir, "coco/val", results=str(results))
    assert os.listdir(results) == ["detections_val_results.json"]
    rows = json.loads((results / "detections_val_results.json").read_text())
    assert {row["image_id"] for row in rows} == {5, 6}
    assert {row["category_id"] for row in rows} <= {9, 2, 40}
    boxes = np.array([row["bbox"] for row in rows])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 80.001).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 64.001).all()


@pytest.mark.parametrize(
    ("split", "results", "message"),
    [
        (None, "file", r"--write_results: .*file cannot be a folder"),
        ("voc12/test", None, r"--split is 'voc12/test': .*--split=voc12/test --write_results=DIR"),
        ("voc12/test", "", r"--write_results=DIR"),
        ("voc12/tset", "results", r"--split is 'voc12/tset': there is no split voc12/tset"),
    ],
)
def test_bad_input_ends_before_the_model_is_loaded(
    config, workdir, split, results, message, monkeypatch
):
    monkeypatch.setattr(experiment, "load_model", lambda *_: pytest.fail("it was loaded"))
    (workdir / "file").write_text("")
    results = results and str(workdir / results)
    with pytest.raises(InputError, match=message):
        run(config, workdir, split, results=results)


def test_an_eval_split_without_annotations_is_named(config, workdir):
    config.data.eval_split = "voc12/test"
    with pytest.raises(InputError, match=r"config\.data\.eval_split is 'voc12/test'"):
        run(config, workdir)


@pytest.fixture
def saved(workdir, monkeypatch):
    """Detections in voc07/val, of no model: of each image's two objects the second is moved."""
    moved = np.array([[0], [4]])
    found = [
        {"boxes": record.boxes + moved, "scores": [0.9, 0.8], "classes": record.classes}
        for record in members(1, 2)
    ]
    ids = ["000001", "000002"]
    detections.save(workdir / "detections.npz", ids, found, {"split": "voc07/val"})
    monkeypatch.setattr(experiment, "load_model", lambda *_: pytest.fail("it was loaded"))
    return found


def test_detections_are_scored_again_without_the_model(config, workdir, saved, folder):
    records = [from_example(item) for item in RecordReader(folder / "voc07", "val")]
    truth = [{k: getattr(r, k) for k in ("boxes", "classes", "difficult")} for r in records]
    means = set()
    for threshold, method in ((0.5, "voc07"), (0.51, "voc07"), (0.51, "area")):
        config.evaluation.method, config.evaluation.iou_threshold = method, threshold
        result = again(config, workdir, output=workdir / "new.json")
        ap = voc.average_precision(truth, saved, threshold, method)
        assert result["mAP"] == pytest.approx(voc.mean_average_precision(ap))
        assert result["settings"] == {"split": "voc07/val"}
        assert result == json.loads((workdir / "new.json").read_text())
        means.add(result["mAP"])
    assert len(means) == 3
    assert sorted(os.listdir(workdir)) == ["config.json", "detections.npz", "new.json"]


def test_a_crash_in_the_metrics_loses_no_detection(config, workdir, monkeypatch):
    run(config, workdir)
    expected = (workdir / "metrics.json").read_bytes()
    for name in ("metrics.json", "detections.npz"):
        (workdir / name).unlink()
    with monkeypatch.context() as patch:
        module = importlib.import_module("ohem_tf.evaluate")
        patch.setattr(module, "metrics", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(config, workdir)
    assert not (workdir / "metrics.json").exists()
    config.detection.score_threshold = 0.9  # of no effect on detections that are there
    again(config, workdir)
    assert (workdir / "metrics.json").read_bytes() == expected


def test_detections_lie_beside_the_metrics(config, workdir):
    evaluate(config, str(workdir), None, "a.weights.h5", output=str(workdir / "new" / "soft.json"))
    assert sorted(os.listdir(workdir / "new")) == ["soft.detections.npz", "soft.json"]
    assert sorted(os.listdir(workdir)) == ["config.json", "new"]


@pytest.mark.parametrize(("split", "files"), [("voc12/test", 3), ("coco/val", 1)])
def test_server_files_from_detections(config, workdir, split, files):
    """Also of a split without annotations."""
    config.data.eval_split = split
    run(config, workdir, results=str(workdir / "first"))
    again(config, workdir, write_results=workdir / "second")
    names = os.listdir(workdir / "first")
    assert len(names) == files
    for name in names:
        first, second = (workdir / folder / name for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes() != b""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"checkpoint": "best"}, r"--checkpoint=best has no effect .*--from_results"),
        ({"jobs": 2}, r"--jobs=2 has no effect .*--from_results"),
        ({"split": "coco/val"}, r"voc07/val: image 1 is 000001 there, but 000005 in .*coco/val"),
        ({"split": "voc07/val[:1]"}, r"image 2 is 000002 there, but absent in --split=voc07/val"),
        ({"split": "voc07/val+coco/val"}, r"image 3 is absent there, but 000005 in"),
        ({"split": "voc12/test"}, r"prepared without annotations"),
        ({"from_results": "/nowhere.npz"}, r"/nowhere.npz cannot be read as detections"),
    ],
)
def test_detections_that_cannot_be_scored_are_refused(config, workdir, saved, flags, message):
    with pytest.raises(InputError, match=message):
        again(config, workdir, **flags)
    assert not (workdir / "metrics.json").exists()


CONFIG = """
from ohem_tf.config import paper

def get_config():
    config = paper()
    config.data.dir, config.data.eval_split = {data!r}, "voc07/val"
    config.backbone.name, config.backbone.weights = "vgg_cnn_m_1024", "none"
    config.backbone.frozen_until, config.head.hidden = "conv1", (8,)
    config.detection.shortest_sides, config.detection.longest_side = (64,), 80
    return config
"""


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path, capsys, monkeypatch):
    """To the bit; the last slice is a short one."""
    monkeypatch.setattr(progress, "_SHORT", 0.0)  # so that a line says how many there are
    tiny.write_dataset(tmp_path, {"val": members(*range(40))})
    (tmp_path / "config.py").write_text(CONFIG.format(data=str(tmp_path)))
    config = command_line.load_config(tmp_path / "config.py")
    config.data.eval_split = "val[:37]"
    config.detection.score_threshold = 0.2
    save_config(config, {}, tiny.CLASSES, str(tmp_path))
    weights = str(tmp_path / "a.weights.h5")
    save_weights(experiment.build_model(config, len(tiny.CLASSES)), weights)
    for jobs in (1, 2):
        evaluate(config, str(tmp_path), None, weights, output=f"{tmp_path}/{jobs}.json", jobs=jobs)
    assert "evaluating, 2 jobs" in capsys.readouterr().err
    one, two = (np.load(tmp_path / f"{jobs}.detections.npz") for jobs in (1, 2))
    assert len(one["counts"]) == 37
    assert one["counts"].min() > 3
    assert sorted(one.files) == sorted(two.files)
    for name in one.files:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


def test_more_jobs_than_cores_are_refused(config, workdir, monkeypatch):
    monkeypatch.setattr(experiment, "load_model", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match="--jobs is 1000; it must be from 1 to"):
        evaluate(config, str(workdir), None, "a.weights.h5", jobs=1000)


@pytest.mark.slow
def test_the_last_line_is_one_json_object(folder, tmp_path):
    path = tmp_path / "tiny_config.py"
    path.write_text(CONFIG.format(data=str(folder)))
    config = command_line.load_config(path)
    save_config(config, {}, tiny.CLASSES, str(tmp_path))
    model = experiment.build_model(config, len(tiny.CLASSES))
    save_weights(model, str(tmp_path / "a.weights.h5"))
    command = [sys.executable, "-m", "ohem_tf.evaluate", f"--config={path}"]
    command += [f"--workdir={tmp_path}", f"--checkpoint={tmp_path}/a.weights.h5"]
    command += ["--split=voc12/test", f"--write_results={tmp_path}/results"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "results": f"{tmp_path}/results",
        "images": 2,
    }
    assert f"detections for the server: {tmp_path}/results" in done.stdout
    assert len(os.listdir(tmp_path / "results")) == 3
    assert not (tmp_path / "metrics.json").exists()
    arguments = [f"--config={path}", f"--workdir={tmp_path}"]
    arguments.append(f"--from_results={tmp_path}/detections.npz")
    done = command_line.run("ohem_tf.evaluate", *arguments, "--config.detection.flip=True")
    assert done.returncode == 1
    assert "--config.detection.flip has no effect" in done.stderr.splitlines()[-1]
    results = [f"--write_results={tmp_path}/again", "--split=voc12/test"]
    done = command_line.run("ohem_tf.evaluate", *arguments, *results)
    assert json.loads(done.stdout.splitlines()[-1])["images"] == 2
    for name in os.listdir(tmp_path / "results"):
        first, second = (tmp_path / folder / name for folder in ("results", "again"))
        assert first.read_bytes() == second.read_bytes()
