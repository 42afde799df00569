"""The samplers that draw at random: counts, thresholds and randomness."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ohem_tf.sampling import (
    HeuristicSampling,
    IoUBalancedSampling,
    sample_iou_balanced,
    sample_rois,
)

FRCN = HeuristicSampling(rois_per_image=64)


def overlaps(foreground, background, ignored, seed=0):
    """[R] max IoU of RoIs, shuffled: how many of each kind, at the paper's thresholds."""
    rng = np.random.default_rng(seed)
    parts = [
        rng.uniform(0.5, 1.0, foreground),
        rng.uniform(0.1, 0.499, background),
        rng.uniform(0.0, 0.0999, ignored),
    ]
    return rng.permutation(np.concatenate(parts)).astype(np.float32)


def draw(max_iou, seed=(1, 2), settings=FRCN):
    """The drawn indices, after the checks that hold for every draw."""
    found = sample_rois(max_iou, np.int32(seed), settings).numpy()
    assert found.dtype == np.int32
    assert len(set(found)) == len(found)  # without replacement
    ious = np.asarray(max_iou)[found]
    is_foreground = ious >= np.float32(settings.fg_iou)
    in_band = (ious >= np.float32(settings.bg_lo)) & (ious < np.float32(settings.bg_hi))
    assert np.all(is_foreground | in_band)
    foreground = int(is_foreground.sum())
    assert is_foreground[:foreground].all()  # foreground first
    return found, foreground


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ((300, 1000, 700), (16, 48)),  # 25 % of 64
        ((5, 1000, 700), (5, 59)),  # foreground short: background fills up
        ((0, 1000, 700), (0, 64)),
        ((300, 20, 700), (16, 20)),  # background short: a smaller batch, no more foreground
        ((300, 0, 700), (16, 0)),
        ((3, 4, 700), (3, 4)),
        ((0, 0, 700), (0, 0)),
        ((0, 0, 0), (0, 0)),
        ((16, 48, 0), (16, 48)),
    ],
)
def test_counts(available, expected):
    found, foreground = draw(overlaps(*available))
    assert (foreground, len(found) - foreground) == expected


@pytest.mark.parametrize(
    ("rois", "fraction", "expected"),
    [(128, 0.25, 32), (6, 0.25, 2), (10, 0.25, 2), (14, 0.25, 4), (9, 0.0, 0), (9, 1.0, 9)],
)
def test_share_of_foreground_is_rounded_half_to_even(rois, fraction, expected):
    assert int(np.round(rois * fraction)) == expected  # the release calls numpy.round
    _, foreground = draw(overlaps(200, 200, 0), settings=HeuristicSampling(rois, fraction))
    assert foreground == expected


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0, 1, width=32), max_size=60),
    st.integers(1, 40),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_counts_whatever_the_overlaps(ious, rois, fraction, seed):
    max_iou = np.array(ious, np.float32)
    found, foreground = draw(max_iou, (seed, 0), HeuristicSampling(rois, fraction))
    candidates = int(np.sum(max_iou >= np.float32(0.5)))
    band = int(np.sum((max_iou >= np.float32(0.1)) & (max_iou < np.float32(0.5))))
    assert foreground == min(candidates, int(np.round(rois * fraction)))
    assert len(found) - foreground == min(band, rois - foreground)


def test_thresholds_are_inclusive_below_and_exclusive_above():
    below = np.nextafter(np.float32(0.1), np.float32(0))
    max_iou = np.float32([0.5, 0.1, below, np.nextafter(np.float32(0.5), np.float32(0)), 0.0, 1.0])
    found, foreground = draw(max_iou)
    assert set(found[:foreground]) == {0, 5}
    assert set(found[foreground:]) == {1, 3}


def test_bg_lo_0_takes_rois_that_touch_nothing():
    found, foreground = draw(np.zeros(10, np.float32), settings=HeuristicSampling(8, bg_lo=0.0))
    assert (foreground, len(found)) == (0, 8)


def test_a_gap_between_background_and_foreground_is_left_out():
    settings = HeuristicSampling(64, fg_iou=0.75, bg_lo=0.25, bg_hi=0.5)
    found, foreground = draw(np.arange(33, dtype=np.float32) / 32, settings=settings)
    assert set(found[foreground:]) == set(range(8, 16))
    assert set(found[:foreground]) == set(range(24, 33))


def test_the_same_seed_draws_the_same_and_another_seed_another():
    max_iou = overlaps(300, 1000, 700)
    first = draw(max_iou, (3, 4))[0]
    np.testing.assert_array_equal(first, draw(max_iou, (3, 4))[0])
    for other in [(3, 5), (4, 4), (4, 3)]:
        again = draw(max_iou, other)[0]
        assert len(set(first) & set(again)) < 40  # about 4 by chance


def test_drawn_uniformly():
    max_iou = overlaps(40, 120, 50)
    counts = np.zeros(len(max_iou))
    compiled = tf.function(lambda seed: sample_rois(max_iou, seed, FRCN))
    draws = 600
    for seed in range(draws):
        counts[compiled(tf.constant([7, seed])).numpy()] += 1
    for members, chance in [(max_iou >= 0.5, 16 / 40), ((max_iou >= 0.1) & (max_iou < 0.5), 0.4)]:
        # Standard deviation sqrt(draws * p * (1 - p)) = 12: five of them.
        assert np.all(np.abs(counts[members] - draws * chance) < 60)
        assert np.std(counts[members]) < 24
    assert not counts[max_iou < 0.1].any()


def test_one_graph_of_unknown_size():
    specs = [tf.TensorSpec([None]), tf.TensorSpec([2], tf.int32)]
    compiled = tf.function(lambda ious, seed: sample_rois(ious, seed, FRCN), specs)
    for sizes in [(0, 0, 0), (1, 0, 0), (20, 100, 9)]:
        max_iou = overlaps(*sizes)
        np.testing.assert_array_equal(compiled(max_iou, [1, 2]), draw(max_iou, (1, 2))[0])


def test_without_a_fixed_ratio_both_kinds_are_drawn_alike():
    settings = HeuristicSampling(rois_per_image=64, fixed_ratio=False)
    max_iou = overlaps(100, 300, 600)
    shares = []
    for seed in range(200):
        found = sample_rois(max_iou, np.int32([seed, 5]), settings).numpy()
        assert len(set(found)) == len(found) == 64
        assert np.all(max_iou[found] >= np.float32(0.1))
        shares.append(np.mean(max_iou[found] >= 0.5))
    # Hypergeometric: mean 0.25 as the candidates, far from either end of 200 fixed draws.
    assert np.std(shares) > 0.02
    assert abs(np.mean(shares) - 0.25) < 0.02


def test_a_batch_of_2048_takes_all_background_that_there_is():
    settings = HeuristicSampling(rois_per_image=2048, bg_lo=0.0)
    found, foreground = draw(overlaps(700, 1000, 500), settings=settings)
    assert (foreground, len(found)) == (512, 2012)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0, 1, width=32), max_size=80),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(0, 1000),
)
@example(ious=[0.0, 0.25], rois=1, bins=1, seed=0)
def test_iou_balanced_counts(ious, rois, bins, seed):
    max_iou = np.array(ious, np.float32)
    sampler = IoUBalancedSampling(rois, bins=bins)
    found = sample_iou_balanced(max_iou, np.int32([seed, 1]), sampler).numpy()
    assert len(set(found)) == len(found)
    foreground = min(int(np.round(0.25 * rois)), int(np.sum(max_iou >= 0.5)))
    assert np.all(max_iou[found[:foreground]] >= 0.5)
    background = found[foreground:]
    assert np.all(max_iou[background] < 0.5)
    assert len(background) == min(rois - foreground, int(np.sum(max_iou < 0.5)))
    share = (rois - foreground) // bins
    edges = np.linspace(0, 0.5, bins + 1)
    for low, high in itertools.pairwise(edges):
        # Of those at an edge float32 decides: they may be drawn for this interval, or not.
        inside = (max_iou > low + 1e-6) & (max_iou < high - 1e-6)
        near = (max_iou > low - 1e-6) & (max_iou < high + 1e-6)
        assert np.sum(near[background]) >= min(share, int(np.sum(inside)))


def test_iou_balanced_takes_as_many_from_a_rare_interval_as_from_a_common_one():
    rng = np.random.default_rng(0)
    max_iou = np.concatenate([rng.uniform(0.0, 0.16, 900), rng.uniform(0.17, 0.33, 60)])
    max_iou = np.concatenate([max_iou, rng.uniform(0.34, 0.49, 40)]).astype(np.float32)
    for seed in range(5):
        found = max_iou[sample_iou_balanced(max_iou, np.int32([seed, 1]), IoUBalancedSampling(62))]
        counts = np.histogram(found, [0, 1 / 6, 1 / 3, 0.5])[0]
        assert sorted(counts) == [20, 21, 21] or sorted(counts) == [20, 20, 22]
    few = np.concatenate([max_iou[:900], max_iou[-5:]])  # the last interval is short: 5 of 20
    found = few[sample_iou_balanced(few, np.int32([0, 1]), IoUBalancedSampling(60))]
    assert np.sum(found > 0.34) == 5
    assert len(found) == 60


def test_iou_balanced_draws_uniformly_within_an_interval():
    max_iou = np.repeat(np.float32([0.05, 0.25, 0.45]), [100, 50, 25])
    counts = np.zeros(len(max_iou))
    compiled = tf.function(lambda s: sample_iou_balanced(max_iou, s, IoUBalancedSampling(30)))
    draws = 400
    for seed in range(draws):
        counts[compiled(tf.constant([seed, 5])).numpy()] += 1
    for value, chance in [(0.05, 0.1), (0.25, 0.2), (0.45, 0.4)]:
        members = counts[max_iou == np.float32(value)]
        assert members.sum() == draws * 10
        deviation = np.sqrt(draws * chance * (1 - chance))
        assert np.all(np.abs(members - draws * chance) < 5 * deviation)
