"""Evaluates a trained detector: python -m ohem_tf.evaluate --config=configs/NAME.py --workdir=DIR.

Writes the detections to WORKDIR/detections.npz, prints a table and, as the last line, one JSON
object; the same object goes to WORKDIR/metrics.json. --from_results=FILE scores such detections
again, in another way of config.evaluation, without running the model.
--write_results=DIR writes the detections for the VOC and COCO servers, also those of a split that
was prepared without annotations: then there are no metrics, and the last line says where they are.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from ohem_tf import detection_jobs, experiment
from ohem_tf.data.ground_truth import ground_truth
from ohem_tf.data.joined import open_split, split_name
from ohem_tf.errors import InputError, run
from ohem_tf.evaluation import detections, results
from ohem_tf.evaluation.report import metrics, table
from ohem_tf.files import make_folder, write_json
from ohem_tf.workdir import DETECTIONS, METRICS, checkpoint_path, load_saved


def evaluate(
    config: ConfigDict,
    workdir: str,
    split: str | None = None,
    checkpoint: str | None = None,
    write_results: str | None = None,
    output: str | None = None,
    from_results: str | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Metrics of the detector in `workdir`, also written to WORKDIR/metrics.json.

    The detections go to WORKDIR/detections.npz before they are scored.

    Args:
      config: see `experiment.trained_config`.
      workdir: of `train.train`.
      split: see `joined.open_split`; default: config.data.eval_split.
      checkpoint: see `experiment.load_model`; default: "last".
      write_results: a folder to write the detections to, see `evaluation.results`.
      output: write the metrics to this file instead, and the detections beside it, to keep several
        evaluations of one model: NAME.json and NAME.detections.npz.
      from_results: score the detections of this file (see `evaluation.detections`) instead of
        running the model; they must be those of the split, and need no `checkpoint`.
      jobs: processes that share the images, each with its share of the cores or a GPU; 1: this one.

    Returns:
      See `evaluation.report.metrics`, and "settings": how the detections were made (split,
      checkpoint and the fields of config.detection), which ohem_tf.tables reads. For a split
      without annotations, which needs `write_results`: {"results": that folder, "images": their
      number}, and no metrics file.

    Raises:
      InputError: no checkpoint, no such split, classes other than the model's, detections of other
        images, or a folder that cannot be written to.
    """
    unused = [f"--checkpoint={checkpoint}"] if checkpoint else []
    unused += [f"--jobs={jobs}"] if jobs != 1 else []
    if from_results and unused:
        raise InputError(
            f"{unused[0]} has no effect on the detections of --from_results: give one of the two"
        )
    if output:
        if os.path.isdir(output):
            raise InputError(
                f"--output: {output} is a folder; give a file in WORKDIR, ending .json"
            )
        make_folder(os.path.dirname(output) or ".", "output")
    field = "--split" if split else "config.data.eval_split"
    split = split or config.data.eval_split
    records = open_split(config.data.dir, split, field, annotated=not write_results)
    classes = tuple(load_saved(workdir)["classes"])
    if records.classes != classes:
        raise InputError(
            f"{config.data.dir}: its classes {', '.join(records.classes)} are not those of the "
            f"model in {workdir}: {', '.join(classes)}"
        )
    if not from_results:
        experiment.check_proposals(config, records, field)
    if write_results:
        results.check_folder(write_results, classes, records.category_ids)
    truth = ground_truth(records)
    image_ids = [image["image_id"] for image in truth]
    if from_results:
        found, settings = _saved(from_results, image_ids, f"{field}={split}")
    else:
        found, settings = _detect(config, workdir, checkpoint or "last", split, jobs)
        path = os.path.join(workdir, DETECTIONS)
        path = f"{os.path.splitext(output)[0]}.{DETECTIONS}" if output else path
        detections.save(path, image_ids, found, settings)
        print(f"detections: {path}", flush=True)
    if write_results:
        ids = records.category_ids
        results.write(write_results, records.split, classes, ids, image_ids, found)
    if not records.annotated:
        return {"results": write_results, "images": len(records)}
    result = metrics(truth, found, classes, **config.evaluation.to_dict())
    result["settings"] = settings
    write_json(output or os.path.join(workdir, METRICS), result)
    return result


def _detect(
    config: ConfigDict, workdir: str, checkpoint: str, split: str, jobs: int
) -> tuple[list[dict], dict[str, Any]]:
    """The detections of the model, and how they were made."""
    checkpoint = checkpoint_path(workdir, checkpoint)
    settings = {
        "split": split_name(config.data.dir, split),
        "checkpoint": os.path.basename(checkpoint),
        "detection": config.detection.to_dict(),
    }
    return detection_jobs.detect_split(config, workdir, checkpoint, split, jobs), settings


def _saved(path: str, image_ids: list[str], split: str) -> tuple[list[dict], dict[str, Any]]:
    """The detections in the images of the split, and how they were made."""
    saved_ids, found, settings = detections.load(path)
    for number, (ours, theirs) in enumerate(itertools.zip_longest(image_ids, saved_ids), 1):
        if ours != theirs:
            raise InputError(
                f"--from_results: {path} holds detections in {settings.get('split')}: image "
                f"{number} is {theirs or 'absent'} there, but {ours or 'absent'} in {split}; give "
                "the --split that they were made for"
            )
    return found, settings


def define_flags() -> None:
    """Defines the flags (not at import: binaries share names, and scripts import this module)."""
    config_flags.DEFINE_config_file("config", None, "As in training.")
    flags.DEFINE_string("workdir", None, "As in training.")
    flags.DEFINE_string("split", None, "Default: config.data.eval_split.")
    flags.DEFINE_string("checkpoint", None, "'last' (default), 'best' or a path.")
    flags.DEFINE_string(
        "write_results",
        None,
        "Folder for the detections: comp4_det_SPLIT_CLASS.txt of VOC, or COCO's results json.",
    )
    flags.DEFINE_string(
        "output",
        None,
        "Default: WORKDIR/metrics.json. Another name in WORKDIR keeps several evaluations of one "
        "model for ohem_tf.tables; NAME.json has its detections in NAME.detections.npz.",
    )
    flags.DEFINE_string(
        "from_results",
        None,
        "Score the detections of this file, such as WORKDIR/detections.npz, without running the "
        "model: as config.evaluation says, and with --write_results for a server too.",
    )
    flags.DEFINE_integer(
        "jobs", 1, "Processes that share the images, each with a GPU or its share of the cores."
    )


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    if given.config is None or given.workdir is None:
        raise InputError("give --config=configs/NAME.py and --workdir=DIR, as in training")
    overrides = config_flags.get_override_values(given["config"])
    config = experiment.trained_config(given.config, overrides, given.workdir)
    if given.from_results:
        for name in (x for x in overrides if x.startswith("detection.")):
            raise InputError(
                f"--config.{name} has no effect on the detections of --from_results: give one of "
                "the two"
            )
    result = evaluate(
        config,
        given.workdir,
        given.split,
        given.checkpoint,
        given.write_results,
        given.output,
        given.from_results,
        given.jobs,
    )
    if given.write_results:
        print(f"detections for the server: {given.write_results}")
    if "mAP" in result:
        print(table(result))
    print(json.dumps(result, allow_nan=False))


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
