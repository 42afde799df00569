"""Seconds of a training step beside the same step in PyTorch, in two processes that take turns.

    python -m benchmarks.peers.compare --config=configs/voc07.py --config.train.images_per_step=1 \
        --config.train.rois_per_step=64

Fast R-CNN and OHEM with VGG16, by this project and by pytorch_step.py, on the same images and
proposals, with as many threads, and both with glibc keeping freed memory. --peer_python is a Python
with PyTorch and torchvision: Debian's, for example, after `apt install python3-torch
python3-torchvision libopenblas0-pthread` (without the last one its matrix products are 40 times
slower). Writes OUTPUT/peers.md and .json; OUTPUT/peers.intro.md, if it exists, becomes the text
above the table.
"""

from __future__ import annotations

import os
import pathlib
import statistics
import subprocess
import tempfile
from types import TracebackType

import numpy as np
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags

from benchmarks.step_time import CLASSES, compiled_steps, device, example, rounds, setting
from ohem_tf import devices
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.config import validate
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder

_METHODS = ("FRCN", "OHEM")
_SCRIPT = pathlib.Path(__file__).with_name("pytorch_step.py")


class Peer:
    """The process of pytorch_step.py; a context.

    Attributes:
      version: of its PyTorch.
    """

    def __init__(self, python: str, batch: dict[str, np.ndarray]) -> None:
        """Starts it.

        Args:
          python: an interpreter with PyTorch and torchvision.
          batch: of `peer_batch`.

        Raises:
          InputError: it did not start.
        """
        threads = str(int(batch["threads"]))
        environment = {
            **os.environ,
            **{"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            # What keep_freed_memory does.
            **{"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)},
        }
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "step.npz")
            np.savez(path, **batch)
            try:
                self._process = subprocess.Popen(
                    [python, str(_SCRIPT), path],
                    **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True},
                    env=environment,
                )
            except OSError as error:
                raise InputError(f"--peer_python={python}: {error.strerror}") from error
            answer = self._answer().split()
        if answer[:1] != ["ready"]:
            self._process.communicate()
            raise InputError(f"--peer_python={python}: expected a Python with PyTorch, see above")
        self.version = answer[1]

    def step(self, method: str) -> float:
        """One training step, by "FRCN" or "OHEM": its loss."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{method}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()  # the end of its input is the end of the process

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def peer_batch(config: ConfigDict, batch: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """What pytorch_step.py takes: the same `batch`, boxes in pixels of the resized image."""
    values = {name: value.numpy() for name, value in batch.items()}
    scale = values["scale"][:, None, None]
    return {
        "images": values["image"],
        "proposals": values["proposals"] * scale,
        "gt_boxes": values["gt_boxes"] * scale,
        "gt_classes": values["gt_classes"],
        "num_classes": np.array(CLASSES),
        "rois_per_image": np.array(config.train.rois_per_step // config.train.images_per_step),
        "hidden": np.array(config.head.hidden),
        "dropout": np.array(config.head.dropout),
        "threads": np.array(len(os.sched_getaffinity(0))),
    }


def measure(
    config: ConfigDict, proposals: int, repeats: int, peer_python: str
) -> tuple[dict[str, list[float]], str]:
    """{"ohem_tf, METHOD" or "PyTorch, METHOD": seconds of each round}, and PyTorch's version."""
    batch = example(config, proposals)
    with Peer(peer_python, peer_batch(config, batch)) as peer:
        ours = compiled_steps(config)
        steps = {}
        for name, step in ours.items():
            if name.startswith(_METHODS) and "release" not in name:
                steps[f"ohem_tf, {name}"] = lambda f=step: f(batch)["loss/hard"].numpy()
        for method in _METHODS:
            steps[f"PyTorch, {method}"] = lambda method=method: peer.step(method)
        for step in steps.values():  # traces, and lets memory and libraries settle
            step()
        return rounds(steps, repeats), peer.version


def page(seconds: dict[str, list[float]], facts: dict[str, object], intro: str) -> str:
    """The Markdown page: each step of ours beside PyTorch's step by the same method."""
    lines = [
        intro,
        "",
        "| step | median s | PyTorch's, median s | ours / PyTorch's | in each round |",
    ]
    lines.append("|---|---|---|---|---|")
    for name, values in seconds.items():
        project, method = name.split(", ", 1)
        if project == "PyTorch":
            continue
        theirs = seconds[f"PyTorch, {method[:4]}"]
        ratios = [a / b for a, b in zip(values, theirs, strict=True)]
        lines.append(
            f"| {method} | {statistics.median(values):#.4g} | {statistics.median(theirs):#.4g} | "
            f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )
    lines += ["", "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_string("peer_python", "/usr/bin/python3", "A Python with PyTorch, torchvision.")
    flags.DEFINE_integer("proposals", 2000, "R, proposals of each image.", lower_bound=5)
    flags.DEFINE_integer("repeats", 5, "Rounds.", lower_bound=1)
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")
    flags.DEFINE_string("name", "peers", "What the page is called.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    config = given.config
    if config is None:
        raise InputError("give --config=configs/NAME.py")
    validate(config)
    if config.backbone.name != "vgg16" or config.head.pool_size != 7:
        raise InputError("--config: the step in PyTorch is VGG16's with RoIs pooled to 7 x 7")
    make_folder(given.output, "output")
    devices.use_one()
    keep_freed_memory()
    seconds, version = measure(config, given.proposals, given.repeats, given.peer_python)
    facts = {
        "device": device(),
        **setting(config, given.proposals, given.repeats),
        "PyTorch": version,
    }
    base = os.path.join(given.output, given.name)
    text = page(seconds, facts, read_introduction(base, "# A training step beside PyTorch's"))
    write_page(base, text, {"facts": facts, "seconds": seconds})


if __name__ == "__main__":
    define_flags()
    run(main)
