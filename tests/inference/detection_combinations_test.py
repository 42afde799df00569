"""The whole of inference against plain loops: every combination of scales, rounds and NMS."""

import dataclasses
import itertools

import by_hand
import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf import nms
from ohem_tf.boxes import iou
from ohem_tf.boxes import scale as scale_boxes
from ohem_tf.inference import detection
from ohem_tf.roi_pooling import POOLING, roi_max_pool
from ohem_tf.settings import NMS_METHODS, DetectionSettings


def make_sharp_model():
    """tiny.model() with scores from 0 to 1, and deltas that move boxes."""
    model = tiny.model(num_classes=2)
    rng = np.random.default_rng(7)
    head = model.roi_head
    for layer, spread in ((head.cls_score, 1.5), (head.bbox_pred, 0.8)):
        layer.set_weights([rng.normal(0, spread, layer.kernel.shape), layer.bias.numpy()])
    return model


@pytest.fixture(scope="module")
def model():
    return make_sharp_model()


def features_by_hand(model, image, scale, flipped):
    """The feature map of an image at one scale."""
    resized = tf.image.resize(image, np.round(np.multiply(image.shape[:2], scale)).astype(int))
    return model.backbone((resized[:, ::-1] if flipped else resized)[None])


def score_by_hand(model, features, width, scale, flipped, rois, pool=roi_max_pool):
    """Probabilities [R, K+1] and boxes [R, K+1, 4] of RoIs on one view, no RoI spared."""
    if flipped:
        rois = rois[:, [0, 3, 2, 1]] * np.float32([1, -1, 1, -1]) + np.float32([0, width] * 2)
    scaled = scale_boxes(rois, scale).numpy()
    assert_far(scaled - [0, 0, 1, 1], 16 * np.arange(-4, 30) + 8)  # where pooling rounds
    pooled = pool(features, scaled, [0] * len(rois), 3, 16)
    logits, deltas = (x.numpy() for x in model.roi_head(pooled))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    deltas = deltas * 0.2  # tiny.model: mean 0, std 0.2
    sizes = np.tile(rois[:, 2:] - rois[:, :2], 1)[:, None]
    centres = rois[:, None, :2] + sizes / 2 + deltas[..., :2] * sizes
    halves = np.exp(deltas[..., 2:]) * sizes / 2
    boxes = np.concatenate([centres - halves, centres + halves], axis=-1)
    if flipped:
        boxes = boxes[..., [0, 3, 2, 1]] * [1, -1, 1, -1] + [0, width, 0, width]
    return odds / odds.sum(axis=1, keepdims=True), boxes


def assert_far(values, limits, margin=1e-5):
    """Rounding errors, of which none is that large, cannot carry a value across a limit."""
    distance = np.abs(np.ravel(values)[:, None] - np.ravel(limits)).min()
    assert distance > margin, f"a near tie ({distance:.1g}): the test needs another seed"


def collect_by_hand(model, image, proposals, settings):
    """Boxes, scores and classes of all rounds, RoI by RoI."""
    height, width = image.shape[:2]
    scales = []
    for side in sorted(settings.shortest_sides):
        scale = min(side / min(height, width), settings.longest_side / max(height, width))
        if np.float32(scale) not in scales:
            scales.append(np.float32(scale))
    flips = (False, True) if settings.flip else (False,)
    maps = {(s, f): features_by_hand(model, image, s, f) for s in scales for f in flips}

    def one_round(rois, labels):
        """Candidates (box, score, class) of RoIs; labels[r] are the classes asked of RoI r."""
        found = []
        for i, scale in enumerate(scales):
            views = [score_by_hand(model, maps[scale, f], width, scale, f, rois) for f in flips]
            scores, boxes = (np.mean([v[part] for v in views], axis=0) for part in (0, 1))
            boxes = np.clip(boxes, 0, [height, width, height, width]).astype(np.float32)
            for r, (ymin, xmin, ymax, xmax) in enumerate(rois):
                area = (ymax - ymin) * (xmax - xmin)
                best = np.argmin([abs(area * s * s - 224**2) for s in scales])
                if settings.scale_choice == "all" or best == i:
                    found += [(boxes[r, k], scores[r, k], k) for k in labels[r]]
        return found

    found = one_round(proposals, [(1, 2)] * len(proposals))
    rounds = list(found)
    for _ in range(1, settings.rounds):
        high = [c for c in found if c[1] >= settings.rescore_threshold]
        boxes, scores, classes = zip(*high, strict=True)
        kept = by_hand.suppress(boxes, round_ties(scores), classes, "hard", RESCORE_IOU)
        assert_far(iou(np.stack(boxes), np.stack(boxes)), RESCORE_IOU)
        best = []
        for label in (1, 2):
            best += [high[i] for i, _ in kept if high[i][2] == label][: settings.rescore_max]
        found = one_round(np.stack([c[0] for c in best]), [(c[2],) for c in best])
        rounds += found
    rounds.sort(key=lambda c: c[2])
    boxes, scores, classes = zip(*rounds, strict=True)
    assert_far(scores, [settings.score_threshold, settings.rescore_threshold])
    boxes = np.stack(boxes)
    assert_far(iou(boxes, boxes), [settings.nms_iou, settings.voting_iou])
    return boxes, np.float32(scores), np.array(classes)


def round_ties(scores):
    """RoIs on the same cells have the same score, but for the rounding of a matrix product."""
    gaps = np.diff(np.sort(scores))
    assert_far(gaps[gaps > 1e-6], 0.0)
    return np.round(scores, 6)


SCALES = {
    "one": {"shortest_sides": (120,)},
    "best": {"shortest_sides": (400, 180, 120, 360)},  # the cap makes 360 and 400 equal
    "all": {"shortest_sides": (120, 360, 400), "scale_choice": "all"},
}
RESCORE_IOU = 0.8


def make_example(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)
    corners = rng.uniform(0, 100, (12, 2))
    proposals = np.concatenate([corners, corners + rng.uniform(40, 220, (12, 2))], 1)
    return image, np.minimum(proposals, [240, 320, 240, 320]).astype(np.float32)


def make_settings(scales, flip, rounds):
    return DetectionSettings(
        **SCALES[scales],
        longest_side=480,
        flip=flip,
        rounds=rounds,
        rescore_threshold=0.3,
        rescore_nms_iou=RESCORE_IOU,
        rescore_max=5,
        score_threshold=0.2,
        nms_iou=0.4,
        soft_nms_sigma=0.3,
        max_detections=12,
    )


@pytest.mark.parametrize(
    ("scales", "flip", "rounds"),
    [("one", False, 1), *itertools.product(SCALES, (False, True), (3,))],
)
def test_every_combination_equals_the_loop(model, scales, flip, rounds):
    image, proposals = make_example(seed=0)
    settings = make_settings(scales, flip, rounds)
    boxes, scores, classes = collect_by_hand(model, image, proposals, settings)
    found = detection.collect(model, image, proposals, settings)
    enough = scores >= settings.score_threshold
    np.testing.assert_array_equal(found.classes, classes[enough])
    np.testing.assert_allclose(found.scores, scores[enough], rtol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes[enough], atol=1e-3)
    # From the same bits: where RoIs of two rounds cover the same cells, their scores are equal up
    # to rounding, and which of the two boxes stays is up to that.
    by_hand_too = nms.Candidates(*map(tf.constant, (boxes, scores, np.int32(classes))))
    for method, voting in itertools.product(NMS_METHODS, [False, True]):
        settings = dataclasses.replace(settings, nms=method, voting=voting)
        expected = by_hand.select(boxes, scores, classes, settings)
        assert len(expected) > 3
        by_hand.assert_equal(detection.select(by_hand_too, settings), expected, atol=1e-3)


@pytest.mark.parametrize("pooling", POOLING)
def test_rois_on_the_same_cells_go_through_the_head_once(model, monkeypatch, pooling):
    rng = np.random.default_rng(3)
    image = rng.uniform(0, 255, (200, 240, 3)).astype(np.float32)
    corners = rng.uniform(0, 90, (300, 2))
    rois = np.concatenate([corners, corners + rng.uniform(0, 60, (300, 2))], 1)
    rois = np.concatenate([rois, rois[:5], [[-30, -5, 20, 400], [90, 90, 20, 20]]])
    rois = rois.astype(np.float32)
    rows = []

    def counting(*args):
        rows.append(len(args[1]))
        return POOLING[pooling](*args)

    monkeypatch.setattr(model.roi_network.pooler, "kind", pooling)
    monkeypatch.setattr(model.roi_network.pooler, "_pool", counting)
    windows = rois  # RoIAlign tells all apart, but for exact copies
    if pooling == "max":
        windows = np.floor((rois - [0, 0, 1, 1]) / 16 + 0.5)
    features = features_by_hand(model, image, 1.0, False)
    found = model.score_rois([features], rois, tf.constant(1.0))
    expected = score_by_hand(model, features, 240, 1.0, False, rois, POOLING[pooling])
    assert rows == [len(np.unique(windows, axis=0))]
    assert len(rois) - rows[0] > (60 if pooling == "max" else 4)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-3)
