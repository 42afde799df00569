"""Images of a split, each with the file that annotates it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from absl import logging

from ohem_tf.data import checks
from ohem_tf.data.formats import folders
from ohem_tf.data.listed import Labelled, Listing
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits


def pair(
    files: folders.Files,
    split: str,
    alone: bool,
    reader: Callable[[Labelled, Limits], checks.Entry],
    limits: Limits = DEFAULT,
    prefixes: Sequence[str] = (),
    unlabelled: str = "",
) -> Listing:
    """The images of a split, each with its annotation.

    Args:
      files: see `folders.scan`.
      split, alone, prefixes: see `folders.of_split`.
      reader: of an image and its annotation.
      limits: whether links may lead out of the folder.
      unlabelled: what is wrong with an image that has no annotation, and is left out; empty:
        nothing, it has no object. In either case pictures outside folders called images, where
        there are such folders, are taken for something else (drawings, masks).

    Raises:
      InputError: as `folders.of_split`; an empty split; links that lead out of the folder.
    """
    images, problems, other = [], [], 0
    has_folder = any(map(_in_images, files.images.values()))
    members = folders.of_split(dict.fromkeys(files.keys()), split, files.root, alone, prefixes)
    for image_id, (key, _) in members.items():
        if key not in files.annotations and has_folder and not _in_images(files.images[key]):
            other += 1
            continue
        image = folders.below(files, files.images.get(key), limits)
        annotation = folders.below(files, files.annotations.get(key), limits)
        if annotation is None and unlabelled:
            problems.append(checks.Problem("annotation missing", f"{image}: {unlabelled}"))
        else:
            images.append(Labelled(image_id, image, annotation, reader))
    if other:
        logging.warning(
            "%s: %d pictures without annotations, outside its folders of images, are left out",
            files.root,
            other,
        )
    if not images and not problems:
        raise InputError(f"{files.root}: split {split!r}: no image there; expected {_kinds()}")
    return Listing(images, problems=tuple(problems))


def _in_images(path: str) -> bool:
    return any(part.lower() in folders.OF_IMAGES for part in PurePosixPath(path).parts[:-1])


def entry(image: Labelled) -> checks.Entry:
    """An entry without objects of an image that was found; its annotation is still to be read."""
    return checks.Entry(
        image_id=image.image_id,
        image_path=image.image,
        annotation=image.annotation or "",
        height=None,
        width=None,
        objects=(),
        missing=f"{image.annotation}: its image is missing; expected a file of the same name, "
        f"{_kinds()}",
    )


def _kinds() -> str:
    return f"with one of {', '.join(folders.IMAGES)}"
