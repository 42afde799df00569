"""Which RoIs are selected outside a training step, against a replay of the step."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.hard_mining import HardMining, MaskedHardMining
from ohem_tf.models.batches import unbatch
from ohem_tf.models.fast_rcnn import SAMPLING
from ohem_tf.models.replay import replay
from ohem_tf.models.selection import select
from ohem_tf.reweighting import ImportanceReweighting
from ohem_tf.sampling import HeuristicSampling, IoUBalancedSampling

HARD = HardMining(8, dropout=False)


@pytest.fixture
def image(dataset):
    batches = TrainingStream(RecordReader(dataset, "train"), 1, 3, (64,), 96, "none").dataset()
    return unbatch(next(iter(batches)))[0]


@pytest.mark.parametrize(
    "sampler",
    [
        dataclasses.replace(HARD, per_label=True, chunk=11),
        dataclasses.replace(HARD, rank_by="cls", fg_fraction=0.25),
        HeuristicSampling(8, bg_lo=0.0),
        IoUBalancedSampling(8, bins=2),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_as_a_step_without_dropout_selects(image, sampler):
    model = tiny.model(sampler, dropout=0.0)
    step = replay(model, image)
    found = select(model, sampler, image, model.random_seed(image, SAMPLING), chunk=7)
    np.testing.assert_array_equal(found.selected, step.regular.indices)
    np.testing.assert_array_equal(tf.gather(found.labels, found.selected), step.regular.rois.labels)
    of_selected = step.regular.losses
    expected = (
        of_selected.cls
        if isinstance(sampler, HardMining) and sampler.rank_by == "cls"
        else (of_selected.cls + of_selected.box)
    )
    np.testing.assert_allclose(tf.gather(found.losses, found.selected), expected, atol=1e-5)
    assert found.losses.shape == found.labels.shape == (found.boxes.shape[0],)


@pytest.mark.parametrize(
    "sampler",
    [
        MaskedHardMining(8),
        HardMining(8, start_step=1000, before=HeuristicSampling(8)),
        HardMining(8, candidates=9),
    ],
)
def test_every_kind_of_hard_mining_selects_as_the_plain_one(image, sampler):
    model = tiny.model(sampler)
    found = select(model, sampler, image, tf.constant([0, 0]))
    expected = select(model, HARD, image, tf.constant([0, 0]))
    np.testing.assert_array_equal(found.selected, expected.selected)


def test_a_reweighting_sampler_and_a_model_of_its_own_proposals(image):
    isr = ImportanceReweighting(8)
    found = select(tiny.model(isr), isr, image, tf.constant([0, 0]))
    assert 0 < len(found.selected) <= 8
    model = tiny.faster_rcnn(HARD)
    found = select(model, HARD, image, tf.constant([0, 0]))
    assert 0 < len(found.selected) <= 8
    losses = found.losses.numpy()
    assert losses[found.selected[0]] == losses.max()


def test_losses_that_are_not_finite_are_no_error(image):
    model = tiny.model(HARD)
    model.roi_head.cls_score.bias.assign([0, np.nan, 0, 0])
    assert np.isnan(select(model, HARD, image, tf.constant([0, 0])).losses).all()
