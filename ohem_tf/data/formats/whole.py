"""Files that annotate a whole split, and the images that they name.

CVAT, Label Studio and Open Images write one file with the annotations of many images. Here is found
which file is a split's, and for each image that it names which file of the folder that is.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ohem_tf import names
from ohem_tf.data import checks
from ohem_tf.data.formats import folders
from ohem_tf.data.listed import Listing
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits


@dataclasses.dataclass(frozen=True)
class Source:
    """Where data lies: what the flags say, and the limits on it.

    Attributes:
      root: the folder.
      split: whose images are looked for.
      alone: no other split is read.
      annotations, images: that the user names, with "{split}" replaced; None: to be found in
        `root`.
      own_annotations: whether `annotations` are of this split alone.
      limits: on its files.
    """

    root: str
    split: str
    alone: bool
    annotations: str | None = None
    images: str | None = None
    own_annotations: bool = True
    limits: Limits = DEFAULT


@dataclasses.dataclass(frozen=True)
class Stated:
    """An image as a file names it.

    Attributes:
      name: its path or file name there.
      objects: in it.
      height, width: pixels; None: the file does not say.
      normalized: see `checks.Entry`.
      split: that the file gives it, if it does.
    """

    name: str
    objects: tuple[checks.Object, ...]
    height: int | None = None
    width: int | None = None
    normalized: bool = False
    split: str = ""


class File(NamedTuple):
    """The annotation file of a split, and whether it is of no other split."""

    path: str
    own: bool


def find_file(source: Source, extension: str, is_one: Callable[[str], bool], what: str) -> File:
    """The annotation file of a split.

    It is --annotations; else the one in the split's folder, the one with the split's name in its
    own ("train-annotations-bbox.csv"), or the only one.

    Args:
      source: where.
      extension: of the file.
      is_one: whether a file with it, by its path, is of the format.
      what: the format calls it, for messages.

    Raises:
      InputError: there is none, or several that could be it.
    """
    if source.annotations is not None:
        return File(source.annotations, source.own_annotations)
    found = {}
    for relative in folders.walk(source.root, source.limits.follow_links):
        if relative.lower().endswith(extension):
            candidate = names.below(source.root, relative, "--root", source.limits.follow_links)
            if is_one(str(candidate)):
                found[relative] = str(candidate)
    if not found:
        raise InputError(f"{source.root}: {what} is not there; expected it, or --annotations=FILE")
    for words_of in (_first_folder, _words):
        named = [
            path for rel, path in found.items() if folders.same_split(source.split, words_of(rel))
        ]
        if len(named) == 1:
            return File(named[0], True)
    if len(found) > 1:
        raise InputError(
            f"{source.root}: {', '.join(found)}: which of them is of the split {source.split!r}? "
            "expected one, or --annotations=FILE"
        )
    ((relative, path),) = found.items()
    other = next(filter(folders.is_split, [*_first_folder(relative), *_words(relative)]), None)
    if other is not None:
        raise InputError(
            f"{path}: is of the split {other!r}; expected one of {source.split!r}, or "
            "--annotations=FILE"
        )
    return File(path, False)


def _first_folder(relative: str) -> list[str]:
    key = folders.key_of(relative)
    return [key.partition("/")[0]] if "/" in key else []


def _words(relative: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", os.path.basename(relative).lower())


def listing(
    source: Source,
    file: File,
    stated: Iterable[Stated],
    classes: tuple[str, ...] = (),
    problems: Iterable[checks.Problem] = (),
) -> Listing:
    """The images of a split that a file names.

    Args:
      source: where the images are.
      file: it.
      stated: its images.
      classes, problems: see `Listing`.

    Returns:
      Entries in the order of their ids. A split that the file gives counts, else that of the
      image's folder (`folders.of_split`).

    Raises:
      InputError: an image that stands twice, or whose name fits several files; no image of that
        split; what `folders` refuses.
    """
    path, stated = file.path, list(stated)
    given = {image.split for image in stated} - {""}
    wanted = None
    if given and (len(given) > 1 or not source.alone or folders.same_split(source.split, given)):
        wanted = folders.same_split(source.split, given)
        if wanted is None:
            there = ", ".join(sorted(given))
            raise InputError(f"{path}: no split {source.split!r}; splits there: {there}")
        stated = [image for image in stated if image.split == wanted]
    folder = source.images or source.root
    files = folders.scan(folder, None, source.limits)
    by_name: dict[str, list[str]] = {}
    for key in files.images:
        by_name.setdefault(key.rpartition("/")[2], []).append(key)
    keyed: dict[str, Stated] = {}
    for image in stated:
        key = _find(image.name, by_name, path)
        if key in keyed:
            raise InputError(f"{path}: image {image.name} stands there twice; expected it once")
        keyed[key] = image
    prefixes: tuple[str, ...] = ()
    if wanted is not None:
        folder_of = folders.same_split(source.split, {key.partition("/")[0] for key in keyed})
        inside = folder_of and all(key.startswith(f"{folder_of}/") for key in keyed)
        prefixes = (folder_of or "",) if inside else ("",)
    members = folders.of_split(keyed, source.split, path, source.alone or file.own, prefixes)
    entries = []
    for image_id, (key, image) in members.items():
        found = folders.below(files, files.images.get(key), source.limits)
        entries.append(
            checks.Entry(
                image_id=image_id,
                image_path=found,
                annotation=path,
                height=image.height,
                width=image.width,
                objects=image.objects,
                missing=f"{path}: image {image.name} is missing; expected it below {folder}",
                normalized=image.normalized,
            )
        )
    problems = tuple(problems)
    if not entries and not problems:
        raise InputError(f"{path}: the split {source.split!r} is empty; expected images in it")
    return Listing(entries, classes, problems)


def _find(name: str, by_name: dict[str, list[str]], path: str) -> str:
    """The key of the image that is meant; the key of `name` itself if there is none."""
    wanted = folders.key_of(name.replace("\\", "/"))
    same_name = by_name.get(wanted.rpartition("/")[2], [])
    fitting = [
        key
        for key in same_name
        if key == wanted or key.endswith(f"/{wanted}") or wanted.endswith(f"/{key}")
    ]
    if wanted in fitting or not fitting:
        return wanted
    if len(fitting) > 1:
        raise InputError(
            f"{path}: image {name} may be {' or '.join(fitting)}; expected a path that tells, or "
            "--images with the folder"
        )
    return fitting[0]


def head(path: str, length: int = 1 << 16) -> str:
    """The first characters of a file, for whoever asks what it is; what is no UTF-8 is left out."""
    try:
        if not os.path.isfile(path):  # a pipe would wait for ever
            return ""
        with open(path, "rb") as file:
            return file.read(length).decode("utf-8-sig", errors="ignore")
    except OSError:
        return ""
