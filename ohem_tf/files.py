"""Files and folders: what every part of the project writes, it writes through these."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ohem_tf.errors import InputError


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes json, indented, atomically."""
    temporary = Path(f"{os.fspath(path)}.tmp")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def make_folder(path: str, flag: str) -> None:
    """Creates the folder that `--flag` names; InputError if it cannot be one."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise InputError(f"--{flag}: {path} cannot be a folder: {error.strerror}") from error
