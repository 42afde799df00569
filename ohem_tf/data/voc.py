"""Reads PASCAL VOC folders: Annotations/*.xml, ImageSets/Main/SPLIT.txt, JPEGImages/*.

Folders of images with such xml beside them and no ImageSets are formats/voc_beside.py's.
"""

from __future__ import annotations

import dataclasses
import math
import os
import xml.etree.ElementTree as ET
from pathlib import Path

from ohem_tf import names
from ohem_tf.data import checks, xml_file
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits

EXTENSIONS = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclasses.dataclass(frozen=True)
class Listed:
    """An image of a split, of which nothing has been read yet; `annotated`: it has an xml."""

    root: str
    image_id: str
    annotated: bool = True

    def read(self, limits: Limits = DEFAULT) -> checks.Entry:
        """See `read_entry`."""
        return read_entry(self, limits)

    def path(self) -> str | None:
        """The image, None if it is missing."""
        return find_image(self.root, self.image_id)

    def files(self) -> str:
        """What `read` reads, for messages."""
        return f"{self.root}: the annotation or the image of {self.image_id}"


def has_lists(root: str | os.PathLike[str]) -> bool:
    """Whether a folder says in ImageSets what its splits are."""
    return os.path.isdir(os.path.join(root, "ImageSets", "Main"))


def read_split(root: str | os.PathLike[str], split: str) -> list[str]:
    """Image ids of a split, in the order of ImageSets/Main/SPLIT.txt.

    A second word on a line (the 1, 0 or -1 of VOC's per-class lists) is ignored.

    Raises:
      InputError: no such list (names the lists there), an empty one, an id that stands twice or
        leads out of `root`.
    """
    path = Path(root) / "ImageSets" / "Main" / f"{split}.txt"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError:
        there = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
        raise InputError(f"{path}: no such split; splits there: {there}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected one image id a line") from None
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        names.check_image_id(words[0], f"{path}: line {number}")
        if ids.setdefault(words[0], number) != number:
            raise InputError(
                f"{path}: line {number}: image id {words[0]} stands on line {ids[words[0]]} "
                "already; expected each id once"
            )
    if not ids:
        raise InputError(f"{path}: the split is empty; expected one image id a line")
    return list(ids)


def find_image(
    root: str | os.PathLike[str], image_id: str, follow_links: bool = False
) -> str | None:
    """Path of an image, by the first extension of `EXTENSIONS` that exists; None if there is none.

    The id decides, not the xml's <filename>, as in the VOC devkit.

    Raises:
      InputError: as `names.below`.
    """
    for extension in EXTENSIONS:
        name = f"JPEGImages/{image_id}{extension}"
        if os.path.isfile(os.path.join(root, name)):
            return str(names.below(root, name, f"image {image_id}", follow_links))
    return None


def _text(element: ET.Element, tag: str) -> str | None:
    found = element.find(tag)
    return None if found is None or found.text is None else found.text.strip()


def _size(tree: ET.Element, path: str) -> tuple[int | None, int | None]:
    """Height and width of the <size> element; None where the file does not give them."""
    sides: list[int | None] = []
    for side in ("height", "width"):
        text = _text(tree, f"size/{side}")
        try:
            sides.append(None if text is None else int(float(text)))
        except (ValueError, OverflowError):
            raise InputError(
                f"{path}: <{side}> is {text!r}; expected the image's {side} in pixels"
            ) from None
    return sides[0], sides[1]


def _read_object(element: ET.Element, number: int, path: str) -> checks.Object:
    where = f"object {number}"
    name = _text(element, "name")
    if not name:
        raise InputError(f"{path}: {where} has no <name>; expected the name of its class")
    names.check_class(name, f"{path}: {where}")
    difficult = _text(element, "difficult") or "0"
    if difficult not in ("0", "1"):
        raise InputError(f"{path}: {where}: <difficult> is {difficult!r}; expected 0 or 1")
    texts = [_text(element, f"bndbox/{corner}") for corner in _CORNERS]
    numbers = ", ".join(f"{c}={t}" for c, t in zip(_CORNERS, texts, strict=True))

    def read(
        box: tuple[float, float, float, float] = (0, 0, 0, 0),
        problem: checks.Problem | None = None,
    ) -> checks.Object:
        return checks.Object(name, box, difficult == "1", False, None, where, numbers, problem)

    try:
        xmin, ymin, xmax, ymax = (float(text or "") for text in texts)
        if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
            raise ValueError
    except ValueError:
        message = (
            f"{path}: {where} ({name}): the box {numbers} is not four numbers; expected pixels"
        )
        return read(problem=checks.Problem("box not numeric", message))
    if xmax <= xmin or ymax <= ymin:
        message = (
            f"{path}: {where} ({name}): empty box {numbers}; expected xmax > xmin, ymax > ymin"
        )
        return read(problem=checks.Problem("empty box", message))
    # 1-based inclusive corners become 0-based half-open ones.
    return read((ymin - 1, xmin - 1, ymax, xmax))


def _bare_entry(root: str, image_id: str, follow_links: bool) -> checks.Entry:
    """An image of a split without annotations."""
    wanted = Path(root) / "JPEGImages" / f"{image_id}.jpg"
    return checks.Entry(
        image_id=image_id,
        image_path=find_image(root, image_id, follow_links),
        annotation="",
        height=None,
        width=None,
        objects=(),
        missing=f"{wanted}: image is missing; expected it with one of {', '.join(EXTENSIONS)}",
    )


def read_entry(image: Listed, limits: Limits = DEFAULT) -> checks.Entry:
    """Reads the annotation of one image, if it has one, and looks for the image.

    Raises:
      InputError: as `read_annotation`.
    """
    bare = _bare_entry(image.root, image.image_id, limits.follow_links)
    if not image.annotated:
        return bare
    name = f"Annotations/{image.image_id}.xml"
    path = str(names.below(image.root, name, f"image {image.image_id}", limits.follow_links))
    return read_annotation(bare, path, limits)


def read_annotation(entry: checks.Entry, path: str, limits: Limits = DEFAULT) -> checks.Entry:
    """An entry with the size and the objects that an xml gives it.

    An absent <difficult> means 0, an absent <size> is not compared.

    Raises:
      InputError: no annotation file, xml that is too large, does not parse or is no <annotation>, a
        size or <difficult> that is no number, an object without a name or with one that cannot be a
        file name.
    """
    missing = (
        "annotation file is missing; expected one for each image id of the split "
        "(--no_annotations prepares a split that has none)"
    )
    tree = xml_file.read(path, "annotation", missing, limits)
    height, width = _size(tree, path)
    return dataclasses.replace(
        entry,
        annotation=path,
        height=height,
        width=width,
        objects=tuple(
            _read_object(element, number, path)
            for number, element in enumerate(tree.findall("object"), 1)
        ),
    )
