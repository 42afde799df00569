"""A served detector as an object: checks what it sends, and takes answers back to pixels."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from export import transport
from ohem_tf.data import checks
from ohem_tf.errors import InputError
from ohem_tf.inference.detection import Detections
from ohem_tf.inference.exported import from_outputs

_FORMATS = ("JPEG", "MPO", "PNG")  # MPO: a JPEG with more images behind it


class RemoteDetector:
    """A model that export.saved_model wrote, behind TensorFlow Serving.

    A server that merges requests fails all of them for a bad one: everything that the model would
    refuse is refused here, before it is sent.
    """

    def __init__(self, server: str, model: str, deadline: float) -> None:
        """Connects at the first use.

        Args:
          server, model: see `transport.connect`.
          deadline: seconds for a request, attempts and pauses included.
        """
        self._transport = transport.connect(server, model)
        self._deadline = deadline

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes 1..K."""
        return tuple(self.metadata("classes"))

    @functools.cached_property
    def max_pixels(self) -> int:
        """The largest height times width that the model takes."""
        return int(self.metadata("max_pixels"))

    @functools.cached_property
    def needs_proposals(self) -> bool:
        """Whether the model takes proposals with an image."""
        return bool(self.metadata("needs_proposals"))

    def metadata(self, key: str) -> Any:
        """What the model says of itself under a key of assets/metadata.json."""
        key_bytes = np.array([key.encode()], object)
        outputs = transport.call(self._transport, "metadata", {"key": key_bytes}, self._deadline)
        (value,) = outputs.values()
        return json.loads(value[0])

    def detect(
        self, images: Sequence[bytes], proposals: Sequence[np.ndarray] | None = None
    ) -> list[Detections]:
        """Detects in B images with one request.

        Args:
          images: B JPEG or PNG files, each of any size.
          proposals: B times [R, 4] float32 [ymin, xmin, ymax, xmax] in pixels; R may differ. A
            model that needs none takes its own instead.

        Returns:
          B times `Detections` of numpy arrays, in pixels.

        Raises:
          InputError: an image or boxes that the model would refuse; no answer in time.
        """
        sizes = [check_image(f"image {i}", x, self.max_pixels) for i, x in enumerate(images)]
        inputs = {"image_bytes": np.array(images, object)}
        if self.needs_proposals:
            boxes = [check_proposals(f"proposals {i}", x) for i, x in enumerate(proposals or ())]
            if len(images) != len(boxes):
                raise InputError(f"{len(images)} images and {len(boxes)} lists of proposals")
            # One row of zeros at least: json has no list of no boxes that still has 4 columns.
            rows = max([1, *map(len, boxes)])
            padded = [np.pad(x, ((0, rows - len(x)), (0, 0))) for x in boxes]
            inputs["proposals"] = np.stack(padded)
        outputs = transport.call(self._transport, "serving_default", inputs, self._deadline)
        return from_outputs(outputs, sizes)


def check_image(where: str, data: bytes, max_pixels: int) -> tuple[int, int]:
    """(height, width) of an image that the model will take.

    Args:
      where: for messages.
      data: a JPEG or PNG file.
      max_pixels: see `RemoteDetector.max_pixels`.

    Raises:
      InputError: another kind of file, a truncated one, or one with more pixels.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height, kind = *image.size, image.format
    except (OSError, Image.DecompressionBombError):
        width, height, kind = 0, 0, None
    if kind not in _FORMATS:
        raise InputError(f"{where}: expected a JPEG or PNG file")
    if height * width > max_pixels:
        raise InputError(
            f"{where}: {height} x {width} pixels; the model takes up to {max_pixels}, see "
            "--max_pixels of export.saved_model"
        )
    try:
        checks.open_image(data)
    except ValueError as error:
        raise InputError(f"{where}: {error}; expected a whole JPEG or PNG file") from error
    return height, width


def check_proposals(where: str, boxes: np.ndarray) -> np.ndarray:
    """`boxes` as [R, 4] float32.

    Raises:
      InputError: another shape, a number that is not finite, ymax < ymin or xmax < xmin.
    """
    boxes = np.asarray(boxes, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"{where}: shape {list(boxes.shape)}; expected [R, 4]")
    if not np.all(np.isfinite(boxes)):
        raise InputError(f"{where}: NaN or infinite; expected finite numbers")
    if np.any(boxes[:, 2:] < boxes[:, :2]):
        raise InputError(f"{where}: a box is inverted; expected [ymin, xmin, ymax, xmax]")
    return boxes
