"""Training and what others make of its workdir, as a user runs them, on a tiny data set."""

import importlib
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tiny
from command_line import load_config, run
from left_behind import checkpoint_values, log
from PIL import Image

from ohem_tf import experiment, files
from ohem_tf.errors import InputError
from ohem_tf.train import train
from ohem_tf.workdir import snapshots

CONFIG = """
from ohem_tf.config import paper

def get_config():
    config = paper()
    config.data.dir = {data!r}
    config.data.train_split, config.data.eval_split = "train", "val"
    config.data.shortest_sides, config.data.longest_side = (48, 64), 96
    config.backbone.name, config.backbone.weights = {backbone!r}, "imagenet"
    config.backbone.preprocessing, config.backbone.frozen_until = "lite", ""
    config.head.pool_size, config.head.hidden = 3, (16, 16)
    config.train.rois_per_step = 16
    config.train.steps, config.train.learning_rate = 8, 0.01
    config.train.decay_steps = (6,)
    config.train.checkpoint_every, config.train.eval_every, config.train.log_every = 2, 4, 2
    config.train.snapshot_every = config.train.pictures_every = 4
    config.train.pictures_images = 8
    config.detection.shortest_sides, config.detection.longest_side = (64,), 96
    config.detection.score_threshold = 0.0
    return config
"""

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def config_file(tmp_path_factory, dataset):
    """A config whose backbone is a local KerasHub preset."""
    folder = tmp_path_factory.mktemp("config")
    path = folder / "tiny_config.py"
    backbone = tiny.vgg_preset(folder / "preset")
    path.write_text(CONFIG.format(data=str(dataset), backbone=backbone))
    return path


@pytest.fixture
def config(config_file):
    return load_config(config_file)


def assert_same_checkpoint(workdir, other):
    found, expected = checkpoint_values(workdir), checkpoint_values(other)
    assert found.keys() == expected.keys()
    assert any(name.startswith("optimizer/") for name in expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def trained(config_file, tmp_path_factory):
    """A workdir of an unbroken run, and what the run printed."""
    workdir = tmp_path_factory.mktemp("unbroken")
    done = run("ohem_tf.train", f"--config={config_file}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_leaves_what_it_says(trained):
    workdir, printed = trained
    saved = json.loads((workdir / "config.json").read_text())
    assert saved["classes"] == list(tiny.CLASSES)
    assert saved["versions"]["keras"]
    assert saved["config"]["train"]["steps"] == 8
    lines = log(workdir)
    assert [line["step"] for line in lines if "loss/hard" in line] == [2, 4, 6, 8]
    wanted = {"loss/hard", "loss/all_rois", "cls", "box", "fg", "learning_rate", "images/s"}
    wanted |= {"data_wait"}
    assert all(0 <= line["data_wait"] <= 1 for line in lines if "data_wait" in line)
    assert wanted <= lines[0].keys()
    assert [line["step"] for line in lines if "eval/mAP" in line] == [4, 8]
    assert lines[0]["learning_rate"] == pytest.approx(0.01)
    assert next(x for x in lines if x["step"] == 6)["learning_rate"] == pytest.approx(0.001)
    folder = workdir / "checkpoints"
    assert {p.stem for p in folder.glob("*.index")} == {"ckpt-4", "ckpt-6", "ckpt-8"}
    assert (workdir / "best.weights.h5").exists()
    assert list(snapshots(str(workdir))) == [4, 8]
    events = list((workdir / "tensorboard").glob("events*"))
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(events[0]))
        for value in event.summary.value
    }
    shown = {"roi_loss/all", "roi_loss/hard", "hard_rois/foreground", "hard_rois/class/disc"}
    shown |= {"hard_rois/kept", "pr/disc", "rois/000000"}
    assert wanted | shown | {"eval/mAP"} <= tags
    assert "step 8: mAP" in printed
    assert "\r" not in printed  # the progress bar's, on a terminal


@pytest.mark.slow
def test_two_devices_train_as_one(trained, config, tmp_path, capsys):
    train(config, str(tmp_path), devices=["CPU:0", "CPU:1"])
    assert "no more pictures" not in capsys.readouterr().out
    assert_same_checkpoint(tmp_path, trained[0])
    best = [json.loads((folder / "best.json").read_text()) for folder in (tmp_path, trained[0])]
    assert best[0] == pytest.approx(best[1], abs=1e-3)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(trained, config_file):
    before = checkpoint_values(trained[0])
    done = run("ohem_tf.train", f"--config={config_file}", f"--workdir={trained[0]}")
    assert done.returncode == 0
    assert "already trained for 8 steps" in done.stdout
    for name, value in checkpoint_values(trained[0]).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.slow
def test_a_run_killed_in_its_last_evaluation_ends_as_an_unbroken_one(
    trained, config, tmp_path, monkeypatch
):
    module = importlib.import_module("ohem_tf.train")
    original, calls = module.metrics, []

    def killed(*arguments):  # of step 4, then of step 8
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "metrics", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, str(tmp_path))
    assert [x["step"] for x in log(tmp_path) if "eval/mAP" in x] == [4]
    train(config, str(tmp_path))
    values = [
        [(x["step"], x.get("eval/mAP")) for x in log(folder)] for folder in (tmp_path, trained[0])
    ]
    assert values[0] == [(step, pytest.approx(value, abs=1e-3)) for step, value in values[1]]
    best = [json.loads((folder / "best.json").read_text()) for folder in (tmp_path, trained[0])]
    assert best[0] == pytest.approx(best[1], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_evaluate_measures_what_training_measured(trained, config_file, tmp_path, checkpoint):
    """With --output the metrics go to a file of their own; a training may own the workdir."""
    workdir, _ = trained
    path = workdir / "metrics.json"
    arguments = [f"--config={config_file}", f"--workdir={workdir}", f"--checkpoint={checkpoint}"]
    if checkpoint == "best":
        path = tmp_path / "new" / "best.json"
        arguments += [f"--output={path}", "--config.detection.soft_nms_sigma=0.25"]
        arguments.append("--config.evaluation.coco=True")
    with files.owned(str(workdir), "workdir"):
        done = run("ohem_tf.evaluate", *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == json.loads(path.read_text())
    during = [line["eval/mAP"] for line in log(workdir) if "eval/mAP" in line]
    wanted = during[-1] if checkpoint == "last" else max(during)
    assert result["mAP"] == pytest.approx(wanted, abs=1e-6)
    assert set(result["AP"]) == set(tiny.CLASSES)
    assert (result["method"], result["iou_threshold"]) == ("voc07", 0.5)
    assert bool(result["coco"]) == (checkpoint == "best")
    settings = result["settings"]
    assert settings["checkpoint"] == ("ckpt-8" if checkpoint == "last" else "best.weights.h5")
    sigma = 0.5 if checkpoint == "last" else 0.25
    assert settings["detection"]["soft_nms_sigma"] == sigma


@pytest.mark.slow
def test_evaluate_writes_no_metrics_in_place_of_a_folder(trained, config_file, tmp_path):
    arguments = [f"--config={config_file}", f"--workdir={trained[0]}", f"--output={tmp_path}"]
    refused = run("ohem_tf.evaluate", *arguments)
    assert refused.returncode == 1
    assert "is a folder" in refused.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_loss_over_all_rois_falls(trained):
    """Of a real run, by the binary; tests/roi_loss_test.py compares the values."""
    workdir, _ = trained
    done = run("ohem_tf.roi_loss", f"--workdirs={workdir}")  # config: as trained
    assert done.returncode == 0, done.stderr
    (points,) = json.loads(done.stdout.splitlines()[-1]).values()
    assert [point["step"] for point in points] == [4, 8]
    assert points[0]["loss"] > points[1]["loss"] > 0
    assert (workdir / "roi_loss.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_checkpoint_holds_every_weight(trained, config, tmp_path):
    workdir, _ = trained
    last = experiment.load_model(config, str(workdir), "last")
    fresh = experiment.build_model(config, len(tiny.CLASSES), load_weights=False)
    for variable, start in zip(last.trainable_variables, fresh.trainable_variables, strict=True):
        assert np.abs(variable.numpy() - start.numpy()).max() > 0, variable.path
    last.save_weights(str(tmp_path / "last.weights.h5"))
    again = experiment.load_model(config, str(workdir), str(tmp_path / "last.weights.h5"))
    for a, b in zip(last.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.slow
def test_detect_draws_and_writes(trained, config_file, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(2):
        record = tiny.make_record(i, 96, 128, 2)
        (images / f"{i}.png").write_bytes(record.encoded)
    arguments = [
        f"--config={config_file}",
        f"--workdir={trained[0]}",
        f"--images={images}/*.png",
        f"--output={tmp_path / 'out'}",
    ]
    done = run("ohem_tf.detect", *arguments, "--min_score=0.1")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "0.png") as drawn:
        assert drawn.size == (128, 96)
    assert (tmp_path / "out" / "detections.png").exists()
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert len(found) == 2
    for detections in found.values():
        for detection in detections:
            ymin, xmin, ymax, xmax = detection["box"]
            assert 0 <= ymin <= ymax <= 96
            assert 0 <= xmin <= xmax <= 128
            assert detection["class"] in tiny.CLASSES

    (images / "broken.png").write_bytes(b"not a picture")
    done = run("ohem_tf.detect", *arguments)
    assert done.returncode == 1
    assert "broken.png" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("data.dir", "", "config.data.dir"),
        ("data.dir", "/nowhere", "dataset.json"),
        ("data.train_split", "trainvall", "train, val"),
        ("train.rois_per_step", 15, "config.train.rois_per_step"),
        ("backbone.name", "nonsense", "config.backbone.name"),
        ("backbone.frozen_until", "nonsense", "config.backbone.frozen_until"),
    ],
)
def test_bad_settings_end_before_training(dataset, tmp_path, field, value, words):
    config = tiny.config(dataset, **{field: value})
    with pytest.raises(InputError, match=words):
        train(config, str(tmp_path / "workdir"))
    assert not (tmp_path / "workdir" / "config.json").exists()


def test_patience_needs_evaluations(tmp_path):
    splits = {name: [tiny.make_record(0, 64, 80, objects=1)] for name in ("train", "val")}
    data = tiny.write_dataset(tmp_path, splits, annotated=False)
    info = json.loads((data / "dataset.json").read_text())
    info["splits"]["train"]["annotated"] = True
    files.write_json(data / "dataset.json", info)
    with pytest.raises(InputError, match=r"train\.patience is 2; .* with annotations"):
        train(
            tiny.config(data, **{"train.patience": 2, "train.eval_every": 1}),
            str(tmp_path / "workdir"),
        )


@pytest.mark.slow
def test_a_workdir_of_other_settings_stays_as_it_is_unless_forced(trained, config, tmp_path):
    workdir, _ = trained
    before = (workdir / "config.json").read_bytes()
    config.head.hidden, config.train.learning_rate = (8, 8), 0.02
    config.train.log_every = 7  # changes no result
    words = (
        r"was trained with other settings: config.head.hidden \(there: \[16, 16\], now: "
        r"\[8, 8\]\); config.train.learning_rate \(there: 0.01, now: 0.02\); give another"
    )
    with pytest.raises(InputError, match=words):
        train(config, str(workdir))
    with pytest.raises(InputError, match="does not fit"):
        train(config, str(workdir), force=True)
    other = tiny.write_dataset(
        tmp_path,
        {split: [tiny.make_record(1, 96, 128, 1)] for split in ("train", "val")},
        classes=("ring", "square", "bar"),
    )
    config.head.hidden, config.data.dir = (16, 16), str(other)
    with pytest.raises(InputError, match="was trained for disc, square, bar"):
        train(config, str(workdir), force=True)
    assert (workdir / "config.json").read_bytes() == before


@pytest.mark.slow
def test_other_settings_that_are_forced_are_printed(trained, config, capsys):
    config.train.weight_decay, config.train.steps = 0.25, 9
    with pytest.raises(InputError, match="--force to go on"):
        experiment.check_workdir(config, tiny.CLASSES, str(trained[0]))
    experiment.check_workdir(config, tiny.CLASSES, str(trained[0]), force=True)
    printed = capsys.readouterr().out
    assert printed == (
        "changed since the last run: config.train.weight_decay (there: 0.0005, now: 0.25)\n"
    )


def test_a_workdir_has_one_owner(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE_SECONDS", 0.0)
    words = f"in use by process {os.getpid()} on"
    with files.owned(str(tmp_path), "workdir"), pytest.raises(InputError, match=words):
        train(tiny.config(dataset), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_unknown_devices_and_uneven_batches_are_refused(dataset, tmp_path):
    config = tiny.config(dataset)
    with pytest.raises(InputError, match="CPU:0"):
        train(config, str(tmp_path), devices=["GPU:7"])
    config.train.images_per_step = 1
    with pytest.raises(InputError, match="images_per_step"):
        train(config, str(tmp_path), devices=["CPU:0", "CPU:1"])
