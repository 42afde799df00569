"""What to prepare: the fields behind the flags of `ohem_tf.prepare`, and their checks.

`ohem_tf.check` reads raw data with the same flags.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

from ohem_tf import names
from ohem_tf.data import proposals, splits
from ohem_tf.errors import InputError

SELECTIVE_SEARCH, NONE = "selective_search", "none"
AUTO = "auto"
# One file annotates a whole split, or all of them; formats/whole.py and coco.py.
_WHOLE = ("coco", "cvat", "label_studio", "open_images")
FORMATS = (AUTO, "voc", "yolo", "labelme", *_WHOLE)
MADE = ("train", "val")  # what --val_fraction makes where --split names nothing


@dataclasses.dataclass(frozen=True)
class Options:
    """What to prepare. Fields are the flags of these names; `splits` is --split.

    Attributes:
      listed: the splits that are in the data; with `val_fraction` all but the second, which is made
        of the first.
    """

    format: str
    root: str | None
    splits: tuple[str, ...]
    output: str
    proposals: str = SELECTIVE_SEARCH
    classes: tuple[str, ...] | None = None
    annotations: str | None = None
    images: str | None = None
    no_annotations: bool = False
    on_bad_record: str = "error"
    num_workers: int = 0
    runner: str | None = None
    beam_options: str = ""
    shard_size: int = 256
    selective_search_mode: str = "fast"
    min_proposal_size: float = 2.0
    limit_factor: float = 1.0
    follow_links: bool = False
    overwrite: bool = False
    val_fraction: float = 0.0
    split_seed: int = 0

    @property
    def listed(self) -> tuple[str, ...]:
        return self.splits[:1] + self.splits[2:] if self.val_fraction else self.splits

    def __post_init__(self) -> None:
        for name, allowed in (
            ("format", FORMATS),
            ("on_bad_record", splits.ON_BAD_RECORD),
            ("selective_search_mode", proposals.MODES),
        ):
            if getattr(self, name) not in allowed:
                have = getattr(self, name)
                raise InputError(f"--{name}={have}: expected one of {', '.join(allowed)}")
        least_of = {"num_workers": 0, "shard_size": 1, "min_proposal_size": 0, "limit_factor": 1}
        for name, least in least_of.items():
            if not getattr(self, name) >= least:
                raise InputError(f"--{name}={getattr(self, name)}: expected at least {least}")
        if not self.splits:
            raise InputError(
                "--split is missing: expected the splits of the data, the training split first (or "
                "--val_fraction=0.2, which makes train and val of it)"
            )
        if len(set(self.splits)) < len(self.splits):
            raise InputError(f"--split={','.join(self.splits)}: expected each split once")
        for split in self.splits:
            if not re.fullmatch(r"[\w.-]+", split):
                raise InputError(f"--split: {split!r} is no name of a split; expected 'train', say")
        self._check_made()
        self._check_places()
        if self.beam_options and self.runner is None:
            raise InputError(f"--beam_options={self.beam_options}: for a --runner; none is given")
        if self.classes is not None:
            names.check_classes(self.classes, "classes")

    def _check_made(self) -> None:
        """What --val_fraction and --split_seed ask for."""
        if not 0 <= self.val_fraction < 1:
            raise InputError(f"--val_fraction={self.val_fraction}: expected from 0 to below 1")
        if self.split_seed and not self.val_fraction:
            raise InputError(
                f"--split_seed={self.split_seed}: has no effect without --val_fraction"
            )
        if self.split_seed < 0:
            raise InputError(f"--split_seed={self.split_seed}: expected at least 0")
        if self.val_fraction and len(self.splits) < 2:
            raise InputError(
                f"--val_fraction={self.val_fraction}: --split={self.splits[0]} names one split; "
                "expected two: the one that is there, and the one to make of it"
            )
        if self.val_fraction and self.no_annotations:
            raise InputError("--val_fraction: has no effect with --no_annotations; leave one out")

    def _check_places(self) -> None:
        """Where the data lies."""
        if self.no_annotations and self.format not in ("voc", "coco"):
            raise InputError(
                f"--no_annotations: is for --format=voc and coco, whose servers keep the ground "
                f"truth; the format here is {self.format}"
            )
        for name in ("annotations", "images"):
            value = getattr(self, name)
            if value is not None and self.format not in (AUTO, *_WHOLE):
                raise InputError(
                    f"--{name}: is for --format={', '.join(_WHOLE)}; in a folder of {self.format} "
                    "each image has a file of its own"
                )
            shared = self.format == "cvat" or (name == "images" and self.format != "coco")
            if value and len(self.listed) > 1 and "{split}" not in value and not shared:
                raise InputError(f"--{name}={value}: expected {{split}} in it, with several splits")
            if value is None and self.root is None:
                raise InputError("--root: expected the folder that holds the data")
        if self.format in (AUTO, "open_images") and self.root is None:
            raise InputError("--root: expected the folder that holds the data")


def read_classes(value: str | None) -> tuple[str, ...] | None:
    """The names that --classes gives: with commas between, or in a text file, one a line.

    Raises:
      InputError: no such file, or one that is not UTF-8.
    """
    if value is None:
        return None
    if value.endswith(".txt") and not Path(value).is_file():
        raise InputError(f"--classes={value}: not found; expected names, or a text file of them")
    if Path(value).is_file():
        try:
            lines = Path(value).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"--classes={value}: cannot be read ({error}); expected UTF-8 text, a name a line"
            ) from None
        return tuple(line.strip() for line in lines if line.strip())
    return tuple(name.strip() for name in value.split(","))


def usable_cores() -> int:
    """The cores that this process may use, where the system tells: the default of --num_workers."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
