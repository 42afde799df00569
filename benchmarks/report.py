"""Writes a results page from training runs: Markdown, JSON and curves as PNG.

    python -m benchmarks.report --name=bccd --workdirs=runs/bccd --output=docs/results

Several workdirs (OHEM and the baseline, say) stand side by side on one page. Each must have been
evaluated (metrics.json). The figures come from the workdirs alone: config.json, log.jsonl and
metrics.json. `docs/results/NAME.intro.md`, if it exists, becomes the text above the tables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import matplotlib as mpl
from absl import flags
from tabulate import tabulate

from ohem_tf.comparison.page import read_introduction
from ohem_tf.errors import InputError, run
from ohem_tf.workdir import CONFIG, LOG, read_log

mpl.use("Agg")
import matplotlib.pyplot as plt

from ohem_tf.files import write_json

_SHOWN = ("loss/all_rois", "loss/hard", "cls", "box", "fg", "eval/mAP")


def read_run(workdir: str) -> dict:
    """What a workdir says of its run: settings, curves, metrics, and its speed."""
    try:
        with open(os.path.join(workdir, CONFIG), encoding="utf-8") as file:
            saved = json.load(file)
        with open(os.path.join(workdir, "metrics.json"), encoding="utf-8") as file:
            metrics = json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(f"--workdirs: {error}; train and evaluate it first") from error
    log = read_log(workdir)
    speeds = sorted(line["images/s"] for line in log if "images/s" in line)
    if not speeds:
        raise InputError(f"{workdir}/{LOG} holds no steps: train at least config.train.log_every")
    rate = speeds[len(speeds) // 2]
    train = saved["config"]["train"]
    return {
        "sampler": saved["config"]["sampler"],
        "steps": train["steps"],
        "images_per_step": train["images_per_step"],
        "median_seconds_per_step": train["images_per_step"] / rate,
        "training_minutes": train["steps"] * train["images_per_step"] / rate / 60,
        "seed": saved["config"]["seed"],
        "versions": saved["versions"],
        "metrics": metrics,
        "curves": {
            name: [[line["step"], line[name]] for line in log if name in line] for name in _SHOWN
        },
    }


def plot(runs: dict[str, dict], path: str) -> None:
    """Draws the curves of all runs."""
    names = [n for n in _SHOWN if any(len(run["curves"][n]) > 1 for run in runs.values())]
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), constrained_layout=True)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for name, axis in zip(names, axes.flat, strict=False):
        for label, result in runs.items():
            if result["curves"][name]:
                marker = "o" if name == "eval/mAP" else None
                axis.plot(*zip(*result["curves"][name], strict=True), label=label, marker=marker)
        axis.set_title(name)
        axis.set_xlabel("step")
        axis.set_ylim(0, 1 if name in ("fg", "eval/mAP") else None)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=90)


def page(name: str, intro: str, runs: dict[str, dict]) -> str:
    """The Markdown page."""
    first = next(iter(runs.values()))["metrics"]

    def number(value: float | None) -> str:
        return "no data" if value is None else f"{value:.3f}"

    rows = []
    for label in first["AP"]:
        values = [number(run["metrics"]["AP"][label]) for run in runs.values()]
        rows.append([label, first["objects"][label], *values])
    values = [f"**{number(run['metrics']['mAP'])}**" for run in runs.values()]
    rows.append(["**mAP**", sum(first["objects"].values()), *values])
    coco = [run["metrics"]["coco"] for run in runs.values()]
    for label in ("AP", "AP50", "AP75") if any(coco) else ():
        values = [number(values[label]) if values else "" for values in coco]
        rows.append([f"COCO {label}", "", *values])
    rows.append(["steps", "", *(run["steps"] for run in runs.values())])
    note = ""
    if len(runs) == 1:  # of several, run at different times, speeds do not compare
        (only,) = runs.values()
        rows.append(["median s / step", "", f"{only['median_seconds_per_step']:.2f}"])
        rows.append(["minutes of training", "", f"{only['training_minutes']:.0f}"])
        note = " Minutes of training: steps x median seconds a step, without evaluations."
    versions = next(iter(runs.values()))["versions"]
    headers = ["class", "objects", *runs]
    lines = [
        intro,
        "",
        f"![curves]({name}.png)",
        "",
        tabulate(rows, headers, tablefmt="github", disable_numparse=True),
        "",
        f"{first['images']} images; VOC AP, method `{first['method']}`, IoU >= "
        f"{first['iou_threshold']:g}.{note}",
        "",
        "Versions: " + ", ".join(f"{key} {value}" for key, value in versions.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("name", None, "Name of the page.")
    flags.DEFINE_list("workdirs", None, "Workdirs of evaluated runs, comma separated.")
    flags.DEFINE_list("labels", None, "A short name for each run; default: its sampler.")
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if not (given.name and given.workdirs):
        raise InputError("give --name and --workdirs")
    results = [read_run(workdir) for workdir in given.workdirs]
    labels = given.labels or [result["sampler"] for result in results]
    if len(set(labels)) != len(results):
        raise InputError(f"--labels: {len(results)} runs need as many different labels")
    runs = dict(zip(labels, results, strict=True))
    base = os.path.join(given.output, given.name)
    os.makedirs(given.output, exist_ok=True)
    with open(f"{base}.md", "w", encoding="utf-8") as file:
        file.write(page(given.name, read_introduction(base, f"# {given.name}"), runs))
    write_json(f"{base}.json", runs)
    plot(runs, f"{base}.png")
    print(f"{base}.md, {base}.json, {base}.png")


if __name__ == "__main__":
    define_flags()
    run(main)
