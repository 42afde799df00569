"""Shards: what counts as the same input, and what an earlier run left."""

from __future__ import annotations

import dataclasses

import pytest
import tiny_voc

from ohem_tf.data import shards
from ohem_tf.errors import InputError


def test_content_decides_what_is_the_same_input():
    entry = tiny_voc.checked()
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
