"""Converts Caffe's weights to ours, without Caffe. Two ways:

    python -m ohem_tf.convert_caffe --caffemodel=FILE --output=FILE.npz

writes initial weights for training: --config.backbone.weights=FILE.npz. For networks trained on
ImageNet (VGG16, VGG_CNN_M_1024); cls_score and bbox_pred of a detector are not used there.

    python -m ohem_tf.convert_caffe --caffemodel=FILE --config=configs/NAME.py --workdir=DIR \
        --classes=aeroplane,bicycle,...

converts a whole detector (Fast R-CNN's and OHEM's releases) to a workdir that ohem_tf.evaluate and
ohem_tf.detect read like that of a training run. The config names the same network.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags

from ohem_tf import experiment
from ohem_tf.config import validate
from ohem_tf.data.joined import open_split
from ohem_tf.errors import InputError, run
from ohem_tf.files import atomic, make_folder
from ohem_tf.models import caffemodel, pretrained
from ohem_tf.models.caffe_networks import NETWORKS
from ohem_tf.names import check_classes
from ohem_tf.workdir import CHECKPOINTS, checkpoint_of, save_config

_FULLY_CONNECTED = ("fc6", "fc7", "cls_score", "bbox_pred")


def read_weights(path: str) -> pretrained.Weights:
    """Reads the weights of a .caffemodel, with our names and layouts.

    - conv1_2 becomes block1_conv2, as Keras names it; conv1, fc6, ... keep their names.
    - Kernels of convolutions: [outputs, inputs, height, width] to [height, width, inputs, outputs].
      The first one reads BGR, as Caffe's; so does our "caffe" preprocessing.
    - Fully connected kernels: [outputs, inputs] to [inputs, outputs]. The inputs of fc6, a pooled
      map [C, P, P], become [P, P, C].
    - bbox_pred: (dx, dy, dw, dh) of each class to (dy, dx, dh, dw).

    Layers of other names are left out, and a line is printed: fc8, and the read-only copies of the
    head in OHEM's release, which hold the same weights again.

    Args:
      path: see `caffemodel.read`.

    Raises:
      InputError: the file cannot be read, or one of these layers has unexpected shapes.
    """
    weights: pretrained.Weights = {}
    ignored, channels = [], 0
    for name, blobs in caffemodel.read(path).items():
        conv = re.fullmatch(r"conv(\d+)(?:_(\d+))?", name)
        if not conv and name not in _FULLY_CONNECTED:
            ignored.append(name)
            continue
        where = f"{path}: layer {name}"
        if len(blobs) != 2 or blobs[0].ndim < 2 or blobs[1].size != _outputs(blobs[0], conv):
            raise InputError(
                f"{where} has arrays of shapes {[x.shape for x in blobs]}; expected a kernel and "
                "one bias for each of its outputs"
            )
        kernel, bias = blobs[0], blobs[1].ravel()
        if conv:
            kernel = kernel.transpose(2, 3, 1, 0)
            channels = kernel.shape[-1]
            name = f"block{conv[1]}_conv{conv[2]}" if conv[2] else name
        else:
            kernel = kernel.reshape(kernel.shape[-2:]).T
            if name == "fc6":
                kernel = _height_width_channels(kernel, channels, where)
            if name == "bbox_pred":
                kernel, bias = _height_first(kernel, where), _height_first(bias, where)
        weights[name] = {
            "kernel": np.ascontiguousarray(kernel, np.float32),
            "bias": np.ascontiguousarray(bias, np.float32),
        }
    if ignored:
        print(f"{path}: left out {', '.join(ignored)}")
    return weights


def _outputs(kernel: np.ndarray, conv: re.Match | None) -> int:
    """The number of outputs of a convolution or fully connected layer; -1 for other shapes."""
    if conv:
        return kernel.shape[0] if kernel.ndim == 4 else -1
    return kernel.shape[-2] if math.prod(kernel.shape[:-2]) == 1 else -1


def _height_width_channels(kernel: np.ndarray, channels: int, where: str) -> np.ndarray:
    """[C * P * P, outputs] to [P * P * C, outputs]."""
    inputs, outputs = kernel.shape
    size = math.isqrt(inputs // channels) if channels else 0
    if size == 0 or channels * size * size != inputs:
        raise InputError(
            f"{where} reads {inputs} values; expected a square map of the {channels} channels of "
            "the convolution before it"
        )
    maps = kernel.reshape(channels, size, size, outputs)
    return maps.transpose(1, 2, 0, 3).reshape(inputs, outputs)


def _height_first(values: np.ndarray, where: str) -> np.ndarray:
    """(dx, dy, dw, dh) of each class, along the last axis, to (dy, dx, dh, dw)."""
    if values.shape[-1] % 4:
        raise InputError(f"{where} has {values.shape[-1]} outputs; expected 4 for each class")
    return values.reshape(*values.shape[:-1], -1, 4)[..., [1, 0, 3, 2]].reshape(values.shape)


def write_npz(weights: pretrained.Weights, path: str) -> None:
    """Writes `weights` with keys LAYER/kernel and LAYER/bias, atomically."""
    arrays = {f"{name}/{kind}": x for name, kinds in weights.items() for kind, x in kinds.items()}
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def write_workdir(
    path: str,
    config: ConfigDict,
    overrides: Mapping[str, Any],
    classes: Sequence[str],
    workdir: str,
) -> None:
    """Converts a whole detector to a workdir.

    The targets of the converted bbox_pred are not normalized (mean 0, std 1): the releases fold
    mean and std into the snapshots that they write.

    Args:
      path: the .caffemodel.
      config: of the detector: `backbone.name` and `head` must match the file.
      overrides: the fields of `config` that were given on the command line, for the record.
      classes: names in the order of cls_score, without background.
      workdir: created if needed; config.json and a checkpoint are written there.

    Raises:
      InputError: the file is not a detector of this config or has another number of classes; the
        workdir already holds a checkpoint.
    """
    validate(config)
    if config.backbone.name not in NETWORKS:
        raise InputError(
            f"config.backbone.name: '{config.backbone.name}' is not a Caffe network; a "
            f".caffemodel fits {', '.join(NETWORKS)}"
        )
    check_classes(classes, "classes")
    folder = os.path.join(workdir, CHECKPOINTS)
    if tf.train.latest_checkpoint(folder):
        raise InputError(f"--workdir: {workdir} already holds a checkpoint; give another folder")
    weights = read_weights(path)
    if "cls_score" not in weights:
        raise InputError(
            f"{path}: has no layer cls_score, so it is not a detector; --output=FILE.npz converts "
            "it to initial weights for training"
        )
    scores = len(weights["cls_score"]["bias"])
    if scores != len(classes) + 1:
        raise InputError(
            f"{path}: cls_score has {scores} outputs, background and {scores - 1} classes; "
            f"{len(classes)} classes were given"
        )
    model = experiment.build_model(config, len(classes), load_weights=False)
    head = model.roi_head
    layers = [*model.backbone.network.layers, *head.hidden, head.cls_score, head.bbox_pred]
    unused = weights.keys() - {layer.name for layer in layers}
    if unused:
        raise InputError(
            f"{path}: the detector of the config lacks {', '.join(sorted(unused))}; change "
            "config.backbone.name or config.head.hidden"
        )
    pretrained.assign(layers, weights, path)
    make_folder(workdir, "workdir")
    save_config(config, overrides, tuple(classes), workdir)
    state = checkpoint_of(model)
    tf.train.CheckpointManager(state, folder, max_to_keep=1).save(checkpoint_number=0)


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("caffemodel", None, "The .caffemodel to convert.")
    flags.DEFINE_string("output", None, "Initial weights for training: FILE.npz.")
    config_flags.DEFINE_config_file("config", None, "For a whole detector: its experiment.")
    flags.DEFINE_string("workdir", None, "For a whole detector: a new folder.")
    flags.DEFINE_list(
        "classes",
        None,
        "For a whole detector: its class names in the order of cls_score, without background. "
        "Default: those of the data set that the config evaluates on.",
    )


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    if given.caffemodel is None:
        raise InputError("--caffemodel is missing")
    names = ("output", "config", "workdir", "classes")
    chosen = {name for name in names if given[name].value is not None}
    if chosen not in ({"output"}, {"config", "workdir"}, {"config", "workdir", "classes"}):
        raise InputError(
            "give either --output=FILE.npz for initial weights for training, or "
            "--config=configs/NAME.py, --workdir=DIR and --classes for a whole detector"
        )
    if "workdir" in chosen:
        config, classes = given.config, given.classes
        if classes is None:
            split = config.data.eval_split
            field = "config.data.eval_split (--classes not given)"
            classes = open_split(config.data.dir, split, field, annotated=False).classes
        overrides = config_flags.get_override_values(given["config"])
        write_workdir(given.caffemodel, config, overrides, classes, given.workdir)
        print(f"{given.workdir}: ready for ohem_tf.evaluate and ohem_tf.detect")
        return
    if not given.output.endswith(".npz"):
        raise InputError(f"--output: {given.output}: expected a name that ends in .npz")
    make_folder(os.path.dirname(given.output) or ".", "output")
    weights = read_weights(given.caffemodel)
    if not weights:
        raise InputError(f"{given.caffemodel}: no layer is named conv1, conv1_1, ... or fc6")
    write_npz(weights, given.output)
    print(f"{given.output}: {', '.join(weights)}")


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
