"""Reads a prepared data set: dataset.json, and any record of a split, checked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ohem_tf.data import tfrecord
from ohem_tf.data.records import Record, from_example, parse_example
from ohem_tf.errors import InputError, first_line
from ohem_tf.names import check_class, check_image_id, is_text


def read_dataset_info(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads DIR/dataset.json.

    Raises:
      InputError: the file is absent, is not json, or has a field that is missing or of another
        kind.
    """
    path = Path(directory) / "dataset.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"{path}: not found; expected a directory written by `python -m ohem_tf.prepare`"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid json ({error}); run prepare again") from None
    if not isinstance(info, dict) or not {"classes", "splits"} <= info.keys():
        raise InputError(f'{path}: lacks "classes" or "splits"; run prepare again')
    _check_info(path, info)
    return info


def _check_info(path: Path, info: dict[str, Any]) -> None:
    """Raises InputError unless the fields of dataset.json that are read here are of their kind."""

    def need(good: bool, field: str, expected: str) -> None:
        if not good:
            raise InputError(f"{path}: {field}: expected {expected}; run prepare again")

    need(isinstance(info["classes"], list) and info["classes"] != [], "classes", "names")
    for name in info["classes"]:
        check_class(name, f"{path}: classes")
    need(len(set(info["classes"])) == len(info["classes"]), "classes", "each name once")
    ids = info.get("category_ids")
    numbers = isinstance(ids, list) and all(type(number) is int for number in ids)
    fit = ids is None or (numbers and len(ids) == len(info["classes"]))
    need(fit, "category_ids", "null, or a number for each class")
    need(isinstance(info["splits"], dict), "splits", "a map of splits")
    for name, split in info["splits"].items():
        field = f"splits.{name}"
        need(is_text(name), "splits", "names")
        need(isinstance(split, dict), field, "a map")
        need(isinstance(split.get("shards"), list), f"{field}.shards", "a list")
        need(isinstance(split.get("image_ids", ""), str), f"{field}.image_ids", "text")
        need(type(split.get("annotated", True)) is bool, f"{field}.annotated", "true or false")
        need(isinstance(split.get("proposals", {}), dict), f"{field}.proposals", "a map")
        for shard in split["shards"]:
            good = isinstance(shard, dict) and type(shard.get("records")) is int
            need(good, f"{field}.shards", 'maps with "file" and "records"')
            file = shard.get("file")
            # Its own name alone: a path would lead out of the folder.
            need(is_text(file) and os.path.basename(file) == file, f"{field}.shards", "file names")


class RecordReader:
    """Random access to the records of one split: example i is the same bytes whenever asked for.

    Reads are safe from any number of threads: each opens the shard, reads at its offset and closes
    it again, so that a data set of many shards does not use up the open files of a process.

    Attributes:
      classes: class names; label k is `classes[k - 1]`.
      category_ids: original ids of the classes (COCO), else None.
      split: name of the split.
      annotated: False if it was prepared without ground truth.
      has_proposals: False if it was prepared without proposals.
    """

    def __init__(self, directory: str | os.PathLike[str], split: str) -> None:
        """Opens a split.

        Raises:
          InputError: no dataset.json, unknown split, a shard that is missing, cut off or holds
            another number of records than dataset.json says, or a split without images.
        """
        directory = Path(directory)
        dataset = read_dataset_info(directory)
        if split not in dataset["splits"]:
            have = ", ".join(sorted(dataset["splits"])) or "none"
            raise InputError(f"{directory}: no split {split!r}; splits prepared there: {have}")
        self.classes: tuple[str, ...] = tuple(dataset["classes"])
        ids = dataset.get("category_ids")
        self.category_ids: tuple[int, ...] | None = None if ids is None else tuple(ids)
        info = dataset["splits"][split]
        self.split = split
        self.annotated: bool = info.get("annotated", True)
        self.has_proposals: bool = info.get("proposals", {}).get("method") != "none"
        self._directory = directory
        self._image_ids: str = info.get("image_ids", "")
        self._frames: list[tfrecord.Frame] = []
        for shard in info["shards"]:
            path = directory / shard["file"]
            if not os.path.isfile(path):
                raise InputError(f"{path}: shard is missing; run prepare again")
            frames, found = tfrecord.scan(path)
            if changed := [key for key in found if shard.get(key, found[key]) != found[key]]:
                raise InputError(
                    f"{path}: has changed since prepare ({changed[0]} {found[changed[0]]}, "
                    f"{shard[changed[0]]} in dataset.json); run prepare again"
                )
            if len(frames) != shard["records"]:
                raise InputError(
                    f"{path}: holds {len(frames)} records, dataset.json says {shard['records']}; "
                    "run prepare again"
                )
            self._frames += frames
        if not self._frames:
            raise InputError(f"{directory}: split {split!r} holds no image")

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of the images, in the order of the records, from dataset.json.

        Raises:
          InputError: an older version of `prepare` wrote it, without them.
        """
        ids = tuple(self._image_ids.split())
        if len(ids) != len(self):
            raise InputError(
                f"{self._directory}/dataset.json: split {self.split!r} lists {len(ids)} image ids "
                f"for {len(self)} records; run prepare again with the same flags (it keeps the "
                "shards)"
            )
        return ids

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> bytes:
        """Serialized Example number `index`.

        Raises:
          IndexError: out of range.
          InputError: the record is damaged; names shard and record.
        """
        return tfrecord.read(self._frames[index])

    def record(self, index: int) -> Record:
        """Example number `index`.

        Raises:
          IndexError, InputError: as `[index]`; InputError too if it is no record of this data set.
        """
        try:
            record = from_example(self[index])
            _check(record, len(self.classes))
        except InputError as error:
            frame = self._frames[index]
            if str(error).startswith(frame.path):
                raise
            raise InputError(f"{frame.path}: record {frame.number}: {error}") from None
        return record

    def check(self, index: int) -> None:
        """Raises InputError unless record `index` can be read and its image decoded."""
        import tensorflow as tf

        from ohem_tf import images

        record = self.record(index)
        frame = self._frames[index]
        where = f"{frame.path}: record {frame.number}: image {record.image_id}"
        try:
            parse_example(tf.constant(self[index]))  # stricter than `from_example`
        except (tf.errors.OpError, UnicodeDecodeError) as error:  # of the message, if it is binary
            raise InputError(f"{where} cannot be parsed ({first_line(error)})") from None
        try:
            shape = tuple(images.decode(record.encoded).shape[:2])
        except tf.errors.OpError as error:
            raise InputError(f"{where} cannot be decoded ({first_line(error)})") from None
        if shape != (record.height, record.width):
            raise InputError(
                f"{where} has height and width {shape}; expected {(record.height, record.width)}"
            )


def _check(record: Record, num_classes: int) -> None:
    """Raises InputError unless the parts of a record fit each other."""
    count = len(record.boxes)
    for name in ("classes", "difficult", "crowd", "area"):
        if len(getattr(record, name)) != count:
            raise InputError(f"{name}: {len(getattr(record, name))} values for {count} boxes")
    if record.height < 1 or record.width < 1:
        raise InputError(f"a size of {record.width} x {record.height}")
    for name in ("boxes", "proposals"):
        boxes = getattr(record, name)
        if not np.all(np.isfinite(boxes)) or np.any(boxes[:, 2:] < boxes[:, :2]):
            raise InputError(f"{name} that are no boxes [ymin, xmin, ymax, xmax]")
    if not np.all((record.classes >= 1) & (record.classes <= num_classes)):
        raise InputError(f"its classes are not 1 to {num_classes}")
    check_image_id(record.image_id, "image/source_id")
