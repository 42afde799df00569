"""The entry of a split in dataset.json, and the closing table."""

from __future__ import annotations

from pathlib import Path

import tiny_voc

from ohem_tf.data import summary


def test_counts_and_table():
    entries = [tiny_voc.checked(), tiny_voc.checked(image_id="b", objects=(), clipped=0)]
    written = [
        {"file": "t-0", "records": 1, "proposals": 30, "without_proposals": 0}
        | {"countable": 3, "covered": 2},
        {"file": "t-1", "records": 1, "proposals": 0, "without_proposals": 1}
        | {"countable": 1, "covered": 1},
    ]
    settings = {"proposals": {"method": "selective_search"}}
    info = summary.describe(entries, {"empty box": 2}, ("cat", "1e3", "dog"), settings, written)
    assert (info["images"], info["objects"], info["difficult"], info["crowd"]) == (2, 2, 1, 1)
    assert info["per_class"] == {"cat": 1, "1e3": 0, "dog": 1}
    assert info["clipped"] == 1
    assert info["proposals"]["mean_per_image"] == 15
    assert info["proposals"]["recall_at_0.5"] == 0.75
    text = summary.table("t", entries, info, Path("out"))
    rows = [line.split() for line in text.splitlines()]
    assert ["dog", "1", "1", "1", "0"] in rows
    assert ["1e3", "0", "0", "0", "0"] in rows
    assert ["all", "2", "2", "1", "1"] in rows
    assert "skipped: empty box 2" in text
    assert "warning: 1 images have no proposal" in text
    assert "0.7500 of 4 objects: the ceiling of any detector" in text


def test_recall_without_countable_objects_is_unknown():
    written = [{"file": "t-0", "records": 1, "proposals": 3, "without_proposals": 0}]
    written[0] |= {"countable": 0, "covered": 0}
    settings = {"proposals": {"method": "file"}}
    info = summary.describe([tiny_voc.checked()], {}, ("cat", "dog"), settings, written)
    assert info["proposals"]["recall_at_0.5"] is None
    assert "recall" not in summary.table("t", [tiny_voc.checked()], info, Path("out"))
