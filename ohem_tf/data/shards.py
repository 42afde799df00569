"""Writes the shards of one split, so that a run that was killed resumes where it stopped.

`DIR/SPLIT.partial.json` holds the settings of an unfinished split and its finished shards; it goes
when the split is entered in dataset.json. A shard counts as finished when it stands there.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ohem_tf.data import checks, one_image, proposals, records, tfrecord
from ohem_tf.data.workers import Workers
from ohem_tf.errors import InputError
from ohem_tf.files import temporary_name, write_json
from ohem_tf.progress import tqdm

_LAYOUT = 1  # raise it when the same input gives other records


def content_settings(entries: Sequence[checks.Checked]) -> dict[str, Any]:
    """What a split is made from, by digests of its ids, image files and good objects.

    Content counts, not the place: a data set that was moved resumes all the same.
    """

    def digest(values: Iterable[Any]) -> str:
        return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]

    return {
        "layout": _LAYOUT,
        "image ids": digest(entry.image_id for entry in entries),
        "image files": digest(entry.digest for entry in entries),
        "annotations": digest(
            [(o.name, o.box, o.difficult, o.crowd, o.area) for o in entry.objects]
            for entry in entries
        ),
    }


def fingerprint(settings: dict[str, Any]) -> str:
    """One word for the settings of a split."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def partial_path(output: Path, split: str) -> Path:
    """The file that says which shards of an unfinished split are done."""
    return output / f"{split}.partial.json"


def beam_folder(output: Path, split: str) -> Path:
    """Where a Beam job keeps what is to do and what is done, see beam.py."""
    return output / f"{split}.beam"


def earlier(output: Path, split: str, dataset: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run left of a split: {"fingerprint", "settings", "shards"}, or None.

    Raises:
      InputError: SPLIT.partial.json is no such json.
    """
    path = partial_path(output, split)
    if not path.exists():
        return dataset["splits"].get(split)
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid json ({error}); delete it and run again") from None
    lacking = {"fingerprint", "settings", "shards"} - set(state if isinstance(state, dict) else ())
    if lacking:
        raise InputError(f"{path}: lacks {min(lacking)!r}; delete it and run again")
    return state


def differences(state: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Which settings differ from those of an earlier run, as 'name (there: old, now: new)'."""
    old = state["settings"]
    return [
        f"{key} (there: {old.get(key)}, now: {settings.get(key)})"
        for key in sorted(old.keys() | settings.keys())
        if old.get(key) != settings.get(key)
    ]


def discard(output: Path, split: str) -> None:
    """Removes what an earlier run left of a split."""
    name = f"{split}-?????-of-?????.tfrecord"
    for pattern in (name, temporary_name(name)):
        for path in output.glob(pattern):
            path.unlink()
    shutil.rmtree(beam_folder(output, split), ignore_errors=True)
    partial_path(output, split).unlink(missing_ok=True)


def intact(output: Path, shard: dict[str, Any]) -> bool:
    """Whether the file of a shard is there and holds as many records as `write_one` said."""
    try:
        frames, found = tfrecord.scan(output / shard["file"])
        return len(frames) == shard["records"] and all(
            shard.get(key, value) == value for key, value in found.items()
        )
    except (OSError, InputError):
        return False


class Todo(NamedTuple):
    """A shard that is to be written: the name of its file, and its entries in order."""

    name: str
    entries: Sequence[checks.Checked]


def write_one(
    output: Path,
    todo: Todo,
    prepared: Iterator[one_image.Prepared],
    classes: Sequence[str],
    progress: Callable[[], Any] = lambda: None,
) -> dict[str, Any]:
    """Writes one shard, atomically.

    Args:
      output: the folder.
      todo: the shard.
      prepared: the records of its entries, in their order; only so many are taken from it.
      classes: class names.
      progress: called after each image.

    Returns:
      {"file", "records", the sums of `one_image.Counts`, and what `tfrecord.scan` tells it by}.
    """
    counts: list[one_image.Counts] = []

    def serialized() -> Iterator[bytes]:
        made = itertools.islice(prepared, len(todo.entries))
        for _, image in zip(todo.entries, made, strict=True):
            counts.append(image.counts)
            yield one_image.serialize(image.record, classes)
            progress()

    records.write_shard(output / todo.name, serialized())
    totals = dict(zip(one_image.Counts._fields, map(sum, zip(*counts, strict=True)), strict=True))
    same = tfrecord.scan(output / todo.name)[1]
    return {"file": todo.name, "records": len(counts), **totals, **same}


def write_here(
    output: Path,
    settings: one_image.Settings,
    source: proposals.Source | None,
    workers: Workers,
    todo: Sequence[Todo],
    progress: Callable[[], Any],
) -> Iterator[dict[str, Any]]:
    """Writes shards with the processes of `workers`, which search ahead over their ends.

    Args:
      output: the folder.
      settings: of the records.
      source: proposals computed elsewhere; None: selective search.
      workers: the processes.
      todo, progress: see `write`.

    Yields:
      What `write_one` returns of each, in order.
    """
    entries = [entry for shard in todo for entry in shard.entries]
    boxes: Iterable[np.ndarray | None] = itertools.repeat(None)
    if source is not None:
        boxes = (source.get(entry, settings.min_proposal_size) for entry in entries)
    make_record = functools.partial(one_image.make_record, settings=settings)
    prepared = workers.map(make_record, entries, boxes, what=one_image.files_of)
    for shard in todo:
        yield write_one(output, shard, prepared, settings.classes, progress)


def write(
    output: Path,
    split: str,
    entries: Sequence[checks.Checked],
    settings: dict[str, Any],
    state: dict[str, Any] | None,
    write_all: Callable[[Sequence[Todo], Callable[[], Any]], Iterator[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Writes the shards that are not finished yet.

    Args:
      settings: of the split, as they go into dataset.json; "shard_size" and "proposals" count here.
      state: what `earlier` found (with these very settings), or None to start afresh.
      write_all: writes shards, in whatever order, each with the result of `write_one`; called once,
        with a function to call after each image.

    Returns:
      For each shard what `write_one` returned.
    """
    size = settings["shard_size"]
    chunks = [entries[i : i + size] for i in range(0, len(entries), size)]
    names = [records.shard_name(split, i, len(chunks)) for i in range(len(chunks))]
    if state is None:
        discard(output, split)
    done = {
        shard["file"]: shard
        for shard in (state["shards"] if state else [])
        if intact(output, shard)
    }
    todo = [Todo(*pair) for pair in zip(names, chunks, strict=True) if pair[0] not in done]
    verb = "proposals" if settings["proposals"]["method"] == "selective_search" else "writing"
    kept = len(entries) - sum(len(shard.entries) for shard in todo)

    def note() -> None:
        in_order = [done[name] for name in names if name in done]
        left = {"fingerprint": fingerprint(settings), "settings": settings, "shards": in_order}
        write_json(partial_path(output, split), left)

    note()
    with tqdm(desc=f"{verb} {split}", total=len(entries), initial=kept, unit="image") as progress:
        for written in write_all(todo, progress.update):
            done[written["file"]] = written
            note()
    return [done[name] for name in names]
