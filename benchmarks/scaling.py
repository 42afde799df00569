"""Seconds of a training step on one device and on several, side by side in one process.

    python -m benchmarks.scaling --config=configs/voc07.py --devices=GPU:0,GPU:1

Three ways take turns, on noise of the config's size: all N images of a step on the first device;
the same N over all devices, as `train` shares them; and on one device only the share of one of
them. The second against the third is what sharing costs on devices that compute apart; against the
first, on devices that share the cores of one CPU (--devices=CPU:0,CPU:1, the default).

Writes OUTPUT/scaling.md and .json; OUTPUT/scaling.intro.md, if it exists, becomes the text above
the table.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags

from benchmarks.step_time import example, rounds, setting
from ohem_tf import experiment
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.config import validate
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder
from ohem_tf.models.batches import Batch
from ohem_tf.training.distribution import strategy_for

_CLASSES = 20


def compiled_step(
    config: ConfigDict, devices: Sequence[str], batch: Batch
) -> tuple[Callable[[], None], int]:
    """A training step on `devices` that shares the images of `batch`, and bytes of gradients.

    At a rate of almost 0: every step meets the same weights.
    """
    images = len(batch["image"])
    strategy = strategy_for(devices, images)
    with strategy.scope():
        model = experiment.build_trainer(config, _CLASSES)
    share = images // strategy.num_replicas_in_sync

    def part(context: tf.distribute.ValueContext) -> Batch:
        first = context.replica_id_in_sync_group * share
        return {name: value[first : first + share] for name, value in batch.items()}

    shared = strategy.experimental_distribute_values_from_function(part)

    @tf.function
    def step(shared: Batch) -> dict[str, tf.Tensor]:
        return strategy.run(model.train_step, args=(shared,))

    def timed() -> None:
        for value in strategy.experimental_local_results(step(shared)["loss/hard"]):
            value.numpy()

    sizes = [int(np.prod(variable.shape)) for variable in model.trainable_variables]
    return timed, 4 * sum(sizes)


def measure(
    config: ConfigDict, devices: Sequence[str], proposals: int, repeats: int
) -> tuple[dict[str, list[float]], int]:
    """{name: seconds of each round}, and the bytes of a replica's gradients."""
    config = config.copy_and_resolve_references()
    config.train.learning_rate = 1e-12
    images, count = config.train.images_per_step, len(devices)
    batch = example(config, proposals)
    few = {name: value[: images // count] for name, value in batch.items()}
    ways = {
        f"1 device, {images} images": (devices[:1], batch),
        f"{count} devices, {images} images": (devices, batch),
        f"1 device, {images // count} images": (devices[:1], few),
    }
    steps = {name: compiled_step(config, *way) for name, way in ways.items()}
    for step, _ in steps.values():  # traces, and lets memory and libraries settle
        step()
        step()
    seconds = rounds({name: step for name, (step, _) in steps.items()}, repeats)
    return seconds, max(size for _, size in steps.values())


def page(seconds: dict[str, list[float]], facts: dict[str, object], intro: str) -> str:
    """The Markdown page."""
    _, several, _ = seconds
    lines = [intro, "", "| step | median s | several devices / this | in each round |"]
    lines.append("|---|---|---|---|")
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(seconds[several], values, strict=True)]
        lines.append(
            f"| {name} | {statistics.median(values):.3f} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f} to {max(ratios):.2f} |"
        )
    lines += ["", "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_list("devices", ["CPU:0", "CPU:1"], "What shares a step, at least two devices.")
    flags.DEFINE_integer("proposals", 2000, "R, proposals of each image.", lower_bound=5)
    flags.DEFINE_integer("repeats", 5, "Rounds.", lower_bound=1)
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    config, devices = given.config, given.devices
    if config is None:
        raise InputError("give --config=configs/NAME.py")
    validate(config)
    images = config.train.images_per_step
    if len(devices) < 2 or images % len(devices):
        raise InputError(
            f"--devices={','.join(devices)}: expected at least two, whose number divides "
            f"config.train.images_per_step, {images}"
        )
    make_folder(given.output, "output")
    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()] * len(devices)
    tf.config.set_logical_device_configuration(cpu, logical)
    seconds, gradients = measure(config, devices, given.proposals, given.repeats)
    facts = {
        "devices": f"{', '.join(devices)} ({len(os.sched_getaffinity(0))} cores)",
        "sampler": config.sampler,
        "gradients of a replica": f"{gradients / 1e6:.0f} MB",
        **setting(config, given.proposals, given.repeats),
    }
    base = os.path.join(given.output, "scaling")
    text = page(seconds, facts, read_introduction(base, "# A step on one device and on several"))
    write_page(base, text, {"facts": facts, "seconds": seconds})


if __name__ == "__main__":
    define_flags()
    run(main)
