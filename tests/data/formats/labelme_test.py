"""LabelMe: the boxes of its shapes, and files that are none of its."""

from __future__ import annotations

import json

import pytest
import tiny_formats as tiny

from ohem_tf.data import splits
from ohem_tf.errors import InputError


def one(root, shape, **changes) -> splits.Split:
    tiny.picture(root / "a.png", "a")
    tiny.write(root / "a.json", json.dumps({"shapes": [shape], "imageData": None, "version": "5"}))
    return tiny.split(root, "labelme", **changes)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"shape_type": "rectangle", "points": [[30, 20.5], [10.25, 4]]}, (10.25, 4, 30, 20.5)),
        ({"points": [[1, 2], [30, 4], [20, 33]]}, (1, 2, 30, 33)),  # version 3: a polygon
        ({"shape_type": "circle", "points": [[30, 20], [33, 24]]}, (25, 15, 35, 25)),
        # From its first to its last pixel: a mask of 3 x 4.
        ({"shape_type": "mask", "points": [[4, 5], [6, 8]], "mask": "iVBO"}, (4, 5, 7, 9)),
        ({"shape_type": "rotation", "points": [[5, 1], [9, 5], [5, 9], [1, 5]]}, (1, 1, 9, 9)),
        ({"shape_type": "rectangle", "points": [[-0.7, 0], [9, 9]]}, (0, 0, 9, 9)),  # clipped
    ],
)
def test_shapes(tmp_path, shape, expected):
    assert tiny.boxes(one(tmp_path, {"label": "dog"} | shape)) == {"a": [("dog", *expected)]}


def test_difficult(tmp_path):
    box = {"label": "dog", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}
    for value, expected in ((True, True), (False, False), (None, False)):
        (entry,) = one(tmp_path, box | {"difficult": value}).entries
        assert entry.objects[0].difficult is expected


@pytest.mark.parametrize(
    ("shape", "cause"),
    [
        ({"shape_type": "point", "points": [[1, 2]]}, "shape without a box"),
        ({"shape_type": "linestrip", "points": [[1, 2], [3, 4]]}, "shape without a box"),
        ({"shape_type": None, "points": [[1, 2], [3, 4]]}, "shape without a box"),
        ({"shape_type": "rectangle"}, "box not numeric"),
        ({"shape_type": "rectangle", "points": [[1, 2], 3]}, "box not numeric"),
        ({"shape_type": "rectangle", "points": [[1, 2], [3, None]]}, "box not numeric"),
        ({"shape_type": "rectangle", "points": [[1, 2], [3, 10**400]]}, "box not numeric"),
        ({"shape_type": "rectangle", "points": [[1, 2], [3, True]]}, "box not numeric"),
        ({"shape_type": "rectangle", "points": [[1, 2], [float("nan"), 4]]}, "box not numeric"),
        ({"shape_type": "rectangle", "points": [[1, 2]]}, "box not numeric"),
        ({"shape_type": "circle", "points": [[1, 2], [3, 4], [5, 6]]}, "box not numeric"),
        ({"shape_type": "rectangle", "points": [[1, 2], [1, 9]]}, "empty box"),
        ({"shape_type": "rectangle", "points": [[1, 2], [90, 9]]}, "box outside the image"),
    ],
)
def test_a_bad_shape_is_named_or_dropped(tmp_path, shape, cause):
    with pytest.raises(InputError, match=r"a\.json: shapes\[0\] \(dog\).*skip drops it"):
        one(tmp_path, {"label": "dog"} | shape)
    assert one(tmp_path, {"label": "dog"} | shape, on_bad_record="skip").skipped == {cause: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "json that does not parse"),
        ("[" * 100_000, "json that does not parse"),
        ("[]", "lacks the list 'shapes'"),
        ('{"shapes": {}}', "lacks the list 'shapes'"),
        ('{"shapes": [1]}', "shapes[0] is no object of json"),
        ('{"shapes": [{}]}', "shapes[0] has no class"),
        ('{"shapes": [{"label": 7}]}', "shapes[0] has no class"),
        ('{"shapes": [{"label": "a/b"}]}', "the class name 'a/b' cannot be a file name"),
        ('{"shapes": [], "imageWidth": "64"}', "imageWidth is '64'; expected pixels"),
        ('{"shapes": [], "imageWidth": 65}', "says width 65, but"),
    ],
)
def test_files_that_are_none(tmp_path, text, message):
    tiny.picture(tmp_path / "a.png", "a")
    tiny.write(tmp_path / "a.json", text)
    for on_bad_record in ("error", "skip"):
        with pytest.raises(InputError) as caught:
            tiny.split(tmp_path, "labelme", on_bad_record=on_bad_record)
        assert message in str(caught.value)
