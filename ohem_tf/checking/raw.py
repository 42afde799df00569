"""Checks raw data as `prepare` would, but goes on after whatever it would refuse."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ohem_tf.checking import findings as kinds
from ohem_tf.checking.findings import Finding
from ohem_tf.checking.outcome import CheckedSplit, Outcome
from ohem_tf.checking.recall import Recall
from ohem_tf.data import checks, holdout, one_image, proposals, splits
from ohem_tf.data.formats import choice
from ohem_tf.data.listed import Listed
from ohem_tf.data.options import NONE, SELECTIVE_SEARCH, Options
from ohem_tf.data.workers import Workers
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits
from ohem_tf.progress import tqdm


def inspect(
    image: checks.Entry | Listed, limits: Limits = DEFAULT
) -> checks.Checked | checks.Problem:
    """`one_image.check_image`, but what that raises comes back as a problem."""
    try:
        return one_image.check_image(image, limits)
    except checks.WrongSize as error:
        return checks.Problem("wrong size", str(error))
    except InputError as error:
        return checks.Problem("annotation unreadable", str(error))


def check_raw(options: Options, workers: Workers, limits: Limits = DEFAULT) -> Outcome:
    """Checks the splits of `options`.

    Raises:
      InputError: what lists a split, or holds the proposals, cannot be read at all.
    """
    source = None
    if options.proposals == SELECTIVE_SEARCH:
        proposals.require_selective_search()
    elif options.proposals != NONE:
        source = proposals.ProposalFile(options.proposals, limits)
    options = choice.resolve(options, limits)
    listing = dataclasses.replace(options, on_bad_record="skip")
    listed = choice.list_splits(listing, limits)
    found: list[Finding] = []
    paths: dict[tuple[str, str], str | None] = {}
    for split in listed:
        found += [kinds.of_problem(p, split.name, "", options.on_bad_record) for p in split.dropped]
        with tqdm(total=len(split.images), desc=f"checking {split.name}", unit="image") as bar:
            check = functools.partial(inspect, limits=limits)
            results = workers.map(check, split.images, what=one_image.files_of)
            for image, result in zip(split.images, results, strict=True):
                paths[split.name, image.image_id] = _path(image)
                if isinstance(result, checks.Problem):
                    args = (split.name, result.message, image.image_id)
                    found.append(kinds.error(result.cause, *args))
                else:
                    found += kinds.of_entry(result, split.name, options.on_bad_record)
                    if result.readable:
                        split.entries.append(result)
                bar.update()
        if not split.entries:
            message = f"{split.name}: none of its {len(split.images)} images can be read"
            found.append(kinds.error(kinds.SPLIT, split.name, message))
    if options.val_fraction and listed[0].entries:
        _divide(options, listed, paths, found)
    classes = _classes(options, listed, found)
    checked = [
        CheckedSplit(s.name, len(s.images), not options.no_annotations, s.entries) for s in listed
    ]
    if options.proposals != NONE:
        for one in checked:
            one.recall = Recall(classes)
            for entry, boxes in _proposals(one, options, source, workers, limits, found):
                one.recall.add(entry.objects, boxes)

    def read(split: str, image_id: str) -> bytes:
        path = paths[split, image_id]
        if path is None:
            raise FileNotFoundError(image_id)
        return Path(path).read_bytes()

    return Outcome(classes, checked, found, read, "prepare refuses this data")


def _divide(
    options: Options,
    listed: list[splits.Split],
    paths: dict[tuple[str, str], str | None],
    found: list[Finding],
) -> None:
    """Makes the split of --val_fraction; that it cannot be made becomes a finding."""
    made = (options.splits[1], options.val_fraction, options.split_seed)
    try:
        first, second = holdout.divide(listed[0], *made)
    except InputError as error:
        found.append(kinds.error(kinds.SPLIT, listed[0].name, str(error)))
        return
    listed[:1] = first, second
    paths |= {(second.name, e.image_id): paths[first.name, e.image_id] for e in second.entries}


def _path(image: checks.Entry | Listed) -> str | None:
    return image.image_path if isinstance(image, checks.Entry) else image.path()


def _classes(
    options: Options, listed: Sequence[splits.Split], found: list[Finding]
) -> tuple[str, ...]:
    """The classes; objects of others leave the entries and become findings."""

    def refuse(error: InputError) -> None:
        found.append(kinds.error(kinds.SPLIT, listed[0].name, str(error)))

    if options.no_annotations:
        return options.classes or tuple(listed[0].category_ids)
    try:
        classes = options.classes or splits.find_classes(listed[0])
    except InputError as error:
        refuse(error)
        return ()
    if options.format == "coco":
        try:
            splits.category_ids(listed, classes, {})
        except InputError as error:
            refuse(error)
    for split in listed:
        for i, entry in enumerate(split.entries):
            known = []
            for item in entry.objects:
                problem = checks.check_class(item, entry, classes)
                if problem is None:
                    known.append(item)
                    continue
                finding = kinds.of_problem(
                    dataclasses.replace(problem, box=item.box),
                    split.name,
                    entry.image_id,
                    options.on_bad_record,
                )
                found.append(finding)
            split.entries[i] = dataclasses.replace(entry, objects=tuple(known))
    return classes


def _proposals(
    split: CheckedSplit,
    options: Options,
    source: proposals.ProposalFile | None,
    workers: Workers,
    limits: Limits,
    found: list[Finding],
) -> Iterator[tuple[checks.Checked, np.ndarray]]:
    """The images that have proposals, with them."""
    bar = tqdm(split.entries, desc=f"proposals {split.name}", unit="image")
    if source is None:
        count = len(split.entries)
        yield from zip(
            bar,
            workers.map(
                _search,
                [entry.image_path for entry in split.entries],
                [options.selective_search_mode] * count,
                [options.min_proposal_size] * count,
                [limits] * count,
                what=lambda path, *_: path,
            ),
            strict=True,
        )
        return
    for entry in bar:
        try:
            yield entry, source.get(entry)
        except InputError as error:
            args = (split.name, str(error), entry.image_id)
            found.append(kinds.error("proposals refused", *args))


def _search(path: str, mode: str, min_size: float, limits: Limits) -> np.ndarray:
    return proposals.read_and_search(path, mode, min_size, limits)[2]
