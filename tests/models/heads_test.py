"""The RoI head: initial values, dropout as a function of its seed, target statistics."""

import numpy as np
import pytest
import tensorflow as tf

from ohem_tf.models.heads import RoIHead


def forward_by_hand(head, pooled):
    x = pooled.reshape(len(pooled), np.prod(pooled.shape[1:])).astype(np.float64)
    for layer in head.hidden:
        kernel, bias = layer.get_weights()
        x = np.maximum(x @ kernel + bias, 0)
    logits, deltas = (
        x @ layer.get_weights()[0] + layer.get_weights()[1]
        for layer in (head.cls_score, head.bbox_pred)
    )
    return logits, deltas.reshape(len(pooled), head.num_classes + 1, 4)


def randomised(head, seed=0):
    """Weights large enough that every part shows in the outputs."""
    rng = np.random.default_rng(seed)
    for variable in head.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    return head


def pooled_features(count, shape=(3, 3, 5), seed=1):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def transparent(units, layers, dropout=0.5):
    """A head whose logits are its input after `layers` dropouts: all kernels are the identity."""
    head = RoIHead(units - 1, units, pool_size=1, hidden=(units,) * layers, dropout=dropout)
    for layer in [*head.hidden, head.cls_score]:
        layer.set_weights([np.eye(units, dtype=np.float32), np.zeros(units, np.float32)])
    return head


def test_initial_values_are_the_papers():
    head = RoIHead(20, 8, pool_size=2, hidden=(512, 256))
    for layer, std in [(head.cls_score, 0.01), (head.bbox_pred, 0.001)]:
        kernel = layer.kernel.numpy()
        assert abs(kernel.mean()) < 0.1 * std
        assert kernel.std() == pytest.approx(std, rel=0.05)
    for layer in [*head.hidden, head.cls_score, head.bbox_pred]:
        assert not layer.bias.numpy().any()
    shapes = [tuple(layer.kernel.shape) for layer in [*head.hidden, head.cls_score, head.bbox_pred]]
    assert shapes == [(32, 512), (512, 256), (256, 21), (256, 84)]


def test_a_new_head_is_undecided():
    head = RoIHead(20, 8, pool_size=2, hidden=(64,))
    logits, deltas = head(pooled_features(6, (2, 2, 8)))
    np.testing.assert_allclose(tf.nn.softmax(logits), np.full((6, 21), 1 / 21), atol=0.02)
    assert np.max(np.abs(deltas)) < 0.05


@pytest.mark.parametrize("hidden", [(7,), (7, 6), (7, 6, 9)])
@pytest.mark.parametrize("count", [0, 1, 11])
def test_equals_numpy_without_a_seed(hidden, count):
    head = randomised(RoIHead(3, 5, pool_size=3, hidden=hidden, dropout=0.5))
    pooled = pooled_features(count)
    for _ in range(2):  # no seed, no dropout, nothing random
        for found, expected in zip(head(pooled), forward_by_hand(head, pooled), strict=True):
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hidden", [(7,), (7, 6, 9)])
@pytest.mark.parametrize("count", [0, 11])
def test_an_estimate_is_the_head_on_what_coarse_features_stand_for(hidden, count):
    head = randomised(RoIHead(3, 5, pool_size=4, hidden=hidden, dropout=0.5))
    coarse = pooled_features(count, (2, 2, 5))
    basis = np.random.default_rng(5).normal(size=(4, 2))
    pooled = np.einsum("pk,rklc,ql->rpqc", basis, coarse, basis)
    for dtype, tolerance in (("float32", 1e-4), ("bfloat16", 0.5)):
        outputs = head.estimator(basis, dtype)(tf.constant(coarse))
        for found, expected in zip(outputs, forward_by_hand(head, pooled), strict=True):
            assert found.dtype == tf.float32
            np.testing.assert_allclose(found, expected, rtol=tolerance / 10, atol=tolerance)


def test_training_mode_alone_switches_no_dropout_on():
    head = randomised(RoIHead(3, 5, pool_size=3, hidden=(7,), dropout=0.9))
    pooled = pooled_features(4)
    np.testing.assert_array_equal(head(pooled, training=True)[0], head(pooled)[0])


def test_dropout_is_a_function_of_the_seed():
    head = randomised(RoIHead(3, 5, pool_size=3, hidden=(32, 32), dropout=0.5))
    pooled = pooled_features(8)
    first = head(pooled, dropout_seed=np.int32([1, 2]))
    compiled = tf.function(lambda x, seed: head(x, dropout_seed=seed))
    for again in (head(pooled, dropout_seed=[1, 2]), compiled(pooled, tf.constant([1, 2]))):
        for a, b in zip(first, again, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    for seed in ([1, 3], [2, 2], [2, 1]):
        assert np.max(np.abs(first[0] - head(pooled, dropout_seed=seed)[0])) > 0.01
    assert np.max(np.abs(first[0] - head(pooled)[0])) > 0.01


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_kept_units_are_scaled_and_dropped_ones_are_0(rate):
    head = transparent(50, layers=1, dropout=rate)
    logits = head(np.ones((200, 1, 1, 50), np.float32), dropout_seed=[3, 4])[0].numpy()
    kept = logits > 0
    np.testing.assert_allclose(logits[kept], 1 / (1 - rate), rtol=1e-5)
    assert kept.mean() == pytest.approx(1 - rate, abs=0.02)
    # Masks differ between RoIs and between units.
    assert len({row.tobytes() for row in kept}) == 200
    assert np.abs(kept.mean(axis=0) - (1 - rate)).max() < 0.2


def test_layers_have_masks_of_their_own():
    head = transparent(50, layers=2)
    logits = head(np.ones((200, 1, 1, 50), np.float32), dropout_seed=[3, 4])[0].numpy()
    assert set(np.unique(logits)) == {0.0, 4.0}
    assert np.mean(logits > 0) == pytest.approx(0.25, abs=0.02)  # one mask twice would keep half


def test_rate_0_ignores_the_seed():
    head = randomised(RoIHead(3, 5, pool_size=3, hidden=(7,), dropout=0.0))
    pooled = pooled_features(4)
    np.testing.assert_array_equal(head(pooled, dropout_seed=[1, 2])[0], head(pooled)[0])


def with_statistics(num_classes=3, seed=2):
    head = RoIHead(num_classes, 5, pool_size=3, hidden=(4,))
    rng = np.random.default_rng(seed)
    mean = rng.normal(0, 0.1, (num_classes + 1, 4)).astype(np.float32)
    std = rng.uniform(0.05, 0.4, (num_classes + 1, 4)).astype(np.float32)
    head.set_target_statistics(mean, std)
    return head, mean, std


def test_normalise_uses_the_statistics_of_the_class():
    head, mean, std = with_statistics()
    targets = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    labels = np.int32([0, 1, 2, 3, 3, 2, 1, 0, 2])
    expected = (targets - mean[labels]) / std[labels]
    np.testing.assert_allclose(head.normalise(targets, labels), expected, rtol=1e-5, atol=1e-6)
    assert head.normalise(targets[:0], labels[:0]).shape == (0, 4)


def test_decode_equals_numpy_for_every_class():
    head, mean, std = with_statistics()
    rng = np.random.default_rng(3)
    normalised = rng.normal(size=(6, 4, 4)).astype(np.float32)
    corners, sizes = rng.uniform(0, 100, (6, 2)), rng.uniform(5, 60, (6, 2))
    rois = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
    found = head.decode(normalised, rois).numpy()
    assert found.shape == (6, 4, 4)
    for r in range(6):
        for k in range(4):
            dy, dx, dh, dw = normalised[r, k] * std[k] + mean[k]
            height, width = rois[r, 2:] - rois[r, :2]
            y, x = (rois[r, :2] + rois[r, 2:]) / 2 + np.array([dy * height, dx * width])
            half = np.array([height * np.exp(dh), width * np.exp(dw)]) / 2
            expected = [y - half[0], x - half[1], y + half[0], x + half[1]]
            np.testing.assert_allclose(found[r, k], expected, rtol=1e-4, atol=1e-3)


def test_decode_inverts_normalised_targets():
    head, _, _ = with_statistics()
    rois = np.float32([[10, 20, 50, 90], [0, 0, 30, 30]])
    objects = np.float32([[12, 25, 60, 80], [5, 1, 28, 40]])
    sizes, gt_sizes = rois[:, 2:] - rois[:, :2], objects[:, 2:] - objects[:, :2]
    centres, gt_centres = (rois[:, :2] + rois[:, 2:]) / 2, (objects[:, :2] + objects[:, 2:]) / 2
    targets = np.concatenate([(gt_centres - centres) / sizes, np.log(gt_sizes / sizes)], axis=1)
    labels = np.int32([3, 1])
    deltas = np.zeros((2, 4, 4), np.float32)
    deltas[np.arange(2), labels] = head.normalise(targets.astype(np.float32), labels)
    found = head.decode(deltas, rois).numpy()[np.arange(2), labels]
    np.testing.assert_allclose(found, objects, atol=1e-3)


def test_statistics_are_weights_but_are_not_trained():
    head, mean, std = with_statistics()
    names = {v.name for v in head.non_trainable_variables}
    assert names == {"target_mean", "target_std"}
    other = RoIHead(3, 5, pool_size=3, hidden=(4,))
    other.set_weights(head.get_weights())
    np.testing.assert_array_equal(other.target_mean, mean)
    np.testing.assert_array_equal(other.target_std, std)
    fresh = RoIHead(3, 5, pool_size=3, hidden=(4,))
    assert not fresh.target_mean.numpy().any()
    assert (fresh.target_std.numpy() == 1).all()


def boxes_of(head, pooled, rois):
    return head.decode(head(pooled)[1], rois).numpy()


def random_rois(count):
    corners = np.random.default_rng(4).uniform(0, 100, (count, 2))
    return np.concatenate([corners, corners + np.array([30, 50])], axis=1).astype(np.float32)


def test_another_normalisation_gives_the_same_boxes():
    head, _, _ = with_statistics()
    randomised(head)
    pooled, rois = pooled_features(7), random_rois(7)
    before, logits = boxes_of(head, pooled, rois), head(pooled)[0]
    _, mean, std = with_statistics(seed=9)
    head.change_target_statistics(mean, std)
    np.testing.assert_array_equal(head.target_mean, mean)
    np.testing.assert_array_equal(head.target_std, std)
    np.testing.assert_allclose(boxes_of(head, pooled, rois), before, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(head(pooled)[0], logits)


def test_folded_the_head_puts_out_the_deltas_themselves():
    head, mean, std = with_statistics()
    randomised(head)
    pooled, before = pooled_features(7), head.get_weights()
    normalised = head(pooled)[1].numpy()
    kernel, bias = head.bbox_pred.get_weights()
    with head.folded():
        np.testing.assert_allclose(head(pooled)[1], normalised * std + mean, rtol=1e-4, atol=1e-5)
        folded_kernel, folded_bias = head.bbox_pred.get_weights()
        assert not head.target_mean.numpy().any()
        assert (head.target_std.numpy() == 1).all()
    np.testing.assert_allclose(folded_kernel, kernel * std.ravel(), rtol=1e-6)
    np.testing.assert_allclose(folded_bias, bias * std.ravel() + mean.ravel(), rtol=1e-5, atol=1e-7)
    for a, b in zip(head.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_error_while_folded_leaves_the_head_as_it_was():
    head, _, _ = with_statistics()
    before = randomised(head).get_weights()
    with pytest.raises(OSError, match="disk full"), head.folded():
        raise OSError("disk full")
    for a, b in zip(head.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
