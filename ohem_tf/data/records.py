"""Records: one image with its objects and proposals, as it lies in TFRecord shards.

A prepared data set is a directory with `dataset.json` and, for each split, shards named
`trainval-00000-of-00004.tfrecord`. Keys follow the TF Object Detection API; three things are added:
the ground truth in exact pixels (`image/object/bbox_pixels/*`; normalised float32 does not
round-trip), the proposals in pixels (`image/proposal/bbox/*`), and `dataset.json`.

Symbols: G objects, R proposals. Boxes are float32 [ymin, xmin, ymax, xmax] in pixels of the stored
image, half-open, 0-based.

TensorFlow is imported where it is needed, so that worker processes can import this module cheaply.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ohem_tf.data import tfrecord
from ohem_tf.errors import InputError, WriteError, first_line
from ohem_tf.files import atomic
from ohem_tf.names import check_class, check_image_id, is_text

_SIDES = ("ymin", "xmin", "ymax", "xmax")


@dataclasses.dataclass(frozen=True)
class Record:
    """One image in memory (numpy).

    Attributes:
      image_id: VOC "000012", COCO "139".
      encoded: bytes that `tf.io.decode_image` reads.
      image_format: "jpeg" or "png".
      height, width: size of the image in pixels.
      boxes: [G, 4] float32 exact pixels.
      classes: [G] int32, 1-based (0 is background).
      difficult, crowd: [G] bool.
      area: [G] float32 square pixels (COCO's own area, else the area of the box).
      proposals: [R, 4] float32 pixels.
      filename: name of the image file; `<image_id>.<format>` where empty.
    """

    image_id: str
    encoded: bytes
    image_format: str
    height: int
    width: int
    boxes: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    proposals: np.ndarray
    filename: str = ""


def to_example(record: Record, class_names: Sequence[str]) -> bytes:
    """Serializes a record as a tf.train.Example (the same bytes for the same record)."""
    import tensorflow as tf

    example = tf.train.Example()
    feature = example.features.feature

    def put_bytes(key: str, values: Iterable[str | bytes]) -> None:
        data = [value.encode() if isinstance(value, str) else value for value in values]
        feature[key].bytes_list.value.extend(data)

    def put_ints(key: str, values: Iterable[int]) -> None:
        feature[key].int64_list.value.extend(int(value) for value in values)

    def put_floats(key: str, values: np.ndarray) -> None:
        feature[key].float_list.value.extend(np.asarray(values, np.float32).tolist())

    def put_boxes(key: str, boxes: np.ndarray) -> None:
        for side, column in zip(_SIDES, np.reshape(boxes, (-1, 4)).T, strict=True):
            put_floats(f"{key}/{side}", column)

    filename = record.filename or f"{record.image_id}.{record.image_format}"
    put_bytes("image/encoded", [record.encoded])
    put_bytes("image/format", [record.image_format])
    put_bytes("image/filename", [filename])
    put_bytes("image/source_id", [record.image_id])
    put_ints("image/height", [record.height])
    put_ints("image/width", [record.width])
    size = np.array([record.height, record.width] * 2, np.float32)
    put_boxes("image/object/bbox", np.reshape(record.boxes, (-1, 4)) / size)
    put_boxes("image/object/bbox_pixels", record.boxes)
    put_ints("image/object/class/label", record.classes)
    put_bytes("image/object/class/text", [class_names[label - 1] for label in record.classes])
    put_ints("image/object/difficult", record.difficult)
    put_ints("image/object/is_crowd", record.crowd)
    put_floats("image/object/area", record.area)
    put_boxes("image/proposal/bbox", record.proposals)
    return example.SerializeToString(deterministic=True)


def parse_example(serialized: Any) -> dict[str, Any]:
    """Parses one serialized Example with TF ops (works in a graph).

    Args:
      serialized: scalar string tensor.

    Returns:
      {"encoded", "image_id" scalar strings; "height", "width" scalar int32; "boxes" [G, 4] float32
      pixels; "classes" [G] int32; "difficult", "crowd" [G] bool; "area" [G] float32; "proposals"
      [R, 4] float32 pixels}. G and R may be 0.
    """
    import tensorflow as tf

    def scalar(dtype: tf.DType) -> tf.io.FixedLenFeature:
        return tf.io.FixedLenFeature([], dtype)

    def vector(dtype: tf.DType) -> tf.io.FixedLenSequenceFeature:
        return tf.io.FixedLenSequenceFeature([], dtype, allow_missing=True)

    spec = {
        "image/encoded": scalar(tf.string),
        "image/source_id": scalar(tf.string),
        "image/height": scalar(tf.int64),
        "image/width": scalar(tf.int64),
        "image/object/class/label": vector(tf.int64),
        "image/object/difficult": vector(tf.int64),
        "image/object/is_crowd": vector(tf.int64),
        "image/object/area": vector(tf.float32),
    }
    for group in ("image/object/bbox_pixels", "image/proposal/bbox"):
        spec |= {f"{group}/{side}": vector(tf.float32) for side in _SIDES}
    found = tf.io.parse_single_example(serialized, spec)

    def boxes(group: str) -> tf.Tensor:
        return tf.stack([found[f"{group}/{side}"] for side in _SIDES], axis=-1)

    return {
        "encoded": found["image/encoded"],
        "image_id": found["image/source_id"],
        "height": tf.cast(found["image/height"], tf.int32),
        "width": tf.cast(found["image/width"], tf.int32),
        "boxes": boxes("image/object/bbox_pixels"),
        "classes": tf.cast(found["image/object/class/label"], tf.int32),
        "difficult": tf.cast(found["image/object/difficult"], tf.bool),
        "crowd": tf.cast(found["image/object/is_crowd"], tf.bool),
        "area": found["image/object/area"],
        "proposals": boxes("image/proposal/bbox"),
    }


def from_example(serialized: bytes) -> Record:
    """Reads a serialized Example back as a numpy `Record`.

    Raises:
      InputError: it is none, or lacks a feature.
    """
    from google.protobuf.message import DecodeError

    try:
        return _from_example(serialized)
    except (DecodeError, IndexError, ValueError, OverflowError) as error:
        raise InputError(f"not as `prepare` writes it ({first_line(error)})") from None


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


def _from_example(serialized: bytes) -> Record:
    import tensorflow as tf

    feature = tf.train.Example.FromString(serialized).features.feature

    def text(key: str) -> str:
        return feature[key].bytes_list.value[0].decode()

    def ints(key: str, dtype: type) -> np.ndarray:
        return np.array(feature[key].int64_list.value, dtype)

    def floats(key: str) -> np.ndarray:
        return np.array(feature[key].float_list.value, np.float32)

    def boxes(group: str) -> np.ndarray:
        return np.stack([floats(f"{group}/{side}") for side in _SIDES], axis=-1)

    return Record(
        image_id=text("image/source_id"),
        encoded=feature["image/encoded"].bytes_list.value[0],
        image_format=text("image/format"),
        height=int(feature["image/height"].int64_list.value[0]),
        width=int(feature["image/width"].int64_list.value[0]),
        boxes=boxes("image/object/bbox_pixels"),
        classes=ints("image/object/class/label", np.int32),
        difficult=ints("image/object/difficult", np.bool_),
        crowd=ints("image/object/is_crowd", np.bool_),
        area=floats("image/object/area"),
        proposals=boxes("image/proposal/bbox"),
        filename=text("image/filename"),
    )


def shard_name(split: str, index: int, count: int) -> str:
    """`trainval-00000-of-00004.tfrecord`."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def write_shard(path: str | os.PathLike[str], examples: Iterable[bytes]) -> None:
    """Writes serialized Examples as one TFRecord file, atomically.

    Raises:
      WriteError: the disk is full, say.
    """
    import tensorflow as tf

    try:
        with atomic(path) as temporary, tf.io.TFRecordWriter(temporary) as writer:
            for example in examples:
                writer.write(example)
    except tf.errors.OpError as error:
        raise WriteError(path, first_line(error)) from error


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
