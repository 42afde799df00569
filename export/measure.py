"""What half precision and truncated SVD change: mAP and seconds per image."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping
from typing import Any

from ohem_tf.data.pipeline import evaluation_examples
from ohem_tf.data.reader import RecordReader
from ohem_tf.evaluation.report import metrics
from ohem_tf.inference.predict import Predictor
from ohem_tf.progress import tqdm


def compare(
    predictors: Mapping[str, Predictor],
    records: RecordReader,
    max_images: int,
    evaluation: Mapping[str, Any],
) -> dict[str, Any]:
    """Runs detectors over the same images, in turn, so that a busy machine slows down all alike.

    Args:
      predictors: {name: detector}.
      records: a split with annotations.
      max_images: at most this many, the first ones.
      evaluation: config.evaluation.

    Returns:
      {"images": their number, name: {"mAP": in [0, 1] or None, "seconds_per_image": median}}. The
      time is that of detection alone: the image is decoded and the proposals are there.
    """
    ground_truth: list[dict] = []
    found: dict[str, list[dict]] = {name: [] for name in predictors}
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    count = min(max_images, len(records))
    examples = itertools.islice(evaluation_examples(records), count)
    for i, example in enumerate(tqdm(examples, total=count, desc="measuring", unit="image")):
        image, proposals = example.pop("image"), example.pop("proposals")
        ground_truth.append(example)
        for name, predictor in predictors.items():
            if i == 0:  # compiles
                predictor(image, proposals)
            before = time.perf_counter()
            detections = predictor(image, proposals)
            seconds[name].append(time.perf_counter() - before)
            found[name].append(detections._asdict())
    result: dict[str, Any] = {"images": count}
    for name in predictors:
        only_map = {**evaluation, "coco": False}
        measured = metrics(ground_truth, found[name], records.classes, **only_map)
        median = statistics.median(seconds[name])
        result[name] = {"mAP": measured["mAP"], "seconds_per_image": round(median, 4)}
    return result


def table(measured: Mapping[str, Any]) -> str:
    """The result of `compare` as lines of text; the first detector is the one compared with."""
    rows = {name: row for name, row in measured.items() if name != "images"}
    first = next(iter(rows.values()))
    width = max(map(len, rows))
    lines = [f"on the first {measured['images']} images of the eval split:"]
    for name, row in rows.items():
        line = f"  {name:<{width}}  mAP {_percent(row['mAP'])}  {row['seconds_per_image']:.3f} s"
        if row is not first:
            if None not in (row["mAP"], first["mAP"]):
                line += f"  mAP {100 * (row['mAP'] - first['mAP']):+.2f}"
            line += f"  {first['seconds_per_image'] / row['seconds_per_image']:.2f} x as fast"
        lines.append(line)
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "no data" if value is None else f"{100 * value:.2f}"
