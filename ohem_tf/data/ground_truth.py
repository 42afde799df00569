"""The ground truth of a split: what detections in it are compared with."""

from __future__ import annotations

from typing import Any

from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import Record


def ground_truth(records: RecordReader) -> list[dict]:
    """Reads the objects of every image of a split; no image is decoded.

    Args:
      records: the split; one without annotations has no objects, but its image ids.

    Returns:
      One dict per image, in the order of the records, as `evaluation.report.metrics` takes them:
      "image_id" str; "boxes" [G, 4] float32 as [ymin, xmin, ymax, xmax] in pixels; "classes" [G]
      int32, 1-based; "difficult", "crowd" [G] bool; "area" [G] float32 square pixels.
    """
    return [of_record(records.record(index)) for index in range(len(records))]


def of_record(image: Record) -> dict[str, Any]:
    """What `ground_truth` says of one image."""
    return {
        "image_id": image.image_id,
        "boxes": image.boxes,
        "classes": image.classes,
        "difficult": image.difficult,
        "crowd": image.crowd,
        "area": image.area,
    }
