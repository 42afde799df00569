"""The training stream: pure in (seed, position), flipped and scaled right, padded with masks."""

import dataclasses
import io

import numpy as np
import pytest
import tiny
from PIL import Image
from pycocotools import mask

from ohem_tf import images
from ohem_tf.data.pipeline import (
    TrainingStream,
    evaluation_examples,
    training_proposals,
)
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import from_example
from ohem_tf.settings import FLIPS


@pytest.fixture(scope="module")
def train(dataset):
    return RecordReader(dataset, "train")


def stream(records, n=2, **changes):
    defaults = {"seed": 5, "shortest_sides": (40, 56), "longest_side": 80, "flip": "random"}
    return TrainingStream(records, n, **{**defaults, **changes})


def take(stream_, count, first_step=0):
    return list(stream_.dataset(first_step).take(count).as_numpy_iterator())


def assert_equal_batches(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def flip_by_hand(boxes, width):
    return np.stack([boxes[:, 0], width - boxes[:, 3], boxes[:, 2], width - boxes[:, 1]], axis=1)


@pytest.fixture(scope="module")
def special(tmp_path_factory):
    """One object alone on an image; then every kind of object; then nothing at all."""
    painted = np.full((40, 60, 3), 10, np.uint8)
    painted[5:25, 8:30] = np.random.default_rng(0).integers(100, 256, (20, 22, 3))
    buffer = io.BytesIO()
    Image.fromarray(painted).save(buffer, "PNG")
    record = tiny.make_record(0, 40, 60, objects=1)
    alone = dataclasses.replace(
        record, image_id="alone", encoded=buffer.getvalue(), boxes=np.float32([[5, 8, 25, 30]])
    )
    kinds = dataclasses.replace(
        tiny.make_record(1, 50, 40, objects=4),
        image_id="kinds",
        difficult=np.array([False, True, False, True]),
        crowd=np.array([False, False, True, True]),
    )
    nothing = dataclasses.replace(
        tiny.make_record(2, 40, 40, objects=0), image_id="none", proposals=np.zeros((0, 4), "f4")
    )
    folder = tmp_path_factory.mktemp("special")
    tiny.write_dataset(folder, {"train": [alone, kinds, nothing]})
    return RecordReader(folder, "train")


@pytest.mark.parametrize("flip", FLIPS)
def test_resumed_anywhere_it_goes_on_the_same(train, flip):
    stream_ = stream(train, flip=flip)
    whole = take(stream_, 11)
    for first_step in (3, 9):  # 9: an epoch of 8 or 16 images has passed
        for a, b in zip(whole[first_step:], take(stream_, 2, first_step), strict=False):
            assert_equal_batches(a, b)


def test_the_stream_does_not_depend_on_how_it_is_batched(train):
    single = take(stream(train, n=1), 6)
    pairs = take(stream(train, n=2), 3)
    for p, one in enumerate(single):
        pair, i = pairs[p // 2], p % 2
        assert one["position"][0] == pair["position"][i] == p
        height, width = one["size"][0]
        np.testing.assert_array_equal(pair["image"][i, :height, :width], one["image"][0])
        np.testing.assert_array_equal(pair["gt_boxes"][i][pair["gt_mask"][i]], one["gt_boxes"][0])


@pytest.mark.parametrize(("workers", "replicas"), [(1, 3), (2, 1), (3, 2), (6, 1)])
def test_the_images_of_a_step_are_dealt_out_in_order(train, workers, replicas):
    """Whoever takes them, they are those of one process, each padded only as its batch needs."""
    (whole,) = take(stream(train, 6), 1, first_step=5)
    dealt = [
        part
        for worker in range(workers)
        for part in stream(train, 6)
        .dataset(5, worker, workers, replicas)
        .take(replicas)
        .as_numpy_iterator()
    ]
    assert {len(part["position"]) for part in dealt} == {6 // (workers * replicas)}
    np.testing.assert_array_equal(np.concatenate([p["position"] for p in dealt]), range(30, 36))
    images_dealt = [image for part in dealt for image in part["image"]]
    for mine, image, (height, width) in zip(
        images_dealt, whole["image"], whole["size"], strict=True
    ):
        np.testing.assert_array_equal(mine[:height, :width], image[:height, :width])


@pytest.mark.parametrize("seed", [0, 7])
def test_every_epoch_is_a_permutation(train, seed):
    for flip, copies in [("none", 1), ("random", 1), ("double", 2)]:
        stream_ = stream(train, seed=seed, flip=flip)
        size = copies * len(train)
        epochs = [[stream_.choice(e * size + i) for i in range(size)] for e in range(4)]
        for epoch in epochs:
            assert sorted(c.record for c in epoch) == sorted(list(range(len(train))) * copies)
            if flip == "double":  # each image once plain and once flipped
                assert len({(c.record, c.flipped) for c in epoch}) == size
            if flip == "none":
                assert not any(c.flipped for c in epoch)
        assert len({tuple(c.record for c in epoch) for epoch in epochs}) == 4


def test_seeds_give_other_streams_and_each_its_own_again(train):
    def choices(seed):
        return [stream(train, seed=seed).choice(p) for p in range(40)]

    assert choices(1) == choices(1)
    assert choices(1) != choices(2)


def test_random_flips_and_scales_are_drawn_evenly_and_apart(train):
    sides = (480, 576, 688, 864, 900)
    stream_ = stream(train, shortest_sides=sides, longest_side=1000)
    drawn = [stream_.choice(p) for p in range(4000)]
    flipped = np.array([c.flipped for c in drawn])
    side = np.array([c.shortest_side for c in drawn])
    index = np.array([c.record for c in drawn])
    assert abs(flipped.mean() - 0.5) < 0.04  # 5 standard deviations
    assert set(side) == set(sides)
    for s in sides:
        assert abs(np.mean(side == s) - 0.2) < 0.032
        assert abs(flipped[side == s].mean() - 0.5) < 0.09
    for i in range(len(train)):  # 500 draws each
        assert abs(flipped[index == i].mean() - 0.5) < 0.12


@pytest.mark.parametrize("flip", ["none", "double"])
def test_examples_hold_what_their_choice_says(train, flip):
    stream_ = stream(train, n=3, flip=flip)
    seen = set()
    for step, batch in enumerate(take(stream_, 5)):
        for i in range(3):
            choice = stream_.choice(3 * step + i)
            record = from_example(train[choice.record])
            assert stream_.image_ids(step)[i] == record.image_id
            seen.add(choice.flipped)
            size = np.array([record.height, record.width])
            scale = min(choice.shortest_side / size.min(), 80 / size.max())
            assert batch["scale"][i] == pytest.approx(scale, rel=1e-6)
            np.testing.assert_array_equal(batch["size"][i], np.round(size * scale))

            pixels = np.asarray(Image.open(io.BytesIO(record.encoded)))
            expected, _ = images.resize(pixels, choice.shortest_side, 80)
            expected = expected.numpy()[:, ::-1] if choice.flipped else expected.numpy()
            height, width = batch["size"][i]
            np.testing.assert_allclose(batch["image"][i, :height, :width], expected, atol=1e-3)
            for key, boxes in [("gt", record.boxes), ("proposals", record.proposals)]:
                found = batch["gt_boxes" if key == "gt" else key][i][batch[f"{key}_mask"][i]]
                if choice.flipped:  # in pixels of the original image, whatever the scale
                    boxes = flip_by_hand(boxes, record.width)
                np.testing.assert_allclose(found, boxes, atol=1e-4)
            np.testing.assert_array_equal(
                batch["gt_classes"][i][batch["gt_mask"][i]], record.classes
            )
    assert seen == ({False} if flip == "none" else {False, True})


def test_mirrored_boxes_lie_on_the_same_pixels(special):
    stream_ = stream(special, n=1, shortest_sides=(40,), longest_side=60, flip="double")
    found = {}
    for step, batch in enumerate(take(stream_, 6)):
        if stream_.image_ids(step) == ["alone"]:
            assert batch["scale"][0] == 1.0
            y1, x1, y2, x2 = batch["gt_boxes"][0, 0].astype(int)
            image = batch["image"][0]
            found[stream_.choice(step).flipped] = image[y1:y2, x1:x2]
            outside = image.copy()
            outside[y1:y2, x1:x2] = 10
            assert (outside == 10).all()
    assert found.keys() == {False, True}
    assert found[False].shape == (20, 22, 3)
    assert found[False].min() >= 100
    np.testing.assert_array_equal(found[True], found[False][:, ::-1])


def test_padding_is_zero_and_masked(train):
    for batch in take(stream(train, n=4), 4):
        count, height, width, _ = batch["image"].shape
        assert (height, width) == tuple(batch["size"].max(axis=0))
        for i in range(count):
            h, w = batch["size"][i]
            assert not batch["image"][i, h:].any()
            assert not batch["image"][i, :, w:].any()
            assert batch["image"][i, :h, :w].min() >= 0
        masks = {"gt_boxes": "gt_mask", "gt_classes": "gt_mask", "proposals": "proposals_mask"}
        for key, name in masks.items():
            values, mask = batch[key], batch[name]
            assert values.shape[:2] == mask.shape
            assert mask.shape[1] == mask.sum(axis=1).max()  # no wider than the fullest image
            np.testing.assert_array_equal(mask, np.sort(mask, axis=1)[:, ::-1])  # padding is last
            assert not values[~mask].any()
        dtypes = {key: value.dtype.name for key, value in batch.items()}
        assert dtypes == {
            "image": "float32",
            "size": "int32",
            "scale": "float32",
            "proposals": "float32",
            "proposals_mask": "bool",
            "gt_boxes": "float32",
            "gt_classes": "int32",
            "gt_mask": "bool",
            "position": "int64",
        }


def test_difficult_and_crowd_objects_are_left_out(special):
    stream_ = stream(special, n=1, flip="none")
    by_id = {stream_.image_ids(s)[0]: batch for s, batch in enumerate(take(stream_, 3))}
    kinds = from_example(special[1])
    np.testing.assert_array_equal(by_id["kinds"]["gt_boxes"][0], kinds.boxes[:1])
    np.testing.assert_array_equal(by_id["kinds"]["gt_classes"][0], kinds.classes[:1])
    covered = covered_by_hand(kinds.proposals, kinds.boxes[2:]) > 0.7
    np.testing.assert_array_equal(by_id["kinds"]["proposals"][0], kinds.proposals[~covered])
    nothing = by_id["none"]
    assert nothing["gt_boxes"].shape == nothing["proposals"].shape == (1, 0, 4)
    assert nothing["gt_mask"].shape == (1, 0)


def covered_by_hand(boxes, regions):
    """[R] the largest share of each box that one region covers."""
    shares = np.zeros((len(boxes), max(len(regions), 1)))
    for i, box in enumerate(boxes.astype(np.float64)):
        for j, region in enumerate(regions.astype(np.float64)):
            sides = np.minimum(box[2:], region[2:]) - np.maximum(box[:2], region[:2])
            shares[i, j] = np.prod(np.maximum(sides, 0)) / np.prod(box[2:] - box[:2])
    return shares.max(axis=1)


# The left half of a 40 x 80 image is a crowd region; so is a strip of it.
REGIONS = np.float32([[0, 0, 40, 40], [0, 0, 40, 8]])
PROPOSALS = np.float32(
    [
        [0, 0, 9, 9],  # wholly in the region
        [0, 30, 10, 50],  # half of it
        [0, 10, 10, 50],  # 0.75
        [0, 50, 40, 80],  # outside
        [0, 26, 9, 46],  # 0.7
    ]
)


@pytest.mark.parametrize(
    ("crowd_ioa", "kept"),
    [(0.0, [3]), (0.5, [1, 3]), (0.7, [1, 3, 4]), (0.75, [1, 2, 3, 4]), (1.0, [0, 1, 2, 3, 4])],
)
def test_proposals_in_a_crowd_region_are_left_out(crowd_ioa, kept):
    """Strictly more than the threshold; 0.7 itself stays."""
    found = training_proposals(PROPOSALS, REGIONS, [True, True], 100, crowd_ioa)
    np.testing.assert_array_equal(found, PROPOSALS[kept])
    np.testing.assert_array_equal(  # an ordinary object leaves nothing out
        training_proposals(PROPOSALS, REGIONS, [False, False], 100, crowd_ioa), PROPOSALS
    )


def test_each_crowd_region_counts_alone():
    halves = np.float32([[0, 0, 40, 40], [0, 40, 40, 80]])
    across = np.float32([[10, 20, 20, 60]])
    np.testing.assert_array_equal(
        training_proposals(across, halves, [True, True], 100, 0.7), across
    )


@pytest.mark.parametrize("crowd_ioa", [0.1, 0.7])
def test_the_same_proposals_go_as_in_pycocotools(crowd_ioa):
    """The release asks pycocotools for the "IoU" with crowd regions, which divides by the box."""
    rng = np.random.default_rng(4)
    corners = rng.integers(0, 60, (120, 2))
    boxes = np.concatenate([corners, corners + rng.integers(2, 50, (120, 2))], axis=1)
    boxes = boxes.astype(np.float32)
    regions, proposals = boxes[:3], boxes[3:]

    def xywh(some):
        return np.concatenate(
            [some[:, 1::-1], (some[:, 2:] - some[:, :2])[:, ::-1]], 1, dtype=float
        )

    share = mask.iou(xywh(proposals), xywh(regions), [1, 1, 1]).max(axis=1)
    kept = proposals[share <= crowd_ioa]
    assert 20 < len(kept) < 110
    found = training_proposals(proposals, regions, [True] * 3, 1000, crowd_ioa)
    np.testing.assert_array_equal(found, kept)


def test_the_first_proposals_are_taken_before_the_crowd_ones_go():
    found = training_proposals(PROPOSALS, REGIONS, [True, True], 3, 0.5)
    np.testing.assert_array_equal(found, PROPOSALS[1:2])


@pytest.mark.parametrize(("proposals", "boxes"), [(0, 0), (0, 2), (5, 0)])
def test_no_proposals_and_no_objects(proposals, boxes):
    crowd = np.ones(boxes, bool)
    found = training_proposals(PROPOSALS[:proposals], REGIONS[:boxes], crowd, 100, 0.7)
    np.testing.assert_array_equal(found, PROPOSALS[:proposals])


def test_flipped_images_leave_out_the_same_proposals(tmp_path):
    record = dataclasses.replace(
        tiny.make_record(0, 40, 80, objects=2),
        boxes=REGIONS,
        crowd=np.array([True, True]),
        proposals=PROPOSALS,
    )
    tiny.write_dataset(tmp_path, {"train": [record]})
    stream_ = stream(RecordReader(tmp_path, "train"), n=1, flip="double", crowd_ioa=0.6)
    seen = set()
    for step, batch in enumerate(take(stream_, 2)):
        flipped = stream_.choice(step).flipped
        expected = PROPOSALS[[1, 3]]
        expected = flip_by_hand(expected, 80) if flipped else expected
        np.testing.assert_array_equal(batch["proposals"][0], expected)
        seen.add(flipped)
    assert seen == {False, True}


@pytest.mark.parametrize(("max_proposals", "kept"), [(7, slice(7)), (0, slice(None))])
def test_the_first_proposals_are_kept(train, max_proposals, kept):
    stream_ = stream(train, n=1, flip="none", max_proposals=max_proposals)
    for step, batch in enumerate(take(stream_, 3)):
        proposals = from_example(train[stream_.choice(step).record]).proposals
        np.testing.assert_array_equal(batch["proposals"][0], proposals[kept])


def test_evaluation_yields_everything_in_order(dataset, special):
    for records in (RecordReader(dataset, "val"), special):
        examples = list(evaluation_examples(records))
        assert len(examples) == len(records)
        for i, example in enumerate(examples):
            record = from_example(records[i])
            assert example["image_id"].decode() == record.image_id
            pixels = np.asarray(Image.open(io.BytesIO(record.encoded)))
            np.testing.assert_array_equal(example["image"], pixels)
            assert example["image"].dtype == np.uint8
            for field in dataclasses.fields(record):
                if field.name in ("image_id", "encoded", "image_format", "filename"):
                    continue
                np.testing.assert_array_equal(example[field.name], getattr(record, field.name))
            assert "encoded" not in example
