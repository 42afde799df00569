"""Images that are known to hold no object, as a VOC folder that `prepare` takes."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from pathlib import Path

from ohem_tf import names
from ohem_tf.errors import InputError
from ohem_tf.files import atomic, make_folder

LIST = "ImageSets/Main/train.txt"
CLASSES = "classes.txt"


def image_ids(paths: Sequence[str]) -> list[str]:
    """Ids for image files: their names without extension, white space replaced by _.

    Raises:
      InputError: one that is none, or the same twice.
    """
    found: dict[str, str] = {}
    for path in paths:
        image_id = "_".join(Path(path).stem.split())
        names.check_image_id(image_id, f"--images: {path}")
        if found.setdefault(image_id, path) != path:
            raise InputError(
                f"--images: {found[image_id]} and {path} would both be image {image_id}; expected "
                "files of other names"
            )
    return list(found)


def write(
    folder: str, images: Iterable[tuple[str, bytes, tuple[int, int]]], classes: Sequence[str]
) -> int:
    """Writes a VOC folder of images without objects.

    Args:
      folder: for JPEGImages, Annotations, ImageSets/Main/train.txt, which is written last, and
        classes.txt, for prepare's --classes.
      images: id, JPEG or PNG file, and height and width of each, in the order of the list.
      classes: names of the classes that none of them holds.

    Returns:
      The number of images.

    Raises:
      InputError: the folder cannot be made.
    """
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        make_folder(os.path.join(folder, name), "output")
    listed = []
    for image_id, encoded, (height, width) in images:
        ending = "png" if encoded.startswith(b"\x89PNG") else "jpg"
        _write(folder, f"JPEGImages/{image_id}.{ending}", encoded)
        tree = ET.Element("annotation")
        ET.SubElement(tree, "filename").text = f"{image_id}.{ending}"
        size = ET.SubElement(tree, "size")
        for tag, value in (("width", width), ("height", height), ("depth", 3)):
            ET.SubElement(size, tag).text = str(value)
        _write(folder, f"Annotations/{image_id}.xml", ET.tostring(tree))
        listed.append(image_id)
    _write(folder, CLASSES, "".join(f"{name}\n" for name in classes).encode())
    lines = "".join(f"{image_id}\n" for image_id in listed)
    _write(folder, LIST, lines.encode())
    return len(listed)


def _write(folder: str, name: str, content: bytes) -> None:
    with atomic(os.path.join(folder, name)) as temporary:
        Path(temporary).write_bytes(content)
