"""The training step against plain reimplementations of what the paper says."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf import boxes as box_ops
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.hard_mining import HardMining, MaskedHardMining
from ohem_tf.matching import match
from ohem_tf.models.batches import unbatch
from ohem_tf.roi_pooling import roi_max_pool
from ohem_tf.sampling import HeuristicSampling
from ohem_tf.training.optimizer import CaffeSGD

OHEM = HardMining(rois_per_image=8)


def compiled(sampler=OHEM, momentum=0.9, decay=0.0005, **kwargs):
    model = tiny.model(sampler, **kwargs)
    optimizer = CaffeSGD(0.05, momentum, decay)
    model.compile(optimizer=optimizer, jit_compile=False)
    optimizer.build(model.trainable_variables)
    return model


def stream(dataset, images_per_step=2):
    records = RecordReader(dataset, "train")
    return TrainingStream(records, images_per_step, 3, (48, 64), 96, "random", 2000)


def weights(model):
    return [variable.numpy() for variable in model.trainable_variables]


def one_image(**changes):
    """A batch of one image of 48 x 64 without padding."""
    rng = np.random.default_rng(5)
    corners = rng.uniform(0, 40, (30, 2))
    proposals = np.concatenate([corners, corners + rng.uniform(8, 30, (30, 2))], axis=1)
    proposals[:10] = rng.uniform(-6, 6, (10, 4)) + np.array([10, 10, 40, 40])  # around an object
    batch = {
        "image": rng.uniform(0, 255, (1, 48, 64, 3)),
        "size": [[48, 64]],
        "scale": [0.75],
        "proposals": proposals[None],
        "proposals_mask": np.ones((1, 30), bool),
        "gt_boxes": [[[10, 10, 40, 40], [5, 30, 30, 70]]],
        "gt_classes": [[1, 3]],
        "gt_mask": np.ones((1, 2), bool),
        "position": [11],
    }
    batch.update(changes)
    integers = {"size": tf.int32, "gt_classes": tf.int32, "position": tf.int64}
    return {
        name: tf.constant(value, tf.bool if "mask" in name else integers.get(name, tf.float32))
        for name, value in batch.items()
    }


def losses_by_hand(model, features, rois, labels, targets, scale):
    pooled = roi_max_pool(features, box_ops.scale(rois, scale), [0] * len(rois), 3, 16)
    logits, deltas = model.roi_head(pooled)
    probabilities = tf.nn.softmax(logits)
    everything = []
    for r, label in enumerate(labels):
        loss = -tf.math.log(probabilities[r, label])
        if label > 0:
            for side in range(4):
                x = deltas[r, label, side] - targets[r, side] / 0.2  # tiny.model: mean 0, std 0.2
                loss += 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5
        everything.append(loss)
    return everything


def hardest_by_hand(rois, losses, count):
    overlaps = box_ops.iou(rois, rois).numpy()
    kept = []
    for i in np.argsort(-np.array([float(x) for x in losses]), kind="stable"):
        if len(kept) < count and all(overlaps[i, j] <= 0.7 for j in kept):
            kept.append(i)
    return kept


def test_one_step_is_sgd_on_the_hard_rois_alone():
    model = compiled(momentum=0.0, decay=0.0, dropout=0.0)
    batch = one_image()
    rois = np.concatenate([batch["gt_boxes"][0], batch["proposals"][0]])
    labels, _, targets, _ = match(rois, batch["gt_boxes"][0], batch["gt_classes"][0])
    before = weights(model)
    with tf.GradientTape() as tape:
        features = model.backbone(batch["image"])
        losses = losses_by_hand(model, features, rois, labels.numpy(), targets.numpy(), 0.75)
        hard = hardest_by_hand(rois, losses, 8)
        loss = tf.add_n([losses[i] for i in hard]) / len(hard)
    assert 0 < np.mean(labels.numpy()[hard] > 0) < 1
    gradients = tape.gradient(loss, model.trainable_variables)
    metrics = model.train_step(batch)

    assert float(metrics["loss/hard"]) == pytest.approx(float(loss), rel=1e-5)
    assert float(metrics["loss/all_rois"]) == pytest.approx(
        np.mean([float(x) for x in losses]), rel=1e-5
    )
    assert float(metrics["fg"]) == pytest.approx(np.mean(labels.numpy()[hard] > 0))
    for name, old, new, gradient in zip(
        [v.path for v in model.trainable_variables], before, weights(model), gradients, strict=True
    ):
        rate = 0.1 if name.endswith("bias") else 0.05
        np.testing.assert_allclose(new, old - rate * gradient, atol=2e-6, err_msg=name)
        assert np.abs(new - old).max() > 0, name


def test_weights_of_a_sampler_count_in_the_loss_and_its_gradient():
    @dataclasses.dataclass(frozen=True)
    class Weighted(HardMining):
        factor: float = 1.0

        def weights(self, rois, losses, selected):
            return self.factor * tf.ones(tf.shape(selected))

    found, moved = [], []
    for factor in (1.0, 3.0):
        model = compiled(Weighted(8, factor=factor), momentum=0.0, decay=0.0, dropout=0.0)
        before = weights(model)
        found.append(model.train_step(one_image()))
        moved.append([new - old for new, old in zip(weights(model), before, strict=True)])
    assert float(found[1]["cls"]) == pytest.approx(3 * float(found[0]["cls"]), rel=1e-5)
    assert float(found[1]["box"]) == pytest.approx(float(found[0]["box"]), rel=1e-5)
    names = [variable.path for variable in model.trainable_variables]
    for name, factor in (("cls_score/kernel", 3), ("bbox_pred/kernel", 1)):
        i = next(i for i, path in enumerate(names) if path.endswith(name))
        np.testing.assert_allclose(moved[1][i], factor * moved[0][i], atol=1e-6)


def test_two_images_count_half_each():
    model = compiled(momentum=0.0, decay=0.0, dropout=0.0)
    start = weights(model)
    first, second = one_image(), one_image(image=np.full((1, 48, 64, 3), 200.0), position=[12])
    steps = []
    for batch in (first, second, {k: tf.concat([first[k], second[k]], 0) for k in first}):
        for variable, value in zip(model.trainable_variables, start, strict=True):
            variable.assign(value)
        model.train_step(batch)
        steps.append([new - old for new, old in zip(weights(model), start, strict=True)])
    for alone, other, together in zip(*steps, strict=True):
        np.testing.assert_allclose(together, (alone + other) / 2, atol=1e-6)


def test_padding_changes_nothing():
    results = []
    for pad in (0, 37):
        batch = one_image()
        batch["image"] = tf.pad(batch["image"], [[0, 0], [0, pad], [0, pad], [0, 0]])
        for name in ("proposals", "gt_boxes"):
            batch[name] = tf.pad(batch[name], [[0, 0], [0, pad], [0, 0]])
        for name in ("proposals_mask", "gt_mask", "gt_classes"):
            batch[name] = tf.pad(batch[name], [[0, 0], [0, pad]])
        model = compiled()
        metrics = model.train_step(batch)
        results.append((weights(model), {k: float(v) for k, v in metrics.items()}))
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-6)
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("sampler", [OHEM, HeuristicSampling(rois_per_image=8)])
def test_one_and_two_replicas_give_the_same_weights(dataset, sampler):
    found = []
    for devices in (1, 2):
        strategy = tiny.mirrored(devices)
        with strategy.scope():  # momentum, decay and dropout are on
            model = compiled(sampler)
        history = model.fit(
            stream(dataset).dataset(), steps_per_epoch=6, verbose=0, shuffle=False
        ).history
        found.append((weights(model), history))
    (one, one_history), (two, two_history) = found
    start = weights(tiny.model(sampler))
    for a, b, origin in zip(one, two, start, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert np.abs(a - origin).max() > 1e-4
    for name, values in one_history.items():
        if name != "waited":  # seconds
            np.testing.assert_allclose(values, two_history[name], atol=1e-4, err_msg=name)


def test_traced_once_whatever_the_image_sizes(dataset):
    model, traces, step = compiled(), [], None
    step = model.train_step
    model.train_step = lambda batch: (traces.append(batch["image"].shape), step(batch))[1]
    model.fit(stream(dataset).dataset(), steps_per_epoch=8, verbose=0, shuffle=False)
    shapes = {tuple(b["image"].shape) for b in stream(dataset).dataset().take(8)}
    assert len(shapes) > 4
    assert len(traces) == 1


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_read_only_pass_in_chunks_gives_the_same_losses(chunk):
    losses = []
    for size in (0, chunk):
        model = compiled(HardMining(rois_per_image=8, chunk=size, dropout=False))
        metrics = tf.function(model.train_step)(one_image())
        losses.append({name: float(value) for name, value in metrics.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_one_chunk_for_all_rois_has_the_same_dropout():
    losses = []
    for size in (0, 1000):
        model = compiled(HardMining(rois_per_image=8, chunk=size), dropout=0.5)
        losses.append(float(model.train_step(one_image())["loss/all_rois"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def read_only(model, **options):
    """Losses of all RoIs of `one_image`, forward only."""
    (image,) = unbatch(one_image())
    features = model.training_features(image["image"])
    rois = model.training_rois(image, features)
    return model.roi_network.read_only_losses(features, rois, image["scale"], None, **options)


@pytest.mark.parametrize("pooling", ["max", "align"])
@pytest.mark.parametrize("chunk", [0, 7])
def test_candidates_are_exact_and_the_others_estimated(pooling, chunk):
    model = tiny.model(OHEM, pool_size=5, pooling=pooling)
    (image,) = unbatch(one_image())
    features = model.training_features(image["image"])
    rois = model.training_rois(image, features)
    everything = len(rois.labels)
    exact = read_only(model)
    estimates = model.roi_network.estimator(features, image["scale"])(rois)
    assert np.corrcoef(exact.ranking, estimates.ranking)[0, 1] > 0.9
    for count in (1, 12, everything, 10 * everything):
        found = read_only(model, candidates=count, chunk=chunk)
        chosen = np.argsort(-estimates.ranking.numpy(), kind="stable")[:count]
        others = np.setdiff1d(np.arange(everything), chosen)
        for name in ("cls", "box"):
            values, expected = (getattr(x, name).numpy() for x in (found, exact))
            np.testing.assert_allclose(values[chosen], expected[chosen], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(
                values[others], getattr(estimates, name).numpy()[others], rtol=1e-4, atol=1e-6
            )


def test_candidates_are_those_that_the_sampler_ranks_first():
    model = tiny.model(OHEM, pool_size=5)
    (image,) = unbatch(one_image())
    features = model.training_features(image["image"])
    rois = model.training_rois(image, features)
    estimates = model.roi_network.estimator(features, image["scale"])(rois)
    for rank_by in ("loss", "cls"):
        sampler = HardMining(8, rank_by=rank_by)
        found = read_only(model, candidates=6, hardness=sampler.hardness)
        by = {"loss": estimates.cls + estimates.box, "cls": estimates.cls}[rank_by]
        chosen = np.flatnonzero(found.cls.numpy() != estimates.cls.numpy())
        assert set(chosen) == set(np.argsort(-by.numpy(), kind="stable")[:6])


def test_a_step_with_all_rois_as_candidates_is_the_papers():
    results = []
    for candidates in (0, 100):
        model = compiled(HardMining(rois_per_image=8, candidates=candidates), dropout=0.0)
        metrics = tf.function(model.train_step)(one_image())
        results.append([*weights(model), *(metrics[name].numpy() for name in sorted(metrics))])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_dropout_in_the_read_only_pass_has_a_mask_of_its_own_and_can_be_switched_off():
    batch = one_image()
    everything = 100  # all RoIs survive B/N and an IoU threshold of 1
    with_dropout = compiled(HardMining(everything, iou_threshold=1.0), dropout=0.5)
    metrics = with_dropout.train_step(batch)
    assert float(metrics["loss/hard"]) != pytest.approx(float(metrics["loss/all_rois"]), rel=1e-4)
    again = compiled(HardMining(everything, iou_threshold=1.0), dropout=0.5)
    assert float(again.train_step(batch)["loss/hard"]) == float(metrics["loss/hard"])
    off = compiled(HardMining(everything, iou_threshold=1.0, dropout=False), dropout=0.5)
    plain = compiled(HardMining(everything, iou_threshold=1.0), dropout=0.0)
    assert float(off.train_step(batch)["loss/all_rois"]) == pytest.approx(
        float(plain.train_step(batch)["loss/all_rois"]), rel=1e-5
    )


def test_masked_backward_gives_the_gradients_of_the_hard_rois_alone():
    batch = one_image()
    results = []
    for sampler in (OHEM, MaskedHardMining(rois_per_image=8)):
        model = compiled(sampler, dropout=0.0)
        results.append((model.train_step(batch), weights(model)))
    (metrics, once), (masked_metrics, again) = results
    for name, value in metrics.items():
        assert float(masked_metrics[name]) == pytest.approx(float(value), rel=1e-5), name
    for mine, theirs in zip(once, again, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_masked_backward_ranks_with_the_mask_that_it_trains_with():
    """It has one pass, so with dropout its losses are those of the regular pass."""
    sampler = MaskedHardMining(rois_per_image=32, iou_threshold=1.0)
    metrics = compiled(sampler, dropout=0.5).train_step(one_image())
    # All 32 RoIs are selected: the mean over the hard ones is the mean over all.
    assert float(metrics["loss/hard"]) == pytest.approx(float(metrics["loss/all_rois"]), rel=1e-5)


def test_images_without_objects_or_proposals():
    nothing = {"gt_mask": np.zeros((1, 2), bool)}
    model = compiled()
    background = model.train_step(one_image(**nothing))
    assert float(background["fg"]) == 0
    assert float(background["box"]) == 0
    assert float(background["cls"]) > 0

    no_proposals = {"proposals_mask": np.zeros((1, 30), bool)}
    ground_truth_only = model.train_step(one_image(**no_proposals))
    assert float(ground_truth_only["fg"]) == 1

    model = compiled(decay=0.0)
    before = weights(model)
    empty = model.train_step(one_image(**nothing, **no_proposals))
    assert {float(value) for value in empty.values()} == {0.0}
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_baseline_runs_no_read_only_pass():
    model = compiled(HeuristicSampling(rois_per_image=8))
    model.roi_network.read_only_losses = None
    metrics = model.train_step(one_image())
    assert "loss/all_rois" not in metrics
    assert float(metrics["fg"]) == 0.25


def test_a_non_finite_loss_stops_before_it_changes_a_weight():
    model = compiled()
    model.roi_head.cls_score.bias.assign(np.full(4, np.nan))
    before = weights(model)
    with pytest.raises(tf.errors.InvalidArgumentError, match="non-finite loss"):
        tf.function(model.train_step)(one_image())
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(model.optimizer.iterations) == 0


def test_a_late_start_is_the_heuristic_sampler_and_then_ohem(dataset):
    """Until `start_step` as if HeuristicSampling trained, from there on as if HardMining did."""
    before = HeuristicSampling(rois_per_image=8, bg_lo=0.0)
    late = HardMining(rois_per_image=8, start_step=2, before=before)
    batches = list(stream(dataset).dataset().take(4))
    model, expected = compiled(late, dropout=0.0), compiled(before, dropout=0.0)
    step = tf.function(model.train_step)
    for i, batch in enumerate(batches):
        if i == 2:
            expected.sampler = OHEM
        found, wanted = step(batch), expected.train_step(batch)
        assert float(found["loss/hard"]) == pytest.approx(float(wanted["loss/hard"]), rel=1e-4)
        assert np.isnan(found["loss/all_rois"]) == (i < 2)
    for mine, theirs in zip(weights(model), weights(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
