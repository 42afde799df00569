"""Mean loss per RoI over a training set, at the snapshots of runs (paper, figure 3).

    python -m ohem_tf.roi_loss --workdirs=A,B

measures the snapshots that config.train.snapshot_every kept in one or several runs, prints a table
and, as the last line, one JSON object, and draws a curve per run.

Measured independently of the sampler: all proposals of all images and no ground truth boxes among
them, no flips, one scale, no dropout; classification and box loss are summed 1:1 and the
mean is taken over the RoIs of the whole set.

The box loss counts *normalised* regression targets, as in training. Snapshots hold bbox_pred with
the normalisation folded in, and runs may have trained with others; here all take the same one: the
empirical mean and std per class of the measured split, flips included, as the release
computes them. For a run of the paper's recipe this is the loss that it minimises, but for the
choice of RoIs; and the curves of several runs stand on one scale.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags

from ohem_tf import devices, experiment
from ohem_tf.data import statistics
from ohem_tf.data.joined import check_classes, open_split
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.errors import InputError, run
from ohem_tf.evaluation.loss_curves import check_plot, plot, table
from ohem_tf.files import write_json
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.models.roi_network import NON_FINITE
from ohem_tf.progress import tqdm
from ohem_tf.workdir import ROI_LOSS, SNAPSHOTS, load_saved, restore, snapshots

_POINT = ("step", "loss", "cls", "box", "rois", "images")


def mean_loss(model: FastRCNN, stream: TrainingStream, images: int, title: str = "") -> dict:
    """Mean loss over all proposals of the first `images` images of a stream.

    Args:
      model: its target statistics give the scale of the box loss.
      stream: of one image a step, none flipped.
      images: how many.
      title: of the progress bar.

    Returns:
      {"loss", "cls", "box": means over the RoIs, loss = cls + box; "rois": number of RoIs}. Sums
      are float64.

    Raises:
      InputError: a loss is not finite; no image has a proposal.
    """
    dataset = stream.dataset().take(images)

    @tf.function(input_signature=[dataset.element_spec])
    def sums(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        (losses,) = model.proposal_losses(batch)
        count = tf.cast(tf.size(losses.cls), tf.float64)
        return tf.stack([*(tf.reduce_sum(tf.cast(x, tf.float64)) for x in losses), count])

    total = np.zeros(3)
    try:
        for batch in tqdm(dataset, total=images, desc=title, unit="image"):
            total += sums(batch).numpy()
    except tf.errors.InvalidArgumentError as error:
        if NON_FINITE not in str(error):
            raise
        raise InputError(f"{title}: the loss is not finite") from error
    if not np.isfinite(total).all():  # the losses of float16 are not checked one by one
        raise InputError(f"{title}: the loss is not finite")
    if not total[2]:
        raise InputError(f"{title}: no proposal in {images} images; there is nothing to measure")
    cls, box = (float(x) for x in total[:2] / total[2])
    return {"loss": cls + box, "cls": cls, "box": box, "rois": int(total[2])}


def measure(
    configs: Mapping[str, ConfigDict], split: str | None = None, max_images: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Measures the snapshots of several runs; what WORKDIR/roi_loss.json holds is not done again.

    Args:
      configs: {workdir: see `experiment.trained_config`}; images have the scale of `detection`.
      split: default: config.data.train_split.
      max_images: take at most this many images, drawn at random, the same for all runs; 0: all.

    Returns:
      {workdir: one dict per snapshot, by ascending step: "step", "images", and see `mean_loss`};
      also written to WORKDIR/roi_loss.json as soon as each is known.

    Raises:
      InputError: a run without snapshots; runs that do not measure the same; see `open_split`.
    """
    field = "--split" if split else "config.data.train_split"
    settings = _common_settings(configs, split)
    config = next(iter(configs.values()))
    devices.use_one()
    records = open_split(config.data.dir, settings["split"], field)
    for each in configs.values():
        experiment.check_proposals(each, records, field)
    for workdir in configs:
        classes = load_saved(workdir)["classes"]
        check_classes(f"--workdirs: {workdir}", classes, settings["split"], records.classes)
    settings["images"] = min(max_images or len(records), len(records))
    stream = dataclasses.replace(
        experiment.training_stream(config, records),
        images_per_step=1,
        seed=0,
        shortest_sides=tuple(config.detection.shortest_sides),
        longest_side=config.detection.longest_side,
        flip="none",
    )
    normalisation = functools.cache(
        lambda: statistics.target_statistics(
            records, config.data.max_proposals, True, config.fg_iou, config.data.crowd_ioa
        )
    )
    return {
        workdir: _measure_run(workdir, config, settings, stream, normalisation)
        for workdir, config in configs.items()
    }


def _common_settings(configs: Mapping[str, ConfigDict], split: str | None) -> dict[str, Any]:
    """What is measured, which must be the same for all runs."""
    common: dict[str, Any] = {}
    for workdir, config in configs.items():
        if not snapshots(workdir):
            folder = os.path.join(workdir, SNAPSHOTS)
            raise InputError(
                f"--workdirs: there is no snapshot in {folder}; train with "
                "--config.train.snapshot_every=20000, say"
            )
        sides = config.detection.shortest_sides
        if len(sides) != 1:
            raise InputError(
                f"config.detection.shortest_sides is {sides}; this loss is measured at one scale"
            )
        found = {
            "config.data.dir": config.data.dir,
            "split": split or config.data.train_split,
            "config.data.max_proposals": config.data.max_proposals,
            "config.data.crowd_ioa": config.data.crowd_ioa,
            "config.fg_iou": config.fg_iou,
            "config.detection.shortest_sides": list(sides),
            "config.detection.longest_side": config.detection.longest_side,
        }
        common = common or found
        for name, value in found.items():
            if value != common[name]:
                raise InputError(
                    f"--workdirs: {name} is {common[name]!r} in {next(iter(configs))}, but "
                    f"{value!r} in {workdir}; it must be the same to compare them: give it on the "
                    "command line"
                )
    return common


def _measure_run(
    workdir: str,
    config: ConfigDict,
    settings: dict[str, Any],
    stream: TrainingStream,
    normalisation: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> list[dict[str, Any]]:
    known, model, points = _read(workdir), None, []
    for step, path in snapshots(workdir).items():
        key = {"step": step, "weights": _digest(path), **settings}
        point = next((entry for entry in known if key.items() <= entry.items()), None)
        if point is None:
            mean, std = normalisation()
            if model is None:
                classes = stream.records.classes
                model = experiment.build_model(config, len(classes), load_weights=False)
            restore(model, path)
            model.roi_head.change_target_statistics(mean, std)
            point = key | mean_loss(model, stream, settings["images"], f"{workdir} step {step}")
            known.append(point)
            write_json(os.path.join(workdir, ROI_LOSS), known)
        points.append({name: point[name] for name in _POINT})
    return points


def _read(workdir: str) -> list[dict[str, Any]]:
    """What WORKDIR/roi_loss.json holds; nothing if it does not exist."""
    path = os.path.join(workdir, ROI_LOSS)
    if not os.path.exists(path):
        return []
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
        if all({"weights", *_POINT} <= entry.keys() for entry in known):
            return known
        reason = "an entry lacks a key"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        reason = str(error)
    raise InputError(f"{path}: not what ohem_tf.roi_loss writes ({reason}); delete it")


def _digest(path: str) -> str:
    """Tells whether a snapshot is the one that was measured: training again may overwrite it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def report(
    config: ConfigDict | None,
    overrides: Mapping[str, Any],
    workdirs: Sequence[str],
    split: str | None = None,
    max_images: int = 0,
    output: str | None = None,
) -> None:
    """Prints the mean loss over all RoIs at the snapshots of runs, and draws it.

    Args:
      config, overrides: see `experiment.trained_config`.
      workdirs: of the runs.
      split, max_images: see `measure`.
      output: the plot; default: roi_loss.png in the first of the workdirs.

    Raises:
      InputError: as `measure` and `check_plot`.
    """
    configs = {w: experiment.trained_config(config, overrides, w) for w in workdirs}
    output = output or os.path.join(workdirs[0], "roi_loss.png")
    check_plot(output)
    losses = measure(configs, split, max_images)
    plot(losses, output)
    print(table(losses))
    print(f"plot: {output}")
    print(json.dumps(losses, allow_nan=False))


def define_flags() -> None:
    """Defines the flags (not at import: binaries share names, and scripts import this module)."""
    config_flags.DEFINE_config_file("config", None, "Default: as each run was trained.")
    flags.DEFINE_list("workdirs", None, "Folders of ohem_tf.train, with snapshots: A,B.")
    flags.DEFINE_string("split", None, "Default: config.data.train_split.")
    flags.DEFINE_string("output", None, "The plot. Default: roi_loss.png in the first workdir.")
    flags.DEFINE_integer(
        "max_images", 0, "Take only this many images, at random; 0: all.", lower_bound=0
    )


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    if not given.workdirs:
        raise InputError("give --workdirs=A,B, folders of ohem_tf.train")
    overrides = config_flags.get_override_values(given["config"]) if given.config else {}
    report(given.config, overrides, given.workdirs, given.split, given.max_images, given.output)


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
