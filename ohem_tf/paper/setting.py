"""How a run was trained and tested, as the tables of the paper tell runs apart."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ohem_tf.data.joined import split_name
from ohem_tf.paper import recipes
from ohem_tf.settings import SAMPLERS

# Data sets go by the names of their folders, those of docs/reproduce.md.
_TRAIN_SETS = {
    "voc07/trainval": "07",
    "voc12/trainval": "12",
    "voc07/trainval+voc12/trainval": "07+12",
    "voc07/test+voc07/trainval+voc12/trainval": "07++12",
    "coco/train2014": "COCO train",
    "coco/train2014+coco/val2014": "COCO trainval",
}
_RECIPES = {
    "07": recipes.voc07,
    "12": recipes.voc12,
    "07+12": recipes.voc0712,
    "07++12": recipes.voc0712pp,
    "COCO train": recipes.coco,
    "COCO trainval": recipes.coco_trainval,
}
_TEST_SETS = {"voc07/test": "07 test", "voc12/test": "12 test"}
_BACKBONES = {"vgg16": "VGG16", "vgg_cnn_m_1024": "VGGM"}
# Fields that other attributes of `Setting` stand for, and fields without influence on a result.
# `_unused` adds those without influence in this run.
_NOT_CHANGES = {
    "": ("seed", "sampler"),
    "data": ("dir", "train_split", "eval_split", "shortest_sides", "longest_side"),
    "backbone": ("name", "weights"),
    "ohem": ("per_label", "masked_backward", "chunk"),
    "heuristic": ("bg_lo", "fixed_ratio"),
    "train": (
        *("steps", "images_per_step", "rois_per_step", "learning_rate", "decay_steps", "log_every"),
        *("checkpoint_every", "keep_checkpoints", "snapshot_every", "eval_every"),
    ),
    "detection": ("shortest_sides", "longest_side", "flip", "rounds", "nms", "voting"),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What decides with which number of the paper a result is compared.

    Attributes:
      method: "FRCN", "OHEM" (one NMS per image), "OHEM per label", ...
      backbone: "VGG16", "VGGM", or as in the config where weights or layers are not the paper's.
      train, test: "07", "07+12", "COCO train"; "07 test"; or the splits as they are called.
      images, rois: N and B.
      bg_lo: of the sampler; None for OHEM, which has none.
      learning_rate: at the start.
      steps, decay_steps: of training; steps is None for a checkpoint that is not its last one.
      training, testing: "" for one scale of 600 pixels and no extras; "M": multi-scale, "B":
        iterative regression with voting, "M B", and in words whatever the paper does not have.
      changes: other fields that are not those of the recipe of its data, of the training
        ("head.dropout=0.0") and of the test ("detection.nms_iou=0.5").
    """

    method: str
    backbone: str
    train: str
    test: str
    images: int
    rois: int
    bg_lo: float | None
    learning_rate: float
    steps: int | None
    decay_steps: tuple[int, ...]
    training: str
    testing: str
    changes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """A short name: "OHEM N=2 VGG16 07+12 M B"."""
        parts = [self.method, f"N={self.images}"]
        parts += [f"B={self.rois}"] if self.rois != 128 else []
        parts += [f"bg_lo={self.bg_lo:g}"] if self.bg_lo not in (None, 0.1) else []
        parts += [self.backbone, self.train]
        if self.training == "M" and "M" in self.testing.split():
            return " ".join([*parts, self.testing])
        parts += [f"train-{self.training}"] if self.training else []
        parts += [f"test-{self.testing}"] if self.testing else []
        return " ".join(parts)


def describe(config: ConfigDict, made: Mapping[str, Any]) -> Setting:
    """The setting of an evaluation.

    Args:
      config: that the model was trained with.
      made: how it was evaluated, "settings" in metrics.json: "split", "checkpoint", "detection".
    """
    data, train = config.data, config.train
    train_split, test_split = (
        "+".join(sorted(split.split("+")))
        for split in (split_name(data.dir, data.train_split), made["split"])
    )
    train_set = _TRAIN_SETS.get(train_split, train_split)
    new = not set(test_split.split("+")) & set(train_split.split("+"))
    is_coco = new and all(part.startswith("coco/") for part in test_split.split("+"))
    return Setting(
        method=_method(config),
        backbone=_backbone(config),
        train=train_set,
        test="COCO" if is_coco else _TEST_SETS.get(test_split, test_split),
        images=train.images_per_step,
        rois=train.rois_per_step,
        bg_lo=config.heuristic.bg_lo if config.sampler == "heuristic" else None,
        learning_rate=train.learning_rate,
        steps=train.steps if _step(made["checkpoint"]) == train.steps else None,
        decay_steps=tuple(train.decay_steps),
        training=_scales(data.shortest_sides, data.longest_side, recipes.TRAIN_SCALES),
        testing=_testing(made["detection"]),
        changes=_changes(config, made["detection"], train_set),
    )


def _method(config: ConfigDict) -> str:
    if config.sampler == "heuristic":
        return "FRCN" if config.heuristic.fixed_ratio else "FRCN without ratio"
    if config.sampler != "ohem":
        return {"iou_balanced": "IoU-balanced", "isr": "ISR"}[config.sampler]
    parts = ["OHEM", "per label"] if config.ohem.per_label else ["OHEM"]
    return " ".join([*parts, "masked"] if config.ohem.masked_backward else parts)


def _backbone(config: ConfigDict) -> str:
    name, weights = config.backbone.name, config.backbone.weights
    if name not in _BACKBONES:
        return name.rstrip("/").rpartition("/")[2]
    return f"{_BACKBONES[name]} ({weights})" if weights in ("none", "hed") else _BACKBONES[name]


def _required(config: ConfigDict, detection: Mapping[str, Any], train_set: str) -> ConfigDict:
    """The recipe that training and test must have followed to be compared.

    Args:
      config: of the training.
      detection: of the test.
      train_set: what it trained on; data that the paper has not are held to VOC07's recipe.
    """
    recipe = _RECIPES.get(train_set, recipes.voc07)()
    if config.backbone.name == "vgg_cnn_m_1024":
        recipes.vggm(recipe)
    if len(detection["shortest_sides"]) > 1:
        recipes.multi_scale_testing(recipe)
    if detection["rounds"] > 1 or detection["voting"]:
        recipes.iterative_regression(recipe)
    return recipe


def _changes(config: ConfigDict, detection: Mapping[str, Any], train_set: str) -> tuple[str, ...]:
    """Fields that are not as in the recipe, but for those that `Setting` has itself."""
    values = {**_sections(config), "detection": detection}
    unused = {"evaluation", *SAMPLERS} - {config.sampler}
    found = []
    for section, expected in _sections(_required(config, detection, train_set)).items():
        if section not in unused:
            left_out = {*_NOT_CHANGES.get(section, ()), *_unused(section, detection)}
            found += [
                f"{section}.{name}={values[section][name]}"
                for name in expected
                if name not in left_out and values[section][name] != expected[name]
            ]
    return tuple(change.removeprefix(".") for change in found)


def _unused(section: str, detection: Mapping[str, Any]) -> set[str]:
    """Fields of config.detection that had no influence on a test."""
    if section != "detection":
        return set()
    unused = {"soft_nms_sigma" if detection["nms"] == "hard" else "nms_iou"}
    if len(detection["shortest_sides"]) == 1:
        unused.add("scale_choice")
    if detection["rounds"] == 1:
        unused |= {name for name in detection if name.startswith("rescore_")}
    if not detection["voting"]:
        unused.add("voting_iou")
    return unused


def _sections(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """The fields of a config by section; those of none stand under ""."""
    values = config.to_dict()
    sections = {name: value for name, value in values.items() if isinstance(value, dict)}
    return {"": {n: v for n, v in values.items() if n not in sections}, **sections}


def _step(checkpoint: str) -> int | None:
    found = re.search(r"^(?:ckpt|step)-(\d+)(?:\.weights\.h5)?$", checkpoint)
    return int(found[1]) if found else None


def _scales(sides: Sequence[int], cap: int, several: tuple[int, ...]) -> str:
    names = {((600,), 1000): "", (several, 1000): "M"}
    return names.get((tuple(sides), cap), f"{','.join(map(str, sides))}px")


def _testing(detection: Mapping[str, Any]) -> str:
    parts = [_scales(detection["shortest_sides"], detection["longest_side"], recipes.TEST_SCALES)]
    rounds = detection["rounds"]
    if detection["voting"]:
        parts.append({1: "voting", 2: "B"}.get(rounds, f"B of {rounds} rounds"))
    elif rounds > 1:
        parts.append(f"{rounds} rounds")
    parts += ["flip"] if detection["flip"] else []
    parts += [f"{detection['nms']} soft-NMS"] if detection["nms"] != "hard" else []
    return " ".join(part for part in parts if part)
