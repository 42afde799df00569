"""CVAT: the boxes of its shapes, subsets, and xml that is none of its."""

from __future__ import annotations

import math

import pytest
import tiny_formats as tiny

from ohem_tf.data import splits
from ohem_tf.errors import InputError


def one(root, shape: str, **changes) -> splits.Split:
    tiny.picture(root / "a.png", "a")
    tiny.write(root / "x.xml", f'<annotations><image name="a.png">{shape}</image></annotations>')
    return tiny.split(root, "cvat", **changes)


def box(*sides, more: str = "", inner: str = "") -> str:
    numbers = " ".join(
        f'{key}="{side}"' for key, side in zip(("xtl", "ytl", "xbr", "ybr"), sides, strict=True)
    )
    return f'<box label="dog" {numbers} {more}>{inner}</box>'


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (box(10, 10.5, 30, 14), (10, 10.5, 30, 14)),
        (box(10, 10, 30, 14, more='rotation="90"'), (18, 2, 22, 22)),
        (
            box(10, 10, 14, 14, more='rotation="45.0"'),
            (12 - 8**0.5, 12 - 8**0.5, 12 + 8**0.5, 12 + 8**0.5),
        ),
        ('<polygon label="dog" points="1,2;30.5,4;20,33"/>', (1, 2, 30.5, 33)),
        ('<ellipse label="dog" cx="30" cy="20" rx="10" ry="5"/>', (20, 15, 40, 25)),
        ('<ellipse label="dog" cx="30" cy="20" rx="10" ry="5" rotation="90"/>', (25, 10, 35, 30)),
        ('<mask label="dog" rle="1, 2" left="3" top="4" width="5" height="6"/>', (3, 4, 8, 10)),
    ],
)
def test_shapes(tmp_path, shape, expected):
    (((name, *sides),),) = tiny.boxes(one(tmp_path, shape)).values()
    assert name == "dog"
    assert sides == pytest.approx(expected, abs=1e-9)


def test_a_turned_ellipse_by_its_points(tmp_path):
    """Against the ellipse itself, drawn with a thousand points."""
    shape = '<ellipse label="dog" cx="30" cy="20" rx="12" ry="4" rotation="30"/>'
    points = []
    for i in range(1000):
        x, y = 12 * math.cos(i / 1000 * 2 * math.pi), 4 * math.sin(i / 1000 * 2 * math.pi)
        c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
        points.append((30 + c * x - s * y, 20 + s * x + c * y))
    xs, ys = zip(*points, strict=True)
    (((_, *sides),),) = tiny.boxes(one(tmp_path, shape)).values()
    assert sides == pytest.approx([min(xs), min(ys), max(xs), max(ys)], abs=1e-3)


def test_attributes_of_a_shape(tmp_path):
    inner = '<attribute name="{}">{}</attribute>'
    for name, value, expected in (
        ("difficult", "true", (True, False)),
        ("is_crowd", "1", (False, True)),
        ("difficult", "false", (False, False)),
        ("colour", "true", (False, False)),
    ):
        found = one(tmp_path, box(1, 1, 9, 9, inner=inner.format(name, value)))
        (item,) = found.entries[0].objects
        assert (item.difficult, item.crowd) == expected


@pytest.mark.parametrize(
    ("shape", "cause"),
    [
        ('<polyline label="dog" points="1,2;3,4"/>', "shape without a box"),
        ('<points label="dog" points="1,2"/>', "shape without a box"),
        ('<cuboid label="dog" xtl1="1"/>', "shape without a box"),
        (box(10, 10, 30, "x"), "box not numeric"),
        (box(10, 10, 30, "nan"), "box not numeric"),
        ('<box label="dog" xtl="1"/>', "box not numeric"),
        ('<polygon label="dog" points="1,2;3"/>', "box not numeric"),
        ('<polygon label="dog" points=""/>', "box not numeric"),
        (box(30, 10, 10, 14), "empty box"),
        (box(10, 10, 70, 14), "box outside the image"),
    ],
)
def test_a_bad_shape_is_named_or_dropped(tmp_path, shape, cause):
    with pytest.raises(InputError, match=r"x\.xml: image a\.png, shape 1 \(dog\).*skip drops it"):
        one(tmp_path, shape)
    assert one(tmp_path, shape, on_bad_record="skip").skipped == {cause: 1}


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotations>", "xml that does not parse"),
        ("<annotation/>", "its root is <annotation>; expected <annotations>"),
        ("<annotations><track/></annotations>", "is CVAT for video"),
        ("<annotations/>", "the split 'train' is empty"),
        ("<annotations><image/></annotations>", "has no name"),
        ('<annotations><image name="a.png" width="x"/></annotations>', "width is 'x'; expected"),
        ('<annotations><image name="a.png" width="60"/></annotations>', "says width 60, but"),
        ('<annotations><image name="a.png"><box/></image></annotations>', "shape 1 has no class"),
        (
            '<annotations><image name="a.png"/><image name="./a.png"/></annotations>',
            "stands there twice",
        ),
    ],
)
def test_xml_that_is_none(tmp_path, xml, message):
    tiny.picture(tmp_path / "a.png", "a")
    tiny.write(tmp_path / "x.xml", xml)
    with pytest.raises(InputError) as caught:
        tiny.split(tmp_path, "cvat", annotations=str(tmp_path / "x.xml"))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd.png", "x/../../a.png"])
def test_names_of_images_lead_nowhere(tmp_path, name):
    tiny.picture(tmp_path / "a.png", "a")
    tiny.write(tmp_path / "root/x.xml", f'<annotations><image name="{name}"/></annotations>')
    with pytest.raises(InputError, match=r"is missing|is no image id"):
        tiny.split(tmp_path / "root", "cvat")


def test_subsets_are_splits(tmp_path):
    tiny.make(tmp_path, "cvat")
    (tmp_path / "annotations.xml").unlink()
    halves = [{name: tiny.PICTURES[name] for name in names} for names in (("a", "c"), ("b",))]
    text = tiny.cvat_xml(halves[0], "Train").replace("</annotations>", "")
    text += tiny.cvat_xml(halves[1], "Validation").split("</meta>")[1]
    tiny.write(tmp_path / "x.xml", text)
    assert tiny.same(tiny.split(tmp_path, "cvat", beside=("val",)), halves[0], 0)
    assert tiny.same(tiny.split(tmp_path, "cvat", "val", beside=("train",)), halves[1], 0)
    with pytest.raises(InputError, match="no split 'test'; splits there: Train, Validation"):
        tiny.split(tmp_path, "cvat", "test")


def test_a_file_for_each_split(tmp_path):
    for folder, names in (("train", "ac"), ("valid", "b")):
        some = {name: tiny.PICTURES[name] for name in names}
        tiny.make(tmp_path / folder, "cvat", some)
        tiny.write(tmp_path / f"of_{folder}.xml.txt", tiny.cvat_xml(some))
    expected = {name: tiny.PICTURES[name] for name in "ac"}
    assert tiny.same(tiny.split(tmp_path, "auto", beside=("val",)), expected, 0)
    given = str(tmp_path / "of_{split}.xml.txt")
    assert tiny.same(tiny.split(tmp_path, "cvat", beside=("val",), annotations=given), expected, 0)
    with pytest.raises(InputError, match=r"which of them is of the split 'test'\?"):
        tiny.split(tmp_path, "cvat", "test")


def test_a_name_that_fits_two_files(tmp_path):
    tiny.picture(tmp_path / "one/a.png", "a")
    tiny.picture(tmp_path / "two/a.png", "b")
    tiny.write(tmp_path / "x.xml", '<annotations><image name="a.png"/></annotations>')
    with pytest.raises(InputError, match=r"image a\.png may be one/a or two/a; expected a path"):
        tiny.split(tmp_path, "cvat")
    (entry,) = tiny.split(tmp_path, "cvat", images=str(tmp_path / "two")).entries
    assert entry.image_path == str(tmp_path / "two/a.png")
    tiny.write(tmp_path / "x.xml", '<annotations><image name="two/a.png"/></annotations>')
    (entry,) = tiny.split(tmp_path, "cvat").entries
    assert (entry.image_id, entry.image_path) == ("two/a", str(tmp_path / "two/a.png"))
