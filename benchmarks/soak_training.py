"""A long training that is killed every few minutes: does it end as an unbroken one?

    python -m benchmarks.soak_training --config=configs/voc07_320.py --workdir=runs/soak \
        --config.data.dir=records/voc07_320 --config.train.deterministic --minutes=5,10

Two trainings with the same settings, side by side, on a core each: WORKDIR/unbroken, and
WORKDIR/killed, which SIGKILL ends --minutes after each of its starts (drawn evenly between the two)
until one start reaches the last step. Then every line of their logs (but for what is clocked),
every weight and every slot of the optimizer is compared, bit for bit. Writes
OUTPUT/reliability_training.md, .json and .png; OUTPUT/reliability_training.intro.md, if it exists,
becomes the text above the table. If this script itself is stopped, it goes on where it was, except
that the unbroken training then starts anew.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags
from matplotlib.figure import Figure
from ml_collections import config_flags

from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.config import validate
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder, write_json
from ohem_tf.progress import tqdm
from ohem_tf.training.log import CLOCKED
from ohem_tf.workdir import CHECKPOINTS, LOG, read_log

_KILLS = "kills.json"
_OUTPUT = "output.txt"
_POLL_SECONDS = 0.5


def start(workdir: str, core: int) -> subprocess.Popen:
    """`ohem_tf.train` with this script's settings, in a process with one core."""
    settings = [x for x in sys.argv[1:] if x.startswith("--config")]
    with open(os.path.join(workdir, _OUTPUT), "a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ohem_tf.train", f"--workdir={workdir}", *settings],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    os.sched_setaffinity(process.pid, {core})
    return process


def step_of(workdir: str) -> int:
    """The last step in a training's log, if there is one yet."""
    if not os.path.exists(os.path.join(workdir, LOG)):
        return 0
    return max((line["step"] for line in read_log(workdir)), default=0)


def saved_step(workdir: str) -> int:
    """The step of a training's last checkpoint."""
    path = tf.train.latest_checkpoint(os.path.join(workdir, CHECKPOINTS))
    return int(path.rpartition("-")[2]) if path else 0


def train_unbroken(workdir: str, core: int, stop: threading.Event) -> float:
    """Trains in one go; returns its minutes."""
    make_folder(workdir, "workdir")
    before, process = time.monotonic(), start(workdir, core)
    while process.poll() is None:
        if stop.wait(_POLL_SECONDS):
            process.kill()
    if process.wait():
        raise InputError(f"the unbroken training ended with {process.returncode}: {workdir}")
    return (time.monotonic() - before) / 60


def train_killed(
    workdir: str, core: int, minutes: Sequence[float], seed: int, stop: threading.Event
) -> list[dict[str, float]]:
    """Trains, killed again and again.

    Args:
      workdir: of the training.
      core: to train on.
      minutes: least and most of a life.
      seed: of the lives' lengths.
      stop: ends it all.

    Returns:
      For each kill "minutes" of life, the "step" that the log had and the one "saved" in the last
      checkpoint: from there the next start goes on.
    """
    make_folder(workdir, "workdir")
    path = os.path.join(workdir, _KILLS)
    kills: list[dict[str, float]] = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            kills = json.load(file)
    while True:
        write_json(path, kills)
        life = random.Random(f"{seed} {len(kills)}").uniform(*minutes)
        process, end = start(workdir, core), time.monotonic() + 60 * life
        while process.poll() is None and time.monotonic() < end and not stop.is_set():
            time.sleep(_POLL_SECONDS)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        if code == 0:
            return kills
        if code != -signal.SIGKILL or stop.is_set():
            raise InputError(f"the killed training ended with {code}: {workdir}")
        saved = saved_step(workdir)
        kills.append({"minutes": life, "step": max(step_of(workdir), saved), "saved": saved})


def differences(one: str, other: str) -> dict[str, int]:
    """How much of two ended trainings was compared, and how much of it differs."""
    logs = [
        [{k: v for k, v in line.items() if k not in CLOCKED} for line in read_log(workdir)]
        for workdir in (one, other)
    ]
    readers = []
    for workdir in (one, other):
        path = tf.train.latest_checkpoint(os.path.join(workdir, CHECKPOINTS))
        readers.append(tf.train.load_checkpoint(path))
    names = [
        {x for x in reader.get_variable_to_shape_map() if x.startswith(("weights", "optim"))}
        for reader in readers
    ]
    numbers = unequal = 0
    for name in names[0] & names[1]:
        a, b = (np.asarray(reader.get_tensor(name)) for reader in readers)
        numbers += a.size
        unequal += int(np.sum(a != b)) if a.shape == b.shape else a.size
    longest = max(map(len, logs))
    return {
        "log lines": longest,
        "log lines that differ": longest - sum(a == b for a, b in zip(*logs, strict=False)),
        "variables": len(names[0] | names[1]),
        "variables that one of them lacks": len(names[0] ^ names[1]),
        "numbers": numbers,
        "numbers that differ": unequal,
    }


def draw(path: str, workdirs: Mapping[str, str], kills: Sequence[Mapping[str, float]]) -> None:
    """The picture: the losses of both, and the steps of the killed one over its minutes."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, workdir), style in zip(workdirs.items(), ("-", ":"), strict=True):
        points = [(x["step"], x["loss/hard"]) for x in read_log(workdir) if "loss/hard" in x]
        left.plot(*zip(*points, strict=True), style, label=name, linewidth=1 + 2 * (style == ":"))
    left.set(xlabel="step", ylabel="loss of the selected RoIs", yscale="log")
    left.legend()
    now, saved = 0.0, 0.0
    for kill in kills:
        right.plot([now, now + kill["minutes"]], [saved, kill["step"]], color="tab:blue")
        right.plot(now + kill["minutes"], kill["step"], "x", color="tab:red")
        now, saved = now + kill["minutes"], kill["saved"]
    right.set(xlabel="minutes of the killed training", ylabel="step; x: SIGKILL")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def page(result: Mapping[str, Any], intro: str, name: str) -> str:
    """The Markdown page."""
    kills = result["kills"]
    lost = [kill["step"] - kill["saved"] for kill in kills]
    rows = {
        "steps": result["steps"],
        "minutes of the unbroken training": f"{result['unbroken minutes']:.0f}",
        "minutes of the killed one, up to its last kill": f"{sum(k['minutes'] for k in kills):.0f}",
        "kills": len(kills),
        "steps done again after a kill, mean and most": (
            f"{np.mean(lost):.0f} and {max(lost):.0f}" if lost else "none"
        ),
        **result["differences"],
    }
    lines = [intro, "", f"![losses, and steps over minutes]({name}.png)", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_string("workdir", None, "Folder for both trainings.")
    flags.DEFINE_list("minutes", ["5", "10"], "Least and most between a start and its kill.")
    flags.DEFINE_integer("seed", 0, "Of the moments.")
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    config, root = given.config, given.workdir
    if config is None or root is None:
        raise InputError("give --config=configs/NAME.py and --workdir=DIR")
    validate(config)
    if not config.train.deterministic:
        raise InputError("config.train.deterministic: has to be set, or no two runs end alike")
    try:
        least, most = (float(x) for x in given.minutes)
    except ValueError:
        least, most = 0.0, 0.0
    if not 0 < least <= most:
        raise InputError(f"--minutes={','.join(given.minutes)}: expected two numbers, as 5,10")
    make_folder(given.output, "output")
    workdirs = {name: os.path.join(root, name) for name in ("unbroken", "killed")}
    minutes_file = os.path.join(root, "unbroken.json")
    cores = sorted(os.sched_getaffinity(0))
    stop, failures = threading.Event(), []

    def guarded(function: Any, *arguments: Any) -> None:
        try:
            function(*arguments)
        except InputError as error:
            failures.append(error)
            stop.set()

    def unbroken() -> None:
        if os.path.exists(minutes_file):
            return
        shutil.rmtree(workdirs["unbroken"], ignore_errors=True)
        write_json(minutes_file, train_unbroken(workdirs["unbroken"], cores[0], stop))

    def killed() -> None:
        train_killed(workdirs["killed"], cores[-1], (least, most), given.seed, stop)

    threads = [threading.Thread(target=guarded, args=[x]) for x in (unbroken, killed)]
    for thread in threads:
        thread.start()
    steps = config.train.steps
    with tqdm(total=2 * steps, unit="step", desc="both trainings") as progress:
        try:
            while any(thread.is_alive() for thread in threads):
                time.sleep(2)
                progress.update(sum(map(step_of, workdirs.values())) - progress.n)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    if failures:
        raise failures[0]
    with open(os.path.join(workdirs["killed"], _KILLS), encoding="utf-8") as file:
        kills = json.load(file)
    with open(minutes_file, encoding="utf-8") as file:
        minutes = json.load(file)
    result = {
        "steps": steps,
        "unbroken minutes": minutes,
        "kills": kills,
        "differences": differences(workdirs["unbroken"], workdirs["killed"]),
    }
    base = os.path.join(given.output, "reliability_training")
    draw(f"{base}.png", workdirs, kills)
    intro = read_introduction(base, "# A soak of training")
    write_page(base, page(result, intro, os.path.basename(base)), result)


if __name__ == "__main__":
    define_flags()
    run(main)
