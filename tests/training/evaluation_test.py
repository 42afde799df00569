"""The evaluations during a training: what is best, when it ends, and what is kept for use."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf
import tiny
from known_weights import RATE, assert_weights_of_step, evaluation, lines, new_model, train

from ohem_tf import workdir as workdir_module
from ohem_tf.training import callbacks
from ohem_tf.training.log import TrainingLog
from ohem_tf.training.optimizer import CaffeSGD
from ohem_tf.workdir import CHECKPOINTS, restore, snapshot_path


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
