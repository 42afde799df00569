"""Runs of the paper's rows, as the tests of its tables describe them."""

import json

from ohem_tf.data.joined import split_name
from ohem_tf.paper import recipes, setting


def made(config, split=None, checkpoint=None):
    """What evaluate stores in "settings"."""
    return {
        "split": split_name(config.data.dir, split or config.data.eval_split),
        "checkpoint": checkpoint or f"ckpt-{config.train.steps}",
        "detection": json.loads(json.dumps(config.detection.to_dict())),
    }


def describe(config, **how):
    return setting.describe(config, made(config, **how))


def voc07(*changes, **fields):
    config = recipes.voc07()
    config.data.dir = "/records/voc07"
    for change in changes:
        change(config)
    config.update_from_flattened_dict(fields)
    return config
