"""How a training ends otherwise than by its last step, and what it says then."""

import importlib
import os
import shutil
import signal

import disk
import numpy as np
import pytest
import tensorflow as tf
import tiny
from command_line import run
from left_behind import checkpoint_values, log

from ohem_tf.data import statistics, tfrecord
from ohem_tf.errors import InputError
from ohem_tf.models import backbones
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.train import train
from ohem_tf.training import callbacks
from ohem_tf.workdir import CHECKPOINTS


@pytest.mark.slow
def test_a_non_finite_loss_names_step_and_images_and_keeps_checkpoint_and_batch(
    dataset, tiny_backbone, tmp_path, monkeypatch
):
    """The targets of discs are divided by 0; the first images, with seed 3, hold none."""
    config = tiny.config(dataset, **{"train.checkpoint_every": 1, "seed": 3})
    std = np.ones((4, 4), np.float32)
    std[1] = 0
    monkeypatch.setattr(statistics, "target_statistics", lambda *_: (np.zeros_like(std), std))
    with pytest.raises(InputError, match="not finite in step 2, images 000001, 000001;") as error:
        train(config, str(tmp_path))
    assert str(tmp_path / CHECKPOINTS / "ckpt-1") in str(error.value)
    values = checkpoint_values(tmp_path).values()
    assert all(np.isfinite(value).all() for value in values if value.dtype == np.float32)

    path = tmp_path / "non_finite.npz"
    assert f"python -m ohem_tf.debug_step {path} says which RoIs" in str(error.value)
    monkeypatch.undo()  # the dump alone says what it takes
    monkeypatch.setattr(backbones, "build", lambda **_: (tiny.backbone(), {}))
    done = run("ohem_tf.debug_step", path)
    assert done.returncode == 0, done.stderr
    first, counted, *rois = done.stdout.splitlines()
    assert first == "step 2, images 000001, 000001"
    discs = len([line for line in rois if "disc, IoU" in line])
    assert counted.startswith("image 000001: ")
    assert "RoIs have no finite loss in the read-only pass" in counted
    assert discs == len([line for line in rois if ": term box (" in line]) > 0
    assert "its normalised regression target is [" in rois[0]


@pytest.mark.slow
def test_a_full_disk_ends_training_with_one_line(dataset, tiny_backbone, tmp_path, monkeypatch):
    """It fills up while the second checkpoint is written; with room again, training goes on."""
    config = tiny.config(dataset, **{"train.steps": 4})
    save = callbacks.Checkpoints.save

    def no_room(self):
        with disk.full_at(9000 if self.model.step == 4 else 10**9):
            save(self)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpoints, "save", no_room)
        with pytest.raises(
            InputError, match=r"ckpt-4 cannot be written: .*File too large"
        ) as error:
            train(config, str(tmp_path))
    assert str(error.value).endswith(f"last good checkpoint: {tmp_path / CHECKPOINTS / 'ckpt-2'}")
    train(config, str(tmp_path))
    assert (tmp_path / CHECKPOINTS / "ckpt-4.index").exists()


@pytest.mark.slow
def test_a_full_memory_ends_training_with_what_helps(dataset, tiny_backbone, tmp_path, monkeypatch):
    """In the fourth step, after the checkpoint of the second."""
    train_step, steps = FastRCNN.train_step, []

    def fill():
        steps.append("")
        if len(steps) == 4:
            raise MemoryError("no room for 9 GB")
        return np.float32(0)

    def step(self, batch):
        with tf.control_dependencies([tf.numpy_function(fill, [], tf.float32)]):
            return train_step(self, tf.nest.map_structure(tf.identity, batch))

    monkeypatch.setattr(FastRCNN, "train_step", step)
    config = tiny.config(dataset, **{"train.images_per_step": 1, "ohem.chunk": 300})
    with pytest.raises(InputError, match=r"^memory ran out in step 4, images \d+ \(") as error:
        train(config, str(tmp_path))
    assert "--config.ohem.chunk=150 bounds the pass over all RoIs" in str(error.value)
    assert str(error.value).endswith(f"last good checkpoint: {tmp_path / CHECKPOINTS / 'ckpt-2'}")


@pytest.mark.slow
@pytest.mark.usefixtures("heeds_sigint")
def test_a_signal_in_an_evaluation_ends_it_at_once_with_a_checkpoint(
    dataset, tiny_backbone, tmp_path, monkeypatch, capsys
):
    """In another step than those of the checkpoints."""
    config = tiny.config(dataset, **{"train.eval_every": 1, "train.steps": 2})
    module = importlib.import_module("ohem_tf.train")
    original = module.predict_split
    monkeypatch.setattr(module, "predict_split", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as end:
        train(config, str(tmp_path))
    assert end.value.code == 130
    last = tmp_path / CHECKPOINTS / "ckpt-1"
    words = f"SIGINT: training stopped; the same command goes on from {last}"
    assert capsys.readouterr().err.splitlines()[-1] == words
    assert not (tmp_path / "log.jsonl").exists()
    monkeypatch.setattr(module, "predict_split", original)
    train(config, str(tmp_path))
    assert [x["step"] for x in log(tmp_path) if "eval/mAP" in x] == [1, 2]


def test_a_damaged_record_ends_training_with_its_name_or_is_skipped(
    dataset, tiny_backbone, tmp_path, capsys
):
    folder = tmp_path / "records"
    shutil.copytree(dataset, folder)
    (path,) = folder.glob("train-*.tfrecord")
    content = bytearray(path.read_bytes())
    for frame in tfrecord.scan(path)[0][:2]:
        content[frame.start + frame.length // 2] ^= 1
    path.write_bytes(content)
    config = tiny.config(folder, **{"head.target_normalisation": "fixed"})
    with pytest.raises(InputError, match=rf"{path.name}: record [01] is damaged .*--on_bad_record"):
        train(config, str(tmp_path / "error"))
    train(config, str(tmp_path / "skip"), on_bad_record="skip")
    out = capsys.readouterr().out
    assert "skipped 2 of" in out
    assert f"{path.name}: record" in out
