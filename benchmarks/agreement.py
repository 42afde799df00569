"""Holds an export against evaluation, on the files of a prepared split.

    python -m benchmarks.agreement --config=configs/NAME.py --workdir=DIR --saved_model=EXPORT_DIR/1

The export gets a file's bytes and proposals, as a client sends them; evaluation runs the checkpoint
that the export was made of. The last line is one JSON object: "images", "detections", how many
images differ in number or classes of their detections, and the largest differences of the others in
"box_pixels" and "score".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags
from ml_collections import config_flags

from ohem_tf import experiment, images
from ohem_tf.data.joined import open_split
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import parse_example
from ohem_tf.errors import InputError, run
from ohem_tf.inference.detection import Detections
from ohem_tf.inference.exported import from_outputs
from ohem_tf.inference.predict import Predictor
from ohem_tf.progress import tqdm

_Answers = Iterator[tuple[Detections, Detections]]


def compare(answers: _Answers) -> dict[str, Any]:
    """What the module's docstring says, of pairs (evaluation's detections, the export's)."""
    count = detections = different = 0
    box = score = 0.0
    for wanted, found in answers:
        count += 1
        detections += len(wanted.scores)
        if not np.array_equal(wanted.classes, found.classes):
            different += 1
            continue
        box = max(box, np.max(np.abs(wanted.boxes - found.boxes), initial=0.0))
        score = max(score, np.max(np.abs(wanted.scores - found.scores), initial=0.0))
    return {
        "images": count,
        "detections": detections,
        "images_that_differ": different,
        "box_pixels": float(box),
        "score": float(score),
    }


def both(predictor: Predictor, serve: Callable, records: RecordReader, count: int) -> _Answers:
    """The detections of evaluation and of an export in the first `count` images."""
    for index in tqdm(range(min(count, len(records))), desc="comparing", unit="image"):
        record = parse_example(tf.constant(records[index]))
        encoded, proposals = record["encoded"], record["proposals"]
        image = images.decode(encoded).numpy()
        outputs = serve(image_bytes=encoded[None], proposals=proposals[None])
        outputs = {name: value.numpy() for name, value in outputs.items()}
        (found,) = from_outputs(outputs, [image.shape[:2]])
        yield predictor(image, proposals.numpy()), found


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "As for the export.")
    flags.DEFINE_string("workdir", None, "As for the export.")
    flags.DEFINE_string("checkpoint", "last", "As for the export.")
    flags.DEFINE_string("saved_model", None, "EXPORT_DIR/VERSION.")
    flags.DEFINE_string("split", None, "Default: config.data.eval_split.")
    flags.DEFINE_integer("images", 50, "At most this many, the first ones.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    for name in ("config", "workdir", "saved_model"):
        if given[name].value is None:
            raise InputError(f"--{name} is missing")
    overrides = config_flags.get_override_values(given["config"])
    config = experiment.trained_config(given.config, overrides, given.workdir)
    split = given.split or config.data.eval_split
    records = open_split(config.data.dir, split, "--split", annotated=False)
    loaded = tf.saved_model.load(given.saved_model)
    model = experiment.load_model(config, given.workdir, given.checkpoint)
    predictor = Predictor(model, experiment.detection_settings(config))
    serve = loaded.signatures["serving_default"]
    print(json.dumps(compare(both(predictor, serve, records, given.images))))


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
