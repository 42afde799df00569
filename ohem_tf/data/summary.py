"""What a split holds: its entry in dataset.json, and the table that `prepare` ends with."""

from __future__ import annotations

import collections
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ohem_tf.data import checks, duplicates, one_image, shards, splits


def describe(
    entries: Sequence[checks.Checked],
    skipped: dict[str, int],
    classes: Sequence[str],
    settings: dict[str, Any],
    written: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The split's entry in dataset.json; `written` is what `shards.write` returned."""
    objects = [item for entry in entries for item in entry.objects]
    per_class = collections.Counter(item.name for item in objects)
    total = {key: sum(shard[key] for shard in written) for key in one_image.Counts._fields}
    measured = total["countable"] and settings["proposals"]["method"] != "none"
    return {
        "annotated": settings.get("annotated", True),
        "images": len(entries),
        "objects": len(objects),
        "difficult": sum(item.difficult for item in objects),
        "crowd": sum(item.crowd for item in objects),
        "clipped": sum(entry.clipped for entry in entries),
        "skipped": skipped,
        "remarks": dict(collections.Counter(r.kind for e in entries for r in e.look.remarks)),
        "per_class": {name: per_class[name] for name in classes},
        "proposals": settings["proposals"]
        | {
            "count": total["proposals"],
            "mean_per_image": total["proposals"] / len(entries),
            "images_without": total["without_proposals"],
            "countable_objects": total["countable"],
            "recall_at_0.5": total["covered"] / total["countable"] if measured else None,
        },
        "shards": list(written),
        # One string, since a list would take a line for each image.
        "image_ids": " ".join(entry.image_id for entry in entries),
        "fingerprint": shards.fingerprint(settings),
        "settings": settings,
    }


def table(split: str, entries: Sequence[checks.Checked], info: dict[str, Any], output: Path) -> str:
    """The closing table of a split, as text; `info` is what `describe` returned."""
    boxes = info["proposals"]
    dropped = ", ".join(f"{cause} {count}" for cause, count in info["skipped"].items())
    if info["annotated"]:
        lines = [f"split {split}", _class_table(entries, info["per_class"])]
        without = sum(not entry.objects for entry in entries)
        lines += [
            f"images without an object: {without}",
            f"boxes clipped (up to {checks.TOLERANCE:g} px outside the image): {info['clipped']}",
        ]
        remark = "in training their ground truth boxes are the only RoIs"
    else:
        lines = [f"split {split}, without annotations: {len(entries)} images"]
        remark = "nothing can be detected in them"
    lines.append(f"skipped: {dropped or 'none'}")
    if info["remarks"]:
        remarks = ", ".join(f"{kind} {count}" for kind, count in info["remarks"].items())
        lines.append(f"kept, but worth a look: {remarks} (python -m ohem_tf.check shows them)")
    if boxes["method"] == "none":
        lines.append("proposals: none; for models with a region proposal network")
    else:
        found = f"{boxes['count']}, {boxes['mean_per_image']:.1f} an image"
        lines.append(f"proposals: {boxes['method']}, {found}")
    if boxes["images_without"] and boxes["method"] != "none":
        lines.append(f"warning: {boxes['images_without']} images have no proposal: {remark}")
    if boxes["recall_at_0.5"] is not None:
        lines.append(
            f"recall of the proposals at IoU 0.5: {boxes['recall_at_0.5']:.4f} of "
            f"{boxes['countable_objects']} objects: the ceiling of any detector trained on them"
        )
    lines.append(f"written to {output}: {len(info['shards'])} shards and dataset.json")
    return "\n".join(lines)


def leak(found: Iterable[splits.Split]) -> str | None:
    """A warning if images of one split look like images of another, else None."""
    groups = duplicates.find({split.name: split.entries for split in found})
    leaks = [group for group in groups if duplicates.across(group)]
    if not leaks:
        return None
    first = " and ".join(f"{image.entry.image_id} of {image.split}" for image in leaks[0])
    return (
        f"{len(leaks)} images stand in more than one split, as {first}: what is measured on them "
        "has been trained on (python -m ohem_tf.check shows them)"
    )


def _class_table(entries: Sequence[checks.Checked], classes: Iterable[str]) -> str:
    columns = ("images", "objects", "difficult", "crowd")
    counts: collections.Counter[tuple[str | None, str]] = collections.Counter()
    counts[None, "images"] = len(entries)  # None: all classes
    for entry in entries:
        counts.update((name, "images") for name in {item.name for item in entry.objects})
        for item in entry.objects:
            for name in (item.name, None):
                counts[name, "objects"] += 1
                counts[name, "difficult"] += item.difficult
                counts[name, "crowd"] += item.crowd
    rows = [
        (name or "all", *(counts[name, column] for column in columns)) for name in [*classes, None]
    ]
    headers = ("class", *columns)
    align = ("left", *["right"] * len(columns))
    text = tabulate(rows, headers, tablefmt="plain", colalign=align, disable_numparse=True)
    return textwrap.indent(text, "  ")
