"""BCCD."""

from ml_collections import ConfigDict

from ohem_tf.config import paper


def get_config() -> ConfigDict:
    """VGG16."""
    config = paper()
    config.dtype = "bfloat16"
    config.data.train_split = "trainval"
    config.data.eval_split = "test"
    config.data.shortest_sides = (300,)
    config.data.longest_side = 400
    config.data.flip = "random"
    config.data.max_proposals = 1000
    config.backbone.weights = "hed"
    config.head.hidden = (512, 512)
    config.train.steps = 1000
    config.train.learning_rate = 0.002
    config.train.decay_steps = (800,)
    config.train.warmup_steps = 50
    config.train.checkpoint_every = 250
    config.train.eval_every = 0
    config.detection.shortest_side = 300
    config.detection.longest_side = 400
    config.evaluation.method = "area"
    return config
