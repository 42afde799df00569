"""What a training has left in its workdir, read without our code."""

import json

import tensorflow as tf


def log(workdir):
    return [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]


def checkpoint_values(workdir):
    path = tf.train.latest_checkpoint(str(workdir / "checkpoints"))
    reader = tf.train.load_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    names = [name for name in shapes if name.startswith(("weights/", "optimizer/"))]
    return {name: reader.get_tensor(name) for name in names}
