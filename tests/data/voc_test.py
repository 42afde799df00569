"""VOC folders: conversion of boxes, and each kind of bad file named in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ohem_tf.data import checks, one_image, voc
from ohem_tf.errors import InputError

SHARED = Path(__file__).parents[2].parent / "shared"


def make_object(name="cat", box=(2, 3, 6, 9), extra="") -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    numbers = "".join(f"<{tag}>{value}</{tag}>" for tag, value in corners)
    return f"<object><name>{name}</name>{extra}<bndbox>{numbers}</bndbox></object>"


def write_image(root, image_id, objects, size=(10, 12), stated=None, name=None) -> None:
    """An image of `size` (width, height) and its annotation."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(image).save(root / "JPEGImages" / (name or f"{image_id}.jpg"))
    width, height = stated or size
    text = f"<annotation><size><width>{width}</width><height>{height}</height></size>"
    (root / "Annotations" / f"{image_id}.xml").write_text(text + "".join(objects) + "</annotation>")


def write_split(root, name, text) -> None:
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


def check(root, image_id) -> checks.Checked:
    return one_image.check_image(voc.Listed(str(root), image_id))


def test_split_takes_the_first_word_of_each_line(tmp_path):
    write_split(tmp_path, "cat_train", "000003  1\n000001 -1\n\n000002\n")
    assert voc.read_split(tmp_path, "cat_train") == ["000003", "000001", "000002"]


def test_bad_splits(tmp_path):
    write_split(tmp_path, "train", "a\nb\na\n")
    write_split(tmp_path, "none", "\n\n")
    with pytest.raises(InputError, match=r"train\.txt: line 3: image id a stands on line 1"):
        voc.read_split(tmp_path, "train")
    with pytest.raises(InputError, match=r"none\.txt: the split is empty"):
        voc.read_split(tmp_path, "none")
    with pytest.raises(InputError, match=r"val\.txt: no such split; splits there: none, train"):
        voc.read_split(tmp_path, "val")


def test_boxes_become_half_open_and_0_based(tmp_path):
    objects = [
        make_object("cat", (1, 1, 10, 12)),
        make_object("dog", (2, 3, 6, 9), "<difficult>1</difficult>"),
        make_object("cat", ("2.5", "3.25", "6", "9")),
    ]
    write_image(tmp_path, "a", objects)
    entry = voc.read_entry(voc.Listed(str(tmp_path), "a"))
    assert [item.box for item in entry.objects] == [(0, 0, 12, 10), (2, 1, 9, 6), (2.25, 1.5, 9, 6)]
    assert [item.name for item in entry.objects] == ["cat", "dog", "cat"]
    assert [item.difficult for item in entry.objects] == [False, True, False]
    assert not any(item.crowd or item.problem for item in entry.objects)
    assert (entry.height, entry.width, entry.image_id) == (12, 10, "a")
    # The width is VOC's own xmax - xmin + 1.
    ymin, xmin, ymax, xmax = entry.objects[1].box
    assert (xmax - xmin, ymax - ymin) == (6 - 2 + 1, 9 - 3 + 1)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPG", "a.jpeg", "a.png", "a.PNG"])
def test_image_extensions(tmp_path, name):
    write_image(tmp_path, "a", [], name=name)
    assert (
        Path(voc.read_entry(voc.Listed(str(tmp_path), "a")).image_path).name.lower() == name.lower()
    )


def test_missing_image_is_a_problem_that_names_the_file(tmp_path):
    write_image(tmp_path, "a", [make_object()], name="b.jpg")
    checked = check(tmp_path, "a")
    assert not checked.readable
    assert [problem.cause for problem in checked.problems] == ["image missing"]
    assert "JPEGImages/a.jpg: image is missing" in checked.problems[0].message


@pytest.mark.parametrize("box", [(4, 3, 4, 9), (5, 3, 4, 9), (2, 9, 6, 9), (2, 9, 6, 3)])
def test_empty_boxes_are_judged_by_the_numbers_of_the_file(tmp_path, box):
    write_image(tmp_path, "a", [make_object(), make_object("dog", box)])
    checked = check(tmp_path, "a")
    assert checked.readable
    assert [item.name for item in checked.objects] == ["cat"]
    assert [problem.cause for problem in checked.problems] == ["empty box"]
    message = checked.problems[0].message
    assert "a.xml: object 2 (dog): empty box" in message
    assert f"xmin={box[0]}, ymin={box[1]}, xmax={box[2]}, ymax={box[3]}" in message
    assert "\n" not in message


@pytest.mark.parametrize("value", ["nan", "inf", "x", ""])
def test_boxes_that_are_no_numbers(tmp_path, value):
    write_image(tmp_path, "a", [make_object(box=(2, value, 6, 9)), make_object()])
    checked = check(tmp_path, "a")
    assert [problem.cause for problem in checked.problems] == ["box not numeric"]
    assert len(checked.objects) == 1


def test_an_object_without_a_box_is_not_numeric(tmp_path):
    write_image(tmp_path, "a", ["<object><name>cat</name></object>"])
    assert [p.cause for p in check(tmp_path, "a").problems] == ["box not numeric"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "xml that does not parse"),
        ("", "xml that does not parse"),
        ("<html></html>", "its root is <html>"),
        ("<annotation><size><width>x</width></size></annotation>", "<width> is 'x'"),
        ("<annotation><object></object></annotation>", "object 1 has no <name>"),
        (
            f"<annotation>{make_object(extra='<difficult>yes</difficult>')}</annotation>",
            "<difficult> is 'yes'; expected 0 or 1",
        ),
    ],
)
def test_annotations_that_cannot_be_understood(tmp_path, text, message):
    write_image(tmp_path, "a", [])
    (tmp_path / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(InputError) as caught:
        check(tmp_path, "a")
    assert f"a.xml: {message}" in str(caught.value) or f"a.xml: object 1: {message}" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


def test_missing_annotation(tmp_path):
    write_image(tmp_path, "a", [])
    with pytest.raises(InputError, match=r"b\.xml: annotation file is missing"):
        check(tmp_path, "b")


def test_annotation_for_another_image_size(tmp_path):
    write_image(tmp_path, "a", [make_object()], size=(10, 12), stated=(10, 24))
    with pytest.raises(InputError, match=r"a\.xml: says height 24, but .*a\.jpg has 12"):
        check(tmp_path, "a")


def test_a_size_that_is_not_stated_is_not_compared(tmp_path):
    write_image(tmp_path, "a", [])
    (tmp_path / "Annotations" / "a.xml").write_text(f"<annotation>{make_object()}</annotation>")
    checked = check(tmp_path, "a")
    assert (checked.height, checked.width, len(checked.objects)) == (12, 10, 1)


@pytest.mark.skipif(not (SHARED / "data/bccd").is_dir(), reason="needs the shared data")
def test_bccd_holds_two_empty_boxes():
    root = SHARED / "data/bccd/BCCD"
    ids = voc.read_split(root, "trainval") + voc.read_split(root, "test")
    found = {}
    for image_id in ids:
        for item in voc.read_entry(voc.Listed(str(root), image_id)).objects:
            if item.problem:
                found[image_id] = item.problem.cause
    assert found == {"BloodImage_00338": "empty box", "BloodImage_00343": "empty box"}
