"""What a run of a comparison left in its workdir, as numbers: the file that says all of it."""

from __future__ import annotations

import itertools
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ohem_tf.comparison.plan import Run
from ohem_tf.files import write_json
from ohem_tf.workdir import load_saved, read_log

# In the workdir of a run.
RESULT = "compared.json"  # written last: the run is finished
COST = "cost.json"
_SIZES = ("AP_small", "AP_medium", "AP_large")


def is_finished(run: Run) -> bool:
    """Whether the run has ended."""
    return os.path.exists(os.path.join(run.workdir, RESULT))


def write(
    run: Run,
    metrics: Mapping[str, Any],
    resampled_map: Sequence[float],
    roi_loss: Sequence[Mapping[str, Any]],
) -> None:
    """Writes what `read` returns, the end of a run.

    Args:
      run: trained.
      metrics: of its final weights, see `evaluation.report`.
      resampled_map: see `intervals.resampled_map`.
      roi_loss: see `roi_loss.measure`.
    """
    log = read_log(run.workdir)
    rates = [line for line in log if "images/s" in line]
    known = os.path.exists(os.path.join(run.workdir, COST))
    cost = _json(run.workdir, COST) if known else {}
    images = run.config.train.images_per_step
    seconds = _seconds(rates, images)
    points = [line for line in log if "eval/mAP" in line]
    result = {
        "method": run.method,
        "seed": run.seed,
        "learning_rate": run.config.train.learning_rate,
        "steps": run.config.train.steps,
        "mAP": metrics["mAP"],
        "AP": metrics["AP"],
        "sizes": {name: metrics["coco"].get(name) for name in _SIZES},
        "curve": [[p["step"], seconds(p["step"]), p["eval/mAP"]] for p in points],
        "resampled_mAP": [round(value, 6) for value in resampled_map],
        "roi_loss": roi_loss,
        "seconds_per_step": statistics.median(images / line["images/s"] for line in rates),
        "seconds": seconds(run.config.train.steps),
        "peak_memory_mb": cost.get("peak_memory_mb"),
        "cores": cost.get("cores"),
        "versions": load_saved(run.workdir)["versions"],
    }
    write_json(os.path.join(run.workdir, RESULT), result)


def read(run: Run) -> dict[str, Any]:
    """The figures of a finished run, as they stand in the json of the comparison.

    Returns:
      "method", "seed", "learning_rate", "steps", "mAP", "AP" {class: AP}, "sizes" {COCO's name:
      AP}; "curve": [[step, seconds of training, mAP], ...]; "resampled_mAP": see
      `intervals.resampled_map`; "roi_loss": see `roi_loss.measure`, one per snapshot;
      "seconds_per_step" median, "seconds" of training without evaluations, "peak_memory_mb" of the
      training process (None if it is unknown), "cores", "versions" of packages.
    """
    return _json(run.workdir, RESULT)


def search_map(run: Run) -> float | None:
    """mAP of a finished run that chooses a learning rate; None: there was nothing to find."""
    return _json(run.workdir, RESULT)["mAP"]


def logged_map(workdir: str, step: int) -> float | None:
    """mAP at a step of a training, on the split that it evaluates on."""
    found = {line["step"]: line["eval/mAP"] for line in read_log(workdir) if "eval/mAP" in line}
    return found.get(step)


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


def _json(workdir: str, name: str) -> Any:
    with open(os.path.join(workdir, name), encoding="utf-8") as file:
        return json.load(file)
