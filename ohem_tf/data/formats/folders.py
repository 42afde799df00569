"""Images and the files that annotate them, wherever labelling tools put them in a folder.

An image and its annotation belong together when their paths are the same without the extension and
without the folders that only say what lies in them (images, labels, Annotations, ...):
images/train/7.jpg and labels/train/7.txt, train/images/7.jpg and train/labels/7.txt, train/7.jpg
and train/7.txt all are train/7. The first folder that is left names the split.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

from ohem_tf import names
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits

T = TypeVar("T")

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
# Folders that say what lies in them, in lower case.
OF_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "obj_train_data")
_CONTAINERS = (
    *(*OF_IMAGES, "labels", "label", "annotations", "annotation", "ann"),
    *("xmls", "xml", "jsons", "json", "data"),
)
# A split has the name that the user gives it, and the folder of that name or of one beside it.
_ALIASES = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
_SPLITS = frozenset(name for group in _ALIASES for name in group) | {"trainval", "dev"}


def walk(root: str | os.PathLike[str], follow_links: bool = False) -> Iterator[str]:
    """Files below a folder, relative to it with / between, in order of their names; no hidden ones.

    Raises:
      InputError: it is no folder.
    """
    if not os.path.isdir(root):
        raise InputError(f"--root={os.fspath(root)}: no such folder; expected the one of the data")
    for folder, below, files in os.walk(root, followlinks=follow_links):
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        relative = PurePosixPath(os.path.relpath(folder, root))
        for name in sorted(files):
            if not name.startswith("."):
                yield str(relative / name)


def key_of(path: str, with_stem: bool = True) -> str:
    """What image and annotation have in common: "train/7"; without stem, of a folder: "train"."""
    pure = PurePosixPath(path)
    folders = pure.parts[:-1] if with_stem else pure.parts
    kept = [part for part in folders if part.lower() not in _CONTAINERS]
    return "/".join([*kept, pure.stem] if with_stem else kept)


class Files(NamedTuple):
    """What lies below a folder.

    Attributes:
      root: the folder.
      images, annotations: {key: path relative to `root`}.
    """

    root: str
    images: dict[str, str]
    annotations: dict[str, str]

    def keys(self) -> list[str]:
        """Of images and annotations, in order."""
        return sorted(self.images.keys() | self.annotations.keys())


def scan(
    root: str | os.PathLike[str],
    extension: str | None,
    limits: Limits = DEFAULT,
    ignored: Callable[[str], bool] = lambda name: False,
) -> Files:
    """Looks for images, and for annotation files with an extension (None: for images alone).

    Args:
      root: the folder.
      extension: of annotations, ".txt" say.
      limits: whether links are followed.
      ignored: whether a file name is that of another kind of file.

    Raises:
      InputError: no folder; two images, or two annotations, with one key.
    """
    found: dict[str, dict[str, str]] = {"images": {}, extension or "": {}}
    for path in walk(root, limits.follow_links):
        kind = os.path.splitext(path)[1].lower()
        kind = "images" if kind in IMAGES else kind
        if kind and kind in found and not (kind == extension and ignored(os.path.basename(path))):
            other = found[kind].setdefault(key_of(path), path)
            if other != path:
                raise InputError(
                    f"{os.fspath(root)}: {other} and {path} would be the same image; expected one "
                    "of them, or files of other names"
                )
    return Files(os.fspath(root), found["images"], found[extension or ""])


def is_split(name: str) -> bool:
    """Whether a word is a usual name of a split."""
    return name.lower() in _SPLITS


def split_folders(keys: Iterable[str]) -> list[str]:
    """The first folders of keys that are names of splits."""
    first = {key.partition("/")[0] for key in keys if "/" in key}
    return sorted(filter(is_split, first))


def same_split(asked: str, present: Iterable[str]) -> str | None:
    """The name in `present` that is `asked`, or means the same ("Valid" for "val"); else None."""
    present = set(present)
    if asked in present:
        return asked
    lower = {name.lower(): name for name in sorted(present)}
    group = next((group for group in _ALIASES if asked.lower() in group), (asked.lower(),))
    return next((lower[name] for name in (asked.lower(), *group) if name in lower), None)


def of_split(
    keyed: Mapping[str, T],
    split: str,
    root: str,
    alone: bool,
    prefixes: Sequence[str] = (),
) -> dict[str, tuple[str, T]]:
    """What of a folder belongs to a split.

    Args:
      keyed: {key: anything}, as of `scan`.
      split: its name; "val", "valid" and "validation" find each other's folder, if their own is
        not there, and so do "train" and "training", "test" and "testing"; in any case of letters.
      root: for messages.
      alone: it is the only split that is read, so in a folder without splits it is all.
      prefixes: folders, as of `key_of`, that the data itself gives the split.

    Returns:
      {image id: (key, value)}: the id is the key without the folder of the split, its white space
      replaced by _, as ids are words.

    Raises:
      InputError: no such split, or ids that are none or twice the same.
    """
    firsts = {key.partition("/")[0] for key in keyed if "/" in key}
    if not any(_below(key, prefix) for key in keyed for prefix in prefixes):
        own = same_split(split, firsts)
        there = split_folders(keyed)
        if own is None and (there or not alone):
            raise InputError(
                f"{root}: no split {split!r}; "
                + (f"splits there: {', '.join(there)}" if there else "the folder has no splits")
                + "; expected --split with those, or --val_fraction=0.2, which makes one"
                + ("" if there else " (or a folder for each split)")
            )
        if own is None:
            _refuse_deeper(keyed, root)
        prefixes = ("" if own is None else own,)
    found: dict[str, tuple[str, T]] = {}
    for key in sorted(keyed):
        prefix = next((prefix for prefix in prefixes if _below(key, prefix)), None)
        if prefix is None:
            continue
        image_id = "_".join(key.removeprefix(prefix).lstrip("/").split())
        names.check_image_id(image_id, f"{root}: {key}")
        if image_id in found:
            raise InputError(
                f"{root}: {found[image_id][0]} and {key} would both be image {image_id}; expected "
                "files of other names"
            )
        found[image_id] = (key, keyed[key])
    return found


def _refuse_deeper(keys: Iterable[str], root: str) -> None:
    """Raises InputError if folders of splits lie deeper: all of them would be one."""
    for key in keys:
        folders = key.split("/")[:-1]
        place = next((i for i, folder in enumerate(folders) if is_split(folder)), None)
        if place:
            parent = os.path.join(root, *folders[:place])
            raise InputError(
                f"{root}: has no folder {folders[place]}, but {parent} has; expected --root with "
                "the folder of the splits"
            )


def _below(key: str, prefix: str) -> bool:
    return not prefix or key.startswith(prefix + "/")


def below(files: Files, path: str | None, limits: Limits) -> str | None:
    """A path of `files` that the package may open; None stays None.

    Raises:
      InputError: see `names.below`.
    """
    if path is None:
        return None
    return str(names.below(files.root, path, "--root", limits.follow_links))
