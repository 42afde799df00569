"""Resizing against bilinear interpolation written here."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ohem_tf import images


def bilinear_by_hand(image, height, width):
    """Half-pixel centres, edges repeated: what OpenCV, and so the release, does."""

    def weights(old, new):
        matrix = np.zeros((new, old))
        for i in range(new):
            centre = (i + 0.5) * old / new - 0.5
            low = int(np.floor(centre))
            for neighbour, weight in [(low, 1 - (centre - low)), (low + 1, centre - low)]:
                matrix[i, min(max(neighbour, 0), old - 1)] += weight
        return matrix

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "sides", "expected", "scale"),
    [
        ((375, 500), (600, 1000), (600, 800), 1.6),  # VOC, landscape
        ((500, 375), (600, 1000), (800, 600), 1.6),  # portrait
        ((333, 500), (600, 1000), (600, 901), 600 / 333),  # 900.9
        ((200, 500), (600, 1000), (400, 1000), 2.0),  # the cap binds
        ((500, 200), (600, 1000), (1000, 400), 2.0),
        ((300, 500), (600, 1000), (600, 1000), 2.0),  # both bind
        ((100, 100), (100, 100), (100, 100), 1.0),
        ((1200, 1600), (600, 1000), (600, 800), 0.5),
        ((1, 500), (600, 1000), (2, 1000), 2.0),
        ((1, 5000), (600, 1000), (1, 1000), 0.2),  # 0.2 rows would vanish
        ((7, 9), (3, 100), (3, 4), 3 / 7),  # 3.857 columns
        ((48, 50), (15, 100), (15, 16), 0.3125),  # 15.625
    ],
)
def test_sizes(size, sides, expected, scale):
    found, factor = images.resize(np.zeros((*size, 3), np.uint8), *sides)
    assert found.shape == (*expected, 3)
    assert found.dtype == tf.float32
    assert factor.shape == ()
    assert float(factor) == pytest.approx(scale, rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 120), st.integers(0, 120))
def test_any_size(height, width, shortest, extra):
    longest = shortest + extra
    found, factor = images.resize(np.zeros((height, width, 3), np.uint8), shortest, longest)
    scale = min(shortest / min(height, width), longest / max(height, width))
    assert float(factor) == pytest.approx(scale, rel=1e-6)
    assert min(found.shape[:2]) <= shortest
    assert max(found.shape[:2]) <= longest
    assert min(found.shape[:2]) == shortest or max(found.shape[:2]) == longest
    for side, original in zip(found.shape[:2], (height, width), strict=True):
        assert side >= 1
        assert abs(side - original * scale) <= 0.5 + 1e-4 or side == 1


@pytest.mark.parametrize(
    ("size", "shortest"), [((13, 19), 29), ((19, 13), 29), ((31, 40), 12), ((17, 17), 17)]
)
def test_values_are_bilinear_with_half_pixel_centres(size, shortest):
    image = noise(*size)
    found, _ = images.resize(image, shortest, 1000)
    np.testing.assert_allclose(found, bilinear_by_hand(image, *found.shape[:2]), atol=2e-3)


def test_half_pixel_centres_on_a_step():
    # Two pixels made four: corner-aligned resizing would give 0, 33.3, 66.7, 100.
    row = np.zeros((2, 2, 3), np.uint8)
    row[:, 1] = 100
    found, _ = images.resize(row, 4, 100)
    np.testing.assert_allclose(found[0, :, 0], [0, 25, 75, 100])


def test_a_strip_one_pixel_high():
    image = noise(1, 40)
    found, scale = images.resize(image, 3, 60)
    assert found.shape == (2, 60, 3)  # 1.5 rows, half to even
    assert float(scale) == 1.5
    np.testing.assert_allclose(found, bilinear_by_hand(image, 2, 60), atol=2e-3)


def test_flipping_before_or_after_is_the_same():
    image = noise(33, 50)
    first, _ = images.resize(image[:, ::-1], 47, 1000)
    after, _ = images.resize(image, 47, 1000)
    np.testing.assert_allclose(first, after.numpy()[:, ::-1], atol=2e-3)


def test_one_graph_of_unknown_size_and_scale():
    specs = [tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.int32)]
    compiled = tf.function(lambda x, side: images.resize(x, side, 1000), specs)
    for size, side in [((10, 20), 7), ((20, 10), 30)]:
        found, scale = compiled(noise(*size), side)
        assert min(found.shape[:2]) == side
        assert float(scale) == pytest.approx(side / 10)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "L")]
)
def test_decode_gives_rgb(kind, mode):
    image = Image.fromarray(noise(8, 6)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    found = tf.function(images.decode, [tf.TensorSpec([], tf.string)])(buffer.getvalue())
    assert found.shape == (8, 6, 3)
    assert found.dtype == tf.uint8
    expected = np.asarray(Image.open(buffer).convert("RGB"), np.int32)
    assert np.max(np.abs(found.numpy().astype(np.int32) - expected)) <= (0 if kind == "PNG" else 3)
