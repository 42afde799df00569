"""Splits: what is checked, what is dropped, and which classes there are."""

from __future__ import annotations

import json

import pytest
import tiny_voc

from ohem_tf.data import splits
from ohem_tf.data.workers import Workers
from ohem_tf.errors import InputError


@pytest.fixture
def root(tmp_path):
    return tiny_voc.make(tmp_path / "voc")


def checked(root, name="train", on_bad_record="error") -> splits.Split:
    split = splits.list_voc(root, name, on_bad_record)
    with Workers(0) as workers:
        split.check(workers)
    return split


def ids(split) -> str:
    return "".join(entry.image_id for entry in split.entries)


@pytest.mark.parametrize("kind", [*tiny_voc.BAD_IMAGES, *tiny_voc.BAD_OBJECTS, "xml"])
def test_a_bad_record_is_an_error(root, kind):
    expected = tiny_voc.damage(root, kind)
    with pytest.raises(InputError) as caught:
        checked(root)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ids(checked(root, "test")) == "tu"


@pytest.mark.parametrize("kind", [*tiny_voc.BAD_IMAGES, *tiny_voc.BAD_OBJECTS])
def test_skip_drops_objects_and_only_unreadable_images(root, kind):
    tiny_voc.damage(root, kind)
    split = checked(root, on_bad_record="skip")
    assert list(split.skipped.values()) == [1]
    assert ids(split) == ("abcd" if kind in tiny_voc.BAD_IMAGES else "abcde")
    if kind in tiny_voc.BAD_OBJECTS:
        assert [item.box for item in split.entries[-1].objects] == [(4, 4, 24, 24)]


def test_skip_does_not_cover_an_annotation_that_cannot_be_read(root):
    tiny_voc.damage(root, "xml")
    with pytest.raises(InputError, match="xml that does not parse"):
        checked(root, on_bad_record="skip")


def test_a_split_without_a_readable_image_is_refused(root):
    for name in "tu":
        (root / f"JPEGImages/{name}.png").unlink()
    with pytest.raises(InputError, match="'test' is empty: none of its 2 images can be read"):
        checked(root, "test", on_bad_record="skip")


def test_classes_are_found_and_others_dropped(root):
    assert splits.find_classes(checked(root)) == ("cat", "dog")
    with pytest.raises(InputError, match=r"a\.xml: object 1: unknown class 'dog'"):
        checked(root).keep_classes(("cat",))
    split = checked(root, on_bad_record="skip")
    split.keep_classes(("cat",))
    assert split.skipped == {"unknown class": 2}
    assert [len(entry.objects) for entry in split.entries] == [1, 2, 0, 0, 1]
    tiny_voc.make_split(root, "train", "c")
    with pytest.raises(InputError, match="'train' has no object, so no classes"):
        splits.find_classes(checked(root))


def write_coco(path, **changes) -> None:
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 7, "name": "cow"}, {"id": 3, "name": "cat"}],
        "annotations": [],
    }
    path.write_text(json.dumps(data | changes))


def test_coco_categories_agree_among_splits(tmp_path):
    write_coco(tmp_path / "one.json")
    write_coco(tmp_path / "two.json", categories=[{"id": 8, "name": "cow"}])
    one, two = (splits.list_coco(tmp_path / f"{n}.json", tmp_path, n) for n in ("one", "two"))
    assert splits.find_classes(one) == ("cat", "cow")
    assert splits.category_ids([one], ("cow", "cat"), {}) == [7, 3]
    assert splits.category_ids([one, two], ("cat",), {}) == [3]  # cow is no class here
    with pytest.raises(InputError, match="'two': category 'cow' has id 8, but 7 in another split"):
        splits.category_ids([one, two], ("cat", "cow"), {})
    with pytest.raises(InputError, match="'one': category 'cow' has id 7, but 9"):
        splits.category_ids([one], ("cow",), {"cow": 9})
    with pytest.raises(InputError, match="--classes: 'dog' is no category; expected cat, cow"):
        splits.category_ids([one], ("dog",), {})


def test_an_annotation_of_an_unknown_coco_image(tmp_path):
    stray = {"image_id": 2, "category_id": 3, "bbox": [0, 0, 1, 1]}
    write_coco(tmp_path / "one.json", annotations=[stray])
    with pytest.raises(InputError, match="unknown image_id 2"):
        splits.list_coco(tmp_path / "one.json", tmp_path, "one")
    split = splits.list_coco(tmp_path / "one.json", tmp_path, "one", "skip")
    assert split.skipped == {"unknown image": 1}
