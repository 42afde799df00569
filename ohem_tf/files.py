"""Files and folders: what every part of the project writes, it writes through these."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ohem_tf.errors import InputError


def temporary_name(name: str) -> str:
    """What `atomic` calls the file NAME while it writes it, in the same folder.

    The suffix stays, since some writers choose the format by it. No split of a data set has a + in
    its name, so no shard is taken for an unfinished one.
    """
    return f"new+{name}"


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[str]:
    """A context that writes a file atomically: others see the old file or the whole new one.

    Yields a temporary path to write to (see `temporary_name`). At the end it becomes `path`; after
    an error it is removed, and `path` is as it was. A process that is killed leaves it, and the
    next one overwrites it.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, temporary_name(name))
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes json, indented, atomically."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


def make_folder(path: str, flag: str) -> None:
    """Creates the folder that `--flag` names; InputError if it cannot be one."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise InputError(f"--{flag}: {path} cannot be a folder: {error.strerror}") from error
