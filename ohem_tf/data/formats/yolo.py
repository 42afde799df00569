"""YOLO: a txt of lines "class x y width height" for each image, as Ultralytics and Darknet have it.

x, y: the centre; all four are fractions of the image's width or height. A line of seven numbers or
more is a polygon, class x1 y1 x2 y2 ..., and becomes its box, unless data.yaml says by 'kpt_shape'
that keypoints follow the box: those are left out. An image without a txt, or with an
empty one, has no object: so YOLO says it. yolo_names.py finds what the numbers of classes mean, and
which folders the splits are; folders.py which files belong together.

globox 2.9 is not used: it finds images by their labels, so those without objects are lost, takes
class numbers for names, ends in a KeyError at a label without an image and in an AssertionError at
a width below 0, and takes a sixth number for a confidence; what is left, `x * width`, is one line.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from pathlib import Path

from ohem_tf.data import checks
from ohem_tf.data.formats import folders, pairs, shapes, yolo_names
from ohem_tf.data.listed import Labelled, Listing
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits

# Text files that tools write beside the labels, in lower case.
_OTHER_FILES = (
    *("classes.txt", "readme*.txt", "labels.txt", "notes.txt", "autosplit_*.txt", "requirements*"),
    *("train.txt", "val.txt", "valid.txt", "test.txt", "train2*.txt", "val2*.txt", "test*2*.txt"),
)


def is_other(name: str) -> bool:
    """Whether a text file of that name holds no labels."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in _OTHER_FILES)


def read(
    image: Labelled, limits: Limits = DEFAULT, *, classes: tuple[str, ...] = (), keypoints: int = 0
) -> checks.Entry:
    """The entry of an image with its txt; boxes are `normalized`.

    Args:
      image: without an annotation it has no object.
      limits: on the size of the txt.
      classes: names of the numbers 0, 1, ...
      keypoints: numbers that follow the box in a line, and are left out.

    Raises:
      InputError: a txt that is too large or no text, or a line of a length that YOLO does not know.
    """
    entry = dataclasses.replace(pairs.entry(image), normalized=True)
    path = image.annotation
    if path is None:
        return entry
    try:
        limits.check_size("xml_mb", path)
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected labels") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected lines of numbers") from None
    objects = [
        _read_line(_without(line.split(), keypoints), f"line {number}", path, classes)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    return dataclasses.replace(entry, objects=tuple(objects))


def _without(words: list[str], keypoints: int) -> list[str]:
    return words[:5] if keypoints and len(words) == 5 + keypoints else words


def _read_line(words: list[str], where: str, path: str, classes: tuple[str, ...]) -> checks.Object:
    polygon = len(words) >= 7 and len(words) % 2 == 1
    if len(words) != 5 and not polygon:
        hint = ", the last a confidence? these are no detections" if len(words) == 6 else ""
        raise InputError(
            f"{path}: {where} has {len(words)} numbers{hint}; expected five, class x y width "
            "height, or the class and a polygon's x1 y1 x2 y2 x3 y3 ..."
        )
    numbers = " ".join(words[1:])[:200]
    name = _name(words[0], classes)
    if name is None:
        message = (
            f"{path}: {where}: unknown class {words[0]!r:.40}; expected a number from 0 to "
            f"{len(classes) - 1}"
        )
        problem = checks.Problem("unknown class", message)
        box = (0.0, 0.0, 0.0, 0.0)
        return checks.Object(words[0], box, False, False, None, where, numbers, problem)
    try:
        values = [shapes.number(word) for word in words[1:]]
    except ValueError:
        return shapes.read(path, where, name, numbers, None)
    if polygon:
        return shapes.read(
            path,
            where,
            name,
            numbers,
            shapes.of_points(list(zip(values[::2], values[1::2], strict=True))),
        )
    x, y, width, height = values
    box = (y - height / 2, x - width / 2, y + height / 2, x + width / 2)
    return shapes.read(path, where, name, numbers, box)


def _name(word: str, classes: tuple[str, ...]) -> str | None:
    """Of a class number; some tools write it as 3.0."""
    try:
        number = shapes.number(word)
    except ValueError:
        return None
    return classes[int(number)] if number.is_integer() and 0 <= number < len(classes) else None


def list_split(
    root: str,
    split: str,
    alone: bool,
    classes: tuple[str, ...] | None = None,
    limits: Limits = DEFAULT,
) -> Listing:
    """The images of a split; see `pairs.pair`.

    Args:
      root: the folder.
      split, alone: see `folders.of_split`.
      classes: names of the numbers 0, 1, ... for a folder that does not say.
      limits: on its files.

    Raises:
      InputError: as `yolo_names.find`, `folders.scan` and `pairs.pair`.
    """
    files = folders.scan(root, ".txt", limits, is_other)
    found = yolo_names.find(root, limits)
    known = found.classes or classes
    if not known:
        raise InputError(
            f"{root}: no data.yaml with 'names', no classes.txt and no obj.names; expected one of "
            "them, or --classes with the names of the numbers 0, 1, ... in their order"
        )
    prefixes = found.splits.get(folders.same_split(split, found.splits) or "", ())
    listed = yolo_names.read_list(root, prefixes, limits)
    if listed is not None:
        images = {key: path for key, path in files.images.items() if key in listed.keys}
        files = files._replace(
            images=images,
            annotations={key: p for key, p in files.annotations.items() if key in images},
        )
        prefixes, alone = (listed.folder,), True
    reader = functools.partial(read, classes=known, keypoints=found.keypoints)
    listing = pairs.pair(files, split, alone, reader, limits, prefixes)
    return listing._replace(classes=known)
