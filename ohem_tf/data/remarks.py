"""What is worth a look in an image and its boxes, though nothing of it is refused.

`checks.check_entry` looks at every image with this module: `prepare` counts what it finds, and
`ohem_tf.check` shows it. Worker processes import it, so it goes without TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from ohem_tf.data.checks import Object

Box = tuple[float, float, float, float]  # ymin, xmin, ymax, xmax in pixels, half-open

MIN_SIDE = 4.0  # pixels; a box with a shorter side is a slip of the mouse more often than an object
DOUBLED_IOU = 0.9  # two boxes of a class that overlap by more are most likely one object
_HASHED_SIDE = 32  # pixels; what the perceptual hash looks at
_LEAST_CONTRAST = 4  # grey levels between its darkest and its brightest


@dataclasses.dataclass(frozen=True)
class Remark:
    """One thing to look at: its kind, one line for the user, and the boxes it is about."""

    kind: str
    message: str
    boxes: tuple[Box, ...] = ()


@dataclasses.dataclass(frozen=True)
class Look:
    """What `look_at` found.

    Attributes:
      remarks: in the order of the objects.
      traits: what the file is and data sets count: "greyscale", "CMYK", "16 bits".
      perceptual_hash: 64 bits, nearly the same for images that look the same; None: has none.
    """

    remarks: tuple[Remark, ...] = ()
    traits: tuple[str, ...] = ()
    perceptual_hash: int | None = None


def look_at(
    image: Image.Image, data: bytes, objects: Sequence[Object], path: str, annotation: str
) -> Look:
    """Looks at one image and its good objects.

    Args:
      image: decoded.
      data: the file it was decoded from.
      objects: their boxes lie inside the image.
      path, annotation: the files of image and objects, for messages.
    """
    remarks: list[Remark] = []
    orientation = _orientation(image)
    if orientation > 1:
        remarks.append(
            Remark(
                "turned by EXIF",
                f"{path}: its EXIF orientation is {orientation}, which is ignored here, but shown "
                "by viewers and annotation tools; see that the boxes lie on the objects",
                tuple(item.box for item in objects),
            )
        )
    remarks += [*_tiny(objects, annotation), *_doubled(objects, annotation)]
    return Look(tuple(remarks), _traits(image, data), perceptual_hash(image))


def perceptual_hash(image: Image.Image) -> int | None:
    """OpenCV's pHash: the signs of the 64 lowest frequencies of a 32 x 32 grey copy.

    Copies that were compressed again or resized differ in few of the bits, other images in about
    half of them; see `duplicates.MAX_DISTANCE`. None for an image of one colour, which has none.
    """
    if image.mode.startswith(("I", "F")):  # Pillow clips these to 255 where it converts them
        values = np.asarray(image, np.float64)
        values = values * (255 / max(values.max(initial=0), 1))
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    small = np.asarray(image.convert("L").resize((_HASHED_SIDE,) * 2, Image.Resampling.BOX))
    if np.ptp(small) < _LEAST_CONTRAST:
        return None
    return int.from_bytes(cv2.img_hash.pHash(small).tobytes(), "little")


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1, upright, where the file does not say."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged block: struct, Pillow and int() each have their own
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _traits(image: Image.Image, data: bytes) -> tuple[str, ...]:
    # Pillow reads a PNG of 16-bit colours as one of 8 bits; its header has the depth in byte 24.
    one_deep_channel = image.mode.startswith(("I", "F"))
    deep = one_deep_channel or (image.format == "PNG" and data[24:25] == b"\x10")
    tests = {
        "greyscale": image.mode in ("1", "L", "LA") or one_deep_channel,
        "CMYK": image.mode == "CMYK",
        "16 bits": deep,
    }
    return tuple(name for name, holds in tests.items() if holds)


def _tiny(objects: Sequence[Object], annotation: str) -> list[Remark]:
    remarks = []
    for item in objects:
        height, width = item.box[2] - item.box[0], item.box[3] - item.box[1]
        if min(height, width) < MIN_SIDE and not item.crowd:
            message = (
                f"{annotation}: {item.where} ({item.name}): the box {item.numbers} is {width:g} px "
                f"wide and {height:g} px high"
            )
            remarks.append(Remark("tiny box", message, (item.box,)))
    return remarks


def _doubled(objects: Sequence[Object], annotation: str) -> list[Remark]:
    """Each object that has about the box of an earlier one of its class."""
    counted = [item for item in objects if not item.crowd]
    if len(counted) < 2:
        return []
    corners = np.array([item.box for item in counted], np.float64)
    rectangles = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    ious = coco_mask.iou(rectangles, rectangles, [0] * len(counted))
    remarks = []
    for i, item in enumerate(counted):
        for j, other in enumerate(counted[:i]):
            if ious[i, j] > DOUBLED_IOU and other.name == item.name:
                message = (
                    f"{annotation}: {item.where} ({item.name}) has about the box of {other.where}: "
                    f"IoU {ious[i, j]:.3f}"
                )
                remarks.append(Remark("doubled box", message, (other.box, item.box)))
                break
    return remarks
