"""A detector whose weights are known at every step: each takes the same off all of them."""

import json

import keras
import numpy as np
import tensorflow as tf
import tiny

from ohem_tf.training import callbacks
from ohem_tf.training.log import TrainingLog
from ohem_tf.workdir import restore

RATE = 1 / 64  # what a step takes off every weight


def train(model, steps, *used):
    """Trains `model` up to step `steps`; "loss" is the number of the step."""

    def train_step(number):
        variables = model.trainable_variables
        model.optimizer.apply([tf.ones(v.shape) for v in variables], variables)
        return {"loss": tf.cast(number, tf.float32)}

    model.train_step = train_step
    numbers = tf.data.Dataset.range(model.step + 1, steps + 1)
    model.fit(numbers, callbacks=list(used), shuffle=False, verbose=0)


def new_model():
    model = tiny.model()
    model.compile(optimizer=keras.optimizers.SGD(RATE), run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    return model


def assert_weights_of_step(path, step):
    """bbox_pred is folded: the targets of tiny.model have std 0.2 and mean 0."""
    found, start = tiny.model(), tiny.model()
    restore(found, path)
    for a, b in zip(found.trainable_variables, start.trainable_variables, strict=True):
        factor = 0.2 if "bbox_pred" in b.path else 1
        expected = factor * (b.numpy() - RATE * step)
        np.testing.assert_allclose(a.numpy(), expected, atol=1e-6, err_msg=b.path)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]


def evaluation(workdir, mean_aps, every=2, patience=0):
    """Evaluation that finds `mean_aps`, one after the other."""
    log = TrainingLog(str(workdir), images_per_step=2, log_every=10)
    found = iter(mean_aps)
    return callbacks.Evaluation(str(workdir), every, lambda: {"mAP": next(found)}, log, patience)
