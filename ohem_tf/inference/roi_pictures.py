"""What hard mining does with one image as a picture: all RoIs, the hard ones, the detections.

TensorBoard (training/board.py) and README show it. Drawn by the library supervision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ohem_tf.inference.detection import Detections
from ohem_tf.inference.drawing import draw_detections, outline_corners

Color = tuple[int, int, int]  # RGB

_PAPER, _INK, _LEFT_OUT = (245, 245, 245), (40, 40, 40), (165, 165, 165)
_SHADES = 64
_EASY = 0.01  # a loss up to this has the first shade; from there the scale is logarithmic
# Up to the highest loss; blue and yellow to red can be told apart by everybody.
_BACKGROUND = ((255, 240, 150), (255, 140, 0), (205, 0, 0))
_FOREGROUND = ((200, 245, 255), (0, 170, 255), (0, 50, 255))
_GAP, _TITLE, _LEGEND, _LEAST_WIDTH = 6, 20, 22, 190  # pixels; the latter of a panel's title


class Mined(NamedTuple):
    """The R RoIs of one image, and which of them were selected to train the network.

    Attributes:
      boxes: [R, 4] float32 [ymin, xmin, ymax, xmax] in pixels of the image, half-open.
      labels: [R] int32 class of each, 0 for background.
      losses: [R] float32; need not be finite.
      selected: [K] int32 indices of the selected ones.
      left_out: [L] int32 indices of those that the NMS removed though they are harder than the
        last selected one.
    """

    boxes: np.ndarray
    labels: np.ndarray
    losses: np.ndarray
    selected: np.ndarray
    left_out: np.ndarray


def draw_mining(
    image: np.ndarray,
    mined: Mined,
    detections: Detections,
    class_names: Sequence[str],
    side: int = 400,
) -> Image.Image:
    """Draws three panels side by side under titles, and a legend.

    All RoIs, coloured by loss (background yellow to red, foreground light to dark blue, both on a
    logarithmic scale from 0.01 to the highest loss of the image); the selected ones over those that
    the NMS removed, in grey; and the detections. Higher losses lie on top. A loss that is not
    finite has the colour of the highest.

    Args:
      image: uint8 [H, W, 3] RGB.
      mined: its RoIs.
      detections: as numpy arrays, in pixels of the image; class k is class_names[k - 1].
      class_names: names of the classes 1..K.
      side: of the longer side of a panel, pixels.

    Returns:
      An RGB image, higher than a panel by title and legend.
    """
    height, width = image.shape[:2]
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    photo = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    mined = mined._replace(boxes=mined.boxes * factor)
    finite = mined.losses[np.isfinite(mined.losses)]
    top = float(finite.max(initial=2 * _EASY))
    losses = np.clip(np.nan_to_num(mined.losses, nan=top, posinf=top), 0.0, top)
    shade = np.log(np.maximum(losses, _EASY) / _EASY) / np.log(top / _EASY) * (_SHADES - 1)
    everything = np.arange(len(losses))
    hard = mined.selected
    foreground = int(np.sum(mined.labels[hard] > 0))
    outlined = _draw_by_loss(photo, mined, shade, everything, thickness=1)
    all_rois = Image.blend(Image.fromarray(photo), Image.fromarray(outlined), 0.6)
    removed = mined.boxes[mined.left_out]
    greyed = _outline(photo, removed, [_LEFT_OUT] * len(removed), thickness=1)
    hard_rois = Image.fromarray(_draw_by_loss(greyed, mined, shade, hard, thickness=2))
    found = draw_detections(
        photo, detections.boxes * factor, detections.scores, detections.classes, class_names
    )
    panels = {
        f"all {len(losses)} RoIs: mean loss {_mean(losses):.2f}": all_rois,
        f"{len(hard)} selected ({foreground} fg): {_mean(losses[hard]):.2f}": hard_rois,
        f"detections: {len(detections.scores)}": found,
    }
    pitch = max(size[0], _LEAST_WIDTH) + _GAP
    page = Image.new("RGB", (3 * pitch - _GAP, _TITLE + size[1] + _LEGEND), _PAPER)
    pen = ImageDraw.Draw(page)
    for i, (title, panel) in enumerate(panels.items()):
        page.paste(panel, (i * pitch, _TITLE))
        pen.text((i * pitch + 2, _TITLE // 2), title, _INK, _font(), anchor="lm")
    _draw_legend(pen, _TITLE + size[1] + _LEGEND // 2, top, bool(len(mined.left_out)))
    return page


def _outline(
    photo: np.ndarray, boxes: np.ndarray, colors: Sequence[Color], thickness: int
) -> np.ndarray:
    """A copy of the photo with boxes [N, 4], each in its colour; later ones lie on top."""
    import supervision as sv  # takes 2 s, which only who draws should wait for

    if not len(boxes):
        return photo.copy()
    # It draws in BGR order, and these images are RGB.
    palette = sv.ColorPalette([sv.Color.from_bgr_tuple(color) for color in colors])
    annotator = sv.BoxAnnotator(palette, thickness, sv.ColorLookup.INDEX)
    return annotator.annotate(photo.copy(), sv.Detections(outline_corners(boxes)))


def _draw_by_loss(
    photo: np.ndarray, mined: Mined, shade: np.ndarray, chosen: np.ndarray, thickness: int
) -> np.ndarray:
    """A copy of the photo with the RoIs `chosen`, each in its `shade` [R], 0 to _SHADES - 1."""
    chosen = chosen[np.argsort(shade[chosen], kind="stable")]
    shades = {False: _shades(_BACKGROUND), True: _shades(_FOREGROUND)}
    colors = [shades[bool(mined.labels[i] > 0)][round(float(shade[i]))] for i in chosen]
    return _outline(photo, mined.boxes[chosen], colors, thickness)


def _shades(ends: tuple[Color, ...]) -> list[Color]:
    """Colours from the first over the second to the third of `ends`, `_SHADES` of them."""
    places = np.linspace(0, len(ends) - 1, _SHADES)
    channels = [np.interp(places, range(len(ends)), channel) for channel in zip(*ends, strict=True)]
    return [(round(r), round(g), round(b)) for r, g, b in zip(*channels, strict=True)]


def _draw_legend(pen: ImageDraw.ImageDraw, middle: int, top: float, left_out: bool) -> None:
    """One line: both scales of colours with their ends, and what grey is."""
    x = 2
    for name, ends in (("background", _BACKGROUND), ("foreground", _FOREGROUND)):
        pen.text((x, middle), f"{name}: loss {_EASY}", _INK, _font(), anchor="lm")
        x += round(pen.textlength(f"{name}: loss {_EASY}", _font())) + 6
        for color in _shades(ends):
            pen.line([(x, middle - 5), (x, middle + 5)], color)
            x += 1
        pen.text((x + 4, middle), f"{top:.1f}", _INK, _font(), anchor="lm")
        x += round(pen.textlength(f"{top:.1f}", _font())) + 24
    if left_out:
        pen.line([(x, middle), (x + 20, middle)], _LEFT_OUT)
        pen.text((x + 26, middle), "harder, removed by the NMS", _INK, _font(), anchor="lm")


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=12)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
