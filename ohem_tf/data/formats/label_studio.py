"""Label Studio's json: a list of tasks, each an image with what people drew, as JSON or JSON-MIN.

Rectangles (turned ones too), ellipses and polygons become boxes; brush strokes and key points are
problems. Positions are percentages of the size that the file gives the image. The image is looked
for by its file name, with and without the eight characters that an upload puts before it. A task
that nobody has done is a problem; predictions are not read.

globox 2.9 cannot read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ohem_tf.data import checks, json_file
from ohem_tf.data.formats import folders, shapes, whole
from ohem_tf.data.listed import Listing
from ohem_tf.errors import InputError

_LABELS = ("rectanglelabels", "ellipselabels", "polygonlabels", "brushlabels", "keypointlabels")
_LARGEST_SIDE = 2**31 - 1  # pixels; whole numbers of json may have any size
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
_TASK = re.compile(r'"(annotations|completions|annotation_id|rectanglelabels)"\s*:')


def is_one(path: str) -> bool:
    """Whether a file looks like Label Studio's."""
    start = whole.head(path)
    return start.lstrip().startswith("[") and _TASK.search(start) is not None


def list_split(source: whole.Source) -> Listing:
    """The images of a split.

    Raises:
      InputError: as `whole.find_file`, `json_file.read` and `whole.listing`; a json that is no list
        of tasks; a task without an image or with several, or with several people's annotations; a
        shape without a label.
    """
    file = whole.find_file(source, ".json", is_one, "a json of Label Studio")
    tasks = json_file.read(file.path, "a json of Label Studio", source.limits)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(
            f"{file.path}: is no list of tasks; expected Label Studio's JSON or JSON-MIN"
        )
    problems: list[checks.Problem] = []
    there = _names_of_images(source)
    stated = list(_images(tasks, file.path, there, problems))
    return whole.listing(source, file, stated, problems=problems)


def _names_of_images(source: whole.Source) -> frozenset[str]:
    files = folders.scan(source.images or source.root, None, source.limits)
    return frozenset(key.rpartition("/")[2] for key in files.images)


def _images(
    tasks: list[dict], path: str, there: frozenset[str], problems: list[checks.Problem]
) -> Iterator[whole.Stated]:
    for index, task in enumerate(tasks):
        where = f"task {task.get('id', index)}"
        name = _name(_image(task, path, where), there)
        regions = _regions(task, path, where)
        if regions is None:
            message = f"{path}: {where}: nobody has annotated {name}; expected an annotation of it"
            problems.append(checks.Problem("annotation missing", message))
            continue
        sizes = [(r.get("original_height"), r.get("original_width")) for r in regions]
        for region in regions:
            if region.get("image_rotation", 0) not in (0, None):
                raise InputError(
                    f"{path}: {where}: {name} was turned while it was annotated; expected an image "
                    "that is upright in its file"
                )
        height, width = _size(sizes, path, where) if regions else (None, None)
        objects = tuple(
            _read_region(region, f"{where}, region {number}", path, (height or 1, width or 1))
            for number, region in enumerate(regions, 1)
        )
        yield whole.Stated(name, objects, height, width)


def _size(sizes: list[tuple[Any, Any]], path: str, where: str) -> tuple[int, int]:
    """Height and width, which all regions of an image give."""
    if any(
        type(side) is not int or not 0 < side <= _LARGEST_SIDE for pair in sizes for side in pair
    ) or (sizes.count(sizes[0]) < len(sizes)):
        raise InputError(
            f"{path}: {where}: original_height and original_width are not the pixels of an image; "
            "expected the same two numbers in all its regions"
        )
    return sizes[0]


def _image(task: dict, path: str, where: str) -> str:
    """The address of a task's image: data.image, or the only one that looks like an image's."""
    data = task.get("data", task)
    found = data.get("image") if isinstance(data, dict) else None
    if isinstance(data, dict) and not isinstance(found, str):
        others = [
            v
            for v in data.values()
            if isinstance(v, str) and _path(v).suffix.lower() in folders.IMAGES
        ]
        found = others[0] if len(others) == 1 else None
    if not isinstance(found, str) or not _path(found).stem:
        raise InputError(f"{path}: {where}: names no image, or several; expected one, as 'image'")
    return found


def _path(address: str) -> PurePosixPath:
    """/data/upload/1/x.jpg, /data/local-files/?d=x.jpg, s3://bucket/x.jpg or https://host/x.jpg."""
    try:
        parts = urlsplit(address)
        local = parse_qs(parts.query).get("d")
    except ValueError:
        return PurePosixPath()
    return PurePosixPath(local[0] if local else unquote(parts.path))


def _name(address: str, there: frozenset[str]) -> str:
    """The file name of the image that is meant."""
    name = _path(address).name
    if folders.key_of(name) not in there:
        shorter = _UPLOADED.sub("", name, count=1)
        if folders.key_of(shorter) in there:
            return shorter
    return name


def _regions(task: dict, path: str, where: str) -> list[dict] | None:
    """What was drawn in a task; None: nobody has done it. JSON-MIN has "label" or the like."""
    done = task.get("annotations", task.get("completions"))
    if "data" in task or done is not None:
        if not isinstance(done, list) or not all(isinstance(one, dict) for one in done):
            raise InputError(f"{path}: {where}: lacks the list 'annotations'; expected it")
        done = [one for one in done if not one.get("was_cancelled")]
        done = [one for one in done if one.get("ground_truth")] or done
        if len(done) > 1:
            raise InputError(
                f"{path}: {where}: has {len(done)} annotations; expected one, or one that is "
                "marked as ground truth"
            )
        if not done:
            return None
        found = done[0].get("result")
    else:
        lists = [v for v in task.values() if isinstance(v, list) and _are_regions(v)]
        found = [region for regions in lists for region in regions]
    if not isinstance(found, list) or not all(isinstance(region, dict) for region in found):
        raise InputError(f"{path}: {where}: 'result' is no list of regions; expected one")
    # A relation, a choice and a rating are results as well.
    return [r for r in found if _kind(r) is not None]


def _are_regions(values: list) -> bool:
    return bool(values) and all(isinstance(v, dict) and _kind(v) is not None for v in values)


def _kind(region: dict) -> str | None:
    """Of a region, one of `_LABELS`; None: it is none, or has no label."""
    value = region.get("value", region)
    return next((k for k in _LABELS if k in value), None) if isinstance(value, dict) else None


def _read_region(region: dict, where: str, path: str, size: tuple[int, int]) -> checks.Object:
    value = region.get("value", region)
    kind = _kind(region) or ""
    label = value[kind]
    name = label[0] if isinstance(label, list) and len(label) == 1 else None
    name = shapes.check_name(name, path, where)
    if kind in ("brushlabels", "keypointlabels"):
        return shapes.without_box(path, where, name, kind.removesuffix("labels"))
    keys = ("x", "y", "width", "height", "radiusX", "radiusY", "rotation", "points")
    numbers = json.dumps({key: value[key] for key in keys if key in value})[:200]
    try:
        box = _box(kind, value, size)
    except (KeyError, TypeError, ValueError):
        box = None
    return shapes.read(path, where, name, numbers, box)


def _box(kind: str, value: dict, size: tuple[int, int]) -> shapes.Box:
    """In pixels; KeyError, TypeError or ValueError if the numbers are none."""
    height, width = size

    def x_of(number: object) -> float:
        return shapes.number(number) * width / 100

    def y_of(number: object) -> float:
        return shapes.number(number) * height / 100

    if kind == "polygonlabels":
        return shapes.of_points([(x_of(x), y_of(y)) for x, y in value["points"]])
    x, y = x_of(value["x"]), y_of(value["y"])
    degrees = shapes.number(value.get("rotation", 0))
    if kind == "ellipselabels":
        return shapes.of_ellipse(x, y, x_of(value["radiusX"]), y_of(value["radiusY"]), degrees)
    box = (y, x, y + y_of(value["height"]), x + x_of(value["width"]))
    return shapes.turned(box, degrees, (x, y))  # about its first corner
