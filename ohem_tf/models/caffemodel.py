"""Reads .caffemodel files without Caffe: the layers that hold weights, and their arrays.

Such a file is one protobuf message, NetParameter of caffe.proto, in one of two layouts; of it this
reads, by field number:

    NetParameter    layer 100 (LayerParameter: name 1, blobs 7), since 2014
                    layers 2 (V1LayerParameter: name 4, blobs 6), before
    BlobProto       shape 7 (BlobShape: dim 1), else num 1, channels 2, height 3, width 4;
                    data 5 (float32) or double_data 8

and passes over all else. The file is mapped, not read: half a gigabyte costs no memory of ours.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from ohem_tf.errors import InputError

_LAYERS = {100: (1, 7), 2: (4, 6)}  # field of NetParameter -> fields of a layer's name and blobs
_DATA = {5: "<f4", 8: "<f8"}  # fields of BlobProto
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # protobuf's wire types
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}

Message = memoryview


def read(path: str | os.PathLike[str]) -> dict[str, list[np.ndarray]]:
    """The layers with weights, in the order of the file.

    Args:
      path: a .caffemodel of either layout; not Caffe's HDF5 form.

    Returns:
      {name: blobs} with each blob in its own shape, read-only. Convolutions have [outputs, inputs,
      height, width], fully connected layers [outputs, inputs], biases [outputs]; the older layout
      puts ones in front until there are 4 dimensions.

    Raises:
      InputError: there is no such file, it is cut off, or it is something else.
    """
    try:
        with open(path, "rb") as file:
            message = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        layers = {}
        for number, kind, value in _fields(message):
            if number in _LAYERS and kind == _LENGTH:
                name, blobs = _layer(value, *_LAYERS[number])
                if blobs:
                    layers[name] = blobs
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as a .caffemodel ({error}); expected a whole file that Caffe "
            "wrote (not its HDF5 form)"
        ) from error
    if not layers:
        raise InputError(
            f"{path}: no layer with weights found; expected a .caffemodel of 2014 or later "
            "(Caffe's upgrade_net_proto_binary renews older ones)"
        )
    return layers


def _layer(message: Message, name_field: int, blobs_field: int) -> tuple[str, list[np.ndarray]]:
    name = ""
    blobs: list[np.ndarray] = []
    for number, kind, value in _fields(message):
        if number == name_field and kind == _LENGTH:
            name = bytes(value).decode("utf-8")
        elif number == blobs_field and kind == _LENGTH:
            try:
                blobs.append(_blob(value))
            except ValueError as error:
                raise ValueError(f"layer {name!r}, blob {len(blobs)}: {error}") from None
    return name, blobs


def _blob(message: Message) -> np.ndarray:
    legacy: dict[int, int] = {}
    shape: list[int] | None = None
    parts = [np.zeros(0, np.float32)]
    for number, kind, value in _fields(message):
        if number in (1, 2, 3, 4) and kind == _VARINT:
            legacy[number] = value
        elif number == 7 and kind == _LENGTH:
            shape = _dimensions(value)
        elif number in _DATA and kind != _VARINT:  # packed or not: the same bytes
            parts.append(np.frombuffer(value, _DATA[number]))
    if shape is None:
        shape = [legacy.get(number, 0) for number in (1, 2, 3, 4)]
    values = parts[1] if len(parts) == 2 else np.concatenate(parts)
    if values.size != np.prod(shape, dtype=object):  # objects: no overflow
        raise ValueError(f"{values.size} values for the shape {shape}")
    return values.reshape(shape)


def _dimensions(message: Message) -> list[int]:
    dimensions: list[int] = []
    for number, kind, value in _fields(message):
        if number == 1 and kind == _VARINT:
            dimensions.append(value)
        elif number == 1 and kind == _LENGTH:  # packed
            position = 0
            while position < len(value):
                dimension, position = _varint(value, position)
                dimensions.append(dimension)
    return dimensions


def _fields(message: Message) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value of each field: an int for a varint, else the bytes.

    Fixed-size fields of one number in a row, as an array is written that is not packed, come as
    one, their bytes joined.

    Raises:
      ValueError: this is no protobuf message, or it is cut off.
    """
    position = 0
    value: int | Message
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
        elif kind == _LENGTH:
            size, position = _varint(message, position)
            value, position = message[position : position + size], position + size
        elif kind in _FIXED:
            width = position - start + _FIXED[kind]
            count = _repeats(message[start:], position - start, width)
            rows = np.frombuffer(message, np.uint8, count * width, start).reshape(count, width)
            value, position = memoryview(rows[:, position - start :].tobytes()), start + rows.size
        else:
            raise ValueError(f"wire type {kind} at byte {start} of a message")
        if number == 0:
            raise ValueError(f"field number 0 at byte {start} of a message")
        if position > len(message):
            raise ValueError("it is cut off")
        yield number, kind, value


def _repeats(message: Message, key_width: int, width: int) -> int:
    """How many records of `width` bytes with the first one's key `message` begins with."""
    key = bytes(message[:key_width])
    if len(message) < width:
        raise ValueError("it is cut off")
    if bytes(message[width : width + key_width]) != key:
        return 1
    whole = len(message) // width
    keys = np.frombuffer(message, np.uint8, whole * width).reshape(whole, width)[:, :key_width]
    differs = np.any(keys != np.frombuffer(key, np.uint8), axis=1)
    return int(np.argmax(differs)) or whole


def _varint(message: Message, position: int) -> tuple[int, int]:
    """A variable-length integer, and the position behind it."""
    value = 0
    for i in range(10):
        if position + i >= len(message):
            raise ValueError("it is cut off")
        byte = message[position + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, position + i + 1
    raise ValueError(f"an endless number at byte {position} of a message")
