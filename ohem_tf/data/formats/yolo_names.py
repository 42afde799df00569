"""What a YOLO folder says about itself: names of its classes, folders or lists of its splits.

data.yaml (any .yaml of the folder with 'names') has both; classes.txt and obj.names, a name a line,
have classes. 'path' in the yaml is where its author kept the data, so it is not looked at: train,
val and test are taken below the folder that the user gives, without the ../ that Roboflow puts
before them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from ohem_tf import names
from ohem_tf.data.formats import folders
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits

_NAME_FILES = ("classes.txt", "obj.names")
_MOST_BYTES = 4_000_000  # of a yaml, or of a file of names


class Found(NamedTuple):
    """What `find` finds.

    Attributes:
      classes: names of the numbers 0, 1, ...; empty: the folder does not say.
      splits: {name: folders, as of `folders.key_of`, or .txt files}.
      keypoints: numbers that follow the box in each line, of data for poses.
    """

    classes: tuple[str, ...] = ()
    splits: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - never changed
    keypoints: int = 0


def find(root: str, limits: Limits = DEFAULT) -> Found:
    """Reads data.yaml, or else the file of names, of a folder.

    Raises:
      InputError: a yaml that does not parse, names that are no list, stand twice or cannot be file
        names; several files of names that differ.
    """
    with_names = {}
    for path in sorted([*Path(root).glob("*.yaml"), *Path(root).glob("*.yml")]):
        safe = names.below(root, path.name, "--root", limits.follow_links)
        data = _read_yaml(safe)
        if isinstance(data, dict) and "names" in data:
            with_names[path.name] = (safe, data)
    if with_names:
        preferred = with_names.get("data.yaml")
        if preferred is None and len(with_names) > 1:
            raise InputError(
                f"{root}: {' and '.join(with_names)} have 'names'; expected one, or a data.yaml"
            )
        path, data = preferred or next(iter(with_names.values()))
        classes = _classes(data["names"], str(path))
        return Found(classes, _splits(data, root), _keypoints(data, str(path)))
    found = {}
    for relative in folders.walk(root, limits.follow_links):
        if os.path.basename(relative).lower() in _NAME_FILES:
            path = names.below(root, relative, "--root", limits.follow_links)
            lines = (line.strip() for line in _text(path).splitlines())
            found[_classes([line for line in lines if line], str(path))] = path
    if len(found) > 1:
        first, second, *_ = found.values()
        raise InputError(f"{first} and {second} have other names; expected the same in both")
    return Found(next(iter(found), ()))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: more than {_MOST_BYTES} bytes; expected names and folders")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected UTF-8 text") from None


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.load(_text(path), yaml.BaseLoader)  # every value a str: a class may be 7 or no
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: yaml that does not parse ({line}); repair the file") from None


def _classes(value: Any, path: str) -> tuple[str, ...]:
    """Names of a list, or of a map from the numbers 0, 1, ..."""
    if isinstance(value, dict):
        try:
            value = [value[str(number)] for number in range(len(value))]
        except KeyError as error:
            raise InputError(
                f"{path}: names has no class {error}; expected the numbers from 0 on, without a gap"
            ) from None
    if not isinstance(value, list) or not value:
        raise InputError(f"{path}: expected the names of the classes, a list or one a line")
    if not all(isinstance(name, str) for name in value):  # not shown: it may be deep, and endless
        raise InputError(f"{path}: names holds something that is no name; expected text alone")
    found = tuple(value)
    for number, name in enumerate(found):
        names.check_class(name, f"{path}: class {number}")
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise InputError(f"{path}: the class name {twice!r} stands twice; expected it once")
    return found


def _keypoints(data: dict[str, Any], path: str) -> int:
    """Numbers of the keypoints of an object: kpt_shape has their count, and 2 or 3 for each."""
    shape = data.get("kpt_shape")
    if shape is None:
        return 0
    if not (isinstance(shape, list) and len(shape) == 2 and all(map(_is_count, shape))):
        raise InputError(f"{path}: kpt_shape is no two whole numbers; expected [17, 3], say")
    return int(shape[0]) * int(shape[1])


def _is_count(value: object) -> bool:
    return isinstance(value, str) and value.isdecimal() and len(value) < 5


def _splits(data: dict[str, Any], root: str) -> dict[str, tuple[str, ...]]:
    found = {}
    for split in ("train", "val", "valid", "test"):
        value = data.get(split)
        places = value if isinstance(value, list) else [value]
        kept = [_place(place, root) for place in places if isinstance(place, str) and place]
        if kept and None not in kept:
            found[split] = tuple(place for place in kept if place is not None)
    return found


def _place(place: str, root: str) -> str | None:
    """A folder, as of `folders.key_of`, or a .txt, below the root; None: it lies elsewhere."""
    path = PurePosixPath(place.replace("\\", "/"))
    if path.is_absolute():
        try:
            path = path.relative_to(os.path.abspath(root))
        except ValueError:
            return None
    parts = [part for part in path.parts if part != ".."]
    if path.suffix == ".txt":
        return "/".join(parts)
    return folders.key_of("/".join(parts), with_stem=False)


class Listed(NamedTuple):
    """Images that a .txt lists: their keys, and the folder that these have in common."""

    keys: frozenset[str]
    folder: str


def read_list(root: str, places: Sequence[str], limits: Limits = DEFAULT) -> Listed | None:
    """The images of a split whose yaml names a .txt with a path a line; None: it names folders.

    Raises:
      InputError: the file cannot be read, or lists none.
    """
    lists = [place for place in places if place.endswith(".txt")]
    if not lists:
        return None
    keys: set[str] = set()
    for place in lists:
        path = names.below(root, place, "data.yaml", limits.follow_links)
        lines = (line.strip() for line in _text(path).splitlines())
        keys |= set(_keys_of((line for line in lines if line), root))
    if not keys:
        raise InputError(f"{lists[0]}: the list is empty; expected the path of an image a line")
    parents = {key.rpartition("/")[0] for key in keys}
    return Listed(frozenset(keys), os.path.commonpath(parents) if "" not in parents else "")


def _keys_of(lines: Iterable[str], root: str) -> Iterable[str]:
    for line in lines:
        path = PurePosixPath(line.replace("\\", "/"))
        if path.is_absolute() and path.is_relative_to(os.path.abspath(root)):
            path = path.relative_to(os.path.abspath(root))
        yield folders.key_of("/".join(part for part in path.parts if part not in ("..", "/")))
