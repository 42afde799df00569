"""Per-class NMS, top-k and voting against numpy written here."""

import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf import boxes as box_ops
from ohem_tf import detection
from ohem_tf.detection import DetectionSettings
from ohem_tf.evaluation.predict import Predictor


def boxes_around(rng, count):
    corners = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(10, 40, (count, 2))], 1).astype(
        np.float32
    )


def vote_by_hand(kept, boxes, scores, threshold):
    overlaps = box_ops.iou(kept, boxes).numpy()
    out = kept.copy()
    for k in range(len(kept)):
        near = overlaps[k] >= threshold
        if scores[near].sum() > 0:
            out[k] = np.average(boxes[near].astype(np.float64), axis=0, weights=scores[near])
    return out


def select_by_hand(scores, boxes, settings):
    found = []
    for k in range(scores.shape[1]):
        order = sorted(range(len(scores)), key=lambda i: (-scores[i, k], i))
        order = [i for i in order if scores[i, k] >= settings.score_threshold]
        kept = []
        for i in order:
            overlaps = box_ops.iou(boxes[i : i + 1, k], boxes[kept, k]).numpy()
            if not (overlaps > settings.nms_iou).any():
                kept.append(i)
        kept_boxes = boxes[kept, k]
        if settings.voting and order:
            kept_boxes = vote_by_hand(
                kept_boxes, boxes[order, k], scores[order, k], settings.voting_iou
            )
        found += [(scores[i, k], k + 1, box) for i, box in zip(kept, kept_boxes, strict=True)]
    found.sort(key=lambda item: -item[0])
    return found[: settings.max_detections]


@pytest.mark.parametrize("voting", [False, True])
@pytest.mark.parametrize("max_detections", [5, 100])
def test_select_equals_the_loop(voting, max_detections):
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, (50, 3)).astype(np.float32)
    boxes = np.stack([boxes_around(rng, 50) for _ in range(3)], axis=1)
    settings = DetectionSettings(score_threshold=0.2, max_detections=max_detections, voting=voting)
    found = detection.select(scores, boxes, settings)
    expected = select_by_hand(scores, boxes, settings)
    np.testing.assert_array_equal(found.scores, [e[0] for e in expected])
    np.testing.assert_array_equal(found.classes, [e[1] for e in expected])
    np.testing.assert_allclose(found.boxes, np.stack([e[2] for e in expected]), atol=1e-4)


def test_threshold_keeps_a_score_equal_to_it():
    boxes = np.float32([[[0, 0, 9, 9]], [[20, 0, 29, 9]]])
    settings = DetectionSettings(score_threshold=0.5)
    found = detection.select(np.float32([[0.5], [0.49]]), boxes, settings)
    assert found.scores.numpy().tolist() == [0.5]


def test_select_of_nothing():
    found = detection.select(np.zeros((0, 3)), np.zeros((0, 3, 4)), DetectionSettings())
    assert [x.shape for x in found] == [(0, 4), (0,), (0,)]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_vote_equals_the_loop(threshold):
    rng = np.random.default_rng(1)
    boxes, scores = boxes_around(rng, 40), rng.uniform(0, 1, 40).astype(np.float32)
    kept = boxes[[3, 8, 20]]
    found = detection.vote(kept, boxes, scores, threshold)
    np.testing.assert_allclose(found, vote_by_hand(kept, boxes, scores, threshold), atol=1e-4)


def test_vote_counts_a_neighbour_at_exactly_the_threshold():
    kept = np.float32([[0, 0, 1, 10]])
    boxes = np.float32([[0, 0, 1, 10], [0, 0, 1, 5]])  # IoU 0.5
    found = detection.vote(kept, boxes, np.float32([0.75, 0.25]))
    np.testing.assert_allclose(found, [[0, 0, 1, 8.75]])


def test_vote_without_neighbours_or_weight_keeps_the_box():
    kept = np.float32([[0, 0, 10, 10]])
    far = np.float32([[50, 50, 60, 60]])
    np.testing.assert_array_equal(detection.vote(kept, far, [0.9]), kept)
    np.testing.assert_array_equal(detection.vote(kept, kept, [0.0]), kept)
    assert detection.vote(kept[:0], far, [0.9]).shape == (0, 4)
    np.testing.assert_array_equal(detection.vote(kept, far[:0], far[:0, 0]), kept)


def test_detect_lies_inside_the_image_and_takes_no_proposals():
    predictor = Predictor(
        tiny.model(), DetectionSettings(shortest_side=64, longest_side=96, score_threshold=0.0)
    )
    record = tiny.make_record(0, 96, 128, 2)
    image = tf.io.decode_image(record.encoded).numpy()
    found = predictor(image, record.proposals * 1.3)  # some hang over the edge
    assert 1 <= len(found.scores) <= 100
    assert np.all(found.boxes >= 0)
    assert np.all(found.boxes <= [96, 128, 96, 128])
    assert np.all(np.diff(found.scores) <= 0)
    assert set(found.classes) <= {1, 2, 3}
    assert [len(x) for x in predictor(image, record.proposals[:0])] == [0, 0, 0]
    assert len(predictor(image[:1, :1], np.float32([[0, 0, 1, 1]])).boxes) >= 1
