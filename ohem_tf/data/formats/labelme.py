"""LabelMe: a json for each image, beside it or in a folder of its own.

Rectangles, polygons, circles and masks become boxes; points and lines bound nothing and are
problems. The file's name decides which image is meant, not "imagePath", and "imageData" is not
read. "difficult" of a shape counts where a tool writes it (X-AnyLabeling).

globox 2.9 is not used: it drops all shapes but rectangles without a word, takes the image from
"imagePath" (which may lead anywhere), and ends in a TypeError at points that are no pairs.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from ohem_tf.data import checks, json_file
from ohem_tf.data.formats import folders, pairs, shapes
from ohem_tf.data.listed import Labelled, Listing
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits

_NO_BOX = ("point", "points", "line", "linestrip")


def read(image: Labelled, limits: Limits = DEFAULT) -> checks.Entry:
    """The entry of an image with its json.

    Raises:
      InputError: a json that is too large, does not parse, or is none of LabelMe's; a shape without
        a label, or with one that cannot be a file name.
    """
    path = image.annotation
    assert path  # `list_split` leaves out what has none
    data = json_file.read(path, "a json of LabelMe", limits)
    shapes_there = data.get("shapes") if isinstance(data, dict) else None
    if not isinstance(shapes_there, list):
        raise InputError(f"{path}: lacks the list 'shapes'; expected a json of LabelMe")
    sides: list[int | None] = []
    for key in ("imageHeight", "imageWidth"):
        value = data.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise InputError(f"{path}: {key} is {value!r}; expected pixels, or null")
        sides.append(value)
    objects = [
        _read_shape(shape, f"shapes[{index}]", path) for index, shape in enumerate(shapes_there)
    ]
    return dataclasses.replace(
        pairs.entry(image), height=sides[0], width=sides[1], objects=tuple(objects)
    )


def _read_shape(shape: Any, where: str, path: str) -> checks.Object:
    if not isinstance(shape, dict):
        raise InputError(f"{path}: {where} is no object of json; expected a shape")
    name = shapes.check_name(shape.get("label"), path, where)
    kind = shape.get("shape_type", "polygon")
    if kind in _NO_BOX or not isinstance(kind, str):
        return shapes.without_box(path, where, name, str(kind))
    points = shape.get("points")
    numbers = json.dumps(points)[:200]
    try:
        box = _box(kind, points)
    except (TypeError, ValueError):
        box = None
    difficult = shape.get("difficult") is True
    return shapes.read(path, where, name, f"{kind} {numbers}", box, difficult)


def _box(kind: str, points: Any) -> shapes.Box:
    """The box of a shape; TypeError or ValueError if its points are none."""
    pairs = [(shapes.number(x), shapes.number(y)) for x, y in points]
    if kind == "circle":  # its centre, and a point on it
        (x, y), (on_x, on_y) = pairs
        radius = math.hypot(on_x - x, on_y - y)
        return shapes.of_ellipse(x, y, radius, radius)
    ymin, xmin, ymax, xmax = shapes.of_points(pairs)
    if kind == "mask":  # its first and its last pixel
        return ymin, xmin, ymax + 1, xmax + 1
    return ymin, xmin, ymax, xmax


def list_split(root: str, split: str, alone: bool, limits: Limits = DEFAULT) -> Listing:
    """The images of a split; see `pairs.pair`. One without a json is a problem.

    Raises:
      InputError: as `folders.scan` and `pairs.pair`.
    """
    return pairs.pair(
        folders.scan(root, ".json", limits),
        split,
        alone,
        read,
        limits,
        unlabelled="has no json, so nobody has said what is in it; expected one of the same name "
        "(with no 'shapes', if the image has no object)",
    )
