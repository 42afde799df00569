"""What is worth a look in an image: hashes against a DCT of scipy, boxes by hand."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from by_hand import iou
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn

from ohem_tf.data import checks, remarks


def picture(seed=0, size=(80, 60)) -> Image.Image:
    """Smooth blobs, as a photograph has."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def look(data: bytes, *objects) -> remarks.Look:
    return remarks.look_at(checks.open_image(data), data, objects, "a.png", "a.xml")


def item(number, box, name="cat", crowd=False) -> checks.Object:
    return checks.Object(name, box, False, crowd, None, f"object {number}", str(box))


def distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_the_hash_is_the_signs_of_low_frequencies():
    image = picture()
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
    low = dctn(grey, norm="ortho")[:8, :8]
    low[0, 0] = 0  # the mean brightness
    expected = (low > low.mean()).ravel()
    found = remarks.perceptual_hash(image)
    bits = np.array([found >> i & 1 for i in range(64)], bool)
    # float32 in OpenCV: a frequency next to the mean may fall on either side.
    assert np.sum(bits != expected) <= 1


def test_copies_are_near_and_others_far():
    hashes = [remarks.perceptual_hash(picture(seed)) for seed in range(20)]
    for seed, original in enumerate(hashes):
        image = picture(seed, (160, 120))
        jpeg = Image.open(io.BytesIO(encoded(image, "JPEG", quality=30)))
        assert distance(remarks.perceptual_hash(jpeg), original) <= 5
        assert all(distance(original, other) > 5 for other in hashes[:seed])


def test_a_16_bit_image_has_the_hash_of_its_8_bits():
    grey = picture().convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    shallow = remarks.perceptual_hash(grey)
    assert distance(remarks.perceptual_hash(deep), shallow) <= 1


def test_an_image_of_one_colour_has_no_hash():
    for colour in (0, 255):
        assert remarks.perceptual_hash(Image.new("RGB", (40, 40), (colour,) * 3)) is None


@pytest.mark.parametrize(
    ("data", "traits"),
    [
        (encoded(picture()), ()),
        (encoded(picture().convert("L"), "JPEG"), ("greyscale",)),
        (encoded(picture().convert("P")), ()),
        (encoded(picture().convert("CMYK"), "JPEG"), ("CMYK",)),
        (
            encoded(Image.fromarray(np.full((8, 8), 4000, np.uint16))),
            ("greyscale", "16 bits"),
        ),
        (cv2.imencode(".png", np.full((8, 8, 3), 4000, np.uint16))[1].tobytes(), ("16 bits",)),
    ],
)
def test_traits(data, traits):
    assert look(data).traits == traits
    assert look(data).remarks == ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_orientation(kind):
    exif = Image.Exif()
    for value in (1, 6):
        exif[0x0112] = value
        found = look(encoded(picture(), kind, exif=exif), item(1, (0, 0, 20, 20))).remarks
        assert [remark.kind for remark in found] == (["turned by EXIF"] if value > 1 else [])
    assert "orientation is 6" in found[0].message
    assert found[0].boxes == ((0, 0, 20, 20),)


def test_damaged_exif_is_no_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    good = encoded(picture(), "JPEG", exif=exif)
    start = good.index(b"Exif\0\0") + 6
    for end in range(start, start + 24, 3):
        damaged = good[:start] + b"\xff" * (end - start) + good[end:]
        assert all(remark.kind == "turned by EXIF" for remark in look(damaged).remarks)


def test_tiny_boxes():
    objects = [
        *(item(1, (0, 0, 4, 4)), item(2, (0, 0, 3.9, 30)), item(3, (0, 0, 30, 1))),
        item(4, (0, 0, 2, 2), crowd=True),
    ]
    found = look(encoded(picture()), *objects).remarks
    assert [(r.kind, r.boxes) for r in found] == [
        ("tiny box", (objects[1].box,)),
        ("tiny box", (objects[2].box,)),
    ]
    assert found[1].message == (
        "a.xml: object 3 (cat): the box (0, 0, 30, 1) is 1 px wide and 30 px high"
    )


def test_three_boxes_of_one_object_are_two_too_many():
    objects = [item(i, (0, 0, 30, 30 + i * 0.5)) for i in range(1, 4)]
    other = item(4, (0, 0, 30, 30), name="dog")
    crowd = item(5, (0, 0, 30, 30), crowd=True)
    found = look(encoded(picture()), *objects, other, crowd).remarks
    assert [r.kind for r in found] == ["doubled box"] * 2
    assert [r.boxes[1] for r in found] == [objects[1].box, objects[2].box]
    assert found[0].message.startswith("a.xml: object 2 (cat) has about the box of object 1: IoU 0")


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=6))
def test_doubled_is_iou_by_hand(shifts):
    boxes = [(float(y), float(x), y + 40.0, x + 40.0) for y, x in shifts]
    found = look(_DATA, *(item(i, box) for i, box in enumerate(boxes)))
    expected = sum(
        any(iou(np.array(box), np.array(other)) > 0.9 for other in boxes[:i])
        for i, box in enumerate(boxes)
    )
    assert len(found.remarks) == expected


_DATA = encoded(picture(), "JPEG")
