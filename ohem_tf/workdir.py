"""The folder of a training run: what its files are called, and how they are written and read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import h5py
import keras
import tensorflow as tf
from ml_collections import ConfigDict

from ohem_tf.errors import InputError, first_line
from ohem_tf.files import atomic, reserve, write_json
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.models.pretrained import load_weights
from ohem_tf.names import check_class
from ohem_tf.version import __version__

BEST = "best.json"
BEST_WEIGHTS = "best.weights.h5"
CHECKPOINTS = "checkpoints"
COMPARED_METRICS = "compared.metrics.json"
COMPARISON = "compare.json"
CONFIG = "config.json"
DETECTIONS = "detections.npz"
LOG = "log.jsonl"
METRICS = "metrics.json"
NON_FINITE_STEP = "non_finite.npz"
ROI_LOSS = "roi_loss.json"
SNAPSHOTS = "snapshots"
TENSORBOARD = "tensorboard"
_AVERAGES = "averages"  # in a checkpoint
_HEADER_BYTES = 4096  # of an array in HDF5, at most
_VERSIONED = ("tensorflow", "keras", "numpy", "opencv-contrib-python-headless")


def compared_workdir(folder: str, method: str, seed: int) -> str:
    """The workdir of one training in the folder of ohem_tf.compare."""
    return os.path.join(folder, method, f"seed-{seed}")


def save_config(
    config: ConfigDict, overrides: Mapping[str, Any], classes: tuple[str, ...], workdir: str
) -> None:
    """Writes WORKDIR/config.json.

    Args:
      config: resolved.
      overrides: the fields that were given on the command line {"train.steps": 1000, ...}.
      classes: class names.
      workdir: of the training run.
    """
    versions = {package: metadata.version(package) for package in _VERSIONED}
    versions["ohem-tf"] = __version__
    content = {
        "config": config.to_dict(),
        "overrides": dict(overrides),
        "classes": classes,
        "versions": versions,
    }
    write_json(os.path.join(workdir, CONFIG), content)


def load_saved(workdir: str) -> dict[str, Any]:
    """What `save_config` wrote: {"config", "overrides", "classes", "versions"}.

    Raises:
      InputError: the folder holds no training run, or its file is damaged.
    """
    path = os.path.join(workdir, CONFIG)
    try:
        with open(path, encoding="utf-8") as file:
            saved = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"--workdir: {path} cannot be read ({error}); give the --workdir of ohem_tf.train"
        ) from error
    kinds = {"config": dict, "overrides": dict, "classes": list, "versions": dict}
    for field, kind in kinds.items():
        if not isinstance(saved, dict) or not isinstance(saved.get(field), kind):
            raise InputError(
                f"{path}: {field!r} is missing or no {kind.__name__}; expected the file that "
                "ohem_tf.train wrote"
            )
    for name in saved["classes"]:
        check_class(name, f"{path}: classes")
    return saved


def read_log(workdir: str) -> list[dict[str, Any]]:
    """The lines of WORKDIR/log.jsonl, {"step": int, name: number, ...}; one cut off is left out.

    Raises:
      InputError: there is no log, or a line is not what ohem_tf.train writes.
    """
    path = os.path.join(workdir, LOG)
    try:
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file if line.endswith("\n")]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); expected the log of ohem_tf.train"
        ) from error
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            raise InputError(f'{path}: line {number} has no "step"; expected ohem_tf.train\'s log')
    return lines


def checkpoint_of(
    model: FastRCNN, optimizer: keras.Optimizer | None = None, **more: Any
) -> tf.train.Checkpoint:
    """The state of a run, as plain lists of variables: weights, then momentum and step; and `more`.

    With moving averages, those of the trainable weights a second time, for `restore` to find.

    Not the objects themselves: TensorFlow would find the variables of a Keras model by walking its
    attributes, and silently miss some where only the optimizer refers to them.
    """
    state = {"weights": [variable.value for variable in model.weights], **more}
    if optimizer is not None:
        state["optimizer"] = [variable.value for variable in optimizer.variables]
        if averages := getattr(optimizer, "averages", []):
            state[_AVERAGES] = [variable.value for variable in averages]
    return tf.train.Checkpoint(**state)


def has_checkpoint(workdir: str) -> bool:
    """Whether training there has a checkpoint to resume from."""
    return tf.train.latest_checkpoint(os.path.join(workdir, CHECKPOINTS)) is not None


def checkpoint_path(workdir: str, checkpoint: str) -> str:
    """The path that `checkpoint` ("last", "best" or a path) means; see `load_model`.

    Raises:
      InputError: "last", but there is none.
    """
    if checkpoint == "last":
        path = tf.train.latest_checkpoint(os.path.join(workdir, CHECKPOINTS))
        if path is None:
            raise InputError(f"--workdir: {workdir} holds no checkpoint yet; train first")
        return path
    return os.path.join(workdir, BEST_WEIGHTS) if checkpoint == "best" else checkpoint


def save_weights(model: FastRCNN, path: str, attributes: Mapping[str, float] | None = None) -> None:
    """Writes the weights of a model for use, not for resuming: no momentum, no step.

    The normalisation of the regression targets is folded into bbox_pred, as in the snapshots of
    the release, so that its output is the delta itself (see `RoIHead.folded`).

    Args:
      model: stays as it is.
      path: `.../NAME.weights.h5`, written atomically.
      attributes: what the file says of itself, as attributes of its HDF5 root.

    Raises:
      WriteError: the disk is full, say.
    """
    size = sum(variable.numpy().nbytes for variable in model.weights)
    with atomic(path) as temporary:
        reserve(temporary, size + _HEADER_BYTES * (len(model.weights) + 8))
        with model.roi_head.folded():
            model.save_weights(temporary)
        with h5py.File(temporary, "a") as file:
            file.attrs.update(attributes or {})


def save_best(model: FastRCNN, workdir: str, step: int, mean_ap: float) -> None:
    """Writes best.weights.h5, then best.json, which says which step's they are and their mAP.

    The weights say so themselves, so that `repair_best` can make up for a kill between the two.
    """
    best = {"step": step, "mAP": mean_ap}
    save_weights(model, os.path.join(workdir, BEST_WEIGHTS), best)
    write_json(os.path.join(workdir, BEST), best)


def repair_best(workdir: str) -> None:
    """Makes best.json say what best.weights.h5 holds, if there is one that says so itself."""
    path = os.path.join(workdir, BEST_WEIGHTS)
    if os.path.exists(path):
        with h5py.File(path) as file:
            best = {name: file.attrs[name].item() for name in ("step", "mAP") if name in file.attrs}
        if best:
            write_json(os.path.join(workdir, BEST), best)


def restore(model: FastRCNN, path: str) -> None:
    """Loads a checkpoint (`.../ckpt-2000`) or a `.weights.h5` file into `model`, for use.

    Of a training with moving averages, those.

    Raises:
      InputError: no such checkpoint, or one of another architecture.
    """
    try:
        if path.endswith(".weights.h5"):
            load_weights(model, path)
        else:
            status = checkpoint_of(model).restore(path)
            status.assert_existing_objects_matched().expect_partial()
            if any(name.startswith(f"{_AVERAGES}/") for name, _ in tf.train.list_variables(path)):
                trained = [variable.value for variable in model.trainable_variables]
                status = tf.train.Checkpoint(**{_AVERAGES: trained}).restore(path)
                status.assert_existing_objects_matched().expect_partial()
    except (OSError, ValueError, AssertionError, tf.errors.OpError) as error:
        reason = first_line(error)
        raise InputError(
            f"--checkpoint: {path} does not load into the model of this config: {reason}"
        ) from error


def snapshot_path(workdir: str, step: int) -> str:
    """Where `config.train.snapshot_every` keeps the weights of a step."""
    return os.path.join(workdir, SNAPSHOTS, f"step-{step:08d}.weights.h5")


def snapshots(workdir: str) -> dict[int, str]:
    """The snapshots of a run {step: path}, by ascending step; empty if it has none."""
    folder = os.path.join(workdir, SNAPSHOTS)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    steps = [re.fullmatch(r"step-(\d{8,})\.weights\.h5", name) for name in names]
    return {step: snapshot_path(workdir, step) for step in sorted(int(s[1]) for s in steps if s)}
