"""Checks of raw images and objects, common to all raw formats.

A format (voc.py, coco.py, formats/) reads an image's annotation into an `Entry` whose objects carry
their numbers as read; `check_entry` opens and decodes the image, tests every object, clips boxes
that leave the image by up to one pixel, and returns a `Checked` entry with the good objects and a
`Problem` for each bad one.

Two kinds of trouble: a `Problem` is one that `--on_bad_record=skip` may drop (a bad object, or an
image that cannot be read); everything else (xml that does not parse, an annotation made for an
image of another size) raises `InputError` in either mode, since neither dropping the image nor
keeping it without its objects would leave the data set that the user means.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from ohem_tf.data import remarks
from ohem_tf.errors import InputError, first_line
from ohem_tf.limits import DEFAULT, Limits

# What is decoded. Pillow has readers of fifty more kinds, one of which runs another program.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
TOLERANCE = 1.0  # pixels by which a box may leave its image and still be clipped


class WrongSize(InputError):
    """An image has another size than its annotation says."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that `--on_bad_record=skip` drops: its cause, and one line for the user.

    `known`: the official files of the format hold such things, so it is dropped without the flag
    as well. `box` is (ymin, xmin, ymax, xmax) in pixels if one is the trouble and can be drawn.
    """

    cause: str
    message: str
    known: bool = False
    box: tuple[float, float, float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Object:
    """One annotated object.

    `box` is (ymin, xmin, ymax, xmax) in pixels, half-open, 0-based. `area` is COCO's own (square
    pixels), None where the file has none. `numbers` and `where` say in messages what the file holds
    and which object it is. `problem` is what the format's reader found wrong with the file's own
    numbers; the box then means nothing.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    crowd: bool
    area: float | None
    where: str
    numbers: str
    problem: Problem | None = None


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image as its annotation tells it; height and width are None where it does not say.

    `image_path` is None when there is no such file; `missing` then says what was looked for.
    `normalized`: the boxes of its objects are fractions of the image's height and width.
    """

    image_id: str
    image_path: str | None
    annotation: str
    height: int | None
    width: int | None
    objects: tuple[Object, ...]
    missing: str = ""
    normalized: bool = False


@dataclasses.dataclass(frozen=True)
class Checked:
    """A checked entry. `height` is 0 when the image cannot be read; `digest` is its file's sha1.

    `look` is what is worth a look in it, though it is kept.
    """

    image_id: str
    image_path: str
    annotation: str
    height: int
    width: int
    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]
    clipped: int
    digest: str
    look: remarks.Look = dataclasses.field(default_factory=remarks.Look)

    @property
    def readable(self) -> bool:
        return self.height > 0


def open_image(data: bytes, limits: Limits = DEFAULT) -> Image.Image:
    """Opens and decodes an image wholly.

    Raises:
      ValueError: not an image of `FORMATS`, or cut off; the message says which.
      InputError: of more pixels than `limits` allows.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        limits.check("pixels", image.width * image.height, "too large", "pixels")
        image.load()
    except Image.UnidentifiedImageError:
        raise ValueError("not an image") from None
    except InputError:
        raise
    except MemoryError:
        raise ValueError("it takes more memory than there is") from None
    except Exception as error:  # Pillow's readers raise all kinds for damaged files
        raise ValueError(f"truncated or damaged ({first_line(error)})") from None
    # Pillow accepts a PNG without its last chunk; TensorFlow does not.
    if image.format == "PNG" and b"IEND\xaeB`\x82" not in data[-4096:]:
        raise ValueError("truncated or damaged (a PNG without its end)")
    return image


def read_encoded(path: str, limits: Limits = DEFAULT) -> tuple[bytes, str]:
    """Reads an image file as the bytes to store, and their format, "jpeg" or "png".

    JPEG and PNG stay as they are, byte for byte (grey, palette and alpha are all read rightly by
    `tf.io.decode_image(channels=3)`); other formats and CMYK become an RGB PNG, without loss.
    An EXIF orientation is ignored, as VOC and COCO do: boxes refer to the pixels as stored.

    Raises:
      ValueError: as `open_image`.
    """
    data = Path(path).read_bytes()
    image = open_image(data, limits)
    if image.mode != "CMYK" and image.format in ("JPEG", "MPO", "PNG"):
        return data, "png" if image.format == "PNG" else "jpeg"
    return encode_png(image), "png"


def encode_png(image: Image.Image) -> bytes:
    """The image as an RGB PNG."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def as_decodable(encoded: bytes, image_format: str, height: int, width: int) -> tuple[bytes, str]:
    """What `read_encoded` gave if TensorFlow decodes it at its size, else an RGB PNG of it.

    Args:
      encoded, image_format: of `read_encoded`.
      height, width: as Pillow reads the image.
    """
    import tensorflow as tf  # not at the top: worker processes import this module

    try:
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        if image.shape == (height, width, 3):
            return encoded, image_format
    except tf.errors.OpError:
        pass
    return encode_png(open_image(encoded)), "png"


def check_object(item: Object, entry: Entry, height: int, width: int) -> Object | Problem:
    """Tests one object against its image; a box up to `TOLERANCE` outside comes back clipped."""
    if item.problem is not None:
        return item.problem
    ymin, xmin, ymax, xmax = item.box
    box = (max(ymin, 0.0), max(xmin, 0.0), min(ymax, float(height)), min(xmax, float(width)))
    outside = max(-ymin, -xmin, ymax - height, xmax - width)
    if outside > TOLERANCE or box[0] >= box[2] or box[1] >= box[3]:
        return Problem(
            "box outside the image",
            f"{entry.annotation}: {item.where} ({item.name}): the box {item.numbers} lies "
            f"{outside:g} px outside the {width} x {height} image; expected it inside",
            box=item.box,
        )
    return item if box == item.box else dataclasses.replace(item, box=box)


def in_pixels(entry: Entry, height: int, width: int) -> Entry:
    """The entry with boxes in pixels, if its boxes are fractions of the image."""
    if not entry.normalized:
        return entry
    sides = (height, width, height, width)
    objects = []
    for item in entry.objects:
        ymin, xmin, ymax, xmax = (part * side for part, side in zip(item.box, sides, strict=True))
        objects.append(dataclasses.replace(item, box=(ymin, xmin, ymax, xmax)))
    return dataclasses.replace(entry, objects=tuple(objects), normalized=False)


def check_entry(entry: Entry, limits: Limits = DEFAULT, data: bytes | None = None) -> Checked:
    """Reads an entry's image and tests its objects.

    Args:
      entry: as its annotation tells it.
      limits: on the image and the number of its objects.
      data: the image file, if it has been read.

    Raises:
      WrongSize: the image has another size than the annotation says.
      InputError: more objects than `limits` allows.
    """
    where = f"{entry.annotation}: image {entry.image_id}"
    limits.check("objects", len(entry.objects), where, "objects in an image")

    def unreadable(cause: str, message: str) -> Checked:
        problem = Problem(cause, message)
        given = (entry.image_id, entry.image_path or "", entry.annotation)
        return Checked(*given, 0, 0, (), (problem,), clipped=0, digest="")

    path = entry.image_path
    if path is None:
        return unreadable("image missing", entry.missing)
    try:
        data = Path(path).read_bytes() if data is None else data
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); expected an image file"
        return unreadable("image missing", message)
    try:
        image = open_image(data, limits)
    except InputError as error:
        return unreadable("image too large", f"{path}: {error}")
    except ValueError as error:
        message = f"{path}: {error}; expected a whole JPEG or PNG file"
        return unreadable("image unreadable", message)
    width, height = image.size
    for side, stated, real in (("width", entry.width, width), ("height", entry.height, height)):
        if stated is not None and stated != real:
            raise WrongSize(
                f"{entry.annotation}: says {side} {stated}, but {path} has {real}; "
                "the boxes would be wrong: expected the annotation of this very image"
            )
    entry = in_pixels(entry, height, width)
    results = [check_object(item, entry, height, width) for item in entry.objects]
    good = tuple(item for item in results if isinstance(item, Object))
    clipped = sum(
        isinstance(after, Object) and after.box != before.box
        for before, after in zip(entry.objects, results, strict=True)
    )
    return Checked(
        image_id=entry.image_id,
        image_path=path,
        annotation=entry.annotation,
        height=height,
        width=width,
        objects=good,
        problems=tuple(item for item in results if isinstance(item, Problem)),
        clipped=clipped,
        digest=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        look=remarks.look_at(image, data, good, path, entry.annotation),
    )


def check_class(item: Object, entry: Checked, classes: Iterable[str]) -> Problem | None:
    """A problem if the object's class is not one of `classes`."""
    if item.name in classes:
        return None
    return Problem(
        "unknown class",
        f"{entry.annotation}: {item.where}: unknown class {item.name!r}; "
        f"expected one of {', '.join(classes)}",
    )
