"""Reads COCO: an instances json (or image info without annotations), and a folder of images."""

from __future__ import annotations

import collections
import os
from typing import Any

from ohem_tf import names
from ohem_tf.data import checks, json_file
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits

_KEYS = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def read_json(
    path: str | os.PathLike[str], annotated: bool = True, limits: Limits = DEFAULT
) -> dict[str, list[dict[str, Any]]]:
    """Reads an instances json and tests that the keys used here are there.

    Not `annotated`: an image info json. It needs no 'categories', and 'annotations' are left out.

    Raises:
      InputError: no file, json that is too large or does not parse, keys that are missing or of
        another type, ids that stand twice, names of categories that cannot be file names.
    """
    data = json_file.read(path, "COCO's instances json", limits)
    if not annotated and isinstance(data, dict):
        data = {"categories": [], **data, "annotations": []}
    for group, keys in _KEYS.items():
        if not isinstance(data, dict) or not isinstance(data.get(group), list):
            raise InputError(
                f"{path}: lacks the list {group!r}; expected COCO's "
                + ("instances json (or --no_annotations)" if annotated else "image info json")
            )
        for number, item in enumerate(data[group]):
            lacking = [key for key in keys if not isinstance(item, dict) or key not in item]
            if lacking:
                raise InputError(
                    f"{path}: {group}[{number}] lacks {lacking[0]!r}; expected it there"
                )
            for key in keys:
                if key.endswith("id") and not isinstance(item[key], int):
                    raise InputError(
                        f"{path}: {group}[{number}]: {key} is {item[key]!r}; expected an integer"
                    )
                if key.endswith("name") and not isinstance(item[key], str):
                    raise InputError(
                        f"{path}: {group}[{number}]: {key} is {item[key]!r}; expected a string"
                    )
    for group, key in (("images", "id"), ("categories", "id"), ("categories", "name")):
        counts = collections.Counter(str(item[key]) for item in data[group])
        for value, count in counts.items():
            if count > 1:
                raise InputError(
                    f"{path}: {group}: {key} {value} stands {count} times; expected it once"
                )
    for category in data["categories"]:
        names.check_class(category["name"], f"{path}: category {category['id']}")
    if not data["images"]:
        raise InputError(f"{path}: the split is empty; expected at least one item in 'images'")
    return data


def categories(data: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    """{name: category id}, sorted by category id (COCO's own order), of all categories."""
    return {c["name"]: c["id"] for c in sorted(data["categories"], key=lambda c: c["id"])}


def _is_number(value: Any) -> bool:
    # Whole numbers in json may be of any size.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _read_object(
    item: dict[str, Any], number: int, path: str, class_names: dict[Any, str]
) -> checks.Object:
    where = f"annotation {item.get('id', f'number {number}')}"
    name = class_names.get(item["category_id"], "")
    bbox = item["bbox"]
    crowd = bool(item.get("iscrowd", 0))
    numbers = f"[x, y, width, height] = {bbox}"
    area = float(item["area"]) if _is_number(item.get("area")) else None

    def read(
        box: tuple[float, float, float, float] = (0, 0, 0, 0),
        problem: checks.Problem | None = None,
    ) -> checks.Object:
        return checks.Object(name, box, False, crowd, area, where, numbers, problem)

    if not name:
        message = f"{path}: {where}: unknown category_id {item['category_id']}; expected one of "
        return read(problem=checks.Problem("unknown class", message + "'categories'"))
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(value) for value in bbox):
        message = f"{path}: {where} ({name}): bbox {bbox} is not four numbers; expected pixels"
        return read(problem=checks.Problem("box not numeric", message))
    x, y, width, height = bbox
    if min(width, height) == 0:  # two of train2014; readers of COCO drop them
        message = f"{path}: {where} ({name}): the box {numbers} has no area"
        return read(problem=checks.Problem("box without area", message, known=True))
    if width <= 0 or height <= 0:
        message = f"{path}: {where} ({name}): empty box {numbers}; expected width > 0, height > 0"
        return read(problem=checks.Problem("empty box", message))
    return read((float(y), float(x), float(y + height), float(x + width)))


def read_entries(
    path: str | os.PathLike[str],
    image_dir: str | os.PathLike[str],
    annotated: bool = True,
    limits: Limits = DEFAULT,
) -> tuple[list[checks.Entry], dict[str, int], list[checks.Problem]]:
    """Reads a split.

    Args:
      path: the instances json.
      image_dir: folder that holds each image's `file_name`.
      annotated: see `read_json`.
      limits: on the file, and whether images may be links that lead out of `image_dir`.

    Returns:
      Entries in the order of 'images'; {class name: category id} in the order of category ids; and
      a problem for each annotation of an image that 'images' does not hold.

    Raises:
      InputError: as `read_json`; a file name that leads out of `image_dir`.
    """
    data = read_json(path, annotated, limits)
    path = str(path)
    by_name = categories(data)
    class_names = {category_id: name for name, category_id in by_name.items()}
    objects: dict[Any, list[checks.Object]] = {image["id"]: [] for image in data["images"]}
    problems = []
    for number, item in enumerate(data["annotations"]):
        if item["image_id"] in objects:
            objects[item["image_id"]].append(_read_object(item, number, path, class_names))
            continue
        where = f"annotation {item.get('id', f'number {number}')}"
        message = f"{path}: {where}: unknown image_id {item['image_id']}; expected one of 'images'"
        problems.append(checks.Problem("unknown image", message))
    entries = []
    for image in data["images"]:
        where = f"{path}: image {image['id']}"
        image_path = names.below(image_dir, image["file_name"], where, limits.follow_links)
        entries.append(
            checks.Entry(
                image_id=str(image["id"]),
                image_path=str(image_path) if os.path.isfile(image_path) else None,
                annotation=path,
                height=image.get("height"),
                width=image.get("width"),
                objects=tuple(objects[image["id"]]),
                missing=f"{image_path}: image is missing; expected the file_name of image "
                f"{image['id']} in {path}",
            )
        )
    return entries, by_name, problems
