"""Records: what is written is what is read, in numpy, in a TF graph and by random access."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ohem_tf.data import records
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError
from ohem_tf.files import write_json

NAMES = ("cat", "dog")


def make_record(image_id: str = "000012", objects: int = 2, proposals: int = 3) -> records.Record:
    rng = np.random.default_rng(len(image_id) + objects + proposals)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (9, 7, 3), np.uint8)).save(buffer, "PNG")

    def boxes(count: int) -> np.ndarray:
        corners = rng.uniform(0, 3, (count, 4)).astype(np.float32)
        corners[:, 2:] += np.float32(4 / 3)
        return corners

    return records.Record(
        image_id=image_id,
        encoded=buffer.getvalue(),
        image_format="png",
        height=9,
        width=7,
        boxes=boxes(objects),
        classes=rng.integers(1, 3, objects).astype(np.int32),
        difficult=rng.integers(0, 2, objects).astype(bool),
        crowd=rng.integers(0, 2, objects).astype(bool),
        area=rng.uniform(1, 50, objects).astype(np.float32),
        proposals=boxes(proposals),
        filename=f"{image_id}.PNG",
    )


def write_dataset(directory, shards: list[list[bytes]], split: str = "train", **changes) -> None:
    entries = []
    for i, examples in enumerate(shards):
        name = records.shard_name(split, i, len(shards))
        records.write_shard(directory / name, examples)
        entries.append({"file": name, "records": len(examples)})
    info = {"classes": list(NAMES), "category_ids": [3, 9], "splits": {split: {"shards": entries}}}
    write_json(directory / "dataset.json", info | changes)


@pytest.mark.parametrize(("objects", "proposals"), [(2, 3), (0, 3), (2, 0), (0, 0), (1, 1)])
def test_round_trip_is_exact_in_numpy_and_in_a_graph(objects, proposals):
    record = make_record(objects=objects, proposals=proposals)
    serialized = records.to_example(record, NAMES)
    back = records.from_example(serialized)
    parsed = tf.function(records.parse_example)(tf.constant(serialized))
    for field in dataclasses.fields(records.Record):
        want, got = getattr(record, field.name), getattr(back, field.name)
        if isinstance(want, np.ndarray):
            assert got.dtype == want.dtype, field.name
            np.testing.assert_array_equal(got, want, err_msg=field.name)
            np.testing.assert_array_equal(parsed[field.name].numpy(), want, err_msg=field.name)
            assert parsed[field.name].dtype == want.dtype
        else:
            assert got == want, field.name
    assert parsed["image_id"].numpy() == b"000012"
    assert parsed["encoded"].numpy() == record.encoded
    assert (int(parsed["height"]), int(parsed["width"])) == (9, 7)
    assert parsed["height"].dtype == tf.int32
    assert set(parsed) == {
        *("encoded", "image_id", "height", "width", "boxes", "classes", "difficult", "crowd"),
        *("area", "proposals"),
    }


def test_keys_are_those_of_the_object_detection_api():
    record = make_record()
    feature = tf.train.Example.FromString(records.to_example(record, NAMES)).features.feature
    sides = ("ymin", "xmin", "ymax", "xmax")
    expected = {f"image/object/bbox/{side}" for side in sides}
    expected |= {f"image/object/bbox_pixels/{side}" for side in sides}
    expected |= {f"image/proposal/bbox/{side}" for side in sides}
    expected |= {f"image/{key}" for key in ("encoded", "format", "filename", "source_id")}
    expected |= {"image/height", "image/width", "image/object/class/label"}
    expected |= {"image/object/class/text", "image/object/difficult", "image/object/is_crowd"}
    expected |= {"image/object/area"}
    assert set(feature) == expected
    normalised = np.stack([feature[f"image/object/bbox/{s}"].float_list.value for s in sides], -1)
    np.testing.assert_allclose(normalised * [9, 7, 9, 7], record.boxes, rtol=1e-6)
    text = [value.decode() for value in feature["image/object/class/text"].bytes_list.value]
    assert text == [NAMES[label - 1] for label in record.classes]


def test_same_record_same_bytes():
    assert records.to_example(make_record(), NAMES) == records.to_example(make_record(), NAMES)


def test_filename_defaults_to_id_and_format():
    record = dataclasses.replace(make_record("7"), filename="")
    assert records.from_example(records.to_example(record, NAMES)).filename == "7.png"


def test_reader_gives_any_record_in_any_order_from_many_threads(tmp_path):
    examples = [records.to_example(make_record(str(i), i % 3, i), NAMES) for i in range(7)]
    write_dataset(tmp_path, [examples[:3], examples[3:4], examples[4:]])
    reader = RecordReader(tmp_path, "train")
    assert len(reader) == 7
    assert reader.classes == NAMES
    assert reader.category_ids == (3, 9)
    order = np.random.default_rng(0).integers(0, 7, 300).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for index, got in zip(order, pool.map(reader.__getitem__, order), strict=True):
            assert got == examples[index]
    with pytest.raises(IndexError):
        reader[7]
    files = sorted(str(path) for path in tmp_path.glob("*.tfrecord"))
    assert [e.numpy() for e in tf.data.TFRecordDataset(files)] == list(reader)


def test_reader_names_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.json: not found"):
        RecordReader(tmp_path, "train")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="not valid json"):
        RecordReader(tmp_path, "train")
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(InputError, match="lacks"):
        RecordReader(tmp_path, "train")

    examples = [records.to_example(make_record(str(i)), NAMES) for i in range(4)]
    write_dataset(tmp_path, [examples[:2], examples[2:]])
    with pytest.raises(InputError, match="no split 'val'; splits prepared there: train"):
        RecordReader(tmp_path, "val")

    shard = tmp_path / records.shard_name("train", 1, 2)
    whole = shard.read_bytes()
    for cut in (5, len(whole) - 1):
        shard.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=f"{shard.name}: ends within record"):
            RecordReader(tmp_path, "train")
    records.write_shard(shard, examples[:1])
    with pytest.raises(InputError, match=r"holds 1 records, dataset\.json says 2"):
        RecordReader(tmp_path, "train")
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name}: shard is missing"):
        RecordReader(tmp_path, "train")


def test_empty_split_is_an_error(tmp_path):
    write_dataset(tmp_path, [])
    with pytest.raises(InputError, match="split 'train' holds no image"):
        RecordReader(tmp_path, "train")


def test_a_shard_is_written_atomically(tmp_path):
    def breaks():
        yield b"first"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        records.write_shard(tmp_path / "x.tfrecord", breaks())
    assert list(tmp_path.iterdir()) == []
