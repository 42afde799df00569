"""Label Studio: the boxes of its regions, which image is meant, and json that is none of its."""

from __future__ import annotations

import json
import math

import pytest
import tiny_formats as tiny

from ohem_tf.data import splits
from ohem_tf.errors import InputError


def region(kind="rectanglelabels", label="dog", **value) -> dict:
    size = {"original_width": tiny.WIDTH, "original_height": tiny.HEIGHT}
    return size | {"type": kind, "value": value | {kind: [label]}}


def one(
    root, *regions, image="/data/upload/1/0a1b2c3d-a.png", task=None, **changes
) -> splits.Split:
    tiny.picture(root / "a.png", "a")
    full = {"id": 5, "data": {"image": image}, "annotations": [{"result": list(regions)}]}
    tiny.write(root / "x.json", json.dumps([full | (task or {})]))
    return tiny.split(root, "label_studio", **changes)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (region(x=25, y=25, width=50, height=25), (16, 10, 48, 20)),
        # Turned clockwise about its first corner, (16, 10): down is where right was.
        (region(x=25, y=25, width=25, height=25, rotation=90), (6, 10, 16, 26)),
        (region(x=25, y=25, width=25, height=25, rotation=0), (16, 10, 32, 20)),
        (region("ellipselabels", x=50, y=50, radiusX=25, radiusY=10), (16, 16, 48, 24)),
        (region("polygonlabels", points=[[0, 0], [50, 0], [25, 100]]), (0, 0, 32, 40)),
    ],
)
def test_regions(tmp_path, given, expected):
    ((name, *sides),) = tiny.boxes(one(tmp_path, given))["a"]
    assert name == "dog"
    assert sides == pytest.approx(expected, abs=1e-9)


def test_a_turned_rectangle_by_its_corners(tmp_path):
    """Corner for corner: along the turned x axis by 16 px, and along the turned y axis by 10 px."""
    found = tiny.boxes(one(tmp_path, region(x=50, y=25, width=25, height=25, rotation=30)))
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    corners = [(32, 10), (32 + 16 * c, 10 + 16 * s), (32 - 10 * s, 10 + 10 * c)]
    corners.append((32 + 16 * c - 10 * s, 10 + 16 * s + 10 * c))
    xs, ys = zip(*corners, strict=True)
    assert found["a"][0][1:] == pytest.approx([min(xs), min(ys), max(xs), max(ys)], abs=1e-9)


def test_json_min(tmp_path):
    for name in tiny.PICTURES:
        tiny.picture(tmp_path / f"{name}.png", name)
    tiny.write(tmp_path / "x.json", tiny.label_studio_min(tiny.PICTURES))
    assert tiny.same(tiny.split(tmp_path, "auto"), tiny.PICTURES, 1e-9)


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/0a1b2c3d-a.png",
        "/data/upload/1/a.png",
        "/data/local-files/?d=some/where/a.png",
        "/data/local-files/?d=some%2Fa.png",
        "s3://bucket/deep/a.png",
        "https://example.com/x/a.png?size=full",
        "a.png",
        "/data/../../../../etc/a.png",
    ],
)
def test_addresses_of_images(tmp_path, image):
    (entry,) = one(tmp_path, image=image).entries
    assert (entry.image_id, entry.image_path) == ("a", str(tmp_path / "a.png"))


def test_the_only_image_of_a_task(tmp_path):
    data = {"data": {"photo": "x/a.png", "text": "a.txt"}}
    assert len(one(tmp_path, task=data).entries) == 1
    for other in (
        {"photo": "a.png", "second": "b.png"},
        {"text": "a"},
        {"image": "https://[a"},
        [],
    ):
        with pytest.raises(InputError, match="task 5: names no image, or several"):
            one(tmp_path, task={"data": other})


def test_whose_annotation_counts(tmp_path):
    first, second = region(x=0, y=0, width=50, height=50), region(x=50, y=50, width=50, height=50)
    both = [{"result": [first]}, {"result": [second]}]
    with pytest.raises(InputError, match="task 5: has 2 annotations; expected one"):
        one(tmp_path, task={"annotations": both})
    for mark, expected in ((("ground_truth", 1), 32), (("was_cancelled", 0), 32)):
        key, index = mark
        marked = [dict(one) for one in both]
        marked[index][key] = True
        ((_, xmin, *_),) = tiny.boxes(one(tmp_path, task={"annotations": marked}))["a"]
        assert xmin == expected
    for nobody in ([], [{"result": [first], "was_cancelled": True}]):
        with pytest.raises(InputError, match=r"task 5: nobody has annotated a\.png"):
            one(tmp_path, task={"annotations": nobody})


def test_what_is_no_region_is_left_out(tmp_path):
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    box = region(x=0, y=0, width=50, height=50)
    assert len(tiny.boxes(one(tmp_path, choice, relation, box))["a"]) == 1
    assert tiny.boxes(one(tmp_path, choice)) == {"a": []}


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (region("brushlabels", format="rle", rle=[1]), "shape without a box"),
        (region("keypointlabels", x=1, y=2, width=0.5), "shape without a box"),
        (region(x=1, y=2, width=3), "box not numeric"),
        (region(x=1, y="x", width=3, height=4), "box not numeric"),
        (region(x=1, y=10**400, width=3, height=4), "box not numeric"),
        (region("polygonlabels", points=[[1, 2], 3]), "box not numeric"),
        (region(x=1, y=2, width=0, height=4), "empty box"),
        (region(x=90, y=2, width=20, height=4), "box outside the image"),
    ],
)
def test_a_bad_region_is_named_or_dropped(tmp_path, given, cause):
    with pytest.raises(InputError, match=r"x\.json: task 5, region 1 \(dog\).*skip drops it"):
        one(tmp_path, given)
    assert one(tmp_path, given, on_bad_record="skip").skipped == {cause: 1}


BOX = {"x": 0, "y": 0, "width": 9, "height": 9}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"annotations": None}, "task 5: lacks the list 'annotations'"),
        ({"annotations": [1]}, "task 5: lacks the list 'annotations'"),
        ({"annotations": [{}]}, "task 5: 'result' is no list of regions"),
        ({"annotations": [{"result": [1]}]}, "task 5: 'result' is no list of regions"),
        ({"annotations": [{"result": [region(label=7, **BOX)]}]}, "region 1 has no class"),
        ({"annotations": [{"result": [region(label="a/b", **BOX)]}]}, "the class name 'a/b'"),
        (
            {"annotations": [{"result": [region(**BOX) | {"original_width": "64"}]}]},
            "original_height and original_width are not the pixels",
        ),
        (
            {"annotations": [{"result": [region(**BOX) | {"original_width": 10**400}]}]},
            "original_height and original_width are not the pixels",
        ),
        (
            {"annotations": [{"result": [region(**BOX) | {"original_width": 65}]}]},
            "says width 65, but",
        ),
        (
            {"annotations": [{"result": [region(**BOX) | {"image_rotation": 90}]}]},
            "was turned while it was annotated",
        ),
    ],
)
def test_tasks_that_no_one_can_read(tmp_path, task, message):
    for on_bad_record in ("error", "skip"):
        with pytest.raises(InputError) as caught:
            one(tmp_path, task=task, on_bad_record=on_bad_record)
        assert message in str(caught.value)


@pytest.mark.parametrize("text", ["{", "{}", "[1]", "[" * 100_000])
def test_json_that_is_none(tmp_path, text):
    tiny.write(tmp_path / "x.json", text)
    with pytest.raises(
        InputError, match=r"x\.json: (json that does not parse|is no list of tasks)"
    ):
        tiny.split(tmp_path, "label_studio", annotations=str(tmp_path / "x.json"))
