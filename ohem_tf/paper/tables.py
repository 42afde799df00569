"""Results beside the paper's: the runs, the tables that show them, and the files of the tables."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tabulate import tabulate

from ohem_tf import experiment
from ohem_tf.errors import InputError
from ohem_tf.files import atomic, write_json
from ohem_tf.paper import published
from ohem_tf.paper.setting import Setting, describe
from ohem_tf.workdir import COMPARED_METRICS, COMPARISON, CONFIG, compared_workdir

_COCO = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_KEYS: dict[str, Any] = {
    "mAP": (int, float, type(None)),
    "AP": dict,
    "method": str,
    "iou_threshold": (int, float),
    "images": int,
    "coco": dict,
    "settings": dict,
}


class Run(NamedTuple):
    """One evaluation of one model.

    Attributes:
      name: short, of the workdir or the file.
      setting: how it was trained and evaluated.
      metrics: what metrics.json holds.
      row: the row of the paper to compare it with, or None.
    """

    name: str
    setting: Setting
    metrics: Mapping[str, Any]
    row: published.Row | None


class Table(NamedTuple):
    """A table; `name` is that of its CSV file. Numbers are percent where the column says so."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[str | int | float]]


def read_run(path: str) -> Run:
    """Reads an evaluation.

    Args:
      path: a workdir, or a file in one.

    Raises:
      InputError: there are no metrics, or they are not what ohem_tf.evaluate writes.
    """
    path = os.path.normpath(path)
    is_folder = os.path.isdir(path)
    file = os.path.join(path, "metrics.json") if is_folder else path
    workdir = path if is_folder else os.path.dirname(path) or "."
    try:
        with open(file, encoding="utf-8") as stream:
            metrics = json.load(stream)
    except OSError as error:
        raise InputError(f"--workdirs: {file}: {error.strerror}; run ohem_tf.evaluate") from error
    except ValueError as error:
        raise InputError(f"--workdirs: {file} is not json ({error})") from error
    for key, kinds in _KEYS.items():
        if not (isinstance(metrics, dict) and isinstance(metrics.get(key, ...), kinds)):
            raise InputError(
                f'--workdirs: {file} has no "{key}" as ohem_tf.evaluate writes it; evaluate again'
            )
    if not os.path.exists(os.path.join(workdir, CONFIG)):
        raise InputError(
            f"--workdirs: there is no {CONFIG} beside {file}; metrics must lie in the "
            "workdir of their training"
        )
    config = experiment.trained_config(None, {}, workdir)
    try:
        setting = describe(config, metrics["settings"])
    except KeyError as error:
        raise InputError(f'--workdirs: {file}: "settings" lacks {error}; evaluate again') from error
    name = os.path.basename(os.path.abspath(workdir))
    if os.path.basename(file) != "metrics.json":
        name = os.path.splitext(os.path.basename(file))[0]
    return Run(name, setting, metrics, published.row_for(setting, metrics))


def read_runs(paths: Sequence[str]) -> list[Run]:
    """Reads evaluations, as `read_run`; where two have one name, all go by their paths.

    A path may be the workdir of ohem_tf.compare: it stands for all its runs.
    """
    paths = [one for path in paths for one in _evaluations(path)]
    runs = [read_run(path) for path in paths]
    if len({result.name for result in runs}) < len(runs):
        runs = [r._replace(name=path) for r, path in zip(runs, paths, strict=True)]
    return runs


def _evaluations(path: str) -> list[str]:
    """`path`, or the metrics files of the runs that the comparison there has made itself."""
    if not os.path.exists(os.path.join(path, COMPARISON)):
        return [path]
    with open(os.path.join(path, COMPARISON), encoding="utf-8") as file:
        runs = json.load(file)["runs"]
    workdirs = [compared_workdir(path, run["method"], run["seed"]) for run in runs]
    files = [os.path.join(workdir, COMPARED_METRICS) for workdir in workdirs]
    return [file for file in files if os.path.exists(file)] or [path]


def build(runs: Sequence[Run]) -> list[Table]:
    """All tables of these runs."""
    return [overview(runs), *per_class(runs), *ablation(runs), *coco(runs)]


def overview(runs: Sequence[Run]) -> Table:
    """All runs, one in a row (the paper's tables 1, 3 and 4)."""
    columns = ["run", "setting", "test", "learning rate", "checkpoint", "other changes", "mAP %"]
    rows = [
        [
            result.name,
            result.setting.label,
            result.setting.test,
            f"{result.setting.learning_rate:g}",
            result.metrics["settings"]["checkpoint"],
            ", ".join(result.setting.changes),
            _percent(result.metrics["mAP"]),
            *_paper(result),
        ]
        for result in runs
    ]
    title = "mAP (tables 1, 3, 4; release: the authors' own reruns)"
    return Table("overview", title, [*columns, "paper mAP %", "paper's table"], rows)


def per_class(runs: Sequence[Run]) -> list[Table]:
    """AP of each class, a table for each list of classes (the paper's tables 3 and 4)."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for result in runs:
        groups.setdefault(tuple(result.metrics["AP"]), []).append(result)
    tables = []
    for number, (classes, members) in enumerate(groups.items(), 1):
        columns = ["class"]
        values: list[list[Any]] = [[*classes, "mAP"]]
        for result in members:
            columns.append(f"{result.name} %")
            found = (*result.metrics["AP"].values(), result.metrics["mAP"])
            values.append([_percent(x) for x in found])
            if result.row and result.row.ap:
                columns.append("paper %")
                values.append([*(result.row.ap[c] for c in classes), result.row.mean_ap])
        name = "per_class" if len(groups) == 1 else f"per_class_{number}"
        rows = [list(row) for row in zip(*values, strict=True)]
        tables.append(Table(name, "AP per class (tables 3, 4)", columns, rows))
    return tables


def ablation(runs: Sequence[Run]) -> list[Table]:
    """Which of multi-scale training, multi-scale testing and B a run has (the paper's table 6).

    No table if no run has any of them.
    """
    rows = []
    for result in runs:
        training, testing = result.setting.training, result.setting.testing.split()
        if training in ("", "M") and {"M", "B"}.issuperset(testing):
            plain = dataclasses.replace(result.setting, training="", testing="").label
            plain = ", ".join([plain, *result.setting.changes])
            has = (training == "M", "M" in testing, "B" in testing)
            marks = ["x" if mark else "" for mark in has]
            rows.append([plain, *marks, _percent(result.metrics["mAP"]), *_paper(result)])
    if not any("x" in row for row in rows):
        return []
    columns = ["setting", "M in training", "M in testing", "B", "mAP %", "paper mAP %", "table"]
    rows.sort(key=lambda row: row[:4])
    return [Table("ablation", "Multi-scale (M), iterative regression (B) (table 6)", columns, rows)]


def coco(runs: Sequence[Run]) -> list[Table]:
    """COCO's metrics, a run's paper row below it (the paper's table 5).

    Of the runs that were evaluated with config.evaluation.coco; no table if none was.
    """
    rows = []
    for result in (run for run in runs if run.metrics["coco"]):
        values = [_percent(result.metrics["coco"].get(name)) for name in _COCO]
        rows.append([result.name, result.setting.test, *values])
        if result.row and result.row.coco:
            values = [result.row.coco.get(name, "") for name in _COCO]
            rows.append([f"paper: {result.setting.label}", "COCO test-dev", *values])
    columns = ["run", "test", *(f"{name} %" for name in _COCO)]
    return [Table("coco", "COCO metrics (table 5)", columns, rows)] if rows else []


def markdown(tables: Sequence[Table]) -> str:
    """The tables as Markdown; percent with one decimal, as in the paper."""
    parts = []
    for table in tables:
        rows = [[f"{v:.1f}" if isinstance(v, float) else v for v in row] for row in table.rows]
        text = tabulate(rows, table.columns, tablefmt="github", disable_numparse=True)
        parts.append(f"## {table.title}\n\n{text}")
    return "\n\n".join([*parts, published.note()]) + "\n"


def write(tables: Sequence[Table], folder: str) -> None:
    """Writes tables.md, tables.json and NAME.csv of each table to `folder`, which exists."""
    page = os.path.join(folder, "tables.md")
    with atomic(page) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(markdown(tables))
    content = {table.name: table._asdict() for table in tables}
    write_json(os.path.join(folder, "tables.json"), {"note": published.note(), "tables": content})
    for table in tables:
        path = os.path.join(folder, f"{table.name}.csv")
        with atomic(path) as new, open(new, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([table.columns, *table.rows])


def _percent(value: float | None) -> float | str:
    return "no data" if value is None else round(100.0 * value, 2)


def _paper(result: Run) -> list[str | float]:
    """mAP of the paper and where it stands, or two empty cells."""
    row = result.row
    return ["", ""] if row is None or row.mean_ap is None else [row.mean_ap, row.table]
