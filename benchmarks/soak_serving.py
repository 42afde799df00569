"""Thousands of requests, good and bad, at once: is every one answered, and rightly?

    python -m benchmarks.soak_serving --saved_model=runs/quickstart/export/1 \
        --images='runs/quickstart/scenes/JPEGImages/val_*.jpg'

A server on loopback (benchmarks.loopback_server, a process of its own) gets --requests from
--threads clients, half of them by gRPC and half by REST. A good request is an image; its answer has
to equal, bit for bit, the first answer to that image. A bad one is sent past the client's own
checks; it has to be refused with a reason that names the field at fault. The server's memory is
read as it goes. Writes OUTPUT/NAME.md, .json and .png; OUTPUT/NAME.intro.md, if it exists, becomes
the text above the table.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from PIL import Image

from export import MODEL_NAME, transport
from export.remote import RemoteDetector
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.data import proposals
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder
from ohem_tf.inference import album
from ohem_tf.progress import tqdm

_DEADLINE = 300.0  # seconds for one request; a soak is not about speed
_WRONG = ("different", "not answered", "accepted", "refused for another reason")


class Request(NamedTuple):
    """What is sent to `serving_default`."""

    name: str  # of the image, or what is wrong
    inputs: dict[str, np.ndarray]
    field: str  # that the refusal has to name; "" for a good request


class Outcome(NamedTuple):
    """What became of one request."""

    name: str
    kind: str  # "equal" or "refused", or one of _WRONG
    seconds: float
    reason: str  # of the refusal


def good_request(path: str, needs_proposals: bool) -> Request:
    """An image file, and what selective search finds in it if the model needs that."""
    encoded, _ = album.read(path)
    inputs = {"image_bytes": np.array([encoded], object)}
    if needs_proposals:
        inputs["proposals"] = proposals.read_and_search(path, "fast", 2.0)[2][None]
    return Request(os.path.basename(path), inputs, "")


def bad_requests(good: Request, max_pixels: int) -> list[Request]:
    """One request of each way to be wrong, made from a good one."""
    (encoded,) = good.inputs["image_bytes"]
    large = io.BytesIO()
    side = int(max_pixels**0.5) + 1
    Image.new("L", (side, side)).save(large, "PNG")

    def image(name: str, data: bytes) -> Request:
        return Request(name, good.inputs | {"image_bytes": np.array([data], object)}, "image_bytes")

    found = [
        image("no image", b"GIF89a" + bytes(100)),
        image("an empty file", b""),
        image("half of a file", encoded[: len(encoded) // 2]),
        image("too many pixels", large.getvalue()),
        image("a PNG header alone", large.getvalue()[:33]),
    ]
    if "proposals" in good.inputs:
        boxes = good.inputs["proposals"]
        wrong = {
            "NaN among the proposals": np.where(boxes == boxes.max(), np.nan, boxes),
            "inverted proposals": boxes[..., [2, 3, 0, 1]],
            "proposals of five numbers": np.pad(boxes, ((0, 0), (0, 0), (0, 1))),
            "proposals of two images": np.concatenate([boxes, boxes]),
            "proposals without a batch": boxes[0],
        }
        found += [
            Request(name, good.inputs | {"proposals": x}, "proposals") for name, x in wrong.items()
        ]
        found.append(
            Request("no proposals", {"image_bytes": good.inputs["image_bytes"]}, "proposals")
        )
    return found


def judge(
    request: Request, first: Mapping[str, np.ndarray] | None, way: transport.Transport
) -> Outcome:
    """Sends one request.

    Args:
      request: to send.
      first: the first answer to it; None for a bad one.
      way: to the server.
    """
    before, reason = time.perf_counter(), ""
    try:
        answer = transport.call(way, "serving_default", request.inputs, _DEADLINE)
    except InputError as error:
        reason = str(error)
    seconds = time.perf_counter() - before
    if first is None:
        named = request.field in reason
        kind = "refused" if named else "refused for another reason" if reason else "accepted"
    elif reason:
        kind = "not answered"
    else:
        same = set(first) == set(answer) and all(np.array_equal(answer[k], first[k]) for k in first)
        kind = "equal" if same else "different"
    return Outcome(request.name, kind, seconds, reason)


def resident_bytes(pid: int) -> int:
    """What of a process is in memory."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


@contextlib.contextmanager
def server(saved_model: str, threads: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields a server's process id and its addresses, {"grpc", "rest"}."""
    command = [sys.executable, "-m", "benchmarks.loopback_server"]
    command += [f"--saved_model={saved_model}", f"--threads={threads}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise InputError("the server did not start, see above")
        yield process.pid, json.loads(line)
        process.communicate()  # its standard input ends, and so does it


def soak(
    good: Sequence[Request],
    bad: Sequence[Request],
    ways: Sequence[transport.Transport],
    pid: int,
    count: int,
    bad_share: float,
    seed: int,
) -> tuple[list[Outcome], list[list[float]]]:
    """Sends `count` requests, as many at a time as there are ways.

    Args:
      good, bad: requests to choose from; which are sent when is a function of `seed`.
      ways: to the server, one for each thread.
      pid: of the server.
      count: requests in all.
      bad_share: of them, in [0, 1].
      seed: of the choice.

    Returns:
      What became of the requests, and [requests answered, bytes of memory] about every second.
    """
    rng = np.random.default_rng(seed)
    first = [transport.call(ways[0], "serving_default", x.inputs, _DEADLINE) for x in good]
    is_bad = rng.random(count) < bad_share
    chosen = np.where(
        is_bad, rng.integers(len(bad), size=count), rng.integers(len(good), size=count)
    )
    own, free = threading.local(), list(ways)

    def send(number: int) -> Outcome:
        if not hasattr(own, "way"):
            own.way = free.pop()
        place = int(chosen[number])
        if is_bad[number]:
            return judge(bad[place], None, own.way)
        return judge(good[place], first[place], own.way)

    outcomes: list[Outcome] = []
    memory = [[0.0, float(resident_bytes(pid))]]
    last = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(ways)) as pool:
        answers = pool.map(send, range(count))
        for outcome in tqdm(answers, total=count, desc="requests", unit="request"):
            outcomes.append(outcome)
            if time.monotonic() - last > 1.0:
                memory.append([len(outcomes), float(resident_bytes(pid))])
                last = time.monotonic()
    memory.append([count, float(resident_bytes(pid))])
    return outcomes, memory


def summary(
    good: Sequence[Request], bad: Sequence[Request], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """The counts: of good requests, and of each kind of bad ones."""
    names = {request.name for request in good}
    kinds = Counter(x.kind for x in outcomes if x.name in names)
    rows = {"an image": dict(kinds)}
    for request in bad:
        rows[request.name] = dict(Counter(x.kind for x in outcomes if x.name == request.name))
    wrong = [x for x in outcomes if x.kind in _WRONG]
    shown = [{"request": x.name, "kind": x.kind, "reason": x.reason} for x in wrong[:20]]
    return {"rows": rows, "wrong": len(wrong), "shown": shown}


def draw(path: str, memory: Sequence[Sequence[float]], outcomes: Sequence[Outcome]) -> None:
    """The picture: memory and latency over the requests."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    requests, used = np.transpose(memory)
    left.plot(requests, used / 1e6)
    left.set(xlabel="requests answered", ylabel="memory of the server, MB", ylim=(0, None))
    for kind, colour in (("equal", "tab:blue"), ("refused", "tab:orange")):
        points = [(i, 1000 * x.seconds) for i, x in enumerate(outcomes) if x.kind == kind]
        if points:
            right.plot(*zip(*points, strict=True), ".", color=colour, markersize=1.5, label=kind)
    right.set(xlabel="request", ylabel="ms until its answer", yscale="log")
    right.legend(markerscale=6)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def page(result: Mapping[str, Any], intro: str, name: str) -> str:
    """The Markdown page."""
    lines = [intro, "", f"![memory and latency]({name}.png)", ""]
    lines += ["| request | sent | as it should be | otherwise |", "|---|---|---|---|"]
    for request, kinds in result["rows"].items():
        sent, right = sum(kinds.values()), kinds.get("equal", 0) + kinds.get("refused", 0)
        other = ", ".join(f"{kind}: {n}" for kind, n in kinds.items() if kind in _WRONG)
        lines.append(f"| {request} | {sent} | {right} | {other or 0} |")
    memory = np.array(result["memory"])
    tenth = len(memory) // 10 + 1
    early, late = memory[:tenth, 1].max(), memory[-tenth:, 1].max()
    facts = {
        "requests": result["requests"],
        "threads": result["threads"],
        "images": result["images"],
        "minutes": f"{result['minutes']:.1f}",
        "memory of the server, MB, most within the first tenth": f"{early / 1e6:.0f}",
        "and within the last": f"{late / 1e6:.0f}",
    }
    lines += ["", "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("saved_model", None, "EXPORT_DIR/VERSION.")
    flags.DEFINE_string("images", None, "Pattern of image files, quoted: 'photos/*.jpg'.")
    flags.DEFINE_integer("max_images", 50, "Take at most this many images.", lower_bound=1)
    flags.DEFINE_integer("requests", 10_000, "To send.", lower_bound=1)
    flags.DEFINE_integer("threads", 8, "Clients, half by gRPC, half by REST.", lower_bound=2)
    flags.DEFINE_float("bad_share", 0.1, "Of the requests.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_integer("seed", 0, "Of which request is sent when.")
    flags.DEFINE_string("name", "reliability_serving", "What the page is called.")
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    for name in ("saved_model", "images"):
        if given[name].value is None:
            raise InputError(f"--{name} is missing")
    paths = album.find(given.images, given.max_images)
    make_folder(given.output, "output")
    with server(given.saved_model, given.threads) as (pid, addresses):
        detector = RemoteDetector(addresses["grpc"], MODEL_NAME, _DEADLINE)
        needs, max_pixels = detector.needs_proposals, detector.max_pixels
        good = [good_request(x, needs) for x in tqdm(paths, desc="reading", unit="image")]
        bad = bad_requests(good[0], max_pixels)
        kinds = ("grpc", "rest")
        ways = [
            transport.connect(addresses[kinds[i % 2]], MODEL_NAME) for i in range(given.threads)
        ]
        start = time.monotonic()
        outcomes, memory = soak(good, bad, ways, pid, given.requests, given.bad_share, given.seed)
        minutes = (time.monotonic() - start) / 60
    result = summary(good, bad, outcomes) | {
        "requests": given.requests,
        "threads": given.threads,
        "images": len(good),
        "minutes": minutes,
        "memory": memory,
    }
    base = os.path.join(given.output, given.name)
    draw(f"{base}.png", memory, outcomes)
    intro = read_introduction(base, "# A soak of the exported detector")
    write_page(base, page(result, intro, os.path.basename(base)), result)


if __name__ == "__main__":
    define_flags()
    run(main)
