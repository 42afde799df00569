"""Image files in, images with detections drawn out: what the binaries that detect share."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ohem_tf import images
from ohem_tf.data import checks
from ohem_tf.errors import InputError
from ohem_tf.files import make_folder, write_json
from ohem_tf.inference import drawing
from ohem_tf.inference.detection import Detections
from ohem_tf.progress import tqdm

_PAGE = 24  # images on the page
_PAGE_NAME = "detections"


def find(pattern: str, max_images: int) -> list[str]:
    """The files that `--images` names, sorted, at most `max_images` (0: all) of them.

    Raises:
      InputError: there is none.
    """
    paths = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
    if not paths:
        raise InputError(f"--images: no file matches {pattern}")
    return paths[: max_images or None]


def read(path: str) -> tuple[bytes, np.ndarray]:
    """Reads an image as `prepare` stores it, with the pixels that evaluation sees.

    JPEG and PNG files are taken as they are; what TensorFlow does not decode to RGB (other formats,
    CMYK) becomes a PNG, without loss. An EXIF orientation is ignored.

    Returns:
      A JPEG or PNG file, and what `images.decode` makes of it: [H, W, 3] uint8 RGB.

    Raises:
      InputError: no such file, or no image that can be decoded.
    """
    try:
        encoded, image_format = checks.read_encoded(path)
        image = checks.open_image(encoded)
    except (OSError, ValueError) as error:
        raise InputError(f"image {path}: {error}; expected an image file") from error
    encoded, _ = checks.as_decodable(encoded, image_format, image.height, image.width)
    return encoded, images.decode(encoded).numpy()


def check(paths: Sequence[str]) -> None:
    """Reads all images, with progress, and keeps none; InputError as `read`."""
    for path in tqdm(paths, desc="checking", unit="image", leave=False):
        read(path)


def names(paths: Sequence[str]) -> list[str]:
    """Names of the output images, without extension.

    Raises:
      InputError: two inputs would share one.
    """
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    taken = {_PAGE_NAME: f"the page of images, {_PAGE_NAME}.png"}
    for path, stem in zip(paths, stems, strict=True):
        if stem in taken:
            raise InputError(f"--images: {path} would overwrite the output of {taken[stem]}")
        taken[stem] = path
    return stems


class Album:
    """A folder with a drawing of each image, one page of the first few, and detections.json.

    detections.json holds for each image a list of {"class", "score", "box": [ymin, xmin, ymax,
    xmax] in pixels, half-open}.
    """

    def __init__(
        self, folder: str, paths: Sequence[str], classes: Sequence[str], min_score: float
    ) -> None:
        """Makes the folder.

        Args:
          folder: that `--output` names.
          paths: the images, in the order in which they are added.
          classes: names of the classes 1..K.
          min_score: of the detections that are drawn; detections.json holds all.

        Raises:
          InputError: it cannot be made, or two drawings would have the same name.
        """
        make_folder(folder, "output")
        self._names = dict(zip(paths, names(paths), strict=True))
        self._folder, self._classes, self._min_score = folder, classes, min_score
        self._results: dict[str, list[dict]] = {}
        self._page: list[Image.Image] = []

    def add(self, path: str, image: np.ndarray, found: Detections) -> None:
        """Draws the detections of the image at `path`, which holds `image` [H, W, 3] uint8."""
        self._results[path] = as_json(found, self._classes)
        sure = found.scores >= self._min_score
        drawn = drawing.draw_detections(
            image, found.boxes[sure], found.scores[sure], found.classes[sure], self._classes
        )
        drawn.save(os.path.join(self._folder, f"{self._names[path]}.png"))
        if len(self._page) < _PAGE:
            self._page.append(drawn)

    def finish(self) -> str:
        """Writes the page and detections.json; returns a line that says what is where."""
        page = drawing.contact_sheet(self._page, columns=4)
        page.save(os.path.join(self._folder, f"{_PAGE_NAME}.png"))
        write_json(os.path.join(self._folder, f"{_PAGE_NAME}.json"), self._results)
        count = len(self._results)
        return f"{count} images, {_PAGE_NAME}.png and {_PAGE_NAME}.json in {self._folder}"


def as_json(found: Detections, classes: Sequence[str]) -> list[dict]:
    """Detections as in detections.json."""
    return [
        {
            "class": classes[int(label) - 1],
            "score": round(float(score), 4),
            "box": [round(float(side), 1) for side in box],
        }
        for box, score, label in zip(*found, strict=True)
    ]
