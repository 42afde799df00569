"""Runs side by side: each in a process of its own, with its share of the cores or a GPU."""

from __future__ import annotations

import concurrent.futures
import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from ohem_tf.comparison.plan import Run
from ohem_tf.devices import Share, shares
from ohem_tf.errors import InputError
from ohem_tf.progress import tqdm
from ohem_tf.workdir import LOG

_OUTPUT = "output.txt"  # in the workdir: what the process printed
_POLL_SECONDS = 2.0


def run_all(runs: Sequence[Run], jobs: int, finished: Callable[[Run], None]) -> None:
    """Runs them in their order, `jobs` at a time, with progress over all their steps.

    Args:
      runs: each with a `run.write_order` in its workdir.
      jobs: how many side by side.
      finished: called for each run that has ended well.

    Raises:
      InputError: a run failed; those under way are stopped, and resume next time.
    """
    free: queue.SimpleQueue[Share] = queue.SimpleQueue()
    for share in shares(jobs):
        free.put(share)
    processes: list[subprocess.Popen] = []
    stopping = False

    def one(run: Run) -> None:
        share = free.get()
        try:
            if stopping:
                return
            processes.append(process := _start(run, share))
            if stopping:  # meanwhile
                process.terminate()
            if process.wait() and not stopping:
                raise InputError(
                    f"{run.name}: {_reason(run, process)} (all its output: {run.workdir}/{_OUTPUT})"
                )
        finally:
            free.put(share)

    total = sum(run.config.train.steps for run in runs)
    with (
        concurrent.futures.ThreadPoolExecutor(jobs) as pool,
        tqdm(
            total=total, initial=_steps(runs), unit="step", desc=f"{len(runs)} runs", mininterval=5
        ) as progress,
    ):
        pending = {pool.submit(one, run): run for run in runs}
        try:
            while pending:
                done, _ = concurrent.futures.wait(
                    pending, _POLL_SECONDS, concurrent.futures.FIRST_COMPLETED
                )
                _advance(progress, _steps(runs))
                for future in done:
                    run = pending.pop(future)
                    future.result()
                    finished(run)
        finally:
            stopping = True
            for process in processes:
                process.terminate()


def _advance(progress: tqdm, steps: int) -> None:
    """To `steps`: fewer than before where a run goes on from a checkpoint before its log ended."""
    if steps < progress.n:
        progress.initial -= progress.n - steps
        progress.n = progress.last_print_n = steps
    progress.update(steps - progress.n)


def _start(run: Run, share: Share) -> subprocess.Popen:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **share.environment}
    with open(os.path.join(run.workdir, _OUTPUT), "a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ohem_tf.comparison.run", run.workdir, str(os.getpid())],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    os.sched_setaffinity(process.pid, share.cores)
    return process


def _steps(runs: Sequence[Run]) -> int:
    """The steps that all runs have done, by their logs."""
    return sum(_logged_step(os.path.join(run.workdir, LOG)) for run in runs)


def _logged_step(path: str) -> int:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 4096))
            lines = file.read().splitlines()
        return max((json.loads(line)["step"] for line in lines[1:]), default=0)
    except (OSError, ValueError, KeyError):
        return 0  # not there yet, or in the middle of a line


def _reason(run: Run, process: subprocess.Popen) -> str:
    """Why a process failed: the signal that killed it, or the last that it printed."""
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return f"killed by {name}" + (", memory may have run out" if name == "SIGKILL" else "")
    with open(os.path.join(run.workdir, _OUTPUT), encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return lines[-1] if lines else "the process ended without a word"
