"""Pictures of detections: boxes, labels and scores on an image, and many pictures on one page."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ohem_tf.errors import InputError

_PAPER = (245, 245, 245)
_INK = (32, 32, 32)


def class_color(class_id: int) -> tuple[int, int, int]:
    """The colour of a class, the same in every picture; near class ids get hues far apart."""
    hue = (class_id * 0.61803398875 + 0.35) % 1.0  # steps of the golden ratio never come back
    saturation, value = ((0.80, 0.95), (0.95, 0.70), (0.50, 1.00))[class_id // 8 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_detections(
    image: np.ndarray | Image.Image,
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    class_names: Sequence[str],
) -> Image.Image:
    """Draws detections on a copy of the image.

    Each box has the colour of its class and a tag with name and score, wholly inside the picture
    and, where there is room, not over another tag. Higher scores lie on top. Line width and letter
    size follow the size of the image.

    Args:
      image: uint8 [H, W, 3] RGB, or a PIL image of any mode.
      boxes: [D, 4] as [ymin, xmin, ymax, xmax] in pixels.
      scores: [D], in [0, 1].
      classes: [D], 1-based: class k is class_names[k - 1].
      class_names: names of the classes 1..K.

    Returns:
      An RGB picture of the image's size.

    Raises:
      InputError: an image of another kind, arrays of different lengths, a class without a name.
    """
    picture = _rgb(image)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    scores = np.asarray(scores, np.float64)
    classes = np.asarray(classes, np.int64)
    if not len(boxes) == len(scores) == len(classes):
        raise InputError(
            f"{len(boxes)} boxes, {len(scores)} scores and {len(classes)} classes: "
            "each box needs one of each"
        )
    unnamed = classes[(classes < 1) | (classes > len(class_names))]
    if len(unnamed):
        raise InputError(
            f"class {unnamed[0]} has no name: there are {len(class_names)}, for classes from 1 on"
        )
    side = min(picture.size)
    width = max(1, round(side / 180))
    font = ImageFont.load_default(size=max(10, round(side / 28)))
    draw = ImageDraw.Draw(picture)
    order = np.argsort(scores, kind="stable")
    for i in order:
        _outline(draw, boxes[i], class_color(int(classes[i])), width)
    # The best score chooses its place first and is drawn last.
    taken: list[tuple[int, int, int, int]] = []
    tags = []
    for i in order[::-1]:
        text = f"{class_names[classes[i] - 1]} {scores[i]:.2f}"
        place = _place(draw, text, font, boxes[i], width, picture.size, taken)
        taken.append(place)
        tags.append((place, text, class_color(int(classes[i]))))
    for place, text, color in reversed(tags):
        _tag(draw, place, text, color, font)
    return picture


def contact_sheet(
    pictures: Sequence[Image.Image],
    columns: int,
    cell_width: int = 320,
    margin: int = 8,
) -> Image.Image:
    """Puts pictures on one page, row by row, each scaled to fit its cell and centred in it.

    Args:
      pictures: PIL images of any size.
      columns: pictures in a row; fewer if there are fewer pictures.
      cell_width: width of a cell in pixels. A row is as high as its highest picture, but at most
        4/3 of that width.
      margin: pixels between cells and around the page.

    Raises:
      InputError: no picture, a column count or cell width below 1.
    """
    if not pictures:
        raise InputError("a contact sheet needs at least one picture, and there is none")
    if columns < 1 or cell_width < 1:
        raise InputError(f"columns ({columns}) and cell_width ({cell_width}) must be at least 1")
    columns = min(columns, len(pictures))
    small = [_scaled(picture, cell_width) for picture in pictures]
    heights = [
        max(picture.height for picture in small[i : i + columns])
        for i in range(0, len(small), columns)
    ]
    page_size = (
        columns * (cell_width + margin) + margin,
        sum(heights) + len(heights) * margin + margin,
    )
    page = Image.new("RGB", page_size, _PAPER)
    for i, picture in enumerate(small):
        row, column = divmod(i, columns)
        left = margin + column * (cell_width + margin)
        top = margin + sum(heights[:row]) + row * margin
        inset = (cell_width - picture.width) // 2, (heights[row] - picture.height) // 2
        page.paste(picture, (left + inset[0], top + inset[1]))
    return page


def _scaled(picture: Image.Image, cell_width: int) -> Image.Image:
    """Scales (also up) to the width of a cell, or to 4/3 of it in height."""
    scale = min(cell_width / picture.width, cell_width * 4 / 3 / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _rgb(image: np.ndarray | Image.Image) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB") if image.mode != "RGB" else image.copy()
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise InputError(
            f"image is {array.dtype} {list(array.shape)}: it must be uint8 [H, W, 3] or a PIL image"
        )
    return Image.fromarray(array)


def _corners(box: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom, inclusive pixels, of a half-open box."""
    ymin, xmin, ymax, xmax = (round(float(v)) for v in box)
    return xmin, ymin, max(xmin, xmax - 1), max(ymin, ymax - 1)


def _outline(draw: ImageDraw.ImageDraw, box: np.ndarray, color: tuple, width: int) -> None:
    left, top, right, bottom = _corners(box)
    # A thin dark line around the coloured one keeps it visible on any background.
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_INK)
    draw.rectangle((left, top, right, bottom), outline=color, width=width)


def _place(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont,
    box: np.ndarray,
    width: int,
    size: tuple[int, int],
    taken: list[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Where a tag goes: above the box, else inside its top, below it, or inside its bottom."""
    left, top, _, bottom = _corners(box)
    tag_width = round(draw.textlength(text, font=font)) + 6
    tag_height = sum(font.getmetrics()) + 2
    x = min(max(left - 1, 0), max(size[0] - tag_width, 0))
    choices = [top - tag_height, top + width, bottom + 1, bottom - tag_height - width + 1]
    places = [
        (x, y, x + tag_width, y + tag_height) for y in choices if 0 <= y <= size[1] - tag_height
    ]
    free = [place for place in places if not any(_overlap(place, other) for other in taken)]
    if free or places:
        return (free or places)[0]
    y = min(max(choices[0], 0), max(size[1] - tag_height, 0))
    return (x, y, x + tag_width, y + tag_height)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _tag(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int, int, int],
    text: str,
    color: tuple[int, int, int],
    font: ImageFont.FreeTypeFont,
) -> None:
    left, top, right, bottom = place
    draw.rectangle((left, top, right - 1, bottom - 1), fill=color)
    red, green, blue = color
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 140
    ink = (255, 255, 255) if dark else (0, 0, 0)
    draw.text((left + 3, top + 1), text, fill=ink, font=font)
