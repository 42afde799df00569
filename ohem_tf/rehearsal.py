"""A few training steps that leave nothing behind: shapes, parameters, memory and time of a run."""

from __future__ import annotations

import math
import os
import statistics
import time
from typing import NamedTuple

import keras
import tensorflow as tf
from ml_collections import ConfigDict
from tabulate import tabulate

from ohem_tf import experiment
from ohem_tf.allocator import keep_freed_memory, peak_bytes
from ohem_tf.config import validate
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError, first_line
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.training.distribution import strategy_for

_STEPS = 5  # that are timed; one before them traces and settles
_NEARLY_FULL = 0.8  # of the memory
_SMALLEST_CHUNK = 100  # RoIs at a time; with fewer the pass is slow, and saves little


class _Rehearsed(NamedTuple):
    """A few steps.

    Attributes:
      model: that did them.
      shapes: the shape of the images of each step, and which of their proposals are none.
      seconds: of each step.
    """

    model: FastRCNN
    shapes: list[tuple[tf.TensorShape, tf.Tensor]]
    seconds: list[float]


def rehearse(config: ConfigDict, devices: list[str] | None = None) -> str:
    """Does a few steps of a training, from the first on, and says what the whole would take.

    Nothing is written. Settings and data are checked as `train` checks them. Where the memory of a
    device runs out, the read-only pass takes fewer RoIs at a time, until it does not.

    Args:
      config: of the experiment.
      devices: see `train.train`; the first one alone is used.

    Returns:
      A table.

    Raises:
      InputError: as `train.train`; the memory is too small.
    """
    validate(config)
    records, held_out = experiment.open_splits(config)
    keep_freed_memory()
    fitting = config
    while True:
        try:
            done = _steps(fitting, records, devices)
            break
        except tf.errors.ResourceExhaustedError as error:
            smaller = experiment.smaller_chunk(fitting)
            if smaller < _SMALLEST_CHUNK:
                raise InputError(
                    f"memory runs out ({first_line(error)}); {experiment.memory_advice(fitting)}"
                ) from error
        fitting = fitting.copy_and_resolve_references()
        fitting.ohem.chunk = smaller
    per_step = statistics.median(done.seconds[1:])
    copies = 2 if config.data.flip == "double" else 1
    images = config.train.steps * config.train.images_per_step
    sizes = [" x ".join(map(str, shape)) for shape, _ in done.shapes[:3]]
    rows = {
        "classes": f"{len(records.classes)}: {', '.join(records.classes[:8])}"
        + (", ..." if len(records.classes) > 8 else ""),
        "images": f"{len(records)} to train on, {len(held_out)} held out",
        "steps": f"{config.train.steps} of {config.train.images_per_step} images: each image "
        f"{images / len(records):.1f} times ({images / (copies * len(records)):.1f} epochs)",
        "input": f"{', '.join(sizes)}, ...",
        "RoIs": _rois(config, done),
        "parameters": _parameters(done.model),
        "seconds a step": f"{per_step:.3f} (the first, which compiles: {done.seconds[0]:.0f})",
        "time": f"{_duration(per_step * config.train.steps)} without evaluations",
        **_memory(fitting),
    }
    if fitting is not config:
        rows["too much?"] = f"--config.ohem.chunk={fitting.ohem.chunk} is needed, and did this"
    return tabulate(rows.items(), tablefmt="plain", disable_numparse=True)


def _steps(config: ConfigDict, records: RecordReader, devices: list[str] | None) -> _Rehearsed:
    with strategy_for(devices and devices[:1], config.train.images_per_step).scope():
        model = experiment.build_trainer(config, len(records.classes))
    stream = experiment.training_stream(config, records)
    step = tf.function(model.train_step, reduce_retracing=True)
    done = _Rehearsed(model, [], [])
    batches = iter(stream.dataset())
    for _ in range(_STEPS + 1):
        before = time.perf_counter()
        batch = next(batches)
        float(step(batch)["cls"])  # waits for the step
        done.seconds.append(time.perf_counter() - before)
        done.shapes.append((batch["image"].shape, batch["proposals_mask"]))
    return done


def _rois(config: ConfigDict, done: _Rehearsed) -> str:
    if done.model.needs_proposals:
        counts = [
            int(n) for _, mask in done.shapes for n in tf.reduce_sum(tf.cast(mask, tf.int32), 1)
        ]
        there = f"{statistics.mean(counts):.0f} proposals an image"
    else:
        there = f"up to {config.rpn.train_proposals} proposals an image, of the model's own"
    chosen = config.train.rois_per_step // config.train.images_per_step
    return f"{there}, of which {config.sampler} takes {chosen}"


def _parameters(model: FastRCNN) -> str:
    def count(variables: list[keras.Variable]) -> str:
        return f"{sum(math.prod(x.shape) for x in variables) / 1e6:.2f} million"

    return f"{count(model.weights)}, of which {count(model.trainable_variables)} are trained"


def _memory(config: ConfigDict) -> dict[str, str]:
    """What was used and what there is, and what to do about it."""
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        used = tf.config.experimental.get_memory_info(gpus[0].name.removeprefix("/device:"))["peak"]
        return {"memory": f"{used / 1e9:.2f} GB of the GPU"}
    used, whole = peak_bytes(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {"memory": f"{used / 1e9:.2f} GB of {whole / 1e9:.0f}"}
    if used > _NEARLY_FULL * whole:
        found["too much?"] = experiment.memory_advice(config)
    return found


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
