"""One checkout that detects, in a process of its own: a side of benchmarks/inference.py.

Run as a script by `Side`, with the checkout's packages; it uses what every version has.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import numpy as np

_M = {"shortest_sides": (480, 576, 688, 864, 1000)}  # the paper's scales for testing
_B = {"rounds": 2, "voting": True}
_EXPORTED = "one scale (SavedModel)"
KINDS: dict[str, dict[str, Any]] = {
    "one scale": {},
    _EXPORTED: {},
    "five scales (M)": _M,
    "one scale + B": _B,
    "M + B": _M | _B,
}
_STAGES = ("convolutions", "RoIs", "NMS and voting")


class Side:
    """The process."""

    def __init__(self, checkout: str, workdir: str, kinds: Sequence[str]) -> None:
        """Starts it, loads the model of `workdir` and traces each kind of detection.

        Args:
          checkout: whose code runs.
          workdir: of a trained model.
          kinds: of `KINDS`.
        """
        with Listener(family="AF_UNIX") as listener:
            self._process = subprocess.Popen(
                [sys.executable, os.path.abspath(__file__), listener.address, workdir, *kinds],
                cwd=checkout,
                env=os.environ | {"PYTHONPATH": checkout},
            )
            self._connection = listener.accept()
        self._connection.recv()

    def detect(
        self, kind: str, image: np.ndarray, proposals: np.ndarray
    ) -> tuple[float, list[np.ndarray]]:
        """Seconds, and boxes, scores and classes of the detections."""
        return self._ask("detect", kind, image, proposals)

    def stages(self, image: np.ndarray, proposals: np.ndarray) -> dict[str, dict[str, float]]:
        """{kind: {stage: seconds}}, once."""
        return self._ask("stages", image, proposals)

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.wait()

    def _ask(self, *question: Any) -> Any:
        self._connection.send(question)
        return self._connection.recv()


class _Detectors:
    """What answers in the process."""

    def __init__(self, workdir: str, kinds: Sequence[str]) -> None:
        from export.saved_model import export
        from ohem_tf import experiment
        from ohem_tf.inference.exported import ExportedPredictor
        from ohem_tf.inference.predict import Predictor

        if importlib.util.find_spec("ohem_tf.allocator"):  # as evaluate and detect do then
            importlib.import_module("ohem_tf.allocator").keep_freed_memory()
        config = experiment.trained_config(None, {}, workdir)
        self._model = experiment.load_model(config, workdir)
        settings = experiment.detection_settings(config)
        self._settings = {kind: dataclasses.replace(settings, **KINDS[kind]) for kind in kinds}
        self._run: dict[str, Callable] = {
            kind: Predictor(self._model, changed) for kind, changed in self._settings.items()
        }
        if _EXPORTED in kinds:
            with tempfile.TemporaryDirectory() as folder:
                self._run[_EXPORTED] = ExportedPredictor(export(config, workdir, folder))
        for run in self._run.values():
            run(np.zeros((60, 80, 3), np.uint8), np.float32([[0, 0, 50, 50]]))

    def detect(self, kind: str, image: np.ndarray, proposals: np.ndarray) -> tuple:
        start = time.perf_counter()
        found = self._run[kind](image, proposals)
        return time.perf_counter() - start, list(found)

    def stages(self, image: np.ndarray, proposals: np.ndarray) -> dict[str, dict[str, float]]:
        return {
            kind: dict(zip(_STAGES, self._stages(kind, image, proposals), strict=True))
            for kind in self._run
            if kind != _EXPORTED
        }

    def _stages(self, kind: str, image: np.ndarray, proposals: np.ndarray) -> list[float]:
        import tensorflow as tf

        from ohem_tf import nms
        from ohem_tf.inference import detection, multi_scale

        settings = self._settings[kind]
        specs = [tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([None, 4], tf.float32)]

        def features(image: tf.Tensor, proposals: tf.Tensor) -> list[tf.Tensor]:
            scales = settings.shortest_sides, settings.longest_side, settings.flip
            views = multi_scale.make_views(self._model, image, *scales)
            return [tf.reduce_sum(view.features[0]) for view in views]

        def collect(image: tf.Tensor, proposals: tf.Tensor) -> nms.Candidates:
            return detection.collect(self._model, image, proposals, settings)

        parts = [tf.function(f, input_signature=specs) for f in (features, collect)]

        @tf.function(reduce_retracing=True)
        def select(*found: tf.Tensor) -> detection.Detections:
            return detection.select(nms.Candidates(*found), settings)

        def times() -> list[float]:
            ends = [time.perf_counter()]
            for part in parts:
                found = part(image, proposals)
                found[-1].numpy()
                ends.append(time.perf_counter())
            select(*found).boxes.numpy()
            ends.append(time.perf_counter())
            convolutions, collected, selected = np.diff(ends)
            return [convolutions, max(collected - convolutions, 0.0), selected]

        times()  # traces
        return times()


def _answer(connection: Connection, workdir: str, kinds: Sequence[str]) -> None:
    detectors = _Detectors(workdir, kinds)
    connection.send("ready")
    while True:
        try:
            what, *arguments = connection.recv()
        except EOFError:
            return
        connection.send(getattr(detectors, what)(*arguments))


if __name__ == "__main__":
    with Client(sys.argv[1]) as _connection:
        _answer(_connection, sys.argv[2], sys.argv[3:])
