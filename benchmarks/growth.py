"""What more RoIs cost OHEM: seconds and peak memory of a training step beside Fast R-CNN's.

    python -m benchmarks.growth --config=configs/voc07.py --config.train.images_per_step=1 \
        --config.train.rois_per_step=64 --config.backbone.weights=hed

For each number of proposals, Fast R-CNN, OHEM and OHEM with candidates take turns in one process
for the seconds; for the peak memory each has a process of its own, that does two steps. Both keep
freed memory, as training does. Writes OUTPUT/growth.md and .json; OUTPUT/growth.intro.md, if it
exists, becomes the text above the table.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags

from benchmarks.step_time import compiled_steps, example, rounds, samplers, setting
from ohem_tf.allocator import keep_freed_memory, peak_bytes
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.config import validate
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder

_COMPARED = 3  # of step_time's samplers: Fast R-CNN, OHEM, OHEM with candidates


def measure(config: ConfigDict, proposals: int, repeats: int) -> dict[str, dict]:
    """{sampler: {"seconds": of each round, "peak_bytes"}} with `proposals` of each image."""
    names = list(samplers(config))[:_COMPARED]
    peaks = {name: peak_of_process(name, proposals) for name in names}
    batch, steps = example(config, proposals), compiled_steps(config)
    timed = {name: lambda f=steps[name]: f(batch)["loss/hard"].numpy() for name in names}
    for step in timed.values():  # traces, and lets memory and libraries settle
        step()
    seconds = rounds(timed, repeats)
    return {name: {"seconds": seconds[name], "peak_bytes": peaks[name]} for name in names}


def peak_of_process(name: str, proposals: int) -> int:
    """`peak_of_steps` in a process of its own, with the same command line."""
    own = [f"--peak_of={name}", f"--proposals={proposals}"]
    command = [sys.executable, "-m", "benchmarks.growth", *sys.argv[1:], *own]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if found.returncode:
        raise InputError(f"{' '.join(own)}: the process ended with {found.returncode}, see above")
    return int(found.stdout.split()[-1])


def peak_of_steps(config: ConfigDict, name: str, proposals: int) -> int:
    """Bytes that this process has had at most, after two training steps with one sampler."""
    batch, step = example(config, proposals), compiled_steps(config)[name]
    for _ in range(2):
        step(batch)["loss/hard"].numpy()
    return peak_bytes()


def page(results: dict[int, dict[str, dict]], facts: dict[str, object], intro: str) -> str:
    """The Markdown page."""
    lines = [intro, "", "| proposals | step | median s | ratio | in each round | peak GB | ratio |"]
    lines.append("|---" * 7 + "|")
    for proposals, rows in results.items():
        first = next(iter(rows.values()))
        for name, row in rows.items():
            ratios = [a / b for a, b in zip(row["seconds"], first["seconds"], strict=True)]
            lines.append(
                f"| {proposals} | {name} | {statistics.median(row['seconds']):.3f} | "
                f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} | "
                f"{row['peak_bytes'] / 1e9:.2f} | {row['peak_bytes'] / first['peak_bytes']:.2f} |"
            )
    lines += ["", "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_list("proposals", ["2000", "4000", "8000"], "R, proposals of each image.")
    flags.DEFINE_integer("repeats", 2, "Rounds.", lower_bound=1)
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")
    flags.DEFINE_string("peak_of", None, "Print the peak memory of this step alone.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    config = given.config
    if config is None:
        raise InputError("give --config=configs/NAME.py")
    validate(config)
    if not all(count.isdecimal() and int(count) >= 5 for count in given.proposals):
        raise InputError(f"--proposals={','.join(given.proposals)}: expected numbers from 5 up")
    keep_freed_memory()
    counts = [int(count) for count in given.proposals]
    if given.peak_of is not None:
        if given.peak_of not in samplers(config):
            raise InputError(f"--peak_of={given.peak_of}: expected one of {list(samplers(config))}")
        print(peak_of_steps(config, given.peak_of, counts[0]))
        return
    make_folder(given.output, "output")
    results = {count: measure(config, count, given.repeats) for count in counts}
    facts = {"device": f"CPU, {len(os.sched_getaffinity(0))} cores"}
    facts |= setting(config, counts[0], given.repeats)
    del facts["proposals of an image"]
    base = os.path.join(given.output, "growth")
    text = page(results, facts, read_introduction(base, "# What more RoIs cost"))
    write_page(base, text, {"facts": facts, "results": results})


if __name__ == "__main__":
    define_flags()
    run(main)
