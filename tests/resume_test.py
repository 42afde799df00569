"""A training that is killed again and again ends as an unbroken one, bit for bit.

The runs are forked from a process that has imported TensorFlow but not used it yet.
"""

import contextlib
import multiprocessing
import os
import random
import re
import resource
import signal
import threading
import time

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from left_behind import checkpoint_values, log

from ohem_tf import train
from ohem_tf.inference.detection import Detections
from ohem_tf.models import backbones
from ohem_tf.training import callbacks
from ohem_tf.training.log import CLOCKED, TrainingLog
from ohem_tf.workdir import CHECKPOINTS

SETTINGS = {
    "train.steps": 60,
    "train.deterministic": True,
    "train.ema": 0.9,
    "train.images_per_step": 1,
    "train.rois_per_step": 8,
    "train.decay_steps": (40,),
    "train.log_every": 3,  # a line of the log is of steps before and after a checkpoint
    "train.checkpoint_every": 2,
    "train.snapshot_every": 5,
    "train.eval_every": 4,
    "train.pictures_images": 1,
    "head.hidden": (16,),
    "head.target_normalisation": "fixed",
}


def send_after(seconds, number):
    """Sends this process a signal, wherever it is then."""

    def send():
        time.sleep(seconds)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


def die_within(holder, name, limit):
    """Has the system kill this process in the middle of what holder.name writes.

    From its first call on no file can grow beyond `limit` bytes: the end is SIGXFSZ.
    """
    original = getattr(holder, name)

    def half(*arguments, **more):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return original(*arguments, **more)

    setattr(holder, name, half)


def die_with_half_of(name):
    """Kills this process when half of a file of weights, the first of that name, is written."""
    original = keras.Model.save_weights

    def half(self, path):
        original(self, path)
        if name in path:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    keras.Model.save_weights = half


class NoDetections:
    """What train makes of a model, without its time."""

    def __init__(self, model, settings):
        self.model = model

    def __call__(self, image, proposals):
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))


def run(dataset, workdir, place="", moment=None, pictures=7):
    """A training that dies while it writes in a place, or at a moment: steps, seconds, signal."""
    backbones.build = lambda **_: (tiny.backbone(), {})
    # An evaluation that costs no time, of the weights all the same.
    train.Predictor = NoDetections
    train.predict_split = lambda predictor, _: np.tanh(
        np.abs(predictor.model.roi_head.cls_score.bias).sum()
    )
    train.write_curves = lambda *_: None
    train.metrics = lambda _, found, *__: {"mAP": float(found)}
    end_of_step, steps = TrainingLog.on_train_batch_end, []

    def count(*arguments, **logs):
        end_of_step(*arguments, **logs)
        steps.append(1)
        if moment is not None and len(steps) == moment[0]:
            send_after(*moment[1:])

    TrainingLog.on_train_batch_end = count
    log = f"{workdir}/log.jsonl"
    if place == "log":
        die_within(TrainingLog, "write", (os.path.getsize(log) if os.path.exists(log) else 0) + 9)
    elif place == "checkpoint":
        die_within(callbacks.Checkpoints, "save", 9000)
    elif place:
        die_with_half_of(place)
    with (
        open(f"{workdir}.txt", "a") as printed,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        changes = {"train.pictures_every": pictures}
        train.train(tiny.config(dataset, **SETTINGS, **changes), str(workdir))


@pytest.fixture(scope="module")
def start():
    """Calls `run` in a process of its own: its exit status."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ohem_tf.train", "tiny"])

    def start(*arguments):
        process = context.Process(target=run, args=arguments)
        process.start()
        process.join()
        return process.exitcode

    return start


def weights_of(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, x: found.update({name: x[()]} if hasattr(x, "shape") else {}))
        return found | dict(file.attrs)


def log_of(workdir):
    return [{name: x for name, x in line.items() if name not in CLOCKED} for line in log(workdir)]


def files_of(workdir):
    found = {str(path.relative_to(workdir)) for path in workdir.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("tensorboard")}


def assert_same_run(one, other):
    assert files_of(one) == files_of(other)
    assert log_of(one) == log_of(other)
    assert_same(checkpoint_values(one), checkpoint_values(other))
    for name in files_of(other):
        if name.endswith(".weights.h5"):
            assert_same(weights_of(one / name), weights_of(other / name))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_an_unbroken_run(dataset, start, tmp_path):
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    assert start(dataset, unbroken) == 0
    assert "no more pictures" not in (tmp_path / "unbroken.txt").read_text()
    halves = {  # what is left of the file that was being written
        "log": "log.jsonl",
        "checkpoint": r"checkpoints/ckpt-4\..*|checkpoints/ckpt-4_temp/.*",
        "step-": r"snapshots/new\+step-00000005.weights.h5",
        "best.weights": r"new\+best.weights.h5",
    }
    for place, half in halves.items():
        code = start(dataset, broken, place)
        assert code in (-signal.SIGXFSZ, -signal.SIGKILL), place
        assert any(re.fullmatch(half, name) for name in files_of(broken)), place
        complete = (broken / "log.jsonl").read_text().endswith("\n")
        assert complete == (place != "log")
    assert start(dataset, broken, "", (2, 0.01, signal.SIGTERM)) == 143
    end = (tmp_path / "broken.txt").read_text().splitlines()[-1]
    last = tf.train.latest_checkpoint(str(broken / CHECKPOINTS))
    assert end == f"SIGTERM: training stopped; the same command goes on from {last}"

    draw = random.Random(0)
    moments = [(draw.randint(1, 3), draw.uniform(0, 0.05), signal.SIGKILL) for _ in range(5)]
    codes = [start(dataset, broken, "", moment) for moment in moments]
    assert codes == [-signal.SIGKILL] * 5
    assert start(dataset, broken) == 0
    assert_same_run(broken, unbroken)

    plain = tmp_path / "plain"
    assert start(dataset, plain, "", None, 0) == 0  # without pictures for TensorBoard
    assert_same_run(plain, unbroken)
