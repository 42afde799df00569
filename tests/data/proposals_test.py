"""Selective search is deterministic; proposal files of all kinds; recall."""

from __future__ import annotations

import io
import json
import random
import re

import h5py
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.io
from by_hand import iou
from PIL import Image

from ohem_tf.data import checks, proposals
from ohem_tf.errors import InputError


def make_picture(height=60, width=80) -> np.ndarray:
    """Rectangles and noise: something to segment."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 20, (height, width, 3))
    for _ in range(8):
        y, x = rng.integers(0, height - 20), rng.integers(0, width - 20)
        image[y : y + 20, x : x + 15] = rng.integers(0, 235, 3) + rng.integers(0, 20, (20, 15, 3))
    return image.astype(np.uint8)


def make_entry(image_id="a", height=60, width=80) -> checks.Checked:
    return checks.Checked(image_id, f"x/{image_id}_7.jpg", "a.xml", height, width, (), (), 0, "")


def test_tidy_keeps_the_order_and_removes_duplicates_and_slivers():
    boxes = [[5, 5, 9, 9], [0, 0, 2, 2], [5, 5, 9, 9], [0, 0, 1.9, 9], [0, 0, 9, 1], [1, 1, 4, 4]]
    expected = [[5, 5, 9, 9], [0, 0, 2, 2], [1, 1, 4, 4]]
    np.testing.assert_array_equal(proposals.tidy(boxes), expected)
    np.testing.assert_array_equal(proposals.tidy(boxes, min_size=3), [expected[0], expected[2]])
    assert proposals.tidy(np.zeros((0, 4))).shape == (0, 4)
    assert proposals.tidy(boxes).dtype == np.float32


def test_selective_search_gives_the_same_boxes_in_the_same_order():
    image = make_picture()
    first = proposals.selective_search(image)
    proposals.selective_search(image[:30])  # draws random numbers in between
    random.random()
    np.testing.assert_array_equal(proposals.selective_search(image), first)
    assert first.dtype == np.float32
    assert len(first) > 10
    assert len(np.unique(first, axis=0)) == len(first)
    assert np.all(first[:, 2:] - first[:, :2] >= 2)
    assert np.all((first >= 0) & (first <= [60, 80, 60, 80]))
    # The whole image is always one of the regions: boxes are (y, x), half-open.
    assert [0, 0, 60, 80] in first.tolist()


def test_selective_search_finds_the_rectangle_it_is_shown():
    image = np.full((60, 80, 3), 30, np.uint8)
    image[10:35, 20:70] = (200, 40, 40)
    found = proposals.selective_search(image)
    assert proposals.covered(np.array([[10, 20, 35, 70]]), found, 0.9).all()


def test_quality_mode_finds_more():
    image = make_picture()
    fast = proposals.selective_search(image, "fast")
    assert len(proposals.selective_search(image, "quality")) > len(fast)
    with pytest.raises(InputError, match="mode 'slow'; expected one of fast, quality"):
        proposals.selective_search(image, "slow")


@pytest.mark.parametrize("shape", [(1, 1), (3, 50)])
def test_tiny_images(shape):
    boxes = proposals.selective_search(np.zeros((*shape, 3), np.uint8))
    assert boxes.shape == (0 if min(shape) < 2 else 1, 4)


def test_read_and_search_uses_the_pixels_of_the_record(tmp_path):
    image = make_picture()
    Image.fromarray(image).save(tmp_path / "a.png")
    encoded, kind, boxes = proposals.read_and_search(str(tmp_path / "a.png"), "fast", 2.0)
    assert (encoded, kind) == ((tmp_path / "a.png").read_bytes(), "png")
    np.testing.assert_array_equal(boxes, proposals.selective_search(image))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(buffer, "JPEG", exif=exif)
    (tmp_path / "b.jpg").write_bytes(buffer.getvalue())
    _, _, boxes = proposals.read_and_search(str(tmp_path / "b.jpg"), "fast", 2.0)
    np.testing.assert_array_equal(boxes.max(axis=0)[2:], [60, 80])  # not turned


def reference_covered(boxes, candidates, threshold):
    return [any(iou(a, b) >= threshold for b in candidates) for a in boxes]


corner = st.tuples(*[st.integers(0, 12)] * 2)
some_boxes = st.lists(
    st.tuples(corner, st.tuples(*[st.integers(0, 9)] * 2)).map(
        lambda t: (t[0][0], t[0][1], t[0][0] + t[1][0], t[0][1] + t[1][1])
    ),
    max_size=6,
)


@hypothesis.given(some_boxes, some_boxes, st.sampled_from([0.3, 0.5, 0.75]))
def test_covered_agrees_with_a_loop(boxes, candidates, threshold):
    found = proposals.covered(
        np.array(boxes).reshape(-1, 4), np.array(candidates).reshape(-1, 4), threshold
    )
    assert found.tolist() == reference_covered(boxes, candidates, threshold)


BOXES = {
    "a": [[0, 0, 10, 20], [5, 6, 30, 40.5], [0, 0, 10, 20], [0, 0, 1, 9]],
    "b_7": [[1, 2, 3, 4]],
    "none": [],
}
TIDY = {"a": BOXES["a"][:2], "b": BOXES["b_7"], "none": []}


def cell(items) -> np.ndarray:
    array = np.empty((1, len(items)), object)
    array[0, :] = items
    return array


def write(path, boxes=BOXES):
    arrays = {key: np.array(value, np.float64).reshape(-1, 4) for key, value in boxes.items()}
    one_based = {key: value + np.array([1, 1, 0, 0]) for key, value in arrays.items()}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".json":
        path.write_text(json.dumps(boxes))
    elif path.name.endswith("v73.mat"):
        with h5py.File(path, "w", userblock_size=512) as file:
            references = {"boxes": [], "images": []}
            for i, (key, value) in enumerate(one_based.items()):
                text = file.create_dataset(f"t{i}", data=np.array([list(map(ord, key))]).T)
                if len(value):
                    data = file.create_dataset(f"b{i}", data=value.T)
                else:  # MATLAB stores an empty array as its dimensions
                    data = file.create_dataset(f"b{i}", data=np.array([0, 4], np.uint64))
                    data.attrs["MATLAB_empty"] = np.uint8(1)
                references["boxes"].append(data.ref)
                references["images"].append(text.ref)
            for key, values in references.items():
                file.create_dataset(key, data=np.array([values], h5py.ref_dtype))
        header = b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0, 2]) + b"IM"
        with path.open("r+b") as file:
            file.write(header)
    else:
        ids = [np.array([key]) for key in one_based]
        scipy.io.savemat(path, {"boxes": cell(list(one_based.values())), "images": cell(ids)})
    return path


@pytest.mark.parametrize("name", ["p.npz", "p.json", "p.mat", "p_v73.mat"])
def test_files_give_tidy_half_open_boxes(tmp_path, name):
    file = proposals.ProposalFile(write(tmp_path / name))
    for image_id, expected in TIDY.items():  # "b" is found by its file name, b_7
        boxes = file.get(make_entry(image_id))
        assert boxes.dtype == np.float32
        np.testing.assert_array_equal(boxes, np.reshape(expected, (-1, 4)))
    with pytest.raises(InputError, match=f"{re.escape(name)}: proposals missing for image c"):
        file.get(make_entry("c"))
    described = file.describe()
    assert (described["method"], described["file"]) == ("file", name)


def test_the_mat_layout_is_that_of_the_release(tmp_path):
    # 1-based inclusive (y1, x1, y2, x2): the first 10 rows and 20 columns.
    boxes = cell([np.array([[1, 1, 10, 20]], np.uint16)])
    path = tmp_path / "voc_2007_trainval.mat"
    scipy.io.savemat(path, {"boxes": boxes, "images": cell([np.array(["000005"])])})
    found = proposals.ProposalFile(path).get(make_entry("000005"))
    np.testing.assert_array_equal(found, [[0, 0, 10, 20]])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, 61.5, 20]], "proposals of another image size: a box lies 1.5 px outside the 80 x"),
        ([[-2, 0, 5, 20]], "proposals of another image size"),
        ([[10, 0, 5, 20]], "proposal 0 [10.0, 0.0, 5.0, 20.0] has a negative size"),
        ([[0, 0, 5]], "proposals of shape [1, 3]; expected [R, 4]"),
        ([0, 0, 5, 5], "proposals of shape [4]; expected [R, 4]"),
        ([[0, 0, 5, float("nan")]], "that are not all finite"),
        ([[0, 0, 5, 5], [1]], "proposals are not numbers"),
        ("x", "proposals are not numbers"),
    ],
)
def test_bad_boxes_in_a_file(tmp_path, boxes, message):
    (tmp_path / "p.json").write_text(json.dumps({"a": boxes}))
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        proposals.ProposalFile(tmp_path / "p.json").get(make_entry())
    assert "p.json: image a" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_boxes_of_a_mat_that_are_one_number(tmp_path):  # found by benchmarks.fuzz
    path = write(tmp_path / "p_v73.mat", {"a": BOXES["a"]})
    with h5py.File(path, "r+") as file:
        file["boxes"][0, 0] = file.create_dataset("number", data=5.0).ref
    with pytest.raises(InputError, match=r"p_v73.mat: image a: .*expected \[R, 4\]"):
        proposals.ProposalFile(path).get(make_entry())


def test_boxes_up_to_a_pixel_outside_are_clipped(tmp_path):
    path = write(tmp_path / "p.npz", {"a": [[-1, -0.5, 61, 80.5]]})
    np.testing.assert_array_equal(proposals.ProposalFile(path).get(make_entry()), [[0, 0, 60, 80]])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_member_of_a_readable_npz(tmp_path, save):
    path = tmp_path / "p.npz"
    save(path, a=np.tile([[0.0, 0, 10, 20]], (500, 1)) + np.arange(500)[:, None] / 100)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"p\.npz: image a: cannot be read .* damaged") as caught:
        proposals.ProposalFile(path).get(make_entry())
    assert "\n" not in str(caught.value)


def test_selective_search_needs_the_contrib_modules(monkeypatch):
    proposals.require_selective_search()
    monkeypatch.delattr(proposals.cv2, "ximgproc")
    with pytest.raises(InputError, match="opencv-contrib-python-headless"):
        proposals.require_selective_search()
    with pytest.raises(InputError, match="opencv-contrib-python-headless"):
        proposals.selective_search(np.zeros((20, 20, 3), np.uint8))


def test_bad_files(tmp_path):
    def failure(name, content=None):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            proposals.ProposalFile(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "not found" in failure("none.npz")
    assert "unknown kind of proposals" in failure("p.pkl", b"x")
    for name in ("p.npz", "p.json", "p.mat"):
        assert "cannot be read" in failure(name, b"junk")
    assert "cannot be read" in failure("list.json", b"[1, 2]")
    scipy.io.savemat(tmp_path / "q.mat", {"boxes": cell([np.zeros((1, 4))])})
    assert "lacks 'images'" in failure("q.mat")
    ids = cell([np.array(["a"]), np.array(["b"])])
    scipy.io.savemat(tmp_path / "r.mat", {"boxes": cell([np.zeros((1, 4))]), "images": ids})
    assert "2 images but 1 arrays of boxes" in failure("r.mat")
    np.save(tmp_path / "s.npy", np.zeros(3))
    assert "cannot be read" in failure("s.npz", (tmp_path / "s.npy").read_bytes())


@pytest.mark.parametrize("kind", ["external data", "virtual", "link"])
def test_an_hdf5_file_that_reads_another_one(tmp_path, kind):
    write(tmp_path / "other_v73.mat")
    (tmp_path / "secret").write_bytes(b"s" * 64)
    path = write(tmp_path / "p_v73.mat")
    with h5py.File(path, "a") as file:
        if kind == "link":
            del file["boxes"]
            file["boxes"] = h5py.ExternalLink(str(tmp_path / "other_v73.mat"), "boxes")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4, 1), np.float64)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other_v73.mat"), "b0", (4, 1))
            del file["images"]
            file.create_virtual_dataset("images", layout)
        else:
            del file["images"]
            outside = [(str(tmp_path / "secret"), 0, 64)]
            file.create_dataset("images", (8,), np.float64, external=outside)
    with pytest.raises(InputError, match=r"p_v73\.mat: .* (lies in another file|is a link)"):
        proposals.ProposalFile(path)


@pytest.mark.parametrize("values", [[True] * 4, ["1", "2", "3", "4"], [1j, 1, 2, 2]])
def test_boxes_of_another_kind_are_no_numbers(tmp_path, values):
    np.savez(tmp_path / "p.npz", a=np.array([values]))
    with pytest.raises(InputError, match="proposals are not numbers"):
        proposals.ProposalFile(tmp_path / "p.npz").get(make_entry())
