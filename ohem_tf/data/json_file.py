"""Reads json that strangers wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits


def read(path: str | os.PathLike[str], expected: str, limits: Limits = DEFAULT) -> Any:
    """What a json file holds.

    Args:
      path: the file.
      expected: what a message says that was expected there.
      limits: on its size (`json_mb`).

    Raises:
      InputError: no file, one that is too large, no UTF-8, or does not parse.
    """
    path = Path(path)
    try:
        limits.check_size("json_mb", path)
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError:
        raise InputError(f"{path}: not found; expected {expected}") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: json that does not parse ({error}); repair the file") from None
