"""Finds out which format a folder holds, for --format=auto."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ohem_tf.data import voc
from ohem_tf.data.formats import cvat, folders, label_studio, open_images, whole, yolo
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits

_LOOKED_AT = 20  # files of an extension, at most: a folder may hold a million
_SOUGHT = {
    "voc": "ImageSets/Main, or .xml files of <annotation>",
    "coco": "a .json with 'images', 'annotations' and 'categories'",
    "yolo": "a data.yaml with 'names', or .txt files of images whose lines are numbers",
    "cvat": "a .xml of <annotations>",
    "labelme": ".json files with 'shapes'",
    "label_studio": "a .json that lists tasks with 'annotations'",
    "open_images": "a .csv with ImageID, LabelName, XMin, ...",
}
_NUMBERS = re.compile(r"\s*\d+(\.0*)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*", re.IGNORECASE)


def find(root: str, annotations: str | None = None, limits: Limits = DEFAULT) -> tuple[str, str]:
    """The format of a folder, or of the annotations that the user names.

    Args:
      root: the folder.
      annotations: one file, instead.
      limits: whether links are followed.

    Returns:
      The format, as of --format, and what tells it, for a line to the user.

    Raises:
      InputError: no folder; none of the formats, or several.
    """
    if annotations is None and voc.has_lists(root):
        return "voc", "ImageSets/Main"
    found: dict[str, str] = {}
    for path, shown in _candidates(root, annotations, limits):
        for name in _formats_of(path):
            found.setdefault(name, shown)
    if len(found) == 1:
        return next(iter(found.items()))
    where = annotations or root
    if found:
        several = ", ".join(f"{name} ({shown})" for name, shown in found.items())
        raise InputError(f"--format=auto: {where} may be {several}; expected --format with one")
    sought = "; ".join(f"{name}: {what}" for name, what in _SOUGHT.items())
    raise InputError(f"--format=auto: {where} holds none of these: {sought}")


def _candidates(root: str, annotations: str | None, limits: Limits) -> Iterator[tuple[str, str]]:
    """Files that may tell the format, and their names for messages."""
    if annotations is not None:
        yield annotations, os.path.basename(annotations)
        return
    count: dict[str, int] = {}
    images, texts = set(), []
    for relative in folders.walk(root, limits.follow_links):
        kind = os.path.splitext(relative)[1].lower()
        if kind in folders.IMAGES:
            images.add(folders.key_of(relative))
        elif kind == ".txt" and not yolo.is_other(os.path.basename(relative)):
            texts.append(relative)
        elif kind in (".xml", ".json", ".csv", ".yaml", ".yml", ".names"):
            count[kind] = count.get(kind, 0) + 1
            if count[kind] <= _LOOKED_AT:
                yield str(Path(root, relative)), relative
    texts = [relative for relative in texts if folders.key_of(relative) in images]
    for relative in texts[:_LOOKED_AT]:
        yield str(Path(root, relative)), relative


def _formats_of(path: str) -> Iterator[str]:
    """What a file may be of, by its beginning."""
    kind = os.path.splitext(path)[1].lower()
    tests: dict[str, dict[str, Callable[[str], bool]]] = {
        ".xml": {"cvat": cvat.is_one, "voc": _is_voc},
        ".json": {"label_studio": label_studio.is_one, "labelme": _is_labelme, "coco": _is_coco},
        ".csv": {"open_images": open_images.is_one},
        ".txt": {"yolo": _is_yolo_txt},
        ".names": {"yolo": lambda path: os.path.basename(path) == "obj.names"},
        ".yaml": {"yolo": _is_yolo_yaml},
        ".yml": {"yolo": _is_yolo_yaml},
    }
    for name, test in tests.get(kind, {}).items():
        if test(path):
            yield name


def _is_voc(path: str) -> bool:
    return re.search(r"<annotation[\s>]", whole.head(path)) is not None


def _is_labelme(path: str) -> bool:
    start = whole.head(path)
    return _keys(start, "shapes") and (
        _keys(start, "imagePath") or _keys(start, "shape_type") or _keys(start, "version")
    )


def _is_coco(path: str) -> bool:
    """By the first keys, or by the last: an instances json of COCO is longer than its beginning."""
    start = whole.head(path)
    if not start.lstrip().startswith("{") or _keys(start, "shapes"):
        return False
    name = os.path.basename(path)
    if name.startswith(("instances_", "image_info_")) or name == "_annotations.coco.json":
        return True
    try:
        data = json.loads(start)
    except (ValueError, RecursionError):
        return _keys(start, "images") and _keys(start, "file_name")
    return isinstance(data, dict) and {"images", "annotations", "categories"} <= data.keys()


def _keys(start: str, key: str) -> bool:
    return re.search(rf'"{key}"\s*:', start) is not None


def _is_yolo_txt(path: str) -> bool:
    """Whether the first line is one of numbers; an empty file tells nothing."""
    line = whole.head(path, 4096).lstrip().partition("\n")[0]
    return _NUMBERS.fullmatch(line) is not None


def _is_yolo_yaml(path: str) -> bool:
    return re.search(r"^names\s*:", whole.head(path), re.MULTILINE) is not None
