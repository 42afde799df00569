"""Inference against numpy: selection, voting, and the whole of it with every setting."""

import dataclasses

import by_hand
import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf.boxes import iou
from ohem_tf.inference import detection
from ohem_tf.inference.predict import Predictor
from ohem_tf.settings import NMS_METHODS, DetectionSettings


def select(scores, boxes, settings):
    """The detections among scores [M, K] and boxes [M, K, 4] per class."""
    scores = np.pad(np.float32(scores), [(0, 0), (1, 0)])  # no background
    boxes = np.pad(np.float32(boxes), [(0, 0), (1, 0), (0, 0)])
    return detection.select(detection.candidates(scores, boxes, 0.0), settings)


@pytest.mark.parametrize("nms", NMS_METHODS)
@pytest.mark.parametrize("voting", [False, True])
@pytest.mark.parametrize("max_detections", [5, 100])
def test_select_equals_the_loop(nms, voting, max_detections):
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, (50, 3)).astype(np.float32)
    boxes = np.stack([by_hand.random_boxes(rng, 50) for _ in range(3)], axis=1)
    settings = DetectionSettings(
        score_threshold=0.2, max_detections=max_detections, voting=voting, nms=nms
    )
    found = select(scores, boxes, settings)
    classes = np.repeat([1, 2, 3], 50)
    expected = by_hand.select(
        boxes.transpose(1, 0, 2).reshape(-1, 4), scores.T.ravel(), classes, settings
    )
    by_hand.assert_equal(found, expected)


def test_threshold_keeps_a_score_equal_to_it():
    boxes = np.float32([[[0, 0, 9, 9]], [[20, 0, 29, 9]]])
    settings = DetectionSettings(score_threshold=0.5)
    found = select([[0.5], [0.49]], boxes, settings)
    assert found.scores.numpy().tolist() == [0.5]


def test_of_equal_scores_the_lower_class_and_the_lower_roi_come_first():
    boxes = np.float32([[[0, 0, 9, 9], [1, 0, 9, 9]], [[20, 0, 29, 9], [21, 0, 29, 9]]])
    found = select(np.full((2, 2), 0.5), boxes, DetectionSettings())
    assert found.classes.numpy().tolist() == [1, 1, 2, 2]
    assert found.boxes.numpy()[:, 0].tolist() == [0, 20, 1, 21]


@pytest.mark.parametrize("nms", NMS_METHODS)
@pytest.mark.parametrize("voting", [False, True])
def test_select_of_nothing(nms, voting):
    settings = DetectionSettings(nms=nms, voting=voting)
    for count in (0, 3):  # no RoIs; none with a score
        found = select(np.zeros((count, 3)), np.zeros((count, 3, 4)), settings)
        assert [x.shape for x in found] == [(0, 4), (0,), (0,)]


def test_candidates_leave_out_background_low_scores_and_other_classes():
    scores = np.float32([[0.9, 0.05, 0.05], [0.1, 0.5, 0.4], [0.2, 0.2, 0.6]])
    boxes = np.arange(36, dtype=np.float32).reshape(3, 3, 4)
    found = detection.candidates(scores, boxes, 0.4)
    assert found.classes.numpy().tolist() == [1, 2, 2]
    np.testing.assert_array_equal(found.boxes, [boxes[1, 1], boxes[1, 2], boxes[2, 2]])
    found = detection.candidates(scores, boxes, 0.1, np.int32([2, 1, 1]))
    assert found.classes.numpy().tolist() == [1, 1]
    np.testing.assert_allclose(found.scores, [0.5, 0.2])


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_vote_equals_the_loop(threshold):
    rng = np.random.default_rng(1)
    boxes, scores = by_hand.random_boxes(rng, 40), rng.uniform(0, 1, 40).astype(np.float32)
    kept = boxes[[3, 8, 20]]
    found = detection.vote(kept, boxes, scores, threshold)
    np.testing.assert_allclose(found, by_hand.vote(kept, boxes, scores, threshold), atol=1e-4)


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


def test_every_box_votes_that_has_the_least_score():
    boxes = np.float32([[[0, 0, 1, 10]], [[0, 0, 1, 8]], [[0, 0, 1, 6]]])
    settings = DetectionSettings(voting=True, score_threshold=0.0, max_detections=1)
    for scores, width in [
        ([[4e-5], [1e-5], [9e-6]], 9.6),
        ([[4e-5], [1e-5], [2e-5]], (400 + 80 + 120) / 70),
        ([[4e-6], [1e-6], [2e-6]], 10),  # no voter
    ]:
        found = select(scores, boxes, settings)
        np.testing.assert_allclose(found.boxes, [[0, 0, 1, width]], rtol=1e-6)


class Halfway:
    """A stand-in for the detector: regresses halfway to [0, 0, 80, 80]; the score is the IoU."""

    def image_features(self, image):
        return tf.zeros([1, 1, 1, 1])

    def score_views(self, views):
        return [self.score_rois(rois) for _, rois, _ in views]

    def score_rois(self, rois):
        target = tf.constant([[0.0, 0.0, 80.0, 80.0]])
        score = iou(rois, target)
        return tf.concat([1 - score, score], 1), tf.stack([rois, (rois + target) / 2], 1)


def test_a_box_has_the_score_of_the_roi_it_was_regressed_from():
    image = np.zeros((100, 100, 3), np.uint8)
    proposals = np.float32([[0, 0, 80, 16], [90, 90, 99, 99]])  # IoU 0.2 and 0
    settings = DetectionSettings(
        rounds=4, nms_iou=1.0, score_threshold=0.1, rescore_threshold=0.15, rescore_nms_iou=1.0
    )
    found = detection.detect(Halfway(), image, proposals, settings)
    # RoIs 16, 48, 64, 72 wide give boxes 48, 64, 72, 76 wide.
    np.testing.assert_allclose(found.boxes[:, 3], [76, 72, 64, 48])
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.6, 0.2], rtol=1e-6)


@pytest.mark.parametrize("nms", NMS_METHODS)
@pytest.mark.parametrize("rounds", [1, 2])
def test_voted_boxes_do_not_depend_on_what_is_shown(nms, rounds):
    image = np.zeros((100, 100, 3), np.uint8)
    proposals = by_hand.random_boxes(np.random.default_rng(2), 60)
    target = np.float64([0, 0, 80, 80])
    everything = [(proposals + target) / 2]
    rois = [proposals]
    for _ in range(1, rounds):
        rois.append(everything[-1])
        everything.append((everything[-1] + target) / 2)
    boxes = np.concatenate(everything)
    scores = np.array([by_hand.iou(roi, target) for roi in np.concatenate(rois)])
    settings = DetectionSettings(
        rounds=rounds,
        rescore_threshold=0.0,
        rescore_nms_iou=1.0,
        nms=nms,
        nms_iou=0.6,
        voting=True,
        score_threshold=0.0,
    )
    all_shown = by_hand.select(boxes, scores, np.ones(len(boxes)), settings)
    counts = []
    for threshold in (0.0, 0.05, 0.15):
        settings = dataclasses.replace(settings, score_threshold=threshold)
        found = detection.detect(Halfway(), image, proposals, settings)
        by_hand.assert_equal(found, [d for d in all_shown if d[0] >= threshold])
        counts.append(len(found.scores))
    assert counts[0] > counts[-1] > 0


def test_only_high_scores_go_into_the_next_round():
    image = np.zeros((100, 100, 3), np.uint8)
    proposals = np.float32([[0, 0, 80, 16], [0, 0, 80, 40], [0, 0, 80, 44]])
    settings = DetectionSettings(
        rounds=2, nms_iou=1.0, score_threshold=0.0, rescore_threshold=0.5, rescore_nms_iou=0.97
    )
    for changes, widths in [
        ({}, [48, 60, 62, 70, 71]),
        ({"rescore_max": 1}, [48, 60, 62, 71]),
        ({"rescore_nms_iou": 0.9}, [48, 60, 62, 71]),  # 60 / 62 = 0.97
        ({"rescore_threshold": 0.54}, [48, 60, 62, 71]),
        ({"rescore_threshold": 0.1}, [48, 60, 62, 64, 70, 71]),
        ({"rescore_threshold": 0.1, "score_threshold": 0.5}, [60, 62, 64, 70, 71]),
    ]:
        found = detection.detect(
            Halfway(), image, proposals, dataclasses.replace(settings, **changes)
        )
        assert sorted(found.boxes.numpy()[:, 3]) == widths


@pytest.mark.parametrize(("max_proposals", "widths"), [(0, [48, 60, 62]), (2, [48, 60])])
def test_the_first_proposals_are_taken_or_all(max_proposals, widths):
    proposals = np.float32([[0, 0, 80, 16], [0, 0, 80, 40], [0, 0, 80, 44]])
    settings = DetectionSettings(nms_iou=1.0, max_proposals=max_proposals)
    found = detection.detect(Halfway(), np.zeros((100, 100, 3), np.uint8), proposals, settings)
    assert sorted(found.boxes.numpy()[:, 3]) == widths


def test_traced_once_for_images_and_proposals_of_any_size():
    settings = DetectionSettings(
        shortest_sides=(48, 64),
        longest_side=96,
        scale_choice="all",
        flip=True,
        nms="gaussian",
        voting=True,
        score_threshold=0.0,
    )
    predictor = Predictor(tiny.model(), settings)
    for number, size in enumerate([(96, 128), (40, 64), (64, 40)]):
        record = tiny.make_record(number, *size, 2)
        image = tf.io.decode_image(record.encoded).numpy()
        proposals = record.proposals[: 8 + number] * 1.3  # some hang over the edge
        found = predictor(image, proposals)
        assert 1 <= len(found.scores) <= 100
        assert np.all(found.boxes >= 0)
        assert np.all(found.boxes <= [*size, *size])
        assert np.all(np.diff(found.scores) <= 0)
        assert set(found.classes) <= {1, 2, 3}
    expected = detection.detect(tiny.model(), image, proposals, settings)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-6)
    assert [len(x) for x in predictor(image, proposals[:0])] == [0, 0, 0]
    found = predictor(image[:1, :1], np.float32([[0, 0, 1, 1]]))
    assert len(found.boxes) >= 1
    assert np.all((found.boxes >= 0) & (found.boxes <= 1))
    assert predictor._detect.experimental_get_tracing_count() == 1
