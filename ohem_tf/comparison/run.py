"""One run of a comparison, in a process of its own: python -m ohem_tf.comparison.run WORKDIR.

Trains, evaluates, and measures the loss over all RoIs at the snapshots (paper, figure 3). What is
done already is not done again. `jobs` starts it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time

from ml_collections import ConfigDict

from ohem_tf.comparison.results import COST, is_evaluated
from ohem_tf.config import paper
from ohem_tf.errors import InputError
from ohem_tf.evaluate import evaluate
from ohem_tf.files import make_folder, write_json
from ohem_tf.roi_loss import measure
from ohem_tf.train import train

ORDER = "run.json"  # what to do
_PARENT_GONE = 1


def write_order(workdir: str, config: ConfigDict, roi_loss_images: int) -> None:
    """Leaves WORKDIR/run.json for the process that runs it.

    Args:
      workdir: of the training; created if need be.
      config: complete.
      roi_loss_images: how many training images the loss over all RoIs is measured on; 0: not at
        all, for a run that only chooses a learning rate.
    """
    make_folder(workdir, "workdir")
    order = {"config": config.to_dict(), "roi_loss_images": roi_loss_images}
    write_json(os.path.join(workdir, ORDER), order)


def execute(workdir: str) -> None:
    """Does what WORKDIR/run.json says."""
    with open(os.path.join(workdir, ORDER), encoding="utf-8") as file:
        order = json.load(file)
    config = paper()
    with config.unlocked():
        config.update(ConfigDict(order["config"]))
    train(config, workdir)
    _note_cost(workdir, config)
    if not is_evaluated(workdir, config.train.steps):
        with config.unlocked():
            config.evaluation.coco = True  # AP by size
        evaluate(config, workdir)
    if order["roi_loss_images"]:
        measure({workdir: config}, max_images=order["roi_loss_images"])


def _note_cost(workdir: str, config: ConfigDict) -> None:
    """Writes WORKDIR/cost.json: the peak memory of the training, and on how many cores it ran."""
    path = os.path.join(workdir, COST)
    if os.path.exists(path):
        return  # training had ended before: this process did not train
    cost = {
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cores": len(os.sched_getaffinity(0)),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    write_json(path, cost)


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone, so that a new one finds the workdir free."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(_PARENT_GONE)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        execute(sys.argv[1])
    except InputError as error:
        sys.exit(f"error: {error}")
