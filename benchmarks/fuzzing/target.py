"""A target of benchmarks.fuzz: a reader of the package, and another way to read the same bytes.

A target damages a file of its own making, reads it as the package does, and compares the answer
with what the damaged file really says, by an independent reader. TensorFlow is imported by those
that need it only.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ohem_tf.data import checks
from ohem_tf.limits import Limits

SIZE = (30, 40)  # height, width
LIMITS = Limits(seconds=10, memory_gb=4)
CLASSES = ("cat", "dog")


@dataclasses.dataclass
class Target:
    """A reader.

    Attributes:
      file: the damaged file, below the folder of the target.
      seeds: undamaged contents.
      read: what the package makes of the file in a folder; InputError refuses it.
      right: whether that is what `content` says, by another reader.
      structure: damage beyond that of bytes, if there is any.
    """

    file: str
    seeds: list[bytes]
    read: Callable[[Path], Any]
    right: Callable[[bytes, Any], bool]
    structure: Callable[[np.random.Generator, bytes], bytes] | None = None


def encoded(kind: str, mode: str = "RGB") -> bytes:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 255, (3, 4, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def entry(image_id: str = "a") -> checks.Checked:
    return checks.Checked(image_id, f"x/{image_id}.jpg", "a.xml", *SIZE, (), (), 0, "")
