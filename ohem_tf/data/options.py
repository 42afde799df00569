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
from ohem_tf.data.limits import Limits
from ohem_tf.errors import InputError

SELECTIVE_SEARCH, NONE = "selective_search", "none"


@dataclasses.dataclass(frozen=True)
class Options:
    """What to prepare. Fields are the flags of these names; `splits` is --split."""

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

    def __post_init__(self) -> None:
        for name, allowed in (
            ("format", ("voc", "coco")),
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
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise InputError(f"--split={','.join(self.splits)}: expected each split once")
        for split in self.splits:
            if not re.fullmatch(r"[\w.-]+", split):
                raise InputError(f"--split: {split!r} is no name of a split; expected 'train', say")
        for name in ("annotations", "images"):
            value = getattr(self, name)
            if value is not None and self.format == "voc":
                raise InputError(f"--{name}: is for --format=coco; VOC folders have a fixed layout")
            if value is not None and len(self.splits) > 1 and "{split}" not in value:
                raise InputError(f"--{name}={value}: expected {{split}} in it, with several splits")
            if value is None and self.root is None:
                raise InputError("--root: expected the folder that holds the data")
        if self.beam_options and self.runner is None:
            raise InputError(f"--beam_options={self.beam_options}: for a --runner; none is given")
        if self.classes is not None:
            names.check_classes(self.classes, "classes")


def list_split(options: Options, name: str, limits: Limits) -> splits.Split:
    """Reads what a split lists, but no image."""
    how = (name, options.on_bad_record, not options.no_annotations)
    if options.format == "voc":
        assert options.root is not None  # Options has checked it
        return splits.list_voc(options.root, *how)
    kind = "image_info" if options.no_annotations else "instances"
    annotations, images = (
        own.replace("{split}", name)
        if own
        else str(names.below(options.root or "", place, f"--split={name}", limits.follow_links))
        for own, place in (
            (options.annotations, f"annotations/{kind}_{name}.json"),
            (options.images, name),
        )
    )
    return splits.list_coco(annotations, images, *how, limits)


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
