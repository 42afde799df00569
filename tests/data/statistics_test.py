"""Target statistics against loops over the records, each image truly mirrored."""

import dataclasses

import numpy as np
import pytest
import tiny
from by_hand import iou

from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import from_example
from ohem_tf.data.statistics import fixed_target_statistics, target_statistics


def targets_by_hand(records, max_proposals, with_flips, fg_iou=0.5):
    """{class: [targets, ...]} of all foreground RoIs."""
    last = max_proposals or None
    found = {k: [] for k in range(1, len(records.classes) + 1)}
    for i in range(len(records)):
        record = from_example(records[i])
        counted = ~record.difficult & ~record.crowd
        gt_boxes = record.boxes[counted].astype(np.float64)
        rois = np.concatenate([gt_boxes, record.proposals[:last].astype(np.float64)])
        for mirror in [False, True] if with_flips else [False]:
            for roi in rois:
                overlaps = [iou(roi, box) for box in gt_boxes]
                if not overlaps or max(overlaps) < fg_iou:
                    continue
                best = int(np.argmax(overlaps))
                (y1, x1, y2, x2), (r1, s1, r2, s2) = gt_boxes[best], roi
                if mirror:
                    x1, x2, s1, s2 = (record.width - x for x in (x2, x1, s2, s1))
                found[record.classes[counted][best]].append(
                    [
                        ((y1 + y2) - (r1 + r2)) / 2 / (r2 - r1),
                        ((x1 + x2) - (s1 + s2)) / 2 / (s2 - s1),
                        np.log((y2 - y1) / (r2 - r1)),
                        np.log((x2 - x1) / (s2 - s1)),
                    ]
                )
    return found


def reader(folder, members):
    return RecordReader(tiny.write_dataset(folder, {"train": members}), "train")


def assert_usable(mean, std, classes):
    assert mean.shape == std.shape == (classes + 1, 4)
    assert mean.dtype == std.dtype == np.float32
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert (std > 1e-3).all()  # targets are divided by it


@pytest.mark.parametrize(
    ("max_proposals", "fg_iou", "with_flips"), [(0, 0.5, False), (12, 0.7, True)]
)
def test_equals_the_loop(dataset, max_proposals, fg_iou, with_flips):
    records = RecordReader(dataset, "train")
    mean, std = target_statistics(records, max_proposals, with_flips, fg_iou)
    assert_usable(mean, std, 3)
    for k, targets in targets_by_hand(records, max_proposals, with_flips, fg_iou).items():
        assert np.std(targets, axis=0).min() > 0.01  # or this test says little
        np.testing.assert_allclose(mean[k], np.mean(targets, axis=0), atol=1e-5)
        np.testing.assert_allclose(std[k], np.std(targets, axis=0), rtol=1e-3)


def test_mirroring_cancels_the_mean_of_dx_and_widens_it(dataset):
    records = RecordReader(dataset, "train")
    mean, std = target_statistics(records, 1000, with_flips=False)
    mirrored_mean, mirrored_std = target_statistics(records, 1000, with_flips=True)
    assert np.abs(mean[1:, 1]).max() > 1e-3
    np.testing.assert_allclose(mirrored_mean[:, 1], 0, atol=1e-7)
    np.testing.assert_allclose(mirrored_std[:, 1], np.hypot(std[:, 1], mean[:, 1]), rtol=1e-4)
    for column in (0, 2, 3):
        np.testing.assert_allclose(mirrored_mean[:, column], mean[:, column], atol=1e-6)
        np.testing.assert_allclose(mirrored_std[:, column], std[:, column], rtol=1e-4)


def test_difficult_and_crowd_objects_do_not_count(tmp_path):
    full = tiny.make_record(3, 90, 120, objects=3)
    kept = [True, False, False]
    flagged = dataclasses.replace(
        full, difficult=np.array([False, True, False]), crowd=np.array([False, False, True])
    )
    fields = ("boxes", "classes", "difficult", "crowd", "area")
    without = dataclasses.replace(full, **{k: getattr(full, k)[kept] for k in fields})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = target_statistics(reader(tmp_path / "a", [flagged]), 1000, False)
    expected = target_statistics(reader(tmp_path / "b", [without]), 1000, False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("max_proposals", "with_flips"), [(1000, True), (9, False)])
def test_the_rois_are_those_of_training(tmp_path, max_proposals, with_flips):
    """Proposals in a crowd region do not count, after the first so many are taken; boxes do."""
    members = [tiny.make_record(i, 90, 120, objects=3) for i in range(4)]
    members = [dataclasses.replace(r, classes=np.ones(3, np.int32)) for r in members]
    region = np.float32([0, 0, 90, 70])
    crowded = [
        dataclasses.replace(
            r,
            boxes=np.concatenate([r.boxes, region[None]]),
            classes=np.ones(4, np.int32),
            difficult=np.zeros(4, bool),
            crowd=np.array([False, False, False, True]),
            area=np.append(r.area, np.float32(6300)),
        )
        for r in members
    ]
    (tmp_path / "a").mkdir()
    records = reader(tmp_path / "a", crowded)
    kept = []
    for record in members:
        first = record.proposals[:max_proposals].astype(np.float64)
        inside = np.minimum(first[:, 3], 70) - np.minimum(first[:, 1], 70)
        share = inside / (first[:, 3] - first[:, 1])  # the region is as high as the image
        kept.append(dataclasses.replace(record, proposals=np.float32(first[share <= 0.6])))
    (tmp_path / "b").mkdir()
    targets = targets_by_hand(reader(tmp_path / "b", kept), 1000, with_flips)[1]
    found = target_statistics(records, max_proposals, with_flips, 0.5, 0.6)
    everything = target_statistics(records, max_proposals, with_flips, 0.5, 1.0)
    np.testing.assert_allclose(found[0][1], np.mean(targets, axis=0), atol=1e-5)
    np.testing.assert_allclose(found[1][1], np.std(targets, axis=0), rtol=1e-3)
    assert np.abs(everything[1][1] - found[1][1]).max() > 1e-3  # the region matters here

    stream = TrainingStream(records, 1, 0, (90,), 120, "none", max_proposals, 0.6)
    for step, batch in enumerate(stream.dataset().take(4).as_numpy_iterator()):
        expected = kept[stream.choice(step).record].proposals
        np.testing.assert_array_equal(batch["proposals"][0], expected)


def test_a_class_without_objects_takes_the_values_of_all(tmp_path):
    members = [tiny.make_record(i, 90, 120, objects=2) for i in range(4)]
    members = [dataclasses.replace(r, classes=np.int32([1, 3])) for r in members]
    records = reader(tmp_path, members)
    mean, std = target_statistics(records, 1000, True)
    assert_usable(mean, std, 3)
    by_class = targets_by_hand(records, 1000, True)
    everything = np.array(by_class[1] + by_class[3])
    np.testing.assert_allclose(mean[2], everything.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(std[2], everything.std(axis=0), rtol=1e-3)
    np.testing.assert_allclose(mean[1], np.mean(by_class[1], axis=0), atol=1e-5)


@pytest.mark.parametrize("with_flips", [False, True])  # one RoI, or it and its mirror image
def test_a_class_of_one_roi_takes_the_values_of_all(tmp_path, with_flips):
    """Its only RoI is its ground truth box, whose targets are all 0 and never vary."""
    usual = dataclasses.replace(tiny.make_record(0, 90, 120, objects=1), classes=np.int32([1]))
    lonely = tiny.make_record(1, 90, 120, objects=1)
    nowhere = np.float32([[0, 0, 1, 1]])
    lonely = dataclasses.replace(lonely, classes=np.int32([2]), proposals=nowhere)
    mean, std = target_statistics(reader(tmp_path, [usual, lonely]), 1000, with_flips)
    assert_usable(mean, std, 3)
    np.testing.assert_array_equal(mean[2], mean[3])  # class 3 has no object at all
    np.testing.assert_array_equal(std[2], std[3])


def test_a_delta_that_never_varies_takes_the_value_of_all(tmp_path):
    moved_up = np.float32([[20, 20, 60, 60], [24, 20, 64, 60], [30, 20, 70, 60]])
    up = dataclasses.replace(
        tiny.make_record(0, 90, 120, objects=1),
        boxes=np.float32([[22, 20, 62, 60]]),
        classes=np.int32([1]),
        proposals=moved_up,
    )
    usual = dataclasses.replace(tiny.make_record(1, 90, 120, objects=1), classes=np.int32([2]))
    records = reader(tmp_path, [up, usual])
    mean, std = target_statistics(records, 1000, False)
    assert_usable(mean, std, 3)
    targets = np.array(targets_by_hand(records, 1000, False)[1])
    assert len(targets) == 4
    assert std[1, 0] == pytest.approx(targets[:, 0].std(), rel=1e-3)
    np.testing.assert_array_equal(std[1, 1:], std[3, 1:])


@pytest.mark.parametrize("objects", [0, 1])
def test_no_foreground_that_varies_at_all(tmp_path, objects):
    record = tiny.make_record(0, 90, 120, objects=objects)
    empty = dataclasses.replace(record, proposals=np.zeros((0, 4), np.float32))
    mean, std = target_statistics(reader(tmp_path, [empty]), 1000, True)
    assert_usable(mean, std, 3)
    np.testing.assert_array_equal(mean, np.zeros((4, 4)))
    np.testing.assert_array_equal(std, fixed_target_statistics(3)[1])


def test_fixed_statistics():
    mean, std = fixed_target_statistics(20)
    assert_usable(mean, std, 20)
    np.testing.assert_array_equal(mean, np.zeros((21, 4)))
    np.testing.assert_allclose(std, [[0.1, 0.1, 0.2, 0.2]] * 21)  # dy, dx, dh, dw
