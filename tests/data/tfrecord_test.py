"""TFRecord checksums: as TensorFlow's, and every flipped byte is found."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ohem_tf.data import records, tfrecord
from ohem_tf.errors import InputError

DATA = [b"", b"a", bytes(range(256)) * 5]


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "x.tfrecord"
    records.write_shard(path, DATA)
    return path


def test_reads_what_tensorflow_wrote(shard):
    frames, same = tfrecord.scan(shard)
    assert [tfrecord.read(frame) for frame in frames] == DATA
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert same["bytes"] == shard.stat().st_size == sum(map(len, DATA)) + 3 * 16


def test_every_flipped_byte_is_found_as_by_tensorflow(shard):
    whole = shard.read_bytes()
    for place in [*range(40), 300, len(whole) - 5, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        shard.write_bytes(damaged)
        with pytest.raises(InputError, match=r"x\.tfrecord: .*record \d"):
            [tfrecord.read(frame) for frame in tfrecord.scan(shard)[0]]
        with pytest.raises(tf.errors.DataLossError):
            list(tf.data.TFRecordDataset([str(shard)]))


def test_files_with_other_records_differ(shard, tmp_path):
    first = tfrecord.scan(shard)[1]
    assert tfrecord.scan(shard)[1] == first
    records.write_shard(shard, [b"", b"b", DATA[2]])
    second = tfrecord.scan(shard)[1]
    assert second["bytes"] == first["bytes"]
    assert second["checksum"] != first["checksum"]


def test_random_bytes_have_the_checksums_of_tensorflow(tmp_path):
    rng = np.random.default_rng(0)
    data = [rng.bytes(int(n)) for n in rng.integers(0, 3000, 20)]
    records.write_shard(tmp_path / "r", data)
    content = (tmp_path / "r").read_bytes()
    assert content == b"".join(
        tfrecord._HEADER.pack(len(x), tfrecord.masked_crc(len(x).to_bytes(8, "little")))
        + x
        + tfrecord._FOOTER.pack(tfrecord.masked_crc(x))
        for x in data
    )
