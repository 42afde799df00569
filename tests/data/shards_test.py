"""Shards: the record of an entry, what counts as the same input, the closing table."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ohem_tf.data import checks, shards
from ohem_tf.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)


def encode(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


def make_entry(**changes) -> checks.Checked:
    objects = (
        checks.Object("dog", (0, 1, 4, 6), True, False, None, "object 1", ""),
        checks.Object("cat", (2, 2, 9, 7), False, True, 12.5, "object 2", ""),
    )
    entry = checks.Checked("a", "x/a.jpg", "a.xml", 9, 7, objects, (), 1, "d1")
    return dataclasses.replace(entry, **changes)


def test_record_of_an_entry():
    boxes = np.array([[0, 0, 5, 5]], np.float32)
    record = shards.make_record(make_entry(), ("cat", "dog"), encode("PNG"), "png", boxes)
    np.testing.assert_array_equal(record.boxes, [[0, 1, 4, 6], [2, 2, 9, 7]])
    np.testing.assert_array_equal(record.classes, [2, 1])
    np.testing.assert_array_equal(record.difficult, [True, False])
    np.testing.assert_array_equal(record.crowd, [False, True])
    np.testing.assert_array_equal(record.area, [20, 12.5])  # its own, else the box's
    assert (record.filename, record.image_format) == ("a.jpg", "png")
    assert record.encoded == encode("PNG")


def test_what_tensorflow_does_not_decode_becomes_png():
    record = shards.make_record(make_entry(), ("cat", "dog"), encode("TIFF"), "jpeg", np.zeros(0))
    assert record.image_format == "png"
    np.testing.assert_array_equal(tf.io.decode_image(record.encoded), PIXELS)


def test_content_decides_what_is_the_same_input():
    entry = make_entry()
    same = shards.fingerprint(shards.content_settings([entry]))
    moved = dataclasses.replace(entry, image_path="elsewhere/a.jpg", annotation="elsewhere/a.xml")
    assert shards.fingerprint(shards.content_settings([moved])) == same
    moved_box = dataclasses.replace(entry.objects[0], box=(0, 1, 4, 6.5))
    for change, key in (
        ({"image_id": "b"}, "image ids"),
        ({"digest": "d2"}, "image files"),
        ({"objects": entry.objects[:1]}, "annotations"),
        ({"objects": (moved_box, entry.objects[1])}, "annotations"),
    ):
        settings = shards.content_settings([dataclasses.replace(entry, **change)])
        assert shards.fingerprint(settings) != same
        old = {"settings": shards.content_settings([entry])}
        (difference,) = shards.differences(old, settings)
        assert difference.startswith(f"{key} (there: ")


def test_what_an_earlier_run_left(tmp_path):
    dataset = {"splits": {"t": {"fingerprint": "finished"}}}
    assert shards.earlier(tmp_path, "t", dataset) == {"fingerprint": "finished"}
    assert shards.earlier(tmp_path, "u", dataset) is None
    partial = shards.partial_path(tmp_path, "t")
    partial.write_text('{"fingerprint": "partial", "settings": {}, "shards": []}')
    assert shards.earlier(tmp_path, "t", dataset)["fingerprint"] == "partial"
    for content, problem in (
        (b'{"fingerpr', "not valid json"),
        (b"\xff\xfe", "not valid json"),
        (b"[]", "lacks 'fingerprint'"),
        (b'{"fingerprint": "x", "settings": {}}', "lacks 'shards'"),
    ):
        partial.write_bytes(content)
        with pytest.raises(InputError, match=rf"t\.partial\.json: {problem}.*delete it and run"):
            shards.earlier(tmp_path, "t", dataset)


def test_discard_takes_the_shards_of_one_split(tmp_path):
    """Finished or not, and those of no split whose name is like it."""
    gone = ["t-00000-of-00002.tfrecord", "new+t-00001-of-00002.tfrecord", "t.partial.json"]
    kept = ["u-00000-of-00001.tfrecord", "new-t-00000-of-00001.tfrecord", "dataset.json"]
    for name in gone + kept:
        (tmp_path / name).touch()
    shards.discard(tmp_path, "t")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_counts_and_table():
    entries = [make_entry(), make_entry(image_id="b", objects=(), clipped=0)]
    written = [
        {"file": "t-0", "records": 1, "proposals": 30, "without_proposals": 0}
        | {"countable": 3, "covered": 2},
        {"file": "t-1", "records": 1, "proposals": 0, "without_proposals": 1}
        | {"countable": 1, "covered": 1},
    ]
    settings = {"proposals": {"method": "selective_search"}}
    info = shards.describe(entries, {"empty box": 2}, ("cat", "cow", "dog"), settings, written)
    assert (info["images"], info["objects"], info["difficult"], info["crowd"]) == (2, 2, 1, 1)
    assert info["per_class"] == {"cat": 1, "cow": 0, "dog": 1}
    assert info["clipped"] == 1
    assert info["proposals"]["mean_per_image"] == 15
    assert info["proposals"]["recall_at_0.5"] == 0.75
    text = shards.summary("t", entries, info, Path("out"))
    rows = [line.split() for line in text.splitlines()]
    assert ["dog", "1", "1", "1", "0"] in rows
    assert ["cow", "0", "0", "0", "0"] in rows
    assert ["all", "2", "2", "1", "1"] in rows
    assert "skipped: empty box 2" in text
    assert "warning: 1 images have no proposal" in text
    assert "0.7500 of 4 objects: the ceiling of any detector" in text


def test_recall_without_countable_objects_is_unknown():
    written = [{"file": "t-0", "records": 1, "proposals": 3, "without_proposals": 0}]
    written[0] |= {"countable": 0, "covered": 0}
    settings = {"proposals": {"method": "file"}}
    info = shards.describe([make_entry()], {}, ("cat", "dog"), settings, written)
    assert info["proposals"]["recall_at_0.5"] is None
    assert "recall" not in shards.summary("t", [make_entry()], info, Path("out"))
