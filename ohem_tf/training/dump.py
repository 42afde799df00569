"""What a training step that failed was computed from, in one file: see `ohem_tf.debug_step`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ohem_tf.errors import InputError
from ohem_tf.files import atomic

_ABOUT, _BATCH, _WEIGHTS = "about", "batch/", "weights/"


class Dump(NamedTuple):
    """A training step before it was done.

    Attributes:
      step: updates before it.
      config: of the run, as nested dicts.
      classes: names.
      image_ids: of the N images.
      batch: N images, see `data.pipeline.TrainingStream`.
      weights: of the model, in the order of `model.weights`.
    """

    step: int
    config: Mapping[str, Any]
    classes: Sequence[str]
    image_ids: Sequence[str]
    batch: Mapping[str, np.ndarray]
    weights: Sequence[np.ndarray]


def write(dump: Dump, path: str) -> None:
    """Writes `path`, an .npz file, atomically: as large as the weights.

    Raises:
      WriteError: it cannot be written.
    """
    about = {name: getattr(dump, name) for name in ("step", "config", "classes", "image_ids")}
    arrays = {f"{_BATCH}{name}": value for name, value in dump.batch.items()}
    arrays |= {f"{_WEIGHTS}{i:05d}": value for i, value in enumerate(dump.weights)}
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **{_ABOUT: json.dumps(about)}, **arrays)


def read(path: str) -> Dump:
    """Reads what `write` wrote.

    Raises:
      InputError: there is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file[_ABOUT]))
            batch, weights = (
                {x.removeprefix(kind): file[x] for x in sorted(file) if x.startswith(kind)}
                for kind in (_BATCH, _WEIGHTS)
            )
        return Dump(**about, batch=batch, weights=list(weights.values()))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected the file that a training with a loss that "
            "is not finite left in its workdir"
        ) from error
