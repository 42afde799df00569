"""Trains a detector: python -m ohem_tf.train --config=configs/NAME.py --workdir=DIR.

WORKDIR holds config.json (resolved config, classes, versions), checkpoints/ (the last few),
snapshots/ (config.train.snapshot_every), best.weights.h5, log.jsonl and tensorboard/. Run again,
training resumes from the last checkpoint, whatever ended it: SIGTERM and Ctrl-C save one first.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags

from ohem_tf import experiment
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.config import validate
from ohem_tf.data.ground_truth import ground_truth
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.skipping import SkippingReader
from ohem_tf.data.splits import ON_BAD_RECORD
from ohem_tf.errors import InputError, run
from ohem_tf.evaluation.report import metrics
from ohem_tf.files import make_folder, owned
from ohem_tf.fitting import fit
from ohem_tf.inference.predict import Predictor, predict_split
from ohem_tf.interruption import Interruption
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.rehearsal import rehearse
from ohem_tf.training import callbacks, workers
from ohem_tf.training.board import Board, write_curves
from ohem_tf.training.distribution import strategy_for
from ohem_tf.training.log import TrainingLog
from ohem_tf.workdir import (
    CHECKPOINTS,
    TENSORBOARD,
    has_checkpoint,
    save_config,
)


def train(
    config: ConfigDict,
    workdir: str,
    overrides: Mapping[str, Any] | None = None,
    devices: Sequence[str] | None = None,
    strategy: str = "mirrored",
    on_bad_record: str = "error",
    force: bool = False,
) -> FastRCNN:
    """Trains the detector of `config` in `workdir`, from its last checkpoint if it holds one.

    However it was interrupted, it ends with the weights and the log of an unbroken run: to the bit
    with config.train.deterministic, on the same processors. SIGTERM and SIGINT end it after the
    step under way, or at once in an evaluation, with a checkpoint and an `Interrupted`.

    Args:
      config: see `config.paper`.
      workdir: created if need be; no other process may train there meanwhile.
      overrides: the fields of `config` that were given on the command line, for the record.
      devices: devices to train on; several: one replica each. Default: as many GPUs as share the
        images of a step evenly, else the CPU.
      strategy: "mirrored": on `devices` of this machine; "multiworker": this process is one of
        those that TF_CONFIG lists, each with all devices that it sees. Then each of them calls
        this; the chief alone writes `workdir`, which all of them must see.
      on_bad_record: "error", or "skip": the next whole record takes the place of a damaged one.
      force: go on in a workdir that was trained with other settings.

    Returns:
      The trained model.

    Raises:
      InputError: bad config or data, a workdir that is in use or of other settings, before training
        starts; a damaged record, with its shard; a non-finite loss, with the step and the ids of
        its images, a workdir that cannot be written, or another worker that is gone (the last good
        checkpoint stays).
    """
    validate(config)
    chief = workers.is_chief(strategy, devices)
    records, held_out = experiment.open_splits(config)
    if on_bad_record == "skip":
        records = SkippingReader(records)
    if config.train.patience and not (held_out.annotated and strategy == "mirrored"):
        raise InputError(
            f"config.train.patience is {config.train.patience}; it needs config.data.eval_split "
            "with annotations, and --strategy=mirrored; set it to 0"
        )
    make_folder(workdir, "workdir")
    owner = owned(workdir, "workdir") if chief else contextlib.nullcontext()
    with owner, Interruption(lambda: _how_to_go_on(workdir)) as interruption:
        experiment.check_workdir(config, records.classes, workdir, force)
        keep_freed_memory()
        if config.train.deterministic:
            tf.config.experimental.enable_op_determinism()
        if strategy == "multiworker":
            distribution = workers.multi_worker_strategy(config.train.images_per_step)
        else:
            distribution = strategy_for(devices, config.train.images_per_step)
        with distribution.scope():
            fresh = not has_checkpoint(workdir)
            model = experiment.build_trainer(config, len(records.classes), fresh)

        log = None
        if chief:
            log = TrainingLog(workdir, config.train.images_per_step, config.train.log_every)
        checkpoints = callbacks.Checkpoints(
            model,
            workdir,
            config.train.checkpoint_every,
            config.train.keep_checkpoints,
            None if log is None else log.window,
        )
        resumed = checkpoints.restore()
        first_step = model.step
        if not resumed:
            model.roi_head.set_target_statistics(*experiment.target_statistics(config, records))
        if strategy == "multiworker":
            workers.agree(distribution, _in_common(config, records, first_step))
        stop = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: interruption.check()
        )
        around: list[keras.callbacks.Callback] = [stop]
        ended = ""
        if first_step >= config.train.steps:
            ended = f"already trained for {first_step} steps"
        if log is not None:
            predictor = Predictor(model, experiment.detection_settings(config))
            keepers = _keepers(config, workdir, model, predictor, held_out, log, interruption)
            for keeper in keepers:
                if isinstance(keeper, callbacks.Evaluation):
                    ended = ended or keeper.ended_early(first_step)
            if ended:
                print(f"{workdir}: {ended}")
                for keeper in keepers:  # if it was interrupted there
                    keeper.finish(model)
            elif resumed:
                print(f"resuming from {checkpoints.latest}")
            board = _board(config, records, predictor, log)
            progress = callbacks.Progress(config.train.steps)
            around = [log, checkpoints, stop, board, *keepers, progress]
        if not ended:
            if chief:
                save_config(config, overrides or {}, records.classes, workdir)
            fit(config, workdir, model, distribution, records, around, checkpoints, interruption)
        return model


def _how_to_go_on(workdir: str) -> str:
    last = tf.train.latest_checkpoint(os.path.join(workdir, CHECKPOINTS))
    there = f"from {last}" if last else "from the start: no step was saved yet"
    return f"training stopped; the same command goes on {there}"


def _in_common(config: ConfigDict, records: RecordReader, first_step: int) -> dict[str, Any]:
    """What all workers must hold alike; the records may lie in another folder on each."""
    settings = json.loads(json.dumps(config.to_dict()))
    del settings["data"]["dir"]
    ends = [hashlib.sha256(records[i]).hexdigest() for i in (0, len(records) - 1)]
    return {
        "the config": settings,
        "the records of config.data.train_split": [len(records), *ends],
        "the step of the checkpoint in --workdir": first_step,
    }


def _board(
    config: ConfigDict, records: RecordReader, predictor: Predictor, log: TrainingLog
) -> Board:
    """What TensorBoard shows of a few training images."""
    every, images = config.train.pictures_every, config.train.pictures_images
    stream = experiment.training_stream(config, records)
    return Board(log, stream, predictor, every, images, config.ohem.chunk)


def _keepers(
    config: ConfigDict,
    workdir: str,
    model: FastRCNN,
    predictor: Predictor,
    held_out: RecordReader,
    log: TrainingLog,
    interruption: Interruption,
) -> list[callbacks.Snapshots | callbacks.Evaluation]:
    """What keeps weights for good: snapshots, and those of the best mAP if it can be computed."""
    truth = functools.cache(lambda: ground_truth(held_out))
    snapshots = callbacks.Snapshots(workdir, config.train.snapshot_every)
    if not held_out.annotated:
        print(
            "config.data.eval_split has no annotations: no mAP, "
            "see ohem_tf.evaluate --write_results"
        )
        return [snapshots]

    def evaluate() -> dict[str, Any]:
        with interruption.at_once():
            found, settings = predict_split(predictor, held_out), config.evaluation
            scored = truth(), found, held_out.classes
            result = metrics(*scored, settings.method, settings.iou_threshold)
            write_curves(log, model.step, *scored, settings.iou_threshold)
            return result

    every, patience = config.train.eval_every, config.train.patience
    evaluation = callbacks.Evaluation(workdir, every, evaluate, log, patience)
    return [snapshots, evaluation]


def define_flags() -> None:
    """Defines the flags (not at import: binaries share names, and scripts import this module)."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_string("workdir", None, "Where checkpoints and logs go.")
    flags.DEFINE_list(
        "devices",
        None,
        "Devices to train on, such as GPU:0,GPU:1. Default: as many GPUs as share the images of a "
        "step evenly, else the CPU.",
    )
    flags.DEFINE_enum(
        "strategy",
        "mirrored",
        workers.STRATEGIES,
        "mirrored: the devices of this machine. multiworker: those of several machines, which "
        "TF_CONFIG lists; the same command on each of them.",
    )
    flags.DEFINE_bool(
        "dry_run",
        False,
        "Do a few steps and say what all takes: shapes, parameters, memory, time. Writes nothing.",
    )
    flags.DEFINE_bool("force", False, "Go on in a --workdir that was trained with other settings.")
    flags.DEFINE_enum(
        "on_bad_record",
        "error",
        ON_BAD_RECORD,
        "skip trains without damaged records, and counts them.",
    )


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    if given.config is not None and given.dry_run:
        print(rehearse(given.config, given.devices))
        return
    if given.config is None or given.workdir is None:
        raise InputError("give --config=configs/NAME.py and --workdir=DIR")
    overrides = config_flags.get_override_values(given["config"])
    train(
        given.config,
        given.workdir,
        overrides,
        given.devices,
        given.strategy,
        given.on_bad_record,
        given.force,
    )
    print(f"checkpoints: {os.path.join(given.workdir, CHECKPOINTS)}")
    print(f"curves: tensorboard --logdir={os.path.join(given.workdir, TENSORBOARD)}")


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


class _CallableModule(types.ModuleType):
    """This module once it is imported: `ohem_tf.train(...)` trains, whoever imported it first."""

    def __call__(self, *args: Any, **kwargs: Any) -> FastRCNN:
        return train(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    cli()
