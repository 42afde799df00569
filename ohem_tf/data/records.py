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
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ohem_tf.errors import InputError, WriteError, first_line
from ohem_tf.files import atomic

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
