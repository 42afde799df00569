"""Importance-based reweighting against loops written after the description of PISA."""

import numpy as np
import pytest
import tensorflow as tf
from by_hand import iou
from hypothesis import given, settings
from hypothesis import strategies as st

from ohem_tf.losses import RoILosses
from ohem_tf.reweighting import ImportanceReweighting
from ohem_tf.sampler import RoIs


def image(rng, objects, background):
    """RoIs of an image in random order, with their read-only losses."""
    gt = np.concatenate([rng.integers(0, max(objects, 1), 3 * objects), np.full(background, -1)])
    gt = rng.permutation(gt).astype(np.int32)
    classes = rng.integers(1, 4, max(objects, 1))
    labels = np.where(gt >= 0, classes[gt], 0).astype(np.int32)
    centres = rng.integers(0, 40, (6, 2))[rng.integers(0, 6, len(gt))]
    corners = centres + rng.integers(-3, 4, (len(gt), 2))
    boxes = np.concatenate([corners, corners + rng.integers(10, 30, (len(gt), 2))], 1)
    rois = RoIs(
        tf.constant(boxes, tf.float32),
        tf.constant(labels),
        tf.constant(np.where(gt >= 0, 0.7, 0.2), tf.float32),
        tf.zeros([len(gt), 4]),
        tf.constant(gt),
    )
    cls = rng.exponential(0.3, len(gt)).astype(np.float32)
    box = np.where(gt >= 0, rng.exponential(0.5, len(gt)), 0).astype(np.float32)
    return rois, RoILosses(tf.constant(cls), tf.constant(box))


def ranked_background(rois, losses, sampler):
    """Background above the threshold by hierarchical rank."""
    score = 1 - np.exp(-losses.cls.numpy().astype(np.float64))
    labels, boxes = rois.labels.numpy(), rois.boxes.numpy()
    left = [i for i in range(len(labels)) if labels[i] == 0 and score[i] > sampler.score_threshold]
    left.sort(key=lambda i: -score[i])
    local_rank = {}
    while left:
        members = [i for i in left if iou(boxes[left[0]], boxes[i]) > sampler.group_iou]
        for rank, i in enumerate(members):
            local_rank[i] = rank
        left = [i for i in left if i not in local_rank]
    return sorted(local_rank, key=lambda i: (local_rank[i], -score[i]))


def weights_by_hand(rois, losses, selected, sampler):
    """The weights of the selected RoIs, foreground first."""
    labels, gt = rois.labels.numpy(), rois.gt.numpy()
    cls, box = (x.numpy().astype(np.float64) for x in losses)
    foreground = [i for i in selected if labels[i] > 0]
    background = [i for i in selected if labels[i] == 0]
    weights = {}
    largest = max((list(labels[foreground]).count(c) for c in labels[foreground]), default=1)
    for label in set(labels[foreground]):
        members = [i for i in foreground if labels[i] == label]
        local = {}
        for one in set(gt[members]):
            rivals = sorted((i for i in members if gt[i] == one), key=lambda i: box[i])
            local |= {i: rank for rank, i in enumerate(rivals)}
        for rank, i in enumerate(sorted(members, key=lambda i: (local[i], box[i]))):
            share = (largest - rank) / largest
            weights[i] = (sampler.bias + (1 - sampler.bias) * share) ** sampler.fg_power
    hard = ranked_background(rois, losses, sampler)
    bound = max(len(hard), len(background), 1)
    last = min(len(hard), len(background)) - 1
    for place, i in enumerate(background):
        rank = hard.index(i) if i in hard else max(last, 0)
        share = (bound - rank) / bound
        weights[i] = (sampler.bias + (1 - sampler.bias) * share) ** sampler.bg_power
        assert i not in hard or rank == place
    for part in (foreground, background):
        total = sum(weights[i] * cls[i] for i in part)
        factor = sum(cls[i] for i in part) / total if total > 0 else 1
        for i in part:
            weights[i] *= factor
    return [weights[i] for i in selected]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 6),
    st.integers(0, 60),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.2]),
)
def test_selects_and_weighs_as_the_loop(seed, objects, background, rois_per_image, bias):
    rng = np.random.default_rng(seed)
    rois, losses = image(rng, objects, background)
    sampler = ImportanceReweighting(rois_per_image, score_threshold=0.2, bias=bias)
    selected = sampler.select(rois, losses, tf.constant([3, 4])).numpy()
    labels = rois.labels.numpy()
    assert len(set(selected)) == len(selected)
    fg = min(round(0.25 * rois_per_image), int(np.sum(labels > 0)))
    bg = min(rois_per_image - fg, background)
    assert [int(np.sum(labels[selected] > 0)), len(selected)] == [fg, fg + bg]
    assert np.all(labels[selected[:fg]] > 0)
    hard = ranked_background(rois, losses, sampler)
    assert list(selected[fg : fg + len(hard)]) == hard[:bg]
    found = sampler.weights(rois, losses, selected).numpy()
    np.testing.assert_allclose(found, weights_by_hand(rois, losses, selected, sampler), rtol=1e-4)


def test_the_sum_of_the_losses_stays_and_the_best_counts_most():
    rois, losses = image(np.random.default_rng(5), 5, 40)
    sampler = ImportanceReweighting(24, score_threshold=0.05)
    selected = sampler.select(rois, losses, tf.constant([1, 2]))
    weighted = losses.take(selected).weighted(sampler.weights(rois, losses, selected))
    plain = losses.take(selected)
    np.testing.assert_allclose(tf.reduce_sum(weighted.cls), tf.reduce_sum(plain.cls), rtol=1e-5)
    np.testing.assert_array_equal(weighted.box, plain.box)  # box losses keep their weight
    weights = sampler.weights(rois, losses, selected).numpy()
    assert np.all(np.diff(weights[6:]) <= 1e-6)  # background by rank
    best = np.argmin(plain.box.numpy()[:6])
    assert weights[:6].max() == pytest.approx(weights[best])


def test_easy_background_is_drawn_at_random():
    rng = np.random.default_rng(0)
    rois, losses = image(rng, 0, 200)
    losses = RoILosses(tf.fill([200], 0.01), losses.box)  # all below the threshold
    sampler = ImportanceReweighting(20)
    draws = [set(sampler.select(rois, losses, tf.constant([7, i])).numpy()) for i in range(5)]
    assert all(len(one) == 20 for one in draws)
    assert len(set.union(*draws)) > 60  # 82 expected of five independent draws
    np.testing.assert_allclose(sampler.weights(rois, losses, tf.range(20)), 1.0, rtol=1e-6)


def test_rois_without_area_are_one_group():
    boxes = tf.constant([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 9, 9]])
    labels = tf.zeros([3], tf.int32)
    rois = RoIs(boxes, labels, tf.zeros([3]), tf.zeros([3, 4]), labels - 1)
    losses = RoILosses(tf.constant([3.0, 2.0, 1.0]), tf.zeros([3]))
    found = ImportanceReweighting(3).select(rois, losses, tf.constant([0, 0]))
    assert found.numpy().tolist() == [0, 2, 1]
