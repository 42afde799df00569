"""Evaluated runs, as their workdirs hold them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ohem_tf import experiment
from ohem_tf.errors import InputError
from ohem_tf.evaluation import detections, voc
from ohem_tf.workdir import (
    COMPARED_METRICS,
    COMPARISON,
    DETECTIONS,
    METRICS,
    compared_workdir,
    load_saved,
    read_log,
)

_NO_COMPARISON = "is not what ohem_tf.compare writes; run it again"
_COMPARISON = ("methods", "runs", "differences", "search", "data", "command")
_EVALUATE = "run python -m ohem_tf.evaluate --config=FILE --workdir="


@dataclasses.dataclass(frozen=True)
class Run:
    """A training that was evaluated.

    Attributes:
      name: short, and another than that of every other run.
      workdir: of the training.
      config: that it was trained with; a field that was not there yet has its default.
      classes: names of the classes 1..K.
      versions: {package: version} in training.
      log: see `workdir.read_log`.
      method, iou_threshold: how AP was computed, see `evaluation.report.metrics`.
      image_ids: of the images evaluated on.
      detections: in them, see `evaluation.detections.load`.
      settings: how the detections were made.
    """

    name: str
    workdir: str
    config: Mapping[str, Any]
    classes: tuple[str, ...]
    versions: Mapping[str, str]
    log: Sequence[Mapping[str, Any]]
    method: str
    iou_threshold: float
    image_ids: Sequence[str]
    detections: Sequence[Mapping[str, np.ndarray]]
    settings: Mapping[str, Any]

    @property
    def split(self) -> str:
        """The split evaluated on, as `joined.split_name` names it."""
        return str(self.settings["split"])


def read_runs(paths: Sequence[str]) -> tuple[list[Run], dict[str, Any] | None]:
    """Reads what a report is on.

    Args:
      paths: workdirs that were evaluated, or metrics files in them (evaluate --output), the first
        the one to report on. The folder of a comparison stands for two of its runs: the first seed
        of its second method (of its only one, if there is one), and that of the method that it
        compares with.

    Returns:
      The runs, and what the json of the first comparison among `paths` holds, None without one.

    Raises:
      InputError: a workdir without detections or of another kind; runs of other classes, or
        evaluated on other images, than the first.
    """
    comparison, files = None, []
    for path in paths:
        if os.path.exists(os.path.join(path, COMPARISON)):
            content = _read_json(os.path.join(path, COMPARISON), *_COMPARISON)
            comparison = comparison or content
            files += _compared(path, content)
        else:
            files.append(_metrics_file(path))
    files = list(dict.fromkeys(os.path.abspath(file) for file in files))
    runs = [_read(file, name) for file, name in zip(files, _names(files), strict=True)]
    for run in runs[1:]:
        _check_same(runs[0], run)
    return runs, comparison


def _compared(folder: str, content: Mapping[str, Any]) -> list[str]:
    """Metrics files of the first seed of two methods, the reference last."""
    seeds: dict[str, int] = {}
    found = []
    try:
        for entry in content["runs"]:
            seeds.setdefault(entry["method"], entry["seed"])
        chosen = [(m, seeds[m]) for m in (*content["methods"][1:2], *content["methods"][:1])]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}/{COMPARISON}: {_NO_COMPARISON}") from error
    for method, seed in chosen:
        file = os.path.join(compared_workdir(folder, method, seed), COMPARED_METRICS)
        if os.path.exists(file):  # not of a run that was made elsewhere, and reused
            found.append(file)
    if not found:
        raise InputError(
            f"{folder}: its runs were made elsewhere; give the workdirs of evaluated runs too"
        )
    return found


def _metrics_file(path: str) -> str:
    if not os.path.isdir(path):
        return path
    for name in (METRICS, COMPARED_METRICS):
        if os.path.exists(os.path.join(path, name)):
            return os.path.join(path, name)
    raise InputError(f"{path}: there is no {METRICS}; {_EVALUATE}{path}")


def _read(file: str, name: str) -> Run:
    workdir, base = os.path.split(file)
    metrics = _read_json(file, "method", "iou_threshold")
    if metrics["method"] not in voc.METHODS or not isinstance(metrics["iou_threshold"], float):
        raise InputError(f"{file}: is not what ohem_tf.evaluate writes; {_EVALUATE}{workdir}")
    saved = load_saved(workdir)
    found = DETECTIONS if base == METRICS else f"{os.path.splitext(base)[0]}.{DETECTIONS}"
    image_ids, guesses, settings = detections.load(os.path.join(workdir, found))
    for field in ("split", "checkpoint"):
        if not isinstance(settings.get(field), str):
            raise InputError(f'{workdir}/{found}: has no "{field}"; {_EVALUATE}{workdir}')
    return Run(
        name,
        workdir,
        experiment.trained_config(None, {}, workdir).to_dict(),
        tuple(saved["classes"]),
        saved["versions"],
        read_log(workdir),
        metrics["method"],
        metrics["iou_threshold"],
        image_ids,
        guesses,
        settings,
    )


def _read_json(path: str, *fields: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); give an evaluated workdir, or a metrics file in one"
        ) from error
    for field in fields:
        if not isinstance(content, dict) or field not in content:
            raise InputError(f'{path}: has no "{field}"; expected a file that this project wrote')
    return content


def _check_same(first: Run, run: Run) -> None:
    if run.classes != first.classes:
        raise InputError(
            f"{run.workdir}: its classes are {', '.join(run.classes)}, those of {first.workdir} "
            f"{', '.join(first.classes)}; expected the same"
        )
    if list(run.image_ids) != list(first.image_ids):
        raise InputError(
            f"{run.workdir}: was evaluated on {run.split}, {first.workdir} on {first.split}, and "
            "the images are not the same; evaluate both on one split"
        )


def _names(files: Sequence[str]) -> list[str]:
    """The last parts of their workdirs' paths, as many as tell them apart; files by theirs too."""
    paths = []
    for file in files:
        folder, base = os.path.split(file)
        plain = base in (METRICS, COMPARED_METRICS)
        paths.append(folder if plain else os.path.splitext(file)[0])
    parts = [path.strip(os.sep).split(os.sep) for path in paths]
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return paths
