"""Files of detections: what is written comes back; damaged and foreign files are named."""

import os
import re

import numpy as np
import pytest

from ohem_tf.errors import InputError
from ohem_tf.evaluation import detections

IDS = ["000012", "000007", "139"]
SETTINGS = {"split": "voc07/test", "checkpoint": "ckpt-8", "detection": {"flip": False, "x": 1e-5}}


def found(count, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "boxes": rng.uniform(0, 500, (count, 4)).astype(np.float32),
        "scores": rng.uniform(0, 1, count).astype(np.float32),
        "classes": rng.integers(1, 21, count).astype(np.int32),
    }


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "detections.npz"
    detections.save(path, IDS, [found(3), found(0), found(5, seed=1)], SETTINGS)
    return path


def test_what_is_written_comes_back(path):
    assert os.listdir(path.parent) == ["detections.npz"]
    image_ids, read, settings = detections.load(path)
    assert image_ids == IDS
    assert settings == SETTINGS
    assert [len(image["scores"]) for image in read] == [3, 0, 5]
    for image, expected in zip(read, [found(3), found(0), found(5, seed=1)], strict=True):
        assert list(image) == ["boxes", "scores", "classes"]
        for name, array in image.items():
            assert array.dtype == expected[name].dtype
            np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("counts", [[], [0, 0]])
def test_nothing_found(tmp_path, counts):
    ids = IDS[: len(counts)]
    detections.save(tmp_path / "a.npz", ids, [found(n) for n in counts], {})
    image_ids, read, _ = detections.load(tmp_path / "a.npz")
    assert image_ids == ids
    assert [image["boxes"].shape for image in read] == [(0, 4)] * len(counts)


def test_a_crash_while_writing_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def crash(file, **arrays):
        with open(file, "wb") as stream:
            stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", crash)
    with pytest.raises(KeyboardInterrupt):
        detections.save(path, IDS[:1], [found(1)], SETTINGS)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["detections.npz"]


def refused(path):
    with pytest.raises(InputError, match=re.escape(str(path))) as error:
        detections.load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_that_is_cut_off_anywhere_is_refused(path):
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        refused(path)


def test_a_changed_byte_is_refused_or_changes_nothing(path):
    """Some bytes of a zip archive, such as times, do not matter."""
    whole, refusals = path.read_bytes(), 0
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            image_ids, read, settings = detections.load(path)
        except InputError:
            refusals += 1
        else:
            assert (image_ids, settings) == (IDS, SETTINGS)
            np.testing.assert_array_equal(read[2]["boxes"], found(5, seed=1)["boxes"])
    assert refusals > len(whole) / 10


@pytest.mark.parametrize(
    "change",
    [
        {"scores": np.zeros(7, np.float32)},
        {"boxes": np.zeros((8, 5), np.float32)},
        {"classes": np.zeros(8)},
        {"counts": np.array([3, -1, 6])},
        {"counts": np.array([3, 5])},
        {"counts": np.array(["3", "0", "5"])},
        {"image_ids": np.arange(3)},
        {"settings": np.array("not json")},
        {"settings": np.array("[]")},
        {"settings": np.array([{}], object)},  # a pickle
    ],
)
def test_foreign_arrays_are_refused(path, change):
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays)
    detections.load(path)
    np.savez(path, **arrays | change)
    refused(path)


def test_other_files_are_refused(tmp_path):
    assert "No such file" in refused(tmp_path / "absent.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    refused(tmp_path / "array.npy")
    np.savez(tmp_path / "weights.npz", fc6=np.zeros(3))
    assert "boxes" in refused(tmp_path / "weights.npz")
    (tmp_path / "metrics.json").write_text("{}")
    refused(tmp_path / "metrics.json")
    refused(tmp_path)
