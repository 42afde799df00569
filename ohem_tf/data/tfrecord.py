"""TFRecord files: where their records lie, and the checksums that each record carries.

A record is its length (u64), the masked CRC-32C of that (u32), its data, and the masked CRC-32C of
those (u32); numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Any, NamedTuple

import google_crc32c

from ohem_tf.errors import InputError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


class Frame(NamedTuple):
    """One record: its file, its number there, the offset of its data and their length in bytes."""

    path: str
    number: int
    start: int
    length: int


def masked_crc(data: bytes) -> int:
    """The checksum as TFRecord files hold it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def scan(path: str | os.PathLike[str]) -> tuple[list[Frame], dict[str, Any]]:
    """Finds the records of a file; their data are not read.

    Returns:
      The records, and what tells the file from others: {"bytes": size, "checksum": of the headers
      and checksums of all records}.

    Raises:
      InputError: the file ends within a record, or the length of one is damaged.
    """
    frames: list[Frame] = []
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        position = 0
        while position < size:
            header = os.pread(file.fileno(), _HEADER.size, position)
            whole = len(header) == _HEADER.size
            length, crc = _HEADER.unpack(header) if whole else (0, 0)
            if whole and crc != masked_crc(header[:8]):
                raise InputError(
                    f"{path}: the length of record {len(frames)} is damaged, so that those behind "
                    "it cannot be found; run prepare again"
                )
            start = position + _HEADER.size
            position = start + length + _FOOTER.size
            if not whole or position > size:
                raise InputError(f"{path}: ends within record {len(frames)}; run prepare again")
            frames.append(Frame(os.fspath(path), len(frames), start, length))
            digest.update(header)
            digest.update(os.pread(file.fileno(), _FOOTER.size, start + length))
    return frames, {"bytes": size, "checksum": digest.hexdigest()[:16]}


def read(frame: Frame) -> bytes:
    """The data of a record.

    Raises:
      InputError: they are not those that were written.
    """
    descriptor = os.open(frame.path, os.O_RDONLY)
    try:
        data = os.pread(descriptor, frame.length + _FOOTER.size, frame.start)
    finally:
        os.close(descriptor)
    data, footer = data[: frame.length], data[frame.length :]
    if len(footer) < _FOOTER.size or _FOOTER.unpack(footer)[0] != masked_crc(data):
        raise InputError(
            f"{frame.path}: record {frame.number} is damaged (its checksum is another); run "
            "prepare again"
        )
    return data
