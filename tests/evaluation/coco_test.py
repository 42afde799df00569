"""COCO metrics: hand-made cases, and pycocotools fed directly with the same annotations as json."""

import contextlib
import io
import json
import pathlib

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ohem_tf.errors import InputError
from ohem_tf.evaluation import coco

MINI = pathlib.Path(__file__).resolve().parents[3] / "shared/data/coco_mini/annotations"


def truth(boxes=(), classes=(), difficult=None, **more):
    none = [False] * len(boxes)
    return {"boxes": boxes, "classes": classes, "difficult": difficult or none, **more}


def found(boxes=(), scores=(), classes=()):
    return {"boxes": boxes, "scores": scores, "classes": classes}


SMALL, MEDIUM, LARGE = [0, 0, 20, 20], [0, 50, 50, 100], [100, 100, 300, 300]


def test_perfect():
    gt = [truth([SMALL, MEDIUM], [1, 2]), truth([LARGE], [1])]
    dt = [found([SMALL, MEDIUM], [0.9, 0.8], [1, 2]), found([LARGE], [0.7], [1])]
    assert coco.coco_metrics(gt, dt) == pytest.approx(dict.fromkeys(coco.NAMES, 1.0))


def test_names_and_no_data():
    result = coco.coco_metrics([truth([MEDIUM], [1])], [found()])
    assert list(result) == [
        *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
        *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
    ]
    without_data = {"AP_small", "AP_large", "AR_small", "AR_large"}
    assert {name for name, value in result.items() if value is None} == without_data
    assert all(result[name] == 0 for name in coco.NAMES if name not in without_data)


@pytest.mark.parametrize(
    ("gt", "dt"),
    [
        ([], []),
        ([truth()], [found()]),
        ([truth()], [found([MEDIUM], [0.5], [1])]),
        ([truth([MEDIUM], [1], [True])], [found([MEDIUM], [0.5], [1])]),
    ],
)
def test_nothing_to_find_is_no_data(gt, dt):
    assert coco.coco_metrics(gt, dt) == dict.fromkeys(coco.NAMES)


def test_iou_thresholds():
    """IoU 0.72: a match at 0.5, 0.55, 0.6, 0.65 and 0.7, so 5 of the 10 thresholds."""
    gt = [truth([[0, 0, 100, 100]], [1])]
    result = coco.coco_metrics(gt, [found([[0, 0, 100, 72]], [0.9], [1])])
    expected = {"AP": 0.5, "AP50": 1, "AP75": 0, "AP_large": 0.5, "AR1": 0.5, "AR100": 0.5}
    assert {name: result[name] for name in expected} == pytest.approx(expected)


def test_detections_per_image():
    """Ten objects, found in order: AR at one detection per image is a tenth."""
    boxes = [[0, 100 * i, 50, 100 * i + 50] for i in range(10)]
    gt = [truth(boxes, [1] * 10)]
    dt = [found(boxes, np.linspace(0.9, 0.1, 10), [1] * 10)]
    result = coco.coco_metrics(gt, dt)
    assert result["AR1"] == pytest.approx(0.1)
    assert result["AR10"] == pytest.approx(1.0)


@pytest.mark.parametrize("crowd", [{"difficult": [True, False]}, {"crowd": [True, False]}])
def test_difficult_and_crowd_are_ignored(crowd):
    gt = [truth([LARGE, MEDIUM], [1, 1], **crowd)]
    # Two guesses inside the ignored region, better scored than the true one.
    inside = [[110, 110, 200, 200], [150, 150, 290, 290]]
    dt = [found([*inside, MEDIUM], [0.9, 0.8, 0.7], [1] * 3)]
    assert coco.coco_metrics(gt, dt)["AP"] == pytest.approx(1.0)
    counted = coco.coco_metrics([truth([LARGE, MEDIUM], [1, 1])], dt)["AP"]
    assert counted < 0.5


def test_area_decides_the_size():
    """COCO's area is that of the segment, so a long thin diagonal object may be small."""
    gt = [truth([MEDIUM], [1], area=[500.0])]
    result = coco.coco_metrics(gt, [found([MEDIUM], [0.9], [1])])
    assert result["AP_small"] == pytest.approx(1.0)
    assert result["AP_medium"] is None


def test_prints_nothing(capsys):
    coco.coco_metrics([truth([MEDIUM], [1])], [found([MEDIUM], [0.9], [1])])
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("levels", [3, 1000])  # of the scores: with many ties, with some
def test_detections_beyond_the_hundred_best_of_an_image_and_class_change_nothing(
    levels, monkeypatch
):
    rng = np.random.default_rng(levels)
    gt, dt = [], []
    for _ in range(4):
        corners, sides = rng.uniform(0, 200, (12, 2)), rng.uniform(20, 150, (12, 2))
        boxes, classes = np.concatenate([corners, corners + sides], axis=1), rng.integers(1, 4, 12)
        gt.append(truth(boxes, classes, [True] * 2 + [False] * 10))
        moved = boxes[rng.integers(0, 12, 600)] + rng.normal(0, 8, (600, 4))
        classes = rng.choice([1, 2, 3], 600, p=[0.7, 0.25, 0.05])
        dt.append(found(moved, rng.integers(0, levels, 600) / levels, classes))
    given = []

    def dataset(classes, images):
        given.append(sum(map(len, images)))
        return original(classes, images)

    original = coco._dataset
    monkeypatch.setattr(coco, "_dataset", dataset)
    filtered = coco.coco_metrics(gt, dt)
    monkeypatch.setattr(coco, "_counted", lambda image: image)
    assert filtered == coco.coco_metrics(gt, dt)
    counts = [np.bincount(image["classes"]) for image in dt]
    assert given[1::2] == [sum(np.minimum(c, 100).sum() for c in counts), 4 * 600]
    assert filtered["AR100"] > filtered["AR10"] > 0


def test_bad_input():
    with pytest.raises(InputError, match="one entry per image"):
        coco.coco_metrics([truth()], [])
    with pytest.raises(InputError, match=r"\['area'\] has 2 entries for 1 boxes"):
        coco.coco_metrics([truth([MEDIUM], [1], area=[1, 2])], [found()])


@pytest.mark.skipif(not MINI.is_dir(), reason="needs ../shared/data/coco_mini")
def test_equals_pycocotools_on_its_own_json(tmp_path):
    path = MINI / "instances_val2017.json"
    data = json.loads(path.read_text())
    assert any(row["iscrowd"] for row in data["annotations"])
    rng = np.random.default_rng(1)
    guesses = []
    for row in data["annotations"]:
        for _ in range(2):
            x, y, width, height = row["bbox"]
            dx, dy, dw, dh = rng.normal(0, 0.1, 4)
            moved = [x + dx * width, y + dy * height, width * np.exp(dw), height * np.exp(dh)]
            category = row["category_id"] if rng.random() < 0.8 else 1
            guess = {"image_id": row["image_id"], "category_id": category, "bbox": moved}
            guesses.append({**guess, "score": round(float(rng.random()), 2)})
    # Equal scores are ranked in the order of images, which pycocotools sorts by id.
    (tmp_path / "guesses.json").write_text(json.dumps(guesses))
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(path))
        evaluation = COCOeval(reference, reference.loadRes(str(tmp_path / "guesses.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # COCO's ids have gaps; ours are 1..K.
    ids = {c["id"]: k for k, c in enumerate(data["categories"], 1)}

    def lists(rows, **fields):
        x, y, width, height = np.array([r["bbox"] for r in rows], float).reshape(-1, 4).T
        boxes = np.stack([y, x, y + height, x + width], axis=1).astype(np.float32)
        classes = [ids[r["category_id"]] for r in rows]
        return {"boxes": boxes, "classes": classes} | {
            name: [r[key] for r in rows] for name, key in fields.items()
        }

    gt, dt = [], []
    for image_id in sorted(image["id"] for image in data["images"]):
        rows = [r for r in data["annotations"] if r["image_id"] == image_id]
        entry = lists(rows, crowd="iscrowd", area="area")
        gt.append(entry | {"difficult": np.zeros(len(rows), bool)})
        dt.append(lists([r for r in guesses if r["image_id"] == image_id], scores="score"))
    ours = list(coco.coco_metrics(gt, dt).values())
    np.testing.assert_allclose(ours, evaluation.stats, atol=1e-9)
    assert 0.1 < ours[0] < 0.9
