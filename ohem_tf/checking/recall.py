"""Which share of objects is covered, by proposals say: per class, and per size as COCO's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ohem_tf.data.checks import Object
from ohem_tf.data.proposals import covered

SIZES = {"small": 32.0**2, "medium": 96.0**2, "large": float("inf")}  # square pixels, below


class Recall:
    """Counts of objects, neither difficult nor crowd, and of those that are covered."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        self._counts: dict[tuple[str, str], list[int]] = {}  # (class, size): [objects, covered]
        self.images = 0
        self.proposals = 0

    def add(self, objects: Sequence[Object], boxes: np.ndarray) -> None:
        """Adds an image with its objects and its proposals [R, 4]: covered at IoU 0.5."""
        counted = [item for item in objects if not (item.difficult or item.crowd)]
        hits = covered(np.array([item.box for item in counted]).reshape(-1, 4), boxes)
        for item, hit in zip(counted, hits, strict=True):
            self.count(item.name, _area(item), bool(hit))
        self.images += 1
        self.proposals += len(boxes)

    def count(self, name: str, area: float, hit: bool) -> None:
        """Counts an object of the class `name` and of `area` square pixels."""
        size = next(size for size, limit in SIZES.items() if area < limit)
        count = self._counts.setdefault((name, size), [0, 0])
        count[0] += 1
        count[1] += int(hit)

    def as_json(self) -> dict:
        """{"proposals_per_image", "all", "classes", "sizes"}: recalls in [0, 1] with the objects.

        A recall is {"objects": int, "recall": float, or None without an object}.
        """
        return {
            "proposals_per_image": self.proposals / max(self.images, 1),
            "all": self._share(None, None),
            "classes": {name: self._share(name, None) for name in self._classes},
            "sizes": {size: self._share(None, size) for size in SIZES},
        }

    def _share(self, name: str | None, size: str | None) -> dict:
        chosen = [
            count
            for (its_name, its_size), count in self._counts.items()
            if name in (None, its_name) and size in (None, its_size)
        ]
        objects, hits = sum(c[0] for c in chosen), sum(c[1] for c in chosen)
        return {"objects": objects, "recall": hits / objects if objects else None}


def _area(item: Object) -> float:
    """COCO's own area of the object where the file has one, else that of its box."""
    ymin, xmin, ymax, xmax = item.box
    return (ymax - ymin) * (xmax - xmin) if item.area is None else item.area
