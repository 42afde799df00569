"""Snapshots: which steps are kept, what the files hold, and runs that are killed."""

import os

import numpy as np
import pytest
import tiny

from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.records import RecordReader
from ohem_tf.hard_mining import HardMining
from ohem_tf.training import callbacks
from ohem_tf.training.optimizer import CaffeSGD
from ohem_tf.workdir import restore, save_weights, snapshot_path, snapshots


@pytest.fixture
def run(dataset):
    """Trains in a workdir as `train.train` does, with snapshots every 3 steps; returns the model.

    Like there, a second call goes on from the last checkpoint (every 2 steps).
    """
    stream = TrainingStream(RecordReader(dataset, "train"), 1, 3, (48,), 96, "none", 20)

    def train(workdir, steps=7, every=3):
        model = tiny.model(HardMining(rois_per_image=8))
        model.compile(optimizer=CaffeSGD(0.01, 0.9, 0.0005), run_eagerly=True)
        model.optimizer.build(model.trainable_variables)
        checkpoints = callbacks.Checkpoints(model, str(workdir), every=2, keep=1)
        checkpoints.restore()
        snapshots = callbacks.Snapshots(str(workdir), every)
        if model.step == steps:
            snapshots.finish(model)
        else:
            model.fit(
                stream.dataset(model.step),
                steps_per_epoch=steps - model.step,
                callbacks=[checkpoints, snapshots],
                shuffle=False,
                verbose=0,
            )
        return model

    return train


def kept(workdir):
    """{step: time of the last change} of the snapshots."""
    paths = snapshots(str(workdir))
    return {step: os.stat(path).st_mtime_ns for step, path in paths.items()}


def test_every_third_step_and_the_last_are_kept(run, tmp_path):
    last = run(tmp_path)
    names = [f"step-0000000{step}.weights.h5" for step in (3, 6, 7)]
    assert sorted(os.listdir(tmp_path / "snapshots")) == names
    snapshot = tiny.model()
    restore(snapshot, snapshot_path(str(tmp_path), 7))
    for a, b in zip(last.backbone.weights, snapshot.backbone.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    kernel, folded = (m.roi_head.bbox_pred.kernel.numpy() for m in (last, snapshot))
    np.testing.assert_allclose(folded, 0.2 * kernel, rtol=1e-6)  # tiny.model: std 0.2


def test_none_are_kept_unless_asked_for(run, tmp_path):
    run(tmp_path, every=0)
    run(tmp_path, every=0)  # already finished
    assert not (tmp_path / "snapshots").exists()


@pytest.mark.parametrize("killed_at", [6, 7])
def test_a_run_that_is_killed_while_saving_makes_up_for_it(run, tmp_path, monkeypatch, killed_at):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole)
    save = save_weights

    def killed(model, path):
        if path == snapshot_path(str(broken), killed_at):
            with open(os.path.join(os.path.dirname(path), "new+half.weights.h5"), "w"):
                raise KeyboardInterrupt
        save(model, path)

    monkeypatch.setattr(callbacks, "save_weights", killed)
    with pytest.raises(KeyboardInterrupt):
        run(broken)
    assert killed_at not in kept(broken)
    monkeypatch.setattr(callbacks, "save_weights", save)
    run(broken)
    assert list(kept(broken)) == [3, 6, 7]
    for step in (3, 6, 7):
        models = []
        for workdir in (whole, broken):
            models.append(tiny.model())
            restore(models[-1], snapshot_path(str(workdir), step))
        for a, b in zip(*(model.weights for model in models), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


def test_a_longer_run_keeps_the_snapshots_it_has(run, tmp_path):
    run(tmp_path)
    before = kept(tmp_path)
    run(tmp_path, steps=9)
    after = kept(tmp_path)
    assert list(after) == [3, 6, 7, 9]
    assert {step: after[step] for step in before} == before


def test_the_last_weights_replace_those_of_a_run_that_was_thrown_away(run, tmp_path):
    run(tmp_path)
    stale = kept(tmp_path)[7]
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    run(tmp_path)
    assert kept(tmp_path)[7] > stale
