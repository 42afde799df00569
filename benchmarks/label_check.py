"""How well trained models find flaws that are planted in labels: ohem_tf.check --workdir.

    python -m benchmarks.label_check --workdirs=runs/compare/ohem/seed-0,runs/compare/frcn/seed-0 \
        --split=val --images=400 --output=docs/results/label_check

Copies the first images of a split that the models were not trained on; from every fourth one it
takes an annotation away, in every fourth one it gives an object another class, at random. Then it
counts, in what `check` lists by descending loss, how many flaws were found and how many of the
first findings are planted ones. What else is listed is not all wrong: the data may have flaws of
its own. Writes OUTPUT.md and OUTPUT.json.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tabulate import tabulate

from ohem_tf import boxes as box_ops
from ohem_tf.checking import labels
from ohem_tf.checking.findings import SUSPECT, UNLABELLED, Finding
from ohem_tf.comparison.page import read_introduction
from ohem_tf.data.joined import open_split
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import Record, from_example, shard_name, to_example, write_shard
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder, write_json

_FOUND_IOU = 0.3  # of a finding with the planted object
_FIRST = (10, 25, 50)
_COLUMNS = ("model", "planted", "number", "found", "listed", *(f"of the first {n}" for n in _FIRST))
_PLANTED = {UNLABELLED: "annotation taken away", SUSPECT: "another class"}

Flaws = dict[str, dict[str, np.ndarray]]  # {kind of finding: {image id: box [4]}}


def plant(reader: RecordReader, images: int, least: float) -> tuple[list[Record], Flaws]:
    """Copies of the first images, with flaws in every other one, and where they are.

    Only objects that are not difficult and at least `least` pixels wide and high are touched.
    """
    rng = np.random.default_rng(0)
    copies, flaws = [], Flaws({UNLABELLED: {}, SUSPECT: {}})
    for number in range(min(images, len(reader))):
        record = from_example(reader[number])
        sides = np.min(record.boxes[:, 2:] - record.boxes[:, :2], axis=1)
        usable = np.flatnonzero((sides >= least) & ~record.difficult & ~record.crowd)
        if number % 2 == 0 and len(usable):
            chosen = int(rng.choice(usable))
            kind = UNLABELLED if number % 4 == 0 else SUSPECT
            flaws[kind][record.image_id] = record.boxes[chosen]
            if kind == UNLABELLED:
                kept = np.arange(len(sides)) != chosen
                names = ("boxes", "classes", "area", "difficult", "crowd")
                changes = {name: getattr(record, name)[kept] for name in names}
            else:
                count = len(reader.classes)
                classes = record.classes.copy()
                classes[chosen] = (classes[chosen] - 1 + rng.integers(1, count)) % count + 1
                changes = {"classes": classes}
            record = dataclasses.replace(record, **changes)
        copies.append(record)
    return copies, flaws


def write(folder: str, split: str, copies: list[Record], reader: RecordReader) -> None:
    """A data set of the copies."""
    name = shard_name(split, 0, 1)
    write_shard(Path(folder) / name, (to_example(record, reader.classes) for record in copies))
    info = {
        "shards": [{"file": name, "records": len(copies)}],
        "image_ids": " ".join(record.image_id for record in copies),
    }
    dataset = {"classes": reader.classes, "category_ids": None, "splits": {split: info}}
    write_json(Path(folder) / "dataset.json", dataset)


def score(found: list[Finding], flaws: Flaws, kind: str) -> dict[str, Any]:
    """What the findings of a kind have of the flaws of that kind; each flaw counts once."""
    listed = [finding for finding in found if finding.kind == kind]
    hits, left = [], dict(flaws[kind])
    for finding in listed:
        (picture,) = finding.pictures
        box = left.get(picture.image_id)
        hit = box is not None and bool(
            box_ops.iou([picture.marks[0].box], [box]).numpy()[0, 0] > _FOUND_IOU
        )
        if hit:
            del left[picture.image_id]
        hits.append(hit)
    return {
        "planted": len(flaws[kind]),
        "found": sum(hits),
        "listed": len(listed),
        "first": {str(count): sum(hits[:count]) for count in _FIRST},
    }


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_list("workdirs", None, "Of trainings on the same records.")
    flags.DEFINE_string("split", "val", "Of their records; they were not trained on it.")
    flags.DEFINE_integer("images", 400, "How many of its images.", lower_bound=1)
    flags.DEFINE_float("min_side", 48, "Of an object that is touched, in pixels.")
    flags.DEFINE_float("min_loss", 1.0, "See ohem_tf.check.")
    flags.DEFINE_string("output", None, "Base of the paths of the page.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if not given.workdirs or not given.output:
        raise InputError("give --workdirs=A,B and --output=docs/results/NAME")
    make_folder(os.path.dirname(given.output) or ".", "output")
    directory, _ = labels.trained_on(given.workdirs[0])
    reader = open_split(directory, given.split, "--split")
    copies, flaws = plant(reader, given.images, given.min_side)
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write(folder, "planted", copies, reader)
        for workdir in given.workdirs:
            check = labels.LabelCheck(workdir, "last", folder, ["planted"])
            found = check.findings(given.min_loss)
            name = os.path.join(*Path(workdir).parts[-2:])
            results[name] = {kind: score(found, flaws, kind) for kind in flaws}
    settings = {name: getattr(given, name) for name in ("split", "images", "min_side", "min_loss")}
    write_json(f"{given.output}.json", {**settings, "results": results})
    rows = [
        [name, _PLANTED[kind], r["planted"], r["found"], r["listed"], *r["first"].values()]
        for name, kinds in results.items()
        for kind, r in kinds.items()
    ]
    parts = [
        read_introduction(given.output, "# Flaws found in labels"),
        tabulate(rows, _COLUMNS, tablefmt="github"),
        f"{len(copies)} images of `{given.split}`; objects of at least {given.min_side:g} px; "
        f"findings with a loss of {given.min_loss:g} or more, in descending order of loss. found: "
        f"planted flaws that a finding covers at IoU > {_FOUND_IOU:g}; of the first N: how many of "
        "the first N findings are planted flaws.",
    ]
    Path(f"{given.output}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"{given.output}.md, .json")


if __name__ == "__main__":
    define_flags()
    run(main)
