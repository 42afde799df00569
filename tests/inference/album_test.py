"""The image files that detect and the serving client read, and what they write."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
import tiny_voc
from PIL import Image

from ohem_tf import images
from ohem_tf.data import one_image, records
from ohem_tf.errors import InputError
from ohem_tf.inference import album
from ohem_tf.inference.detection import Detections

IMAGE = np.full((40, 60, 3), 90, np.uint8)
FOUND = Detections(
    np.array([[1.0, 2.0, 30.04, 40.0], [5, 5, 20, 20]], np.float32),
    np.array([0.9, 0.3], np.float32),
    np.array([2, 1], np.int32),
)


def test_outputs_that_would_overwrite_each_other_are_refused():
    assert album.names(["a/1.jpg", "b/2.png"]) == ["1", "2"]
    with pytest.raises(InputError, match="would overwrite"):
        album.names(["a/1.jpg", "b/1.png"])
    with pytest.raises(InputError, match="would overwrite"):
        album.names(["detections.jpg"])


def test_find_sorts_and_cuts(tmp_path):
    for name in ("c.png", "a.png", "b.jpg"):
        (tmp_path / name).touch()
    found = album.find(f"{tmp_path}/*.png", 0)
    assert found == [f"{tmp_path}/a.png", f"{tmp_path}/c.png"]
    assert album.find(f"{tmp_path}/*", 1) == [f"{tmp_path}/a.png"]
    with pytest.raises(InputError, match="--images: no file matches"):
        album.find(f"{tmp_path}/*.gif", 0)


def file_of(kind):
    """An image file of 40 x 60 pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    image = Image.fromarray(noise).resize((60, 40), Image.Resampling.BICUBIC)
    options = {}
    if kind == "JPEG turned by EXIF":
        options["exif"] = image.getexif()
        options["exif"][0x0112] = 6
    elif kind == "CMYK JPEG":
        image = image.convert("CMYK")
    elif kind == "grey JPEG":
        image = image.convert("L")
    elif kind == "16-bit PNG":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    buffer = io.BytesIO()
    image.save(buffer, kind.split()[-1] if "EXIF" not in kind else "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("JPEG", True),
        ("JPEG turned by EXIF", True),
        ("grey JPEG", True),
        ("CMYK JPEG", False),
        ("16-bit PNG", True),
        ("GIF", False),
        ("BMP", False),
        ("WEBP", False),
    ],
)
def test_an_image_has_the_pixels_of_its_record(kind, kept, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(file_of(kind))
    encoded, pixels = album.read(str(path))
    assert (encoded == path.read_bytes()) == kept
    entry = tiny_voc.checked(image_path=str(path), height=40, width=60)
    settings = one_image.Settings(("cat", "dog"))
    record, _ = one_image.make_record(entry, np.zeros((0, 4), np.float32), settings)
    stored = records.parse_example(tf.constant(one_image.serialize(record, settings.classes)))
    assert stored["encoded"].numpy() == encoded
    np.testing.assert_array_equal(pixels, images.decode(stored["encoded"]))
    assert pixels.shape == (40, 60, 3)


def test_an_image_that_only_pillow_decodes_is_read_as_a_png(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(file_of("JPEG"))
    decode = tf.io.decode_image

    def only_png(encoded, **kwargs):
        if encoded.startswith(b"\xff\xd8"):
            raise tf.errors.InvalidArgumentError(None, None, "no JPEG today")
        return decode(encoded, **kwargs)

    monkeypatch.setattr(tf.io, "decode_image", only_png)
    encoded, pixels = album.read(str(path))
    assert encoded.startswith(b"\x89PNG")
    np.testing.assert_array_equal(pixels, Image.open(path))


def test_a_file_that_is_no_image_is_one_line(tmp_path):
    (tmp_path / "text").write_bytes(b"hello")
    (tmp_path / "half.jpg").write_bytes(file_of("JPEG")[:300])
    for name, words in (("text", "not an image"), ("half.jpg", "truncated"), ("no", "No such")):
        with pytest.raises(InputError, match=f"image .*{name}: .*{words}") as error:
            album.read(str(tmp_path / name))
        assert "\n" not in str(error.value)


def test_an_album_draws_the_sure_ones_and_lists_all(tmp_path):
    paths = ["x/one.png", "x/two.jpg"]
    made = album.Album(str(tmp_path / "out"), paths, ("cat", "dog"), 0.5)
    made.add(paths[0], IMAGE, FOUND)
    made.add(paths[1], IMAGE, Detections(*(x[:0] for x in FOUND)))
    assert made.finish().startswith("2 images")
    drawn = np.asarray(Image.open(tmp_path / "out" / "one.png"))
    assert drawn.shape == IMAGE.shape
    assert np.any(drawn[2:30, 2:4] != 90)  # the left edge of the dog
    assert np.all(drawn[34:, 45:] == 90)
    assert np.all(np.asarray(Image.open(tmp_path / "out" / "two.png")) == 90)
    assert (tmp_path / "out" / "detections.png").exists()
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == {
        "x/one.png": [
            {"class": "dog", "score": 0.9, "box": [1.0, 2.0, 30.0, 40.0]},
            {"class": "cat", "score": 0.3, "box": [5.0, 5.0, 20.0, 20.0]},
        ],
        "x/two.jpg": [],
    }
