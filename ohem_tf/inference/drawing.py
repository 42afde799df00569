"""Images with detections drawn in, by the library supervision, and many images on one page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from ohem_tf.errors import InputError

_PAPER = (245, 245, 245)


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    class_names: Sequence[str],
) -> Image.Image:
    """Draws detections on a copy of the image.

    Each box has the colour of its class and a label with name and score. Higher scores lie on top.
    Line width and letter size follow the size of the image.

    Args:
      image: uint8 [H, W, 3] RGB.
      boxes: [D, 4] as [ymin, xmin, ymax, xmax] in pixels, half-open.
      scores: [D], in [0, 1].
      classes: [D], 1-based: class k is class_names[k - 1].
      class_names: names of the classes 1..K.

    Returns:
      An RGB image of the same size.
    """
    import supervision as sv  # takes 2 s, which only who draws should wait for

    height, width = image.shape[:2]
    order = np.argsort(scores, kind="stable")
    found = sv.Detections(
        outline_corners(boxes)[order], confidence=scores[order], class_id=classes[order]
    )
    labels = [
        f"{class_names[k - 1]} {score:.2f}"
        for k, score in zip(classes[order], scores[order], strict=True)
    ]
    thickness = max(1, sv.calculate_optimal_line_thickness((width, height)) // 2)
    scale = max(0.35, 0.8 * sv.calculate_optimal_text_scale((width, height)))
    # The palette of supervision is in RGB order for the RGB images here: it swaps nothing.
    drawn = sv.BoxAnnotator(thickness=thickness).annotate(image.copy(), found)
    write = sv.LabelAnnotator(text_scale=scale, text_padding=3, smart_position=True)
    return Image.fromarray(write.annotate(drawn, found, labels=labels))


def outline_corners(boxes: np.ndarray) -> np.ndarray:
    """[N, 4] float32 [xmin, ymin, xmax, ymax] of the pixels that the outlines of `boxes` cover.

    Args:
      boxes: [N, 4] as [ymin, xmin, ymax, xmax] in pixels, half-open.
    """
    corners = np.asarray(boxes, np.float32).reshape(-1, 4)[:, [1, 0, 3, 2]]
    corners[:, 2:] = np.maximum(corners[:, 2:] - 1, corners[:, :2])  # the last pixel of each box
    return corners


def contact_sheet(
    images: Sequence[Image.Image], columns: int = 4, cell: tuple[int, int] = (320, 320)
) -> Image.Image:
    """Puts images on one page, row by row, each scaled to fit its cell and centred in it.

    Args:
      images: of any size.
      columns: images in a row; fewer if there are fewer images.
      cell: width and height of a cell, pixels.

    Raises:
      InputError: there is no image.
    """
    if not images:
        raise InputError("a contact sheet needs at least one image, and there is none")
    columns, margin = min(columns, len(images)), 8
    pitch = cell[0] + margin, cell[1] + margin
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * pitch[0] + margin, rows * pitch[1] + margin), _PAPER)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        fitted = ImageOps.pad(image.convert("RGB"), cell, color=_PAPER)
        page.paste(fitted, (margin + column * pitch[0], margin + row * pitch[1]))
    return page
