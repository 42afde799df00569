"""What is done with one image: pure, picklable, and without TensorFlow until it is serialized."""

from __future__ import annotations

import dataclasses
import functools
import io
import os

import numpy as np
import pytest
import tensorflow as tf
import tiny_voc
from PIL import Image

from ohem_tf.data import checks, one_image, records, voc
from ohem_tf.data.workers import Workers
from ohem_tf.errors import InputError

CLASSES = ("cat", "dog")
SETTINGS = one_image.Settings(CLASSES)
PIXELS = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)


def encode(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def entry(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode("PNG"))
    return tiny_voc.checked(image_path=str(path))


def same(a: one_image.Prepared, b: one_image.Prepared) -> bool:
    serialized = [records.to_example(x.record, CLASSES) for x in (a, b)]
    return serialized[0] == serialized[1] and a.counts == b.counts


def test_a_record_is_what_the_entry_the_file_and_the_boxes_say(entry):
    boxes = np.array([[0, 0, 5, 5]], np.float32)
    record, counts = one_image.make_record(entry, boxes, SETTINGS)
    np.testing.assert_array_equal(record.boxes, [[0, 1, 4, 6], [2, 2, 9, 7]])
    np.testing.assert_array_equal(record.classes, [2, 1])
    np.testing.assert_array_equal(record.difficult, [True, False])
    np.testing.assert_array_equal(record.crowd, [False, True])
    np.testing.assert_array_equal(record.area, [20, 12.5])  # its own, else the box's
    np.testing.assert_array_equal(record.proposals, boxes)
    assert (record.image_id, record.height, record.width) == ("a", 9, 7)
    assert (record.filename, record.image_format) == ("a.png", "png")
    assert record.encoded == encode("PNG")
    assert counts == (1, 0, 0, 0)  # a difficult object and a crowd do not count


def test_counts_by_hand(entry):
    dog, cat = (dataclasses.replace(o, difficult=False, crowd=False) for o in entry.objects)
    entry = dataclasses.replace(entry, objects=(dog, cat, dataclasses.replace(cat, crowd=True)))
    for boxes, counts in (
        ([[0, 1, 4, 6], [0, 0, 1, 1]], (2, 0, 2, 1)),
        ([[0, 1, 4, 6], [2, 2, 9, 6]], (2, 0, 2, 2)),
        (np.zeros((0, 4)), (0, 1, 2, 0)),
    ):
        made = one_image.make_record(entry, np.float32(boxes), SETTINGS)
        assert made.counts == one_image.Counts(*counts)


def test_without_boxes_it_is_searched(tmp_path):
    objects = (("cat", 10, 8, 30, 30), ("dog", 40, 20, 60, 52), ("cat", 50, 5, 79, 30))
    tiny_voc.make_image(tmp_path, "a", *objects, size=(80, 60))
    entry = one_image.check_image(voc.Listed(str(tmp_path), "a"))
    record, counts = one_image.make_record(entry, None, SETTINGS)
    assert counts == (len(record.proposals), 0, 3, 3)
    large = dataclasses.replace(SETTINGS, min_proposal_size=20)
    some = one_image.make_record(entry, None, large).record.proposals
    kept = np.all(record.proposals[:, 2:] - record.proposals[:, :2] >= 20, axis=1)
    np.testing.assert_array_equal(some, record.proposals[kept])
    assert 0 < len(some) < counts.proposals
    quality = dataclasses.replace(SETTINGS, search_mode="quality")
    assert one_image.make_record(entry, None, quality).counts.proposals > counts.proposals


def test_worker_processes_give_the_same_and_load_no_tensorflow(tmp_path):
    root = tiny_voc.make(tmp_path)
    (root / "Annotations/b.xml").unlink()
    bare = checks.Entry("b", str(root / "JPEGImages/b.JPG"), "b.json", 40, 48, ())
    images = [voc.Listed(str(root), "a"), voc.Listed(str(root), "b", annotated=False), bare]
    boxes = [None, np.float32([[0, 0, 9, 9]]), None]
    make = functools.partial(one_image.make_record, settings=SETTINGS)
    before = sorted(os.walk(tmp_path))
    entries = [one_image.check_image(image) for image in images]
    with Workers(2) as workers:
        assert list(workers.map(one_image.check_image, images)) == entries
        made = list(workers.map(make, entries, boxes))
        loaded = list(workers.map(eval, ["'tensorflow' in __import__('sys').modules"] * 9))
    assert loaded == [False] * 9
    assert [len(entry.objects) for entry in entries] == [2, 0, 0]
    for entry, given, result in zip(entries, boxes, made, strict=True):
        for _ in range(2):  # nothing stays from the call before
            assert same(make(entry, given), result)
    assert sorted(os.walk(tmp_path)) == before


@pytest.mark.parametrize("boxes", [None, np.zeros((0, 4), np.float32)])
@pytest.mark.parametrize("content", [None, encode("PNG")[:-20]])
def test_an_image_that_changed_since_it_was_checked(entry, boxes, content):
    os.unlink(entry.image_path)
    if content:
        with open(entry.image_path, "wb") as file:
            file.write(content)
    with pytest.raises(InputError, match=r"a\.png: .* has changed since it was checked, run again"):
        one_image.make_record(entry, boxes, SETTINGS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_what_tensorflow_does_not_decode_becomes_png(entry, kind):
    record = one_image.make_record(entry, np.zeros((0, 4)), SETTINGS).record
    record = dataclasses.replace(record, encoded=encode(kind), image_format="jpeg")
    stored = records.from_example(one_image.serialize(record, CLASSES))
    if kind == "TIFF":
        assert stored.image_format == "png"
        np.testing.assert_array_equal(tf.io.decode_png(stored.encoded), PIXELS)
        record = dataclasses.replace(record, encoded=stored.encoded, image_format="png")
    assert records.to_example(stored, CLASSES) == records.to_example(record, CLASSES)
