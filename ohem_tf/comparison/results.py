"""What the runs of a comparison left in their workdirs, as numbers."""

from __future__ import annotations

import itertools
import json
import os
import statistics
from typing import Any

from ohem_tf.comparison.plan import Run
from ohem_tf.workdir import DETECTIONS, LOG, METRICS, ROI_LOSS

COST = "cost.json"  # what a run took, see `read`
_SIZES = ("AP_small", "AP_medium", "AP_large")


def is_finished(run: Run) -> bool:
    """Whether all that `read` reads is there."""
    names = (ROI_LOSS, LOG)
    there = all(os.path.exists(os.path.join(run.workdir, name)) for name in names)
    return there and is_evaluated(run.workdir, run.config.train.steps)


def is_evaluated(workdir: str, steps: int) -> bool:
    """Whether metrics.json and detections.npz are those of the final weights, with AP by size."""
    path = os.path.join(workdir, METRICS)
    if not (os.path.exists(path) and os.path.exists(os.path.join(workdir, DETECTIONS))):
        return False
    with open(path, encoding="utf-8") as file:
        metrics = json.load(file)
    checkpoint = metrics.get("settings", {}).get("checkpoint")
    return checkpoint == f"ckpt-{steps}" and bool(metrics.get("coco"))


def read(run: Run) -> dict[str, Any]:
    """The figures of a finished run, as they stand in the json of the comparison.

    Returns:
      "method", "seed", "learning_rate", "steps", "mAP", "AP" {class: AP}, "sizes" {COCO's name:
      AP}; "curve": [[step, seconds of training, mAP], ...]; "roi_loss": see `roi_loss.mean_loss`,
      one per snapshot; "seconds_per_step" median, "seconds" of training without evaluations,
      "peak_memory_mb" of the training process (None if it is unknown), "cores".
    """
    log, metrics = _log(run), _json(run, METRICS)
    rates = [line for line in log if "images/s" in line]
    cost = _json(run, COST) if os.path.exists(os.path.join(run.workdir, COST)) else {}
    images = run.config.train.images_per_step
    losses = _json(run, ROI_LOSS)
    seconds = _seconds(rates, images)
    points = [line for line in log if "eval/mAP" in line]
    return {
        "method": run.method,
        "seed": run.seed,
        "learning_rate": run.config.train.learning_rate,
        "steps": run.config.train.steps,
        "mAP": metrics["mAP"],
        "AP": metrics["AP"],
        "sizes": {name: metrics["coco"].get(name) for name in _SIZES},
        "curve": [[p["step"], seconds(p["step"]), p["eval/mAP"]] for p in points],
        "roi_loss": [
            {name: point[name] for name in ("step", "loss", "cls", "box", "images")}
            for point in losses
            if point["images"] == losses[-1]["images"]  # not those of another --roi_loss_images
        ],
        "seconds_per_step": statistics.median(images / line["images/s"] for line in rates),
        "seconds": seconds(run.config.train.steps),
        "peak_memory_mb": cost.get("peak_memory_mb"),
        "cores": cost.get("cores"),
    }


def last_map(run: Run) -> float | None:
    """mAP of the final weights on the split that training evaluated on; None: not there yet."""
    if not os.path.exists(os.path.join(run.workdir, LOG)):
        return None
    found = {line["step"]: line["eval/mAP"] for line in _log(run) if "eval/mAP" in line}
    return found.get(run.config.train.steps)


def _seconds(lines: list[dict[str, Any]], images_per_step: int) -> Any:
    """Seconds of training up to a step, from the rates that were logged."""
    steps = [0, *(line["step"] for line in lines)]
    took = [
        (after - before) * images_per_step / line["images/s"]
        for (before, after), line in zip(itertools.pairwise(steps), lines, strict=True)
    ]

    def up_to(step: int) -> float:
        return sum(t for line, t in zip(lines, took, strict=True) if line["step"] <= step)

    return up_to


def _log(run: Run) -> list[dict[str, Any]]:
    with open(os.path.join(run.workdir, LOG), encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def _json(run: Run, name: str) -> Any:
    with open(os.path.join(run.workdir, name), encoding="utf-8") as file:
        return json.load(file)
