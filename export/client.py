"""Detects objects in images with a model that TensorFlow Serving serves.

    python -m export.client --server=grpc://localhost:8500 --images='photos/*.jpg' --output=found
    python -m export.client --server=http://localhost:8501 --images='photos/*.jpg' --bench

Proposals are computed here. With --output as ohem_tf.detect: drawings and detections.json; without,
a line per detection. --bench sends the images again and again instead, and prints images per
second and latencies.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import time
from collections.abc import Sequence

import numpy as np
from absl import flags

from export import MODEL_NAME
from export.remote import RemoteDetector, check_image
from ohem_tf.data import proposals
from ohem_tf.errors import InputError, run
from ohem_tf.inference import album
from ohem_tf.inference.detection import Detections
from ohem_tf.progress import tqdm


def bench(
    detector: RemoteDetector,
    requests: Sequence[tuple[bytes, np.ndarray | None]],
    count: int,
    concurrency: int,
) -> dict[str, float]:
    """Sends requests of one image each, from several threads.

    Args:
      detector: that answers.
      requests: an image file and its proposals (None if the model needs none) each; sent in turn.
      count: of requests.
      concurrency: how many at a time.

    Returns:
      "images_per_second", "p50_ms" and "p95_ms" (of a request, checks and retries included),
      "requests" and "concurrency".
    """

    def timed(request: tuple[bytes, np.ndarray | None]) -> float:
        encoded, boxes = request
        before = time.perf_counter()
        detector.detect([encoded], None if boxes is None else [boxes])
        return time.perf_counter() - before

    timed(requests[0])  # asks for the metadata too
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        before = time.perf_counter()
        turns = itertools.islice(itertools.cycle(requests), count)
        seconds = list(tqdm(pool.map(timed, turns), total=count, desc="sending", unit="image"))
        whole = time.perf_counter() - before
    median, high = np.percentile(seconds, [50, 95])
    return {
        "images_per_second": round(count / whole, 2),
        "p50_ms": round(1000 * median, 1),
        "p95_ms": round(1000 * high, 1),
        "requests": count,
        "concurrency": concurrency,
    }


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("server", None, "grpc://HOST:8500, http://HOST:8501 or https://HOST.")
    flags.DEFINE_string("model", MODEL_NAME, "Name under which the server has the model.")
    flags.DEFINE_string("images", None, "Pattern of image files, quoted: 'photos/*.jpg'.")
    flags.DEFINE_integer("max_images", 0, "Take at most this many images; 0: all.", lower_bound=0)
    flags.DEFINE_enum("selective_search_mode", "fast", proposals.MODES, "As in prepare.")
    flags.DEFINE_float("deadline", 30.0, "Seconds for a request, retries included.", 0.001)
    flags.DEFINE_string("output", None, "Folder for drawings and detections.json.")
    flags.DEFINE_float("min_score", 0.5, "Draw or print detections at least this sure.")
    flags.DEFINE_bool("bench", False, "Measure throughput and latency.")
    flags.DEFINE_integer("requests", 100, "Of --bench.", lower_bound=1)
    flags.DEFINE_integer("concurrency", 4, "Of --bench: requests at a time.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    for name in ("server", "images"):
        if given[name].value is None:
            raise InputError(f"--{name} is missing")
    without_effect = ("output", "min_score") if given.bench else ("requests", "concurrency")
    for name in without_effect:
        if given[name].present:
            with_or_without = "with" if given.bench else "without"
            raise InputError(f"--{name}: has no effect {with_or_without} --bench; leave it out")
    paths = album.find(given.images, given.max_images)
    if given.output:
        album.names(paths)
    detector = RemoteDetector(given.server, given.model, given.deadline)
    max_pixels = detector.max_pixels
    if detector.needs_proposals:
        proposals.require_selective_search()
    for path in tqdm(paths, desc="checking", unit="image", leave=False):
        check_image(path, album.read(path)[0], max_pixels)

    def search(path: str) -> np.ndarray | None:
        if not detector.needs_proposals:
            return None
        return proposals.read_and_search(path, given.selective_search_mode, 2.0)[2]

    if given.bench:
        reading = tqdm(paths, desc="reading", unit="image")
        requests = [(album.read(path)[0], search(path)) for path in reading]
        print(json.dumps(bench(detector, requests, given.requests, given.concurrency)))
        return
    drawings = None
    if given.output:
        drawings = album.Album(given.output, paths, detector.classes, given.min_score)
    for path in tqdm(paths, desc="detecting", unit="image", disable=drawings is None):
        encoded, image = album.read(path)
        boxes = search(path)
        (detections,) = detector.detect([encoded], None if boxes is None else [boxes])
        if drawings is None:
            _print(path, detections, detector.classes, given.min_score)
        else:
            drawings.add(path, image, detections)
    if drawings is not None:
        print(drawings.finish())


def _print(path: str, found: Detections, classes: Sequence[str], min_score: float) -> None:
    sure = found.scores >= min_score
    for item in album.as_json(Detections(*(x[sure] for x in found)), classes):
        print(f"{path}: {item['class']} {item['score']:.2f} {item['box']}", flush=True)


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
