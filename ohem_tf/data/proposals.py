"""Proposals: selective search on an image, or boxes computed elsewhere and read from a file.

R proposals per image, [R, 4] float32 [ymin, xmin, ymax, xmax], pixels, half-open, 0-based.
Duplicates are removed and so are boxes narrower or lower than 2 pixels, as in the Fast R-CNN
release; the order is kept, since files are often ranked.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ohem_tf import npz
from ohem_tf.apart import Apart
from ohem_tf.data import checks, mat
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits

MODES = ("fast", "quality")


def tidy(boxes: np.ndarray, min_size: float = 2.0) -> np.ndarray:
    """Removes duplicates (the first stays) and boxes with a side below `min_size` pixels.

    Args:
      boxes: [R, 4].

    Returns:
      [R', 4] float32, in the order given.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    boxes = boxes[np.sort(np.unique(boxes, axis=0, return_index=True)[1])]
    return boxes[np.all(boxes[:, 2:] - boxes[:, :2] >= min_size, axis=1)]


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def require_selective_search() -> None:
    """Raises InputError if the OpenCV that is installed has no selective search."""
    if not hasattr(cv2, "ximgproc"):
        raise InputError(
            f"OpenCV {cv2.__version__} here has no selective search (cv2.ximgproc); expected "
            "opencv-contrib-python-headless alone: uninstall every opencv package, then install it"
        )


def selective_search(image: np.ndarray, mode: str = "fast", min_size: float = 2.0) -> np.ndarray:
    """Selective search (Uijlings et al., IJCV 2013) as in OpenCV.

    The same image gives the same boxes in the same order: OpenCV ranks them with the C library's
    rand(), which `cv2.setRNGSeed` does not reach, so this seeds rand() itself.

    Args:
      image: [H, W, 3] uint8 RGB.
      mode: "fast" or "quality" (several times slower, more boxes).
      min_size: least width and height of a box in pixels.

    Returns:
      [R, 4] float32 boxes.

    Raises:
      InputError: unknown mode, or an OpenCV without selective search.
    """
    require_selective_search()
    if mode not in MODES:
        raise InputError(f"selective search mode {mode!r}; expected one of {', '.join(MODES)}")
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
    if mode == "fast":
        search.switchToSelectiveSearchFast()
    else:
        search.switchToSelectiveSearchQuality()
    _libc().srand(1)
    x, y, width, height = np.asarray(search.process(), np.float32).reshape(-1, 4).T
    return tidy(np.stack([y, x, y + height, x + width], axis=-1), min_size)


def read_and_search(
    path: str, mode: str, min_size: float, limits: Limits = DEFAULT
) -> tuple[bytes, str, np.ndarray]:
    """Reads an image for its record and searches it (runs in a worker process).

    Returns:
      (bytes to store, their format, [R, 4] proposals); see `checks.read_encoded`.
    """
    # One thread: the processes fill the cores already, and the result must not depend on them.
    cv2.setNumThreads(1)
    encoded, kind = checks.read_encoded(path, limits)
    # OpenCV, not Pillow, turns 16-bit samples into 8 bits as TensorFlow does.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    if image is None:
        image = np.asarray(checks.open_image(encoded, limits).convert("RGB"))[..., ::-1]
    return encoded, kind, selective_search(image[..., ::-1], mode, min_size)


def covered(boxes: np.ndarray, proposals: np.ndarray, iou_threshold: float = 0.5) -> np.ndarray:
    """Which boxes have a proposal at IoU >= threshold.

    IoU in numpy, not `ohem_tf.boxes.iou`: this module is imported by worker processes, which should
    not load TensorFlow.

    Args:
      boxes: [G, 4]. proposals: [R, 4].

    Returns:
      [G] bool.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    proposals = np.asarray(proposals, np.float64).reshape(1, -1, 4)
    top_left = np.maximum(boxes[..., :2], proposals[..., :2])
    bottom_right = np.minimum(boxes[..., 2:], proposals[..., 2:])
    intersection = np.prod(np.clip(bottom_right - top_left, 0, None), axis=-1)
    areas = [np.prod(np.clip(b[..., 2:] - b[..., :2], 0, None), -1) for b in (boxes, proposals)]
    union = areas[0] + areas[1] - intersection
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return np.any(iou >= iou_threshold, axis=1)


class NoProposals:
    """Stands where proposals come from, for records of a model that proposes by itself."""

    def describe(self) -> dict[str, Any]:
        """What dataset.json says about them."""
        return {"method": "none"}

    def get(self, entry: checks.Checked, min_size: float = 2.0) -> np.ndarray:
        """[0, 4]."""
        return np.zeros((0, 4), np.float32)


class ProposalFile:
    """Proposals computed elsewhere, by image id.

    Formats: `.npz` and `.json` map an image id to [R, 4] [ymin, xmin, ymax, xmax] half-open pixels;
    `.mat` is that of the Fast R-CNN release: `images`, a cell of N image ids, and `boxes`, a cell
    of N arrays [R, 4] of 1-based inclusive (y1, x1, y2, x2); v5 and v7.3.
    """

    def __init__(
        self, path: str | os.PathLike[str], limits: Limits = DEFAULT, apart: Apart | None = None
    ) -> None:
        """Opens the file.

        Args:
          path: of the file.
          limits: on its size and on the boxes of an image.
          apart: the process that reads .mat; None: one for this file alone.

        Raises:
          InputError: no such file, another kind of file, or one that cannot be read.
        """
        self.path = str(path)
        self._limits = limits
        self._apart = apart
        readers: dict[str, Callable[[str], Any]] = {
            ".npz": lambda path: np.load(path, allow_pickle=False),
            ".json": self._read_json,
            ".mat": self._read_mat,
        }
        suffix = Path(path).suffix.lower()
        if suffix not in readers:
            raise InputError(
                f"{path}: unknown kind of proposals; expected selective_search, none, or the path "
                f"of a {', '.join(readers)} file"
            )
        if not Path(path).is_file():
            raise InputError(f"{path}: proposals file not found; expected an existing file")
        try:
            self._boxes = readers[suffix](self.path)
            self._ids = frozenset(self._boxes.keys())
        except InputError:
            raise
        except Exception as error:  # zip, json, scipy and h5py each have their own
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path}: cannot be read as {suffix} proposals ({reason}); expected a map from "
                "image id to [R, 4] boxes"
            ) from None

    def _read_json(self, path: str) -> Any:
        self._limits.check_size("json_mb", path)
        return json.loads(Path(path).read_bytes())

    def _read_mat(self, path: str) -> dict[str, np.ndarray]:
        if self._apart is not None:
            return self._apart.call(mat.read, path, what=path)
        with Apart(self._limits) as apart:
            return apart.call(mat.read, path, what=path)

    def _size(self, key: str) -> None:
        """Raises InputError if an image has too many boxes, before those of an .npz are read."""
        if isinstance(self._boxes, np.lib.npyio.NpzFile):
            count = (npz.size(self._boxes, key) - 128) // (4 * 8)  # less a header
        else:
            boxes = self._boxes[key]
            has_rows = isinstance(boxes, list) or np.ndim(boxes) > 0  # and is no single number
            count = len(boxes) if has_rows else 0
        self._limits.check("proposals", count, f"{self.path}: image {key}", "proposals")

    def describe(self) -> dict[str, Any]:
        """What dataset.json says about these proposals; `sha256` is that of the file."""
        with open(self.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"method": "file", "file": Path(self.path).name, "sha256": digest}

    def get(self, entry: checks.Checked, min_size: float = 2.0) -> np.ndarray:
        """Proposals of one image, tidy, and clipped where they leave it by up to one pixel.

        The key is the image id, else the file name without extension.

        Raises:
          InputError: none for this image, a damaged file, not [R, 4] finite numbers, a box with
            ymax < ymin or xmax < xmin, or one that lies more than one pixel outside the image.
        """
        keys = (entry.image_id, Path(entry.image_path).stem)
        key = next((key for key in keys if key in self._ids), None)
        if key is None:
            raise InputError(
                f"{self.path}: proposals missing for image {entry.image_id}; expected a key "
                f"{entry.image_id!r} with [R, 4] boxes (R may be 0)"
            )
        where = f"{self.path}: image {key}"
        self._size(key)
        try:
            is_npz = isinstance(self._boxes, np.lib.npyio.NpzFile)
            boxes = np.asarray(npz.read(self._boxes, key) if is_npz else self._boxes[key])
            if boxes.dtype.kind not in "iuf":
                raise TypeError
            boxes = boxes.astype(np.float64)
        except (ValueError, TypeError):
            raise InputError(f"{where}: proposals are not numbers; expected [R, 4] boxes") from None
        except Exception as error:  # a damaged member: zlib, zipfile and numpy each have their own
            raise InputError(
                f"{where}: cannot be read ({error}); the file is damaged: make it again"
            ) from None
        if boxes.size == 0:
            boxes = boxes.reshape(0, 4)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.all(np.isfinite(boxes)):
            raise InputError(
                f"{where}: proposals of shape {list(boxes.shape)}"
                f"{'' if np.all(np.isfinite(boxes)) else ' that are not all finite'}; "
                "expected [R, 4] finite numbers"
            )
        order = "y1, x1, y2, x2" if self.path.lower().endswith(".mat") else "ymin, xmin, ymax, xmax"
        if np.any(boxes[:, 2:] < boxes[:, :2]):
            row = int(np.argmax(np.any(boxes[:, 2:] < boxes[:, :2], axis=1)))
            raise InputError(
                f"{where}: proposal {row} {boxes[row].tolist()} has a negative size; expected "
                f"columns {order}"
            )
        size = np.array([entry.height, entry.width] * 2)
        outside = np.max(np.maximum(-boxes, boxes - size), initial=0)
        if outside > checks.TOLERANCE:
            raise InputError(
                f"{where}: proposals of another image size: a box lies {outside:g} px outside the "
                f"{entry.width} x {entry.height} image; expected columns {order} in its pixels"
            )
        return tidy(np.clip(boxes, 0, size), min_size)


Source = ProposalFile | NoProposals
