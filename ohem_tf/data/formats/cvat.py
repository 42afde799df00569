"""CVAT's xml for images, version 1.1: one annotations.xml, whose <image> elements hold the shapes.

<box> (turned ones too), <polygon>, <ellipse> and <mask> become boxes; <polyline>, <points>,
<skeleton> and <cuboid> bound nothing and are problems; <tag> is of the image and is left out.
Labels of <meta> are the classes, in their order. A subset of an image is its split. Attributes
named "difficult" and "is_crowd" count. An image without shapes has no object: CVAT writes those
that nobody has looked at in the same way.

globox 2.9 is not used: it reads <box> alone, and that without its rotation, drops all other shapes
and the tracks of videos without a word, and ends in an AssertionError at xbr < xtl.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

from ohem_tf.data import checks, xml_file
from ohem_tf.data.formats import shapes, whole
from ohem_tf.data.listed import Listing
from ohem_tf.errors import InputError

_NO_BOX = ("polyline", "points", "skeleton", "cuboid")


def is_one(path: str) -> bool:
    """Whether a file looks like CVAT's."""
    return re.search(r"<annotations[\s>]", whole.head(path)) is not None


def list_split(source: whole.Source) -> Listing:
    """The images of a split.

    Raises:
      InputError: as `whole.find_file`, `xml_file.children` and `whole.listing`; CVAT for video; an
        image without a name or with a size that is none, a shape without a label.
    """
    file = whole.find_file(source, ".xml", is_one, "CVAT's annotations.xml")
    classes: list[str] = []
    images = list(_images(file.path, source, classes))
    return whole.listing(source, file, images, tuple(dict.fromkeys(classes)))


def _images(path: str, source: whole.Source, classes: list[str]) -> Iterator[whole.Stated]:
    """The images; fills `classes`."""
    for number, element in enumerate(xml_file.children(path, "annotations", source.limits)):
        if element.tag == "meta":
            for label in element.iterfind(".//labels/label/name"):
                classes.append(shapes.check_name((label.text or "").strip(), path, "a label"))
        elif element.tag == "track":
            raise InputError(f"{path}: is CVAT for video; expected an export as CVAT for images")
        elif element.tag == "image":
            yield _read_image(element, path, number)


def _read_image(element: ET.Element, path: str, number: int) -> whole.Stated:
    name = element.get("name")
    if not name:
        raise InputError(f"{path}: element {number}, an <image>, has no name; expected one")
    sides: list[int | None] = []
    for key in ("height", "width"):
        text = element.get(key)
        try:
            sides.append(None if text is None else int(text))
        except ValueError:
            raise InputError(
                f"{path}: image {name}: {key} is {text!r:.40}; expected pixels"
            ) from None
    objects = tuple(
        _read_shape(shape, f"image {name}, shape {index}", path)
        for index, shape in enumerate(element, 1)
        if shape.tag in _BOXES or shape.tag in _NO_BOX
    )
    return whole.Stated(name, objects, sides[0], sides[1], split=element.get("subset", ""))


def _read_shape(shape: ET.Element, where: str, path: str) -> checks.Object:
    name = shapes.check_name(shape.get("label"), path, where)
    if shape.tag in _NO_BOX:
        return shapes.without_box(path, where, name, shape.tag)
    kept = {key: value for key, value in shape.attrib.items() if key in _NUMBERS}
    numbers = f"{shape.tag} " + ", ".join(f"{key}={value}"[:120] for key, value in kept.items())
    try:
        box = _BOXES[shape.tag](shape)
    except ValueError:
        box = None
    flags = {
        attribute.get("name"): (attribute.text or "").strip().lower() in ("true", "1")
        for attribute in shape.iterfind("attribute")
    }
    return shapes.read(
        *(path, where, name, numbers, box),
        difficult=flags.get("difficult", False),
        crowd=flags.get("is_crowd", False),
    )


def _numbers(shape: ET.Element, *keys: str) -> list[float]:
    return [shapes.number(shape.get(key, "")) for key in keys]


def _box(shape: ET.Element) -> shapes.Box:
    xmin, ymin, xmax, ymax = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    middle = ((xmin + xmax) / 2, (ymin + ymax) / 2)
    return shapes.turned((ymin, xmin, ymax, xmax), _rotation(shape), middle)


def _ellipse(shape: ET.Element) -> shapes.Box:
    x, y, radius_x, radius_y = _numbers(shape, "cx", "cy", "rx", "ry")
    return shapes.of_ellipse(x, y, radius_x, radius_y, _rotation(shape))


def _polygon(shape: ET.Element) -> shapes.Box:
    pairs = [point.split(",") for point in shape.get("points", "").split(";")]
    return shapes.of_points([(shapes.number(x), shapes.number(y)) for x, y in pairs])


def _mask(shape: ET.Element) -> shapes.Box:
    x, y, width, height = _numbers(shape, "left", "top", "width", "height")
    return y, x, y + height, x + width


def _rotation(shape: ET.Element) -> float:
    return shapes.number(shape.get("rotation", "0"))


_BOXES: dict[str, Callable[[ET.Element], shapes.Box]] = {
    "box": _box,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "mask": _mask,
}
_NUMBERS = (
    *("xtl", "ytl", "xbr", "ybr", "rotation", "cx", "cy", "rx", "ry"),
    *("points", "left", "top", "width", "height"),
)
