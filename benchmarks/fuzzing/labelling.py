"""Targets: what labelling tools write."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.dom import minidom

import numpy as np
import yaml

from benchmarks.fuzzing import mutations
from benchmarks.fuzzing.target import CLASSES, LIMITS, SIZE, Target, encoded
from ohem_tf.data import checks, one_image
from ohem_tf.data.formats import choice, yolo_names
from ohem_tf.data.options import Options

_HEIGHT, _WIDTH = SIZE
_IMAGES = ("a", "b")
# What an independent reader finds in an image: a class and (ymin, xmin, ymax, xmax) in pixels, or
# None for an object that it finds, but no box of.
Stated = Sequence[tuple[str, Sequence[float]] | None]


def _text(content: bytes) -> str:
    """As a file of text is read; bytes.decode refuses half a byte order mark, which that skips."""
    return io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="").read()


def _make(folder: Path, kind: str) -> Callable[[Path], list[checks.Checked]]:
    """Puts the images into a folder; returns the package's reader of it, under "skip"."""
    for name in _IMAGES:
        (folder / f"{name}.png").write_bytes(encoded("PNG"))

    def read(here: Path) -> list[checks.Checked]:
        options = Options(kind, str(here), ("train",), "", proposals="none", on_bad_record="skip")
        split = choice.list_split(options, "train", LIMITS)
        return [one_image.check_image(image, LIMITS) for image in split.images]

    return read


def _agrees(answer: Sequence[checks.Checked], stated: Callable[[str], Stated]) -> bool:
    """Whether each object that was read is one that the file states, and none is missing."""
    limits = [_HEIGHT, _WIDTH] * 2
    for entry in answer:
        if not entry.readable:
            continue
        said = stated(entry.image_id)
        usable = [(name, np.clip(box, 0, limits)) for name, box in filter(None, said)]
        if len(entry.objects) + len(entry.problems) != len(said):
            return False
        for item in entry.objects:
            same = (
                np.allclose(item.box, box, 0, 1e-6) for name, box in usable if name == item.name
            )
            if not any(same):
                return False
    return True


def yolo_txt(folder: Path) -> Target:
    """The labels of an image; beside them float and numpy."""
    read = _make(folder, "yolo")
    (folder / "data.yaml").write_text(f"names: [{', '.join(CLASSES)}]\n")

    def right(content: bytes, answer: list[checks.Checked]) -> bool:
        said: list[tuple[str, Sequence[float]] | None] = []
        for line in _text(content).splitlines():
            if line.split():
                said.append(_yolo_line(line.split()))
        return _agrees(answer, lambda image_id: said if image_id == "a" else [])

    seed = b"0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.1 0.1\n0 0.1 0.1 0.9 0.1 0.9 0.9\n"
    return Target("a.txt", [seed, b"", b"1 0.5 0.5 1 1"], read, right)


def _yolo_line(words: list[str]) -> tuple[str, Sequence[float]] | None:
    try:
        name = CLASSES[[0.0, 1.0].index(float(words[0]))]
        x, y = np.array(words[1:], float).reshape(-1, 2).T * [[_WIDTH], [_HEIGHT]]
    except ValueError:
        return None
    if len(words) > 5:
        return name, (y.min(), x.min(), y.max(), x.max())
    corners = np.array([[y[0], x[0]], [y[0], x[0]]]) + np.outer([-0.5, 0.5], [y[1], x[1]])
    return name, corners.ravel()


def yolo_yaml(folder: Path) -> Target:
    """Names of classes; beside them the nodes of the same yaml."""

    def right(content: bytes, answer: yolo_names.Found) -> bool:
        tree = yaml.compose(_text(content))
        if tree is None or not isinstance(tree, yaml.MappingNode):
            return not answer.classes
        said = [value for key, value in tree.value if key.value == "names"]
        if not said or not isinstance(said[-1].value, list):
            return not answer.classes
        items = said[-1].value
        if isinstance(said[-1], yaml.MappingNode):
            keyed = {key.value: value for key, value in items}
            items = [keyed[str(number)] for number in range(len(keyed))]
        return tuple(item.value for item in items) == answer.classes

    seeds = [
        b"path: ../x\ntrain: ../train/images\nval: [a, b]\nnames: [cat, dog]\nnc: 2\n",
        b"names:\n  0: cat\n  1: dog\ntest:\n",
    ]
    read = lambda here: yolo_names.find(str(here), LIMITS)  # noqa: E731
    return Target("data.yaml", seeds, read, right)


def labelme_json(folder: Path) -> Target:
    """The shapes of an image; beside them the json itself."""
    read = _make(folder, "labelme")
    shapes = [
        {"label": "cat", "shape_type": "rectangle", "points": [[3, 4.5], [20, 25]]},
        {"label": "dog", "shape_type": "polygon", "points": [[1, 2], [9, 2], [9, 20]]},
        {"label": "dog", "shape_type": "line", "points": [[1, 2], [9, 2]]},
    ]

    def right(content: bytes, answer: list[checks.Checked]) -> bool:
        said: list[tuple[str, Sequence[float]] | None] = []
        for shape in json.loads(_text(content))["shapes"]:
            said.append(None)
            kind = shape.get("shape_type", "polygon")
            if isinstance(kind, str) and kind not in ("circle", "mask"):
                with contextlib.suppress(TypeError, ValueError, OverflowError, AttributeError):
                    x, y = np.array(shape.get("points"), float).T
                    said[-1] = (shape["label"], (y.min(), x.min(), y.max(), x.max()))
        circles = any(o.numbers.startswith(("circle", "mask")) for e in answer for o in e.objects)
        return circles or _agrees(answer, lambda image_id: said)

    head = {"version": "5", "imagePath": "a.png", "imageHeight": _HEIGHT, "imageWidth": _WIDTH}
    seeds = [json.dumps(head | {"shapes": shapes, "imageData": None}).encode()]
    return Target("a.json", seeds, read, right, mutations.of_json)


def cvat_xml(folder: Path) -> Target:
    """Images and boxes; beside them minidom."""
    read = _make(folder, "cvat")
    box = '<box label="cat" xtl="3.5" ytl="4" xbr="20" ybr="25" occluded="0"></box>'
    more = '<polygon label="dog" points="1,2;9,2;9,20"></polygon><points label="dog" points="1,2"/>'
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    text = f"<annotations><meta><task><labels>{labels}</labels></task></meta>"
    text += f'<image id="0" name="a.png" {size}>{box}{more}</image>'
    text += f'<image id="1" name="b.png" {size}></image></annotations>'

    def right(content: bytes, answer: list[checks.Checked]) -> bool:
        root = minidom.parseString(content).documentElement
        shapes: dict[str, list[Any]] = {}
        for image in root.childNodes:
            if getattr(image, "tagName", "") == "image":
                key = PurePosixPath(image.getAttribute("name")).stem
                found = [x for x in image.childNodes if x.nodeType == x.ELEMENT_NODE]
                shapes[key] = [x for x in found if x.tagName in ("box", "polygon", "points")]
        return _agrees(answer, lambda image_id: [_cvat_shape(x) for x in shapes[image_id]])

    return Target("x.xml", [text.encode()], read, right, mutations.of_xml)


def _cvat_shape(shape: Any) -> tuple[str, Sequence[float]] | None:
    with contextlib.suppress(ValueError):
        if shape.tagName == "box" and not shape.hasAttribute("rotation"):
            sides = [float(shape.getAttribute(key)) for key in ("ytl", "xtl", "ybr", "xbr")]
            return shape.getAttribute("label"), sides
        if shape.tagName == "polygon":
            points = shape.getAttribute("points").replace(";", ",").split(",")
            x, y = np.array(points, float).reshape(-1, 2).T
            return shape.getAttribute("label"), (y.min(), x.min(), y.max(), x.max())
    return None


def label_studio_json(folder: Path) -> Target:
    """Tasks and regions; beside them the json itself, a rectangle of percent at a time."""
    read = _make(folder, "label_studio")
    size = {"original_height": _HEIGHT, "original_width": _WIDTH, "image_rotation": 0}
    value = {"x": 10, "y": 20.5, "width": 50, "height": 25, "rotation": 0}
    region = size | {"type": "rectanglelabels", "value": value | {"rectanglelabels": ["cat"]}}
    brush = size | {"type": "brushlabels", "value": {"rle": [1], "brushlabels": ["dog"]}}
    tasks = [
        {
            "id": 3 + number,
            "data": {"image": f"/data/upload/1/0a1b2c3d-{name}.png"},
            "annotations": [{"result": results}],
        }
        for number, (name, results) in enumerate((("a", [region, brush]), ("b", [])))
    ]

    def right(content: bytes, answer: list[checks.Checked]) -> bool:
        rectangles = [
            value
            for value in _dicts(json.loads(_text(content)))
            if isinstance(value.get("rectanglelabels"), list)
        ]
        said = []
        for value in rectangles:
            with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
                x, y, w, h = (float(value[key]) for key in ("x", "y", "width", "height"))
                sides = np.array([y, x, y + h, x + w]) / 100 * [*SIZE, *SIZE]
                said.append((value["rectanglelabels"], np.clip(sides, 0, [*SIZE, *SIZE])))
        turned = any(value.get("rotation", 0) != 0 for value in rectangles)
        objects = [item for entry in answer for item in entry.objects]
        return turned or all(
            any(labels == [o.name] and np.allclose(o.box, b, 0, 1e-6) for labels, b in said)
            for o in objects
        )

    return Target("x.json", [json.dumps(tasks).encode()], read, right, mutations.of_json)


def _dicts(tree: Any) -> list[dict]:
    inner = list(tree.values()) if isinstance(tree, dict) else tree
    own = [tree] if isinstance(tree, dict) else []
    return own + [d for x in inner if isinstance(x, dict | list) for d in _dicts(x)]


def open_images_csv(folder: Path) -> Target:
    """Rows; beside them csv without a dialect's help: rows by position."""
    read = _make(folder, "open_images")
    text = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
    text += (
        "a,xclick,cat,1,0.1,0.5,0.25,0.75,0\na,xclick,dog,1,0,1,0,1,1\nb,x,cat,1,0.2,0.3,0.2,1,0\n"
    )

    def right(content: bytes, answer: list[checks.Checked]) -> bool:
        rows = list(csv.reader(io.StringIO(_text(content), newline="")))
        head = rows[0]
        column = {name: len(head) - 1 - head[::-1].index(name) for name in head}
        said: dict[str, list[tuple[str, Sequence[float]] | None]] = {}
        for row in filter(None, rows[1:]):
            key = row[column["ImageID"]].replace("\\", "/").rpartition("/")[2]
            stem = key.rpartition(".")[0] or key
            said.setdefault(stem, []).append(None)
            with contextlib.suppress(ValueError):
                sides = [float(row[column[k]]) for k in ("YMin", "XMin", "YMax", "XMax")]
                said[stem][-1] = (row[column["LabelName"]], np.multiply(sides, [*SIZE, *SIZE]))
        return _agrees(answer, lambda image_id: said[image_id])

    return Target("x.csv", [text.encode()], read, right)
