"""YOLO: lines that are none, names of classes, and what data.yaml says of splits."""

from __future__ import annotations

import pytest
import tiny_formats as tiny

from ohem_tf.data import splits
from ohem_tf.data.formats import yolo
from ohem_tf.errors import InputError

YAML = "names: [dog, cat]\n"


def one(root, line: str, yaml: str = YAML, **changes) -> splits.Split:
    tiny.picture(root / "a.png", "a")
    tiny.write(root / "a.txt", line)
    if yaml:
        tiny.write(root / "data.yaml", yaml)
    return tiny.split(root, "yolo", **changes)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1 0.5 0.5 1 1", ("cat", 0, 0, 64, 40)),
        ("1.0 .5 .5 .25 .25\r\n\r\n", ("cat", 24, 15, 40, 25)),
        ("\ufeff0 0.5 0.5 0.5 0.5", ("dog", 16, 10, 48, 30)),
        ("0 0.25 0.25 0.75 0.25 0.5 1", ("dog", 16, 10, 48, 40)),  # a polygon
        ("0 0 0 .5 0 .5 .5 0 .5", ("dog", 0, 0, 32, 20)),  # an oriented box: its corners
        ("0 0.505 0.5 1 1", ("dog", 0.32, 0, 64, 40)),  # clipped: less than a pixel outside
    ],
)
def test_lines(tmp_path, line, expected):
    ((name, *box),) = tiny.boxes(one(tmp_path, line))["a"]
    assert name == expected[0]
    assert box == pytest.approx(expected[1:], abs=1e-9)


def test_keypoints_after_the_box(tmp_path):
    """Thirteen numbers are a polygon of six points, or a box and two keypoints of four numbers."""
    line = "1 0.5 0.5 0.5 0.5 " + " ".join(["0.9"] * 8)
    ((_, *polygon),) = tiny.boxes(one(tmp_path, line))["a"]
    assert polygon == pytest.approx([32, 20, 57.6, 36])
    ((_, *box),) = tiny.boxes(one(tmp_path, line, f"{YAML}kpt_shape: [4, 2]"))["a"]
    assert box == [16, 10, 48, 30]
    for shape in ("[4]", "[4, x]", "8", "[4, [2]]", "[99999, 2]"):
        with pytest.raises(InputError, match="kpt_shape is no two whole numbers"):
            one(tmp_path, line, f"{YAML}kpt_shape: {shape}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 .5 .5 .1", "line 1 has 4 numbers; expected five, class x y width height"),
        ("0 .5 .5 .1 .1 .9", "line 1 has 6 numbers, the last a confidence"),
        ("0 .5 .5 .1 .1\n0 .1 .1 .5 .1 .5 .5 .1", "line 2 has 8 numbers"),
        ("0 .5 .5 .1 .1 .9 0.1 0.2 .3 .4 .5 .6", "line 1 has 12 numbers"),
    ],
)
def test_lines_that_no_one_can_read(tmp_path, line, message):
    for on_bad_record in ("error", "skip"):
        with pytest.raises(InputError) as caught:
            one(tmp_path, line, on_bad_record=on_bad_record)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("2 .5 .5 .1 .1", "unknown class"),
        ("-1 .5 .5 .1 .1", "unknown class"),
        ("0.5 .5 .5 .1 .1", "unknown class"),
        ("dog .5 .5 .1 .1", "unknown class"),
        ("0 .5 .5 -.1 .1", "empty box"),
        ("0 .5 .5 .1 0", "empty box"),
        ("0 .1 .1 .2 .1 .3 .1", "empty box"),
        ("0 x .5 .1 .1", "box not numeric"),
        ("0 nan .5 .1 .1", "box not numeric"),
        ("0 .5 inf .1 .1", "box not numeric"),
        ("0 32 20 10 10", "box outside the image"),  # pixels
    ],
)
def test_a_bad_object_is_named_or_dropped(tmp_path, line, cause):
    good = "1 0.5 0.5 1 1\n"
    with pytest.raises(InputError, match=r"a\.txt: line 2.*on_bad_record=skip drops it"):
        one(tmp_path, good + line)
    found = one(tmp_path, good + line, on_bad_record="skip")
    assert found.skipped == {cause: 1}
    assert [o[0] for o in tiny.boxes(found)["a"]] == ["cat"]


def test_a_file_that_is_no_text(tmp_path):
    one(tmp_path, "")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe0")
    with pytest.raises(InputError, match=r"a\.txt: not a text file"):
        tiny.split(tmp_path, "yolo")


def test_a_file_without_an_image_but_not_other_text(tmp_path):
    found = one(tmp_path, "0 .5 .5 1 1")
    for name in ("classes.txt", "README.dataset.txt", "train.txt", "notes.txt"):
        assert yolo.is_other(name)
        tiny.write(tmp_path / name, "dog\ncat\n")
    assert tiny.boxes(tiny.split(tmp_path, "yolo")) == tiny.boxes(found)
    tiny.write(tmp_path / "b.txt", "0 .5 .5 1 1")
    with pytest.raises(InputError, match=r"b\.txt: its image is missing"):
        tiny.split(tmp_path, "yolo")


def test_pictures_of_something_else(tmp_path, caplog):
    tiny.make(tmp_path, "yolo")
    for name in ("labels.jpg", "masks/a.png", "images/train_negatives/n.png"):
        tiny.picture(tmp_path / name, name)
    found = tiny.split(tmp_path, "yolo")
    assert tiny.same(found, tiny.PICTURES | {"train_negatives/n": []}, 1e-4)
    assert "2 pictures without annotations, outside its folders of images" in caplog.text


LINE = "1 .5 .5 1 1"
# Aliases of aliases: ten to the 20 names, were they written out.
BOMB = "a0: &a0 [dog]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 21)
)
BOMB += "names: *a20\n"


@pytest.mark.parametrize(
    "names",
    [
        "names: [dog, cat]",
        "names:\n- dog\n- cat\n",
        "names: {0: dog, 1: cat}",
        "path: /home/you/x\nnames:\n  1: cat\n  0: dog\n",
        "names: !!python/object/apply:os.system [dog, cat]",  # no tag means anything
    ],
)
def test_names_in_a_yaml(tmp_path, names):
    assert one(tmp_path, LINE, names).classes == ("dog", "cat")


def test_names_that_yaml_takes_for_something_else(tmp_path):
    found = one(tmp_path, LINE, "names: [no, 007, null, 1e3]")
    assert found.classes == ("no", "007", "null", "1e3")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [dog, cat", "yaml that does not parse"),
        ("names: {0: dog, 2: cat}", "names has no class '1'"),
        ("names: dog", "expected the names of the classes"),
        ("names: []", "expected the names of the classes"),
        ("names: [dog, dog]", "the class name 'dog' stands twice"),
        ("names: [dog, [cat]]", "names holds something that is no name"),
        (BOMB, "names holds something that is no name"),
        ("names: [dog, a/b]", "the class name 'a/b' cannot be a file name"),
        ("{" * 5000, "yaml that does not parse"),
        ("nc: 2", "no data.yaml with 'names', no classes.txt and no obj.names"),
    ],
)
def test_a_bad_yaml(tmp_path, yaml, message):
    with pytest.raises(InputError) as caught:
        one(tmp_path, LINE, yaml)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_in_a_text_file_or_on_the_command_line(tmp_path):
    with pytest.raises(InputError, match="or --classes with the names of the numbers 0, 1"):
        one(tmp_path, LINE, "")
    assert one(tmp_path, LINE, "", classes=("horse", "cow")).classes == ("horse", "cow")
    tiny.write(tmp_path / "labels/classes.txt", "dog\ncat\n\n")
    tiny.write(tmp_path / "obj.names", "dog\ncat")
    assert one(tmp_path, LINE, "").classes == ("dog", "cat")
    tiny.write(tmp_path / "obj.names", "cat\ndog")
    with pytest.raises(InputError, match="have other names; expected the same in both"):
        one(tmp_path, LINE, "")
    # A yaml counts more, data.yaml more than another, and two others are not chosen from.
    tiny.write(tmp_path / "x.yaml", "names: [a, b]")
    assert one(tmp_path, LINE, "").classes == ("a", "b")
    tiny.write(tmp_path / "y.yml", "names: [c, d]")
    with pytest.raises(InputError, match=r"x\.yaml and y\.yml have 'names'"):
        one(tmp_path, LINE, "")
    assert one(tmp_path, LINE).classes == ("dog", "cat")


def test_folders_and_lists_of_a_yaml(tmp_path):
    for folder, name in (("first", "a"), ("second", "b"), ("third", "c")):
        tiny.picture(tmp_path / f"{folder}/images/{name}.png", name)
        tiny.write(tmp_path / f"{folder}/labels/{name}.txt", tiny.yolo_txt(tiny.PICTURES[name]))
    yaml = f"{YAML}train: [{tmp_path}/first/images, ./third/images/]\nval: ../second/images\n"
    tiny.write(tmp_path / "data.yaml", yaml)
    assert list(tiny.boxes(tiny.split(tmp_path, "yolo", beside=("val",)))) == ["a", "c"]
    assert list(tiny.boxes(tiny.split(tmp_path, "yolo", "val", beside=("train",)))) == ["b"]

    tiny.write(tmp_path / "data.yaml", f"{YAML}train: lists/train.txt\nval: lists/val.txt\n")
    lines = f"./first/images/a.png\n\n{tmp_path}/second/images/b.png\n"
    tiny.write(tmp_path / "lists/train.txt", lines)
    tiny.write(tmp_path / "lists/val.txt", "../third/images/c.png")
    found = tiny.split(tmp_path, "yolo", beside=("val",))
    expected = {"first/a": tiny.PICTURES["a"], "second/b": tiny.PICTURES["b"]}
    assert tiny.same(found, expected, 1e-4)
    assert list(tiny.boxes(tiny.split(tmp_path, "yolo", "val", beside=("train",)))) == ["c"]
    tiny.write(tmp_path / "lists/val.txt", "\n")
    with pytest.raises(InputError, match=r"val\.txt: the list is empty"):
        tiny.split(tmp_path, "yolo", "val")
    tiny.write(tmp_path / "data.yaml", f"{YAML}train: ../../../etc/passwd.txt\n")
    with pytest.raises(InputError, match=r"etc/passwd\.txt: cannot be read"):
        tiny.split(tmp_path, "yolo")
