"""Writes the shards of one split, so that a run that was killed goes on where it stopped.

`DIR/SPLIT.partial.json` holds the settings of an unfinished split and its finished shards; it goes
when the split is entered in dataset.json. A shard counts as finished when it stands there.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ohem_tf.data import checks, proposals, records
from ohem_tf.data.workers import Workers
from ohem_tf.errors import InputError
from ohem_tf.files import temporary_name, write_json

_LAYOUT = 1  # raise it when the same input gives other records


def content_settings(entries: Sequence[checks.Checked]) -> dict[str, Any]:
    """What a split is made from, by digests of its ids, image files and good objects.

    Content counts, not the place: a data set that was moved goes on all the same.
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


def _decodes(encoded: bytes, height: int, width: int) -> bool:
    """True if TensorFlow decodes the image, at its size."""
    import tensorflow as tf

    try:
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except tf.errors.OpError:
        return False
    return image.shape == (height, width, 3)


def make_record(
    entry: checks.Checked,
    classes: Sequence[str],
    encoded: bytes,
    image_format: str,
    boxes: np.ndarray,
) -> records.Record:
    """Puts a checked entry, its image and its proposals together."""
    if not _decodes(encoded, entry.height, entry.width):
        encoded, image_format = checks.encode_png(checks.open_image(encoded)), "png"
    objects = entry.objects
    pixels = np.array([item.box for item in objects], np.float32).reshape(-1, 4)
    areas = np.prod(pixels[:, 2:] - pixels[:, :2], axis=1)
    labels = {name: label for label, name in enumerate(classes, 1)}
    return records.Record(
        image_id=entry.image_id,
        encoded=encoded,
        image_format=image_format,
        height=entry.height,
        width=entry.width,
        boxes=pixels,
        classes=np.array([labels[item.name] for item in objects], np.int32),
        difficult=np.array([item.difficult for item in objects], np.bool_),
        crowd=np.array([item.crowd for item in objects], np.bool_),
        area=np.array(
            [a if o.area is None else o.area for o, a in zip(objects, areas, strict=True)],
            np.float32,
        ),
        proposals=boxes,
        filename=Path(entry.image_path).name,
    )


def _load(
    path: str, search: Callable[[str], tuple[bytes, str, np.ndarray]] | None
) -> tuple[bytes, str, np.ndarray | None]:
    """The work of a worker process on one image: its bytes, their format, and its proposals."""
    try:
        return search(path) if search is not None else (*checks.read_encoded(path), None)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: {error}; the file has changed since it was checked, run again"
        ) from None


def write(
    output: Path,
    split: str,
    entries: Sequence[checks.Checked],
    classes: Sequence[str],
    settings: dict[str, Any],
    shard_size: int,
    state: dict[str, Any] | None,
    workers: Workers,
    search: Callable[[str], tuple[bytes, str, np.ndarray]] | None,
    look_up: Callable[[checks.Checked], np.ndarray] | None,
) -> list[dict[str, Any]]:
    """Writes the shards that are not finished yet.

    Args:
      state: what `earlier` found (with these very settings), or None to start afresh.
      search: image path to (bytes, format, [R, 4] proposals), in worker processes; or None.
      look_up: entry to [R, 4] proposals, in this process; used where `search` is None.

    Returns:
      For each shard {"file", "records", "proposals" and "without_proposals" counts, "countable"
      (objects neither difficult nor crowd), "covered" (those with a proposal at IoU 0.5)}.

    Raises:
      InputError: an image that changed since it was checked.
    """
    chunks = [entries[i : i + shard_size] for i in range(0, len(entries), shard_size)]
    names = [records.shard_name(split, i, len(chunks)) for i in range(len(chunks))]
    if state is None:
        discard(output, split)
    done = {
        shard["file"]: shard
        for shard in (state["shards"] if state else [])
        if _intact(output / shard["file"], shard["records"])
    }
    todo = [(name, chunk) for name, chunk in zip(names, chunks, strict=True) if name not in done]
    paths = [entry.image_path for _, chunk in todo for entry in chunk]
    loaded = workers.map(functools.partial(_load, search=search), paths)
    kept = len(entries) - len(paths)
    description = f"writing {split}" if search is None else f"proposals {split}"
    with tqdm(desc=description, total=len(entries), initial=kept, unit="image") as progress:
        for name, chunk in todo:
            shard = {"file": name, "records": len(chunk), "proposals": 0, "without_proposals": 0}
            shard |= {"countable": 0, "covered": 0}

            def examples(chunk=chunk, shard=shard) -> Iterator[bytes]:
                for entry, (encoded, kind, boxes) in zip(
                    chunk, itertools.islice(loaded, len(chunk)), strict=True
                ):
                    boxes = look_up(entry) if boxes is None else boxes
                    record = make_record(entry, classes, encoded, kind, boxes)
                    _count(shard, record)
                    yield records.to_example(record, classes)
                    progress.update()

            records.write_shard(output / name, examples())
            done[name] = shard
            in_order = [done[name] for name in names if name in done]
            left = {"fingerprint": fingerprint(settings), "settings": settings, "shards": in_order}
            write_json(partial_path(output, split), left)
    return [done[name] for name in names]


def _count(shard: dict[str, Any], record: records.Record) -> None:
    shard["proposals"] += len(record.proposals)
    shard["without_proposals"] += not len(record.proposals)
    countable = record.boxes[~(record.difficult | record.crowd)]
    shard["countable"] += len(countable)
    shard["covered"] += int(np.sum(proposals.covered(countable, record.proposals)))


def describe(
    entries: Sequence[checks.Checked],
    skipped: dict[str, int],
    classes: Sequence[str],
    settings: dict[str, Any],
    written: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The split's entry in dataset.json; `written` is what `write` returned."""
    objects = [item for entry in entries for item in entry.objects]
    per_class = collections.Counter(item.name for item in objects)
    total = {key: sum(shard[key] for shard in written) for key in written[0] if key != "file"}
    return {
        "annotated": settings.get("annotated", True),
        "images": len(entries),
        "objects": len(objects),
        "difficult": sum(item.difficult for item in objects),
        "crowd": sum(item.crowd for item in objects),
        "clipped": sum(entry.clipped for entry in entries),
        "skipped": skipped,
        "per_class": {name: per_class[name] for name in classes},
        "proposals": settings["proposals"]
        | {
            "count": total["proposals"],
            "mean_per_image": total["proposals"] / len(entries),
            "images_without": total["without_proposals"],
            "countable_objects": total["countable"],
            "recall_at_0.5": total["covered"] / total["countable"] if total["countable"] else None,
        },
        "shards": list(written),
        # One string, since a list would take a line for each image.
        "image_ids": " ".join(entry.image_id for entry in entries),
        "fingerprint": fingerprint(settings),
        "settings": settings,
    }


def summary(
    split: str, entries: Sequence[checks.Checked], info: dict[str, Any], output: Path
) -> str:
    """The closing table of a split, as text; `info` is what `describe` returned."""
    boxes = info["proposals"]
    dropped = ", ".join(f"{cause} {count}" for cause, count in info["skipped"].items())
    if info["annotated"]:
        lines = [f"split {split}", *_class_table(entries, info["per_class"])]
        without = sum(not entry.objects for entry in entries)
        lines += [
            f"images without an object: {without}",
            f"boxes clipped (up to {checks.TOLERANCE:g} px outside the image): {info['clipped']}",
        ]
        remark = "in training their ground truth boxes are the only RoIs"
    else:
        lines = [f"split {split}, without annotations: {len(entries)} images"]
        remark = "nothing can be detected in them"
    lines += [
        f"skipped: {dropped or 'none'}",
        f"proposals: {boxes['method']}, {boxes['count']}, {boxes['mean_per_image']:.1f} an image",
    ]
    if boxes["images_without"]:
        lines.append(f"warning: {boxes['images_without']} images have no proposal: {remark}")
    if boxes["recall_at_0.5"] is not None:
        lines.append(
            f"recall of the proposals at IoU 0.5: {boxes['recall_at_0.5']:.4f} of "
            f"{boxes['countable_objects']} objects: the ceiling of any detector trained on them"
        )
    lines.append(f"written to {output}: {len(info['shards'])} shards and dataset.json")
    return "\n".join(lines)


def _class_table(entries: Sequence[checks.Checked], classes: Iterable[str]) -> list[str]:
    columns = ("images", "objects", "difficult", "crowd")
    counts = collections.Counter({(None, "images"): len(entries)})  # None: all classes
    for entry in entries:
        counts.update((name, "images") for name in {item.name for item in entry.objects})
        for item in entry.objects:
            for name in (item.name, None):
                counts[name, "objects"] += 1
                counts[name, "difficult"] += item.difficult
                counts[name, "crowd"] += item.crowd
    rows = [("class", *columns)]
    rows += [
        (name or "all", *(str(counts[name, column]) for column in columns))
        for name in [*classes, None]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers in rows:
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([f"  {name.ljust(widths[0])}", *cells]))
    return lines
