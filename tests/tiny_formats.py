"""Tiny data sets as labelling tools write them, typed out here; image "empty" has no object."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ohem_tf.data import splits
from ohem_tf.data.formats import choice
from ohem_tf.data.options import Options
from ohem_tf.data.workers import Workers
from ohem_tf.limits import Limits

WIDTH, HEIGHT = 64, 40
CLASSES = ("dog", "cat")  # not in alphabetical order
# {image: [(class, xmin, ymin, xmax, ymax)]}, points of a plane, 0-based
PICTURES: dict[str, list[tuple]] = {
    "a": [("dog", 4, 5, 24, 25), ("cat", 30, 10, 64, 40)],
    "b": [("cat", 8, 8, 40, 32)],
    "c": [("dog", 0, 0, 16, 20)],
    "empty": [],
}


def picture(path: Path, name: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """A picture that is another one for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(name.encode()))
    coarse = rng.integers(0, 255, (5, 8, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def voc_xml(objects, difficult: int = 0) -> str:
    """Typed as LabelImg does, with VOC's corners: from 1, the last pixel included."""
    text = "<annotation><folder>x</folder><filename>/etc/passwd</filename><size>"
    text += f"<width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    for name, x0, y0, x1, y1 in objects:
        text += f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated>"
        text += f"<difficult>{difficult}</difficult><bndbox><xmin>{x0 + 1}</xmin>"
        text += f"<ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
    return text + "</annotation>"


def yolo_txt(objects, classes=CLASSES) -> str:
    lines = []
    for name, x0, y0, x1, y1 in objects:
        numbers = (
            *((x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT),
            *((x1 - x0) / WIDTH, (y1 - y0) / HEIGHT),
        )
        lines.append(" ".join([str(classes.index(name)), *(f"{n:.6f}" for n in numbers)]))
    return "".join(f"{line}\n" for line in lines)


def labelme_json(objects) -> str:
    shapes = [
        {
            "label": name,
            "points": [[x1, y0], [x0, y1]],  # LabelMe keeps the corners as they were drawn
            "group_id": None,
            "shape_type": "rectangle",
            "flags": {},
        }
        for name, x0, y0, x1, y1 in objects
    ]
    head = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": "..\\..\\x.jpg"}
    return json.dumps(head | {"imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH})


def cvat_xml(pictures, subset: str = "") -> str:
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    text = f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    more = f' subset="{subset}"' if subset else ""
    for number, (name, objects) in enumerate(pictures.items()):
        text += f'<image id="{number}" name="{name}.png"{more} width="{WIDTH}" height="{HEIGHT}">'
        for label, x0, y0, x1, y1 in objects:
            text += f'<box label="{label}" source="manual" occluded="0" xtl="{x0:.2f}" '
            text += f'ytl="{y0:.2f}" xbr="{x1:.2f}" ybr="{y1:.2f}" z_order="0"></box>'
        text += "</image>"
    return text + "</annotations>"


def label_studio_region(name, x0, y0, x1, y1) -> dict:
    value = {
        "x": 100 * x0 / WIDTH,
        "y": 100 * y0 / HEIGHT,
        "width": 100 * (x1 - x0) / WIDTH,
        "height": 100 * (y1 - y0) / HEIGHT,
        "rotation": 0,
        "rectanglelabels": [name],
    }
    return {
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": value,
        "type": "rectanglelabels",
    }


def label_studio_json(pictures) -> str:
    tasks = [
        {
            "id": number,
            "annotations": [{"id": 1, "result": [label_studio_region(*o) for o in objects]}],
            "data": {"image": f"/data/upload/3/0a1b2c3d-{name}.png"},
            "predictions": [],
        }
        for number, (name, objects) in enumerate(pictures.items(), 1)
    ]
    return json.dumps(tasks)


def label_studio_min(pictures) -> str:
    """JSON-MIN: a task without regions has no "label"."""
    tasks: list[dict] = []
    for number, (name, objects) in enumerate(pictures.items(), 1):
        image = f"/data/local-files/?d=set%20one/{name}.png"
        task = {"image": image, "id": number, "annotator": 1, "annotation_id": number}
        regions = [label_studio_region(*o) for o in objects]
        flat = [
            r["value"] | {k: r[k] for k in ("original_width", "original_height")} for r in regions
        ]
        tasks.append(task | ({"label": flat} if flat else {}))
    return json.dumps(tasks)


def open_images_csv(pictures) -> str:
    mids = {"dog": "/m/0bt9lr", "cat": "/m/01yrx"}
    text = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
    text += "IsGroupOf,IsDepiction,IsInside\n"
    for image, objects in pictures.items():
        for name, x0, y0, x1, y1 in objects:
            sides = (x0 / WIDTH, x1 / WIDTH, y0 / HEIGHT, y1 / HEIGHT)
            numbers = ",".join(f"{side:.6f}" for side in sides)
            text += f"{image},xclick,{mids[name]},1,{numbers},0,0,0,0,0\n"
    return text


def make(root: Path, kind: str, pictures=None) -> Path:
    """A flat folder of one format, without splits."""
    pictures = PICTURES if pictures is None else pictures
    for name in pictures:
        place = {"yolo": "images/", "cvat": "images/", "label_studio": "uploads/"}.get(kind, "")
        picture(root / f"{place}{name}.png", name)
    if kind == "voc":
        for name, objects in pictures.items():
            write(root / f"{name}.xml", voc_xml(objects))
    elif kind == "yolo":
        for name, objects in pictures.items():
            if objects:  # no object, no file
                write(root / f"labels/{name}.txt", yolo_txt(objects))
        write(root / "data.yaml", f"names: [{', '.join(CLASSES)}]\nnc: {len(CLASSES)}\n")
    elif kind == "labelme":
        for name, objects in pictures.items():
            write(root / f"{name}.json", labelme_json(objects))
    elif kind == "cvat":
        write(root / "annotations.xml", cvat_xml(pictures))
    elif kind == "label_studio":
        write(root / "project-3.json", label_studio_json(pictures))
    elif kind == "open_images":
        write(root / "boxes.csv", open_images_csv(pictures))
        write(root / "class-descriptions-boxable.csv", "/m/0bt9lr,dog\n/m/01yrx,cat\n")
    return root


KINDS = ("voc", "yolo", "labelme", "cvat", "label_studio", "open_images")


def split(root: Path, kind: str, name: str = "train", **changes) -> splits.Split:
    """A split as `prepare` reads and checks it; other splits beside it in `beside`."""
    names = (name, *changes.pop("beside", ()))
    options = Options(kind, str(root), names, "", proposals="none", **changes)
    limits = Limits.of_flags(options)
    found = choice.list_split(choice.resolve(options, limits), name, limits)
    with Workers(0) as workers:
        found.check(workers, limits)
    return found


def boxes(found: splits.Split) -> dict[str, list[tuple]]:
    """As `PICTURES`, of a split."""
    return {
        entry.image_id: [
            (item.name, *(item.box[side] for side in (1, 0, 3, 2))) for item in entry.objects
        ]
        for entry in found.entries
    }


def same(found: splits.Split, expected: dict[str, list[tuple]], within: float) -> bool:
    """Whether a split has the objects of `expected`, to so many pixels."""
    have = boxes(found)
    return have.keys() == expected.keys() and all(
        [o[0] for o in have[image]] == [o[0] for o in expected[image]]
        and np.allclose(
            [o[1:] for o in have[image]] or 0, [o[1:] for o in expected[image]] or 0, 0, within
        )
        for image in expected
    )
