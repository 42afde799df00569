"""Targets: what the package has written itself, records, configs and detections."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzing import mutations
from benchmarks.fuzzing.target import CLASSES, SIZE, Target, encoded
from ohem_tf.data import records
from ohem_tf.data.reader import RecordReader
from ohem_tf.files import write_json


def _example(image_id: str, encoded: bytes, boxes: int) -> bytes:
    rows = np.array([[1, 2, 20, 30.5]] * boxes, np.float32)
    none = np.zeros(boxes, bool)
    record = records.Record(
        *(image_id, encoded, "png", *SIZE, rows, np.ones(boxes, np.int32), none, none),
        *(np.ones(boxes, np.float32), np.array([[0, 0, 9, 9]], np.float32)),
    )
    return records.to_example(record, CLASSES)


def _shard(folder: Path) -> bytes:
    path = folder / "train-00000-of-00001.tfrecord"
    records.write_shard(path, [_example(str(i), encoded("PNG"), i) for i in range(3)])
    return path.read_bytes()


def _info() -> dict[str, Any]:
    shard = {"file": "train-00000-of-00001.tfrecord", "records": 3}
    split = {"shards": [shard], "image_ids": "0 1 2", "annotated": True}
    split["proposals"] = {"method": "file"}
    return {"classes": list(CLASSES), "category_ids": None, "splits": {"train": split}}


def dataset_json(folder: Path) -> Target:
    """`RecordReader`; beside it the json itself."""
    _shard(folder)

    def right(content: bytes, reader: RecordReader) -> bool:
        said = json.loads(content)
        shards = said["splits"]["train"]["shards"]
        return list(reader.classes) == said["classes"] and len(reader) == sum(
            shard["records"] for shard in shards
        )

    read = lambda here: RecordReader(here, "train")  # noqa: E731
    seeds = [json.dumps(_info()).encode()]
    return Target("dataset.json", seeds, read, right, mutations.of_json)


def tfrecord_shard(folder: Path) -> Target:
    """Every record of a shard, checked; beside it tf.data's reader and its parsing."""
    import tensorflow as tf

    seeds = [_shard(folder)]
    write_json(folder / "dataset.json", _info())
    path = folder / "train-00000-of-00001.tfrecord"

    def read(here: Path) -> list[bytes]:
        reader = RecordReader(here, "train")
        for index in range(len(reader)):
            reader.check(index)
        return [reader[index] for index in range(len(reader))]

    def right(content: bytes, answer: list[bytes]) -> bool:
        theirs = [item.numpy() for item in tf.data.TFRecordDataset([str(path)])]
        parsed = [records.parse_example(tf.constant(item)) for item in theirs]
        return theirs == answer and all(x["boxes"].shape == (len(x["classes"]), 4) for x in parsed)

    def structure(rng: np.random.Generator, data: bytes) -> bytes:
        examples = [_example(str(i), encoded("PNG"), i) for i in range(3)]
        place = rng.integers(3)
        examples[place] = mutations.of_bytes(rng, examples[place], examples)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in examples:
                writer.write(example)
        return path.read_bytes()

    return Target(path.name, seeds, read, right, structure)


def config_json(folder: Path) -> Target:
    """`experiment.trained_config` of a workdir; beside it the json itself."""
    from ohem_tf import experiment
    from ohem_tf.config import paper

    config = json.loads(json.dumps(paper().to_dict()))
    saved = {"config": config, "overrides": {"train.steps": 10}, "classes": list(CLASSES)}

    def right(content: bytes, answer: Any) -> bool:
        said = json.loads(content)
        flat = _flat(json.loads(json.dumps(answer.to_dict())))
        wanted = _flat(said["config"]) | said["overrides"]
        return all(_same(flat[key], value) for key, value in wanted.items() if key in flat)

    read = lambda here: experiment.trained_config(None, {}, str(here))  # noqa: E731
    seeds = [json.dumps(saved | {"versions": {}}).encode()]
    return Target("config.json", seeds, read, right, mutations.of_json)


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _same(a: Any, b: Any) -> bool:
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return both_nan or a == b


def detections_npz(folder: Path) -> Target:
    """The detections of `evaluate --from_results`; beside it zipfile and numpy's format."""
    from ohem_tf.evaluation import detections

    found = {"boxes": np.ones((2, 4)), "scores": np.ones(2), "classes": np.ones(2)}
    detections.save(folder / "seed.npz", ["a", "b"], [found, found], {"split": "x/y"})

    def right(content: bytes, answer: Any) -> bool:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            boxes = np.lib.format.read_array(io.BytesIO(file.read("boxes.npy")))
        ours = [x["boxes"] for x in answer[1]]
        return np.array_equal(np.concatenate([np.zeros((0, 4)), *ours]), boxes, equal_nan=True)

    seeds = [(folder / "seed.npz").read_bytes()]
    return Target("x.npz", seeds, lambda here: detections.load(here / "x.npz"), right)
