r"""Seconds from an image file to its detections, side by side: with an RPN, with selective search.

    python -m benchmarks.end_to_end --models=runs/voc07_320_fpn,runs/voc07_320 \
        --images='photos/*.jpg'

Each is what a user would call: `ohem_tf.load(FOLDER).detect(FILE)`, decoding and proposals
included, of a workdir or an export. They take turns, image by image, so that all meet the same load
of the machine; each sees two other images first. Writes OUTPUT/end_to_end.md and .json;
OUTPUT/end_to_end.intro.md, if it exists, becomes the text above the table.
"""

from __future__ import annotations

import glob
import os
import statistics
import time
from collections.abc import Mapping, Sequence

import tensorflow as tf
from absl import flags
from tabulate import tabulate

import ohem_tf
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.detector import Detector
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder
from ohem_tf.progress import tqdm

_WARM_UP = 2


def measure(detectors: Mapping[str, Detector], paths: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of each of `paths` but the first two, by name of the detector."""
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    for number, path in enumerate(tqdm(paths, desc="measuring", unit="image")):
        for name, detector in detectors.items():
            before = time.perf_counter()
            detector.detect(path)
            if number >= _WARM_UP:
                seconds[name].append(time.perf_counter() - before)
    return seconds


def page(seconds: Mapping[str, Sequence[float]], facts: Mapping[str, object], intro: str) -> str:
    """The Markdown page; ratios are to the first."""
    first = next(iter(seconds.values()))
    rows = []
    for name, own in seconds.items():
        ratios = [a / b for a, b in zip(own, first, strict=True)]
        rows.append(
            [
                name,
                f"{statistics.median(own):.3f}",
                f"**{statistics.median(ratios):.2f}**",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            ]
        )
    headers = ["model", "median s an image", "ratio", "ratio for each image"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    about = "; ".join(f"{key}: {value}" for key, value in facts.items())
    return "\n".join([intro, "", table, "", f"{about}."]) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_list("models", None, "Workdirs or exports; the first is what ratios refer to.")
    flags.DEFINE_string("images", None, "Image files, a pattern.")
    flags.DEFINE_integer("most", 50, "Images, at most.", lower_bound=_WARM_UP + 1)
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if not given.models or not given.images:
        raise InputError("give --models=FOLDER,FOLDER and --images='FOLDER/*.jpg'")
    paths = sorted(glob.glob(given.images))[: given.most]
    if len(paths) <= _WARM_UP:
        raise InputError(f"--images: {given.images} is {len(paths)} files; give at least 3")
    make_folder(given.output, "output")
    detectors = {os.path.normpath(folder): ohem_tf.load(folder) for folder in given.models}
    if len(detectors) < len(given.models):
        raise InputError("--models: names a folder twice")
    seconds = measure(detectors, paths)
    facts = {
        "images": len(paths) - _WARM_UP,
        "device": f"CPU, {len(os.sched_getaffinity(0))} cores",
        "TensorFlow": tf.__version__,
    }
    base = os.path.join(given.output, "end_to_end")
    text = page(seconds, facts, read_introduction(base, "# From an image file to detections"))
    write_page(base, text, {"facts": facts, "seconds": seconds})


if __name__ == "__main__":
    define_flags()
    run(main)
