r"""Composes a small detection data set from photographs: the embedded default.

python -m ohem_tf.data.scenes --output=DIR [--train=300 --val=100 --seed=0] [--montage=PATH]

Objects are cut out of photographs that ship with scikit-image along the outlines in
outlines.json and pasted over photographic textures, with scale, flip, small rotations, changes of
light, and overlaps. Distractors look like objects but carry no annotation. The result is a VOC
folder. Train and val scenes share no texture, no distractor and no coin; the photographs of the
other objects are the same in both: a smoke test of a detector, not a benchmark.

Boxes here are VOC's: (xmin, ymin, xmax, ymax), 1-based and inclusive, of what is visible.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from PIL import Image, ImageDraw, ImageFont

from ohem_tf import errors
from ohem_tf.data import cutouts
from ohem_tf.errors import InputError

MAX_HIDDEN = 0.6  # no object of a scene is hidden to a larger share
DIFFICULT = 0.4  # hidden to a larger share: difficult

_SIZES = ((320, 240), (336, 248), (304, 232), (320, 208), (240, 320), (248, 304))  # width, height
_PLACES_TRIED = 12
_QUALITY = 90
_COLOURS = ("#ffd54a", "#4ad6ff", "#ff7ab8", "#8cff6b", "#ff9440", "#c9a2ff", "#ffffff", "#5affc8")


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One pasted cutout: alpha [H, W] float32 in [0, 1], before later layers cover it."""

    cutout: cutouts.Cutout
    is_object: bool
    alpha: np.ndarray


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """An annotated object; `box` as VOC writes it."""

    name: str
    box: tuple[int, int, int, int]
    difficult: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """image [H, W, 3] uint8 RGB; layers from back to front, objects in the same order."""

    image: np.ndarray
    objects: tuple[SceneObject, ...]
    layers: tuple[Layer, ...]


def visibility(layers: tuple[Layer, ...]) -> Iterator[tuple[Layer, np.ndarray, float]]:
    """For each object: its layer, its visible mask [H, W] bool and the share of it that is hidden.

    A pixel is the object's if at least half of its colour is the object's.
    """
    for index, layer in enumerate(layers):
        if layer.is_object:
            seen = layer.alpha.copy()
            for later in layers[index + 1 :]:
                seen *= 1 - later.alpha
            visible = seen >= 0.5
            whole = max(int(np.count_nonzero(layer.alpha >= 0.5)), 1)
            yield layer, visible, 1 - int(np.count_nonzero(visible)) / whole


def _annotate(layer: Layer, visible: np.ndarray, hidden: float) -> SceneObject:
    rows, columns = (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
    left, top, right, bottom = (
        int(n) + 1 for n in (*columns[[0]], *rows[[0]], *columns[[-1]], *rows[[-1]])
    )
    return SceneObject(layer.cutout.name, (left, top, right, bottom), hidden > DIFFICULT)


class _Deck:
    """Cards drawn in shuffled rounds: each comes once before any comes again."""

    def __init__(self, rng: np.random.Generator, cards: tuple[Any, ...]) -> None:
        self._rng, self._cards = rng, cards
        self._left: list[Any] = []

    def draw(self) -> Any:
        if not self._left:
            self._left = [self._cards[i] for i in self._rng.permutation(len(self._cards))]
        return self._left.pop()

    def put_back(self, card: Any) -> None:
        self._left.append(card)


def compose(seed: int, split: str) -> Iterator[Scene]:
    """Composes scenes without end; the first n are the same however many are taken.

    Every class appears in the first 8 scenes, and about equally often in the long run. An object
    that would hide another beyond `MAX_HIDDEN` is not pasted, so nothing visible lacks its box.
    """
    actors = cutouts.cast(split)
    rng = np.random.default_rng([seed, cutouts.SPLITS.index(split)])
    classes = _Deck(rng, actors.classes)
    counts = _Deck(rng, (1, 2, 3, 4, 5))
    distractors = _Deck(rng, actors.distractors)
    while True:
        size = _SIZES[rng.integers(len(_SIZES))]
        canvas = cutouts.background(rng, actors.textures, size)
        layers: tuple[Layer, ...] = ()
        wanted = [True] * counts.draw() + [False] * int(rng.integers(1, 4))
        for is_object in rng.permutation(wanted):
            deck = classes if is_object else distractors
            card = deck.draw()
            if is_object:
                same = [cutout for cutout in actors.objects if cutout.name == card]
                cutout = same[rng.integers(len(same))]
            else:
                cutout = card
            layer = _paste(rng, canvas, layers, cutout, bool(is_object))
            if layer is None:
                deck.put_back(card)
            else:
                layers = (*layers, layer)
        objects = tuple(_annotate(*seen) for seen in visibility(layers))
        yield Scene(np.round(canvas).astype(np.uint8), objects, layers)


def _paste(
    rng: np.random.Generator,
    canvas: np.ndarray,
    layers: tuple[Layer, ...],
    cutout: cutouts.Cutout,
    is_object: bool,
) -> Layer | None:
    """Pastes a cutout on the canvas, in place, where it hides nothing too far; None if nowhere."""
    height, width = canvas.shape[:2]
    pixels, patch = cutouts.cut(rng, cutout, (width, height))
    for _ in range(_PLACES_TRIED):
        y = int(rng.integers(max(height - patch.shape[0], 0) + 1))
        x = int(rng.integers(max(width - patch.shape[1], 0) + 1))
        where = np.s_[y : y + patch.shape[0], x : x + patch.shape[1]]
        alpha = np.zeros((height, width), np.float32)
        alpha[where] = patch
        layer = Layer(cutout, is_object, alpha)
        if all(hidden <= MAX_HIDDEN for *_, hidden in visibility((*layers, layer))):
            canvas[where] += patch[..., None] * (pixels - canvas[where])
            return layer
    return None


def annotation_xml(scene: Scene, image_id: str) -> bytes:
    """The scene's VOC annotation."""
    root = ET.Element("annotation")

    def add(parent: ET.Element, tag: str, text: object = None) -> ET.Element:
        child = ET.SubElement(parent, tag)
        child.text = None if text is None else str(text)
        return child

    add(root, "folder", "scenes")
    add(root, "filename", f"{image_id}.jpg")
    size = add(root, "size")
    height, width, depth = scene.image.shape
    for tag, number in (("width", width), ("height", height), ("depth", depth)):
        add(size, tag, number)
    add(root, "segmented", 0)
    for item in scene.objects:
        element = add(root, "object")
        add(element, "name", item.name)
        add(element, "difficult", int(item.difficult))
        corners = add(element, "bndbox")
        for tag, number in zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True):
            add(corners, tag, number)
    ET.indent(root)
    return ET.tostring(root) + b"\n"


def sources() -> str:
    """Markdown: each photograph's title, author, licence and address."""
    lines = [
        "# Sources",
        "",
        "These scenes were composed by `ohem_tf.data.scenes` from photographs that ship with",
        "scikit-image (`skimage/data`). Authors and licences as scikit-image states them:",
        "",
        "| file | photograph | author | licence | source |",
        "|---|---|---|---|---|",
    ]
    for name, credit in sorted(cutouts.table()["photographs"].items()):
        fields = (credit[key] for key in ("title", "author", "licence", "source"))
        lines.append(f"| {name} | {' | '.join(fields)} |")
    return "\n".join(lines) + "\n"


def write(
    directory: str | os.PathLike[str], train: int = 300, val: int = 100, seed: int = 0
) -> None:
    """Writes a VOC folder of `train` and `val` scenes: the same bytes for the same seed.

    JPEGImages/train_0001.jpg ..., Annotations/, ImageSets/Main/{train,val}.txt, SOURCES.md.

    Raises:
      InputError: a negative count or seed, scikit-image absent, or a directory that cannot be
        written.
    """
    for name, value in (("train", train), ("val", val), ("seed", seed)):
        if value < 0:
            raise InputError(f"scenes: {name} is {value}; expected 0 or more")
    root = Path(directory)
    images, annotations, lists = (
        root / name for name in ("JPEGImages", "Annotations", "ImageSets/Main")
    )
    try:
        for folder in (images, annotations, lists):
            folder.mkdir(parents=True, exist_ok=True)
        for split, count in zip(cutouts.SPLITS, (train, val), strict=True):
            image_ids = [f"{split}_{number:04d}" for number in range(1, count + 1)]
            for image_id, scene in zip(image_ids, compose(seed, split), strict=False):
                picture = Image.fromarray(scene.image)
                picture.save(images / f"{image_id}.jpg", quality=_QUALITY)
                (annotations / f"{image_id}.xml").write_bytes(annotation_xml(scene, image_id))
            (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in image_ids))
        (root / "SOURCES.md").write_text(sources(), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error}); give another folder") from None


def _framed(scene: Scene, scale: float, colours: dict[str, str]) -> Image.Image:
    """The scene, scaled, with its boxes and names drawn."""
    picture = Image.fromarray(scene.image)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=11)
    corners = [(np.asarray(item.box) - (1, 1, 0, 0)) * scale for item in scene.objects]
    for item, (left, top, right, bottom) in zip(scene.objects, corners, strict=True):
        outline = [left, top, right - 1, bottom - 1]
        draw.rectangle(outline, outline=colours[item.name], width=2)
    for item, (left, top, *_) in zip(scene.objects, corners, strict=True):
        label = f"{item.name}, difficult" if item.difficult else item.name
        length = draw.textlength(label, font=font) + 4
        left, top = max(min(left, picture.width - length), 0), max(top - 13, 0)
        draw.rectangle([left, top, left + length, top + 13], fill=colours[item.name])
        draw.text((left + 2, top), label, fill="black", font=font)
    return picture


def montage(scenes: Sequence[Scene], columns: int = 4, width: int = 1000) -> Image.Image:
    """Draws scenes with their boxes, `columns` to a row, on a sheet `width` pixels wide."""
    colours = dict(zip(cutouts.cast("train").classes, _COLOURS, strict=True))
    gap = 6
    rows = []
    for start in range(0, len(scenes), columns):
        row = scenes[start : start + columns]
        shapes = [scene.image.shape for scene in row]
        # One height for the row, such that a full row fills the width.
        room = width - gap * (columns + 1)
        height = room / sum(w / h for h, w, _ in shapes) * len(row) / columns
        rows.append([_framed(scene, height / scene.image.shape[0], colours) for scene in row])
    heights = [max(picture.height for picture in row) + gap for row in rows]
    sheet = Image.new("RGB", (width, sum(heights) + gap), "white")
    y = gap
    for framed, height in zip(rows, heights, strict=True):
        x = gap
        for picture in framed:
            sheet.paste(picture, (x, y))
            x += picture.width + gap
        y += height
    return sheet


def define_flags() -> None:
    """Defines the flags; not at import, since other binaries have flags of the same names."""
    flags.DEFINE_string("output", None, "Directory to write the VOC folder to.")
    flags.DEFINE_integer("train", 300, "Number of training scenes.")
    flags.DEFINE_integer("val", 100, "Number of held-out scenes.")
    flags.DEFINE_integer("seed", 0, "The same seed gives the same bytes.")
    flags.DEFINE_string("montage", None, "Also write a picture of 12 scenes with their boxes here.")


def main(argv: list[str]) -> None:
    """Entry point of the binary."""
    del argv
    values = flags.FLAGS
    if values.output is None and values.montage is None:
        raise InputError("--output is missing; expected a directory (or --montage=PATH)")
    if values.output is not None:
        write(values.output, values.train, values.val, values.seed)
        print(f"{values.output}: {values.train} train and {values.val} val scenes")
    if values.montage is not None:
        parts = (itertools.islice(compose(values.seed, split), 6) for split in cutouts.SPLITS)
        shown = list(itertools.chain.from_iterable(parts))
        try:
            montage(shown).save(values.montage)
        except (OSError, ValueError) as error:
            raise InputError(f"{values.montage}: cannot be written ({error})") from None
        print(f"{values.montage}: 12 scenes with their boxes, the first 6 of each split")


def cli() -> None:
    """Entry point with the flags."""
    define_flags()
    errors.run(main)


if __name__ == "__main__":
    cli()
