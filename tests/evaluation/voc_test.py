"""VOC average precision against a brute-force version, hand-computed and published examples."""

import math
import pathlib
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from by_hand import iou
from hypothesis import given, settings
from hypothesis import strategies as st

from ohem_tf.errors import InputError
from ohem_tf.evaluation import voc

VOC12 = pathlib.Path(__file__).resolve().parents[3] / "shared/data/voc12_100/VOC2012/Annotations"


def truth(boxes=(), classes=(), difficult=None):
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "classes": np.array(classes, np.int32),
        "difficult": np.array([False] * len(boxes) if difficult is None else difficult, bool),
    }


def found(boxes=(), scores=(), classes=()):
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores, np.float32),
        "classes": np.array(classes, np.int32),
    }


def brute_force(ground_truth, detections, threshold, method):
    """One detection, one object, one recall level at a time; no numpy beyond reading the values."""
    ids = {int(c) for image in [*ground_truth, *detections] for c in image["classes"]}
    result = {}
    for c in ids:
        objects = sum(
            1
            for image in ground_truth
            for k, d in zip(image["classes"], image["difficult"], strict=True)
            if k == c and not d
        )
        if objects == 0:
            result[c] = math.nan
            continue
        queue = [
            (float(image["scores"][j]), i, j)
            for i, image in enumerate(detections)
            for j in range(len(image["classes"]))
            if image["classes"][j] == c
        ]
        queue.sort(key=lambda entry: -entry[0])  # Python's sort is stable
        taken, points, hits, total = set(), [], 0, 0
        for _, i, j in queue:
            best, best_k = -1.0, None
            for k, box in enumerate(ground_truth[i]["boxes"]):
                overlap = iou(detections[i]["boxes"][j], box)
                if ground_truth[i]["classes"][k] == c and overlap > best:
                    best, best_k = overlap, k
            if best >= threshold:
                if ground_truth[i]["difficult"][best_k]:
                    continue
                hits += (i, best_k) not in taken
                taken.add((i, best_k))
            total += 1
            points.append((hits / objects, hits / total))
        if method == "voc07":
            ap = 0.0
            for level in range(11):
                ap += max((p for r, p in points if r >= level * 0.1), default=0.0) / 11
        else:
            ap, last = 0.0, 0.0
            for n, (recall, _) in enumerate(points):
                ap += (recall - last) * max(p for _, p in points[n:])
                last = recall
        result[c] = ap
    return result


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for c in ours:
        np.testing.assert_allclose(ours[c], theirs[c], atol=1e-12, equal_nan=True)


# Corners on a coarse grid, scores from few values: equal IoUs, duplicates and ties are common.
box = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 4), st.integers(0, 4)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)
objects = st.lists(st.tuples(box, st.integers(1, 3), st.booleans()), max_size=6)
guesses = st.lists(st.tuples(box, st.integers(1, 4), st.sampled_from([0.1, 0.5, 0.9])), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(objects, guesses), max_size=4),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.sampled_from(voc.METHODS),
)
def test_equals_brute_force(images, threshold, method):
    gt = [truth(*zip(*g, strict=True)) if g else truth() for g, _ in images]
    dt = [
        found([b for b, _, _ in d], [s for _, _, s in d], [c for _, c, _ in d]) for _, d in images
    ]
    assert_same(
        voc.average_precision(gt, dt, threshold, method), brute_force(gt, dt, threshold, method)
    )


# R. Padilla's Object-Detection-Metrics, "An illustrated example": per image x, y, width, height of
# the objects, then confidence in %, x, y, width, height of the detections.
PADILLA = [
    ("25 16 38 56, 129 123 41 62", "88 5 67 31 48, 70 119 111 40 67, 80 124 9 49 67"),
    ("123 11 43 55, 38 132 59 45", "71 64 111 64 58, 54 26 140 60 47, 74 19 18 43 35"),
    (
        "16 14 35 48, 123 30 49 44, 99 139 47 47",
        "18 109 15 77 39, 67 86 63 46 45, 38 160 62 36 53, 91 105 131 47 47, 44 18 148 40 44",
    ),
    (
        "53 42 40 52, 154 43 31 34",
        "35 83 28 28 26, 78 28 68 42 67, 45 87 89 25 39, 14 10 155 60 26",
    ),
    (
        "59 31 44 51, 48 128 34 52",
        "62 50 38 28 46, 44 95 11 53 28, 95 29 131 72 29, 23 29 163 72 29",
    ),
    ("36 89 52 76, 62 58 44 67", "45 43 48 74 38, 84 17 155 29 35, 43 95 110 25 42"),
    ("28 31 55 63, 58 67 50 58", "48 16 20 101 88, 95 33 116 37 49"),
]


@pytest.mark.parametrize(("method", "published"), [("area", 0.24560955), ("voc07", 0.26840)])
def test_published_example(method, published):
    def rows(text):
        return [[float(v) for v in row.split()] for row in text.split(",")]

    def half_open(x, y, width, height):
        return y, x, y + height + 1, x + width + 1  # the example's corners are inclusive pixels

    gt, dt = [], []
    for objects_text, detections_text in PADILLA:
        boxes = [half_open(*row) for row in rows(objects_text)]
        gt.append(truth(boxes, [1] * len(boxes)))
        guessed = rows(detections_text)
        boxes = [half_open(*row[1:]) for row in guessed]
        dt.append(found(boxes, [row[0] / 100 for row in guessed], [1] * len(boxes)))
    assert sum(len(image["boxes"]) for image in gt) == 15
    assert sum(len(image["boxes"]) for image in dt) == 24
    # The published figure is computed from steps rounded to four digits.
    ap = voc.average_precision(gt, dt, iou_threshold=0.3, method=method)
    assert ap[1] == pytest.approx(published, abs=1e-4)


UNIT = [[0, 0, 10, 10], [0, 20, 10, 30], [20, 0, 30, 10], [20, 20, 30, 30]]
FAR = [90, 90, 99, 99]


def test_by_hand():
    """Two of four objects found, a false one between: (r, p) = (.25, 1), (.25, .5), (.5, 2/3)."""
    gt = [truth(UNIT, [1] * 4)]
    dt = [found([UNIT[0], FAR, UNIT[1]], [0.9, 0.8, 0.7], [1] * 3)]
    area = voc.average_precision(gt, dt, method="area")
    assert area == {1: pytest.approx(0.25 * 1 + 0.25 * 2 / 3)}
    # Levels 0, .1, .2 at precision 1; .3, .4, .5 at 2/3.
    eleven = voc.average_precision(gt, dt)
    assert eleven == {1: pytest.approx((3 * 1 + 3 * 2 / 3) / 11)}
    curve = voc.precision_recall(gt, dt)[1]
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(curve.recall, [1 / 4, 1 / 4, 2 / 4])
    np.testing.assert_allclose(curve.scores, [0.9, 0.8, 0.7])
    assert curve.objects == 4


def test_perfect_is_one():
    gt = [truth(UNIT, [1, 2, 1, 2]), truth(UNIT[:1], [2])]
    dt = [found(UNIT, [0.9, 0.8, 0.7, 0.6], [1, 2, 1, 2]), found(UNIT[:1], [0.5], [2])]
    for method in voc.METHODS:
        ap = voc.average_precision(gt, dt, method=method)
        assert ap == {1: pytest.approx(1.0), 2: pytest.approx(1.0)}


def test_second_detection_of_an_object_is_false():
    gt = [truth(UNIT[:2], [1, 1])]
    # The better box comes second: score decides, not IoU.
    dt = [found([[0, 0, 10, 9], UNIT[0], UNIT[1]], [0.9, 0.8, 0.7], [1] * 3)]
    curve = voc.precision_recall(gt, dt)[1]
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])


def test_a_taken_object_is_not_replaced_by_the_next_best():
    """The devkit looks at the object of highest IoU only, even where another one would be free."""
    gt = [truth([[0, 0, 10, 10], [0, 3, 10, 13]], [1, 1])]
    dt = [found([[0, 0, 10, 10], [0, 1, 10, 11]], [0.9, 0.8], [1, 1])]
    curve = voc.precision_recall(gt, dt)[1]
    np.testing.assert_allclose(curve.recall, [1 / 2, 1 / 2])


def test_difficult_counts_neither_way():
    gt = [truth(UNIT[:2], [1, 1], [True, False])]
    # Both detections of the difficult object vanish, and it is not missed either.
    dt = [found([UNIT[0], UNIT[0], UNIT[1]], [0.9, 0.8, 0.7], [1] * 3)]
    curve = voc.precision_recall(gt, dt)[1]
    np.testing.assert_allclose(curve.precision, [1])
    np.testing.assert_allclose(curve.recall, [1])
    np.testing.assert_allclose(curve.scores, [0.7])
    # Below the threshold it does not excuse.
    dt = [found([[0, 0, 10, 4], UNIT[1]], [0.9, 0.7], [1, 1])]
    np.testing.assert_allclose(voc.precision_recall(gt, dt)[1].precision, [0, 1 / 2])


def test_no_data_is_nan():
    gt = [truth(UNIT[:2], [1, 2], [False, True])]
    dt = [found(UNIT[:3], [0.9, 0.8, 0.7], [1, 2, 3])]
    ap = voc.average_precision(gt, dt)
    assert list(ap) == [1, 2, 3]
    assert ap[1] == pytest.approx(1.0)
    assert math.isnan(ap[2])  # only difficult objects
    assert math.isnan(ap[3])  # only detections
    assert voc.mean_average_precision(ap) == pytest.approx(1.0)
    assert math.isnan(voc.mean_average_precision({1: math.nan}))
    assert math.isnan(voc.mean_average_precision({}))
    assert voc.mean_average_precision({1: 0.0, 2: math.nan, 3: 0.5}) == 0.25


def test_empty():
    assert voc.average_precision([], []) == {}
    assert voc.average_precision([truth()], [found()]) == {}
    plain = {"boxes": [], "classes": [], "difficult": []}
    assert voc.average_precision([plain], [{"boxes": [], "scores": [], "classes": []}]) == {}
    assert voc.average_precision([truth(UNIT, [1] * 4)], [found()]) == {1: 0.0}
    assert voc.average_precision([truth(UNIT, [1] * 4)], [found()], method="area") == {1: 0.0}
    # Objects in one image, detections in another one.
    gt, dt = [truth(UNIT[:1], [1]), truth()], [found(), found(UNIT[:1], [0.9], [1])]
    assert voc.average_precision(gt, dt) == {1: 0.0}


def test_equal_scores_keep_their_order():
    gt = [truth(UNIT[:1], [1]), truth(UNIT[:1], [1])]
    right, wrong = found(UNIT[:1], [0.5], [1]), found([FAR], [0.5], [1])
    first = voc.average_precision(gt, [right, wrong], method="area")
    last = voc.average_precision(gt, [wrong, right], method="area")
    assert first == {1: 0.5}
    assert last == {1: 0.25}
    # Long enough for numpy's default sort to be unstable.
    many = found([UNIT[0]] + [FAR] * 99, [0.5] * 100, [1] * 100)
    assert voc.precision_recall([truth(UNIT[:1], [1])], [many])[1].precision[0] == 1


def test_iou_of_exactly_one_half_matches():
    gt = [truth([[0, 0, 10, 10]], [1])]
    assert voc.average_precision(gt, [found([[0, 0, 10, 5]], [1], [1])], 0.5) == {1: 1.0}
    # 3 / 10 in floats, from integer areas.
    assert voc.average_precision(gt, [found([[0, 0, 10, 3]], [1], [1])], 0.3) == {1: 1.0}
    # Just below one half; float32 arithmetic rounds this one up to 0.5.
    height, width = np.float32(643.875), np.float32(414.875)
    half = np.nextafter(width / np.float32(2), np.float32(0))
    common = height * half
    assert common / (height * width + height * half - common) == 0.5
    gt = [truth([[0, 0, height, width]], [1])]
    assert voc.average_precision(gt, [found([[0, 0, height, half]], [1], [1])], 0.5) == {1: 0.0}


def test_recall_levels_are_those_of_the_release():
    """np.arange(0, 1.1, 0.1): 3 of 5 objects do not reach the level 0.6 (0.6000000000000001)."""
    boxes = [[0, 20 * i, 10, 20 * i + 10] for i in range(5)]
    gt = [truth(boxes, [1] * 5)]
    dt = [found(boxes[:3], [0.9, 0.8, 0.7], [1] * 3)]
    assert voc.average_precision(gt, dt) == {1: pytest.approx(6 / 11)}


def test_bad_arguments():
    with pytest.raises(InputError, match=r"detections\[0\] has no 'scores'"):
        voc.average_precision([truth()], [truth()])
    with pytest.raises(InputError, match="method is 'voc12': it must be one of voc07, area"):
        voc.average_precision([], [], method="voc12")
    for threshold in (0, -0.5, 1.01, math.nan):
        with pytest.raises(InputError, match="iou_threshold"):
            voc.average_precision([], [], iou_threshold=threshold)


def test_does_not_import_tensorflow():
    code = "import sys, ohem_tf.evaluation.voc; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not VOC12.is_dir(), reason="needs ../shared/data/voc12_100")
def test_voc_annotations_against_perturbed_copies():
    rng = np.random.default_rng(0)
    names, gt, dt = {}, [], []
    for path in sorted(VOC12.glob("*.xml")):
        boxes, classes, difficult = [], [], []
        for item in ElementTree.parse(path).getroot().findall("object"):
            corner = {
                c: float(item.findtext(f"bndbox/{c}")) for c in ("ymin", "xmin", "ymax", "xmax")
            }
            boxes.append([corner["ymin"] - 1, corner["xmin"] - 1, corner["ymax"], corner["xmax"]])
            classes.append(names.setdefault(item.findtext("name"), len(names) + 1))
            difficult.append(item.findtext("difficult") == "1")
        gt.append(truth(boxes, classes, difficult))
        copies = np.repeat(gt[-1]["boxes"], 2, axis=0)
        size = np.tile(copies[:, 2:] - copies[:, :2], 2)
        labels = np.repeat(classes, 2)
        labels = np.where(rng.random(len(labels)) < 0.1, 1, labels)
        moved = copies + rng.normal(0, 0.12, copies.shape) * size
        dt.append(found(moved, rng.random(len(labels)).round(2), labels))
    assert len(gt) == 100
    assert any(image["difficult"].any() for image in gt)
    for method in voc.METHODS:
        for threshold in (0.5, 0.75):
            ours = voc.average_precision(gt, dt, threshold, method)
            assert_same(ours, brute_force(gt, dt, threshold, method))
            assert 0.02 < voc.mean_average_precision(ours) < 0.95


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["voc07", "area"]))
def test_weights_count_an_image_as_often_as_it_stands_there(seed, method):
    rng = np.random.default_rng(seed)
    images, guesses = [], []
    for _ in range(6):
        corners = rng.integers(0, 20, (rng.integers(0, 4), 2))
        boxes = np.concatenate([corners, corners + rng.integers(5, 15, corners.shape)], axis=1)
        classes = rng.integers(1, 3, len(boxes))
        images.append(
            {"boxes": boxes, "classes": classes, "difficult": rng.random(len(boxes)) < 0.2}
        )
        shaken = np.concatenate([boxes + rng.integers(-2, 3, boxes.shape), boxes + 30])
        scores = rng.permutation(1000)[: len(shaken)] / 1000
        guesses.append({"boxes": shaken, "scores": scores, "classes": np.tile(classes, 2)})
    weights = rng.integers(0, 4, 6)
    curves = {c: m.curve(weights) for c, m in voc.match(images, guesses).items()}
    repeated = np.repeat(np.arange(6), weights)
    expected = voc.average_precision(
        [images[i] for i in repeated], [guesses[i] for i in repeated], 0.5, method
    )
    weighted = voc.summarize(curves, method)
    for class_id, ap in weighted.items():
        assert ap == pytest.approx(expected.get(class_id, np.nan), nan_ok=True)
