"""Seconds of RoI pooling, forward and backward, beside what others use in its place.

    python -m benchmarks.pooling

Exact RoI max pooling and RoIAlign of 2000 RoIs on a map of VGG16 at 600 x 1000 px, and the
approximation that is common in TensorFlow: crop-and-resize to twice the size, then max pooling.
They are compiled, take turns in one process, and keep freed memory as training does. Writes
OUTPUT/pooling.md and .json; OUTPUT/pooling.intro.md, if it exists, becomes the text above the
table.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks.step_time import random_boxes, rounds
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.errors import run
from ohem_tf.files import make_folder
from ohem_tf.roi_pooling import roi_align, roi_max_pool

_SIZE, _STRIDE = 7, 16
Pool = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, int, int], tf.Tensor]


def crop_and_max_pool(
    features: tf.Tensor, boxes: tf.Tensor, image_ids: tf.Tensor, pool_size: int, stride: int
) -> tf.Tensor:
    """One bilinear sample for each quarter of a bin, and the maximum of the four; not exact."""
    last_cell = tf.cast(tf.tile(tf.shape(features)[1:3], [2]) - 1, tf.float32)
    crops = tf.image.crop_and_resize(
        features, boxes / stride / last_cell, image_ids, [2 * pool_size] * 2
    )
    return tf.nn.max_pool2d(crops, 2, 2, "VALID")


WAYS: dict[str, Pool] = {
    "crop and resize to 14 x 14, max pooling": crop_and_max_pool,
    "RoI max pooling (exact)": roi_max_pool,
    "RoIAlign": roi_align,
}


def measure(
    rois: int, height: int, width: int, channels: int, repeats: int
) -> dict[str, dict[str, list[float]]]:
    """{way: {"forward" or "backward": seconds of each round}} on a map [1, height, width, C]."""
    rng = np.random.default_rng(0)
    features = tf.constant(rng.normal(size=(1, height, width, channels)), tf.float32)
    limits = np.array([height, width, height, width]) * _STRIDE
    boxes = tf.constant(random_boxes(rng, (rois,), limits), tf.float32)
    upstream = tf.constant(rng.normal(size=(rois, _SIZE, _SIZE, channels)), tf.float32)
    image_ids = tf.zeros(rois, tf.int32)

    def passes(pool: Pool) -> tuple[Callable[[], object], Callable[[], object]]:
        @tf.function
        def compiled(maps: tf.Tensor) -> tf.Tensor:
            return pool(maps, boxes, image_ids, _SIZE, _STRIDE)

        with tf.GradientTape(persistent=True) as tape:
            tape.watch(features)
            pooled = compiled(features)

        def backward() -> object:
            gradient = tape.gradient(pooled, features, upstream)
            return tf.convert_to_tensor(gradient).numpy()

        return lambda: compiled(features).numpy()[-1, -1, -1, -1], backward

    steps = {}
    for way, pool in WAYS.items():
        steps[way, "forward"], steps[way, "backward"] = passes(pool)
    for step in steps.values():  # traces, and lets memory settle
        step()
    results: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
    for (way, direction), seconds in rounds(steps, repeats).items():
        results[way][direction] = seconds
    return results


def page(results: dict[str, dict[str, list[float]]], facts: dict[str, object], intro: str) -> str:
    """The Markdown page."""
    directions = ("forward", "backward")
    columns = [f"{d}, median s | ratio | ratio in each round" for d in directions]
    lines = [intro, "", f"| pooling | {' | '.join(columns)} |", "|---" * 7 + "|"]
    first = next(iter(results.values()))
    for way, result in results.items():
        cells = [way]
        for direction in directions:
            seconds = result[direction]
            ratios = [a / b for a, b in zip(seconds, first[direction], strict=True)]
            cells.append(f"{statistics.median(seconds):.3f}")
            cells.append(f"{statistics.median(ratios):.2f}")
            cells.append(f"{min(ratios):.2f} to {max(ratios):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_integer("rois", 2000, "R.", lower_bound=1)
    flags.DEFINE_integer("repeats", 15, "Rounds.", lower_bound=1)
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    make_folder(given.output, "output")
    keep_freed_memory()
    height, width, channels = 38, 63, 512
    results = measure(given.rois, height, width, channels, given.repeats)
    facts = {
        "device": f"CPU, {len(os.sched_getaffinity(0))} cores",
        "RoIs": given.rois,
        "map": f"{height} x {width} x {channels}, float32",
        "rounds": given.repeats,
        "TensorFlow": tf.__version__,
    }
    base = os.path.join(given.output, "pooling")
    text = page(results, facts, read_introduction(base, "# Seconds of RoI pooling"))
    write_page(base, text, {"facts": facts, "results": results})


if __name__ == "__main__":
    define_flags()
    run(main)
