"""A trained or exported detector, from Python: image in, detections out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ohem_tf import experiment
from ohem_tf.arrays import Array
from ohem_tf.data.ahead import ahead
from ohem_tf.data.proposals import read_and_search, selective_search
from ohem_tf.errors import InputError
from ohem_tf.inference import album
from ohem_tf.inference.detection import Detections
from ohem_tf.inference.exported import ExportedPredictor, version_numbers
from ohem_tf.inference.predict import Predictor
from ohem_tf.progress import tqdm
from ohem_tf.workdir import CONFIG, load_saved

_NO_OVERRIDES: Mapping[str, Any] = MappingProxyType({})


def load(path: str | os.PathLike[str], checkpoint: str = "last") -> Detector:
    """The detector in a folder.

    Args:
      path: the workdir of a run of ohem_tf.train, or what export.saved_model wrote, EXPORT_DIR (its
        highest version) or EXPORT_DIR/VERSION.
      checkpoint: of a run; see `experiment.load_model`.

    Raises:
      InputError: neither a run nor an export is there; no such checkpoint.
    """
    folder = os.fspath(path)
    if os.path.isfile(os.path.join(folder, CONFIG)):
        return Detector.of_run(folder, checkpoint)
    if not (os.path.isfile(os.path.join(folder, "saved_model.pb")) or version_numbers(folder)):
        raise InputError(
            f"path: {folder} holds no {CONFIG} of a training run, no saved_model.pb and no version "
            "of one; expected a workdir of ohem_tf.train or an export of export.saved_model"
        )
    if checkpoint != "last":
        raise InputError("checkpoint: has no effect with an export; leave it out")
    return Detector.of_export(folder)


class Detector:
    """Finds objects in images; `load` makes one.

    Attributes:
      classes: names of the classes; the label k of a detection is `classes[k - 1]`.
      needs_proposals: whether the model takes proposals with each image.
    """

    def __init__(self, predictor: Predictor | ExportedPredictor, classes: Sequence[str]) -> None:
        """Of a model that runs, and the names of its classes 1..K."""
        self._predictor = predictor
        self.classes = tuple(classes)
        self.needs_proposals = predictor.needs_proposals

    @classmethod
    def of_run(
        cls,
        workdir: str,
        checkpoint: str = "last",
        config: ConfigDict | None = None,
        overrides: Mapping[str, Any] = _NO_OVERRIDES,
    ) -> Self:
        """The model that a training run has made.

        Args:
          workdir, checkpoint: see `experiment.load_model`.
          config, overrides: see `experiment.trained_config`.

        Raises:
          InputError: no such run or checkpoint; a setting that cannot work.
        """
        resolved = experiment.trained_config(config, overrides, workdir)
        model = experiment.load_model(resolved, workdir, checkpoint)
        predictor = Predictor(model, experiment.detection_settings(resolved))
        return cls(predictor, load_saved(workdir)["classes"])

    @classmethod
    def of_export(cls, folder: str) -> Self:
        """A SavedModel; see `ExportedPredictor`."""
        predictor = ExportedPredictor(folder)
        return cls(predictor, predictor.classes)

    def detect(
        self,
        image: str | os.PathLike[str] | Array | Image.Image,
        proposals: Array | None = None,
        selective_search_mode: str = "fast",
    ) -> Detections:
        """Detects objects in one image.

        A file gives the pixels, and the proposals, that `prepare` would give it; see `album.read`.

        Args:
          image: path of an image file, [H, W, 3] uint8 RGB, or a PIL image.
          proposals: [R, 4] (ymin, xmin, ymax, xmax), pixels, half-open. None: selective search, if
            the model needs proposals, which takes longer than the rest.
          selective_search_mode: "fast" or "quality"; without effect where none is run.

        Returns:
          `Detections` of numpy arrays, in pixels of the image.

        Raises:
          InputError: no image; proposals of another shape, or for a model that makes its own.
        """
        path = os.fspath(image) if isinstance(image, str | os.PathLike) else None
        pixels = _pixels(image) if path is None else album.read(path)[1]
        if not self.needs_proposals:
            if proposals is not None:
                raise InputError("proposals: this model makes its own; leave them out")
            return self._predictor(pixels)
        if proposals is not None:
            boxes = _boxes(proposals)
        elif path is None:
            boxes = selective_search(pixels, selective_search_mode)
        else:
            _, _, boxes = read_and_search(path, selective_search_mode, 2.0)
        return self._predictor(pixels, boxes)


def detect_files(
    detector: Detector, paths: Sequence[str], selective_search_mode: str = "fast"
) -> Iterator[tuple[str, np.ndarray, Detections]]:
    """Detections in image files, with progress; the next files are read, and searched, meanwhile.

    Args:
      detector: of any kind.
      paths: files that `album.read` reads.
      selective_search_mode: see `Detector.detect`.

    Yields:
      For each file its path, its pixels [H, W, 3] uint8 and what is found.

    Raises:
      InputError: a file cannot be read, or the detector refuses it; the message names it.
    """

    def read(path: str) -> tuple[np.ndarray, np.ndarray | None]:
        _, image = album.read(path)
        if not detector.needs_proposals:
            return image, None
        try:
            return image, read_and_search(path, selective_search_mode, 2.0)[2]
        except (OSError, ValueError) as error:
            raise InputError(f"--images: {path}: {error}") from error

    progress = tqdm(paths, desc="detecting", unit="image")
    for path, (image, boxes) in zip(progress, ahead(read, paths), strict=True):
        try:
            found = detector.detect(image, boxes)
        except InputError as error:
            raise InputError(f"--images: {path}: {error}") from error
        yield path, image, found


def _pixels(image: Array | Image.Image) -> np.ndarray:
    """[H, W, 3] uint8."""
    found = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if found.ndim != 3 or found.shape[2] != 3 or found.dtype != np.uint8 or found.size == 0:
        raise InputError(
            f"image: an array of {found.dtype} {list(found.shape)}; expected [H, W, 3] uint8 RGB, "
            "a PIL image or the path of a file"
        )
    return found


def _boxes(proposals: Array) -> np.ndarray:
    """[R, 4] float32."""
    found = np.asarray(proposals)
    if found.ndim != 2 or found.shape[1] != 4 or found.dtype.kind not in "fiu":
        raise InputError(
            f"proposals: an array of {found.dtype} {list(found.shape)}; expected [R, 4] numbers"
        )
    if not np.all(np.isfinite(found)):
        raise InputError("proposals: not all finite; expected [R, 4] finite numbers")
    return found.astype(np.float32)
