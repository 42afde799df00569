"""Writes the shards of one split, so that a run that was killed resumes where it stopped.

`DIR/SPLIT.partial.json` holds the settings of an unfinished split and its finished shards; it goes
when the split is entered in dataset.json. A shard counts as finished when it stands there.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ohem_tf.data import checks, one_image, records
from ohem_tf.errors import InputError
from ohem_tf.files import temporary_name, write_json

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
    partial_path(output, split).unlink(missing_ok=True)


def _intact(path: Path, count: int) -> bool:
    try:
        return len(records.frame_offsets(path)) == count
    except (OSError, InputError):
        return False


def write(
    output: Path,
    split: str,
    entries: Sequence[checks.Checked],
    settings: dict[str, Any],
    state: dict[str, Any] | None,
    make_records: Callable[[Sequence[checks.Checked]], Iterator[one_image.Prepared]],
) -> list[dict[str, Any]]:
    """Writes the shards that are not finished yet.

    Args:
      settings: of the split, as they go into dataset.json; "shard_size", "classes" and "proposals"
        count here.
      state: what `earlier` found (with these very settings), or None to start afresh.
      make_records: gives the records of entries, in their order (see `one_image.make_record`);
        called once, with the entries of all shards that are to be written.

    Returns:
      For each shard {"file", "records", and the sums of `one_image.Counts`}.
    """
    size = settings["shard_size"]
    chunks = [entries[i : i + size] for i in range(0, len(entries), size)]
    names = [records.shard_name(split, i, len(chunks)) for i in range(len(chunks))]
    if state is None:
        discard(output, split)
    done = {
        shard["file"]: shard
        for shard in (state["shards"] if state else [])
        if _intact(output / shard["file"], shard["records"])
    }
    todo = [(name, chunk) for name, chunk in zip(names, chunks, strict=True) if name not in done]
    missing = [entry for _, chunk in todo for entry in chunk]
    prepared = make_records(missing)
    verb = "writing" if settings["proposals"]["method"] == "file" else "proposals"
    kept = len(entries) - len(missing)
    with tqdm(desc=f"{verb} {split}", total=len(entries), initial=kept, unit="image") as progress:
        for name, chunk in todo:
            counts: list[one_image.Counts] = []

            def serialized(
                chunk: Sequence[checks.Checked] = chunk, counts: list[one_image.Counts] = counts
            ) -> Iterator[bytes]:
                made = itertools.islice(prepared, len(chunk))
                for _, image in zip(chunk, made, strict=True):
                    counts.append(image.counts)
                    yield one_image.serialize(image.record, settings["classes"])
                    progress.update()

            records.write_shard(output / name, serialized())
            totals = map(sum, zip(*counts, strict=True))
            done[name] = {"file": name, "records": len(chunk)}
            done[name] |= zip(one_image.Counts._fields, totals, strict=True)
            in_order = [done[name] for name in names if name in done]
            left = {"fingerprint": fingerprint(settings), "settings": settings, "shards": in_order}
            write_json(partial_path(output, split), left)
    return [done[name] for name in names]
