"""From the runs of a comparison to the json that holds all that its page says."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ohem_tf.comparison import intervals, results
from ohem_tf.comparison.plan import Plan, Run
from ohem_tf.data.joined import open_split


def summarize(
    plan: Plan,
    runs: Sequence[Run],
    chosen: Mapping[str, float],
    command: str,
) -> dict:
    """The comparison of the finished `runs`.

    Args:
      plan: what was to be compared.
      runs: those that are finished, at least one of the first method. Seeds that it lacks are left
        out, and so are methods that share none with it.
      chosen: {method: learning rate}, empty if none was searched for.
      command: that made it.

    Returns:
      "methods" (the others are compared with the first), "runs" (see `results.read`),
      "differences" {method: "mean", "by_seed", "seeds_interval" (None of one seed),
      "images_interval", "verdict"}, "search" (None, or "learning_rates", "tried", "chosen",
      "steps", "train_split", "eval_split"), "settings" (see `Plan.settings`), "data", "command".
    """
    config = plan.config
    shared = {run.seed for run in runs if run.method == plan.methods[0]}
    runs = [run for run in runs if run.seed in shared]
    methods = [m for m in plan.methods if any(run.method == m for run in runs)]
    train = open_split(config.data.dir, config.data.train_split, "config.data.train_split")
    records = open_split(config.data.dir, config.data.eval_split, "config.data.eval_split")
    figures = {(run.method, run.seed): results.read(run) for run in runs}
    differences = {}
    for method in methods[1:]:
        seeds = [run.seed for run in runs if run.method == method]
        by_seed = [figures[method, s]["mAP"] - figures[methods[0], s]["mAP"] for s in seeds]
        over_images = intervals.over_images(
            [figures[method, s]["resampled_mAP"] for s in seeds],
            [figures[methods[0], s]["resampled_mAP"] for s in seeds],
        )
        mean = statistics.mean(by_seed)
        differences[method] = {
            "mean": mean,
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
        "settings": plan.settings(),
        "command": command,
    }


def _search(plan: Plan, chosen: Mapping[str, float]) -> dict[str, Any]:
    runs = plan.search()
    tried: dict[str, list[dict[str, float | None]]] = {method: [] for method in plan.methods}
    for run in runs:
        rate = run.config.train.learning_rate
        tried[run.method].append({"learning_rate": rate, "mAP": results.search_map(run)})
    return {
        "learning_rates": list(plan.learning_rates),
        "tried": tried,
        "chosen": dict(chosen),
        "steps": plan.search_steps,
        "train_split": runs[0].config.data.train_split,
        "eval_split": runs[0].config.data.eval_split,
    }
