"""Targets: proposals computed elsewhere."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzing import mutations
from benchmarks.fuzzing.target import LIMITS, SIZE, Target, entry
from ohem_tf.apart import Apart
from ohem_tf.data import proposals

_BOXES = {"a": [[0, 0, 10, 20], [5, 6, 30, 40.5], [0, 0, 1, 9]], "b": [[1, 2, 9, 9.5]]}


def _tidy(boxes: Any) -> np.ndarray:
    return proposals.tidy(np.clip(np.asarray(boxes, np.float64).reshape(-1, 4), 0, [*SIZE, *SIZE]))


def _sound(answer: Mapping[str, np.ndarray]) -> bool:
    """Whether boxes are what a record may hold."""
    return all(
        boxes.dtype == np.float32
        and boxes.ndim == 2
        and np.isfinite(boxes).all()
        and (boxes >= 0).all()
        and (boxes[:, 2:] - boxes[:, :2] >= 2).all()
        and (boxes <= [*SIZE, *SIZE]).all()
        for boxes in answer.values()
    )


def _proposals(name: str, apart: Apart | None = None) -> Callable[[Path], Mapping[str, np.ndarray]]:
    def read(folder: Path) -> Mapping[str, np.ndarray]:
        file = proposals.ProposalFile(folder / name, LIMITS, apart)
        return {key: file.get(entry(key)) for key in ("a", "b")}

    return read


def proposals_npz(folder: Path) -> Target:
    """An .npz of proposals; beside it zipfile and numpy's format."""
    seeds = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **{key: np.array(value, np.float64) for key, value in _BOXES.items()})
        seeds.append(buffer.getvalue())

    def right(content: bytes, answer: Any) -> bool:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            said = {
                key: np.lib.format.read_array(io.BytesIO(file.read(f"{key}.npy"))) for key in answer
            }
        return _sound(answer) and all(
            np.array_equal(_tidy(said[key]), boxes) for key, boxes in answer.items()
        )

    def structure(rng: np.random.Generator, data: bytes) -> bytes:
        buffer = io.BytesIO()
        keys = ("a", "b", "c", "b.npy")
        np.savez(buffer, **{keys[i]: mutations.of_array(rng) for i in range(rng.integers(1, 4))})
        return buffer.getvalue()

    return Target("p.npz", seeds, _proposals("p.npz"), right, structure)


def proposals_json(folder: Path) -> Target:
    """A json of proposals; beside it the json itself."""

    def right(content: bytes, answer: Any) -> bool:
        said = json.loads(content)
        return _sound(answer) and all(
            np.array_equal(_tidy(said[key]), boxes) for key, boxes in answer.items()
        )

    seeds = [json.dumps(_BOXES).encode()]
    return Target("p.json", seeds, _proposals("p.json"), right, mutations.of_json)


def _mat(arrays: Mapping[str, Any]) -> bytes:
    import scipy.io

    cells = {}
    for name, items in (("boxes", list(arrays.values())), ("images", list(arrays))):
        cells[name] = np.empty((1, len(items)), object)
        cells[name][0, :] = items
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, cells, do_compression=len(arrays) > 2)
    return buffer.getvalue()


def mat_v5(folder: Path) -> Target:
    """A .mat by scipy, in one process until that dies; no other reader: sound boxes are right."""
    one_based = {key: np.add(value, [1, 1, 0, 0]) for key, value in _BOXES.items()}
    seeds = [_mat(one_based), _mat(one_based | {"c": np.zeros((0, 4))})]

    def structure(rng: np.random.Generator, data: bytes) -> bytes:
        return _mat({key: mutations.of_array(rng) for key in "abc"})

    read = _proposals("p.mat", Apart(LIMITS))
    return Target("p.mat", seeds, read, lambda _, answer: _sound(answer), structure)


def mat_v73(folder: Path) -> Target:
    """A .mat by h5py; see `mat_v5`."""
    import h5py

    path = folder / "seed.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        references: dict[str, list] = {"boxes": [], "images": []}
        for key, value in _BOXES.items():
            text = file.create_dataset(f"t{key}", data=np.array([[ord(key)]]))
            data = file.create_dataset(f"b{key}", data=np.add(value, [1, 1, 0, 0]).T)
            references["boxes"].append(data.ref)
            references["images"].append(text.ref)
        for key, refs in references.items():
            file.create_dataset(key, data=np.array([refs], h5py.ref_dtype))
    content = path.read_bytes()
    header = b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0, 2]) + b"IM"
    seeds = [header + content[len(header) :]]
    read = _proposals("p.mat", Apart(LIMITS))
    return Target("p.mat", seeds, read, lambda _, answer: _sound(answer))
