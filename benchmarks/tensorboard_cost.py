"""What the pictures and histograms for TensorBoard cost, beside the training steps between them.

    python -m benchmarks.tensorboard_cost --config=configs/voc07_320.py \
        --config.data.dir=records/voc07_320

Training steps and looks of `training.board.Board` take turns on one model. Processor seconds of the
whole process, which other work on the machine hardly changes; medians. The first look also makes
its graphs and is counted by itself. Writes OUTPUT/tensorboard_cost.md and .json;
OUTPUT/tensorboard_cost.intro.md, if it exists, becomes the text above the table.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence

import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags

from benchmarks.input_pipeline import processor_seconds
from ohem_tf import experiment
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.config import validate
from ohem_tf.data.joined import open_split
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder
from ohem_tf.inference.predict import Predictor
from ohem_tf.progress import tqdm
from ohem_tf.training.board import Board
from ohem_tf.training.log import TrainingLog

STEPS_A_LOOK = 4


def measure(config: ConfigDict, looks: int) -> dict[str, list[float]]:
    """Processor seconds of each step and of each look, by name."""
    records = open_split(config.data.dir, config.data.train_split, "config.data.train_split")
    stream = experiment.training_stream(config, records)
    model = experiment.build_trainer(config, len(records.classes))
    model.roi_head.set_target_statistics(*experiment.target_statistics(config, records))
    step = tf.function(model.train_step, jit_compile=False, reduce_retracing=True)
    batches = iter(stream.dataset())
    seconds: dict[str, list[float]] = {"step": [], "look": []}
    with tempfile.TemporaryDirectory() as folder:
        log = TrainingLog(folder, config.train.images_per_step, config.train.log_every)
        detect = Predictor(model, experiment.detection_settings(config))
        board = Board(log, stream, detect, 1, config.train.pictures_images, config.ohem.chunk)
        for callback in (log, board):
            callback.set_model(model)
            callback.on_train_begin()
        for _ in range(2):  # these make its graph
            step(next(batches))["loss/hard"].numpy()
        for _ in tqdm(range(1 + looks), desc="measuring", unit="look"):
            seconds["step"] += processor_seconds(
                lambda _: step(next(batches))["loss/hard"].numpy(), range(STEPS_A_LOOK)
            )
            seconds["look"] += processor_seconds(board.on_train_batch_end, [0])
        log.on_train_end()
    return seconds


def page(seconds: dict[str, list[float]], config: ConfigDict, intro: str) -> str:
    """The Markdown page."""
    step, (first, *others) = statistics.median(seconds["step"]), seconds["look"]
    look, every = statistics.median(others), config.train.pictures_every
    rows = [
        ("a training step", step, ""),
        ("the first look", first, first / (every * step)),
        ("a later look", look, look / (every * step)),
    ]
    lines = [intro, "", "| what | processor s | steps | of the training between two looks |"]
    lines.append("|---|---|---|---|")
    for name, value, share in rows:
        lines.append(
            f"| {name} | {value:.2f} | {value / step:.1f} | "
            + (f"{100 * share:.2f} % |" if share else "|")
        )
    lines += [
        "",
        f"{len(others)} later looks, {len(seconds['step'])} steps of "
        f"{config.train.images_per_step} images; a look at {config.train.pictures_images} images "
        f"every {every} steps.",
    ]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_integer("looks", 8, "Looks, besides the first.", lower_bound=1)
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if given.config is None:
        raise InputError("give --config=configs/NAME.py")
    config = given.config
    validate(config)
    if not (config.train.pictures_every and config.train.pictures_images):
        raise InputError(
            "config.train.pictures_every and config.train.pictures_images have to be above 0 here"
        )
    make_folder(given.output, "output")
    keep_freed_memory()
    seconds = measure(config, given.looks)
    base = os.path.join(given.output, "tensorboard_cost")
    text = page(seconds, config, read_introduction(base, "# What TensorBoard costs"))
    write_page(base, text, {"config": config.to_dict(), "seconds": seconds})


if __name__ == "__main__":
    define_flags()
    run(main)
