"""A few steps of each kind at the paper's sizes: seconds a step and peak memory of the process.

    python -m benchmarks.full_size --voc=records/voc07 --coco=records/coco --workdir=runs/full_size

Each row of configs/paper.py with a training step of its own trains for --steps steps at its own
sizes (600 px, fc layers of 4096), one process after the other, as a user runs it. The backbone's
weights are `hed`, the fc layers start at random, so the losses mean nothing. Then models are tested
on --images images: with one scale; with multi-scale testing, iterative regression and voting; on
COCO. Writes OUTPUT/full_size.md and .json. What is done already is not run again.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import tensorflow as tf
from absl import flags

from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.data.reader import RecordReader, read_dataset_info
from ohem_tf.data.records import shard_name, write_shard
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder, write_json
from ohem_tf.progress import tqdm
from ohem_tf.workdir import read_log

TRAINED = (
    "voc07_frcn_n1",
    "voc07_frcn",
    "voc07_all_n2",
    "voc07_ohem",
    "voc07_release",
    "voc07_ohem_masked",
    "voc07_ohem_m",
    "coco_ohem",
)
TESTED = (
    ("voc07_ohem", "voc07_ohem"),
    ("voc07_ohem_m_b", "voc07_ohem"),
    ("coco_ohem", "coco_ohem"),
)


def first_records(source: str, splits: Sequence[str], counts: Sequence[int], target: str) -> None:
    """Writes a data set that holds the first `counts` records of `splits` of another one."""
    make_folder(target, "workdir")
    info = read_dataset_info(source)
    written = {}
    for split, wanted in zip(splits, counts, strict=True):
        reader = RecordReader(source, split)
        name, count = shard_name(split, 0, 1), min(wanted, len(reader))
        write_shard(os.path.join(target, name), (reader[i] for i in range(count)))
        written[split] = {**info["splits"][split], "shards": [{"file": name, "records": count}]}
    write_json(os.path.join(target, "dataset.json"), {**info, "splits": written})


def measured(command: Sequence[str], log: str) -> dict[str, float]:
    """Runs a process to its end: wall seconds and peak resident memory in GB.

    Raises:
      InputError: it failed; its output is in the file `log`.
    """
    start = time.perf_counter()
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"{' '.join(command)} failed; its output: {log}")
    return {"wall_seconds": time.perf_counter() - start, "peak_gb": usage.ru_maxrss * 1024 / 1e9}


def seconds_per_step(workdir: str) -> float:
    """Median over the steps but the first two (which trace and warm up)."""
    lines = read_log(workdir)
    with open(os.path.join(workdir, "config.json"), encoding="utf-8") as file:
        images = json.load(file)["config"]["train"]["images_per_step"]
    return statistics.median(
        [images / line["images/s"] for line in lines if "images/s" in line][2:]
    )


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("voc", None, "A prepared VOC07 (splits trainval and test).")
    flags.DEFINE_string("coco", None, "A prepared COCO.")
    flags.DEFINE_list("coco_splits", ["train2014", "val2014"], "To train on, to test on.")
    flags.DEFINE_string("workdir", None, "Where the runs go.")
    flags.DEFINE_integer("steps", 10, "Training steps of each config.", lower_bound=3)
    flags.DEFINE_integer("images", 10, "Images of each test.", lower_bound=1)
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if not (given.voc and given.coco and given.workdir):
        raise InputError("give --voc, --coco and --workdir")
    make_folder(given.output, "output")
    splits = {"voc07": ["trainval", "test"], "coco": given.coco_splits}
    data = {}
    for kind, source in (("voc07", given.voc), ("coco", given.coco)):
        data[kind] = os.path.join(given.workdir, f"records_{kind}")
        counts = (2 * given.steps, given.images)
        first_records(source, splits[kind], counts, data[kind])

    def command(binary: str, config: str, workdir: str, *more: str) -> list[str]:
        kind = config.split("_")[0]
        train_split, eval_split = splits[kind]
        return [
            *(sys.executable, "-m", f"ohem_tf.{binary}", f"--config=configs/paper.py:{config}"),
            *(f"--workdir={workdir}", f"--config.data.dir={data[kind]}"),
            *(f"--config.data.train_split={train_split}", f"--config.data.eval_split={eval_split}"),
            *("--config.backbone.weights=hed", "--config.backbone.feature_scale=0.1"),
            *more,
        ]

    jobs = []
    for config in TRAINED:
        workdir = os.path.join(given.workdir, config)
        more = (f"--config.train.steps={given.steps}", "--config.train.log_every=1")
        jobs.append((f"train {config}", config, workdir, command("train", config, workdir, *more)))
    for config, trained in TESTED:
        workdir = os.path.join(given.workdir, trained)
        jobs.append((f"test {config}", config, workdir, command("evaluate", config, workdir)))
    path = os.path.join(given.workdir, "full_size.json")
    results = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            results = json.load(file)
    for name, _, workdir, line in tqdm(jobs, desc="runs", unit="run"):
        if name in results:
            continue
        log = os.path.join(given.workdir, name.replace(" ", "_") + ".log")
        result = measured(line, log)
        if name.startswith("train"):
            result["seconds_per_step"] = seconds_per_step(workdir)
        else:
            with open(os.path.join(workdir, "metrics.json"), encoding="utf-8") as file:
                result["images"] = json.load(file)["images"]
        results[name] = result
        write_json(path, results)
    base = os.path.join(given.output, "full_size")
    intro = read_introduction(base, "# A few steps of each kind at the paper's sizes")
    text = page(results, given.steps, intro)
    facts = {"steps": given.steps, "images": given.images, "tensorflow": tf.__version__}
    write_page(base, text, {**facts, "runs": results})


def page(results: dict[str, dict], steps: int, intro: str) -> str:
    """The Markdown page."""
    lines = [
        intro,
        "",
        f"VGG16, {steps} steps each, on {len(os.sched_getaffinity(0))} cores "
        f"({platform.machine()}), TensorFlow {tf.__version__}. One process after the other, so "
        "seconds compare only roughly; [step_time.md](step_time.md) compares side by side.",
        "",
        "| run | s / step | s in all | peak GB |",
        "|---|---|---|---|",
    ]
    for name, result in results.items():
        step = f"{result['seconds_per_step']:.2f}" if "seconds_per_step" in result else ""
        what = f"{name}, {result['images']} images" if "images" in result else name
        lines.append(
            f"| {what} | {step} | {result['wall_seconds']:.0f} | {result['peak_gb']:.1f} |"
        )
    lines += [
        "",
        "s in all: start, weights, statistics of the targets, steps, checkpoint and, after a "
        "training, one evaluation at one scale.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    define_flags()
    run(main)
