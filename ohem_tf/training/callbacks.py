"""What happens around the training steps: progress, logs, evaluation, checkpoints."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ohem_tf.errors import InputError, first_line
from ohem_tf.files import atomic
from ohem_tf.training.loss_scale import LossScaledSGD
from ohem_tf.workdir import (
    CHECKPOINTS,
    LOG,
    TENSORBOARD,
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


class TrainingLog(keras.callbacks.Callback):
    """Means over `log_every` steps, to the progress bar, TensorBoard and WORKDIR/log.jsonl.

    Adds `learning_rate`, `images/s` and, in float16, `loss_scale`; leaves out what is not known of
    one of the steps (NaN). Stands first in the list of callbacks: those after it see the means in
    `logs`.
    """

    def __init__(self, workdir: str, images_per_step: int, log_every: int) -> None:
        super().__init__()
        self._path = os.path.join(workdir, LOG)
        self._writer = tf.summary.create_file_writer(os.path.join(workdir, TENSORBOARD))
        self._images_per_step = images_per_step
        self._log_every = log_every
        self._window: list[dict[str, float]] = []
        self._shown: dict[str, float] = {}
        self._started = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Drops what the log holds of steps that will be done again after a resume."""
        self.drop_after(self.model.step)
        self._started = time.perf_counter()

    def drop_after(self, step: int) -> None:
        """Drops what the log holds of later steps, and a line that is half written."""
        if os.path.exists(self._path):
            kept = [line for line in self._lines() if json.loads(line)["step"] <= step]
            with atomic(self._path) as temporary, open(temporary, "w", encoding="utf-8") as file:
                file.writelines(kept)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Collects the values of a step; writes their means every `log_every` steps."""
        logs = {} if logs is None else logs
        self._window.append(dict(logs))
        step = self.model.step
        if step % self._log_every == 0 or not self._shown:
            self._shown = self._means()
            if step % self._log_every == 0:
                self.write(step, self._shown)
                self._window, self._started = [], time.perf_counter()
        logs.clear()
        logs.update(self._shown)

    def restart_clock(self) -> None:
        """Keeps the time of an evaluation out of images/s."""
        self._window, self._started = [], time.perf_counter()

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Adds values of a step to the log and to TensorBoard."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def read(self, name: str) -> dict[int, Any]:
        """The values of one name in the log, {step: value}."""
        rows = [json.loads(line) for line in self._lines()]
        return {row["step"]: row[name] for row in rows if name in row}

    def _lines(self) -> list[str]:
        """The whole lines of the log."""
        if not os.path.exists(self._path):
            return []
        with open(self._path, encoding="utf-8") as file:
            return [line for line in file if line.endswith("\n")]

    def _means(self) -> dict[str, float]:
        means = {n: float(np.mean([w[n] for w in self._window])) for n in sorted(self._window[0])}
        means = {name: value for name, value in means.items() if not np.isnan(value)}
        means["learning_rate"] = float(self.model.optimizer.learning_rate)
        if isinstance(self.model.optimizer, LossScaledSGD):
            means["loss_scale"] = float(tf.convert_to_tensor(self.model.optimizer.scale))
        seconds = time.perf_counter() - self._started
        means["images/s"] = len(self._window) * self._images_per_step / seconds
        return means


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
    """Saves weights, momentum and step every `every` steps and at the end; keeps the last few."""

    def __init__(self, model: keras.Model, workdir: str, every: int, keep: int) -> None:
        super().__init__()
        state = checkpoint_of(model, model.optimizer)
        folder = os.path.join(workdir, CHECKPOINTS)
        self._manager = tf.train.CheckpointManager(state, folder, max_to_keep=keep)
        self._state = state
        self._every = every

    @property
    def latest(self) -> str | None:
        """Path of the newest checkpoint."""
        return self._manager.latest_checkpoint

    def restore(self) -> bool:
        """Restores the newest checkpoint, if there is one.

        Raises:
          InputError: it does not fit the model of this config.
        """
        if self.latest is None:
            return False
        try:
            self._state.restore(self.latest).assert_existing_objects_matched()
        except (ValueError, AssertionError, tf.errors.OpError) as error:
            raise InputError(
                f"{self.latest} does not fit the model of this config: "
                f"{first_line(error)}; give another --workdir"
            ) from error
        return True

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
          InputError: a weight is not finite (ReLU and max pooling can hide that from the loss).
            The last good checkpoint stays.
        """
        step = self.model.step
        for variable in self.model.variables:
            if not tf.reduce_all(tf.math.is_finite(variable)):
                raise InputError(
                    f"the weights {variable.path} are not finite after step {step}; training "
                    f"stopped, last good checkpoint: {self.latest or 'none yet'}; a lower "
                    "config.train.learning_rate or more config.train.warmup_steps may help"
                )
        if self.latest != os.path.join(self._manager.directory, f"ckpt-{step}"):
            self._manager.save(checkpoint_number=step)


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
