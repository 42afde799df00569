"""Which part of an image a thumbnail shows, and where its boxes are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ohem_tf.checking.findings import Mark
from ohem_tf.checking.thumbnails import SIDE, thumbnail, window


def encoded(height=200, width=400, mode="RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (0, 0, 255)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(data, *marks) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(thumbnail(data, marks)))).astype(int)


def ends(line) -> tuple[int, int]:
    """The first and the last orange pixel of a row or column."""
    orange = np.flatnonzero((line[:, 0] > 180) & (line[:, 2] < 120))
    return int(orange.min()), int(orange.max())


def test_without_boxes_the_whole_image_is_shown():
    assert pixels(encoded()).shape == (SIDE // 2, SIDE, 3)
    assert pixels(encoded(mode="L")).shape == (SIDE // 2, SIDE, 3)


def test_a_large_box_is_drawn_in_the_whole_image():
    picture = pixels(encoded(), Mark((50, 100, 150, 300)))
    assert picture.shape == (SIDE // 2, SIDE, 3)
    scale = SIDE / 400
    assert ends(picture[80]) == pytest.approx((100 * scale, 300 * scale), abs=2)
    assert ends(picture[:, 160]) == pytest.approx((50 * scale, 150 * scale), abs=2)


def test_around_a_small_box_is_cut_out():
    top, left, bottom, right = window(1000, 1000, [Mark((500, 600, 520, 620))])
    assert (top, left, bottom, right) == (476, 576, 544, 644)
    assert window(1000, 1000, [Mark((0, 990, 8, 1000))]) == (0, 966, 32, 1000)
    picture = pixels(encoded(200, 400), Mark((50, 150, 60, 170)))
    scale = SIDE / (20 + 2 * 24)
    assert ends(picture[round(29 * scale)]) == pytest.approx((24 * scale, 44 * scale), abs=2)
    assert ends(picture[:, round(34 * scale)]) == pytest.approx((24 * scale, 34 * scale), abs=2)


def test_what_is_outside_is_black():
    picture = pixels(encoded(100, 100), Mark((20, 80, 60, 150)))
    assert picture.shape == (round(SIDE * 100 / 150), SIDE, 3)
    assert picture[-20, 10, 2] > 200
    assert picture[-20, -10].max() < 30


SIDES = st.floats(-1e6, 1e6) | st.floats(-50, 150)


@given(st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES), min_size=1, max_size=3))
def test_any_box_can_be_shown(boxes):
    marks = [Mark(box, "cat 0.50") for box in boxes]
    top, left, bottom, right = window(60, 100, marks)
    assert top <= bottom <= top + 180
    assert left <= right <= left + 300
    picture = pixels(_DATA, *marks)
    assert max(picture.shape) <= SIDE


_DATA = encoded(60, 100)


def test_no_image():
    with pytest.raises(ValueError, match="not an image"):
        thumbnail(b"hello", ())


def test_what_stands_beside_has_another_colour():
    picture = pixels(encoded(), Mark((50, 100, 150, 300)), Mark((20, 20, 40, 60), beside=True))
    scale = SIDE / 400
    orange, blue = picture[round(50 * scale), 160], picture[round(20 * scale), 32]
    assert orange[0] > 180 > 120 > orange[2]
    assert blue[0] < 120 < 180 < blue[1]
