"""Images that are cut off or no images, modes, and boxes at the border."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ohem_tf.data import checks
from ohem_tf.errors import InputError

HEIGHT, WIDTH = 24, 32


def make_image(mode="RGB", kind="JPEG", **options) -> bytes:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 255, (3, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def make_entry(path, *boxes, **changes) -> checks.Entry:
    objects = tuple(
        checks.Object("cat", box, False, False, None, f"object {i}", str(box))
        for i, box in enumerate(boxes, 1)
    )
    entry = checks.Entry("a", str(path), "a.xml", HEIGHT, WIDTH, objects)
    return dataclasses.replace(entry, **changes)


def check(tmp_path, data: bytes, *boxes, **changes) -> checks.Checked:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    return checks.check_entry(make_entry(path, *boxes, **changes))


JPEG = make_image()
PNG = make_image(kind="PNG")


@pytest.mark.parametrize(
    "data",
    [
        *(JPEG[:-2], JPEG[: len(JPEG) // 2], JPEG[:100], PNG[:-1], PNG[:-12], PNG[: len(PNG) // 2]),
        *(make_image(progressive=True)[:-40], b"", b"GIF89a", b"<html>"),
    ],
)
def test_damaged_images_are_found(tmp_path, data):
    checked = check(tmp_path, data, (0, 0, 5, 5))
    assert not checked.readable
    assert checked.objects == ()
    assert [problem.cause for problem in checked.problems] == ["image unreadable"]
    message = checked.problems[0].message
    assert message.startswith(str(tmp_path / "a.jpg"))
    assert "\n" not in message


def test_missing_image(tmp_path):
    checked = checks.check_entry(make_entry(tmp_path / "none.jpg"))
    assert [problem.cause for problem in checked.problems] == ["image missing"]
    checked = checks.check_entry(make_entry(None, image_path=None, missing="a.jpg: is missing"))
    assert checked.problems == (checks.Problem("image missing", "a.jpg: is missing"),)


def test_boxes_at_the_border(tmp_path):
    inside = [(0, 0, HEIGHT, WIDTH), (3.5, 4, 5, 6)]
    a_little_out = [(-1, 0, 5, 5), (0, -0.5, 5, 5), (0, 0, HEIGHT + 1, 5), (0, 0, 5, WIDTH + 0.25)]
    too_far = [
        *[(-1.01, 0, 5, 5), (0, -2, 5, 5), (0, 0, HEIGHT + 1.5, 5), (0, 0, 5, WIDTH + 40)],
        *[(HEIGHT, 0, HEIGHT + 1, 5), (0, WIDTH + 0.5, 5, WIDTH + 1)],  # nothing left when clipped
    ]
    checked = check(tmp_path, JPEG, *inside, *a_little_out, *too_far)
    limits = [HEIGHT, WIDTH, HEIGHT, WIDTH]
    expected = [tuple(np.clip(box, 0, limits).tolist()) for box in inside + a_little_out]
    assert [item.box for item in checked.objects] == expected
    assert checked.clipped == len(a_little_out)
    assert [problem.cause for problem in checked.problems] == ["box outside the image"] * 6
    first = checked.problems[0].message
    assert first.startswith("a.xml: object 7 (cat): the box (-1.01, 0, 5, 5) lies 1.01 px outside")


def test_size_must_be_that_of_the_annotation(tmp_path):
    with pytest.raises(InputError, match=r"a\.xml: says width 31, but .*a\.jpg has 32"):
        check(tmp_path, JPEG, width=31)
    assert check(tmp_path, JPEG, width=None, height=None).width == WIDTH


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    data = make_image(exif=exif)
    assert (check(tmp_path, data).height, check(tmp_path, data).width) == (HEIGHT, WIDTH)
    (tmp_path / "a.jpg").write_bytes(data)
    assert checks.read_encoded(str(tmp_path / "a.jpg")) == (data, "jpeg")


@pytest.mark.parametrize(
    ("mode", "kind", "stored"),
    [
        *[("RGB", "JPEG", "jpeg"), ("L", "JPEG", "jpeg"), ("RGB", "PNG", "png")],
        *[("L", "PNG", "png"), ("LA", "PNG", "png"), ("RGBA", "PNG", "png")],
        *[("P", "PNG", "png"), ("1", "PNG", "png")],
    ],
)
def test_jpeg_and_png_are_kept_byte_for_byte(tmp_path, mode, kind, stored):
    data = make_image(mode, kind)
    (tmp_path / "x").write_bytes(data)
    assert checks.read_encoded(str(tmp_path / "x")) == (data, stored)
    assert tf.io.decode_image(data, channels=3).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "JPEG"), ("RGB", "BMP"), ("RGB", "GIF"), ("RGB", "TIFF")]
)
def test_others_are_stored_as_png(tmp_path, mode, kind):
    data = make_image(mode, kind)
    (tmp_path / "x").write_bytes(data)
    encoded, stored = checks.read_encoded(str(tmp_path / "x"))
    assert stored == "png"
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(tf.io.decode_image(encoded, channels=3), expected)


def test_unknown_class(tmp_path):
    checked = check(tmp_path, JPEG, (0, 0, 5, 5))
    item = checked.objects[0]
    assert checks.check_class(item, checked, ("cat", "dog")) is None
    problem = checks.check_class(item, checked, ("dog", "cow"))
    assert problem.cause == "unknown class"
    assert problem.message == ("a.xml: object 1: unknown class 'cat'; expected one of dog, cow")
