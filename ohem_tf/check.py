r"""Checks a data set, and with a trained model its labels; reports all findings, not the first one.

    python -m ohem_tf.check --format=voc --root=VOCdevkit/VOC2007 --split=trainval,test --output=DIR
    python -m ohem_tf.check --records=records/voc07 --workdir=runs/voc07 --output=DIR

The first looks at raw data of any format, with the flags of ohem_tf.prepare and by the same checks,
the second at what prepare wrote. Found are

- errors, which prepare refuses: images that are missing or do not decode, or whose size is not that
  of the annotation; annotations that cannot be read; boxes that are empty, not numeric or more than
  a pixel outside; unknown classes; a file of proposals that does not fit. What
  --on_bad_record=skip would drop is no error under that flag. In records: what training stops at.
- what a person should look at: images turned by EXIF, tiny boxes, doubled boxes, the same image in
  two splits or twice in one (by perceptual hash: also if it was compressed again or resized),
  classes with few examples.
- with --workdir, the labels that its model doubts, by descending loss: background RoIs that look
  like an unlabelled object, and annotated boxes where the model sees something else or nothing.

It counts greyscale, CMYK and 16-bit images and images without an object, and measures the recall
of the proposals per class and size. --output=DIR writes check.json, with every finding, and
check.html, one page with pictures of the first of each kind. The exit status is 1 if there is an
error, else 0.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags, logging

from ohem_tf import errors, raw_flags
from ohem_tf.checking.outcome import Outcome
from ohem_tf.checking.page import page
from ohem_tf.checking.raw import check_raw
from ohem_tf.checking.stored import check_records
from ohem_tf.checking.terminal import summary
from ohem_tf.data.options import NONE, Options, usable_cores
from ohem_tf.data.workers import Workers
from ohem_tf.errors import InputError
from ohem_tf.files import atomic, make_folder, write_json
from ohem_tf.limits import DEFAULT, Limits

_PLACES = ("root", "annotations")  # of raw data
_TRAINED = ("checkpoint", "min_loss")


def check(
    raw: Options | None,
    records: str | None = None,
    expressions: Sequence[str] = (),
    num_workers: int = 1,
    min_examples: int = 20,
    workdir: str | None = None,
    checkpoint: str = "last",
    min_loss: float = 1.0,
) -> Outcome:
    """Checks raw data, or records, and with a trained model the labels of records.

    Args:
      raw: what prepare would get; its output and runner mean nothing here.
      records, expressions: a folder of prepare, and which of its splits; see `check_records`.
      num_workers: processes that decode images.
      min_examples: see `findings.of_classes`.
      workdir, checkpoint, min_loss: see `labels.LabelCheck`.

    Raises:
      InputError: nothing can be checked: what lists a split cannot be read, or the model cannot.
    """
    if workdir:
        from ohem_tf.checking import labels  # TensorFlow, which the worker processes need not load

        if not records:
            records, split = labels.trained_on(workdir)
            expressions = expressions or [split]
        label_check = labels.LabelCheck(workdir, checkpoint, records, expressions)
    limits = DEFAULT if raw is None else Limits.of_flags(raw)
    with Workers(num_workers, limits=limits) as workers:
        if records:
            outcome = check_records(records, expressions, workers)
        else:
            assert raw is not None  # main has seen to it
            outcome = check_raw(raw, workers, limits)
    outcome.compare(min_examples)
    if workdir and outcome.errors:
        logging.warning("the model is not asked about labels while these records have errors")
    elif workdir:
        outcome.findings += label_check.findings(min_loss)
    return outcome


def define_flags() -> None:
    """Defines the flags; not at import, since other binaries have flags of the same names."""
    flags.DEFINE_string("records", None, "Folder that prepare wrote, instead of raw data.")
    raw_flags.define(NONE)
    flags.DEFINE_list(
        "split",
        None,
        "Splits, the training split first. Records: what config.data.train_split takes, also a "
        "part as in train[:300]; by default all, or with --workdir alone the split of training.",
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder of ohem_tf.train: its model looks at the labels of --records, by default of the "
        "records that it was trained on. It sees most in images that it was not trained on.",
    )
    flags.DEFINE_string("checkpoint", "last", "last, best, or a path: of the model in --workdir.")
    flags.DEFINE_float("min_loss", 1.0, "Of a RoI that is reported with --workdir.", lower_bound=0)
    flags.DEFINE_integer(
        "min_examples", 20, "Of a class in the training split; fewer is a finding.", lower_bound=0
    )
    flags.DEFINE_string("output", None, "Folder for check.json and check.html.")
    flags.DEFINE_integer(
        "pictures", 24, "Findings of each kind that check.html shows.", lower_bound=0
    )
    flags.DEFINE_integer("num_workers", None, "Processes. By default one for each core.")


def _read_flags() -> dict[str, Any]:
    """The arguments of `check`.

    Raises:
      InputError: flags that do not go together.
    """
    given = flags.FLAGS
    is_raw = any(given[name].value for name in _PLACES)
    if given.records and given.root:
        raise InputError("--records and --root: expected one of them: records, or raw data")
    if not (given.records or is_raw or given.workdir):
        raise InputError("expected --root with raw data and --split, or --records=DIR")
    if is_raw and given.workdir:
        raise InputError(
            "--workdir: a trained model looks at records; prepare the data, then give --records=DIR"
        )
    for names, there, what, flag in (
        (raw_flags.NAMES, is_raw, "raw data", "root"),
        (_TRAINED, given.workdir, "a model", "workdir"),
    ):
        for name in names if not there else ():
            if given[name].present:
                raise InputError(f"--{name}: is for {what}; expected --{flag} with it")
    raw = None
    if is_raw:
        raw = Options(output=given.output or "", **raw_flags.values())
    workers = usable_cores() if given.num_workers is None else given.num_workers
    if workers < 1:
        raise InputError(f"--num_workers={workers}: expected at least 1")
    return {
        "raw": raw,
        "records": given.records,
        "expressions": given.split or (),
        "num_workers": workers,
        "min_examples": given.min_examples,
        "workdir": given.workdir,
        "checkpoint": given.checkpoint,
        "min_loss": given.min_loss,
    }


def write(outcome: Outcome, folder: str, title: str, pictures: int) -> None:
    """Writes check.json and check.html into a folder that exists."""
    write_json(os.path.join(folder, "check.json"), outcome.as_json())
    with atomic(os.path.join(folder, "check.html")) as temporary:
        Path(temporary).write_text(page(outcome, title, pictures), encoding="utf-8")


def main(argv: Sequence[str]) -> int:
    """Entry point of the binary; returns its exit status."""
    arguments = _read_flags()
    if not arguments["workdir"]:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # TensorFlow only reads records here
    folder = flags.FLAGS.output
    if folder:
        make_folder(folder, "output")
    outcome = check(**arguments)
    print(summary(outcome), flush=True)
    if folder:
        what = flags.FLAGS.records or flags.FLAGS.root or flags.FLAGS.workdir or "data"
        write(outcome, folder, f"Check of {what}", flags.FLAGS.pictures)
        print(f"written to {folder}: check.json and check.html")
    return 1 if outcome.errors else 0


def cli() -> None:
    """Entry point of the console script."""
    define_flags()
    errors.run(main)


if __name__ == "__main__":
    cli()
