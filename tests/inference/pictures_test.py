"""The pictures that detect and the serving client write."""

import json

import numpy as np
import pytest
from PIL import Image

from ohem_tf.errors import InputError
from ohem_tf.inference import pictures
from ohem_tf.inference.detection import Detections

IMAGE = np.full((40, 60, 3), 90, np.uint8)
FOUND = Detections(
    np.array([[1.0, 2.0, 30.04, 40.0], [5, 5, 20, 20]], np.float32),
    np.array([0.9, 0.3], np.float32),
    np.array([2, 1], np.int32),
)


def test_pictures_that_would_overwrite_each_other_are_refused():
    assert pictures.names(["a/1.jpg", "b/2.png"]) == ["1", "2"]
    with pytest.raises(InputError, match="would overwrite"):
        pictures.names(["a/1.jpg", "b/1.png"])
    with pytest.raises(InputError, match="would overwrite"):
        pictures.names(["detections.jpg"])


def test_find_sorts_and_cuts(tmp_path):
    for name in ("c.png", "a.png", "b.jpg"):
        (tmp_path / name).touch()
    found = pictures.find(f"{tmp_path}/*.png", 0)
    assert found == [f"{tmp_path}/a.png", f"{tmp_path}/c.png"]
    assert pictures.find(f"{tmp_path}/*", 1) == [f"{tmp_path}/a.png"]
    with pytest.raises(InputError, match="--images: no file matches"):
        pictures.find(f"{tmp_path}/*.gif", 0)


def test_an_album_draws_the_sure_ones_and_lists_all(tmp_path):
    paths = ["x/one.png", "x/two.jpg"]
    album = pictures.Album(str(tmp_path / "out"), paths, ("cat", "dog"), 0.5)
    album.add(paths[0], IMAGE, FOUND)
    album.add(paths[1], IMAGE, Detections(*(x[:0] for x in FOUND)))
    assert album.finish().startswith("2 pictures")
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
