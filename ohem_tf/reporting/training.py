"""How the runs of a report were trained: the curves of their logs, their settings."""

from __future__ import annotations

from collections.abc import Sequence

from ohem_tf.config import flat
from ohem_tf.reporting import charts
from ohem_tf.reporting.charts import COLOURS, Series
from ohem_tf.reporting.content import training_curves
from ohem_tf.reporting.runs import Run
from ohem_tf.web_page import escape, escaped, more, table

_CURVES = {
    "loss/hard": "Loss of the selected RoIs (what is minimised)",
    "loss/all_rois": "Loss over all RoIs",
    "cls": "Classification loss of the selected RoIs",
    "box": "Box loss of the selected RoIs",
    "fg": "Share of foreground among the selected RoIs",
    "eval/mAP": "mAP during training",
    "learning_rate": "Learning rate",
    "images/s": "Images a second",
}
_TABLE_STEPS = 12  # rows of the table of training curves


def curves(runs: Sequence[Run]) -> str:
    """The curves of the log, those of one kind in one chart."""
    logs = [training_curves(run.log) for run in runs]
    names = [name for name in _CURVES if any(name in log for log in logs)]
    names += sorted({name for log in logs for name in log} - set(names))
    figures = []
    for name in names:
        series = [
            Series(run.name, log[name], i % COLOURS)
            for i, (run, log) in enumerate(zip(runs, logs, strict=True))
            if name in log
        ]
        figures.append(charts.lines(_CURVES.get(name, name), series, "step", name, every=3))
    note = ""
    if len({run.config["sampler"] for run in runs}) > 1:
        note = (
            '<p class="soft">Losses of the selected RoIs are of other RoIs with each sampler: they '
            "do not say which run is better. The loss over all RoIs compares, where it is known."
            "</p>"
        )
    tables = [
        table(f"{escape(run.name)}: the log in {_TABLE_STEPS} steps", *_log_table(names, run))
        for run in runs
    ]
    return (
        f"{note}{charts.legend([run.name for run in runs])}"
        f'<div class="charts">{"".join(figures)}</div>{more("The numbers", "".join(tables))}'
    )


def _log_table(names: Sequence[str], run: Run) -> tuple[list[str], list[list[str]]]:
    curves = training_curves(run.log, _TABLE_STEPS)
    steps = sorted({step for curve in curves.values() for step, _ in curve})
    cells = {name: dict(curves[name]) for name in names if name in curves}
    rows = [
        [f"{step:.0f}", *(charts.number(c[step]) if step in c else "" for c in cells.values())]
        for step in steps
    ]
    return ["step", *map(escape, cells)], rows


def settings(runs: Sequence[Run]) -> str:
    """Fields that differ between the runs, all fields, versions."""
    fields = [flat(run.config) for run in runs]
    rows = [[name, *(one[name] for one in fields)] for name in fields[0]]
    columns = ["field", *(run.name for run in runs)]
    apart = [row for row in rows if len({str(value) for value in row[1:]}) > 1]
    versions = list(dict.fromkeys(name for run in runs for name in run.versions))
    packages = [[name, *(run.versions.get(name, "absent") for run in runs)] for name in versions]
    parts = []
    if len(runs) > 1:
        parts.append(
            table("Fields that differ", *escaped(columns, apart))
            if apart
            else "<p>No difference.</p>"
        )
    parts.append(more("All fields", table("Config", *escaped(columns, rows))))
    parts.append(table("Versions in training", *escaped(["package", *columns[1:]], packages)))
    places = [[run.name, run.workdir, run.config["data"]["dir"]] for run in runs]
    parts.append(table("Where", *escaped(["run", "workdir", "records"], places)))
    return "".join(parts)
