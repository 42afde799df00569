"""The training steps of a run, and what is said when they end otherwise than by the last one."""

from __future__ import annotations

import os
from collections.abc import Sequence

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from ohem_tf import experiment
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.skipping import SkippingReader
from ohem_tf.errors import InputError, WriteError, first_line
from ohem_tf.interruption import Interrupted, Interruption
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.models.roi_network import NON_FINITE
from ohem_tf.training import callbacks, dump, workers
from ohem_tf.training.distribution import distributed_batches
from ohem_tf.workdir import NON_FINITE_STEP


def fit(
    config: ConfigDict,
    workdir: str,
    model: FastRCNN,
    distribution: tf.distribute.Strategy,
    records: RecordReader,
    around: Sequence[keras.callbacks.Callback],
    checkpoints: callbacks.Checkpoints,
    interruption: Interruption,
) -> None:
    """Runs the training steps that are left.

    Args:
      config: of the experiment.
      workdir: of the training; a step that cannot be done is kept there for `ohem_tf.debug_step`.
      model: compiled, in the state of its last checkpoint.
      distribution: that it was made in.
      records: the training split.
      around: callbacks; `checkpoints` among them where this process writes.
      checkpoints: saves once more when a signal ends training.
      interruption: what signals do, see `train`.

    Raises:
      InputError: see `train`; says which checkpoint is the last good one.
      Interrupted: a signal.
    """
    first_step, stream = model.step, experiment.training_stream(config, records)
    chief = checkpoints in around
    several = isinstance(distribution, tf.distribute.MultiWorkerMirroredStrategy)
    try:
        with interruption.held_back():
            model.fit(
                distributed_batches(distribution, stream, first_step),
                steps_per_epoch=config.train.steps - first_step,
                callbacks=list(around),
                verbose=0,
                shuffle=False,
            )
            if several:  # the others stay until the chief has written everything
                workers.agree(distribution, {"the last step": model.step})
    except Interrupted:
        if chief and model.step > first_step:
            checkpoints.save()
        raise
    except WriteError as error:
        raise InputError(f"{error}; training stopped, {_last_good(checkpoints)}") from error
    except tf.errors.ResourceExhaustedError as error:
        images = ", ".join(stream.image_ids(model.step))
        raise InputError(
            f"memory ran out in step {model.step + 1}, images {images} ({first_line(error)}); "
            f"{experiment.memory_advice(config)}; {_last_good(checkpoints)}"
        ) from error
    except tf.errors.OpError as error:
        if NON_FINITE in str(error):
            step = model.step
            images = ", ".join(stream.image_ids(step))
            look = _dump(config, model, stream, workdir) if chief else ""
            raise InputError(
                f"the loss is not finite in step {step + 1}, images {images}; training stopped, "
                f"{_last_good(checkpoints)}; a lower config.train.learning_rate or more "
                f"config.train.warmup_steps may help{look}"
            ) from error
        if several and isinstance(error, workers.PEER_ERRORS):
            raise InputError(
                f"another worker is gone ({type(error).__name__}); start all workers again to go "
                f"on; {_last_good(checkpoints)}"
            ) from error
        try:
            stream.check(model.step)
        except InputError as damage:
            raise InputError(
                f"{damage} (--on_bad_record=skip goes on without it); {_last_good(checkpoints)}"
            ) from error
        raise
    finally:
        for callback in around:
            if isinstance(callback, callbacks.Progress):
                callback.on_train_end()  # so that what is said next has a line of its own
        if isinstance(records, SkippingReader):
            print(records.summary(), flush=True)


def _dump(config: ConfigDict, model: FastRCNN, stream: TrainingStream, workdir: str) -> str:
    """Keeps the step that `model` cannot do, and says how to look into it."""
    path, step = os.path.join(workdir, NON_FINITE_STEP), model.step
    (batch,) = stream.dataset(step).take(1).as_numpy_iterator()
    weights = [variable.numpy() for variable in model.weights]
    ids, classes = stream.image_ids(step), stream.records.classes
    try:
        dump.write(dump.Dump(step, config.to_dict(), classes, ids, batch, weights), path)
    except WriteError as error:
        return f" ({error})"
    return f"; python -m ohem_tf.debug_step {path} says which RoIs it is"


def _last_good(checkpoints: callbacks.Checkpoints) -> str:
    return f"last good checkpoint: {checkpoints.latest or 'none yet'}"
