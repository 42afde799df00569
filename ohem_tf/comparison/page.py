"""The page of a comparison: Markdown, and the curves as a PNG; all from the dict of `summary`."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from tabulate import tabulate

from ohem_tf.comparison import intervals
from ohem_tf.files import write_json
from ohem_tf.paper.recipes import METHODS

Comparison = Mapping[str, Any]


def markdown(content: Comparison, introduction: str, image: str) -> str:
    """The page.

    Args:
      content: see `summary.summarize`.
      introduction: Markdown that stands first.
      image: file name of the curves, beside the page.
    """
    parts: list[str] = [introduction, "## Verdict", _verdicts(content)]
    parts += ["## mAP", _overview(content), _notes(content), f"![curves]({image})"]
    parts += ["## AP per class", _per_class(content), "## AP by size", _per_size(content)]
    parts += ["## Mean loss over all RoIs of the training set (the paper's figure 3)"]
    parts += [_roi_loss(content), "## Every run", _runs(content)]
    if content["search"]:
        parts += ["## Learning rates", _search(content)]
    parts += ["## Methods", _methods(content), _made_with(content)]
    return "\n\n".join(parts) + "\n"


def draw(content: Comparison, path: str) -> None:
    """Draws mAP against updates and against seconds, and the loss over all RoIs."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    by_step, by_time, loss = figure.subplots(1, 3)
    for number, method in enumerate(content["methods"]):
        runs, color = _of(content, method), f"C{number % 10}"
        style = {"color": color, "linestyle": "-" if number < 10 else "--"}
        for axis, place in ((by_step, 0), (by_time, 1)):
            scale = 60 if place else 1
            for run in runs:
                axis.plot(
                    [point[place] / scale for point in run["curve"]],
                    [100 * point[2] for point in run["curve"]],
                    **style,
                    alpha=0.25,
                    linewidth=1,
                )
            points = _mean_curve([run["curve"] for run in runs])
            axis.plot(
                [point[place] / scale for point in points],
                [100 * point[2] for point in points],
                "o",
                **style,
                label=method,
            )
        losses = _mean_curve([[(p["step"], p["loss"]) for p in run["roi_loss"]] for run in runs])
        loss.plot(*zip(*losses, strict=True), "o", **style, label=method)
    for axis, title, label in (
        (by_step, "mAP against updates", "step"),
        (by_time, "mAP against time of training", "minutes"),
        (loss, "mean loss over all RoIs, training set", "step"),
    ):
        axis.set_title(title)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        axis.locator_params(axis="x", nbins=6)  # whose numbers have room
    for axis in (by_step, by_time):
        axis.set_ylabel("mAP %")
    figure.legend(*by_step.get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=90)


def terminal(content: Comparison) -> str:
    """The table of methods and the verdict, as text."""
    return f"{_overview(content, 'simple')}\n\n" + "\n".join(_sentences(content))


def _sentences(content: Comparison) -> list[str]:
    reference = content["methods"][0]
    found = [content["differences"][m]["verdict"] for m in content["methods"][1:]]
    return found or [f"{reference} alone: nothing to compare it with."]


def _verdicts(content: Comparison) -> str:
    return "\n".join(f"- {sentence}" for sentence in _sentences(content))


def _overview(content: Comparison, style: str = "github") -> str:
    columns = ["method", "mAP %", "sd", "seeds", "difference", "95 % seeds", "95 % images"]
    columns += ["learning rate", "s / step", "min", "peak MB"]
    rows = []
    for method in content["methods"]:
        runs = _of(content, method)
        values = [100 * run["mAP"] for run in runs]
        spread = f"{statistics.stdev(values):.1f}" if len(values) > 1 else ""
        apart = content["differences"].get(method)
        memory = [run["peak_memory_mb"] for run in runs if run["peak_memory_mb"]]
        rows.append(
            [
                method,
                f"{statistics.mean(values):.1f}",
                spread,
                len(values),
                f"{100 * apart['mean']:+.1f}" if apart else "",
                _span(apart and apart["seeds_interval"]),
                _span(apart and apart["images_interval"]),
                f"{runs[0]['learning_rate']:g}",
                f"{_median(runs, 'seconds_per_step'):.2f}",
                f"{_median(runs, 'seconds') / 60:.0f}",
                f"{statistics.median(memory):.0f}" if memory else "unknown",
            ]
        )
    return _table(rows, columns, style)


def _notes(content: Comparison) -> str:
    data, first = content["data"], content["methods"][0]
    cores = {run["cores"] for run in content["runs"] if run["cores"]}
    where = f" on {'/'.join(map(str, sorted(cores)))} CPU cores each" if cores else ""
    return (
        f"{data['train_split']} ({data['train_images']} images) to {data['eval_split']} "
        f"({data['eval_images']} images); VOC AP, method `{data['ap_method']}`, IoU >= "
        f"{data['iou_threshold']:g}; {content['runs'][0]['steps']} updates of "
        f"{data['images_per_step']} images for every method, final weights. sd: standard deviation "
        f"over seeds. Differences are to {first}, paired by seed (same initial weights, same order "
        "of examples). 95 % over seeds: Student's t of the paired differences; over images: "
        f"percentile bootstrap of the eval images ({intervals.RESAMPLES} resamples), the same "
        "for both. Each interval stands by itself: of twenty methods that change nothing, one "
        "would seem to. Seconds are of training without its evaluations, memory is the peak of the "
        f"training process on the host with them,{where} beside whatever else the machine did."
    )


def _per_class(content: Comparison) -> str:
    rows = [[name, *_means(content, "AP", name)] for name in content["runs"][0]["AP"]]
    return _table(rows, ["class", *(f"{m} %" for m in content["methods"])])


def _per_size(content: Comparison) -> str:
    sizes = {
        "AP_small": "area < 32 x 32 px",
        "AP_medium": "between",
        "AP_large": "area > 96 x 96 px",
    }
    rows = [[f"{n} ({size})", *_means(content, "sizes", n)] for n, size in sizes.items()]
    text = _table(rows, ["COCO's AP, IoU 0.5 to 0.95", *(f"{m} %" for m in content["methods"])])
    return f"{text}\n\nMeans over seeds, here and above."


def _roi_loss(content: Comparison) -> str:
    rows, steps = [], sorted({p["step"] for run in content["runs"] for p in run["roi_loss"]})
    for method in content["methods"]:
        runs = _of(content, method)
        means = dict(_mean_curve([[(p["step"], p["loss"]) for p in r["roi_loss"]] for r in runs]))
        rows.append([method, *(f"{means[s]:.4f}" if s in means else "" for s in steps)])
    images = sorted({p["images"] for run in content["runs"] for p in run["roi_loss"]})
    return (
        f"{_table(rows, ['method', *(f'step {step}' for step in steps)])}\n\n"
        f"Over all proposals of {' or '.join(map(str, images))} training images, without dropout; "
        "means over seeds."
    )


def _runs(content: Comparison) -> str:
    rows, steps = [], sorted({point[0] for run in content["runs"] for point in run["curve"]})
    for run in content["runs"]:
        found = {point[0]: f"{100 * point[2]:.1f}" for point in run["curve"]}
        cells = [found.get(step, "") for step in steps]
        rows.append([run["method"], run["seed"], f"{100 * run['mAP']:.2f}", *cells])
    return _table(rows, ["method", "seed", "mAP %", *(f"at {step}" for step in steps)])


def _search(content: Comparison) -> str:
    search = content["search"]
    rows = []
    for method in content["methods"]:
        tried = {entry["learning_rate"]: entry["mAP"] for entry in search["tried"][method]}
        best = search["chosen"][method]
        rows.append(
            [
                method,
                *(
                    f"**{100 * tried[rate]:.1f}**" if rate == best else f"{100 * tried[rate]:.1f}"
                    for rate in search["learning_rates"]
                ),
            ]
        )
    columns = ["method", *(f"{rate:g}" for rate in search["learning_rates"])]
    return (
        f"{_table(rows, columns)}\n\nmAP % on `{search['eval_split']}` after {search['steps']} "
        f"updates on `{search['train_split']}`, one seed; the best of each method (bold) is used."
    )


def _methods(content: Comparison) -> str:
    return _table([[m, METHODS[m].source] for m in content["methods"]], ["method", "what it is"])


def _made_with(content: Comparison) -> str:
    of_runs = [
        ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        for run in content["runs"]
    ]
    versions = "; ".join(dict.fromkeys(of_runs))  # runs may come from several machines
    return f"```\n{content['command']}\n```\n\nVersions: {versions}."


def _of(content: Comparison, method: str) -> list[Mapping[str, Any]]:
    return [run for run in content["runs"] if run["method"] == method]


def _mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[Any]:
    """Mean of the points of several curves that stand at the same step."""
    points: dict[float, list[Sequence[float]]] = {}
    for curve in curves:
        for point in curve:
            points.setdefault(point[0], []).append(point)
    return [
        tuple(statistics.mean(values) for values in zip(*found, strict=True))
        for _, found in sorted(points.items())
        if len(found) == len(curves)
    ]


def _means(content: Comparison, kind: str, name: str) -> list[str]:
    """For each method the mean over seeds of run[kind][name], in percent."""
    cells = []
    for method in content["methods"]:
        values = [run[kind][name] for run in _of(content, method)]
        known = [value for value in values if value is not None]
        cells.append(f"{100 * statistics.mean(known):.1f}" if known else "no data")
    return cells


def _median(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def _span(interval: Sequence[float] | None) -> str:
    return intervals.percent((interval[0], interval[1])) if interval else ""


def _table(rows: Sequence[Sequence[Any]], columns: Sequence[str], style: str = "github") -> str:
    return tabulate(rows, columns, tablefmt=style, disable_numparse=True)


def read_introduction(base: str, default: str) -> str:
    """The text of `BASE.intro.md` if that file exists, else `default`."""
    path = f"{base}.intro.md"
    if not os.path.exists(path):
        return default
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def write_page(base: str, text: str, data: Mapping[str, Any]) -> None:
    """Writes a page and what it was made of, BASE.md and BASE.json, and prints the page."""
    with open(f"{base}.md", "w", encoding="utf-8") as file:
        file.write(text)
    write_json(f"{base}.json", data)
    print(text)
