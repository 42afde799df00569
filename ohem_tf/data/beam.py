"""Writes the shards of a split on Apache Beam: on one machine, or on a cluster.

An element is a shard: a worker reads its entries, searches its images with the functions of
one_image.py, and writes its file as `shards.write_one` does here, so the records are the same bytes
in the same shards. Workers must see the images and the output under the paths that this process
sees (NFS, or a bucket that is mounted), and have this package installed.

Between the two stands OUTPUT/SPLIT.beam/: NAME.todo, what a worker needs to write the shard NAME,
and NAME.json, what came of it. A killed job leaves it, and the next run takes over what is done.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import os
import pickle
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ohem_tf.data import one_image, proposals, shards
from ohem_tf.errors import InputError
from ohem_tf.files import atomic, write_json


@dataclasses.dataclass(frozen=True)
class Job:
    """What all shards of a split have in common.

    Attributes:
      output: the folder of the data set, absolute.
      split: its name.
      settings: of its records.
      opencv: version of OpenCV here, whose boxes the workers' must equal; None: no search.
    """

    output: Path
    split: str
    settings: one_image.Settings
    opencv: str | None

    @property
    def folder(self) -> Path:
        """Where what is to do and what is done stands."""
        return shards.beam_folder(self.output, self.split)


def _pipeline(runner: str, options: str) -> Any:
    """An empty pipeline on `runner`."""
    # By name: Beam's own limits on Pillow, protobuf and dateutil keep it out of constraints.txt,
    # and so out of what an import in the code would promise to Bazel.
    try:
        beam = importlib.import_module("apache_beam")
    except ImportError:
        raise InputError(
            f"--runner={runner}: needs Apache Beam; pip install -e '.[beam]' in a virtual "
            "environment of its own"
        ) from None
    pipeline_options = importlib.import_module("apache_beam.options.pipeline_options")
    try:
        return beam.Pipeline(
            options=pipeline_options.PipelineOptions(shlex.split(options), runner=runner)
        )
    except (ValueError, SystemExit) as error:  # argparse exits
        raise InputError(f"--runner={runner} --beam_options={options!r}: {error}") from None


def check(runner: str, options: str) -> None:
    """Raises InputError if Beam is not installed, or has no such runner or options."""
    _pipeline(runner, options)


def write(
    job: Job,
    runner: str,
    options: str,
    source: proposals.Source | None,
    todo: Sequence[shards.Todo],
    progress: Callable[[], Any],
) -> Iterator[dict[str, Any]]:
    """Writes shards on Beam; see `shards.write`.

    Args:
      job: their split.
      runner: name of a Beam runner.
      options: the runner's own, as on a command line.
      source: proposals computed elsewhere; None: the workers search.
      todo: the shards.
      progress: called for each image, once all are written: Beam shows its own progress.

    Yields:
      What `shards.write_one` returns of each.

    Raises:
      InputError: as `one_image.make_record`; a worker with another OpenCV.
    """
    job.folder.mkdir(exist_ok=True)
    left = [shard for shard in todo if _result(job, shard) is None]
    for shard in left:
        boxes = None
        if source is not None:
            least = job.settings.min_proposal_size
            boxes = [source.get(entry, least) for entry in shard.entries]
        entries = [
            dataclasses.replace(entry, image_path=os.path.abspath(entry.image_path))
            for entry in shard.entries
        ]
        with atomic(job.folder / f"{shard.name}.todo") as path:
            Path(path).write_bytes(pickle.dumps((job, shard._replace(entries=entries), boxes)))
    if left:
        beam = importlib.import_module("apache_beam")
        with _pipeline(runner, options) as pipeline:
            paths = [str(job.folder / f"{shard.name}.todo") for shard in left]
            _ = (
                pipeline
                | "shards" >> beam.Create(paths)
                | "to all workers" >> beam.Reshuffle()
                | "search and write" >> beam.Map(write_shard)
            )
    for shard in todo:
        result = _result(job, shard)
        if result is None:
            raise InputError(f"{job.output / shard.name}: the Beam job ended without it; run again")
        if "error" in result:
            (job.folder / f"{shard.name}.json").unlink()
            raise InputError(result["error"])
        for _ in shard.entries:
            progress()
        yield result
    shutil.rmtree(job.folder)


def _result(job: Job, shard: shards.Todo) -> dict[str, Any] | None:
    """What became of a shard; None if it is still to be written."""
    path = job.folder / f"{shard.name}.json"
    result = json.loads(path.read_bytes()) if path.exists() else None
    if result is None or "error" in result or shards.intact(job.output, result):
        return result
    return None


def write_shard(path: str) -> None:
    """Writes the shard of a .todo file, and the .json beside it; runs on a worker of Beam.

    An `InputError` goes into the .json: whatever the runner, trying again would not help.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # TensorFlow only encodes records here
    job, shard, given = pickle.loads(Path(path).read_bytes())
    boxes: Iterable[np.ndarray | None] = itertools.repeat(None) if given is None else given
    try:
        if job.opencv not in (None, cv2.__version__):
            raise InputError(
                f"a Beam worker has OpenCV {cv2.__version__}, whose proposals may differ from "
                f"those of {job.opencv} here; install the same version"
            )
        prepared = (
            one_image.make_record(entry, own, job.settings)
            for entry, own in zip(shard.entries, boxes, strict=False)
        )
        # In a folder of its own: a runner may write a shard twice at once.
        with tempfile.TemporaryDirectory(dir=job.folder) as folder:
            result = shards.write_one(Path(folder), shard, prepared, job.settings.classes)
            os.replace(Path(folder) / shard.name, job.output / shard.name)
    except InputError as error:
        result = {"error": str(error)}
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        write_json(Path(folder) / "result.json", result)
        os.replace(Path(folder) / "result.json", Path(path).with_suffix(".json"))
