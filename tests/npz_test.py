"""Arrays of .npz files: as numpy reads them, and every flipped byte is found."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from ohem_tf import npz

ARRAY = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_wrote(tmp_path, save):
    save(tmp_path / "x.npz", a=ARRAY, b=np.array("text"))
    with np.load(tmp_path / "x.npz") as file:
        np.testing.assert_array_equal(npz.read(file, "a"), ARRAY)
        assert npz.read(file, "b") == "text"
        assert npz.size(file, "a") == 128 + ARRAY.nbytes
        with pytest.raises(KeyError):
            npz.read(file, "c")


def test_a_damaged_header_that_says_less(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros((10_000, 4)))
    content = (tmp_path / "x.npz").read_bytes()
    assert content.count(b"(10000, 4)") == 1
    (tmp_path / "x.npz").write_bytes(content.replace(b"(10000, 4)", b"(    9, 4)"))
    with np.load(tmp_path / "x.npz") as file:
        assert file["a"].shape == (9, 4)  # numpy alone does not notice
        with pytest.raises(Exception, match="Bad CRC-32"):
            npz.read(file, "a")


def test_more_data_than_the_header_says(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, ARRAY)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("a.npy", buffer.getvalue() + b"x")
    with np.load(tmp_path / "x.npz") as file, pytest.raises(ValueError, match="a: more data than"):
        npz.read(file, "a")
