"""Damages files by the thousand and reads them: is there anything but InputError or a right answer?

    python -m benchmarks.fuzz --inputs=100000

Files of benchmarks.fuzzing are damaged in their bytes and in their structure and read as the
package reads them, in a process for each kind that is started again when it dies. Input i of a
target is a function of --seed and i. Writes OUTPUT/fuzz.md and .json; OUTPUT/fuzz.intro.md, if it
exists, becomes the text above the table. Damaged files that did worse stay in --keep.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.fuzzing import mutations
from benchmarks.fuzzing.target import LIMITS, Target
from benchmarks.fuzzing.targets import TARGETS
from ohem_tf.apart import timed
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder

GOOD = ("refused", "right")
OUTCOMES = (*GOOD, "error", "crash", "hang", "wrong")
SECONDS = 3 * LIMITS.seconds  # for one input, the reading apart included
SHOWN = 20  # findings that the json holds
COLUMNS = ("inputs", *OUTCOMES, "seconds")


def content(target: Target, name: str, number: int, seed: int) -> bytes:
    """Input `number` of a target; number 0 is not damaged."""
    rng = np.random.default_rng([seed, *name.encode(), number])
    data = target.seeds[rng.integers(len(target.seeds))]
    if number == 0:
        return data
    if target.structure is not None and rng.integers(2):
        return target.structure(rng, data)
    return mutations.of_bytes(rng, data, target.seeds)


def outcome(target: Target, folder: Path, data: bytes) -> tuple[str, str]:
    """What comes of one input: one of `OUTCOMES`, and more about an error."""
    (folder / target.file).write_bytes(data)
    try:
        answer = target.read(folder)
    except InputError:
        return "refused", ""
    except Exception as error:  # what must not happen
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "error", f"{type(error).__name__}: {error} ({place.name})"[:300]
    try:
        return ("right" if target.right(data, answer) else "wrong"), ""
    except Exception as error:  # the other reader refuses what this one took
        return "wrong", f"the other reader: {type(error).__name__}: {error}"[:300]


def run_inputs(name: str, first: int, last: int, seed: int, log: str, keep: str) -> None:
    """Runs the inputs `first` to `last` (exclusive) of a target here, with a line in `log` each."""
    warnings.simplefilter("ignore")
    LIMITS.apply_here()
    with (
        tempfile.TemporaryDirectory() as folder,
        open(log, "a", encoding="utf-8", buffering=1) as file,
    ):
        target = TARGETS[name][0](Path(folder))
        for number in range(first, last):
            data = content(target, name, number, seed)
            file.write(f"{number} ")
            file.flush()  # what remains of an input that ends the process
            with timed(SECONDS):
                result, more = outcome(target, Path(folder), data)
            file.write(f"{json.dumps([result, more])}\n")
            if result not in GOOD and keep:
                Path(keep, f"{name.replace(' ', '_')}-{number}").write_bytes(data)


def fuzz(name: str, inputs: int, seed: int = 0, keep: str = "") -> dict[str, Any]:
    """Runs `inputs` inputs of a target in processes of their own.

    Returns:
      {"inputs", a count for each of `OUTCOMES`, "seconds", "findings": [[number, outcome, more]]}.

    Raises:
      InputError: the process cannot start.
    """
    counts: Counter[str] = Counter()
    findings: list[list] = []
    done, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        while done < inputs:
            log.write_text("", encoding="utf-8")
            order = json.dumps([name, done, inputs, seed, str(log), keep])
            command = [sys.executable, "-c", _CHILD, order]
            child = subprocess.run(command, stderr=subprocess.PIPE, text=True)
            lines = log.read_text(encoding="utf-8").splitlines()
            if not lines:
                raise InputError(f"{name}: {child.stderr.strip()[-500:]}")
            for line in lines:
                number, _, rest = line.partition(" ")
                result, more = json.loads(rest) if rest else death(child.returncode)
                counts[result] += 1
                done = int(number) + 1
                if result not in GOOD and len(findings) < SHOWN:
                    findings.append([int(number), result, more])
            if child.returncode == 0 and done < inputs:
                raise InputError(f"{name}: ended after input {done}")
    seconds = time.monotonic() - started
    totals = {result: counts[result] for result in OUTCOMES}
    return {"inputs": inputs, **totals, "seconds": seconds, "findings": findings}


_CHILD = (
    "import json, sys; from benchmarks.fuzz import run_inputs; run_inputs(*json.loads(sys.argv[1]))"
)


def death(code: int) -> tuple[str, str]:
    """The outcome of an input that ended its process, with that exit status."""
    return "hang" if code == -signal.SIGALRM else "crash", str(code)


def shares(inputs: int) -> dict[str, int]:
    """How many of the inputs each target gets."""
    whole = sum(share for _, share in TARGETS.values())
    return {name: -(-inputs * share // whole) for name, (_, share) in TARGETS.items()}


def page(
    results: dict[str, dict[str, Any]],
    facts: dict[str, object],
    intro: str,
    columns: Sequence[str] = COLUMNS,
) -> str:
    """The Markdown page: a row for each target, and one for all."""
    lines = [intro, "", f"| file | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    total = {key: sum(row[key] for row in results.values()) for key in columns}
    for name, row in [*results.items(), ("all", total)]:
        lines.append(f"| {name} | {' | '.join(f'{row[key]:.0f}' for key in columns)} |")
    lines += ["", "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def define_flags(targets: Sequence[str]) -> None:
    """Defines the flags of a script that fuzzes `targets`."""
    flags.DEFINE_integer("seed", 0, "Of the damage.")
    flags.DEFINE_list("targets", list(targets), "Some targets.")
    flags.DEFINE_string("keep", "", "Folder for the inputs that did worse.")
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")


def check_flags(targets: Sequence[str]) -> None:
    """Refuses targets that are none of `targets`, and makes the folders."""
    given = flags.FLAGS
    if unknown := [name for name in given.targets if name not in targets]:
        raise InputError(f"--targets: {unknown[0]!r} is none of {', '.join(targets)}")
    make_folder(given.output, "output")
    if given.keep:
        make_folder(given.keep, "keep")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    check_flags(list(TARGETS))
    results = {}
    for name in given.targets:
        results[name] = fuzz(name, shares(given.inputs)[name], given.seed, given.keep)
        print(name, {k: v for k, v in results[name].items() if k != "findings"}, flush=True)
        for finding in results[name]["findings"]:
            print("  ", *finding, flush=True)
    packages = ("numpy", "scipy", "h5py", "Pillow", "tensorflow", "protobuf")
    facts: dict[str, object] = {"seed": given.seed}
    facts |= {package: metadata.version(package) for package in packages}
    base = os.path.join(given.output, "fuzz")
    text = page(results, facts, read_introduction(base, "# Damaged files"))
    write_page(base, text, {"facts": facts, "results": results})


if __name__ == "__main__":
    flags.DEFINE_integer("inputs", 100_000, "Inputs, over all targets.", lower_bound=1)
    define_flags(list(TARGETS))
    run(main)
