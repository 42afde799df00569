"""Open Images: its rows, its files for each split, and a csv that is none of its."""

from __future__ import annotations

import pytest
import tiny_formats as tiny

from ohem_tf.errors import InputError

HEAD = "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"


def one(root, *rows: str, head: str = HEAD, **changes):
    tiny.picture(root / "a.png", "a")
    tiny.write(root / "x.csv", head + "".join(f"{row}\n" for row in rows))
    return tiny.split(root, "open_images", annotations=str(root / "x.csv"), **changes)


def test_rows(tmp_path):
    found = one(tmp_path, "a,/m/01yrx,0.25,0.75,0,1,0", 'a,"dog, small",0,1,0.5,0.75,1')
    assert tiny.boxes(found) == {"a": [("m-01yrx", 16, 0, 48, 40), ("dog, small", 0, 20, 64, 30)]}
    assert [item.crowd for item in found.entries[0].objects] == [False, True]


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ("a,dog,0,x,0,1,0", "box not numeric"),
        ("a,dog,0,,0,1,0", "box not numeric"),
        ("a,dog,0,nan,0,1,0", "box not numeric"),
        ("a,dog,0.5,0.5,0,1,0", "empty box"),
        ("a,dog,0,1.1,0,1,0", "box outside the image"),
        ("b,dog,0,1,0,1,0", "image missing"),
        ("../b,dog,0,1,0,1,0", "image missing"),
    ],
)
def test_a_bad_row_is_named_or_dropped(tmp_path, row, cause):
    good = "a,dog,0,1,0,1,0"
    if row.startswith("../"):
        with pytest.raises(InputError, match="is no image id"):
            one(tmp_path, good, row)
        return
    with pytest.raises(
        InputError, match=r"x\.csv: (line 3 \(dog\)|image b is missing).*skip drops"
    ):
        one(tmp_path, good, row)
    found = one(tmp_path, good, row, on_bad_record="skip")
    assert (found.skipped, list(tiny.boxes(found))) == ({cause: 1}, ["a"])


@pytest.mark.parametrize(
    ("head", "row", "message"),
    [
        ("ImageID,LabelName,XMin,XMax,YMin\n", "a,dog,0,1,0", "has no column YMax"),
        ("", "", "has no column ImageID"),
        (HEAD, "a,dog,0,1,0", "line 2 has more or fewer values"),
        (HEAD, "a,dog,0,1,0,1,0,7", "line 2 has more or fewer values"),
        (HEAD, 'a,"dog,0,1,0,1,0', "csv that does not parse"),
        (HEAD, "a,,0,1,0,1,0", "line 2 has no class"),
        (HEAD, "a,x/y,0,1,0,1,0", "the class name 'x/y' cannot be a file name"),
    ],
)
def test_a_csv_that_is_none(tmp_path, head, row, message):
    for on_bad_record in ("error", "skip"):
        with pytest.raises(InputError) as caught:
            one(tmp_path, row, head=head, on_bad_record=on_bad_record)
        assert message in str(caught.value)


def test_a_csv_that_is_no_text(tmp_path):
    (tmp_path / "x.csv").write_bytes(HEAD.encode() + b"a,\xff,0,1,0,1,0\n")
    with pytest.raises(InputError, match="csv that does not parse"):
        tiny.split(tmp_path, "open_images", annotations=str(tmp_path / "x.csv"))


def test_a_csv_for_each_split(tmp_path):
    for name, folder in (("a", "train"), ("b", "validation"), ("c", "train")):
        tiny.picture(tmp_path / f"{folder}/{name}.png", name)
    for split, names in (("train", "ac"), ("validation", "b")):
        some = {name: tiny.PICTURES[name] for name in names}
        tiny.write(tmp_path / f"oidv6-{split}-annotations-bbox.csv", tiny.open_images_csv(some))
    tiny.write(tmp_path / "metadata/classes.csv", "/m/01yrx,cat\n/m/0bt9lr,dog\n/m/0c,cow\n")
    train = tiny.split(tmp_path, "auto", beside=("val",))
    assert tiny.same(train, {name: tiny.PICTURES[name] for name in "ac"}, 1e-4)
    assert train.classes == ("cat", "dog")  # as described; nobody has seen a cow
    assert list(tiny.boxes(tiny.split(tmp_path, "auto", "val", beside=("train",)))) == ["b"]
    (tmp_path / "oidv6-validation-annotations-bbox.csv").unlink()
    with pytest.raises(
        InputError, match=r"bbox\.csv: is of the split 'train'; expected one of 'val'"
    ):
        tiny.split(tmp_path, "open_images", "val")
