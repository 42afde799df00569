"""Names of hostile data sets: refused where they enter, with the nearest that is taken."""

from __future__ import annotations

import ast
import json
import os

import hypothesis
import hypothesis.strategies as st
import pytest
import tiny_coco
import tiny_voc

from ohem_tf import errors, names, prepare
from ohem_tf.errors import InputError


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("on/off", "on-off"),
        ("a\\b", "a-b"),
        ("two\nlines", "two lines"),
        (" cat", "cat"),
        (".", "unnamed"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("red\x1b[31m", "red [31m"),
        ("\u202egod", "god"),
        ("\ud800x", "x"),
        ("é" * 200, "é" * 90),
        (7, "7"),
    ],
)
def test_a_class_name_that_cannot_be_a_file_name(name, nearest):
    with pytest.raises(InputError) as caught:
        names.check_class(name, "x.xml: object 1")
    assert str(caught.value).endswith(f"expected {nearest!r}, say")
    assert str(caught.value).startswith("x.xml: object 1: the class name ")
    assert str(caught.value).isprintable()
    names.check_class(nearest, "")


@hypothesis.given(st.text() | st.from_regex(r"[./\\ \n]{1,5}"))
def test_what_is_taken_can_be_a_file_name_and_the_nearest_is_taken(name):
    try:
        names.check_class(name, "")
    except InputError as error:
        nearest = str(error).rpartition("expected ")[2].removesuffix(", say")
        names.check_class(ast.literal_eval(nearest), "")
    else:
        assert len(f"comp4_det_trainval_{name}.txt".encode()) < 256
        assert os.path.normpath(os.path.join("/a", name)) == f"/a/{name}"
        assert name.splitlines() == [name]


@pytest.mark.parametrize(
    "image_id", ["../x", "/etc/x", "a/../../x", "a\x00", "a\x1b[2J", "a b", ""]
)
def test_image_ids(image_id):
    names.check_image_id("2008/000012", "")
    with pytest.raises(InputError, match=r"train\.txt: line 3: .* is no image id"):
        names.check_image_id(image_id, "train.txt: line 3")


def make_link(path, target) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def options(root, output, **changes) -> prepare.Options:
    return prepare.Options("voc", str(root), ("train",), str(output), "none", **changes)


@pytest.mark.parametrize("kind", ["id", "image", "annotation", "folder"])
def test_nothing_outside_a_voc_folder_is_read(tmp_path, kind):
    root, outside = tiny_voc.make(tmp_path / "voc"), tmp_path / "outside"
    tiny_voc.make_image(outside, "x", ("cat", 5, 5, 24, 24))
    if kind == "id":
        tiny_voc.make_split(root, "train", "a", "../../outside/JPEGImages/x")
    elif kind == "image":
        make_link(root / "JPEGImages/e.png", outside / "JPEGImages/x.png")
    elif kind == "annotation":
        make_link(root / "Annotations/e.xml", outside / "Annotations/x.xml")
    else:
        (root / "JPEGImages").rename(outside / "all")
        (root / "JPEGImages").symlink_to(outside / "all")
    with pytest.raises(InputError, match="outside"):
        prepare.prepare(options(root, tmp_path / "out"))
    if kind != "id":
        info = prepare.prepare(options(root, tmp_path / "out", follow_links=True))
        assert info["splits"]["train"]["images"] == 5


def test_links_within_the_folder_are_followed(tmp_path):
    root = tiny_voc.make(tmp_path / "voc")
    make_link(root / "JPEGImages/e.png", root / "JPEGImages/a.png")
    info = prepare.prepare(options(root, tmp_path / "out"))
    assert info["splits"]["train"]["images"] == 5


@pytest.mark.parametrize(
    "file_name", ["../val/b.png", "{outside}", "a/../../x.png", "link.png", "a\nb.png", "\ud800"]
)
def test_nothing_outside_the_coco_images_is_read(tmp_path, file_name):
    root = tiny_coco.make(tmp_path / "coco")
    (root / "train/link.png").symlink_to(root / "val/b.png")
    path = root / "annotations/instances_train.json"
    data = json.loads(path.read_text())
    data["images"][0]["file_name"] = file_name.format(outside=root / "val/b.png")
    path.write_text(json.dumps(data))
    chosen = prepare.Options("coco", str(root), ("train",), str(tmp_path / "out"), "none")
    with pytest.raises(InputError, match=r"instances_train\.json: image 11: "):
        prepare.prepare(chosen)


def test_classes_of_a_data_set_are_checked(tmp_path):
    root = tiny_coco.make(tmp_path / "coco")
    path = root / "annotations/instances_train.json"
    path.write_text(path.read_text().replace('"cow"', '"cow/calf"'))
    with pytest.raises(InputError, match=r"category 7: the class name 'cow/calf' .* 'cow-calf'"):
        prepare.prepare(prepare.Options("coco", str(root), ("train",), str(tmp_path / "x"), "none"))
    root = tiny_voc.make(tmp_path / "voc")
    tiny_voc.make_image(root, "a", ("..", 5, 5, 24, 24))
    with pytest.raises(InputError, match=r"a\.xml: object 1: the class name '\.\.'"):
        prepare.prepare(options(root, tmp_path / "out"))
    with pytest.raises(InputError, match=r"--classes: the class name 'a/b'"):
        options(root, tmp_path / "out", classes=("a/b",))


def test_a_message_holds_nothing_that_a_terminal_obeys(capsys):
    assert errors._report(InputError("a\x1b[2J\u202e\nb é")) == 1
    assert capsys.readouterr().err == "error: a\\x1b[2J\\u202e b é\n"
