"""Outlines lie within their photographs, and cutting follows them."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest

from ohem_tf.data import cutouts
from ohem_tf.errors import InputError

needs_photographs = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed"
)
DOCS = Path(__file__).parents[2] / "docs" / "scenes.md"


def shoelace(outline) -> float:
    x, y = outline.T
    return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


def inside(outline, width, height) -> np.ndarray:
    """[height, width] bool by the even-odd rule at pixel centres."""
    ys, xs = np.mgrid[:height, :width] + 0.5
    odd = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = ((ys < y0) != (ys < y1)) & (xs < x0 + (ys - y0) / (y1 - y0) * (x1 - x0))
            odd ^= crosses
    return odd


@needs_photographs
@pytest.mark.parametrize("split", cutouts.SPLITS)
def test_outlines_and_textures_lie_within_their_photographs(split):
    cast = cutouts.cast(split)
    for cutout in (*cast.objects, *cast.distractors):
        size = np.asarray(cutouts.photograph(cutout.photograph).size)
        assert (cutout.outline >= 0).all(), cutout.name
        assert (cutout.outline <= size).all(), cutout.name
        extent = np.ptp(cutout.outline, axis=0)
        # A cut that is a thin sliver or a whole photograph would be a slip of the pen.
        assert 0.25 < shoelace(cutout.outline) / extent.prod() < 0.95, cutout.name
    for texture in cast.textures:
        left, top, right, bottom = texture.box
        width, height = cutouts.photograph(texture.photograph).size
        assert 0 <= left < right <= width, texture.name
        assert 0 <= top < bottom <= height, texture.name


@needs_photographs
def test_splits_share_classes_but_no_texture_no_distractor_and_no_coin():
    train, val = (cutouts.cast(split) for split in cutouts.SPLITS)
    assert train.classes == val.classes
    assert len(train.classes) == 8
    assert not {t.photograph for t in train.textures} & {t.photograph for t in val.textures}
    assert not {d.name for d in train.distractors} & {d.name for d in val.distractors}

    def masks(parts, photograph) -> list[np.ndarray]:
        size = cutouts.photograph(photograph).size
        return [inside(p.outline, *size) for p in parts if p.photograph == photograph]

    # No pixel of a photograph is in a distractor of both splits, nor in a coin of both.
    for name in {d.photograph for d in train.distractors}:
        pairs = itertools.product(masks(train.distractors, name), masks(val.distractors, name))
        assert not any((a & b).any() for a, b in pairs), name
    coins = [masks(cast.objects, "coins.png") for cast in (train, val)]
    assert min(map(len, coins)) >= 6
    assert not any((a & b).any() for a, b in itertools.product(*coins))


@needs_photographs
def test_cut_follows_the_outline(monkeypatch):
    monkeypatch.setattr(cutouts, "_MAX_ROTATION", 0)
    rng = np.random.default_rng(0)
    for cutout in cutouts.cast("train").objects:
        pixels, alpha = cutouts.cut(rng, cutout, (320, 240))
        height, width = alpha.shape
        assert pixels.shape == (height, width, 3)
        assert alpha.min() >= 0
        assert alpha.max() == 1
        low = np.floor(cutout.outline.min(axis=0))
        extent = np.ceil(cutout.outline.max(axis=0)) - low
        scaled = (cutout.outline - low) / extent * (width, height)
        assert alpha.sum() == pytest.approx(shoelace(scaled), rel=0.02), cutout.name
        mask, shape = alpha >= 0.5, inside(scaled, width, height)
        # As it is or flipped from left to right.
        different = min(np.mean(mask != shape), np.mean(mask != shape[:, ::-1]))
        assert different < 0.02, cutout.name


@needs_photographs
@pytest.mark.parametrize("frame", [(320, 240), (100, 60)])
def test_cut_fits_the_frame(frame):
    rng = np.random.default_rng(1)
    for cutout in cutouts.cast("val").objects * 3:
        _, alpha = cutouts.cut(rng, cutout, frame)
        assert alpha.shape[1] <= frame[0]
        assert alpha.shape[0] <= frame[1]


@needs_photographs
def test_background_fills_the_frame_in_either_direction():
    rng = np.random.default_rng(2)
    for split in cutouts.SPLITS:
        for size in [(320, 240), (240, 320)] * 6:
            canvas = cutouts.background(rng, cutouts.cast(split).textures, size)
            assert canvas.shape == (size[1], size[0], 3)
            assert canvas.min() >= 0
            assert canvas.max() <= 255
            assert canvas.std() > 0.5


def test_every_photograph_is_credited_and_documented():
    table = cutouts.table()
    used = {
        entry["photograph"]
        for kind in ("objects", "distractors", "textures")
        for entry in table[kind]
    }
    assert used <= set(table["photographs"])
    text = DOCS.read_text(encoding="utf-8")
    for name, credit in table["photographs"].items():
        assert all(credit[key] for key in ("title", "author", "licence", "source")), name
        row = next((line for line in text.splitlines() if f"| {name} |" in line), "")
        assert credit["author"] in row, name
        assert credit["licence"] in row, name


def test_absent_photographs_are_named(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(InputError, match="scikit-image is not installed"):
            cutouts.photograph.__wrapped__("chelsea.png")
    if importlib.util.find_spec("skimage"):
        with pytest.raises(InputError, match=r"no_such\.png: cannot be read"):
            cutouts.photograph("no_such.png")


def test_unknown_split_is_named():
    with pytest.raises(InputError, match="'test'; expected one of train, val"):
        cutouts.cast("test")
