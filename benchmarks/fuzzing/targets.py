"""All targets of benchmarks.fuzz."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.fuzzing import binary, labelling, proposals, raw_data, stored
from benchmarks.fuzzing.target import Target

# By name; the number is the share of the inputs, by what one costs.
TARGETS: dict[str, tuple[Callable[[Path], Target], int]] = {
    "VOC xml": (raw_data.voc_xml, 20),
    "COCO json": (raw_data.coco_json, 20),
    "YOLO txt": (labelling.yolo_txt, 10),
    "YOLO data.yaml": (labelling.yolo_yaml, 10),
    "LabelMe json": (labelling.labelme_json, 10),
    "CVAT xml": (labelling.cvat_xml, 10),
    "Label Studio json": (labelling.label_studio_json, 10),
    "Open Images csv": (labelling.open_images_csv, 10),
    ".mat v5": (proposals.mat_v5, 10),
    ".mat v7.3": (proposals.mat_v73, 10),
    "proposals .npz": (proposals.proposals_npz, 10),
    "proposals .json": (proposals.proposals_json, 10),
    "detections .npz": (stored.detections_npz, 4),
    "dataset.json": (stored.dataset_json, 4),
    "TFRecord shard": (stored.tfrecord_shard, 2),
    "config.json": (stored.config_json, 2),
    ".caffemodel": (binary.caffemodel, 4),
    "images": (binary.images, 2),
    "request": (binary.request, 2),
}
