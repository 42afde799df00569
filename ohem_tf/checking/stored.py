"""Checks records: what prepare wrote, perhaps with an older version or on another machine."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import numpy as np
from google.protobuf.message import DecodeError

from ohem_tf.checking import findings as kinds
from ohem_tf.checking.findings import Finding
from ohem_tf.checking.outcome import CheckedSplit, Outcome
from ohem_tf.checking.recall import Recall
from ohem_tf.data import checks
from ohem_tf.data.joined import check_classes, open_split
from ohem_tf.data.reader import RecordReader, read_dataset_info
from ohem_tf.data.records import Record, from_example
from ohem_tf.data.workers import Workers
from ohem_tf.progress import tqdm


def inspect(image: tuple[checks.Entry, bytes]) -> checks.Checked | checks.Problem:
    """`checks.check_entry`, but what that raises comes back as a problem."""
    try:
        return checks.check_entry(image[0], data=image[1])
    except checks.WrongSize as error:
        return checks.Problem("wrong size", str(error))


def check_records(directory: str, expressions: Sequence[str], workers: Workers) -> Outcome:
    """Checks splits of a prepared data set.

    Args:
      directory: of `prepare`, or a folder that holds some.
      expressions: what `joined.open_split` takes, the training split first; none: all splits, in
        the order in which they were prepared.
      workers: decode the images.

    Raises:
      InputError: as `open_split`; splits of other classes.
    """
    expressions = expressions or list(read_dataset_info(directory)["splits"])
    readers = {e: open_split(directory, e, "--split", annotated=False) for e in expressions}
    classes = readers[expressions[0]].classes
    for name, reader in readers.items():
        check_classes(f"--split: {name}", reader.classes, expressions[0], classes)
    found: list[Finding] = []
    indices: dict[tuple[str, str], int] = {}
    checked = []
    for name, reader in readers.items():
        split = CheckedSplit(name, len(reader), reader.annotated)
        if reader.has_proposals:
            split.recall = Recall(classes)
        _check_split(directory, split, reader, workers, found, indices)
        checked.append(split)

    def read(split: str, image_id: str) -> bytes:
        return from_example(readers[split][indices[split, image_id]]).encoded

    return Outcome(classes, checked, found, read, "training on these records may stop")


def _check_split(
    directory: str,
    split: CheckedSplit,
    reader: RecordReader,
    workers: Workers,
    found: list[Finding],
    indices: dict[tuple[str, str], int],
) -> None:
    """Fills `split`, `found` and `indices`."""
    waiting: collections.deque[tuple[checks.Entry, np.ndarray]] = collections.deque()

    def entries() -> Iterator[tuple[checks.Entry, bytes]]:
        for index in range(len(reader)):
            where = f"{directory}: {split.name}: record {index}"
            try:
                record = from_example(reader[index])
                told = entry(record, where, reader.classes)
            except (ValueError, IndexError, DecodeError) as error:
                message = f"{where}: cannot be read ({error}); run prepare again"
                found.append(kinds.error("record unreadable", split.name, message))
                continue
            indices[split.name, record.image_id] = index
            waiting.append((told, record.proposals))
            yield told, record.encoded

    with tqdm(total=len(reader), desc=f"checking {split.name}", unit="image") as bar:
        for result in workers.map(inspect, entries()):
            told, boxes = waiting.popleft()
            bar.update()
            if isinstance(result, checks.Problem):
                message = result.message
                found.append(kinds.error(result.cause, split.name, message, told.image_id))
                continue
            found += kinds.of_entry(result, split.name, "error")
            if result.readable:
                split.entries.append(result)
                if split.recall is not None:
                    split.recall.add(result.objects, boxes)


def entry(record: Record, where: str, classes: Sequence[str]) -> checks.Entry:
    """A record as an annotation would tell it."""
    objects = []
    for i, label in enumerate(record.classes.tolist()):
        box = record.boxes[i].tolist()
        numbers = ", ".join(f"{side:g}" for side in box)
        known = 1 <= label <= len(classes)
        name = classes[label - 1] if known else f"label {label}"
        number = f"object {i + 1}"
        problem = None
        if not np.all(np.isfinite(box)):
            message = f"{where}: {number} ({name}): the box [{numbers}] is not finite"
            problem = checks.Problem("box not numeric", message)
        elif not known:
            message = f"{where}: {number}: {name} is none of the {len(classes)} classes"
            problem = checks.Problem("unknown class", message, box=tuple(box))
        flags = bool(record.difficult[i]), bool(record.crowd[i]), float(record.area[i])
        shown = f"[ymin, xmin, ymax, xmax] = [{numbers}]"
        objects.append(checks.Object(name, tuple(box), *flags, number, shown, problem))
    return checks.Entry(
        record.image_id,
        f"{where} ({record.image_id})",
        where,
        record.height,
        record.width,
        tuple(objects),
    )
