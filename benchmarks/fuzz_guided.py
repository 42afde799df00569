"""Damaged files found by coverage: the targets of benchmarks.fuzz under atheris (libFuzzer).

    python -m pip install atheris
    python -m benchmarks.fuzz_guided --seconds=60

benchmarks.fuzz damages undamaged files; here an input that reaches a branch of ohem_tf which none
before it did is kept, and damaged further. Only for readers that are Python themselves: atheris
sees nothing of one in a process apart, nor of TensorFlow. Writes OUTPUT/fuzz_guided.md and .json;
OUTPUT/fuzz_guided.intro.md, if it exists, becomes the text above the table.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import fuzz
from benchmarks.fuzzing import mutations
from benchmarks.fuzzing.targets import TARGETS
from ohem_tf.apart import timed
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.errors import InputError, run

APART = (".mat v5", ".mat v7.3", "images", "request")
GUIDED = tuple(name for name in TARGETS if name not in APART)
_LARGEST = 20_000  # bytes of an input
_CHILD = """
import json, sys
import atheris
with atheris.instrument_imports(include=["ohem_tf"]):
    from benchmarks import fuzz_guided
fuzz_guided.run_here(*json.loads(sys.argv[1]))
"""


def run_here(name: str, seconds: int, seed: int, folder: str, keep: str) -> None:
    """Fuzzes a target in this process and ends it; FOLDER/log has a line for each input."""
    import atheris

    warnings.simplefilter("ignore")
    files, corpus = Path(folder, "files"), Path(folder, "corpus")
    files.mkdir()
    corpus.mkdir()
    target = TARGETS[name][0](files)
    for number, data in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(data)

    def damaged(data: bytes, largest: int, number: int) -> bytes:
        rng = np.random.default_rng(number)
        kind = rng.integers(3)
        if kind == 0 and target.structure is not None:
            with contextlib.suppress(Exception):  # damaged before, it may have no structure left
                return target.structure(rng, data)[:largest]
        if kind == 1:
            return mutations.of_bytes(rng, data, target.seeds)[:largest]
        return atheris.Mutate(data, largest)

    with open(Path(folder, "log"), "w", encoding="utf-8", buffering=1) as log:

        def read(data: bytes) -> None:
            log.write("[")
            log.flush()  # what remains of an input that ends the process
            with timed(fuzz.SECONDS):
                result, more = fuzz.outcome(target, files, data)
            log.write(f"{json.dumps(result)}, {json.dumps(more)}]\n")
            if result not in fuzz.GOOD and keep:
                digest = hashlib.sha256(data).hexdigest()[:16]
                Path(keep, f"{name.replace(' ', '_')}-{digest}").write_bytes(data)

        options = [f"-max_total_time={seconds}", f"-seed={seed + 1}", f"-max_len={_LARGEST}"]
        options += ["-rss_limit_mb=0", f"-artifact_prefix={keep or folder}/"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], read, custom_mutator=damaged)
        atheris.Fuzz()


def guided(name: str, seconds: int, seed: int = 0, keep: str = "") -> dict[str, Any]:
    """Fuzzes a target for some seconds in a process of its own.

    Returns:
      {"inputs", a count for each of `fuzz.OUTCOMES`, "kept": inputs that reached something new,
      "findings": [[outcome, more]]}.

    Raises:
      InputError: the process cannot start.
    """
    with tempfile.TemporaryDirectory() as folder:
        order = json.dumps([name, seconds, seed, folder, keep])
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, order], stderr=subprocess.PIPE, text=True
        )
        log = Path(folder, "log")
        if not log.exists():
            raise InputError(f"{name}: {child.stderr.strip()[-500:]}")
        counts: Counter[str] = Counter()
        findings = []
        for line in log.read_text(encoding="utf-8").splitlines():
            whole = line.endswith("]")
            result, more = json.loads(line) if whole else fuzz.death(child.returncode)
            counts[result] += 1
            if result not in fuzz.GOOD:
                findings.append([result, more])
        seeds = sum(path.name.startswith("seed-") for path in Path(folder, "corpus").iterdir())
        kept = len(os.listdir(Path(folder, "corpus"))) - seeds
    totals = {result: counts[result] for result in fuzz.OUTCOMES}
    return {"inputs": counts.total(), **totals, "kept": kept, "findings": findings[: fuzz.SHOWN]}


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if util.find_spec("atheris") is None:
        raise InputError("atheris is not installed: python -m pip install atheris")
    fuzz.check_flags(GUIDED)
    results = {}
    for name in given.targets:
        results[name] = guided(name, given.seconds, given.seed, given.keep)
        print(name, results[name], flush=True)
    facts: dict[str, object] = {"seconds each": given.seconds, "seed": given.seed}
    facts |= {package: metadata.version(package) for package in ("atheris", "numpy", "protobuf")}
    base = os.path.join(given.output, "fuzz_guided")
    columns = ("inputs", *fuzz.OUTCOMES, "kept")
    intro = read_introduction(base, "# Damaged files, by coverage")
    text = fuzz.page(results, facts, intro, columns)
    write_page(base, text, {"facts": facts, "results": results})


if __name__ == "__main__":
    flags.DEFINE_integer("seconds", 60, "For each target.", lower_bound=1)
    fuzz.define_flags(GUIDED)
    run(main)
