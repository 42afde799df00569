"""Damaged records: named by shard and number, or replaced by the next whole one."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tiny
import tiny_voc

from ohem_tf import prepare
from ohem_tf.data import pipeline, records, shards, tfrecord
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.skipping import SkippingReader
from ohem_tf.errors import InputError

COUNT = 5


def flip(directory, number: int) -> None:
    """Flips a bit in the middle of a record."""
    path = directory / "train-00000-of-00001.tfrecord"
    frame = tfrecord.scan(path)[0][number]
    content = bytearray(path.read_bytes())
    content[frame.start + frame.length // 2] ^= 4
    path.write_bytes(content)


@pytest.fixture
def directory(tmp_path):
    members = [tiny.make_record(i, 60, 80, 2) for i in range(COUNT)]
    return tiny.write_dataset(tmp_path, {"train": members})


def stream(reader) -> TrainingStream:
    return TrainingStream(reader, 1, 0, (48,), 96)


def test_an_error_names_shard_and_record(directory):
    flip(directory, 3)
    reader = RecordReader(directory, "train")
    named = r"train-00000-of-00001\.tfrecord: record 3 is damaged \(its checksum"
    for call in (reader.__getitem__, reader.record, reader.check):
        with pytest.raises(InputError, match=named):
            call(3)
        call(2)
    with pytest.raises(InputError, match=named):
        list(pipeline.evaluation_examples(reader))
    step = next(s for s in range(99) if stream(reader).choice(s).record == 3)
    with pytest.raises(InputError, match=named):
        stream(reader).check(step)


def test_the_next_whole_record_takes_the_place(directory):
    whole = [RecordReader(directory, "train")[i] for i in range(COUNT)]
    flip(directory, 3)
    flip(directory, 4)
    reader = SkippingReader(RecordReader(directory, "train"))
    assert [reader[i] for i in range(COUNT)] == [*whole[:3], whole[0], whole[0]]
    assert sorted(reader.skipped) == [3, 4]
    assert "skipped 2 of 5 records; the first: " in reader.summary()
    with pytest.raises(IndexError):
        reader[COUNT]
    images = stream(reader).dataset().take(2 * COUNT).as_numpy_iterator()
    for step, batch in enumerate(images):
        index = stream(reader).choice(step).record
        expected = records.from_example(whole[index if index < 3 else 0])
        assert len(batch["gt_classes"][0]) == len(expected.classes)
        assert stream(reader).image_ids(step) == [expected.image_id]


def test_no_whole_record(directory):
    for number in range(COUNT):
        flip(directory, number)
    reader = SkippingReader(RecordReader(directory, "train"))
    with pytest.raises(InputError, match="no record of its split is whole"):
        reader[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoded": b"hello"}, "cannot be decoded"),
        ({"height": 61}, r"has height and width \(60, 80\); expected \(61, 80\)"),
        ({"height": -1}, "a size of 80 x -1"),
        ({"classes": np.array([1, 4], np.int32)}, "its classes are not 1 to 3"),
        ({"classes": np.array([1], np.int32)}, "classes: 1 values for 2 boxes"),
        ({"boxes": np.full((2, 4), np.nan, np.float32)}, "boxes that are no boxes"),
        ({"proposals": np.array([[5, 5, 1, 9]], np.float32)}, "proposals that are no boxes"),
        ({"image_id": "../x"}, "'../x' is no image id"),
    ],
)
def test_records_with_right_checksums_and_wrong_content(tmp_path, changes, message):
    record = dataclasses.replace(tiny.make_record(1, 60, 80, 2), **changes)
    names = (*tiny.CLASSES, "more")
    path = tmp_path / "train-00000-of-00001.tfrecord"
    records.write_shard(path, [records.to_example(record, names), b"hello"])
    split = {"shards": [{"file": path.name, "records": 2}]}
    info = {"classes": list(tiny.CLASSES), "splits": {"train": split}}
    (tmp_path / "dataset.json").write_text(json.dumps(info))
    reader = RecordReader(tmp_path, "train")
    with pytest.raises(InputError, match=rf"{path.name}: record 0: .*{message}"):
        reader.check(0)
    with pytest.raises(InputError, match=rf"{path.name}: record 1: not as `prepare` writes it"):
        reader.check(1)


def test_a_shard_that_changed_since_prepare(tmp_path):
    root = tiny_voc.make(tmp_path / "voc")
    options = prepare.Options("voc", str(root), ("train",), str(tmp_path / "out"), "none")
    info = prepare.prepare(options)
    (shard,) = info["splits"]["train"]["shards"]
    path = tmp_path / "out" / shard["file"]
    assert shards.intact(tmp_path / "out", shard)
    other = [RecordReader(tmp_path / "out", "train")[i] for i in (0, 1, 2, 4, 3)]
    records.write_shard(path, other)
    with pytest.raises(InputError, match=rf"{path.name}: has changed since prepare \(checksum"):
        RecordReader(tmp_path / "out", "train")
    assert not shards.intact(tmp_path / "out", shard)
    prepare.prepare(options)  # makes it again
    assert shards.intact(tmp_path / "out", shard)


def test_a_record_that_one_parser_takes_and_another_refuses(tmp_path):
    whole = records.to_example(tiny.make_record(1, 60, 80, 2), tiny.CLASSES)
    damaged = whole.replace(b"image/object/class/text", b"image/object/class/te\xf9t")
    path = tmp_path / "train-00000-of-00001.tfrecord"
    records.write_shard(path, [damaged])
    split = {"shards": [{"file": path.name, "records": 1}]}
    info = {"classes": list(tiny.CLASSES), "splits": {"train": split}}
    (tmp_path / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=rf"{path.name}: record 0"):
        RecordReader(tmp_path, "train").check(0)
