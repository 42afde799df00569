"""Batches a second of the input pipeline, beside what a training step takes.

    python -m benchmarks.input_pipeline --config=configs/voc07.py --config.data.dir=records/voc07

The pipeline alone, from records to padded batches, then training steps on the batches that it gave.
Processor seconds of the whole process, which other work on the machine hardly changes: one core
gives a batch in that time, and a step can take no less than its own over the number of cores.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf
from absl import flags
from ml_collections import config_flags

from ohem_tf import experiment
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.config import validate
from ohem_tf.data.joined import open_split
from ohem_tf.errors import InputError, run


def processor_seconds(function: Callable[[Any], object], arguments: Iterable[Any]) -> list[float]:
    """Of each call, over all threads of the process."""
    seconds = []
    for argument in arguments:
        start = time.process_time()
        function(argument)
        seconds.append(time.process_time() - start)
    return seconds


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_integer("batches", 50, "Batches of the pipeline alone.", lower_bound=1)
    flags.DEFINE_integer("steps", 3, "Training steps, besides two that trace.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if given.config is None:
        raise InputError("give --config=configs/NAME.py")
    config = given.config
    validate(config)
    keep_freed_memory()
    records = open_split(config.data.dir, config.data.train_split, "config.data.train_split")
    stream = experiment.training_stream(config, records)
    model = experiment.build_trainer(config, len(records.classes))

    batches = iter(stream.dataset())
    kept = [next(batches) for _ in range(2 + given.steps)]
    start, begun = time.perf_counter(), time.process_time()
    for _ in itertools.islice(batches, given.batches):
        pass
    batch = (time.process_time() - begun) / given.batches
    wall = (time.perf_counter() - start) / given.batches
    del batches  # which would go on

    step = tf.function(model.train_step, jit_compile=False, reduce_retracing=True)
    seconds = processor_seconds(lambda x: step(x)["loss/hard"].numpy(), kept)[2:]
    cores = len(os.sched_getaffinity(0))
    fastest = statistics.median(seconds) / cores
    figures = {
        "images a batch": config.train.images_per_step,
        "processor seconds a batch": batch,
        "seconds a batch, the pipeline alone": wall,
        "processor seconds a step": statistics.median(seconds),
        "cores": cores,
        "batches of one core in the time of a step": fastest / batch,
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    define_flags()
    run(main)
