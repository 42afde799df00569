"""benchmarks.soak_training: kills until the end is reached, and sees what differs."""

import json
import subprocess
import sys
import threading

import pytest
import tensorflow as tf

from benchmarks import soak_training
from ohem_tf.errors import InputError
from ohem_tf.workdir import CHECKPOINTS, LOG, read_log

# Counts in its log up to 25, from where the last process of its folder was.
TRAINING = """
import json, os, sys, time
log = os.path.join(sys.argv[1], "log.jsonl")
done = len(open(log).readlines()) if os.path.exists(log) else 0
with open(log, "a", buffering=1) as file:
    for step in range(done + 1, 26):
        file.write(json.dumps({"step": step, "loss/hard": 1 / step}) + "\\n")
        time.sleep(0.1)
"""


def write_run(workdir, weight, images_per_second, last_loss=0.5):
    checkpoint = tf.train.Checkpoint(
        weights=tf.Variable([1.0, weight]), optimizer=tf.Variable([0.5]), other=tf.Variable(0)
    )
    checkpoint.save(str(workdir / CHECKPOINTS / "ckpt"))
    lines = [{"step": 1, "loss/hard": 1.0}, {"step": 2, "loss/hard": last_loss}]
    text = "".join(
        json.dumps(x | {"images/s": images_per_second, "data_wait": 1 / images_per_second}) + "\n"
        for x in lines
    )
    (workdir / LOG).write_text(text + '{"step": 3, "lo')


def test_counts_what_differs_between_two_runs(tmp_path):
    one, same, other = (tmp_path / name for name in "abc")
    write_run(one, 2.0, 10.0)
    write_run(same, 2.0, 11.0)
    write_run(other, 2.5, 10.0, last_loss=0.25)
    compared = {"log lines": 2, "variables": 2, "numbers": 3}
    found = soak_training.differences(str(one), str(same))
    assert {name: n for name, n in found.items() if n} == compared
    found = soak_training.differences(str(one), str(other))
    assert {name: n for name, n in found.items() if n} == compared | {
        "log lines that differ": 1,
        "numbers that differ": 1,
    }


@pytest.fixture
def counting(monkeypatch):
    """Trainings that only count."""

    def start(workdir, core):
        return subprocess.Popen([sys.executable, "-c", TRAINING, workdir])

    monkeypatch.setattr(soak_training, "start", start)
    monkeypatch.setattr(soak_training, "_POLL_SECONDS", 0.02)


def test_kills_until_the_last_step_is_reached(counting, tmp_path):
    stop = threading.Event()
    kills = soak_training.train_killed(str(tmp_path), 0, (0.6 / 60, 1.2 / 60), 0, stop)
    assert len(kills) > 1
    steps = [kill["step"] for kill in kills]
    assert steps == sorted(steps)
    assert [x["step"] for x in read_log(str(tmp_path))] == list(range(1, 26))
    assert json.loads((tmp_path / "kills.json").read_text()) == kills
    # Called again, it goes on with the kills that were: here there is nothing left to do.
    assert soak_training.train_killed(str(tmp_path), 0, (1.0, 1.0), 0, stop) == kills


def test_a_stop_ends_it(counting, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(InputError, match="ended with -9"):
        soak_training.train_killed(str(tmp_path), 0, (1.0, 1.0), 0, stop)


def test_the_page_says_how_much_was_done_again(tmp_path):
    result = {
        "steps": 30,
        "unbroken minutes": 12.0,
        "kills": [
            {"minutes": 5.0, "step": 12, "saved": 10},
            {"minutes": 6.0, "step": 26, "saved": 20},
        ],
        "differences": {"numbers": 7, "numbers that differ": 0},
    }
    text = soak_training.page(result, "# Title", "x")
    assert "| kills | 2 |" in text
    assert "mean and most | 4 and 6 |" in text
    assert "| numbers that differ | 0 |" in text
    for workdir in (tmp_path / "a", tmp_path / "b"):
        write_run(workdir, 1.0, 1.0)
    soak_training.draw(
        str(tmp_path / "x.png"),
        {"unbroken": str(tmp_path / "a"), "killed": str(tmp_path / "b")},
        result["kills"],
    )
    assert (tmp_path / "x.png").stat().st_size > 1000
