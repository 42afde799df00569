"""Opens the splits that a config names: one, a part of one, or several data sets' as one."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ohem_tf.data.reader import RecordReader, read_dataset_info
from ohem_tf.errors import InputError

_PART = re.compile(r"([^/[\]]+/)?[^/[\]]+(\[(\d+%?)?:(\d+%?)?\])?")


class SlicedReader(RecordReader):
    """The records `first` to `last` (exclusive) of a split; attributes as those of the split."""

    def __init__(self, whole: RecordReader, first: int, last: int) -> None:
        self.classes = whole.classes
        self.category_ids = whole.category_ids
        self.split = whole.split
        self.annotated = whole.annotated
        self.has_proposals = whole.has_proposals
        self._whole = whole
        self._range = slice(first, last)
        self._frames = whole._frames[self._range]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of the images, in the order of the records; see `RecordReader.image_ids`."""
        return self._whole.image_ids[self._range]


class JoinedReader(RecordReader):
    """Several splits as one, in the order given; attributes as those of `RecordReader`.

    `category_ids` is None if they are not the same in all parts; `split` is the parts' names with +
    between them, each once; `annotated` and `has_proposals` are whether all parts are and have.
    """

    def __init__(self, parts: Sequence[RecordReader]) -> None:
        """Joins splits that have the same classes."""
        self.classes = parts[0].classes
        same_ids = len({part.category_ids for part in parts}) == 1
        self.category_ids = parts[0].category_ids if same_ids else None
        self.split = "+".join(dict.fromkeys(part.split for part in parts))
        self.annotated = all(part.annotated for part in parts)
        self.has_proposals = all(part.has_proposals for part in parts)
        self._parts = tuple(parts)
        self._frames = [frame for part in parts for frame in part._frames]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of the images, in the order of the records; see `RecordReader.image_ids`."""
        return tuple(itertools.chain.from_iterable(part.image_ids for part in self._parts))


def open_split(
    directory: str | os.PathLike[str], expression: str, field: str, annotated: bool = True
) -> RecordReader:
    """Opens what a config calls a split.

    Args:
      directory: config.data.dir: a prepared data set, or a folder that holds some.
      expression: SPLIT of `directory` itself, or NAME/SPLIT of the data set in its folder NAME;
        SPLIT[FROM:TO] is a part of it, in records or percent, as in TFDS: "train[:90%]"; several
        with + between them are read as one: "voc07/trainval+voc12/trainval".
      field: where the expression stands ("config.data.train_split"), for messages.
      annotated: refuse splits that were prepared without ground truth.

    Returns:
      The records of all parts, in the order given.

    Raises:
      InputError: no directory, a part that is empty, stands twice or does not exist, parts of
        other classes, an image id in two parts, a split without annotations; or as `RecordReader`.
    """
    if not directory:
        raise InputError(
            "config.data.dir is empty; give the output of ohem_tf.prepare: --config.data.dir=DIR"
        )
    where = f"{field} is {expression!r}"
    names = [name.strip() for name in expression.split("+")]
    for name in names:
        if not _PART.fullmatch(name):
            raise InputError(
                f"{where}: {name!r} names no split; expected SPLIT or NAME/SPLIT, or a part as in "
                "SPLIT[:90%], with + between several"
            )
        if names.count(name) > 1:
            raise InputError(f"{where}: {name} stands there twice; expected each split once")
    parts = {name: _open(Path(directory), name, where) for name in names}
    first = names[0]
    for name, part in parts.items():
        if annotated and not part.annotated:
            raise InputError(
                f"{where}: {name} was prepared without annotations, so there is nothing to train "
                "on or to compare with; expected a split with annotations (python -m "
                f"ohem_tf.evaluate --split={name} --write_results=DIR writes detections in it)"
            )
        check_classes(f"{where}: {name}", part.classes, first, parts[first].classes)
    if len(parts) == 1:
        return parts[first]
    owner: dict[str, str] = {}
    for name, part in parts.items():
        for image_id in part.image_ids:
            if owner.setdefault(image_id, name) != name:
                raise InputError(
                    f"{where}: image {image_id} stands in {owner[image_id]} and in {name}; "
                    "expected each image once"
                )
    return JoinedReader(list(parts.values()))


def check_classes(
    where: str, classes: Sequence[str], other_place: str, other_classes: Sequence[str]
) -> None:
    """Raises InputError unless the classes of two splits are the same, in the same order.

    The message names the places of both, and the first class that differs.
    """
    pairs = itertools.zip_longest(classes, other_classes)
    for number, (name, other) in enumerate(pairs, 1):
        if name != other:
            here, there = ("absent" if x is None else repr(x) for x in (name, other))
            raise InputError(
                f"{where}: class {number} is {here} there, but {there} in {other_place}; expected "
                "the same classes in the same order (prepare --classes sets them)"
            )


def split_name(directory: str, expression: str) -> str:
    """`expression` (see `open_split`) with the data set's name in every part: "voc07/test".

    The data set of a plain SPLIT is named as `directory`, config.data.dir.
    """
    folder = os.path.basename(os.path.abspath(directory))
    parts = [part.strip() for part in expression.split("+")]
    return "+".join(part if "/" in part else f"{folder}/{part}" for part in parts)


def split_expression(directory: str, name: str) -> str:
    """The inverse of `split_name`: what `open_split` takes for the split that is called `name`.

    The data set may have moved: if `directory` is one, its name need not be that in `name`.
    """
    parts = name.split("+")
    if _is_dataset(Path(directory)):
        parts = [part if _is_inside(directory, part) else part.split("/")[-1] for part in parts]
    return "+".join(parts)


def _is_inside(directory: str, part: str) -> bool:
    return "/" in part and _is_dataset(Path(directory, part.split("/")[0]))


def _open(directory: Path, part: str, where: str) -> RecordReader:
    path, _, ends = part.rstrip("]").partition("[")
    records = _open_whole(directory, path, where)
    if part == path:
        return records
    count = len(records)
    start, _, stop = ends.partition(":")
    first, last = (
        round(int(end[:-1]) * count / 100) if end.endswith("%") else int(end)
        for end in (start or "0%", stop or "100%")
    )
    if not first < last <= count:
        raise InputError(
            f"{where}: {part} is from image {first} to {last} of {count}; expected one or more"
        )
    return SlicedReader(records, first, last)


def _open_whole(directory: Path, part: str, where: str) -> RecordReader:
    name, _, split = part.rpartition("/")
    folder = directory / name
    if _is_dataset(folder) and split in read_dataset_info(folder)["splits"]:
        return RecordReader(folder, split)
    names = [""] if _is_dataset(directory) else []
    if directory.is_dir():
        names += [f"{path.name}/" for path in sorted(directory.iterdir()) if _is_dataset(path)]
    if not names:
        raise InputError(
            f"config.data.dir is {str(directory)!r}: there is no dataset.json in it, nor in a "
            "folder of it; expected what `python -m ohem_tf.prepare` wrote"
        )
    offered = [n + split for n in names for split in sorted(_splits(directory / n))]
    raise InputError(
        f"{where}: there is no split {part} in {directory}; splits prepared there: "
        f"{', '.join(offered) or 'none'}"
    )


def _is_dataset(folder: Path) -> bool:
    return (folder / "dataset.json").is_file()


def _splits(folder: Path) -> list[str]:
    """Splits of a data set, none if its dataset.json is damaged: another one was asked for."""
    try:
        return list(read_dataset_info(folder)["splits"])
    except InputError:
        return []
