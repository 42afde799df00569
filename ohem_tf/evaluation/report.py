"""All metrics of one evaluation: one JSON object for programs, one table for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from tabulate import SEPARATING_LINE, tabulate

from ohem_tf.errors import InputError
from ohem_tf.evaluation import inputs, voc
from ohem_tf.evaluation.coco import coco_metrics

_METHODS = {"voc07": "VOC07 11-point AP", "area": "AP as area under the curve"}


def metrics(
    ground_truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    class_names: Sequence[str],
    method: str = "voc07",
    iou_threshold: float = 0.5,
    coco: bool = False,
) -> dict:
    """Computes what `metrics.json` holds.

    Args:
      ground_truth: one dict per image, as `voc.average_precision`, with "crowd" [G] and "area" [G]
        where the data set has them. A crowd region counts as `difficult` does: neither way.
      detections: one dict per image, in the same order, as `voc.average_precision`.
      class_names: names of the classes 1..K.
      method: "voc07" or "area".
      iou_threshold: IoU at which a detection matches.
      coco: whether to compute COCO's metrics too.

    Returns:
      A dict that `json.dumps(..., allow_nan=False)` takes:
      "mAP": mean AP over the classes that have data, in [0, 1]; None if none has.
      "AP": {class name: AP, or None for "no data"}, in the order of `class_names`.
      "method", "iou_threshold": as given.
      "coco": {name: value, or None for "no data"}, see `coco.coco_metrics`; {} without `coco`.
      "images": number of images.
      "objects": {class name: number of objects that count}.

    Raises:
      InputError: bad lists, an unknown method, a class that has no name, two classes of one name.
    """
    class_names = list(class_names)
    if len(set(class_names)) != len(class_names):
        twice = next(name for name in class_names if class_names.count(name) > 1)
        raise InputError(f"class_names holds {twice!r} twice: every class needs its own name")
    ground_truth, detections = inputs.check(ground_truth, detections)
    plain = ignoring_crowds(ground_truth)
    ap = voc.average_precision(plain, detections, iou_threshold, method)
    unnamed = [c for c in ap if not 1 <= c <= len(class_names)]
    if unnamed:
        raise InputError(
            f"class {unnamed[0]} has no name: with {len(class_names)} class names, classes are "
            f"1 to {len(class_names)}"
        )
    mean = voc.mean_average_precision(ap)
    return {
        "mAP": None if math.isnan(mean) else mean,
        "AP": {name: _or_none(ap.get(c, math.nan)) for c, name in enumerate(class_names, 1)},
        "method": method,
        "iou_threshold": float(iou_threshold),
        "coco": coco_metrics(ground_truth, detections) if coco else {},
        "images": len(ground_truth),
        "objects": {
            name: sum(int(np.sum((x["classes"] == c) & ~x["difficult"])) for x in plain)
            for c, name in enumerate(class_names, 1)
        },
    }


def ignoring_crowds(ground_truth: Sequence[Mapping]) -> list[dict]:
    """Ground truth for VOC's metrics: a crowd region counts as `difficult` does, neither way."""
    return [
        {**image, "difficult": image["difficult"] | image.get("crowd", False)}
        for image in ground_truth
    ]


def table(result: Mapping) -> str:
    """The result of `metrics` as lines of text for a terminal.

    One row per class (AP in percent, number of objects), then mAP, then COCO's values if there are.
    """
    rows = [
        (name, _percent(value), result["objects"][name]) for name, value in result["AP"].items()
    ]
    total = ("mAP", _percent(result["mAP"]), sum(result["objects"].values()))
    lines = [
        tabulate(
            [*rows, SEPARATING_LINE, total],
            ("class", "AP %", "objects"),
            colalign=("left", "right", "right"),
            disable_numparse=True,
        ),
        "",
    ]
    with_data = sum(value is not None for value in result["AP"].values())
    threshold = f"IoU >= {result['iou_threshold']:g}"
    classes = f"mean over {with_data} of {len(result['AP'])} classes"
    lines.append(
        f"{_METHODS[result['method']]} at {threshold}; {classes}; {result['images']} images"
    )
    names = list(result["coco"])
    for group in (names[:6], names[6:]) if names else ():
        values = "  ".join(f"{name} {_percent(result['coco'][name])}" for name in group)
        lines.append(f"COCO %: {values}")
    return "\n".join(lines)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float | None) -> str:
    return "no data" if value is None else f"{100 * value:.1f}"
