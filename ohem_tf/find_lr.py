"""Looks for a learning rate: python -m ohem_tf.find_lr --config=configs/NAME.py --output=lr.png.

The range test of Smith, "Cyclical Learning Rates for Training Neural Networks" (WACV 2017): a short
training whose rate rises from step to step, by the same factor, until the loss does too. Prints the
smoothed losses and the rate at which they fell fastest, and draws them. That is where to look; what
a rate is worth in mAP, `ohem_tf.compare --learning_rates=...` says, for each method by itself: OHEM
and Fast R-CNN do not like the same one.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from matplotlib.figure import Figure
from ml_collections import ConfigDict, config_flags
from tabulate import tabulate

from ohem_tf import experiment
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.config import validate
from ohem_tf.data.joined import open_split
from ohem_tf.errors import InputError, run
from ohem_tf.evaluation.loss_curves import check_plot
from ohem_tf.models.roi_network import NON_FINITE
from ohem_tf.progress import tqdm

_SMOOTHING = 0.95  # momentum of the mean
_DIVERGED = 3.0  # times the lowest smoothed loss
_ROWS = 12


class Sweep(keras.optimizers.schedules.LearningRateSchedule):
    """From `low` to `high` in `steps` steps, each by the same factor."""

    def __init__(self, low: float, high: float, steps: int) -> None:
        self._low, self._high, self._steps = low, high, steps

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """The rate of update number `step`, from 0."""
        done = tf.cast(step, tf.float32) / max(self._steps - 1, 1)
        return self._low * tf.pow(self._high / self._low, done)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"low": self._low, "high": self._high, "steps": self._steps}


def smoothed(losses: Sequence[float]) -> np.ndarray:
    """[S] mean over the losses so far, weighted towards the last ones, without a bias to 0."""
    means, mean = [], 0.0
    for step, loss in enumerate(losses, 1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        means.append(mean / (1 - _SMOOTHING**step))
    return np.array(means)


def steepest(rates: np.ndarray, means: np.ndarray) -> float | None:
    """The rate at which smoothed losses fall fastest per factor of the rate; None if they do not.

    Args:
      rates: [S] ascending.
      means: [S] of `smoothed`.
    """
    if len(means) < 3:
        return None
    slopes = np.gradient(means, np.log(rates))
    first = len(means) // 10  # the mean of the first few losses is noise
    place = first + int(np.argmin(slopes[first:]))
    return float(rates[place]) if slopes[place] < 0 else None


def sweep(config: ConfigDict, low: float, high: float, steps: int) -> list[float]:
    """Losses of a training whose learning rate rises; it ends when they are not finite, or high.

    Args:
      config: of the experiment; its schedule has no effect.
      low, high: the first and the last rate.
      steps: of the whole way.

    Returns:
      Losses of the first steps: classification and box, of the RoIs that the sampler takes.
    """
    records = open_split(config.data.dir, config.data.train_split, "config.data.train_split")
    experiment.check_proposals(config, records, "config.data.train_split")
    keep_freed_memory()
    schedule = Sweep(low, high, steps)
    model = experiment.build_trainer(config, len(records.classes), schedule=schedule)
    model.roi_head.set_target_statistics(*experiment.target_statistics(config, records))
    step = tf.function(model.train_step, reduce_retracing=True)
    losses: list[float] = []
    batches = experiment.training_stream(config, records).dataset().take(steps)
    for batch in tqdm(batches, total=steps, desc="steps", unit="step"):
        try:
            found = step(batch)
        except tf.errors.InvalidArgumentError as error:
            if NON_FINITE in str(error):
                break
            raise
        losses.append(float(found["cls"]) + float(found["box"]))
        means = smoothed(losses)
        if means[-1] > _DIVERGED * means.min():
            break
    return losses


def draw(path: str, rates: np.ndarray, means: np.ndarray, best: float | None) -> None:
    """The picture: smoothed losses over the rates."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, means)
    axes.set(xscale="log", xlabel="learning rate", ylabel="smoothed loss of the chosen RoIs")
    if best is not None:
        axes.axvline(best, color="tab:red", linestyle="--", label=f"steepest: {best:.2g}")
        axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path)


def define_flags() -> None:
    """Defines the flags (not at import: binaries share names, and scripts import this module)."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_string("output", None, "The plot, such as lr.png. Default: none.")
    flags.DEFINE_integer("steps", 200, "Of the whole way from low to high.", lower_bound=10)
    flags.DEFINE_float("low", 1e-5, "The first learning rate.", lower_bound=1e-12)
    flags.DEFINE_float("high", 1.0, "The last one.", lower_bound=1e-12)


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    if given.config is None:
        raise InputError("give --config=configs/NAME.py")
    if given.low >= given.high:
        raise InputError(f"--low={given.low:g}: has to be less than --high={given.high:g}")
    validate(given.config)
    if given.output is not None:
        check_plot(given.output)
    losses = sweep(given.config, given.low, given.high, given.steps)
    rates = given.low * (given.high / given.low) ** (np.arange(len(losses)) / (given.steps - 1))
    means = smoothed(losses)
    best = steepest(rates, means)
    every = max(len(losses) // _ROWS, 1)
    rows = [[f"{r:.2g}", f"{m:.3f}"] for r, m in zip(rates[::every], means[::every], strict=True)]
    print(tabulate(rows, ["learning rate", "smoothed loss"], disable_numparse=True))
    if len(losses) < given.steps:
        print(f"the loss rose, or was not finite, after {len(losses)} of {given.steps} steps")
    if best is None:
        print("the loss fell nowhere: try more --steps, or others than --low and --high")
    else:
        print(
            f"it fell fastest at {best:.2g}; try that and less: ohem_tf.compare "
            f"--learning_rates={best / 4:.1g},{best / 2:.1g},{best:.1g}"
        )
    if given.output is not None:
        draw(given.output, rates, means, best)
        print(f"plot: {given.output}")


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
