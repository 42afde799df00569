"""A tiny raw VOC data set for the tests of preparation, and ways to spoil it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from ohem_tf.data import checks


def make_image(root, image_id, *objects, size=(48, 40), name=None) -> None:
    """A picture with a rectangle for each object (class, xmin, ymin, xmax, ymax[, difficult])."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, image_id)))
    pixels = rng.integers(0, 12, (size[1], size[0], 3))
    text = f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
    for label, x0, y0, x1, y1, *difficult in objects:
        pixels[max(y0 - 1, 0) : y1, max(x0 - 1, 0) : x1] += rng.integers(60, 240, 3)
        box = f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        flag = f"<difficult>{int(bool(difficult))}</difficult>"
        text += f"<object><name>{label}</name>{flag}<bndbox>{box}</bndbox></object>"
    image = Image.fromarray(np.minimum(pixels, 255).astype(np.uint8))
    image.save(root / "JPEGImages" / (name or f"{image_id}.png"))
    (root / "Annotations" / f"{image_id}.xml").write_text(text + "</annotation>")


def make_split(root, name, *ids) -> None:
    (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids))


def make(root: Path) -> Path:
    """Five training images (one without an object) and two test images."""
    make_image(root, "a", ("dog", 5, 5, 24, 24), ("cat", 25, 20, 44, 36))
    make_image(root, "b", ("cat", 10, 8, 30, 30), ("cat", 1, 1, 9, 9, True), name="b.JPG")
    make_image(root, "c")
    make_image(root, "d", ("dog", 0, 4, 20, 30))
    make_image(root, "e", ("cat", 12, 12, 40, 33))
    make_image(root, "t", ("dog", 8, 8, 30, 30))
    make_image(root, "u", ("cat", 6, 8, 20, 30))
    make_split(root, "train", *"abcde")
    make_split(root, "test", *"tu")
    return root


BAD_IMAGES = ["missing image", "truncated image", "no image"]
BAD_OBJECTS = ["empty box", "outside"]


def damage(root, kind) -> str:
    """Spoils image e of the training split; returns what the message must hold."""
    image, xml = root / "JPEGImages/e.png", root / "Annotations/e.xml"
    if kind == "missing image":
        image.unlink()
        return "JPEGImages/e.jpg: image is missing"
    if kind == "truncated image":
        image.write_bytes(image.read_bytes()[:-30])
        return "e.png: truncated or damaged"
    if kind == "no image":
        image.write_bytes(b"hello")
        return "e.png: not an image"
    if kind == "xml":
        xml.write_text("<annotation>")
        return "e.xml: xml that does not parse"
    if kind == "empty box":
        make_image(root, "e", ("cat", 12, 12, 12, 33), ("dog", 5, 5, 24, 24))
        return "e.xml: object 1 (cat): empty box"
    make_image(root, "e", ("cat", 12, 12, 50, 33), ("dog", 5, 5, 24, 24))
    return "e.xml: object 1 (cat): the box xmin=12, ymin=12, xmax=50, ymax=33 lies 2 px outside"


def checked(**changes) -> checks.Checked:
    """An entry as `check_image` returns it: a difficult dog, a crowd of cats, 9 x 7 pixels."""
    objects = (
        checks.Object("dog", (0, 1, 4, 6), True, False, None, "object 1", ""),
        checks.Object("cat", (2, 2, 9, 7), False, True, 12.5, "object 2", ""),
    )
    entry = checks.Checked("a", "x/a.jpg", "a.xml", 9, 7, objects, (), 1, "d1")
    return dataclasses.replace(entry, **changes)
