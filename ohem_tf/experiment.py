"""From a config to the objects it describes: model, optimizer, training stream, detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from ml_collections import ConfigDict

from ohem_tf.arrays import Array
from ohem_tf.config import FREE, differences, paper, validate
from ohem_tf.data import statistics
from ohem_tf.data.joined import check_classes, open_split
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError, first_line
from ohem_tf.hard_mining import HardMining, MaskedHardMining
from ohem_tf.models import backbones, pretrained
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.models.heads import Head, RoIHead
from ohem_tf.models.position_sensitive import PositionSensitiveHead
from ohem_tf.models.rpn import RegionProposalNetwork
from ohem_tf.reweighting import ImportanceReweighting
from ohem_tf.sampler import Sampler
from ohem_tf.sampler_settings import OHEMSettings
from ohem_tf.sampling import HeuristicSampling, IoUBalancedSampling
from ohem_tf.settings import AugmentSettings, DetectionSettings, RPNSettings
from ohem_tf.training.loss_scale import LossScaledSGD
from ohem_tf.training.optimizer import CaffeSGD, StepDecay
from ohem_tf.workdir import CONFIG, checkpoint_path, has_checkpoint, load_saved, restore


def build_model(config: ConfigDict, num_classes: int, load_weights: bool = True) -> FastRCNN:
    """The detector of a config.

    Args:
      config: see `config.paper`.
      num_classes: K, background not counted.
      load_weights: False leaves the backbone as initialised: a checkpoint follows.

    Raises:
      InputError: the backbone cannot be built, or its weights are unavailable.
    """
    keras.utils.set_random_seed(config.seed)
    settings = config.backbone.to_dict()
    if not load_weights:
        settings["weights"] = "none"
    backbone, fully_connected = backbones.build(
        **settings,
        pyramid_levels=config.pyramid.levels,
        pyramid_channels=config.pyramid.channels,
        dtype=config.dtype,
    )
    head = _build_head(config, num_classes, backbone.channels)
    pretrained.init_fc_layers(head.hidden, fully_connected, config.backbone.weights)
    proposer = None
    if config.proposals == "rpn":
        settings = RPNSettings(**config.rpn)
        proposer = RegionProposalNetwork(
            backbone.channels, backbone.strides, settings, config.dtype
        )
    sampler = build_sampler(config)
    return FastRCNN(
        backbone, head, sampler, config.head.pooling, config.fg_iou, config.seed, proposer
    )


def _build_head(config: ConfigDict, num_classes: int, channels: int) -> Head:
    shape = (num_classes, channels, config.head.pool_size, config.head.hidden)
    if config.head.pooling == PositionSensitiveHead.pooling:
        return PositionSensitiveHead(*shape, config.dtype)
    return RoIHead(*shape, config.head.dropout, config.dtype)


def check_proposals(config: ConfigDict, records: RecordReader, field: str) -> None:
    """Raises InputError if the model of `config` needs proposals that `records` do not hold.

    `field` is where the split is named, for the message.
    """
    if config.proposals == "records" and not records.has_proposals:
        raise InputError(
            f"{field}: {records.split} in {config.data.dir} was prepared with --proposals=none, "
            "and config.proposals is 'records'; prepare it with proposals, or train a model with "
            "--config.proposals=rpn"
        )


def open_splits(config: ConfigDict, annotated: bool = False) -> tuple[RecordReader, RecordReader]:
    """The training and the eval split of a config.

    Args:
      config: see `config.paper`.
      annotated: whether the eval split has to be.

    Raises:
      InputError: as `joined.open_split` and `check_proposals`; splits of different classes.
    """
    data, fields = config.data, ("config.data.train_split", "config.data.eval_split")
    records = open_split(data.dir, data.train_split, fields[0])
    held_out = open_split(data.dir, data.eval_split, fields[1], annotated)
    check_classes(fields[1], held_out.classes, fields[0], records.classes)
    for field, split in zip(fields, (records, held_out), strict=True):
        check_proposals(config, split, field)
    return records, held_out


def build_sampler(config: ConfigDict) -> Sampler:
    """The sampler of a config."""
    rois_per_image = config.train.rois_per_step // config.train.images_per_step
    if config.sampler == "heuristic":
        return HeuristicSampling(rois_per_image, fg_iou=config.fg_iou, **config.heuristic)
    if config.sampler == "iou_balanced":
        return IoUBalancedSampling(rois_per_image, fg_iou=config.fg_iou, **config.iou_balanced)
    if config.sampler == "isr":
        return ImportanceReweighting(rois_per_image, **config.isr)
    options = config.ohem.to_dict()
    if options.pop("masked_backward"):
        return MaskedHardMining(rois_per_image, **options)
    before = None
    if options["start_step"]:
        before = HeuristicSampling(rois_per_image, fg_iou=config.fg_iou, **config.heuristic)
    return HardMining(rois_per_image, **options, before=before)


def smaller_chunk(config: ConfigDict) -> int:
    """Half of config.ohem.chunk, where 0 counts as its default; 0 without a pass in chunks."""
    if config.sampler != "ohem" or config.ohem.masked_backward:
        return 0
    return (config.ohem.chunk or OHEMSettings.chunk) // 2


def memory_advice(config: ConfigDict) -> str:
    """What makes a training step need less memory."""
    chunk = smaller_chunk(config)
    passes = f"--config.ohem.chunk={chunk} bounds the pass over all RoIs, " if chunk else ""
    return (
        f"{passes}--config.data.longest_side the images; an image at a time is in memory whatever "
        "N is"
    )


def target_statistics(config: ConfigDict, records: RecordReader) -> tuple[Array, Array]:
    """Mean and std of the regression targets, for `RoIHead.set_target_statistics`."""
    if config.head.target_normalisation == "fixed":
        return statistics.fixed_target_statistics(len(records.classes))
    with_flips = config.data.flip != "none"
    return statistics.target_statistics(
        records, config.data.max_proposals, with_flips, config.fg_iou, config.data.crowd_ioa
    )


def build_optimizer(
    config: ConfigDict, schedule: keras.optimizers.schedules.LearningRateSchedule | None = None
) -> CaffeSGD:
    """The solver of a config; with another schedule than its own, if one is given."""
    train = config.train
    schedule = schedule or StepDecay(
        train.learning_rate, train.decay_steps, train.gamma, train.warmup_steps
    )
    solver = LossScaledSGD if config.dtype == "float16" else CaffeSGD
    return solver(schedule, train.momentum, train.weight_decay, train.ema)


def build_trainer(
    config: ConfigDict,
    num_classes: int,
    load_weights: bool = True,
    schedule: keras.optimizers.schedules.LearningRateSchedule | None = None,
) -> FastRCNN:
    """The detector of a config with its solver, ready for `train_step`; see `build_model`."""
    model = build_model(config, num_classes, load_weights)
    model.compile(build_optimizer(config, schedule))
    model.optimizer.build(model.trainable_variables)
    return model


def training_stream(config: ConfigDict, records: RecordReader) -> TrainingStream:
    """The training examples of a config."""
    return TrainingStream(
        records,
        config.train.images_per_step,
        config.seed,
        config.data.shortest_sides,
        config.data.longest_side,
        config.data.flip,
        config.data.max_proposals,
        config.data.crowd_ioa,
        AugmentSettings(**config.augment),
    )


def detection_settings(config: ConfigDict) -> DetectionSettings:
    """How a config turns images into detections."""
    return DetectionSettings(max_proposals=config.data.max_proposals, **config.detection)


def trained_config(
    config: ConfigDict | None, overrides: Mapping[str, Any], workdir: str
) -> ConfigDict:
    """The config to run a trained model with.

    Model and data are those it was trained with; `detection` and `evaluation` come from `config`,
    so that one model can be tested in several ways. Fields given on the command line count over
    both: those of the training run, then those of this one. A field that did not exist yet when the
    model was trained has its default.

    Args:
      config: of this run; None: everything as it was trained.
      overrides: the fields given on the command line of this run.
      workdir: of the training run.

    Raises:
      InputError: the folder holds no training run; a setting that cannot work.
    """
    resolved, saved_overrides = _saved_config(workdir)
    if config is not None:
        own = config.copy_and_resolve_references()
        resolved.detection, resolved.evaluation = own.detection, own.evaluation
    with resolved.unlocked():
        resolved.update_from_flattened_dict({**saved_overrides, **overrides})
    validate(resolved)
    return resolved


def check_workdir(
    config: ConfigDict, classes: tuple[str, ...], workdir: str, force: bool = False
) -> None:
    """Refuses to go on with a training of other classes, or of other settings unless forced.

    Args:
      config: to go on with.
      classes: of the training split.
      workdir: of the training so far, if it has a checkpoint.
      force: print the settings that differ instead.

    Raises:
      InputError: naming what differs.
    """
    if not has_checkpoint(workdir):
        return
    before = tuple(load_saved(workdir)["classes"])
    if before != classes:
        raise InputError(
            f"--workdir: {workdir} was trained for {', '.join(before)}, but {config.data.dir} has "
            f"{', '.join(classes)}; give another --workdir"
        )
    fields = differences(
        trained_config(None, {}, workdir), config, FREE | {"train.steps", "train.patience"}
    )
    changed = [f"config.{name} (there: {old}, now: {new})" for name, (old, new) in fields.items()]
    if changed and not force:
        raise InputError(
            f"--workdir: {workdir} was trained with other settings: {'; '.join(changed)}; give "
            "another --workdir, or --force to go on with the new ones"
        )
    for change in changed:
        print(f"changed since the last run: {change}")


def _saved_config(workdir: str) -> tuple[ConfigDict, dict[str, Any]]:
    """The config that a model was trained with, and the fields given on its command line.

    Raises:
      InputError: a field is unknown, or has a value of another kind.
    """
    saved = load_saved(workdir)
    path = f"{workdir}/{CONFIG}"
    resolved = paper()
    try:
        with resolved.unlocked():
            resolved.update(ConfigDict(saved["config"]))
            # As they are without those of this run, so that what is wrong is in this file.
            given = resolved.copy_and_resolve_references()
        with given.unlocked():
            given.update_from_flattened_dict(saved["overrides"])
        known = paper()
        gone = [name for name in given if name not in known]
        for section, fields in known.items():
            if isinstance(fields, ConfigDict):
                gone += [f"{section}.{name}" for name in given[section] if name not in fields]
        if gone:
            raise InputError(
                f"{gone[0]} is no field of this version; remove or rename it there "
                "(ohem_tf/settings.py has them all)"
            )
        validate(given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        # ml_collections, and comparisons of values of other kinds
        raise InputError(
            f"{path}: a setting has a value of another kind ({first_line(error)}); expected the "
            "file that ohem_tf.train wrote"
        ) from error
    return resolved, saved["overrides"]


def load_model(config: ConfigDict, workdir: str, checkpoint: str = "last") -> FastRCNN:
    """The trained detector in a workdir.

    Args:
      config: see `trained_config`.
      workdir: of `python -m ohem_tf.train`.
      checkpoint: "last", "best" (highest mAP on the eval split during training), or the path of a
        checkpoint (`.../ckpt-2000`) or of a `.weights.h5` file.

    Raises:
      InputError: no such checkpoint, or one of another architecture.
    """
    path = checkpoint_path(workdir, checkpoint)
    model = build_model(config, len(load_saved(workdir)["classes"]), load_weights=False)
    restore(model, path)
    return model
