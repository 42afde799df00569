"""From the shapes of labelling tools to objects with boxes: [ymin, xmin, ymax, xmax], half-open.

A point of these tools lies on a plane whose origin is the corner of the first pixel, so a shape as
wide as the image goes from 0 to its width: their boxes are ours without an offset. (VOC's xml
counts pixels from 1, the last one included: voc.py.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ohem_tf import names
from ohem_tf.data import checks
from ohem_tf.errors import InputError

Box = tuple[float, float, float, float]


def number(value: object) -> float:
    """A finite number of json, xml or text.

    Raises:
      ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no number")
    try:
        result = float(value)
    except OverflowError:  # whole numbers of json may have any size
        raise ValueError("too large") from None
    if not math.isfinite(result):
        raise ValueError(f"{value!r} is not finite")
    return result


def of_points(points: Sequence[tuple[float, float]]) -> Box:
    """The box of points (x, y).

    Raises:
      ValueError: fewer than two.
    """
    if len(points) < 2:
        raise ValueError("fewer than two points")
    xs, ys = zip(*points, strict=True)
    return min(ys), min(xs), max(ys), max(xs)


def of_ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Box:
    """The box of an ellipse around (x, y), turned clockwise (y points down) about its centre."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    half_width = math.hypot(radius_x * cosine, radius_y * sine)
    half_height = math.hypot(radius_x * sine, radius_y * cosine)
    return y - half_height, x - half_width, y + half_height, x + half_width


def turned(box: Box, degrees: float, pivot: tuple[float, float]) -> Box:
    """The box of a box that is turned clockwise (y points down) about `pivot`, (x, y)."""
    if degrees % 360 == 0:
        return box
    ymin, xmin, ymax, xmax = box
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    x0, y0 = pivot
    return of_points(
        [
            (
                x0 + cosine * (x - x0) - sine * (y - y0),
                y0 + sine * (x - x0) + cosine * (y - y0),
            )
            for x in (xmin, xmax)
            for y in (ymin, ymax)
        ]
    )


def check_name(name: object, path: str, where: str) -> str:
    """The name of a class.

    Raises:
      InputError: there is none, or it cannot be a file name.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"{path}: {where} has no class; expected the name of one")
    names.check_class(name, f"{path}: {where}")
    return name


def read(
    path: str,
    where: str,
    name: str,
    numbers: str,
    box: Box | None,
    difficult: bool = False,
    crowd: bool = False,
) -> checks.Object:
    """An object, with a problem if its box is none.

    Args:
      path, where: of what it is read from, for messages.
      name: of its class.
      numbers: as the file has them.
      box: in pixels or as fractions of the image; None: the numbers are none.
    """

    def made(box: Box = (0, 0, 0, 0), problem: checks.Problem | None = None) -> checks.Object:
        return checks.Object(name, box, difficult, crowd, None, where, numbers, problem)

    if box is None:
        message = f"{path}: {where} ({name}): the box {numbers} is not of numbers; expected them"
        return made(problem=checks.Problem("box not numeric", message))
    ymin, xmin, ymax, xmax = box
    if not (xmax > xmin and ymax > ymin):
        message = (
            f"{path}: {where} ({name}): empty box {numbers}; expected a width and a height above 0"
        )
        return made(problem=checks.Problem("empty box", message))
    return made(box)


def without_box(path: str, where: str, name: str, kind: str) -> checks.Object:
    """An object of a shape that bounds nothing, such as a line: a problem."""
    message = f"{path}: {where} ({name}): a {kind} has no box; expected a rectangle or a polygon"
    problem = checks.Problem("shape without a box", message)
    return checks.Object(name, (0, 0, 0, 0), False, False, None, where, kind, problem)
