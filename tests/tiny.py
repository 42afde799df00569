"""A tiny prepared data set and a tiny model that tests share."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from ohem_tf.config import paper
from ohem_tf.data import records
from ohem_tf.files import write_json
from ohem_tf.models import backbones
from ohem_tf.models import fast_rcnn as detector
from ohem_tf.models import heads as roi_head
from ohem_tf.models.pyramid import FeaturePyramid
from ohem_tf.models.rpn import RegionProposalNetwork
from ohem_tf.settings import RPNSettings

CLASSES = ("disc", "square", "bar")


def make_record(number: int, height: int, width: int, objects: int, seed: int = 0):
    """An image of noise with coloured rectangles, and proposals around them."""
    rng = np.random.default_rng([seed, number])
    image = rng.integers(60, 120, (height, width, 3), dtype=np.uint8)
    boxes, classes = np.zeros((objects, 4), np.float32), np.zeros(objects, np.int32)
    for i in range(objects):
        h, w = rng.integers(16, height // 2), rng.integers(16, width // 2)
        y, x = rng.integers(0, height - h), rng.integers(0, width - w)
        boxes[i], classes[i] = (y, x, y + h, x + w), 1 + rng.integers(len(CLASSES))
        image[y : y + h, x : x + w] = 0
        image[y : y + h, x : x + w, classes[i] - 1] = 255
    shaken = np.repeat(boxes, 6, axis=0) + rng.uniform(-6, 6, (6 * objects, 4))
    corners = rng.uniform(0, 0.6, (20, 2)) * [height, width]
    sizes = rng.uniform(0.2, 0.4, (20, 2)) * [height, width]
    proposals = np.concatenate([shaken, np.concatenate([corners, corners + sizes], axis=1)])
    limits = [height, width, height, width]
    proposals = np.clip(proposals, 0, limits).astype(np.float32)
    return records.Record(
        image_id=f"{number:06d}",
        encoded=tf.io.encode_png(image).numpy(),
        image_format="png",
        height=height,
        width=width,
        boxes=boxes,
        classes=classes,
        difficult=np.zeros(objects, bool),
        crowd=np.zeros(objects, bool),
        area=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        proposals=proposals,
    )


def write_dataset(
    directory, splits: dict[str, list], classes=CLASSES, category_ids=None, annotated=True
):
    """A prepared data set of records, one shard per split."""
    info = {"classes": list(classes), "category_ids": category_ids, "splits": {}}
    info["format"] = "voc" if category_ids is None else "coco"
    for split, members in splits.items():
        name = records.shard_name(split, 0, 1)
        examples = (records.to_example(record, classes) for record in members)
        records.write_shard(directory / name, examples)
        info["splits"][split] = {
            "annotated": annotated,
            "shards": [{"file": name, "records": len(members)}],
            "image_ids": " ".join(record.image_id for record in members),
        }
    write_json(directory / "dataset.json", info)
    return directory


def mirrored(devices: int) -> tf.distribute.MirroredStrategy:
    """Replicas on logical CPUs, as `train` makes them."""
    names = [f"CPU:{i}" for i in range(devices)]
    return tf.distribute.MirroredStrategy(names, tf.distribute.ReductionToOneDevice())


def backbone(channels: int = 8) -> backbones.Backbone:
    """Four strided convolutions."""
    images = keras.Input((None, None, 3))
    x = images
    for i in range(4):
        x = keras.layers.Conv2D(
            channels, 3, strides=2, padding="same", activation="relu", name=f"conv{i + 1}"
        )(x)
    return backbones.Backbone(keras.Model(images, x, name="tiny"), "tf", frozen_until="conv1")


def vgg_preset(folder) -> str:
    """A local KerasHub preset, written to `folder`: a VGG with a few thousand weights."""
    keras_hub = pytest.importorskip("keras_hub", reason="needs the extra [hub]")
    network = keras_hub.models.VGGBackbone(
        stackwise_num_repeats=[1, 1, 1, 1, 1], stackwise_num_filters=[8, 8, 8, 8, 8]
    )
    network.save_to_preset(str(folder))
    return str(folder)


def model(sampler=None, dropout=0.5, num_classes=3, pool_size=3, pooling="max"):
    """A detector of a few thousand weights, the same for every call."""
    keras.utils.set_random_seed(0)
    conv = backbone()
    head = roi_head.RoIHead(num_classes, conv.channels, pool_size, (16, 16), dropout)
    head.set_target_statistics(np.zeros((num_classes + 1, 4)), np.full((num_classes + 1, 4), 0.2))
    return detector.FastRCNN(conv, head, sampler, pooling)


def config(directory, **changes):
    """A config for the data set of conftest.py, to be used with the fixture `tiny_backbone`."""
    made = paper()
    made.update_from_flattened_dict(
        {
            "data.dir": str(directory),
            "data.train_split": "train",
            "data.eval_split": "val",
            "data.shortest_sides": (48, 64),
            "data.longest_side": 96,
            "backbone.weights": "none",
            "head.pool_size": 3,
            "head.hidden": (16, 16),
            "train.rois_per_step": 16,
            "train.steps": 7,
            "train.learning_rate": 0.01,
            "train.decay_steps": (),
            "train.checkpoint_every": 2,
            "train.eval_every": 0,
            "train.log_every": 2,
            "train.pictures_every": 0,
            "detection.shortest_sides": (64,),
            "detection.longest_side": 96,
            "detection.score_threshold": 0.0,
            **changes,
        }
    )
    return made


def pyramid_backbone(channels: int = 8) -> backbones.Backbone:
    """Convolutions of strides 4, 8 and 16 under a pyramid that goes on to 32."""
    images = keras.Input((None, None, 3))
    x, maps = images, []
    for i, strides in enumerate((4, 2, 2)):
        x = keras.layers.Conv2D(
            channels, 3, strides=strides, padding="same", activation="relu", name=f"conv{i + 1}"
        )(x)
        maps.append(x)
    network = keras.Model(images, maps, name="tiny")
    return backbones.Backbone(network, "tf", pyramid=FeaturePyramid([channels] * 3, 1, channels))


def faster_rcnn(sampler=None, pyramid=False, **settings):
    """A detector with a region proposal network."""
    keras.utils.set_random_seed(0)
    conv = pyramid_backbone() if pyramid else backbone()
    head = roi_head.RoIHead(3, conv.channels, 3, (16, 16), 0.0)
    head.set_target_statistics(np.zeros((4, 4)), np.full((4, 4), 0.2))
    settings = {
        "channels": 8,
        "anchor_scales": (2.0, 4.0) if not pyramid else (4.0,),
        "anchors_per_image": 32,
        "min_size": 4.0,
        "train_candidates": 100,
        "train_proposals": 40,
        "test_candidates": 60,
        "test_proposals": 20,
        **settings,
    }
    proposer = RegionProposalNetwork(conv.channels, conv.strides, RPNSettings(**settings))
    return detector.FastRCNN(conv, head, sampler, proposer=proposer)
