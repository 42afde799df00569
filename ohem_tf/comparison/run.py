"""One run of a comparison, a process: python -m ohem_tf.comparison.run WORKDIR PARENT.

Trains, evaluates, and measures the loss over all RoIs at the snapshots (paper, figure 3); a run
that only chooses a learning rate ends with its training. What is done already is not done again.
`jobs` starts it; it ends when the process PARENT is gone.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import sys
import threading
import time

from ml_collections import ConfigDict

from ohem_tf.comparison import intervals, results
from ohem_tf.comparison.plan import Run
from ohem_tf.config import paper
from ohem_tf.data.ground_truth import ground_truth
from ohem_tf.data.joined import open_split
from ohem_tf.errors import InputError
from ohem_tf.evaluate import evaluate
from ohem_tf.evaluation import detections, report, voc
from ohem_tf.files import make_folder, write_json
from ohem_tf.roi_loss import measure
from ohem_tf.train import train
from ohem_tf.workdir import COMPARED_METRICS, DETECTIONS, checkpoint_path, has_checkpoint

ORDER = "run.json"  # what to do
_NON_FINITE = "not finite"  # in the messages of a training that diverged


def write_order(run: Run, roi_loss_images: int) -> None:
    """Leaves WORKDIR/run.json for the process that runs it.

    Args:
      run: its workdir is created if need be.
      roi_loss_images: how many training images the loss over all RoIs is measured on; 0 for a run
        that only chooses a learning rate.
    """
    make_folder(run.workdir, "workdir")
    order = {
        "method": run.method,
        "config": run.config.to_dict(),
        "roi_loss_images": roi_loss_images,
    }
    write_json(os.path.join(run.workdir, ORDER), order)


def execute(workdir: str) -> None:
    """Does what WORKDIR/run.json says; at the end writes what `results` reads."""
    with open(os.path.join(workdir, ORDER), encoding="utf-8") as file:
        order = json.load(file)
    config = paper()
    with config.unlocked():
        config.update(ConfigDict(order["config"]))
    if not order["roi_loss_images"]:
        write_json(os.path.join(workdir, results.RESULT), _try_rate(config, workdir))
        return
    was_trained = _is_trained(config, workdir)
    train(config, workdir)
    if not was_trained:
        cost = {"peak_memory_mb": _peak_memory_mb(), "cores": len(os.sched_getaffinity(0))}
        write_json(os.path.join(workdir, results.COST), cost)
    with config.unlocked():
        config.evaluation.coco = True  # AP by size
    # Not metrics.json, which the user may write himself, of another split say.
    metrics = evaluate(config, workdir, output=os.path.join(workdir, COMPARED_METRICS))
    losses = measure({workdir: config}, max_images=order["roi_loss_images"])[workdir]
    run = Run(order["method"], config.seed, config, workdir)
    results.write(run, metrics, _resampled_map(config, workdir), losses)


def _resampled_map(config: ConfigDict, workdir: str) -> list[float]:
    """See `intervals.resampled_map`; of the detections that `evaluate` saved, matched as there."""
    saved = f"{os.path.splitext(COMPARED_METRICS)[0]}.{DETECTIONS}"
    _, found, _ = detections.load(os.path.join(workdir, saved))
    split = open_split(config.data.dir, config.data.eval_split, "config.data.eval_split")
    truth = report.ignoring_crowds(ground_truth(split))
    matches = voc.match(truth, found, config.evaluation.iou_threshold)
    return intervals.resampled_map(matches, config.evaluation.method)


def _try_rate(config: ConfigDict, workdir: str) -> dict[str, float | None]:
    """{"mAP"} of a short training; 0 if it diverged, None if the held-out part has no object."""
    try:
        train(config, workdir)
    except InputError as error:
        if _NON_FINITE not in str(error):
            raise
        return {"mAP": 0.0}
    return {"mAP": results.logged_map(workdir, config.train.steps)}


def _is_trained(config: ConfigDict, workdir: str) -> bool:
    if not has_checkpoint(workdir):
        return False
    return os.path.basename(checkpoint_path(workdir, "last")) == f"ckpt-{config.train.steps}"


def _peak_memory_mb() -> float | None:
    """Of this process so far (not of those before it, as getrusage); None but on Linux."""
    status = pathlib.Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else None


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone, so that a new one finds the workdir free."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    try:
        execute(sys.argv[1])
    except InputError as error:
        sys.exit(f"error: {error}")
