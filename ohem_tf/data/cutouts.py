"""What scenes are made of: cutouts and textures, as outlines.json lists them, and their pixels.

The photographs are those in scikit-image's wheel. Outlines were drawn over the enlarged
photographs, most of them then tightened within a few pixels by GrabCut, and looked at again.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ohem_tf.errors import InputError

SPLITS = ("train", "val")

_TYPICAL_SIDE = (45, 125)  # square root of width times height of what is pasted, pixels
_MAX_ENLARGEMENT = 2.0
_MAX_ROTATION = 12  # degrees
_SUPERSAMPLING = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Cutout:
    """A part of a photograph: an object of class `name`, or a distractor.

    Attributes:
      photograph: file name among scikit-image's data.
      outline: [P, 2] float64 x, y in pixels of the photograph; pixel (0, 0) covers [0, 1) x [0, 1).
    """

    name: str
    photograph: str
    outline: np.ndarray


@dataclasses.dataclass(frozen=True)
class Texture:
    """A rectangle of a photograph, `box` = (left, top, right, bottom), used as a background."""

    name: str
    photograph: str
    box: tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Cast:
    """Everything that scenes of one split may show."""

    objects: tuple[Cutout, ...]
    distractors: tuple[Cutout, ...]
    textures: tuple[Texture, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the object classes, sorted."""
        return tuple(sorted({cutout.name for cutout in self.objects}))


@functools.cache
def table() -> dict:
    """outlines.json: photographs (their credits), objects, distractors, textures."""
    return json.loads(Path(__file__).with_name("outlines.json").read_text(encoding="utf-8"))


@functools.cache
def photograph(name: str) -> Image.Image:
    """Opens one of scikit-image's own photographs as RGB, without importing scikit-image.

    Raises:
      InputError: scikit-image is not installed, or its wheel lacks the file.
    """
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise InputError(
            "scenes: scikit-image is not installed; its photographs are needed: "
            "pip install 'scikit-image>=0.24'"
        )
    path = Path(package.origin).parent / "data" / name
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected the photograph of scikit-image >= 0.24"
        ) from None


def _fitted(outline: np.ndarray, photograph_name: str) -> np.ndarray:
    """Moves and scales an outline into the middle of another photograph."""
    size = np.asarray(photograph(photograph_name).size, np.float64)
    low, high = outline.min(axis=0), outline.max(axis=0)
    scale = 0.8 * np.min(size / (high - low))
    return (outline - (low + high) / 2) * scale + size / 2


def cast(split: str) -> Cast:
    """Objects, distractors and textures of a split ("train" or "val"), from outlines.json."""
    if split not in SPLITS:
        raise InputError(f"scenes: unknown split {split!r}; expected one of {', '.join(SPLITS)}")
    listed = table()
    outlines = {entry["name"]: np.asarray(entry["outline"]) for entry in listed["objects"]}

    def cutouts(entries: list[dict]) -> tuple[Cutout, ...]:
        found = []
        for entry in entries:
            if split not in entry["splits"]:
                continue
            if "outline_of" in entry:  # the shape of an object, filled with something else
                outline = _fitted(outlines[entry["outline_of"]], entry["photograph"])
            else:
                outline = np.asarray(entry["outline"])
            found.append(Cutout(entry["name"], entry["photograph"], outline))
        return tuple(found)

    textures = (
        Texture(entry["name"], entry["photograph"], tuple(entry["box"]))
        for entry in listed["textures"]
        if split in entry["splits"]
    )
    return Cast(cutouts(listed["objects"]), cutouts(listed["distractors"]), tuple(textures))


def _relight(rng: np.random.Generator, pixels: np.ndarray, strength: float) -> np.ndarray:
    """Random contrast, brightness and tint, now and then without colour; [H, W, 3] float32."""
    pixels = pixels.astype(np.float32)
    if rng.random() < 0.15:
        pixels = np.broadcast_to(pixels.mean(axis=-1, keepdims=True), pixels.shape)
    mean = pixels.mean()
    contrast, brightness = rng.uniform(1 - strength, 1 + strength, 2)
    tint = rng.uniform(1 - strength / 2, 1 + strength / 2, 3)
    relit = ((pixels - mean) * contrast + mean * brightness) * tint
    return np.clip(relit, 0, 255).astype(np.float32)


def _fill(rng: np.random.Generator, texture: Texture, width: int, height: int) -> np.ndarray:
    """A random crop of a texture, turned by a multiple of 90 degrees, flipped, scaled, relit."""
    turned = rng.random() < 0.5
    across, down = (height, width) if turned else (width, height)
    left, top, right, bottom = texture.box
    largest = min((right - left) / across, (bottom - top) / down)
    scale = rng.uniform(0.6, 1) * largest
    x = rng.uniform(left, right - across * scale)
    y = rng.uniform(top, bottom - down * scale)
    crop = photograph(texture.photograph).resize(
        (across, down), Image.Resampling.BILINEAR, (x, y, x + across * scale, y + down * scale)
    )
    pixels = np.asarray(crop)
    if turned:
        pixels = pixels.transpose(1, 0, 2)
    pixels = pixels[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    return _relight(rng, pixels, 0.35)


def background(
    rng: np.random.Generator, textures: tuple[Texture, ...], size: tuple[int, int]
) -> np.ndarray:
    """One texture, or in two of five cases two of them that meet at a horizon.

    Args:
      size: width, height.

    Returns:
      [height, width, 3] float32 in [0, 255].
    """
    width, height = size
    first, second = rng.choice(len(textures), 2, replace=False)
    canvas = _fill(rng, textures[first], width, height)
    if rng.random() < 0.4:
        horizon = int(height * rng.uniform(0.3, 0.7))
        canvas[horizon:] = _fill(rng, textures[second], width, height - horizon)
    return canvas


def cut(
    rng: np.random.Generator, cutout: Cutout, frame: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts out, scales, flips, turns and relights.

    Returns:
      pixels [h, w, 3] float32 and alpha [h, w] float32 in [0, 1], with soft edges; no larger than
      `frame` (width, height).
    """
    low = np.floor(cutout.outline.min(axis=0))
    extent = np.ceil(cutout.outline.max(axis=0)) - low
    side = np.exp(rng.uniform(*np.log(_TYPICAL_SIDE)))
    scale = min(side / np.sqrt(extent.prod()), _MAX_ENLARGEMENT)
    angle = np.deg2rad(rng.uniform(-_MAX_ROTATION, _MAX_ROTATION))
    cosine, sine = np.cos(angle), abs(np.sin(angle))
    turned_extent = np.array([[cosine, sine], [sine, cosine]]) @ extent
    scale = min(scale, *(0.95 * np.asarray(frame) / turned_extent))
    width, height = (int(n) for n in np.maximum(np.round(extent * scale), 4))

    pixels = photograph(cutout.photograph).resize(
        (width, height), Image.Resampling.BICUBIC, (*low, *(low + extent)), reducing_gap=2.0
    )
    mask = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    corners = (cutout.outline - low) / extent * mask.size - 0.5
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners], fill=255)
    mask = mask.resize((width, height), Image.Resampling.BOX)

    if rng.random() < 0.5:
        pixels = pixels.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    degrees = float(np.rad2deg(angle))
    pixels = pixels.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    mask = mask.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    alpha = np.asarray(mask, np.float32) / 255
    # Contrast is about the mean, so it is taken over the cutout, not over what was around it.
    relit = np.zeros((*alpha.shape, 3), np.float32)
    inside = alpha > 0
    relit[inside] = _relight(rng, np.asarray(pixels)[inside], 0.3)
    return relit, alpha
