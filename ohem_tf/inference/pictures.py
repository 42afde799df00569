"""Pictures in, pictures with detections out: what the binaries that detect have in common."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ohem_tf.errors import InputError
from ohem_tf.files import make_folder, write_json
from ohem_tf.inference import drawing
from ohem_tf.inference.detection import Detections

_PAGE = 24  # pictures on the page
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


def names(paths: Sequence[str]) -> list[str]:
    """Names of the output pictures, without extension.

    Raises:
      InputError: two inputs would share one.
    """
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    taken = {_PAGE_NAME: f"the page of all pictures, {_PAGE_NAME}.png"}
    for path, stem in zip(paths, stems, strict=True):
        if stem in taken:
            raise InputError(f"--images: {path} would overwrite the picture of {taken[stem]}")
        taken[stem] = path
    return stems


class Album:
    """A folder with a picture per image, one page of the first, and detections.json.

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
          InputError: it cannot be made, or two pictures would have the same name.
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
        picture = drawing.draw_detections(
            image, found.boxes[sure], found.scores[sure], found.classes[sure], self._classes
        )
        picture.save(os.path.join(self._folder, f"{self._names[path]}.png"))
        if len(self._page) < _PAGE:
            self._page.append(picture)

    def finish(self) -> str:
        """Writes the page and detections.json; returns a line that says what is where."""
        page = drawing.contact_sheet(self._page, columns=4)
        page.save(os.path.join(self._folder, f"{_PAGE_NAME}.png"))
        write_json(os.path.join(self._folder, f"{_PAGE_NAME}.json"), self._results)
        count = len(self._results)
        return f"{count} pictures, {_PAGE_NAME}.png and {_PAGE_NAME}.json in {self._folder}"


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
