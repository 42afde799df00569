"""Labels that a model doubts: losses by another path, what explains a RoI by hand, one trained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tiny
from by_hand import iou

from ohem_tf import check, experiment
from ohem_tf.checking import labels
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError
from ohem_tf.models import backbones
from ohem_tf.models.batches import unbatch
from ohem_tf.workdir import checkpoint_of, save_config, save_weights

pytestmark = pytest.mark.usefixtures("tiny_backbone")

K = len(tiny.CLASSES)


def record(*objects, difficult=False):
    """Objects (box, class)."""
    return dataclasses.replace(
        tiny.make_record(0, 96, 128, objects=0),
        boxes=np.float32([box for box, _ in objects]).reshape(-1, 4),
        classes=np.int32([label for _, label in objects]),
        difficult=np.full(len(objects), difficult),
        crowd=np.zeros(len(objects), bool),
    )


def shown(there, *rois, takes_for=None) -> list[int]:
    """Which background RoIs (box, loss, class seen) are shown of an image.

    The model takes its objects for their class, or for `takes_for`; the class seen has 0.6.
    """
    counted = ~there.difficult
    boxes, classes = there.boxes[counted], there.classes[counted]
    annotated = [(box, 0, takes_for or label) for box, label in zip(boxes, classes, strict=True)]
    rows = [*annotated, *rois]
    probabilities = np.full((len(rows), K + 1), 0.4 / K, np.float32)
    for row, (_, _, seen) in zip(probabilities, rows, strict=True):
        row[seen] = 0.6
    count = len(annotated)
    examined = labels.Examined(
        np.float32([box for box, _, _ in rows]).reshape(-1, 4),
        np.int32([*classes, *[0] * len(rois)]),
        np.float32([loss for _, loss, _ in rows]),
        probabilities,
        count,
        np.zeros((0, 4), np.float32),
    )
    return [int(i) - count for i in labels.unlabelled(examined, there, 1.0)]


BOX = (20, 20, 60, 60)


@pytest.mark.parametrize("difficult", [False, True])
@pytest.mark.parametrize(
    ("roi", "kept"),
    [
        ((0, 70, 40, 110), True),  # elsewhere
        ((20, 44, 60, 84), True),  # IoU 640 / 2560, two fifths of it
        ((20, 40, 60, 80), False),  # IoU 800 / 2400
        ((20, 20, 40, 60), False),  # half of it: IoU 0.5
        ((20, 20, 40, 30), False),  # a part of an object of its class
        ((0, 0, 96, 128), False),  # holds one
    ],
)
def test_what_the_annotations_explain(roi, kept, difficult):
    there = record((BOX, 1), difficult=difficult)
    assert shown(there, (roi, 3, 1)) == ([0] if kept else [])


def test_a_part_of_another_class_is_shown_unless_the_whole_is_taken_for_that():
    there, part = record((BOX, 1)), (20, 20, 40, 30)
    assert shown(there, (part, 3, 2)) == [0]
    assert shown(there, (part, 3, 2), takes_for=2) == []


def test_the_highest_loss_of_overlapping_rois_is_shown():
    rois = [
        *[((0, 0, 40, 40), 2, 1), ((0, 10, 40, 50), 3, 2), ((50, 50, 90, 90), 4, 1)],
        *[((0, 90, 30, 120), 0.9, 1)],
    ]
    assert shown(record(), *rois) == [2, 1]
    many = [((8 * i, 0, 8 * i + 8, 9), 2 + i, 1) for i in range(9)]
    assert shown(record(), *many) == [8, 7, 6, 5, 4]
    assert shown(record((BOX, 1))) == []


def test_losses_and_probabilities_are_those_of_the_model(dataset):
    model = tiny.model()
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(0, 0.2, variable.shape))
    model.roi_head.set_target_statistics(np.zeros((K + 1, 4)), np.full((K + 1, 4), 0.2))
    config = tiny.config(dataset, **{"train.images_per_step": 1, "data.flip": "none"})
    stream = experiment.training_stream(config, RecordReader(dataset, "train"))
    for batch in stream.dataset().take(4):
        (image,) = unbatch(batch)
        found = labels.examine(model, image)
        count = len(image["gt_boxes"])
        assert found["annotated"] == count
        np.testing.assert_array_equal(found["boxes"][:count], image["gt_boxes"])
        np.testing.assert_array_equal(found["labels"][:count], image["gt_classes"])
        (losses,) = model.proposal_losses(batch)
        np.testing.assert_allclose(found["losses"][count:], losses.ranking, rtol=1e-4, atol=1e-5)
        scores, _ = model.score_rois(
            model.image_features(image["image"]), found["boxes"], image["scale"]
        )
        np.testing.assert_allclose(found["probabilities"], scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found["proposals"], image["proposals"])


def test_the_proposals_of_a_model_that_makes_its_own_are_those_of_detection(dataset):
    model = tiny.faster_rcnn()
    config = tiny.config(dataset, **{"train.images_per_step": 1, "data.flip": "none"})
    (batch,) = experiment.training_stream(config, RecordReader(dataset, "train")).dataset().take(1)
    (image,) = unbatch(batch)
    found = labels.examine(model, image)["proposals"]
    features = model.image_features(image["image"])
    expected = model.propose(features, tf.shape(image["image"])[:2], image["scale"])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert 0 < len(found) <= 20


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Good records, others with an object unlabelled and one with a wrong label, and those."""
    train = [tiny.make_record(i, 96, 128, objects=1 + i % 2) for i in range(24)]
    val = [tiny.make_record(100 + i, 96, 128, objects=1) for i in range(20)]
    val.sort(key=lambda record: -record.area[0])  # large ones: the model is very small
    # The first lost its only object; the second's has the next class.
    hidden, wrong = val[0].boxes[0], val[1].boxes[0]
    empty = {name: getattr(val[0], name)[:0] for name in ("boxes", "classes", "area")}
    empty |= {name: getattr(val[0], name)[:0] for name in ("difficult", "crowd")}
    val[0] = dataclasses.replace(val[0], **empty)
    val[1] = dataclasses.replace(val[1], classes=val[1].classes % K + 1)
    good = tiny.write_dataset(tmp_path_factory.mktemp("good"), {"train": train})
    bad = tiny.write_dataset(tmp_path_factory.mktemp("bad"), {"val": val})
    return good, bad, hidden, wrong


@pytest.fixture(scope="module")
def trained(planted, tmp_path_factory):
    """A workdir of a model that was trained on the split train."""
    folder = planted[0]
    workdir = tmp_path_factory.mktemp("trained")
    config = tiny.config(folder, **{"train.rois_per_step": 32, "train.learning_rate": 0.03})
    config.data.update(shortest_sides=(96,), longest_side=128)
    config.head.dropout = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "build", lambda **_: (tiny.backbone(), {}))
        model = experiment.build_model(config, K)
    model.compile(experiment.build_optimizer(config))
    stream = experiment.training_stream(config, RecordReader(folder, "train"))
    model.fit(stream.dataset(), steps_per_epoch=300, shuffle=False, verbose=0)
    save_config(config, {}, tiny.CLASSES, str(workdir))
    save_weights(model, str(workdir / "best.weights.h5"))
    (workdir / "checkpoints").mkdir()
    checkpoint_of(model).save(str(workdir / "checkpoints/ckpt"))
    return str(workdir)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_a_trained_model_finds_planted_flaws(planted, trained, checkpoint):
    _, folder, hidden, wrong = planted
    val = RecordReader(folder, "val").image_ids
    outcome = check.check(
        None, str(folder), ["val"], min_examples=0, workdir=trained, checkpoint=checkpoint
    )
    places: dict[str, list] = {}
    for finding in outcome.findings:
        picture = finding.pictures[0]
        places.setdefault(finding.kind, []).append((picture.image_id, picture.marks[0].box))
    there = [box for image_id, box in places["looks unlabelled"] if image_id == val[0]]
    assert any(iou(box, hidden) > 0.5 for box in there)
    assert places["suspect label"][0] == (val[1], tuple(wrong))
    losses = [dict(finding.details)["loss"] for finding in outcome.findings]
    assert losses == sorted(losses, reverse=True)


def test_records_of_other_classes(dataset, tmp_path):
    config = tiny.config(dataset)
    save_config(config, {}, ("disc", "bar", "square"), str(tmp_path))
    with pytest.raises(InputError, match="class 2 is 'bar' there, but 'square'"):
        check.check(None, min_examples=0, workdir=str(tmp_path))
