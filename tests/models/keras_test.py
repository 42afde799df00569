"""FastRCNN as a Keras model: fit, evaluate, predict, save and load without our binaries."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import ohem_tf
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.hard_mining import HardMining, MaskedHardMining
from ohem_tf.models.caffe_networks import NETWORKS
from ohem_tf.reweighting import ImportanceReweighting
from ohem_tf.sampling import HeuristicSampling, IoUBalancedSampling
from ohem_tf.training.optimizer import CaffeSGD, StepDecay


@keras.saving.register_keras_serializable("tests")
class FirstRoIs(ohem_tf.Sampler):
    """A user's own sampler: the first RoIs of an image, whatever their losses."""

    def select(self, rois, losses, seed):
        assert losses is None
        return tf.range(tf.minimum(self.rois_per_image, tf.shape(rois.labels)[0]))


@pytest.fixture(scope="module")
def batches(dataset):
    return TrainingStream(RecordReader(dataset, "train"), 2, 3, (48, 64), 96, "random").dataset()


def trained(batches, sampler=None, **kwargs):
    model = tiny.model(sampler, **kwargs)
    model.compile(CaffeSGD(StepDecay(0.01, (3,), warmup_steps=2), 0.9, 0.0005))
    model.fit(batches, steps_per_epoch=2, verbose=0, shuffle=False)
    return model


@pytest.mark.parametrize(
    "sampler",
    [
        HardMining(8, iou_threshold=0.6, per_label=True, chunk=11),
        HardMining(8, start_step=3, before=HeuristicSampling(8, bg_lo=0.0)),
        MaskedHardMining(8),
        HeuristicSampling(8, bg_lo=0.0, fg_iou=0.6),
        IoUBalancedSampling(8, bins=2),
        ImportanceReweighting(8, bias=0.1),
        FirstRoIs(5),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_model_that_was_saved_trains_on_as_if_it_had_not_been(batches, sampler, tmp_path):
    model = trained(batches, sampler)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is ohem_tf.FastRCNN
    assert loaded.sampler == sampler
    assert not loaded.jit_compile
    for one in (model, loaded):
        one.fit(batches.skip(2), steps_per_epoch=2, verbose=0, shuffle=False)
    assert loaded.step == model.step == 4
    names = [v.path for v in model.trainable_variables]
    assert [v.path for v in loaded.trainable_variables] == names
    for name, mine, theirs in zip(names, model.weights, loaded.weights, strict=False):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=1e-6, err_msg=name)


def test_predict_scores_the_proposals_without_ground_truth(batches):
    model = trained(batches)
    batch = next(iter(batches))
    inputs = {
        name: batch[name] for name in ("image", "size", "scale", "proposals", "proposals_mask")
    }
    found = model.predict(tf.data.Dataset.from_tensors(inputs), verbose=0)
    count = batch["proposals"].shape[1]
    assert found["scores"].shape == (2, count, 4)
    assert found["boxes"].shape == (2, count, 4, 4)
    for i in range(2):
        height, width = batch["size"][i].numpy()
        real = batch["proposals_mask"][i].numpy()
        features = model.image_features(batch["image"][i, :height, :width])
        scores, boxes = model.score_rois(features, batch["proposals"][i][real], batch["scale"][i])
        np.testing.assert_allclose(found["scores"][i][real], scores, atol=1e-5)
        np.testing.assert_allclose(found["boxes"][i][real], boxes, rtol=1e-4, atol=1e-3)
        assert not found["scores"][i][~real].any()
    assert not batch["proposals_mask"].numpy().all()


def test_evaluate_gives_the_mean_loss_of_all_proposals(batches):
    model = trained(batches)
    batch = next(iter(batches))
    found = model.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0, return_dict=True)
    losses = [(np.mean(x.cls), np.mean(x.box)) for x in model.proposal_losses(batch)]
    cls, box = np.mean(losses, axis=0)
    assert found == pytest.approx({"cls": cls, "box": box, "loss": cls + box}, rel=1e-5)
    assert box > 0


def test_predictions_outlive_a_save(batches, tmp_path):
    model = trained(batches)
    model.roi_head.set_target_statistics(np.full((4, 4), 0.1), np.full((4, 4), 0.3))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    one, other = (m.predict(batches.take(1), verbose=0) for m in (model, loaded))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_paper_s_networks_are_rebuilt_from_their_config(name):
    network = NETWORKS[name]()
    other = keras.Model.from_config(network.get_config())
    other.set_weights(network.get_weights())
    image = np.random.default_rng(0).uniform(-100, 100, (1, 64, 80, 3)).astype(np.float32)
    np.testing.assert_array_equal(network(image), other(image))


def test_a_step_reports_how_long_it_waited_for_its_batch(batches, monkeypatch):
    """By a clock that goes on by 1 whenever it is read; not in the first, which is traced."""
    clock = itertools.count()
    monkeypatch.setattr("ohem_tf.models.keras_model.time.perf_counter", lambda: next(clock))
    waited = []
    model = tiny.model()
    model.compile(CaffeSGD(0.01))
    log = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: waited.append(logs["waited"])
    )
    model.fit(batches, steps_per_epoch=3, verbose=0, shuffle=False, callbacks=[log])
    assert waited == [0.0, 1.0, 1.0]
