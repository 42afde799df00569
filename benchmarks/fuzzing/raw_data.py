"""Targets: VOC and COCO."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any
from xml.dom import minidom

import numpy as np

from benchmarks.fuzzing import mutations
from benchmarks.fuzzing.target import LIMITS, SIZE, Target, encoded
from ohem_tf.data import checks, coco, one_image, voc


def voc_xml(folder: Path) -> Target:
    """`one_image.check_image` of a VOC image; beside it minidom."""
    corners = "".join(f"<{n}>{v}</{n}>" for n, v in zip(voc._CORNERS, (3, 4, 20, 25), strict=True))
    one = f"<name>cat</name><difficult>0</difficult><bndbox>{corners}</bndbox>"
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
    text = f"<annotation>{size}<object>{one}</object><object>{one}</object></annotation>"
    (folder / "JPEGImages").mkdir()
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages/a.png").write_bytes(encoded("PNG"))

    def right(content: bytes, answer: checks.Checked) -> bool:
        root = minidom.parseString(content).documentElement
        elements = [x for x in root.childNodes if getattr(x, "tagName", "") == "object"]
        stated = []
        for element in elements:
            try:
                values = [_first_text(element, tag) for tag in ("bndbox", *voc._CORNERS)[1:]]
                xmin, ymin, xmax, ymax = map(float, values)
            except (TypeError, ValueError):
                continue
            box = np.array([ymin - 1, xmin - 1, ymax, xmax])
            stated.append((_own_text(element, "name"), tuple(np.clip(box, 0, [*SIZE, *SIZE]))))
        found = [(item.name, item.box) for item in answer.objects]
        return len(found) + len(answer.problems) == len(elements) and all(
            item in stated for item in found
        )

    read = lambda here: one_image.check_image(voc.Listed(str(here), "a"), LIMITS)  # noqa: E731
    return Target("Annotations/a.xml", [text.encode()], read, right, mutations.of_xml)


def _own_text(element: Any, tag: str) -> str | None:
    """The text before the first element in the first child of that tag, as ElementTree's."""
    for child in element.childNodes:
        if getattr(child, "tagName", "") == tag:
            parts = []
            for node in child.childNodes:
                if node.nodeType == node.ELEMENT_NODE:
                    break
                parts.append(node.data if node.nodeType != node.COMMENT_NODE else "")
            return "".join(parts).strip()
    return None


def _first_text(element: Any, tag: str) -> str | None:
    for child in element.childNodes:
        if getattr(child, "tagName", "") == "bndbox" and _own_text(child, tag) is not None:
            return _own_text(child, tag)
    return None


def coco_json(folder: Path) -> Target:
    """`coco.read_entries`; beside it the json itself."""
    data = {
        "images": [{"id": 7, "file_name": "7.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1.5, 2, 10, 6.25], "area": 9.5},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 30, 20], "iscrowd": 1},
        ],
    }

    def right(content: bytes, answer: Any) -> bool:
        entries, _, problems = answer
        said = json.loads(content)
        names = {item["id"]: item["name"] for item in said["categories"]}
        good = [o for entry in entries for o in entry.objects if o.problem is None]
        bad = [o for entry in entries for o in entry.objects if o.problem is not None]
        stated = []
        for item in said["annotations"]:
            box = item["bbox"]
            if (
                isinstance(box, list)
                and len(box) == 4
                and all(type(x) in (int, float) for x in box)
            ):
                x, y, w, h = box
                with contextlib.suppress(OverflowError):  # a whole number beyond float64
                    stated.append((names.get(item["category_id"]), (y, x, y + h, x + w)))
        count = len(good) + len(bad) + len(problems)
        return count == len(said["annotations"]) and all((o.name, o.box) in stated for o in good)

    read = lambda here: coco.read_entries(here / "x.json", here, True, LIMITS)  # noqa: E731
    return Target("x.json", [json.dumps(data).encode()], read, right, mutations.of_json)
