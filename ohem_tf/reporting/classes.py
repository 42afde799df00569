"""What a report says of the classes: AP, precision-recall curves, and which are mixed up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ohem_tf.evaluation.pr_curves import LEVELS
from ohem_tf.reporting import charts
from ohem_tf.reporting.charts import DIAGONAL, Series
from ohem_tf.reporting.content import Analysis, confusions
from ohem_tf.reporting.runs import Run
from ohem_tf.web_page import escape, more, scrolling, table

STYLE = """
.matrix td, .matrix th { padding: .15rem .35rem; border: 1px solid var(--line); }
.matrix thead th { writing-mode: vertical-rl; text-align: left; vertical-align: bottom; }
.matrix td { min-width: 2rem; background: rgba(var(--heat), var(--v, 0)); }
.matrix .own { outline: 1px solid var(--soft); outline-offset: -2px; }
"""
_OPEN_CURVES = 12  # precision-recall curves shown at once; more stand behind a click
_MOST_CLASSES = 100  # with a curve, and of a matrix: a page stays below 5 MB
_CONFUSIONS = 10


def average_precision(runs: Sequence[Run], analyses: Sequence[Analysis]) -> str:
    """AP of each class as a number and a bar, for each run, and how far apart the first two are."""
    columns = ["class", "objects", *(f"{escape(run.name)} %" for run in runs)]
    columns += [f"difference to {escape(runs[1].name)}"] if len(runs) > 1 else []
    rows = []
    for name, objects in analyses[0].metrics["objects"].items():
        values = [found.metrics["AP"][name] for found in analyses]
        rows.append([escape(name), str(objects), *charts.bars(values), *_apart(values)])
    values = [found.metrics["mAP"] for found in analyses]
    total = sum(analyses[0].metrics["objects"].values())
    rows.append(["mean", str(total), *charts.bars(values), *_apart(values)])
    return table("AP of each class", columns, rows)


def precision_recall(runs: Sequence[Run], analyses: Sequence[Analysis]) -> str:
    """A curve of each class, and the numbers that it leads to."""
    figures = []
    objects = analyses[0].metrics["objects"]
    most = sorted(analyses[0].curves, key=lambda name: -objects[name])[:_MOST_CLASSES]
    for name in (name for name in analyses[0].curves if name in most):
        series = [
            Series(
                run.name, list(zip(LEVELS.tolist(), found.curves[name].tolist(), strict=True)), i
            )
            for i, (run, found) in enumerate(zip(runs, analyses, strict=True))
            if name in found.curves and i < DIAGONAL
        ]
        figures.append(_curve(name, series))
    rows = []
    for name, best in analyses[0].best.items():
        curve = analyses[0].curves.get(name)
        at = "" if curve is None else [charts.percent(float(curve[i])) for i in (20, 50, 80)]
        if best and curve is not None:
            found = (f"{best.f1:.2f}", f"{best.score:.2f}", charts.percent(best.precision))
            rows.append([escape(name), *at, *found, charts.percent(best.recall)])
    columns = ["class", *(f"at recall {level}" for level in (0.2, 0.5, 0.8))]
    columns += ["best F1", "at score", "precision there", "recall there"]
    caption = f"{escape(runs[0].name)}: precision and recall, %"
    shown, hidden = figures[:_OPEN_CURVES], figures[_OPEN_CURVES:]
    rest = more(f"{len(hidden)} more classes", _grid_of(hidden)) if hidden else ""
    return (
        "<p>Precision (upwards) against recall: at each recall the best precision from there on."
        f"</p>{charts.legend([run.name for run in runs[:DIAGONAL]])}{_grid_of(shown)}{rest}"
        f"{table(caption, columns, rows)}"
    )


def _curve(name: str, series: Sequence[Series]) -> str:
    return charts.lines(name, series, "recall", "precision", square=True, small=True, every=10)


def _grid_of(figures: Sequence[str]) -> str:
    return f'<div class="charts small">{"".join(figures)}</div>'


def confusion(run: Run, found: Analysis) -> str:
    """The classes that are taken for each other most, and the whole matrix."""
    pairs = [
        [
            f"{escape(annotated)} taken for {escape(seen)}",
            charts.bar(f"{100 * share:.0f} %", share),
            str(n),
        ]
        for annotated, seen, n, share in confusions(found.confusion, run.classes, _CONFUSIONS)
    ]
    said = (
        f"<p>Detections with a score of {found.min_score:.2f} or more, where F1 is highest. They "
        "are matched to objects as for AP, and those left over to objects left over, whatever the "
        "class.</p>"
    )
    columns = ("confusion", "of the objects of the class", "objects")
    most = table("Most frequent confusions", columns, pairs) if pairs else "<p>None.</p>"
    if len(run.classes) > _MOST_CLASSES:
        return said + most
    return said + most + more("The whole matrix", _matrix(found.confusion, run.classes))


def _matrix(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Rows: annotated, columns: detected; background last."""
    order = [*range(1, len(classes) + 1), 0]
    names = [*map(escape, classes), "nothing"]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = []
    for name, row in zip([*names[:-1], "nothing annotated"], order, strict=True):
        total = max(int(matrix[row].sum()), 1)
        cells = "".join(_cell(int(matrix[row, c]), total, row == c) for c in order)
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    caption = "Rows: the class annotated. Columns: the class detected."
    return scrolling(
        caption,
        f'<table class="matrix"><caption>{caption}</caption><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
    )


def _cell(count: int, total: int, own: bool) -> str:
    kind = ' class="own"' if own and count else ""
    if not count:
        return "<td></td>"
    return f'<td{kind} style="--v:{0.75 * count / total:.2f}">{count}</td>'


def _apart(values: Sequence[float | None]) -> list[str]:
    if len(values) < 2:
        return []
    first, second = values[:2]
    return ["" if first is None or second is None else f"{100 * (first - second):+.1f}"]
