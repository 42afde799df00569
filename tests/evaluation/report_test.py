"""The evaluate contract: the keys and values of metrics.json, and the table on the terminal."""

import json

import numpy as np
import pytest

from ohem_tf.errors import InputError
from ohem_tf.evaluation import report

A, B, C = [0, 0, 50, 50], [0, 60, 50, 110], [60, 0, 110, 50]


def image(boxes, classes, difficult=None, **more):
    entry = {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "classes": np.array(classes, np.int32),
        "difficult": np.array(difficult or [False] * len(boxes), bool),
    }
    return entry | more


def found(boxes, scores, classes):
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores, np.float32),
        "classes": np.array(classes, np.int32),
    }


@pytest.fixture
def result():
    # cat: one of two found, best scored. dog: only difficult. horse: missed. cow: not there.
    gt = [image([A, B], [1, 2], [False, True]), image([A, C], [1, 3])]
    dt = [found([A, B], [0.9, 0.8], [1, 2]), found([B], [0.5], [4])]
    return report.metrics(gt, dt, ["cat", "dog", "horse", "cow"], method="area", coco=True)


def test_contract(result):
    assert list(result) == ["mAP", "AP", "method", "iou_threshold", "coco", "images", "objects"]
    assert result["AP"] == {"cat": 0.5, "dog": None, "horse": 0.0, "cow": None}
    assert result["mAP"] == 0.25
    assert result["method"] == "area"
    assert result["iou_threshold"] == 0.5
    assert result["images"] == 2
    assert result["objects"] == {"cat": 2, "dog": 0, "horse": 1, "cow": 0}
    assert result["coco"]["AP_small"] is None
    # pycocotools' 101 recall levels: 51 of them (0 to 0.5) at precision 1, for one of two classes.
    assert result["coco"]["AP50"] == pytest.approx(51 / 101 / 2)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_table(result):
    lines = report.table(result).splitlines()
    assert [line.split() for line in lines if line.startswith(("cat", "dog", "mAP"))] == [
        ["cat", "50.0", "2"],
        ["dog", "no", "data", "0"],
        ["mAP", "25.0", "3"],
    ]
    assert "mean over 2 of 4 classes; 2 images" in lines[-3]
    assert "IoU >= 0.5" in lines[-3]
    assert lines[-2].startswith("COCO %: AP ")
    assert "AP_small no data" in lines[-2]
    assert lines[-1].startswith("COCO %: AR1 ")
    columns = {len(line) for line in lines[:8] if line}
    assert len(columns) == 1  # every row is as wide as the rule
    assert max(map(len, lines)) <= 100


def test_cocos_metrics_are_an_option(result):
    gt, dt = [image([A, B], [1, 2])], [found([A], [0.9], [1])]
    plain = report.metrics(gt, dt, ["cat", "dog"])
    assert plain["coco"] == {}
    full = report.metrics(gt, dt, ["cat", "dog"], coco=True)
    assert {**full, "coco": {}} == plain
    text = report.table(plain)
    assert "COCO" not in text
    assert report.table(full).startswith(text + "\nCOCO %: AP ")


def test_class_names_of_all_kinds_stay_as_they_are():
    gt = [image([A, B], [1, 2])]
    found_all = found([A, B], [0.9, 0.8], [1, 2])
    result = report.metrics(gt, [found_all], ["007", "a class of a very long name"])
    rows = report.table(result).splitlines()[:6]
    assert len({len(row) for row in rows}) == 1
    assert rows[2].split() == ["007", "100.0", "1"]  # a name, not a number


def test_no_data_at_all():
    result = report.metrics([image([], [])], [found([], [], [])], ["cat"])
    assert result["mAP"] is None
    assert result["AP"] == {"cat": None}
    json.dumps(result, allow_nan=False)
    assert "no data" in report.table(result)


def test_crowd_counts_neither_way():
    gt = [image([A, B], [1, 1], crowd=[True, False])]
    result = report.metrics(gt, [found([A, B], [0.9, 0.8], [1, 1])], ["cat"], method="area")
    assert result["AP"] == {"cat": 1.0}
    assert result["objects"] == {"cat": 1}


def test_threshold_and_method_are_used():
    gt, dt = [image([A], [1])], [found([[0, 0, 50, 35]], [0.9], [1])]  # IoU 0.7
    assert report.metrics(gt, dt, ["cat"], iou_threshold=0.7)["mAP"] == pytest.approx(1.0)
    assert report.metrics(gt, dt, ["cat"], iou_threshold=0.75)["mAP"] == 0.0
    gt = [image([A, B], [1, 1])]
    dt = [found([A], [0.9], [1])]
    assert report.metrics(gt, dt, ["cat"], method="voc07")["mAP"] == pytest.approx(6 / 11)
    assert report.metrics(gt, dt, ["cat"], method="area")["mAP"] == pytest.approx(0.5)


@pytest.mark.parametrize("class_id", [0, -1, 2])
def test_class_without_name(class_id):
    with pytest.raises(InputError, match=f"class {class_id} has no name"):
        report.metrics([image([A], [class_id])], [found([], [], [])], ["cat"])


def test_two_classes_of_one_name():
    with pytest.raises(InputError, match="'cat' twice"):
        report.metrics([], [], ["cat", "dog", "cat"])
