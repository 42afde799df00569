"""The files of a run, step by step, of a detector whose weights are known at every step."""

import os

import disk
import keras
import numpy as np
import pytest
import tensorflow as tf
from known_weights import RATE, assert_weights_of_step, evaluation, lines, new_model, train

from ohem_tf.errors import InputError, WriteError
from ohem_tf.training import callbacks
from ohem_tf.training.log import TrainingLog
from ohem_tf.workdir import CHECKPOINTS, save_weights, snapshot_path, snapshots


def run(workdir, steps=7, every=3):
    """Snapshots every 3 steps, checkpoints every 2; a second call resumes, as in `train.train`."""
    model = new_model()
    checkpoints = callbacks.Checkpoints(model, str(workdir), every=2, keep=1)
    checkpoints.restore()
    keeper = callbacks.Snapshots(str(workdir), every)
    if model.step == steps:
        keeper.finish(model)
    else:
        train(model, steps, checkpoints, keeper)


def kept(workdir):
    """{step: time of the last change} of the snapshots."""
    paths = snapshots(str(workdir))
    return {step: os.stat(path).st_mtime_ns for step, path in paths.items()}


def test_every_third_step_and_the_last_are_kept(tmp_path):
    run(tmp_path)
    names = [f"step-0000000{step}.weights.h5" for step in (3, 6, 7)]
    assert sorted(os.listdir(tmp_path / "snapshots")) == names
    for step, path in snapshots(str(tmp_path)).items():
        assert_weights_of_step(path, step)


def test_none_are_kept_unless_asked_for(tmp_path):
    run(tmp_path, every=0)
    run(tmp_path, every=0)  # already finished
    assert not (tmp_path / "snapshots").exists()


@pytest.mark.parametrize("killed_at", [6, 7])
def test_a_run_that_is_killed_while_saving_makes_up_for_it(tmp_path, monkeypatch, killed_at):
    def killed(model, path):
        if path == snapshot_path(str(tmp_path), killed_at):
            with open(os.path.join(os.path.dirname(path), "new+half.weights.h5"), "w"):
                raise KeyboardInterrupt
        save_weights(model, path)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "save_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    assert killed_at not in kept(tmp_path)
    run(tmp_path)
    assert list(kept(tmp_path)) == [3, 6, 7]
    for step, path in snapshots(str(tmp_path)).items():
        assert_weights_of_step(path, step)


def test_a_longer_run_keeps_the_snapshots_it_has(tmp_path):
    run(tmp_path)
    before = kept(tmp_path)
    run(tmp_path, steps=9)
    after = kept(tmp_path)
    assert list(after) == [3, 6, 7, 9]
    assert {step: after[step] for step in before} == before


def test_the_last_weights_replace_those_of_a_run_that_was_thrown_away(tmp_path):
    run(tmp_path)
    stale = kept(tmp_path)[7]
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    run(tmp_path)
    assert kept(tmp_path)[7] > stale


def test_the_log_holds_means_over_its_steps(tmp_path):
    train(new_model(), 7, TrainingLog(str(tmp_path), images_per_step=2, log_every=3))
    assert [(x["step"], x["loss"], x["learning_rate"]) for x in lines(tmp_path)] == [
        (3, 2.0, RATE),  # of 1, 2, 3
        (6, 5.0, RATE),
    ]
    (events,) = (tmp_path / "tensorboard").iterdir()
    drawn = {
        (event.step, float(tf.make_ndarray(value.tensor)))
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
        if value.tag == "loss"
    }
    assert drawn == {(3, 2.0), (6, 5.0)}


class Killed(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.step == 5:
            raise KeyboardInterrupt


def test_a_resumed_log_holds_every_step_once(tmp_path):
    """Killed in step 5, one line half written, the last checkpoint that of step 4."""
    for killed in (True, False):
        model = new_model()
        checkpoints = callbacks.Checkpoints(model, str(tmp_path), every=4, keep=1)
        assert checkpoints.restore() != killed
        log = TrainingLog(str(tmp_path), images_per_step=2, log_every=1)
        if killed:
            with pytest.raises(KeyboardInterrupt):
                train(model, 6, log, checkpoints, Killed())
            assert [x["step"] for x in lines(tmp_path)] == [1, 2, 3, 4, 5]
            with open(tmp_path / "log.jsonl", "a") as file:
                file.write('{"step": 4, "lo')
        else:
            train(model, 6, log, checkpoints)
    assert [(x["step"], x["loss"]) for x in lines(tmp_path)] == [(i, i) for i in range(1, 7)]


def test_a_resumed_line_of_the_log_is_of_all_its_steps(tmp_path):
    """Lines of 3 steps, killed after step 4; an evaluation in between changes nothing."""
    for folder, ends in (("unbroken", [7]), ("broken", [4, 7])):
        for end in ends:
            model = new_model()
            log = TrainingLog(str(tmp_path / folder), images_per_step=2, log_every=3)
            checkpoints = callbacks.Checkpoints(
                model, str(tmp_path / folder), every=2, keep=1, window=log.window
            )
            checkpoints.restore()
            train(model, end, log, checkpoints, evaluation(tmp_path / folder, [None] * 9))
        logged = [(x["step"], x["loss"]) for x in lines(tmp_path / folder)]
        assert logged == [(3, 2.0), (6, 5.0)]  # of 1, 2, 3; of 4, 5, 6


def test_what_is_clocked_is_of_the_steps_that_were_timed(tmp_path, monkeypatch):
    """A clock that goes on by a second at each step, and by an hour in an evaluation."""
    clock = [0.0]
    monkeypatch.setattr("ohem_tf.training.log.time.perf_counter", lambda: clock[0])
    log = TrainingLog(str(tmp_path), images_per_step=2, log_every=3)
    log.set_model(new_model())
    for step in range(1, 7):
        clock[0] += 1.0
        log.model.optimizer.iterations.assign(step)
        log.on_train_batch_end(step - 1, {"loss": 0.0, "waited": step / 12})
        if step == 4:
            clock[0] += 3600.0
            log.restart_clock()
    assert [x["images/s"] for x in lines(tmp_path)] == [2.0, 2.0]
    found = [x["data_wait"] for x in lines(tmp_path)]
    assert found == pytest.approx([6 / 36, 11 / 24])  # of steps 1 to 3, and of 5 and 6
    assert all("waited" not in x for x in lines(tmp_path))


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    """However much of the new one the disk has room for."""
    model = new_model()
    checkpoints = callbacks.Checkpoints(model, str(tmp_path), every=2, keep=1)
    train(model, 2, checkpoints)
    names = set(os.listdir(tmp_path / CHECKPOINTS))
    model.optimizer.iterations.assign(4)
    for limit in (0, 100, 5000):
        words = r"checkpoints/ckpt-4 cannot be written: .*File too large"
        with disk.full_at(limit), pytest.raises(WriteError, match=words):
            checkpoints.save()
        assert checkpoints.latest.endswith("ckpt-2")
        left = set(os.listdir(tmp_path / CHECKPOINTS)) - names
        assert left <= {"ckpt-4.data-00000-of-00001"}
        again = new_model()
        assert callbacks.Checkpoints(again, str(tmp_path), every=2, keep=1).restore()
        assert again.step == 2
    checkpoints.save()
    assert checkpoints.latest.endswith("ckpt-4")
    assert len(os.listdir(tmp_path / CHECKPOINTS)) == 3


def test_a_checkpoint_file_that_was_never_finished_is_removed(tmp_path):
    train(new_model(), 2, callbacks.Checkpoints(new_model(), str(tmp_path), every=2, keep=1))
    before = set(os.listdir(tmp_path / CHECKPOINTS))
    (tmp_path / CHECKPOINTS / "ckpt-4.data-00000-of-00001.tempstate123").touch()
    (tmp_path / CHECKPOINTS / "ckpt-4_temp").mkdir()
    (tmp_path / CHECKPOINTS / "ckpt-4_temp" / "part-00000-of-00001.index").touch()
    model = new_model()
    checkpoints = callbacks.Checkpoints(model, str(tmp_path), every=2, keep=1)
    assert checkpoints.restore()
    checkpoints.on_train_begin()
    assert set(os.listdir(tmp_path / CHECKPOINTS)) == before


def test_a_checkpoint_without_the_window_of_the_log_is_taken(tmp_path):
    model = new_model()
    train(model, 2, callbacks.Checkpoints(model, str(tmp_path), every=2, keep=1))
    log = TrainingLog(str(tmp_path), images_per_step=2, log_every=3)
    again = new_model()
    assert callbacks.Checkpoints(again, str(tmp_path), 2, 1, log.window).restore()
    assert (again.step, log.window.steps) == (2, [])


@pytest.mark.parametrize("file", ["log.jsonl", "tensorboard"])
def test_a_log_that_cannot_be_written_is_named(tmp_path, file):
    log = TrainingLog(str(tmp_path), images_per_step=2, log_every=1)
    for step in range(20):
        log.write(step, {"loss": 1.0})
    if file == "tensorboard":
        (tmp_path / "log.jsonl").write_text("")  # so that it has room
    words = rf"{file} cannot be written: .*File too large"
    with disk.full_at(500), pytest.raises(WriteError, match=words):
        log.write(20, {"loss": 1.0})


def test_weights_that_are_not_finite_are_named_and_not_saved(tmp_path):
    model = new_model()
    checkpoints = callbacks.Checkpoints(model, str(tmp_path), every=2, keep=1)
    train(model, 2, checkpoints)
    model.roi_head.cls_score.bias.assign([0, np.nan, 0, 0])
    words = r"weights roi_head/cls_score/bias are not finite after step 2; .*/ckpt-2;"
    with pytest.raises(InputError, match=words):
        checkpoints.save()
    assert checkpoints.latest.endswith("ckpt-2")
    again = new_model()
    assert callbacks.Checkpoints(again, str(tmp_path), every=2, keep=1).restore()
    assert np.isfinite(again.roi_head.cls_score.bias.numpy()).all()
