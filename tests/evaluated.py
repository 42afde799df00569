"""The workdir of a training that was evaluated on the split val of the data set of conftest.py."""

from __future__ import annotations

import json
import os

import numpy as np
import tiny

from ohem_tf.evaluation import detections
from ohem_tf.files import write_json
from ohem_tf.workdir import save_config

IDS = [f"{100 + i:06d}" for i in range(4)]
FOUND = [
    {
        "boxes": np.float32([[5, 5, 40, 50], [10, 60, 50, 90]]),
        "scores": np.float32([0.9 - i / 10, 0.3]),
        "classes": np.int32([1 + i % 3, 2]),
    }
    for i in range(4)
]
LOG = [
    {"step": 2, "loss/hard": 2.0, "cls": 1.5, "box": 0.5, "learning_rate": 0.01},
    {"step": 4, "loss/hard": 1.0, "cls": 0.7, "box": 0.3, "learning_rate": 0.01},
    {"step": 4, "eval/mAP": 0.5},
]


def evaluated(
    folder, dataset, metrics="metrics.json", classes=tiny.CLASSES, image_ids=IDS, found=FOUND
) -> str:
    """Makes one; returns its path. The checkpoint that made the detections is not there."""
    os.makedirs(folder, exist_ok=True)
    save_config(tiny.config(dataset), {}, classes, str(folder))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
    settings = {"split": f"{dataset.name}/val", "checkpoint": "ckpt-4", "detection": {}}
    stem = "" if metrics == "metrics.json" else f"{metrics.removesuffix('.json')}."
    detections.save(folder / f"{stem}detections.npz", image_ids, found, settings)
    write_json(folder / metrics, {"method": "voc07", "iou_threshold": 0.5, "mAP": 0.5})
    return str(folder)
