"""The embedded scenes: boxes, reproducibility, the VOC folder, bad input."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from ohem_tf.data import cutouts, scenes, voc
from ohem_tf.errors import InputError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed"
)


def take(count, seed=0, split="train") -> list[scenes.Scene]:
    return list(itertools.islice(scenes.compose(seed, split), count))


def all_files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    scenes.write(root, train=9, val=8, seed=0)
    return root


@pytest.mark.parametrize("split", cutouts.SPLITS)
def test_boxes_are_those_of_the_visible_pixels(split):
    seen_difficult = set()
    for scene in take(25, seed=3, split=split):
        height, width = scene.image.shape[:2]
        # From the front to the back: what is left of the light after each layer.
        light = np.ones((height, width))
        expected = []
        for layer in reversed(scene.layers):
            assert layer.alpha.shape == (height, width)
            if layer.is_object:
                ys, xs = np.nonzero(light * layer.alpha >= 0.5 - 1e-6)
                hidden = 1 - len(ys) / np.sum(layer.alpha >= 0.5)
                assert hidden <= 0.6 + 1e-3
                box = (xs.min() + 1, ys.min() + 1, xs.max() + 1, ys.max() + 1)
                expected.append((layer.cutout.name, box, hidden > 0.4))
            light *= 1 - layer.alpha
        found = [(item.name, item.box, item.difficult) for item in scene.objects]
        assert found == expected[::-1]
        assert 1 <= len(found) <= 5
        seen_difficult |= {difficult for *_, difficult in found}
    assert seen_difficult == {False, True}


def test_layers_say_what_the_picture_shows(monkeypatch):
    blue = np.array([0, 0, 255], np.float32)
    monkeypatch.setattr(
        cutouts, "background", lambda rng, textures, size: np.tile(blue, (size[1], size[0], 1))
    )
    for scene in take(8):
        covered = np.max([layer.alpha for layer in scene.layers], axis=0)
        untouched = (scene.image == blue).all(axis=-1)
        assert untouched[covered == 0].all()
        assert not untouched[covered >= 0.5].any()
        top = scene.layers[-1]
        # The last cutout lies in front: nothing blue is left of it where it is opaque.
        assert (np.abs(scene.image[top.alpha == 1] - blue).max(axis=-1) > 20).mean() > 0.99


@pytest.mark.parametrize("split", cutouts.SPLITS)
@pytest.mark.parametrize("seed", range(5))
def test_every_class_appears_early(split, seed):
    names = {item.name for scene in take(8, seed, split) for item in scene.objects}
    assert names == set(cutouts.cast(split).classes)


def test_scenes_show_their_own_cast_only():
    for split in cutouts.SPLITS:
        cast = cutouts.cast(split)
        objects = {(c.name, c.outline.tobytes()) for c in cast.objects}
        distractors = {(c.name, c.outline.tobytes()) for c in cast.distractors}
        shown = [layer for scene in take(20, seed=1, split=split) for layer in scene.layers]
        for layer in shown:
            allowed = objects if layer.is_object else distractors
            assert (layer.cutout.name, layer.cutout.outline.tobytes()) in allowed
        assert len({layer.cutout.name for layer in shown if not layer.is_object}) == len(
            cast.distractors
        )


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    scenes.write(tmp_path / "again", train=9, val=8, seed=0)
    scenes.write(tmp_path / "fewer", train=2, val=1, seed=0)
    scenes.write(tmp_path / "other", train=2, val=1, seed=1)
    first, again, fewer, other = (
        all_files(root) for root in (folder, *(tmp_path / n for n in ("again", "fewer", "other")))
    )
    assert first == again
    for name in ("train_0001", "train_0002", "val_0001"):
        picture, notes = f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml"
        assert fewer[picture] == first[picture]
        assert fewer[notes] == first[notes]
        assert other[picture] != first[picture]
        assert other[notes] != first[notes]
    pictures = [data for name, data in first.items() if name.endswith(".jpg")]
    assert len(set(pictures)) == 17


def test_the_folder_reads_as_voc(folder):
    for split, count in (("train", 9), ("val", 8)):
        ids = voc.read_split(folder, split)
        assert len(ids) == count
        for image_id, scene in zip(ids, scenes.compose(0, split), strict=False):
            entry = voc.read_entry(voc.Listed(str(folder), image_id))
            with Image.open(entry.image_path) as picture:
                assert picture.format == "JPEG"
                assert picture.size == (entry.width, entry.height)
                difference = np.asarray(picture.convert("RGB"), float) - scene.image
            assert np.abs(difference).mean() < 12  # what JPEG loses
            assert all(item.problem is None for item in entry.objects)
            for read, item in zip(entry.objects, scene.objects, strict=True):
                xmin, ymin, xmax, ymax = item.box
                assert read.box == (ymin - 1, xmin - 1, ymax, xmax)
                assert 0 <= read.box[0] < read.box[2] <= entry.height
                assert 0 <= read.box[1] < read.box[3] <= entry.width
                assert (read.name, read.difficult) == (item.name, item.difficult)


def test_sources_name_every_author(folder):
    text = (folder / "SOURCES.md").read_text(encoding="utf-8")
    for name, credit in cutouts.table()["photographs"].items():
        assert f"| {name} | {credit['title']} | {credit['author']} | {credit['licence']}" in text


def test_montage_draws_every_box():
    shown = take(5)
    sheet = np.asarray(scenes.montage(shown, columns=3, width=700))
    assert sheet.shape[1] == 700
    plain = [scenes.Scene(scene.image, (), scene.layers) for scene in shown]
    bare = np.asarray(scenes.montage(plain, columns=3, width=700))
    assert sheet.shape == bare.shape
    drawn = sheet[(sheet != bare).any(axis=-1)]
    colours = dict(zip(cutouts.cast("train").classes, scenes._COLOURS, strict=True))
    for name in {item.name for scene in shown for item in scene.objects}:
        colour = [int(colours[name][i : i + 2], 16) for i in (1, 3, 5)]
        assert (drawn == colour).all(axis=-1).sum() > 50, name


@pytest.mark.parametrize("field", ["train", "val", "seed"])
def test_negative_numbers_are_named(field, tmp_path):
    with pytest.raises(InputError, match=f"{field} is -1; expected 0 or more"):
        scenes.write(tmp_path, **{"train": 1, "val": 1, "seed": 0, field: -1})


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="taken: cannot be written"):
        scenes.write(tmp_path / "taken", train=1, val=0)


def test_the_binary_and_its_light_import(tmp_path):
    def run(*command) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, *command], capture_output=True, text=True)

    done = run(
        *("-m", "ohem_tf.data.scenes", f"--output={tmp_path}/voc", "--train=2", "--val=1"),
        f"--montage={tmp_path}/m.png",
    )
    assert done.returncode == 0, done.stderr
    assert voc.read_split(tmp_path / "voc", "train") == ["train_0001", "train_0002"]
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.width == 1000
    failing = (
        "import sys; from ohem_tf import errors; from ohem_tf.data import scenes; "
        "print({'tensorflow', 'skimage', 'cv2'} & {*sys.modules}, flush=True); "
        "scenes.define_flags(); errors.run(scenes.main)"
    )
    failed = run("-c", failing)
    assert failed.stdout.strip() == "set()"
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: --output is missing")
    assert failed.stderr.count("\n") == 1


def test_a_montage_that_cannot_be_written_is_named(tmp_path):
    with flagsaver.flagsaver():
        scenes.define_flags()
        flags.FLAGS(["scenes", f"--montage={tmp_path}/none/m.png"])
        with pytest.raises(InputError, match=r"m\.png: cannot be written"):
            scenes.main([])
