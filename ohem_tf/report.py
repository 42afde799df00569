"""A report on a trained detector as one HTML page: python -m ohem_tf.report WORKDIR [WORKDIR ...].

WORKDIR is the folder of a training that was evaluated (python -m ohem_tf.evaluate), or a metrics
file in one; the first is reported on, the others are baselines that stand beside it, evaluated on
the same images. The folder of ohem_tf.compare stands for its second method beside the first, a run
of each, and its own page becomes a section.

The page holds training curves, AP per class, precision-recall curves, confusion between classes,
error types (TIDE), AP by size, calibration, the recall of proposals and of detections, pictures of
the RoIs with the highest loss, of the worst false positives and of the worst misses, settings and
versions. It opens without a network, and no script runs in it.

The RoIs with the highest loss take a pass of the model over --loss_images images; the rest is
computed from the detections that the evaluation left.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ohem_tf.comparison.intervals import RESAMPLES
from ohem_tf.errors import InputError, run
from ohem_tf.files import atomic, make_folder
from ohem_tf.progress import tqdm
from ohem_tf.reporting import doubts as hard
from ohem_tf.reporting.content import analyse, difference, worst
from ohem_tf.reporting.page import Report, page
from ohem_tf.reporting.runs import Run, read_runs
from ohem_tf.reporting.split import Split, read_split

NAME = "report.html"


def report(
    workdirs: Sequence[str],
    records: str | None = None,
    loss_images: int = 200,
    pictures: int = 12,
) -> str:
    """The page on evaluated runs.

    Args:
      workdirs: see `reporting.runs.read_runs`.
      records: folder of the records; None: where they were in training.
      loss_images: how many images the model looks at for the RoIs with the highest loss; 0: it does
        not run.
      pictures: of each kind of mistake at most so many.

    Raises:
      InputError: a workdir that was not evaluated, runs that do not go together, records that are
        not those of the evaluation, a checkpoint that is gone.
    """
    runs, comparison = read_runs(workdirs)
    first = runs[0]
    if loss_images:
        hard.checkpoint_of(first)
    split = read_split(first, records)
    resamples = RESAMPLES if len(runs) > 1 else 0
    analyses = [
        analyse(
            split.ground_truth,
            one.detections,
            one.classes,
            first.method,
            first.iou_threshold,
            resamples,
        )
        for one in tqdm(runs, desc="analysing", unit="run")
    ]
    found = analyses[0]
    apart = [
        difference((first.name, other.name), found, reference)
        for other, reference in zip(runs[1:], analyses[1:], strict=True)
    ]
    doubts = hard.look(first, split, loss_images) if loss_images else None
    false, missed = worst(
        split.ground_truth, first.detections, first.iou_threshold, found.min_score, pictures
    )
    recall, said = _proposals(first, split, doubts)
    content = Report(
        runs,
        analyses,
        [sentence for sentence in apart if sentence],
        split.name,
        recall,
        said,
        doubts,
        false,
        missed,
        comparison,
        split.reader(),
    )
    return page(content, pictures)


def _proposals(first: Run, split: Split, doubts: hard.Doubts | None) -> tuple[dict | None, str]:
    """Recall of the proposals of a run, and a sentence that says whose they are."""
    if split.recall is not None:
        return split.recall.as_json(), "They are those of the records."
    if doubts is not None:
        said = f"They are the model's own, in {doubts.images} of the images."
        return doubts.recall.as_json(), said
    return None, ""


def define_flags() -> None:
    """Defines the flags (not at import: binaries share names, and scripts import this module)."""
    flags.DEFINE_string("output", None, f"The page. Default: {NAME} in the first WORKDIR.")
    flags.DEFINE_string("records", None, "Folder that prepare wrote, if it is not where it was.")
    flags.DEFINE_integer(
        "loss_images",
        200,
        "Images that the model looks at for the RoIs with the highest loss; 0: it does not run.",
        lower_bound=0,
    )
    flags.DEFINE_integer("pictures", 12, "Of each kind of mistake.", lower_bound=0)


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given, workdirs = flags.FLAGS, argv[1:]
    if not workdirs:
        raise InputError("give WORKDIR [WORKDIR ...]: runs that ohem_tf.evaluate has evaluated")
    if not given.loss_images:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # TensorFlow only reads records here
    beside = workdirs[0] if os.path.isdir(workdirs[0]) else os.path.dirname(workdirs[0])
    output = given.output or os.path.join(beside, NAME)
    if os.path.isdir(output):
        raise InputError(f"--output: {output} is a folder; give a file, ending .html")
    make_folder(os.path.dirname(output) or ".", "output")
    text = report(workdirs, given.records, given.loss_images, given.pictures)
    with atomic(output) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    print(f"{output}: {os.path.getsize(output) / 1e6:.1f} MB")


def cli() -> None:
    """Entry point of the console script."""
    define_flags()
    run(main, takes_words=True)


if __name__ == "__main__":
    cli()
