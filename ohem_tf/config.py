"""A config: the settings of an experiment as fields that a file or a command line can change.

The fields and their defaults stand in settings.py; here are the checks that name a bad one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ohem_tf import sampler_settings, settings
from ohem_tf.errors import InputError

# Fields that change no result, so that a run may be resumed with others: "ohem.chunk" none but by
# rounding, and by the random mask of dropout for RoIs beyond the first chunk.
FREE = {
    "ohem.chunk",
    *("train.log_every", "train.checkpoint_every", "train.keep_checkpoints"),
    *("train.eval_every", "train.snapshot_every", "train.deterministic", "evaluation.coco"),
    *("train.pictures_every", "train.pictures_images"),
}


def paper() -> ConfigDict:
    """The paper's recipe: VGG16, VOC07, N = 2, B = 128, OHEM (paper, section 5.1).

    Configs in configs/ start from this and change what differs. Every field can be given on the
    command line: `--config.train.steps=1000`. The fields and their defaults are those of
    `settings.Experiment`; `detection.max_proposals` is `data.max_proposals`.
    """
    fields = dataclasses.asdict(settings.Experiment())
    del fields["detection"]["max_proposals"]
    return ConfigDict(fields).lock()


def validate(config: ConfigDict) -> None:
    """Raises InputError for a setting that cannot work, naming the field."""
    _one_of(config, "sampler", settings.SAMPLERS)
    _one_of(config, "dtype", settings.DTYPES)
    _one_of(config, "proposals", settings.PROPOSALS)
    _one_of(config, "ohem.rank_by", sampler_settings.RANKINGS)
    _one_of(config, "data.flip", settings.FLIPS)
    _one_of(config, "head.pooling", settings.POOLING)
    _one_of(config, "head.target_normalisation", settings.TARGET_NORMALISATION)
    _one_of(config, "detection.scale_choice", settings.SCALE_CHOICES)
    _one_of(config, "detection.nms", settings.NMS_METHODS)
    _one_of(config, "evaluation.method", settings.AP_METHODS)
    positive = (
        "data.longest_side backbone.feature_scale pyramid.channels rpn.channels "
        "rpn.anchors_per_image rpn.train_candidates rpn.train_proposals rpn.test_candidates "
        "rpn.test_proposals head.pool_size train.steps "
        "train.images_per_step train.gamma "
        "train.rois_per_step train.learning_rate train.log_every train.checkpoint_every "
        "train.keep_checkpoints train.pictures_images iou_balanced.bins isr.fg_power isr.bg_power "
        "detection.longest_side detection.rounds detection.rescore_max detection.soft_nms_sigma "
        "detection.max_detections"
    )
    for name in positive.split():
        _check(_get(config, name) > 0, name, _get(config, name), "a number > 0")
    not_negative = (
        "seed data.max_proposals rpn.min_size ohem.chunk ohem.candidates ohem.start_step "
        "train.warmup_steps "
        "train.weight_decay train.eval_every train.snapshot_every train.pictures_every "
        "train.patience augment.scale"
    )
    for name in not_negative.split():
        _check(_get(config, name) >= 0, name, _get(config, name), "a number >= 0")
    fractions = (
        "data.crowd_ioa augment.crop rpn.fg_iou rpn.bg_iou rpn.fg_fraction rpn.nms_iou fg_iou "
        "ohem.iou_threshold ohem.fg_fraction heuristic.fg_fraction heuristic.bg_lo heuristic.bg_hi "
        "iou_balanced.fg_fraction isr.fg_fraction isr.score_threshold isr.group_iou isr.bias "
        "detection.score_threshold detection.rescore_threshold detection.rescore_nms_iou "
        "detection.nms_iou detection.voting_iou"
    )
    for name in fractions.split():
        _check(0 <= _get(config, name) <= 1, name, _get(config, name), "a number in [0, 1]")
    threshold = config.evaluation.iou_threshold
    _check(0 < threshold <= 1, "evaluation.iou_threshold", threshold, "a number in (0, 1]")
    side = config.augment.crop_min_side
    _check(0 < side <= 1, "augment.crop_min_side", side, "a number in (0, 1]")
    for name in (
        *("head.dropout", "train.momentum", "train.ema"),
        *("augment.colour", "augment.cutout"),
    ):
        _check(0 <= _get(config, name) < 1, name, _get(config, name), "a number in [0, 1)")
    for name in ("data.shortest_sides", "head.hidden", "detection.shortest_sides"):
        values = _get(config, name)
        ok = len(values) > 0 and all(isinstance(v, int) and v > 0 for v in values)
        _check(ok, name, values, "one or more whole numbers > 0")
    for name in ("rpn.anchor_scales", "rpn.aspect_ratios"):
        values = _get(config, name)
        ok = len(values) > 0 and all(v > 0 for v in values)
        _check(ok, name, values, "one or more numbers > 0")
    levels = config.pyramid.levels
    ok = not levels or (levels[0] > 0 and tuple(levels) == tuple(range(levels[0], levels[-1] + 1)))
    _check(ok, "pyramid.levels", levels, "consecutive whole numbers > 0, or ()")
    _check(
        not (levels and config.backbone.layer),
        "backbone.layer",
        config.backbone.layer,
        "'' with pyramid.levels, which cut the backbone at several layers",
    )
    _check(
        not (levels and config.backbone.dilated),
        "backbone.dilated",
        config.backbone.dilated,
        "False with pyramid.levels, which use the map at stride 32",
    )
    if config.head.pooling == "position_sensitive":
        why = "with head.pooling 'position_sensitive'"
        _check(not levels, "pyramid.levels", levels, f"() {why}, which reads one map")
        _check(
            config.head.target_normalisation == "fixed",
            "head.target_normalisation",
            config.head.target_normalisation,
            f"'fixed' {why}, whose classes share a box",
        )
        few = config.ohem.candidates
        _check(not few, "ohem.candidates", few, f"0 {why}, whose losses cost nothing")
    low, high = config.rpn.bg_iou, config.rpn.fg_iou
    _check(low <= high, "rpn.bg_iou", low, f"at most rpn.fg_iou = {high}")
    _check(
        config.proposals == "records" or config.head.target_normalisation == "fixed",
        "head.target_normalisation",
        config.head.target_normalisation,
        "'fixed' with proposals 'rpn': there are none yet to compute statistics of",
    )

    images, rois = config.train.images_per_step, config.train.rois_per_step
    _check(rois % images == 0, "train.rois_per_step", rois, f"a multiple of N = {images} images")
    few, least = config.ohem.candidates, rois // images
    _check(few == 0 or few >= least, "ohem.candidates", few, f"0, or at least B/N = {least}")
    start = config.ohem.start_step
    _check(
        not (start and config.ohem.masked_backward),
        "ohem.start_step",
        start,
        "0 with masked_backward",
    )
    low, high = config.heuristic.bg_lo, config.heuristic.bg_hi
    _check(low <= high, "heuristic.bg_lo", low, f"at most bg_hi = {high}")
    _check(high <= config.fg_iou, "heuristic.bg_hi", high, f"at most fg_iou = {config.fg_iou}")
    for section in ("data", "detection"):
        cap, side = config[section].longest_side, max(config[section].shortest_sides)
        _check(side <= cap, f"{section}.shortest_sides", side, f"at most longest_side {cap}")
    steps = config.train.decay_steps
    ok = all(isinstance(v, int) and v >= 0 for v in steps) and list(steps) == sorted(steps)
    _check(ok, "train.decay_steps", steps, "whole numbers >= 0 in ascending order")
    patience = config.train.patience
    _check(
        not patience or config.train.eval_every > 0,
        "train.patience",
        patience,
        "0 with train.eval_every 0: it counts evaluations",
    )
    _check(config.seed < 2**31, "seed", config.seed, "less than 2^31")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train.steps": 1000, ...} of nested `values`, each as json has it."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.loads(json.dumps(value))
    return found


def differences(
    before: ConfigDict, now: ConfigDict, free: Collection[str] = FREE
) -> dict[str, tuple[Any, Any]]:
    """{field: (value before, value now)} of the fields that differ, but for those that are free."""
    old, new = flat(before.to_dict()), flat(now.to_dict())
    return {
        field: (old.get(field), value)
        for field, value in sorted(new.items())
        if field not in free and old.get(field) != value
    }


def _get(config: ConfigDict, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


def _one_of(config: ConfigDict, name: str, allowed: Sequence[str]) -> None:
    _check(_get(config, name) in allowed, name, _get(config, name), f"one of {', '.join(allowed)}")


def _check(ok: bool, name: str, value: object, wanted: str) -> None:
    if not ok:
        raise InputError(f"config.{name} is {value!r}; it must be {wanted}")
