"""Records under a check: clean ones, and each kind of damage planted once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tiny
from by_hand import iou

from ohem_tf import check
from ohem_tf.data import records
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import from_example
from ohem_tf.errors import InputError


def counts(outcome) -> dict[str, int]:
    return {row["kind"]: row["count"] for row in outcome.as_json()["counts"]}


def plant():
    """Records with one flaw each, and how often a check should find what."""
    good = [tiny.make_record(i, 96, 128, objects=2) for i in range(9)]
    change = dataclasses.replace
    bad = [
        change(good[0], encoded=good[0].encoded[:-40]),
        change(good[1], width=127),
        change(good[2], boxes=good[2].boxes + np.float32([0, 0, 0, 200])),
        change(good[3], boxes=good[3].boxes * np.float32([1, np.nan, 1, 1])),
        change(good[4], boxes=good[4].boxes[[0, 0]], classes=good[4].classes[[0, 0]]),
        change(good[5], boxes=np.float32([[4, 4, 5, 50], [50, 50, 80, 90]])),
        change(good[6], encoded=tf.io.encode_jpeg(tf.io.decode_png(good[6].encoded)).numpy()),
        change(good[6], image_id="copy"),
    ]
    return bad, {
        "image unreadable": 1,
        "wrong size": 1,
        "box outside the image": 2,
        "box not numeric": 2,
        "doubled box": 1,
        "tiny box": 1,
        "same image twice in a split": 1,
    }


def test_a_clean_data_set_has_no_finding(dataset):
    outcome = check.check(None, str(dataset), min_examples=0)
    assert (outcome.findings, outcome.errors) == ([], 0)
    assert [split.name for split in outcome.splits] == ["train", "val"]
    train = outcome.as_json()["splits"]["train"]
    assert (train["images"], train["readable"], train["without_object"]) == (8, 8, 1)


def test_each_kind_is_found_once(tmp_path):
    bad, expected = plant()
    tiny.write_dataset(tmp_path, {"train": bad})
    outcome = check.check(None, str(tmp_path), min_examples=0)
    assert counts(outcome) == expected
    assert outcome.errors == 6
    assert all(f"{tmp_path}: train: record " in finding.message for finding in outcome.findings)


def test_bytes_that_are_no_record(tmp_path):
    good = tiny.make_record(0, 96, 128, objects=2)
    tiny.write_dataset(tmp_path, {"train": [good] * 3})
    example = records.to_example(good, tiny.CLASSES)
    feature = tf.train.Example.FromString(example)
    feature.features.feature["image/object/class/label"].int64_list.value[0] = 7
    del feature.features.feature["image/encoded"]
    shard = tmp_path / records.shard_name("train", 0, 1)
    records.write_shard(shard, [b"\xff\xff\xff", feature.SerializeToString(), example])
    outcome = check.check(None, str(tmp_path), min_examples=0)
    assert counts(outcome) == {"record unreadable": 2}
    assert "train: record 1: cannot be read" in outcome.findings[1].message
    assert len(outcome.splits[0].entries) == 1


def test_a_label_that_is_no_class(tmp_path):
    good = tiny.make_record(0, 96, 128, objects=2)
    tiny.write_dataset(tmp_path, {"train": [good]}, classes=("a", "b", "c"))
    example = tf.train.Example.FromString(records.to_example(good, tiny.CLASSES))
    example.features.feature["image/object/class/label"].int64_list.value[1] = 4
    shard = tmp_path / records.shard_name("train", 0, 1)
    records.write_shard(shard, [example.SerializeToString()])
    outcome = check.check(None, str(tmp_path), min_examples=0)
    assert counts(outcome) == {"unknown class": 1}
    assert "object 2: label 4 is none of the 3 classes" in outcome.findings[0].message


def test_parts_of_splits(dataset):
    outcome = check.check(None, str(dataset), ["train[:50%]", "val[1:3]"], min_examples=0)
    sizes = {name: split["images"] for name, split in outcome.as_json()["splits"].items()}
    assert sizes == {"train[:50%]": 4, "val[1:3]": 2}
    with pytest.raises(InputError, match="no split test"):
        check.check(None, str(dataset), ["test"])


def test_recall_is_that_by_hand(dataset):
    recall = check.check(None, str(dataset), ["train"]).as_json()["splits"]["train"]["proposals"]
    reader = RecordReader(dataset, "train")
    found = [from_example(reader[i]) for i in range(len(reader))]
    hits = {}
    for record in found:
        for box, label in zip(record.boxes, record.classes, strict=True):
            area = (box[2] - box[0]) * (box[3] - box[1])
            size = "small" if area < 32 * 32 else "medium" if area < 96 * 96 else "large"
            hit = max(iou(box, proposal) for proposal in record.proposals) >= 0.5
            for key in (tiny.CLASSES[label - 1], size, "all"):
                hits.setdefault(key, []).append(hit)
    shares = {**recall["classes"], **recall["sizes"], "all": recall["all"]}
    for key, share in shares.items():
        objects = hits.get(key, [])
        assert share["objects"] == len(objects)
        assert share["recall"] == (pytest.approx(np.mean(objects)) if objects else None)
    assert recall["proposals_per_image"] == np.mean([len(record.proposals) for record in found])
