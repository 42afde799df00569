"""Augmentation: boxes and proposals follow the pixels, and all is a function of the seed."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ohem_tf.data import augmentation
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import Record
from ohem_tf.settings import AugmentSettings

INK = np.array([250, 20, 30], np.uint8)


def seed(number):
    return tf.constant([7, number], tf.int32)


@st.composite
def images_with_objects(draw):
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        y, x = draw(st.floats(0, height - 1)), draw(st.floats(0, width - 1))
        boxes.append([y, x, draw(st.floats(y + 0.5, height)), draw(st.floats(x + 0.5, width))])
    return height, width, np.array(boxes, np.float32).reshape(-1, 4)


@settings(max_examples=60, deadline=None)
@given(images_with_objects(), st.integers(0, 10**6), st.floats(0.05, 1))
def test_a_window_lies_in_the_image_and_holds_an_object(made, number, min_side):
    height, width, objects = made
    window = augmentation.crop_window(
        tf.constant(height), tf.constant(width), tf.constant(objects), seed(number), min_side
    ).numpy()
    ymin, xmin, ymax, xmax = window
    assert 0 <= ymin < ymax <= height
    assert 0 <= xmin < xmax <= width
    assert ymax - ymin >= np.floor(min_side * height)
    assert xmax - xmin >= np.floor(min_side * width)
    inside = (objects[:, :2] >= window[:2]).all(axis=1) & (objects[:, 2:] <= window[2:]).all(axis=1)
    assert len(objects) == 0 or inside.any()


def test_windows_differ_and_reach_all_sides():
    objects = tf.constant([[40.0, 40, 60, 60]])
    found = np.array(
        [
            augmentation.crop_window(tf.constant(100), tf.constant(100), objects, seed(i), 0.3)
            for i in range(200)
        ]
    )
    sides = (found[:, 2:] - found[:, :2]).ravel()
    assert sides.min() < 40
    assert sides.max() > 90
    assert found[:, 0].min() < 5
    assert found[:, 2].max() > 95


def test_boxes_of_which_less_than_half_lies_in_the_window_are_gone():
    boxes = tf.constant([[0.0, 0, 10, 10], [0, 0, 40, 10], [10, 10, 30, 20], [50, 50, 60, 60]])
    moved, kept = augmentation.into_window(boxes, tf.constant([20, 5, 60, 45]))
    np.testing.assert_array_equal(kept, [False, False, True, False])
    np.testing.assert_array_equal(moved[2], [0, 5, 10, 15])


def painted(number):
    """A grey image with one object of INK, and proposals on and around it."""
    rng = np.random.default_rng(number)
    height, width = rng.integers(50, 90, 2)
    h, w = rng.integers(12, 30, 2)
    y, x = rng.integers(0, height - h), rng.integers(0, width - w)
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[y : y + h, x : x + w] = INK
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    box = np.float32([[y, x, y + h, x + w]])
    around = [[0, 0, height, width], [0, 0, 5, 5]]
    record = tiny.make_record(number, int(height), int(width), objects=1)
    return Record(
        **{
            **record.__dict__,
            "encoded": buffer.getvalue(),
            "boxes": box,
            "proposals": np.float32([*box, *around]),
        }
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    members = [painted(i) for i in range(12)]
    folder = tiny.write_dataset(tmp_path_factory.mktemp("painted"), {"train": members})
    return RecordReader(folder, "train")


def stream(records, **augment):
    return TrainingStream(records, 1, 3, (60,), 200, "random", augment=AugmentSettings(**augment))


def examples(stream, count, first=0):
    return list(stream.dataset(first).take(count).as_numpy_iterator())


def test_boxes_and_proposals_follow_the_pixels(records):
    sizes = set()
    for example in examples(stream(records, crop=1.0, crop_min_side=0.4, scale=0.5), 36):
        image, scale = example["image"][0], example["scale"][0]
        (box,) = example["gt_boxes"]
        np.testing.assert_array_equal(example["proposals"][0, 0], box[0])
        ymin, xmin, ymax, xmax = (box[0] * scale).round().astype(int)
        is_ink = np.abs(image - INK).max(axis=2) < 1
        # All of the box but its edge, which resizing blurs, and nothing beyond it.
        assert is_ink[ymin + 2 : ymax - 2, xmin + 2 : xmax - 2].all()
        is_ink[max(ymin - 1, 0) : ymax + 1, max(xmin - 1, 0) : xmax + 1] = False
        assert not is_ink.any()
        limits = [*(example["size"][0] / scale)] * 2
        assert (example["proposals"][0] <= np.array(limits) + 1).all()
        sizes.add(tuple(example["size"][0]))
    assert len(sizes) > 20


def test_an_example_is_a_function_of_its_position(records):
    augment = {"crop": 0.5, "scale": 0.3, "colour": 0.4, "cutout": 0.3}
    whole, rest = (
        examples(stream(records, **augment), 6),
        examples(stream(records, **augment), 3, 3),
    )
    for a, b in zip(whole[3:], rest, strict=True):
        for key, value in a.items():
            np.testing.assert_array_equal(value, b[key], err_msg=key)


def test_a_share_of_the_images_is_cropped(records):
    plain = examples(stream(records), 40)
    cut = examples(stream(records, crop=0.5), 40)
    changed = [a["image"].shape != b["image"].shape for a, b in zip(plain, cut, strict=True)]
    assert 10 <= sum(changed) <= 30


def test_nothing_changes_where_all_is_off(records):
    plain = TrainingStream(records, 1, 3, (60,), 200, "random")
    for a, b in zip(examples(plain, 6), examples(stream(records), 6), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


def test_an_image_without_objects_is_cropped_too():
    image = tf.zeros([30, 40, 3], tf.uint8)
    empty, none = tf.zeros([0, 4]), tf.zeros([0], tf.int32)
    cut, boxes, classes, proposals = augmentation.crop(
        image, empty, none, tf.constant([[0.0, 0, 30, 40]]), seed(1), AugmentSettings(crop=1.0)
    )
    assert 15 <= cut.shape[0] <= 30
    assert 20 <= cut.shape[1] <= 40
    assert boxes.shape == (0, 4)
    assert classes.shape == (0,)
    assert proposals.shape[1] == 4


def test_colour_stays_in_range_and_moves_by_its_strength():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (20, 30, 3)).astype(np.float32)
    for number in range(20):
        found = augmentation.colour(tf.constant(image), seed(number), 0.5).numpy()
        assert found.min() >= 0
        assert found.max() <= 255
        assert not np.allclose(found, image, atol=1)
    grey = np.full((4, 4, 3), 100, np.float32)  # of which hue, saturation, contrast are nothing
    means = [augmentation.colour(tf.constant(grey), seed(i), 0.2).numpy().mean() for i in range(50)]
    assert 79 < min(means) < 88
    assert 112 < max(means) < 121
    same = augmentation.colour(tf.constant(image), seed(0), 0.0)
    np.testing.assert_allclose(same, image, atol=1e-3)


def test_cutout_hides_a_square_of_the_mean():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (40, 60, 3)).astype(np.float32)
    whole = []
    for number in range(30):
        found = augmentation.cutout(tf.constant(image), seed(number), 0.25).numpy()
        rows, columns = np.nonzero((found != image).any(axis=2))
        hidden = found[rows, columns]
        np.testing.assert_allclose(hidden, np.broadcast_to(image.mean((0, 1)), hidden.shape), 1e-4)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width
        assert max(height, width) <= 10
        whole.append((height, width) == (10, 10))
    assert np.mean(whole) > 0.4
