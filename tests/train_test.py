"""Training, evaluation and detection as a user runs them, on a tiny data set."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import tiny
from PIL import Image

from ohem_tf import experiment
from ohem_tf.config import paper
from ohem_tf.data import statistics
from ohem_tf.errors import InputError
from ohem_tf.train import train
from ohem_tf.workdir import CHECKPOINTS, snapshots

CONFIG = """
from ohem_tf.config import paper
from ohem_tf.data import statistics

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
    config.train.snapshot_every = 4
    config.detection.shortest_sides, config.detection.longest_side = (64,), 96
    config.detection.score_threshold = 0.0
    return config
"""

pytestmark = pytest.mark.slow  # most tests start processes
SAVE_COUNTER = "save_counter/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A local KerasHub preset of a VGG with a few thousand weights."""
    keras_hub = pytest.importorskip("keras_hub", reason="needs the extra [hub]")
    folder = tmp_path_factory.mktemp("preset")
    backbone = keras_hub.models.VGGBackbone(
        stackwise_num_repeats=[1, 1, 1, 1, 1], stackwise_num_filters=[8, 8, 8, 8, 8]
    )
    backbone.save_to_preset(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory, dataset, preset):
    path = tmp_path_factory.mktemp("configs") / "tiny_config.py"
    path.write_text(CONFIG.format(data=str(dataset), backbone=preset))
    return str(path)


@pytest.fixture
def config(config_file):
    scope = {}
    with open(config_file) as file:
        exec(file.read(), scope)
    return scope["get_config"]()


def run(module, *arguments, **kwargs):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


def checkpoint_values(workdir):
    path = tf.train.latest_checkpoint(os.path.join(workdir, CHECKPOINTS))
    reader = tf.train.load_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    names = [name for name in shapes if "OBJECT_GRAPH" not in name and name != SAVE_COUNTER]
    return {name: reader.get_tensor(name) for name in names}


@pytest.fixture(scope="module")
def trained(config_file, tmp_path_factory):
    """A workdir, trained without a break in a process of its own."""
    workdir = tmp_path_factory.mktemp("unbroken")
    done = run("ohem_tf.train", f"--config={config_file}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_run_leaves_what_it_says(trained):
    workdir, done = trained
    saved = json.loads((workdir / "config.json").read_text())
    assert saved["classes"] == list(tiny.CLASSES)
    assert saved["versions"]["keras"]
    assert saved["config"]["train"]["steps"] == 8
    lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss/hard" in line]
    assert steps == [2, 4, 6, 8]
    wanted = {"loss/hard", "loss/all_rois", "cls", "box", "fg", "learning_rate", "images/s"}
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
    assert wanted | {"eval/mAP"} <= tags
    assert "loss/hard" in done.stdout  # the progress bar


def test_a_killed_run_goes_on_as_if_nothing_had_happened(trained, config_file, tmp_path):
    arguments = [f"--config={config_file}", f"--workdir={tmp_path}"]
    command = [sys.executable, "-m", "ohem_tf.train", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (tmp_path / "checkpoints" / "ckpt-4.index").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run("ohem_tf.train", *arguments)
    assert done.returncode == 0, done.stderr
    assert "resuming from" in done.stdout

    resumed, unbroken = checkpoint_values(tmp_path), checkpoint_values(trained[0])
    assert resumed.keys() == unbroken.keys()
    assert any(name.startswith("optimizer/") for name in unbroken)
    for name, value in unbroken.items():
        np.testing.assert_allclose(resumed[name], value, atol=1e-5, err_msg=name)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [x["step"] for x in log if "loss/hard" in x] == [2, 4, 6, 8]


def test_two_devices_train_as_one(trained, config, tmp_path):
    train(config, str(tmp_path), devices=["CPU:0", "CPU:1"])
    two, one = checkpoint_values(tmp_path), checkpoint_values(trained[0])
    assert two.keys() == one.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-5, err_msg=name)
    best = [json.loads((folder / "best.json").read_text()) for folder in (tmp_path, trained[0])]
    assert best[0] == pytest.approx(best[1], abs=1e-3)


def test_a_finished_run_is_not_trained_again(trained, config_file):
    done = run("ohem_tf.train", f"--config={config_file}", f"--workdir={trained[0]}")
    assert done.returncode == 0
    assert "already trained for 8 steps" in done.stdout


def test_evaluate_ends_with_one_json_object(trained, config_file):
    workdir, _ = trained
    for checkpoint in ("last", "best"):
        done = run(
            "ohem_tf.evaluate",
            f"--config={config_file}",
            f"--workdir={workdir}",
            f"--checkpoint={checkpoint}",
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        assert result == json.loads((workdir / "metrics.json").read_text())
        during = [json.loads(x) for x in (workdir / "log.jsonl").read_text().splitlines()]
        during = [line["eval/mAP"] for line in during if "eval/mAP" in line]
        wanted = during[-1] if checkpoint == "last" else max(during)
        assert result["mAP"] == pytest.approx(wanted, abs=1e-6)
        assert set(result["AP"]) == set(tiny.CLASSES)
        assert (result["method"], result["iou_threshold"]) == ("voc07", 0.5)
        assert "AP50" in result["coco"]


def test_a_second_evaluation_can_have_a_file_of_its_own(trained, config_file, tmp_path):
    workdir, _ = trained
    arguments = [f"--config={config_file}", f"--workdir={workdir}", "--config.detection.flip=True"]
    done = run("ohem_tf.evaluate", *arguments, f"--output={tmp_path / 'new' / 'flip.json'}")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "new" / "flip.json").read_text())
    assert result == json.loads(done.stdout.splitlines()[-1])
    settings = result["settings"]
    assert (settings["checkpoint"], settings["detection"]["flip"]) == ("ckpt-8", True)
    refused = run("ohem_tf.evaluate", *arguments, f"--output={tmp_path}")
    assert refused.returncode == 1
    assert "is a folder" in refused.stderr.splitlines()[-1]


def test_roi_loss_measures_draws_and_remembers(trained, config_file, tmp_path):
    workdir, _ = trained
    plot = tmp_path / "figure3.png"
    arguments = ["--roi_loss", f"--workdir={workdir}", f"--output={plot}"]  # config: as trained
    done = run("ohem_tf.evaluate", *arguments)
    assert done.returncode == 0, done.stderr
    (points,) = json.loads(done.stdout.splitlines()[-1]).values()
    assert [point["step"] for point in points] == [4, 8]
    assert points[0]["loss"] > points[1]["loss"] > 0
    assert points[0]["images"] == 8
    assert plot.stat().st_size > 1000
    again = run("ohem_tf.evaluate", *arguments, f"--config={config_file}")
    assert again.stdout == done.stdout
    assert "step 4" in done.stderr  # the progress bar
    assert "step 4" not in again.stderr
    for bad, words in [
        (["--roi_loss", f"--workdir={tmp_path / 'none'}"], "none/config.json"),
        (["--roi_loss", f"--workdir={workdir}", "--checkpoint=best"], "--checkpoint"),
        (["--roi_loss", f"--workdir={workdir}", "--output=plot.doc"], "--output"),
        ([f"--config={config_file}", f"--workdir={workdir}", "--max_images=3"], "--max_images"),
    ]:
        refused = run("ohem_tf.evaluate", *bad)
        assert refused.returncode == 1
        assert words in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "none").exists()


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


def test_a_loss_that_is_not_finite_names_its_images(config, tmp_path, monkeypatch):
    infinite = (np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32))  # std 0
    monkeypatch.setattr(statistics, "target_statistics", lambda *_: infinite)
    with pytest.raises(InputError, match=r"not finite in step \d, images \d{6}, \d{6};"):
        train(config, str(tmp_path))


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


def test_a_non_finite_loss_names_step_and_images_and_keeps_the_checkpoint(config, tmp_path):
    config.train.learning_rate = 1e18
    config.train.checkpoint_every = 1
    with pytest.raises(InputError, match=r"not finite (in|after) step \d+") as error:
        train(config, str(tmp_path))
    latest = tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))
    if latest is not None:
        assert latest in str(error.value)
        assert all(
            np.all(np.isfinite(v))
            for v in checkpoint_values(tmp_path).values()
            if v.dtype == np.float32
        )


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
def test_bad_settings_end_before_training(config, tmp_path, field, value, words):
    section, name = field.split(".")
    config[section][name] = value
    with pytest.raises(InputError, match=words):
        train(config, str(tmp_path / "workdir"))
    assert not (tmp_path / "workdir" / "config.json").exists()


def test_a_workdir_of_another_model_or_data_set_stays_as_it_is(trained, config, tmp_path):
    workdir, _ = trained
    before = (workdir / "config.json").read_bytes()
    config.head.hidden = (8, 8)
    with pytest.raises(InputError, match="does not fit"):
        train(config, str(workdir))
    other = tiny.write_dataset(
        tmp_path,
        {split: [tiny.make_record(1, 96, 128, 1)] for split in ("train", "val")},
        classes=("ring", "square", "bar"),
    )
    config.head.hidden, config.data.dir = (16, 16), str(other)
    with pytest.raises(InputError, match="was trained for disc, square, bar"):
        train(config, str(workdir))
    assert (workdir / "config.json").read_bytes() == before


def test_binaries_and_benchmarks_can_be_imported_together_and_refuse_stray_words():
    code = "import benchmarks.samplers, benchmarks.report, ohem_tf.prepare, ohem_tf.detect"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
    done = run("ohem_tf.train", "config.train.steps=3", cwd=root)
    assert done.returncode == 1
    assert "config.train.steps=3: not a flag" in done.stderr.splitlines()[-1]


def test_unknown_devices_and_uneven_batches_are_refused(config, tmp_path):
    with pytest.raises(InputError, match="CPU:0"):
        train(config, str(tmp_path), devices=["GPU:7"])
    config.train.images_per_step = 1
    with pytest.raises(InputError, match="images_per_step"):
        train(config, str(tmp_path), devices=["CPU:0", "CPU:1"])


def test_the_paper_recipe_is_the_default():
    config = paper()
    assert (config.train.steps, config.train.decay_steps) == (80000, (30000, 60000))
    assert config.sampler == "ohem"
    assert not config.ohem.per_label
