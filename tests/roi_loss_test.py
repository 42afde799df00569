"""Loss over all RoIs against a plain reference, and what is kept between runs."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf
import tiny
from by_hand import iou

from ohem_tf import boxes as box_ops
from ohem_tf import experiment, images, roi_loss
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import from_example
from ohem_tf.errors import InputError
from ohem_tf.hard_mining import HardMining
from ohem_tf.roi_pooling import roi_max_pool
from ohem_tf.sampling import HeuristicSampling
from ohem_tf.workdir import ROI_LOSS, SNAPSHOTS, save_config, save_weights, snapshot_path

pytestmark = pytest.mark.usefixtures("tiny_backbone")


def matched(roi, record):
    """Label and regression target of one RoI."""
    ious = [iou(roi, box) for box in record.boxes]
    if not ious or max(ious) < 0.5:
        return 0, np.zeros(4)
    best = record.boxes[np.argmax(ious)]
    size, gt_size = roi[2:] - roi[:2], best[2:] - best[:2]
    shift = ((best[2:] + best[:2]) / 2 - (roi[2:] + roi[:2]) / 2) / size
    return record.classes[np.argmax(ious)], np.concatenate([shift, np.log(gt_size / size)])


def statistics_by_hand(records):
    """Mean and std per class over gt boxes and proposals of the images and their mirror images."""
    targets = {k: [] for k in range(1, 4)}
    for record in records:
        for roi in np.concatenate([record.boxes, record.proposals]).astype(np.float64):
            label, target = matched(roi, record)
            if label:
                targets[label] += [target, target * [1, -1, 1, 1]]
    mean, std = np.zeros((4, 4)), np.ones((4, 4))
    for label, values in targets.items():
        mean[label], std[label] = np.mean(values, axis=0), np.std(values, axis=0)
    return mean, std


def loss_by_hand(model, records, mean, std):
    """Mean cls and box loss over all proposals of all records; deltas are those `model` decodes."""
    cls, box = [], []
    for record in records:
        picture, scale = images.resize(tf.io.decode_png(record.encoded), 64, 96)
        features = model.backbone(picture[None])
        if not len(record.proposals):
            continue
        scaled = box_ops.scale(record.proposals, scale)
        pooled = roi_max_pool(features, scaled, [0] * len(scaled), 3, 16)
        logits, deltas = (x.numpy().astype(np.float64) for x in model.roi_head(pooled))
        deltas = deltas * model.roi_head.target_std.numpy() + model.roi_head.target_mean.numpy()
        for r, roi in enumerate(record.proposals.astype(np.float64)):
            label, target = matched(roi, record)
            cls.append(np.log(np.exp(logits[r]).sum()) - logits[r, label])
            x = np.abs((deltas[r, label] - target) / std[label])
            box.append(np.where(x < 1, x * x / 2, x - 0.5).sum() if label else 0.0)
    return np.mean(cls), np.mean(box), len(cls)


def random_run(workdir, config, steps, seed=0):
    """A workdir with snapshots of random weights, as if trained; returns the models."""
    os.makedirs(workdir / SNAPSHOTS)
    save_config(config, {}, tiny.CLASSES, str(workdir))
    rng = np.random.default_rng(seed)
    models = []
    for step in steps:
        model = experiment.build_model(config, 3)
        for variable in model.weights:
            variable.assign(rng.normal(0, 0.2, variable.shape))
        mean, std = rng.normal(0, 0.2, (4, 4)), rng.uniform(0.1, 0.3, (4, 4))
        model.roi_head.set_target_statistics(mean, std)
        save_weights(model, snapshot_path(str(workdir), step))
        models.append(model)
    return models


def single(config, dataset):
    """The training stream of one image a step, none mirrored."""
    stream = experiment.training_stream(config, RecordReader(dataset, "train"))
    return dataclasses.replace(stream, images_per_step=1, flip="none")


def records_of(dataset, split="train"):
    reader = RecordReader(dataset, split)
    return [from_example(reader[i]) for i in range(len(reader))]


@pytest.fixture(scope="module")
def special(tmp_path_factory):
    """Images with objects and proposals, without objects, and without proposals."""
    train = [tiny.make_record(i, 96, 128, objects=3) for i in range(4)]
    train.append(tiny.make_record(4, 80, 100, objects=0))
    bare = tiny.make_record(5, 90, 110, objects=1)
    train.append(dataclasses.replace(bare, proposals=bare.proposals[:0]))
    return tiny.write_dataset(tmp_path_factory.mktemp("special"), {"train": train, "val": train})


@pytest.fixture
def measured(monkeypatch):
    """Stands for the measuring itself: fills a list with (title, ids of the images)."""
    calls = []

    def instead(model, stream, images, title):
        ids = [stream.image_ids(step)[0] for step in range(images)]
        calls.append((title, ids))
        cls = float(np.sum(model.weights[0]))
        return {"loss": cls, "cls": cls, "box": 0.0, "rois": images}

    monkeypatch.setattr(roi_loss, "mean_loss", instead)
    fixed = (np.zeros((4, 4)), np.ones((4, 4)))
    monkeypatch.setattr(roi_loss.statistics, "target_statistics", lambda *_: fixed)
    return calls


def test_equals_the_plain_reference(special, tmp_path):
    config = tiny.config(special)
    (model,) = random_run(tmp_path / "run", config, [5])
    found = roi_loss.measure({str(tmp_path / "run"): config})
    ((point,),) = found.values()
    records = records_of(special)
    mean, std = statistics_by_hand(records)
    cls, box, rois = loss_by_hand(model, records, mean, std)
    assert box > 0.01
    assert (point["step"], point["images"], point["rois"]) == (5, 6, rois)
    assert point["cls"] == pytest.approx(cls, rel=1e-4)
    assert point["box"] == pytest.approx(box, rel=1e-3)
    assert point["loss"] == pytest.approx(cls + box, rel=1e-4)


def test_each_snapshot_is_measured_once(special, tmp_path, measured):
    config = tiny.config(special)
    workdir = tmp_path / "run"
    random_run(workdir, config, [5, 10])
    first = roi_loss.measure({str(workdir): config})
    losses = [point["loss"] for point in first[str(workdir)]]
    assert losses[0] != losses[1]
    assert [p["step"] for p in first[str(workdir)]] == [5, 10]

    del measured[:]
    assert roi_loss.measure({str(workdir): config}) == first
    assert measured == []
    (new,) = random_run(tmp_path / "other", config, [10], seed=1)
    save_weights(new, snapshot_path(str(workdir), 10))  # trained again
    again = roi_loss.measure({str(workdir): config})[str(workdir)]
    assert len(measured) == 1
    assert again[0]["loss"] == losses[0]
    assert again[1]["loss"] != losses[1]
    roi_loss.measure({str(workdir): config}, max_images=3)  # not what was measured
    roi_loss.measure({str(workdir): config}, split="val")
    assert len(measured) == 5


def test_what_was_measured_survives_a_kill(special, tmp_path, measured, monkeypatch):
    config = tiny.config(special)
    workdir = tmp_path / "run"
    random_run(workdir, config, [5, 10])
    instead = roi_loss.mean_loss

    def killed(model, stream, images, title):
        if "step 10" in title:
            raise KeyboardInterrupt
        return instead(model, stream, images, title)

    monkeypatch.setattr(roi_loss, "mean_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        roi_loss.measure({str(workdir): config})
    kept = json.loads((workdir / ROI_LOSS).read_text())
    assert [entry["step"] for entry in kept] == [5]
    assert len(measured) == 1


def test_a_subset_is_the_same_for_all_runs_and_has_no_image_twice(special, tmp_path, measured):
    for seed in (0, 1):
        config = tiny.config(special, seed=seed)
        random_run(tmp_path / str(seed), config, [5], seed=7)
        ((point,),) = roi_loss.measure({str(tmp_path / str(seed)): config}, max_images=3).values()
        assert point["images"] == 3
    (_, a), (_, b) = measured
    assert a == b
    assert len(set(a)) == 3
    more = roi_loss.measure({str(tmp_path / "0"): config}, max_images=1000)
    assert len(set(measured[-1][1])) == 6
    assert more == roi_loss.measure({str(tmp_path / "0"): config})
    assert len(measured) == 3


def test_runs_are_measured_on_one_scale_whatever_they_trained_with(special, tmp_path):
    configs = {}
    for name, kind in (("a", "empirical"), ("b", "fixed")):
        config = tiny.config(special, **{"head.target_normalisation": kind})
        (model,) = random_run(tmp_path / name, config, [5])
        if kind == "fixed":  # the same detector, saved from another normalisation
            model.roi_head.change_target_statistics(np.zeros((4, 4)), np.full((4, 4), 0.1))
            save_weights(model, snapshot_path(str(tmp_path / name), 5))
        configs[str(tmp_path / name)] = config
    (a,), (b,) = roi_loss.measure(configs).values()
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_dropout_and_sampler_play_no_part(dataset):
    stream = single(tiny.config(dataset), dataset)
    losses = set()
    for sampler, dropout in [(HardMining(8), 0.9), (HeuristicSampling(8), 0.0)]:
        model = tiny.model(sampler, dropout=dropout)
        losses.add(roi_loss.mean_loss(model, stream, 4)["loss"])
    assert len(losses) == 1


def test_bad_requests_end_before_anything_is_measured(special, tmp_path):
    config = tiny.config(special)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    random_run(tmp_path / "a", config, [5])
    random_run(tmp_path / "b", tiny.config(special, **{"data.max_proposals": 7}), [5])
    empty = str(tmp_path / "empty")
    os.mkdir(empty)
    cases = [
        ({a: config, empty: config}, None, "no snapshot"),
        (
            {a: config, b: tiny.config(special, **{"data.max_proposals": 7})},
            None,
            "config.data.max_proposals is 0 in",
        ),
        (
            {a: tiny.config(special, **{"detection.shortest_sides": (48, 64)})},
            None,
            "config.detection.shortest_sides",
        ),
        ({a: config}, "trian", "trian"),
    ]
    for configs, split, words in cases:
        with pytest.raises(InputError, match=words) as error:
            roi_loss.measure(configs, split)
        assert "\n" not in str(error.value)
        assert not os.path.exists(os.path.join(a, ROI_LOSS))


@pytest.mark.parametrize("content", ["", "[1]", "{}x", '[{"step": 5}]'])
def test_a_damaged_file_of_results_is_named(special, tmp_path, content):
    config = tiny.config(special)
    random_run(tmp_path / "a", config, [5])
    (tmp_path / "a" / ROI_LOSS).write_text(content)
    with pytest.raises(InputError, match=r"a/roi_loss\.json: not what ohem_tf.roi_loss writes"):
        roi_loss.measure({str(tmp_path / "a"): config})


def test_weights_that_are_not_finite_are_named(special):
    model = tiny.model()
    model.roi_head.cls_score.bias.assign(np.full(4, np.nan))
    stream = single(tiny.config(special), special)
    with pytest.raises(InputError, match="a step 5: the loss is not finite"):
        roi_loss.mean_loss(model, stream, 6, "a step 5")


def test_a_set_without_any_proposal_is_refused(tmp_path):
    record = dataclasses.replace(
        tiny.make_record(1, 96, 128, 2), proposals=np.zeros((0, 4), np.float32)
    )
    tiny.write_dataset(tmp_path, {"train": [record], "val": [record]})
    stream = single(tiny.config(tmp_path), tmp_path)
    with pytest.raises(InputError, match="a step 5: no proposal in 1 image"):
        roi_loss.mean_loss(tiny.model(), stream, 1, "a step 5")
