"""The detections of a trained model in a split, by this process or by several."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
from multiprocessing.queues import SimpleQueue

import numpy as np
from ml_collections import ConfigDict

from ohem_tf import devices, experiment
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.config import paper
from ohem_tf.data.joined import SlicedReader, open_split
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.workers import Workers
from ohem_tf.inference.predict import Predictor, predict_split
from ohem_tf.progress import tqdm

_SLICE = 16  # images that a process takes at a time, at most


def detect_split(
    config: ConfigDict, workdir: str, checkpoint: str, split: str, jobs: int = 1
) -> list[dict[str, np.ndarray]]:
    """Detections in every image of a split, with progress.

    Several processes take slices of the split in turn; a graph is traced, and the model loaded, in
    each. The detections do not depend on their number, but where more cores add up a sum in
    another order.

    Args:
      config: see `experiment.trained_config`.
      workdir, checkpoint: see `experiment.load_model`.
      split: see `joined.open_split`.
      jobs: how many processes, each with its share of the cores or a GPU; 1: this one, with all
        cores or the first GPU.

    Returns:
      See `inference.predict.predict_split`.

    Raises:
      InputError: more jobs than cores or GPUs; no such checkpoint or split; a process died.
    """
    shares = devices.shares(jobs)
    if jobs == 1:
        devices.use_one()
        return predict_split(*_load(config, workdir, checkpoint, split))
    order = json.dumps([config.to_dict(), workdir, checkpoint, split])
    devices.use(())  # the GPUs are for the jobs
    free = multiprocessing.get_context("spawn").SimpleQueue()
    for share in shares:
        free.put(share)
    count = len(open_split(config.data.dir, split, "split", annotated=False))
    size = min(_SLICE, -(-count // jobs))
    slices = [(start, min(start + size, count)) for start in range(0, count, size)]
    found: list[dict[str, np.ndarray]] = []
    with (
        Workers(jobs, "--jobs", _take_share, (free,)) as workers,
        tqdm(total=count, desc=f"evaluating, {jobs} jobs", unit="image") as progress,
    ):
        for part in workers.map(_detect_slice, [order] * len(slices), slices):
            found += part
            progress.update(len(part))
    return found


def _take_share(free: SimpleQueue[devices.Share]) -> None:
    share = free.get()
    os.sched_setaffinity(0, share.cores)
    os.environ.update(share.environment)
    devices.use_one()


def _detect_slice(order: str, ends: tuple[int, int]) -> list[dict[str, np.ndarray]]:
    predictor, records = _loaded(order)
    return predict_split(predictor, SlicedReader(records, *ends), progress=False)


@functools.lru_cache(maxsize=1)
def _loaded(order: str) -> tuple[Predictor, RecordReader]:
    """`_load`, once in a process."""
    fields, workdir, checkpoint, split = json.loads(order)
    config = paper()
    with config.unlocked():
        config.update(ConfigDict(fields))
    return _load(config, workdir, checkpoint, split)


def _load(
    config: ConfigDict, workdir: str, checkpoint: str, split: str
) -> tuple[Predictor, RecordReader]:
    keep_freed_memory()
    model = experiment.load_model(config, workdir, checkpoint)
    records = open_split(config.data.dir, split, "split", annotated=False)
    return Predictor(model, experiment.detection_settings(config)), records
