"""ohem_tf.mine: which images are taken, and that what it writes is prepared and trained on."""

from __future__ import annotations

import json

import command_line
import numpy as np
import pytest
import tiny_formats
from PIL import Image

from ohem_tf import mine, prepare
from ohem_tf.data import records
from ohem_tf.data.joined import open_split
from ohem_tf.data.options import Options, read_classes
from ohem_tf.data.reader import RecordReader
from ohem_tf.inference.detection import Detections


def detections(*scores) -> Detections:
    boxes = np.array([[2, 3, 20, 30]] * len(scores), np.float32).reshape(-1, 4)
    return Detections(boxes, np.float32(scores), np.ones(len(scores), np.int32))


def image(path: str, *scores, look: int | None = None) -> mine.FalsePositives:
    return mine.FalsePositives(path, detections(*scores), look)


def test_the_hardest_first_and_copies_once():
    images = [
        image("none"),
        image("low", 0.3, 0.4),
        image("sure", 0.2, 0.9, look=7 << 40),
        image("copy", 0.95, look=7 << 40 | 3),  # two bits from "sure", and surer
        image("b", 0.6),
        image("a", 0.6, look=1 << 63 | 0xFFFF),
    ]
    for order in (images, images[::-1]):
        assert [i.path for i in mine.hardest(order, 0.5, 0)] == ["copy", "a", "b"]
        assert [i.path for i in mine.hardest(order, 0.5, 2)] == ["copy", "a"]
        assert [i.path for i in mine.hardest(order, 0.25, 0)] == ["copy", "a", "b", "low"]
    assert mine.hardest(images[:1], 0.5, 0) == []


class Brightness:
    """A detector that is as sure as an image is red."""

    classes = ("dog", "cat")
    needs_proposals = False

    def detect(self, image, proposals=None):
        assert proposals is None
        return detections(float(image[..., 0].mean()) / 255)


@pytest.fixture
def unlabelled(tmp_path, monkeypatch):
    """Pictures of noise, whose redness their names tell."""
    for name, red in (("r10", 10), ("r 150", 150), ("r200", 200), ("r250", 250)):
        pixels = np.random.default_rng(red).integers(0, 255, (40, 60, 3))
        pixels[..., 0] = red
        path = tmp_path / f"unlabelled/{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    Image.open(path).save(path.with_name("r250_again.bmp"))  # a copy
    monkeypatch.setattr(mine, "load", lambda path, checkpoint: Brightness())
    return path.parent


def run(unlabelled, output, *flags):
    places = (f"--images={unlabelled}/*", f"--output={output}")
    return command_line.run("ohem_tf.mine", "--workdir=x", *places, *flags)


def test_what_is_mined_is_prepared_and_joined(unlabelled, tmp_path):
    mined = tmp_path / "mined"
    done = run(unlabelled, mined)
    assert done.returncode == 0, done.stderr
    assert "4 of 5 images have a detection of 0.5 or more" in done.stdout
    assert f"3 images in {mined}; look at found/detections.png" in done.stdout
    listed = (mined / "ImageSets/Main/train.txt").read_text().split()
    assert listed == ["r250", "r200", "r_150"]
    assert (mined / "JPEGImages/r200.png").read_bytes() == (unlabelled / "r200.png").read_bytes()
    found = json.loads((mined / "found/detections.json").read_text())
    assert [row[0]["score"] for row in found.values()] == [0.9804, 0.7843, 0.5882]
    assert (mined / "found/detections.png").exists()
    assert (mined / "found/r 150.png").exists()

    classes = read_classes(str(mined / "classes.txt"))
    assert classes == Brightness.classes
    given = {"classes": classes, "proposals": "none"}
    prepare.prepare(Options("auto", str(mined), ("train",), str(tmp_path / "r/mined"), **given))
    for item in RecordReader(tmp_path / "r/mined", "train"):
        record = records.from_example(item)
        assert (len(record.boxes), record.height, record.width) == (0, 40, 60)
    mine_root = tiny_formats.make(tmp_path / "mine", "yolo")
    prepare.prepare(
        Options("auto", str(mine_root), ("train",), str(tmp_path / "r/mine"), proposals="none")
    )
    both = open_split(tmp_path / "r", "mine/train+mined/train", "config.data.train_split")
    assert both.image_ids == ("a", "b", "c", "empty", "r250", "r200", "r_150")


def test_fewer_and_none(unlabelled, tmp_path):
    assert run(unlabelled, tmp_path / "one", "--max_mined=1").returncode == 0
    assert (tmp_path / "one/ImageSets/Main/train.txt").read_text() == "r250\n"
    done = run(unlabelled, tmp_path / "none", "--min_score=0.99")
    assert (done.returncode, done.stdout) == (
        0,
        "0 of 5 images have a detection of 0.99 or more\n",
    )
    assert not (tmp_path / "none/ImageSets").exists()
    done = run(unlabelled, tmp_path / "one")
    assert "holds data already; expected another folder" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "expected --workdir or --saved_model, one of them"),
        (("--workdir=x", "--saved_model=y"), "expected --workdir or --saved_model, one of them"),
        (
            ("--saved_model=y", "--checkpoint=best"),
            "--checkpoint: has no effect with --saved_model",
        ),
        (("--workdir=x", "--output=y"), "--images is missing"),
        (("--workdir=x", "--images=y"), "--output is missing"),
        (("--workdir=x", "--images=y", "--output=z", "--min_score=1"), "--min_score=1.0: expected"),
    ],
)
def test_flags_that_cannot_work(flags, message):
    done = command_line.run("ohem_tf.mine", *flags)
    assert done.returncode == 1
    assert message in done.stderr


def test_two_images_of_one_id(unlabelled, tmp_path):
    (unlabelled / "r_150.png").write_bytes((unlabelled / "r 150.png").read_bytes())
    done = run(unlabelled, tmp_path / "out")
    assert done.returncode == 1
    assert "would both be image r_150; expected files of other names" in done.stderr
