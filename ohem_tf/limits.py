"""How much of raw data `prepare` takes without being told: limits against absurd files."""

from __future__ import annotations

import dataclasses
import os
import resource
from typing import Any

from PIL import Image

from ohem_tf.errors import InputError

FLAG = "limit_factor"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one file, or one image, may ask for.

    The defaults leave room above the data sets of the field: the largest json of COCO has 0.5 GB
    and that of LVIS 1.1 GB, a crowded aerial image a few thousand objects; selective search finds
    some 10,000 boxes at most.

    Attributes:
      xml_mb, json_mb: size of an annotation file, in megabytes.
      pixels: of an image.
      objects: annotated in an image.
      proposals: of an image.
      seconds: for reading a file in a process of its own.
      memory_gb: that reading may take there, gigabytes.
      follow_links: images and annotations may be links that lead out of the data set's folder.
    """

    xml_mb: float = 16
    json_mb: float = 2000
    pixels: float = 100e6
    objects: float = 10_000
    proposals: float = 100_000
    seconds: float = 300
    memory_gb: float = 8
    follow_links: bool = False

    def times(self, factor: float) -> Limits:
        """The same limits, each `factor` times as high."""
        numbers = {
            field.name: factor * getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "follow_links"
        }
        return dataclasses.replace(self, **numbers)

    def check(self, name: str, value: float, where: str, what: str) -> None:
        """Raises InputError if `value`, in the unit of the limit `name`, is beyond it."""
        most = getattr(self, name)
        if value > most:
            raise InputError(
                f"{where}: {value:.12g} {what}; expected at most {most:.12g} "
                f"(--{FLAG}={value / most + 0.1:.1f} raises all limits so far)"
            )

    def check_size(self, name: str, path: str | os.PathLike[str]) -> None:
        """Raises InputError if a file is larger than the limit `name`, in megabytes.

        Raises:
          OSError: there is no such file.
        """
        self.check(name, os.path.getsize(path) / 1e6, os.fspath(path), "megabytes")

    def apply_here(self) -> None:
        """Limits this process: its memory, and the images that Pillow opens.

        For a process that only reads files; `memory_gb` come on top of what it has now.
        """
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = now + int(self.memory_gb * 1e9)
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        Image.MAX_IMAGE_PIXELS = None  # Pillow has a limit of its own, below one that was raised

    @classmethod
    def of_flags(cls, options: Any) -> Limits:
        """Those of `options.limit_factor` and `options.follow_links`."""
        return cls(follow_links=options.follow_links).times(options.limit_factor)


DEFAULT = Limits()
