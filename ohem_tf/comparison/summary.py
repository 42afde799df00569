"""From the runs of a comparison to the json that holds all that its page says."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ohem_tf.comparison import intervals, results
from ohem_tf.comparison.plan import Plan, Run
from ohem_tf.data.ground_truth import ground_truth
from ohem_tf.data.joined import open_split
from ohem_tf.evaluation import detections, voc
from ohem_tf.workdir import DETECTIONS, load_saved


def summarize(plan: Plan, runs: Sequence[Run], chosen: Mapping[str, float], command: str) -> dict:
    """The comparison of the finished `runs`.

    Args:
      plan: what was to be compared; methods without a finished run are left out, and so is a seed
        that not all of the others have.
      runs: those that are finished, at least one of the first method.
      chosen: {method: learning rate}, empty if none was searched for.
      command: that made it.

    Returns:
      "methods" (the others are compared with the first), "runs" (see `results.read`),
      "differences" {method: "mean", "by_seed", "seeds_interval" (None of one seed),
      "images_interval", "verdict"}, "search" (None, or "learning_rates", "tried", "chosen",
      "steps", "train_split", "eval_split"), "data", "versions", "command".
    """
    config = plan.config
    methods = [m for m in plan.methods if any(run.method == m for run in runs)]
    train = open_split(config.data.dir, config.data.train_split, "config.data.train_split")
    records = open_split(config.data.dir, config.data.eval_split, "config.data.eval_split")
    truth = ground_truth(records)
    figures = {(run.method, run.seed): results.read(run) for run in runs}
    matches = {
        (run.method, run.seed): _match(run, truth, config.evaluation.iou_threshold) for run in runs
    }
    differences = {}
    for method in methods[1:]:
        mine = [run.seed for run in runs if run.method == method]
        seeds = [seed for seed in mine if (methods[0], seed) in figures]
        if not seeds:
            continue
        by_seed = [figures[method, s]["mAP"] - figures[methods[0], s]["mAP"] for s in seeds]
        over_images = intervals.over_images(
            [matches[method, s] for s in seeds],
            [matches[methods[0], s] for s in seeds],
            config.evaluation.method,
        )
        mean = statistics.mean(by_seed)
        differences[method] = {
            "mean": mean,
            "seeds": seeds,
            "by_seed": by_seed,
            "seeds_interval": intervals.over_seeds(by_seed),
            "images_interval": over_images,
            "verdict": intervals.verdict(method, methods[0], mean, by_seed, over_images),
        }
    return {
        "methods": methods,
        "runs": [figures[run.method, run.seed] for run in runs],
        "differences": differences,
        "search": _search(plan, chosen) if chosen else None,
        "data": {
            "train_split": config.data.train_split,
            "eval_split": config.data.eval_split,
            "train_images": len(train),
            "eval_images": len(records),
            "images_per_step": config.train.images_per_step,
            "ap_method": config.evaluation.method,
            "iou_threshold": config.evaluation.iou_threshold,
        },
        "versions": load_saved(runs[0].workdir)["versions"],
        "command": command,
    }


def _match(run: Run, truth: list[dict], iou_threshold: float) -> dict[int, voc.Matched]:
    """The detections of a run, matched as `evaluation.report.metrics` does."""
    _, found, _ = detections.load(os.path.join(run.workdir, DETECTIONS))
    plain = [{**image, "difficult": image["difficult"] | image["crowd"]} for image in truth]
    return voc.match(plain, found, iou_threshold)


def _search(plan: Plan, chosen: Mapping[str, float]) -> dict[str, Any]:
    runs = plan.search()
    tried: dict[str, list[dict[str, float | None]]] = {method: [] for method in plan.methods}
    for run in runs:
        rate = run.config.train.learning_rate
        tried[run.method].append({"learning_rate": rate, "mAP": results.last_map(run)})
    return {
        "learning_rates": list(plan.learning_rates),
        "tried": tried,
        "chosen": dict(chosen),
        "steps": plan.search_steps,
        "train_split": runs[0].config.data.train_split,
        "eval_split": runs[0].config.data.eval_split,
    }
