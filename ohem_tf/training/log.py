"""The log of a training: means over a few steps, in WORKDIR/log.jsonl and for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ohem_tf.errors import WriteError, first_line
from ohem_tf.files import atomic, writing
from ohem_tf.models.keras_model import WAITED
from ohem_tf.training.loss_scale import LossScaledSGD
from ohem_tf.workdir import LOG, TENSORBOARD

CLOCKED = ("images/s", "data_wait")  # what two runs that are equal otherwise differ in


class LogWindow(tf.train.experimental.PythonState):
    """The values of the steps since the last line of the log.

    Part of a checkpoint, so that the next line of a resumed run is the one of an unbroken run.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def serialize(self) -> str:
        """For a checkpoint; json has every bit of a float."""
        return json.dumps(self.steps)

    def deserialize(self, string_value: bytes) -> None:
        """The inverse of `serialize`."""
        self.steps = json.loads(string_value)


class TrainingLog(keras.callbacks.Callback):
    """Means over `log_every` steps, to the progress bar, TensorBoard and WORKDIR/log.jsonl.

    Adds `learning_rate`, `images/s`, `data_wait` (the share of their time that the steps waited for
    data) and, in float16, `loss_scale`; leaves out what is not known of one of the steps (NaN).
    Stands first in the list of callbacks: those after it see the means in `logs`.

    Attributes:
      window: what the next line is made of.
    """

    def __init__(self, workdir: str, images_per_step: int, log_every: int) -> None:
        super().__init__()
        self._path = os.path.join(workdir, LOG)
        self._folder = os.path.join(workdir, TENSORBOARD)
        self._writer = tf.summary.create_file_writer(self._folder)
        self._images_per_step = images_per_step
        self._log_every = log_every
        self.window = LogWindow()
        self._shown: dict[str, float] = {}
        self.restart_clock()

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Drops what the log holds of steps that will be done again after a resume."""
        self.drop_after(self.model.step)
        self.restart_clock()

    def drop_after(self, step: int) -> None:
        """Drops what the log holds of later steps, and a line that is half written."""
        if os.path.exists(self._path):
            kept = [line for line in self._lines() if json.loads(line)["step"] <= step]
            with atomic(self._path) as temporary, open(temporary, "w", encoding="utf-8") as file:
                file.writelines(kept)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Collects the values of a step; writes their means every `log_every` steps."""
        logs = {} if logs is None else logs
        self._waited += logs.pop(WAITED, np.nan)
        self.window.steps.append(dict(logs))
        self._timed_steps += 1
        step = self.model.step
        if step % self._log_every == 0 or not self._shown:
            self._shown = self._means()
            if step % self._log_every == 0:
                self.write(step, self._shown)
                self.window.steps = []
                self.restart_clock()
        logs.clear()
        logs.update(self._shown)

    def restart_clock(self) -> None:
        """Keeps the time before, of an evaluation say, out of images/s and data_wait."""
        self._timed_steps, self._waited, self._started = 0, 0.0, time.perf_counter()

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Adds values of a step to the log and to TensorBoard.

        Raises:
          WriteError: one of them cannot be written.
        """
        with writing(self._path), open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with self.summaries(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    @contextlib.contextmanager
    def summaries(self, step: int) -> Iterator[None]:
        """A context in which tf.summary writes to TensorBoard, as values of `step`.

        Raises:
          WriteError: they cannot be written.
        """
        try:
            with self._writer.as_default(step=step):
                yield
            self._writer.flush()
        except tf.errors.OpError as error:
            raise WriteError(self._folder, first_line(error)) from error

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
        steps = self.window.steps
        means = {name: float(np.mean([x[name] for x in steps])) for name in sorted(steps[0])}
        means = {name: value for name, value in means.items() if not np.isnan(value)}
        means["learning_rate"] = float(self.model.optimizer.learning_rate)
        if isinstance(self.model.optimizer, LossScaledSGD):
            means["loss_scale"] = float(tf.convert_to_tensor(self.model.optimizer.scale))
        seconds = time.perf_counter() - self._started
        means["images/s"] = self._timed_steps * self._images_per_step / seconds
        if not np.isnan(self._waited):
            means["data_wait"] = self._waited / seconds
        return means
