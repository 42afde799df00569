"""Intervals and verdicts against formulas and data whose answer is known."""

import numpy as np
import pytest
from scipy import stats

from ohem_tf.comparison import intervals
from ohem_tf.evaluation import voc


def test_over_seeds_is_student_s_interval_of_the_paired_differences():
    differences = [0.021, 0.034, 0.012, 0.027]
    low, high = intervals.over_seeds(differences)
    half = stats.t.ppf(0.975, 3) * np.std(differences, ddof=1) / 2
    assert (low, high) == pytest.approx((np.mean(differences) - half, np.mean(differences) + half))
    assert intervals.over_seeds([0.02]) is None
    assert intervals.over_seeds([0.02, 0.02]) is None  # no spread: nothing to judge by


def found_in(images, share, rng):
    """Matches of one class: one object an image, found (with a high score) in a share of them."""
    hits = rng.random(images) < share
    scores = np.where(hits, 0.9, 0.1) + rng.uniform(0, 0.05, images)
    order = np.argsort(-scores)
    return {
        1: voc.Matched(order, hits[order], scores[order], np.ones(images, np.int64)),
    }


def resampled(matches):
    return intervals.resampled_map(matches, "area", resamples=400)


def test_over_images_covers_the_difference_of_two_detectors():
    rng = np.random.default_rng(0)
    # All hits come first: AP is the share of objects that are found.
    worse, better = (found_in(400, share, rng) for share in (0.5, 0.7))
    low, high = intervals.over_images([resampled(better)], [resampled(worse)])
    apart = np.mean(better[1].hits) - np.mean(worse[1].hits)
    # Of independent shares p and q over n images: sqrt((p (1 - p) + q (1 - q)) / n) = 0.034.
    assert low < apart < high
    assert high - low == pytest.approx(2 * 1.96 * 0.034, rel=0.25)
    assert intervals.over_images([resampled(worse)], [resampled(worse)]) == (0.0, 0.0)


def test_over_images_takes_the_same_images_for_both():
    """Detectors that find the same objects but for a few: a narrow interval."""
    rng = np.random.default_rng(1)
    one = found_in(300, 0.5, rng)
    hits = np.zeros(300, bool)
    hits[one[1].images] = one[1].hits
    missed = np.flatnonzero(~hits)[:9]
    hits[missed] = True
    order = np.argsort(~hits, kind="stable")
    other = {1: voc.Matched(order, hits[order], -np.arange(300.0), np.ones(300, np.int64))}
    low, high = intervals.over_images([resampled(other)], [resampled(one)])
    assert 0 < low < 0.03 < high < 0.06


@pytest.mark.parametrize(
    ("seeds", "images", "words"),
    [
        ([0.02, 0.021, 0.019], (0.01, 0.03), "better, by more than seeds and images explain"),
        ([-0.02, -0.021, -0.019], (-0.03, -0.01), "worse, by more than seeds and images explain"),
        ([0.02, -0.02, 0.01], (-0.01, 0.02), "no difference shown"),
        ([0.02, -0.02, 0.03], (0.001, 0.02), "not settled"),
        ([0.02, 0.021, 0.019], (-0.01, 0.05), "not settled"),
        ([0.08], (0.05, 0.11), "one seed each, an anecdote"),
        ([0.08, 0.08], (0.05, 0.11), "no spread over seeds to judge by"),
    ],
)
def test_a_verdict_says_no_more_than_the_intervals(seeds, images, words):
    said = intervals.verdict("ohem", "frcn", float(np.mean(seeds)), seeds, images)
    assert words in said
    assert said.startswith(f"ohem {100 * np.mean(seeds):+.1f} mAP against frcn")
    strong = ("better", "worse")
    assert any(word in said for word in strong) == any(word in words for word in strong)
    if "not settled" in words:
        by_seed = intervals.over_seeds(seeds)
        holds_0 = "seeds" if by_seed[0] < 0 < by_seed[1] else "images"
        assert f"the one over {holds_0} holds 0" in said
