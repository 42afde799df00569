"""Evaluates a trained detector: python -m ohem_tf.evaluate --config=configs/NAME.py --workdir=DIR.

Prints a table and, as the last line, one JSON object; the same object goes to WORKDIR/metrics.json.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from ohem_tf import experiment
from ohem_tf.data.records import RecordReader, write_json
from ohem_tf.errors import InputError, run
from ohem_tf.evaluation.predict import Predictor, predict_split
from ohem_tf.evaluation.report import metrics, table


def evaluate(
    config: ConfigDict, workdir: str, split: str | None = None, checkpoint: str = "last"
) -> dict[str, Any]:
    """Metrics of the detector in `workdir`, also written to WORKDIR/metrics.json.

    Args:
      config: see `experiment.trained_config`.
      workdir: of `train.train`.
      split: default: config.data.eval_split.
      checkpoint: see `experiment.load_model`.

    Returns:
      See `evaluation.report.metrics`.

    Raises:
      InputError: no checkpoint, no such split, or classes other than the model's.
    """
    records = RecordReader(config.data.dir, split or config.data.eval_split)
    classes = tuple(experiment.load_saved(workdir)["classes"])
    if records.classes != classes:
        raise InputError(
            f"{config.data.dir}: its classes {', '.join(records.classes)} are not those of the "
            f"model in {workdir}: {', '.join(classes)}"
        )
    model = experiment.load_model(config, workdir, checkpoint)
    predictor = Predictor(model, experiment.detection_settings(config))
    result = metrics(
        *predict_split(predictor, records), records.classes, **config.evaluation.to_dict()
    )
    write_json(os.path.join(workdir, "metrics.json"), result)
    return result


def define_flags() -> None:
    """Defines the flags (not at import: binaries share names, and scripts import this module)."""
    config_flags.DEFINE_config_file("config", None, "As in training.")
    flags.DEFINE_string("workdir", None, "As in training.")
    flags.DEFINE_string("split", None, "Default: config.data.eval_split.")
    flags.DEFINE_string("checkpoint", "last", "'last', 'best' or a path.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    if given.config is None or given.workdir is None:
        raise InputError("give --config=configs/NAME.py and --workdir=DIR, as in training")
    overrides = config_flags.get_override_values(given["config"])
    config = experiment.trained_config(given.config, overrides, given.workdir)
    result = evaluate(config, given.workdir, given.split, given.checkpoint)
    print(table(result))
    print(json.dumps(result, allow_nan=False))


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
