"""What a report says of the detections of runs: mAP, error types, sizes, calibration, recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ohem_tf.checking.recall import SIZES
from ohem_tf.evaluation.error_types import TYPES
from ohem_tf.reporting import charts
from ohem_tf.reporting.charts import DIAGONAL, Series
from ohem_tf.reporting.content import Analysis
from ohem_tf.reporting.runs import Run
from ohem_tf.web_page import escape, table

_METHODS = {"voc07": "11-point AP of VOC 2007", "area": "area under the precision-recall curve"}
_SIZES = {"small": "area below 32 x 32 px", "medium": "between", "large": "above 96 x 96 px"}


def overview(runs: Sequence[Run], analyses: Sequence[Analysis], sentences: Sequence[str]) -> str:
    """mAP of each run, and how far the first is from the others."""
    rows = []
    for run, found in zip(runs, analyses, strict=True):
        best = found.overall
        rows.append(
            [
                escape(run.name),
                charts.percent(found.metrics["mAP"]),
                charts.percent(found.metrics["coco"]["AP"]),
                charts.percent(found.recall["all"]["recall"]),
                f"{best.f1:.2f} at {best.score:.2f}" if best else "no data",
                f"{found.calibration.error:.3f}",
                escape(str(run.config["sampler"])),
                escape(str(run.settings["checkpoint"])),
            ]
        )
    metrics = analyses[0].metrics
    columns = ("run", "mAP %", "COCO AP %", "recall %", "best F1", "ECE", "sampler", "checkpoint")
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return (
        f"{table('Runs', columns, rows)}{said}"
        f'<p class="soft">{metrics["images"]} images of {escape(runs[0].split)}. mAP: '
        f"{_METHODS[metrics['method']]} at IoU {metrics['iou_threshold']:g}. Recall: objects "
        "found, at whatever score. Best F1: of all detections together, and the score from which "
        "on they are then counted. ECE: see Calibration.</p>"
    )


def errors(runs: Sequence[Run], analyses: Sequence[Analysis]) -> str:
    """TIDE's six types: how many, and the AP that each costs."""
    columns = ["type"]
    for run in runs:
        columns += [f"{escape(run.name)}: number", f"{escape(run.name)}: AP lost"]
    most = max((c.errors.costs[kind] for c in analyses for kind in TYPES), default=0) or 1
    rows = []
    for kind, meaning in TYPES.items():
        row = [f"{kind}: {escape(meaning)}"]
        for i, found in enumerate(analyses):
            cost = found.errors.costs[kind]
            row += [
                str(found.errors.counts[kind]),
                charts.bar(f"{100 * cost:.1f}", cost / most, min(i, 1)),
            ]
        rows.append(row)
    for kind, meaning in (("FP", "All false positives"), ("FN", "All misses")):
        row = [meaning]
        for found in analyses:
            row += ["", f"{100 * found.errors.costs[kind]:.1f}"]
        rows.append(row)
    threshold = analyses[0].metrics["iou_threshold"]
    return (
        "<p>TIDE (Bolya et al., 2020): each mistake is of one type; a type costs the AP that would "
        "be won if it alone were mended. The costs do not add up to what is missing. AP here is "
        f"COCO's at IoU {threshold:g}, "
        f"{', '.join(f'{charts.percent(found.errors.ap)} %' for found in analyses)}.</p>"
        f"{table('Error types', columns, rows)}"
    )


def by_size(runs: Sequence[Run], analyses: Sequence[Analysis]) -> str:
    """COCO's numbers."""
    names = {
        "AP": "AP, IoU 0.5 to 0.95",
        "AP50": "AP at IoU 0.5",
        "AP75": "AP at IoU 0.75",
        **{f"AP_{size}": f"AP, {size} ({said})" for size, said in _SIZES.items()},
        "AR100": "AR, 100 detections",
        **{f"AR_{size}": f"AR, {size}" for size in SIZES},
    }
    rows = [
        [said, *charts.bars([found.metrics["coco"][name] for found in analyses])]
        for name, said in names.items()
    ]
    return table(
        "COCO's AP and average recall",
        ["", *charts.percent_columns([run.name for run in runs])],
        rows,
    )


def calibration(runs: Sequence[Run], analyses: Sequence[Analysis]) -> str:
    """The reliability diagram with ECE, and the bins as tables."""
    series = [Series("score = precision", [(0.0, 0.0), (1.0, 1.0)], DIAGONAL)]
    for i, (run, found) in enumerate(zip(runs[:DIAGONAL], analyses, strict=False)):
        points = [(b.score, b.precision) for b in found.calibration.bins]
        series.append(Series(run.name, points, i))
    tables = []
    for run, found in zip(runs, analyses, strict=True):
        rows = [
            [f"{b.low:g} to {b.high:g}", *(f"{x:.2f}" for x in (b.score, b.precision)), n]
            for b in found.calibration.bins
            for n in [str(b.detections)]
        ]
        columns = ("score", "mean score", "share that is true", "detections")
        caption = f"{escape(run.name)}: ECE {found.calibration.error:.3f}"
        tables.append(table(caption, columns, rows))
    chart = charts.lines(
        "Share of true detections", series, "score", "share that is true", square=True
    )
    return (
        "<p>Of detections with a score of 0.8, four in five should be true. Below the dashed "
        "line the model is surer than it should be. ECE, the expected calibration error, is the "
        "mean distance to that line, weighted by the number of detections.</p>"
        f"{charts.legend([run.name for run in runs[:DIAGONAL]])}"
        f'<div class="charts">{chart}</div>{"".join(tables)}'
    )


def recall(
    runs: Sequence[Run], analyses: Sequence[Analysis], proposals: Mapping[str, Any] | None, of: str
) -> str:
    """Which share of objects the proposals cover: the detector's ceiling; and what it finds."""
    found = [analysis.recall for analysis in analyses]
    columns = ["objects", "number"]
    columns += [] if proposals is None else ["proposals %"]
    columns += [f"{escape(run.name)} finds %" for run in runs]
    rows = []
    for group, keys in (("", ["all"]), ("sizes", list(SIZES)), ("classes", list(runs[0].classes))):
        for key in keys:
            shares = [(one if not group else one[group])[key] for one in found]
            covered = [] if proposals is None else [(proposals[group] if group else proposals)[key]]
            ceiling = [charts.share(share["recall"], 2) for share in covered]
            cells = charts.bars([share["recall"] for share in shares])
            rows.append([escape(key), str(shares[0]["objects"]), *ceiling, *cells])
    said = (
        "<p>No proposals were measured: the model makes its own, and did not run for this page."
        if proposals is None
        else f"<p>{proposals['proposals_per_image']:.0f} proposals an image. What none of them "
        f"covers at IoU 0.5, no detector can find. {escape(of)}"
    )
    return f"{said}</p>{table('Recall of proposals and detections', columns, rows)}"
