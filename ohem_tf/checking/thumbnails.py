"""Small pictures for pages: the part of an image that matters, with the boxes drawn in."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

from ohem_tf.checking.findings import Mark, Picture
from ohem_tf.data.checks import open_image
from ohem_tf.web_page import escape

SIDE = 320  # pixels of the longer side at most
_QUALITY = 80
_LINE, _BESIDE, _HALO = "#ffb000", "#35c9ff", "#000000"
_CONTEXT = 0.75  # of the boxes' longer side, shown around them
_LEAST_CONTEXT = 24  # pixels


class Pictures:
    """The pictures of a page, within its limit."""

    def __init__(self, read: Callable[[str, str], bytes], max_bytes: int) -> None:
        """Reads nothing yet.

        Args:
          read: gives the bytes of the image file of (split, image id).
          max_bytes: of all pictures, as base64; after that there are none.
        """
        self._read = read
        self._left = max_bytes

    def show(self, picture: Picture) -> str:
        """An <img>, or nothing: no image, one that does not decode, or a page that is full."""
        if self._left <= 0:
            return ""
        try:
            data = self._read(picture.split, picture.image_id)
            encoded = base64.b64encode(thumbnail(data, picture.marks)).decode()
        except (OSError, ValueError, KeyError):
            return ""
        self._left -= len(encoded)
        boxes = f"{len(picture.marks)} boxes drawn" if picture.marks else "no box drawn"
        labels = ", ".join(mark.label for mark in picture.marks if mark.label)
        words = f"Image {picture.image_id} of {picture.split}, {labels or boxes}"
        return f'<img loading="lazy" alt="{escape(words)}" src="data:image/jpeg;base64,{encoded}">'

    @property
    def full(self) -> bool:
        """Whether pictures had to be left out."""
        return self._left <= 0


def thumbnail(data: bytes, marks: Sequence[Mark]) -> bytes:
    """A JPEG of an image with boxes drawn in, cut to their surroundings where they are small.

    Args:
      data: an image file.
      marks: what to draw; boxes may lie outside of the image, which is black there.

    Raises:
      ValueError: the image does not decode.
    """
    image = open_image(data).convert("RGB")
    top, left, bottom, right = window(image.height, image.width, marks)
    scale = SIDE / max(bottom - top, right - left)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    # Cropped first, then enlarged: a box outside makes the crop larger than the image.
    picture = image.crop((left, top, right, bottom)).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=13)
    for mark in marks:
        x0, y0, x1, y1 = _corners(mark, top, left, scale)
        pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=_HALO, width=4)  # grows inwards
        pen.rectangle((x0, y0, x1, y1), outline=_BESIDE if mark.beside else _LINE, width=2)
        if mark.label:
            y = min(y1, picture.height) - 19 if mark.beside else max(y0, 0) + 3
            pen.text(
                (max(x0, 0) + 4, y), mark.label, "white", font, stroke_width=2, stroke_fill=_HALO
            )
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def window(height: int, width: int, marks: Sequence[Mark]) -> tuple[int, int, int, int]:
    """What of an image to show: (top, left, bottom, right) in whole pixels.

    All of it if there is no box or the boxes are large, else the boxes and what is around them. It
    reaches out of the image as far as the boxes do, but no further than the image is large.
    """
    if not marks:
        return 0, 0, height, width
    sides = (height, width, height, width)
    near = [
        [min(max(value, -side), 2 * side) for value, side in zip(mark.box, sides, strict=True)]
        for mark in marks
    ]
    top, left = (min(min(box[i], box[i + 2]) for box in near) for i in (0, 1))
    bottom, right = (max(max(box[i], box[i + 2]) for box in near) for i in (0, 1))
    context = max(_CONTEXT * max(bottom - top, right - left), _LEAST_CONTEXT)
    if max(bottom - top, right - left) + 2 * context > 0.75 * max(height, width):
        context = max(height, width)  # the image as a whole, as the limits below say
    return (
        round(max(top - context, min(top, 0))),
        round(max(left - context, min(left, 0))),
        round(min(bottom + context, max(bottom, height))),
        round(min(right + context, max(right, width))),
    )


def _corners(mark: Mark, top: int, left: int, scale: float) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) of a box in a thumbnail, of which a part may be cut off."""
    ys = sorted((mark.box[i] - top) * scale for i in (0, 2))
    xs = sorted((mark.box[i] - left) * scale for i in (1, 3))
    x0, y0, x1, y1 = (min(max(value, -SIDE), 2 * SIDE) for value in (xs[0], ys[0], xs[1], ys[1]))
    return x0, y0, x1, y1
