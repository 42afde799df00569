r"""Prepares a data set: raw images, annotations and proposals become records.

python -m ohem_tf.prepare --format=voc --root=VOCdevkit/VOC2007 --split=trainval,test \
    --proposals=selective_search --output=DIR

--format=auto, the default, finds out whether a folder holds VOC, COCO, YOLO, CVAT, LabelMe, Label
Studio or Open Images data (docs/formats.md), and --val_fraction=0.2 makes train and val of data
without splits. Every annotation and image is checked first, then proposals are computed or read and
shards are written atomically. --proposals=none leaves them out: models with a region proposal
network (config.proposals=rpn) need none. Run again with the same flags it resumes from the shards
that are finished; run with another --split it adds that split to the same data set, with the same
classes. --no_annotations takes splits whose ground truth is not public (VOC12 test, COCO test-dev).
--runner=DirectRunner (or Dataflow, Flink, Spark) computes proposals and shards on Apache Beam, see
docs/cluster.md.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import cv2
from absl import flags, logging

from ohem_tf import errors, raw_flags
from ohem_tf.data import beam, holdout, one_image, proposals, shards, splits, summary
from ohem_tf.data.formats import choice
from ohem_tf.data.options import NONE, SELECTIVE_SEARCH, Options, usable_cores
from ohem_tf.data.reader import read_dataset_info
from ohem_tf.data.workers import Workers
from ohem_tf.errors import InputError
from ohem_tf.files import make_folder, owned, write_json
from ohem_tf.limits import Limits


def prepare(options: Options) -> dict[str, Any]:
    """Prepares the splits of `options` and returns what dataset.json then holds.

    Raises:
      InputError: bad input or flags; see checks.py, voc.py, coco.py, formats/, splits.py and
        proposals.py.
        The output is in use, or cannot be written.
    """
    if options.runner is not None:
        beam.check(options.runner, options.beam_options)
    make_folder(options.output, "output")
    with owned(options.output, "output"):
        return _prepare(options)


def _prepare(options: Options) -> dict[str, Any]:
    output = Path(options.output)
    limits = Limits.of_flags(options)
    options = choice.resolve(options, limits)
    source: proposals.Source | None = None
    how: dict[str, Any] = {"method": SELECTIVE_SEARCH, "mode": options.selective_search_mode}
    how["opencv"] = cv2.__version__
    if options.proposals == SELECTIVE_SEARCH:
        proposals.require_selective_search()
    elif options.proposals == NONE:
        source = proposals.NoProposals()
    else:
        source = proposals.ProposalFile(options.proposals, limits)
    if source is not None:
        how = source.describe()
    if options.proposals != NONE:
        how["min_size"] = options.min_proposal_size
    dataset = _existing(options)
    earlier = [shards.earlier(output, name, dataset) for name in options.splits]
    found = choice.list_splits(options, limits)
    if options.no_annotations:
        _need_classes(options, dataset, found[0])
    with Workers(options.num_workers, limits=limits) as workers:
        for split in found:
            split.check(workers, limits)
        if options.val_fraction:
            made = (options.splits[1], options.val_fraction, options.split_seed)
            found[:1] = holdout.divide(found[0], *made)
        if leak := summary.leak(found):
            logging.warning("%s", leak)
        classes = options.classes or tuple(dataset["classes"]) or splits.find_classes(found[0])
        if options.format == "coco":
            known = zip(dataset["classes"], dataset["category_ids"] or [], strict=True)
            dataset["category_ids"] = splits.category_ids(found, classes, dict(known))
        dataset["classes"] = list(classes)
        plans = []
        for split in found:
            split.keep_classes(classes)
            if source is not None:
                for entry in split.entries:
                    source.get(entry)
            plan = shards.content_settings(split.entries) | {"proposals": how}
            plan |= {"classes": list(classes), "shard_size": options.shard_size}
            if options.no_annotations:
                plan["annotated"] = False
            if options.val_fraction and split.name in options.splits[:2]:
                plan["divided"] = f"{options.val_fraction}, seed {options.split_seed}"
            plans.append(plan)
        states = [
            _resume(options, split.name, state, dataset, plan)
            for split, state, plan in zip(found, earlier, plans, strict=True)
        ]
        record_settings = one_image.Settings(
            tuple(classes), options.selective_search_mode, options.min_proposal_size, limits
        )
        for split, plan, state in zip(found, plans, states, strict=True):
            if options.runner is None:
                write_all = functools.partial(
                    shards.write_here, output, record_settings, source, workers
                )
            else:
                job = beam.Job(output.resolve(), split.name, record_settings, how.get("opencv"))
                write_all = functools.partial(
                    beam.write, job, options.runner, options.beam_options, source
                )
            args = (split.entries, plan, state, write_all)
            written = shards.write(output, split.name, *args)
            info = summary.describe(split.entries, split.skipped, classes, plan, written)
            dataset["splits"][split.name] = info
            write_json(output / "dataset.json", dataset)
            shards.partial_path(output, split.name).unlink(missing_ok=True)
            print(summary.table(split.name, split.entries, info, output), flush=True)
    return dataset


def _existing(options: Options) -> dict[str, Any]:
    """dataset.json of the output as far as it counts for this run; without one, an empty one."""
    path = Path(options.output) / "dataset.json"
    fresh: dict[str, Any] = {
        "format": options.format,
        "classes": [],
        "category_ids": None,
        "splits": {},
    }
    if not path.exists():
        return fresh
    dataset = read_dataset_info(options.output)
    others = sorted(set(dataset["splits"]) - set(options.splits))
    if options.overwrite and not others:
        # The splits stay listed until each is replaced; classes are found afresh.
        return fresh | {"splits": dataset["splits"]}
    asked = {"format": options.format, "classes": options.classes and list(options.classes)}
    for key, value in asked.items():
        if value is not None and dataset.get(key) != value:
            remedy = f"the splits {', '.join(others)} have it" if others else "or use --overwrite"
            raise InputError(
                f"{path}: {key} there: {dataset.get(key)}, now: {value}; use another --output "
                f"({remedy})"
            )
    return dataset


def _need_classes(options: Options, dataset: dict[str, Any], split: splits.Split) -> None:
    """Raises InputError if nothing tells the classes of splits without annotations."""
    first = "prepare the training split into this --output first"
    if options.format == "coco" and not (split.category_ids or dataset["category_ids"]):
        raise InputError(f"--no_annotations: the json has no 'categories'; {first}")
    if options.format == "voc" and not (options.classes or dataset["classes"]):
        raise InputError(f"--no_annotations: the classes are not known; give --classes, or {first}")


def _resume(
    options: Options,
    split: str,
    state: dict[str, Any] | None,
    dataset: dict[str, Any],
    plan: dict[str, Any],
) -> dict[str, Any] | None:
    """What an earlier run left (`state`) if it had these very settings, else None.

    A split to be overwritten leaves dataset.json here, before its shards go.
    """
    if state is None or state["fingerprint"] == shards.fingerprint(plan):
        return state
    if not options.overwrite:
        raise InputError(
            f"{options.output}: split {split!r} was prepared there from other input: "
            f"{'; '.join(shards.differences(state, plan))}; use another --output or --overwrite"
        )
    if dataset["splits"].pop(split, None) is not None:
        write_json(Path(options.output) / "dataset.json", dataset)
    return None


def define_flags() -> None:
    """Defines the flags; not at import, since other binaries have flags of the same names."""
    raw_flags.define(SELECTIVE_SEARCH)
    flags.DEFINE_list("split", None, "Splits, the training split first.")
    flags.DEFINE_string("output", None, "Directory to write.", required=True)
    flags.DEFINE_integer(
        "num_workers",
        None,
        "Processes that read and search images. By default one for each core; 0: this one alone, "
        "which a file that crashes its reader then ends.",
    )
    flags.DEFINE_string(
        "runner",
        None,
        "Beam runner for proposals and shards (extra [beam]): DirectRunner, DataflowRunner, "
        "FlinkRunner, SparkRunner, ... By default the processes of --num_workers make them; images "
        "are checked by those in either case.",
    )
    flags.DEFINE_string(
        "beam_options", "", "Options of the runner, such as '--project=p --region=europe-west4'."
    )
    flags.DEFINE_integer("shard_size", 256, "Images per shard: what a restart repeats at most.")
    flags.DEFINE_bool("overwrite", False, "Replace splits prepared there from other input.")


def main(argv: list[str]) -> None:
    """Entry point of the binary."""
    # TensorFlow, imported when the first shard is written, only encodes records here: it must not
    # take a GPU.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    given = flags.FLAGS
    workers = usable_cores() if given.num_workers is None else given.num_workers
    own = ("output", "runner", "beam_options", "shard_size", "overwrite")
    values = {name: getattr(given, name) for name in own}
    prepare(Options(num_workers=workers, **values, **raw_flags.values()))


def cli() -> None:
    """Entry point of the console script."""
    define_flags()
    errors.run(main)


if __name__ == "__main__":
    cli()
