"""The files of a run, step by step, of a detector whose weights are known at every step."""

import json
import os

import disk
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf import workdir as workdir_module
from ohem_tf.errors import InputError, WriteError
from ohem_tf.training import callbacks
from ohem_tf.training.log import TrainingLog
from ohem_tf.training.optimizer import CaffeSGD
from ohem_tf.workdir import CHECKPOINTS, restore, save_weights, snapshot_path, snapshots

RATE = 1 / 64  # what a step takes off every weight


def train(model, steps, *used):
    """Trains `model` up to step `steps`; "loss" is the number of the step."""

    def train_step(number):
        variables = model.trainable_variables
        model.optimizer.apply([tf.ones(v.shape) for v in variables], variables)
        return {"loss": tf.cast(number, tf.float32)}

    model.train_step = train_step
    numbers = tf.data.Dataset.range(model.step + 1, steps + 1)
    model.fit(numbers, callbacks=list(used), shuffle=False, verbose=0)


def new_model():
    model = tiny.model()
    model.compile(optimizer=keras.optimizers.SGD(RATE), run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    return model


def assert_weights_of_step(path, step):
    """bbox_pred is folded: the targets of tiny.model have std 0.2 and mean 0."""
    found, start = tiny.model(), tiny.model()
    restore(found, path)
    for a, b in zip(found.trainable_variables, start.trainable_variables, strict=True):
        factor = 0.2 if "bbox_pred" in b.path else 1
        expected = factor * (b.numpy() - RATE * step)
        np.testing.assert_allclose(a.numpy(), expected, atol=1e-6, err_msg=b.path)


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


def lines(workdir):
    return [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]


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


def evaluation(workdir, mean_aps, every=2, patience=0):
    """Evaluation that finds `mean_aps`, one after the other."""
    log = TrainingLog(str(workdir), images_per_step=2, log_every=10)
    found = iter(mean_aps)
    return callbacks.Evaluation(str(workdir), every, lambda: {"mAP": next(found)}, log, patience)


def test_the_best_weights_are_those_of_the_first_highest_map(tmp_path):
    train(new_model(), 7, evaluation(tmp_path, [0.3, 0.5, 0.4, 0.5]))
    found = [(x["step"], x["eval/mAP"]) for x in lines(tmp_path)]
    assert found == [(2, 0.3), (4, 0.5), (6, 0.4), (7, 0.5)]
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 4, "mAP": 0.5}
    assert_weights_of_step(str(tmp_path / "best.weights.h5"), 4)


def test_a_finished_run_is_evaluated_only_if_it_was_not(tmp_path):
    model = new_model()
    train(model, 3)
    evaluation(tmp_path, [0.5]).finish(model)
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 3, "mAP": 0.5}
    evaluation(tmp_path, []).finish(model)


@pytest.mark.parametrize(
    ("patience", "mean_aps"),
    [
        (1, [0.3, 0.5, 0.4]),
        (2, [0.3, 0.5, 0.6, 0.6, 0.5]),
        (3, [0.3, 0.5, 0.4, 0.4, 0.6, 0.5]),  # never: these are all evaluations
        (0, [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]),  # nor here
    ],
)
def test_training_ends_when_patience_does(tmp_path, capsys, patience, mean_aps):
    model = new_model()
    train(model, 12, evaluation(tmp_path, mean_aps, 2, patience))
    assert model.step == 2 * len(mean_aps)
    assert ("training ends early" in capsys.readouterr().out) == (len(mean_aps) < 6)


def test_a_run_that_ended_early_says_so_again(tmp_path):
    train(new_model(), 12, evaluation(tmp_path, [0.5, 0.4, 0.3], 2, patience=2))
    again = evaluation(tmp_path, [], 2, patience=2)
    assert "no better mAP than 0.5000 of step 2 in 2 evaluations" in again.ended_early(6)
    assert again.ended_early(4) == ""  # it was killed, and resumes from there
    assert again.ended_early(5) == ""  # no evaluation
    assert evaluation(tmp_path, [], 2, patience=3).ended_early(6) == ""


def averaging_model():
    model = tiny.model()
    model.compile(optimizer=CaffeSGD(RATE, 0.0, 0.0, ema=0.9), run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    return model


def test_what_is_kept_for_use_holds_the_averages(tmp_path):
    model = averaging_model()
    start = [x.numpy() for x in model.trainable_variables]
    seen = []

    def evaluate():
        seen.append([x.numpy() for x in model.trainable_variables])
        return {"mAP": 0.5}

    log = TrainingLog(str(tmp_path), images_per_step=2, log_every=10)
    keepers = [
        callbacks.Checkpoints(model, str(tmp_path), every=4, keep=1),
        callbacks.Snapshots(str(tmp_path), 4),
        callbacks.Evaluation(str(tmp_path), 4, evaluate, log),
    ]
    train(model, 4, *keepers)
    average, kept_now = 0.0, [0.0, 1 / 10, 2 / 11, 3 / 12]
    for step, kept in enumerate(kept_now, 1):
        average = kept * average + (1 - kept) * step  # of how often the rate was taken off
    files = [
        tf.train.latest_checkpoint(str(tmp_path / CHECKPOINTS)),
        str(tmp_path / "best.weights.h5"),
        snapshot_path(str(tmp_path), 4),
    ]
    for path in files:
        found = tiny.model()
        restore(found, path)
        for i, variable in enumerate(found.trainable_variables):
            folded = 0.2 if path.endswith("h5") and "bbox_pred" in variable.path else 1
            rate = RATE * (2 if variable.path.endswith("bias") else 1)
            expected = start[i] - rate * average
            np.testing.assert_allclose(variable.numpy(), folded * expected, atol=1e-6)
            np.testing.assert_allclose(seen[0][i], expected, atol=1e-6)
            # The training goes on with the weights themselves.
            np.testing.assert_allclose(
                model.trainable_variables[i].numpy(), start[i] - 4 * rate, atol=1e-6
            )


MEAN_AP = {2: 0.3, 4: 0.5, 6: 0.4, 7: 0.6}  # of the weights of a step, evaluated every 2 steps


def evaluated_run(workdir, steps=7):
    """Checkpoints every 2 steps, and at the end; a second call resumes, as in `train.train`."""
    model = new_model()
    checkpoints = callbacks.Checkpoints(model, str(workdir), every=2, keep=1)
    checkpoints.restore()
    log = TrainingLog(str(workdir), images_per_step=2, log_every=1)

    def evaluate():
        if MEAN_AP[model.step] is KeyboardInterrupt:
            raise KeyboardInterrupt
        return {"mAP": MEAN_AP[model.step]}

    keeper = callbacks.Evaluation(str(workdir), 2, evaluate, log)
    if model.step == steps:
        keeper.finish(model)
    else:
        train(model, steps, log, checkpoints, keeper)


def killed_in_evaluation(patch, workdir, step, place):
    """Has the evaluation of the weights of `step` raise at one place of its way."""

    def at(holder, name, here, before=lambda: None, after=False):
        original = getattr(holder, name)

        def killed(*arguments):
            hit = here(*arguments)
            if after or not hit:
                original(*arguments)
            if hit:
                before()
                raise KeyboardInterrupt

        patch.setattr(holder, name, killed)

    def half():
        with open(workdir / "log.jsonl", "a") as file:
            file.write('{"step": 7, "eval/m')

    line = (TrainingLog, "write", lambda _, n, values: (n, *values) == (step, "eval/mAP"))
    if place == "no map yet":
        patch.setitem(MEAN_AP, step, KeyboardInterrupt)
    elif place == "no weights":
        at(workdir_module, "save_weights", lambda model, *_: model.step == step)
    elif place == "weights":
        at(workdir_module, "write_json", lambda _, best: best["step"] == step)
    elif place == "weights and json":
        at(*line)
    elif place == "half a line":
        at(*line, before=half)
    else:
        at(*line, after=True)


PLACES = ("no map yet", "no weights", "weights", "weights and json", "half a line", "all")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("step", "last"), [(4, 0.1), (7, 0.6)])  # the step is the best one
def test_a_run_that_is_killed_in_an_evaluation_does_it_again(
    tmp_path, monkeypatch, step, last, place
):
    monkeypatch.setitem(MEAN_AP, 7, last)
    with monkeypatch.context() as patch:
        killed_in_evaluation(patch, tmp_path, step, place)
        with pytest.raises(KeyboardInterrupt):
            evaluated_run(tmp_path)
    for _ in range(2):  # the second has nothing to do
        evaluated_run(tmp_path)
        assert [(x["step"], x.get("eval/mAP")) for x in lines(tmp_path)] == [
            *((1, None), (2, None), (2, 0.3), (3, None), (4, None), (4, 0.5), (5, None)),
            *((6, None), (6, 0.4), (7, None), (7, last)),
        ]
        best = json.loads((tmp_path / "best.json").read_text())
        assert best == {"step": step, "mAP": MEAN_AP[step]}
        assert_weights_of_step(str(tmp_path / "best.weights.h5"), step)


def test_best_json_is_right_where_a_longer_run_does_not_evaluate_again(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killed_in_evaluation(patch, tmp_path, 7, "weights")
        with pytest.raises(KeyboardInterrupt):
            evaluated_run(tmp_path)
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 4, "mAP": 0.5}
    for step in (8, 9):
        monkeypatch.setitem(MEAN_AP, step, 0.1)
    evaluated_run(tmp_path, steps=9)
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 7, "mAP": 0.6}
    assert_weights_of_step(str(tmp_path / "best.weights.h5"), 7)


def test_a_longer_run_compares_with_the_evaluations_it_has(tmp_path):
    for steps, found in ((4, [0.5, 0.2]), (7, [0.4, 0.5])):  # after 2 and 4, then 6 and 7
        model = new_model()
        checkpoints = callbacks.Checkpoints(model, str(tmp_path), every=2, keep=1)
        checkpoints.restore()
        train(model, steps, checkpoints, evaluation(tmp_path, found))
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 2, "mAP": 0.5}
    assert_weights_of_step(str(tmp_path / "best.weights.h5"), 2)


def test_a_new_run_in_a_used_folder_has_its_own_best(tmp_path):
    evaluated_run(tmp_path)
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    model = new_model()
    log = TrainingLog(str(tmp_path), images_per_step=2, log_every=1)
    train(model, 3, log, callbacks.Evaluation(str(tmp_path), 0, lambda: {"mAP": 0.1}, log))
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 3, "mAP": 0.1}
    assert_weights_of_step(str(tmp_path / "best.weights.h5"), 3)


def test_a_split_without_objects_has_no_map_and_no_best_weights(tmp_path):
    train(new_model(), 3, evaluation(tmp_path, [None], every=0))
    assert os.listdir(tmp_path) == ["tensorboard"]


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
