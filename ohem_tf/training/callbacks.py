"""What happens around the training steps: progress, evaluation, checkpoints, snapshots."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable

import keras
import tensorflow as tf

from ohem_tf.errors import InputError, WriteError, first_line
from ohem_tf.models.keras_model import WAITED
from ohem_tf.training.log import LogWindow, TrainingLog
from ohem_tf.workdir import (
    CHECKPOINTS,
    checkpoint_of,
    repair_best,
    save_best,
    save_weights,
    snapshot_path,
)

_MEAN_AP = "eval/mAP"


class Progress(keras.callbacks.ProgbarLogger):
    """Keras' progress bar over the whole run, with the latest values instead of running means."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Draws the bar."""
        self.progbar.stateful_metrics = set(logs or ())
        super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draws it for the last time, without what the log has made `data_wait` of."""
        logs = {name: value for name, value in (logs or {}).items() if name != WAITED}
        super().on_epoch_end(epoch, logs)


class Evaluation(keras.callbacks.Callback):
    """mAP on the eval split every `every` steps and at the end; keeps the weights of the best.

    An evaluation is done once its line stands in the log, which is written last: a run that was
    killed before that does it again when it resumes.
    """

    def __init__(
        self, workdir: str, every: int, evaluate: Callable[[], dict], log: TrainingLog
    ) -> None:
        """`every` 0 evaluates only at the end; `evaluate` returns metrics that hold "mAP"."""
        super().__init__()
        self._workdir = workdir
        self._every = every
        self._evaluate = evaluate
        self._log = log
        self._evaluated = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Makes up for a run that was killed in the evaluation of the step it resumes from."""
        repair_best(self._workdir)
        step = self.model.step
        if step > 0 and self._every and step % self._every == 0:
            self._run_unless_done()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluates at every `every`-th step."""
        if self._every and self.model.step % self._every == 0:
            print(flush=True)  # ends the line of the progress bar
            self._run()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Evaluates the final weights."""
        if self._evaluated != self.model.step:
            self._run()

    def finish(self, model: keras.Model) -> None:
        """Evaluates a model whose training had ended but for this."""
        self.set_model(model)
        self._log.drop_after(model.step)
        repair_best(self._workdir)
        self._run_unless_done()

    def _run_unless_done(self) -> None:
        if self.model.step not in self._log.read(_MEAN_AP):
            self._run()

    def _run(self) -> None:
        self._evaluated = step = self.model.step
        mean_ap = self._evaluate()["mAP"]
        if mean_ap is not None:
            earlier = self._log.read(_MEAN_AP)
            if all(mean_ap > value for at, value in earlier.items() if at < step):
                save_best(self.model, self._workdir, step, mean_ap)
            self._log.write(step, {_MEAN_AP: mean_ap})
            print(f"step {step}: mAP {mean_ap:.4f}", flush=True)
        self._log.restart_clock()


class Checkpoints(keras.callbacks.Callback):
    """Saves weights, momentum, step and the window of the log; keeps the last few.

    Every `every` steps, and at the end. One that is half written, since the process was killed or
    the disk is full, is none: the one before stays the latest.
    """

    def __init__(
        self,
        model: keras.Model,
        workdir: str,
        every: int,
        keep: int,
        window: LogWindow | None = None,
    ) -> None:
        super().__init__()
        self.set_model(model)
        self._folder = os.path.join(workdir, CHECKPOINTS)
        self._state = checkpoint_of(model, model.optimizer)
        self._log = {} if window is None else {"log_window": window}
        self._manager = tf.train.CheckpointManager(
            checkpoint_of(model, model.optimizer, **self._log), self._folder, max_to_keep=keep
        )
        self._every = every

    @property
    def latest(self) -> str | None:
        """Path of the newest checkpoint."""
        return tf.train.latest_checkpoint(self._folder)

    def restore(self) -> bool:
        """Restores the newest checkpoint, if there is one.

        Raises:
          InputError: it does not fit the model of this config.
        """
        path = self.latest
        if path is None:
            return False
        try:
            self._state.restore(path).assert_existing_objects_matched().expect_partial()
            tf.train.Checkpoint(**self._log).restore(path).expect_partial()
        except (ValueError, AssertionError, tf.errors.OpError) as error:
            raise InputError(
                f"{path} does not fit the model of this config: "
                f"{first_line(error)}; give another --workdir"
            ) from error
        return True

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Removes what a save that was killed has left."""
        self._remove_unfinished()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Saves at every `every`-th step."""
        if self.model.step % self._every == 0:
            self.save()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Saves the final state."""
        self.save()

    def save(self) -> None:
        """Saves now.

        Raises:
          WriteError: the disk is full, say.
          InputError: a weight is not finite (ReLU and max pooling can hide that from the loss).
            In either case the last good checkpoint stays.
        """
        step = self.model.step
        for variable in self.model.variables:
            if not tf.reduce_all(tf.math.is_finite(variable)):
                raise InputError(
                    f"the weights {variable.path} are not finite after step {step}; training "
                    f"stopped, last good checkpoint: {self.latest or 'none yet'}; a lower "
                    "config.train.learning_rate or more config.train.warmup_steps may help"
                )
        path = os.path.join(self._folder, f"ckpt-{step}")
        if self.latest != path:
            try:
                self._manager.save(checkpoint_number=step)
            except (OSError, tf.errors.OpError) as error:
                self._remove_unfinished()
                raise WriteError(path, first_line(error)) from error

    def _remove_unfinished(self) -> None:
        """Removes what TensorFlow had written of a checkpoint; large, and never used again."""
        for name in os.listdir(self._folder) if os.path.isdir(self._folder) else ():
            if re.fullmatch(r"ckpt-\d+(_temp|\..*\.tempstate\d+)", name):
                path = os.path.join(self._folder, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


class Snapshots(keras.callbacks.Callback):
    """Keeps the weights of every `every`-th step, and of the last one, for good.

    In WORKDIR/snapshots/step-00020000.weights.h5, see `save_weights`.
    """

    def __init__(self, workdir: str, every: int) -> None:
        """`every` 0 keeps none."""
        super().__init__()
        self._workdir = workdir
        self._every = every
        self._saved = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Makes up for a run that was killed between a checkpoint and its snapshot."""
        step = self.model.step
        if step > 0 and not os.path.exists(snapshot_path(self._workdir, step)):
            self.on_train_batch_end(0)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Saves at every `every`-th step."""
        if self._every and self.model.step % self._every == 0:
            self._save()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Saves the final weights."""
        if self._every and self._saved != self.model.step:
            self._save()

    def finish(self, model: keras.Model) -> None:
        """Saves the final weights of a model whose training had ended but for this."""
        if not os.path.exists(snapshot_path(self._workdir, model.step)):
            self.set_model(model)
            self.on_train_end()

    def _save(self) -> None:
        self._saved = step = self.model.step
        path = snapshot_path(self._workdir, step)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        save_weights(self.model, path)
