"""COCO: boxes, classes in the order of category ids, and bad json."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ohem_tf.data import coco
from ohem_tf.errors import InputError

SHARED = Path(__file__).parents[2].parent / "shared"


def make_json() -> dict:
    return {
        "images": [
            {"id": 7, "file_name": "7.jpg", "height": 20, "width": 30},
            {"id": 3, "file_name": "3.jpg", "height": 10, "width": 10},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1.5, 2, 10, 6.25], "area": 9.5},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 30, 20], "iscrowd": 1},
        ],
    }


def read(tmp_path, data):
    path = tmp_path / "instances.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return coco.read_entries(path, tmp_path)


def test_boxes_classes_crowd_and_area(tmp_path):
    entries, categories, problems = read(tmp_path, make_json())
    assert list(categories.items()) == [("cat", 2), ("dog", 18)]
    assert problems == []
    assert [entry.image_id for entry in entries] == ["7", "3"]
    first, second = entries[0].objects
    assert first.box == (2.0, 1.5, 8.25, 11.5)
    assert (first.name, first.area, first.crowd, first.difficult) == ("dog", 9.5, False, False)
    assert second.box == (0, 0, 20, 30)
    assert (second.name, second.area, second.crowd) == ("cat", None, True)
    assert entries[1].objects == ()
    assert (entries[0].height, entries[0].width) == (20, 30)
    assert "7.jpg: image is missing" in entries[0].missing
    assert entries[0].image_path is None


@pytest.mark.parametrize(
    ("bbox", "cause"),
    [
        ([1, 2, 0, 5], "box without area"),
        ([1, 2, 5, 0.0], "box without area"),
        ([1, 2, 5, -1], "empty box"),
        ([1, 2, 0, -1], "empty box"),
        ([1, 2, 5], "box not numeric"),
        ([1, 2, 5, "4"], "box not numeric"),
        ([1, 2, 5, None], "box not numeric"),
        ([1, float("nan"), 5, 5], "box not numeric"),
        ("1 2 3 4", "box not numeric"),
    ],
)
def test_bad_boxes(tmp_path, bbox, cause):
    data = make_json()
    data["annotations"][0]["bbox"] = bbox
    entries, _, _ = read(tmp_path, data)
    problem = entries[0].objects[0].problem
    assert problem.cause == cause
    assert problem.known == (cause == "box without area")
    assert "instances.json: annotation 1 (dog)" in problem.message
    assert entries[0].objects[1].problem is None


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [("images", "file_name", 7), ("images", "file_name", None), ("categories", "name", ["dog"])],
)
def test_names_that_are_no_strings(tmp_path, group, key, value):
    data = make_json()
    data[group][1][key] = value
    expected = f"instances.json: {group}[1]: {key} is {value!r}; expected a string"
    with pytest.raises(InputError, match=re.escape(expected)):
        read(tmp_path, data)


def test_unknown_category_and_unknown_image(tmp_path):
    data = make_json()
    data["annotations"][0]["category_id"] = 5
    data["annotations"][1]["image_id"] = 99
    entries, _, problems = read(tmp_path, data)
    assert entries[0].objects[0].problem.cause == "unknown class"
    assert "annotation 1: unknown category_id 5" in entries[0].objects[0].problem.message
    assert [problem.cause for problem in problems] == ["unknown image"]
    assert "annotation 2: unknown image_id 99" in problems[0].message


def change(key, value):
    data = make_json()
    data[key] = value
    return data


def without(group, key):
    data = make_json()
    del data[group][1][key]
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"images": [', "json that does not parse"),
        ("[]", "lacks the list 'images'"),
        (change("annotations", None), "lacks the list 'annotations'"),
        (change("categories", {}), "lacks the list 'categories'"),
        (without("images", "file_name"), "images[1] lacks 'file_name'"),
        (without("annotations", "bbox"), "annotations[1] lacks 'bbox'"),
        (change("images", []), "the split is empty"),
        (change("images", [{"id": "x", "file_name": "x"}]), "images[0]: id is 'x'; expected an"),
        (change("images", [{"id": 1, "file_name": "x"}] * 2), "images: id 1 stands 2 times"),
        (
            change("categories", [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]),
            "categories: name a stands 2 times",
        ),
    ],
)
def test_bad_json(tmp_path, data, message):
    with pytest.raises(InputError, match=re.escape(f"instances.json: {message}")) as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_no_json(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: not found"):
        coco.read_entries(tmp_path / "none.json", tmp_path)


@pytest.mark.skipif(not (SHARED / "data/coco_mini").is_dir(), reason="needs the shared data")
def test_coco_mini_counts_and_order():
    root = SHARED / "data/coco_mini"
    entries, categories, problems = coco.read_entries(
        root / "annotations/instances_train2017.json", root / "train2017"
    )
    assert (len(entries), len(categories), problems) == (80, 80, [])
    objects = [item for entry in entries for item in entry.objects]
    assert (len(objects), sum(item.crowd for item in objects)) == (739, 8)
    assert all(entry.image_path for entry in entries)
    assert list(categories.items())[:2] == [("person", 1), ("bicycle", 2)]
    assert list(categories.values()) == sorted(categories.values())
    assert list(categories.items())[-1] == ("toothbrush", 90)
