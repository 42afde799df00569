"""Bad ground truth and detections are named in one line; good ones come back in fixed dtypes."""

import math

import numpy as np
import pytest

from ohem_tf.errors import InputError
from ohem_tf.evaluation import inputs

UNIT = [[0, 0, 10, 10], [0, 20, 10, 30], [20, 0, 30, 10], [20, 20, 30, 30]]
FAR = [90, 90, 99, 99]


def truth(boxes=(), classes=()):
    return {"boxes": boxes, "classes": classes, "difficult": [False] * len(boxes)}


def found(boxes=(), scores=(), classes=()):
    return {"boxes": boxes, "scores": scores, "classes": classes}


def test_dtypes_and_shapes():
    gt = [truth(), truth(np.array(UNIT, np.float32), [1, 2, 3, 4]) | {"crowd": [0, 1, 0, 0]}]
    dt = [found([FAR], [0.5], [7.0]), found()]
    gt, dt = inputs.check(gt, dt)
    assert gt[0]["boxes"].shape == dt[1]["boxes"].shape == (0, 4)
    assert gt[0]["difficult"].shape == dt[1]["scores"].shape == (0,)
    assert gt[1]["boxes"].dtype == dt[0]["scores"].dtype == np.float64
    assert gt[1]["difficult"].dtype == gt[1]["crowd"].dtype == bool
    assert gt[1]["crowd"].tolist() == [False, True, False, False]
    assert "area" not in gt[1]
    assert dt[0]["classes"].tolist() == [7]
    assert dt[0]["classes"].dtype == np.int64


@pytest.mark.parametrize(
    ("gt", "dt", "message"),
    [
        ([truth()], [], "ground_truth has 1 images and detections has 0"),
        ([{"boxes": [], "classes": []}], [found()], r"ground_truth\[0\] has no 'difficult'"),
        ([truth()], [{"boxes": [], "classes": []}], r"detections\[0\] has no 'scores'"),
        (
            [truth(UNIT, [1])],
            [found()],
            r"ground_truth\[0\]\['classes'\] has 1 entries for 4 boxes",
        ),
        ([truth()], [found(UNIT, [1.0], [1] * 4)], r"detections\[0\]\['scores'\] has 1 entries"),
        (
            [truth(), {"boxes": [[1, 2, 3]], "classes": [1], "difficult": [0]}],
            [found()] * 2,
            r"ground_truth\[1\]\['boxes'\] has shape \[1, 3\]: it needs \[N, 4\]",
        ),
        ([truth()], [found([FAR], [math.nan], [1])], "not finite"),
        ([truth()], [found([[0, 0, math.inf, 1]], [1], [1])], "not finite"),
        (
            [truth()],
            [{"boxes": [FAR], "scores": [1], "classes": ["cat"]}],
            r"\['classes'\] does not hold numbers",
        ),
        ([truth()], [{"boxes": [FAR], "scores": [1], "classes": [1.5]}], "whole numbers"),
    ],
)
def test_bad_lists(gt, dt, message):
    with pytest.raises(InputError, match=message) as caught:
        inputs.check(gt, dt)
    assert "\n" not in str(caught.value)
