"""IoU, suppression, voting and selection as plain loops in float64: what the tests compare with."""

from __future__ import annotations

import numpy as np


def iou(a, b) -> float:
    """IoU of two boxes [ymin, xmin, ymax, xmax]; a box without area has IoU 0 with everything."""
    a, b = [float(side) for side in a], [float(side) for side in b]
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    if height <= 0 or width <= 0:
        return 0.0
    areas = [(ymax - ymin) * (xmax - xmin) for ymin, xmin, ymax, xmax in (a, b)]
    return height * width / (sum(areas) - height * width)


def suppress(boxes, scores, classes, method, iou_threshold=0.3, sigma=0.5, threshold=0.0):
    """[(index, score after decay)] of the survivors of a method, best first."""
    kept = []
    for label in sorted(set(map(int, classes))):
        left = {i: float(s) for i, s in enumerate(scores) if classes[i] == label}
        while left:
            best = max(left, key=lambda i: (left[i], -i))
            score = left.pop(best)
            if score < threshold:
                break
            kept.append((best, score))
            for i in list(left):
                overlap = iou(boxes[best], boxes[i])
                if method == "gaussian":
                    left[i] *= np.exp(-(overlap**2) / sigma)
                elif overlap > iou_threshold:
                    del left[i]
    return sorted(kept, key=lambda item: -item[1])


def vote(kept, boxes, scores, threshold) -> np.ndarray:
    """Each of `kept` becomes the weighted mean of its neighbours."""
    voted = np.array(kept, np.float32)
    for k, box in enumerate(kept):
        near = [i for i, other in enumerate(boxes) if iou(box, other) >= threshold]
        if sum(scores[i] for i in near) > 0:
            voted[k] = np.average(np.float64(boxes)[near], axis=0, weights=np.array(scores)[near])
    return voted


def select(boxes, scores, classes, settings):
    """Detections [(score, class, box), ...] of candidates under `DetectionSettings`, best first.

    Every candidate votes, whatever its score.
    """
    voters = boxes, scores, classes
    enough = np.flatnonzero(scores >= np.float32(settings.score_threshold))
    boxes, scores, classes = boxes[enough], scores[enough], classes[enough]
    kept = suppress(
        boxes,
        scores,
        classes,
        settings.nms,
        settings.nms_iou,
        settings.soft_nms_sigma,
        settings.score_threshold,
    )
    found = []
    for i, score in kept[: settings.max_detections]:
        box = boxes[i]
        if settings.voting:
            same = voters[2] == classes[i]
            (box,) = vote([box], voters[0][same], voters[1][same], settings.voting_iou)
        found.append((score, classes[i], box))
    return found


def assert_equal(found, expected, atol=1e-4):
    """Checks `Detections` against what `select` returned."""
    assert len(found.scores) == len(expected)
    np.testing.assert_allclose(found.scores, [e[0] for e in expected], rtol=1e-4)
    np.testing.assert_array_equal(found.classes, [e[1] for e in expected])
    boxes = np.reshape([e[2] for e in expected], (-1, 4))
    np.testing.assert_allclose(found.boxes, boxes, atol=atol)


def random_boxes(rng, count) -> np.ndarray:
    """Boxes of 10 to 40 pixels within 100 x 100."""
    corners = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(10, 40, (count, 2))], 1).astype(
        np.float32
    )
