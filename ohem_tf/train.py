"""Trains a detector: python -m ohem_tf.train --config=configs/NAME.py --workdir=DIR.

WORKDIR holds config.json (resolved config, classes, versions), checkpoints/ (the last few),
best.weights.h5, log.jsonl and tensorboard/. Run again, training goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags

from ohem_tf import callbacks, experiment
from ohem_tf.config import validate
from ohem_tf.data import statistics
from ohem_tf.data.records import RecordReader
from ohem_tf.detector import FastRCNN
from ohem_tf.errors import InputError, run
from ohem_tf.evaluation.predict import Predictor, predict_split
from ohem_tf.evaluation.report import metrics

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and logs go.")
_DEVICES = flags.DEFINE_list(
    "devices", None, "Devices to train on, such as GPU:0,GPU:1. Default: all GPUs, else the CPU."
)


def train(
    config: ConfigDict,
    workdir: str,
    overrides: Mapping[str, Any] | None = None,
    devices: Sequence[str] | None = None,
) -> FastRCNN:
    """Trains the detector of `config` in `workdir`, from its last checkpoint if it holds one.

    Args:
      config: see `config.paper`.
      workdir: created if need be.
      overrides: the fields of `config` that were given on the command line, for the record.
      devices: devices to train on; several: one replica each. Default: all GPUs, else the CPU.

    Returns:
      The trained model.

    Raises:
      InputError: bad config or data, before training starts; a non-finite loss, with the step and
        the ids of its images (the last good checkpoint stays).
    """
    validate(config)
    records = RecordReader(_data_dir(config), config.data.train_split)
    held_out = RecordReader(_data_dir(config), config.data.eval_split)
    strategy = _strategy(devices, config.train.images_per_step)
    with strategy.scope():
        model = experiment.build_model(config, len(records.classes), not _is_resumed(workdir))
        model.compile(optimizer=experiment.build_optimizer(config), jit_compile=False)
        model.optimizer.build(model.trainable_variables)

    os.makedirs(workdir, exist_ok=True)
    _report_changes(config, workdir)
    experiment.save_config(config, overrides or {}, records.classes, workdir)
    checkpoints = callbacks.Checkpoints(
        model, workdir, config.train.checkpoint_every, config.train.keep_checkpoints
    )
    if not checkpoints.restore():
        model.roi_head.set_target_statistics(*_target_statistics(config, records))
    first_step = int(model.optimizer.iterations)
    if first_step >= config.train.steps:
        print(f"{workdir}: already trained for {first_step} steps")
        return model
    if first_step:
        print(f"resuming from {checkpoints.latest}")

    predictor = Predictor(model, experiment.detection_settings(config))
    log = callbacks.TrainingLog(workdir, config.train.images_per_step, config.train.log_every)
    evaluation = callbacks.Evaluation(
        workdir,
        config.train.eval_every,
        lambda: metrics(
            *predict_split(predictor, held_out), records.classes, **config.evaluation.to_dict()
        ),
        log,
    )
    stream = experiment.training_stream(config, records)
    try:
        model.fit(
            stream.dataset(first_step),
            steps_per_epoch=config.train.steps - first_step,
            callbacks=[log, checkpoints, evaluation, callbacks.Progress()],
            shuffle=False,
        )
    except tf.errors.InvalidArgumentError as error:
        if "non-finite loss" not in str(error):
            raise
        step = int(model.optimizer.iterations)
        raise InputError(
            f"the loss is not finite at step {step}, images {', '.join(stream.image_ids(step))}; "
            f"training stopped, last good checkpoint: {checkpoints.latest or 'none yet'}; "
            "a lower config.train.learning_rate or more config.train.warmup_steps may help"
        ) from error
    return model


def _data_dir(config: ConfigDict) -> str:
    if not config.data.dir:
        raise InputError(
            "config.data.dir is empty; give the output of ohem_tf.prepare: --config.data.dir=DIR"
        )
    return config.data.dir


def _strategy(devices: Sequence[str] | None, images_per_step: int) -> tf.distribute.Strategy:
    available = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()]
    devices = devices or [d for d in available if d.startswith("GPU")] or ["CPU:0"]
    for device in devices:
        if device not in available:
            raise InputError(f"--devices: no {device} here; there are {', '.join(available)}")
    if images_per_step % len(devices):
        raise InputError(
            f"config.train.images_per_step is {images_per_step}; it must be a multiple of the "
            f"number of devices, {len(devices)} (choose fewer with --devices)"
        )
    if len(devices) > 1:
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


def _is_resumed(workdir: str) -> bool:
    return tf.train.latest_checkpoint(os.path.join(workdir, experiment.CHECKPOINTS)) is not None


def _report_changes(config: ConfigDict, workdir: str) -> None:
    """Prints the settings that differ from those the workdir was trained with so far."""
    path = os.path.join(workdir, experiment.CONFIG)
    if not (_is_resumed(workdir) and os.path.exists(path)):
        return
    with open(path, encoding="utf-8") as file:
        before = ConfigDict(json.load(file)["config"])
    now = ConfigDict(json.loads(json.dumps(config.to_dict())))
    for section, value in now.items():
        if before.get(section) != value:
            print(f"changed since the last run: {section}: {before.get(section)} -> {value}")


def _target_statistics(config: ConfigDict, records: RecordReader) -> tuple:
    if config.head.target_normalisation == "fixed":
        return statistics.fixed_target_statistics(len(records.classes))
    mirrored = config.data.flip != "none"
    return statistics.target_statistics(records, config.data.max_proposals, mirrored, config.fg_iou)


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    if _CONFIG.value is None or _WORKDIR.value is None:
        raise InputError("give --config=configs/NAME.py and --workdir=DIR")
    workdir = _WORKDIR.value
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    train(_CONFIG.value, workdir, overrides, _DEVICES.value)
    print(f"checkpoints: {os.path.join(workdir, experiment.CHECKPOINTS)}")
    print(f"curves: tensorboard --logdir={os.path.join(workdir, 'tensorboard')}")


def cli() -> None:
    """Console script."""
    run(main)


if __name__ == "__main__":
    cli()
