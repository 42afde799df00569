"""The files of a workdir: weights that users take away, snapshots."""

import json
import os

import disk
import h5py
import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf.errors import InputError, WriteError
from ohem_tf.inference.detection import detect
from ohem_tf.settings import DetectionSettings
from ohem_tf.training.optimizer import CaffeSGD
from ohem_tf.workdir import (
    SNAPSHOTS,
    read_log,
    repair_best,
    restore,
    save_best,
    save_weights,
    snapshot_path,
    snapshots,
)


def trained(steps=2):
    """A model with statistics that differ per class and side, and weights that show."""
    model = tiny.model()
    rng = np.random.default_rng(0)
    mean, std = rng.normal(0, 0.2, (4, 4)), rng.uniform(0.05, 0.4, (4, 4))
    model.roi_head.set_target_statistics(mean, std)
    for variable in model.roi_head.trainable_variables:
        variable.assign(rng.normal(0, 0.2, variable.shape))
    model.compile(optimizer=CaffeSGD(0.01, 0.9, 0.0005), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    for variable in model.optimizer.variables:
        if variable.dtype == "float32" and variable.shape:
            variable.assign(rng.normal(size=variable.shape))
    model.optimizer.iterations.assign(steps)
    return model


def detections(model):
    record = tiny.make_record(3, 96, 128, 2)
    image = tf.io.decode_png(record.encoded)
    settings = DetectionSettings(score_threshold=0.0, nms_iou=0.9)
    return [x.numpy() for x in detect(model, image, record.proposals, settings)]


def state(model):
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def test_saved_weights_detect_the_same_and_leave_the_training_state(tmp_path):
    model = trained()
    path = str(tmp_path / "some.weights.h5")
    before, found = state(model), detections(model)
    save_weights(model, path)
    for a, b in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(a, b)

    other = tiny.model()
    restore(other, path)
    boxes, scores, classes = detections(other)
    assert len(boxes) > 10
    np.testing.assert_allclose(boxes, found[0], atol=1e-3)
    np.testing.assert_allclose(scores, found[1], atol=1e-6)
    np.testing.assert_array_equal(classes, found[2])
    assert os.listdir(tmp_path) == ["some.weights.h5"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """And no file that HDF5 has begun: it crashes when the process ends."""
    path = str(tmp_path / "some.weights.h5")
    save_weights(trained(), path)
    before, size = (tmp_path / "some.weights.h5").read_bytes(), os.path.getsize(path)
    for limit in (0, 1000, size - 1):
        with disk.full_at(limit), pytest.raises(WriteError, match="File too large"):
            save_weights(trained(), path)
        assert os.listdir(tmp_path) == ["some.weights.h5"]
    assert (tmp_path / "some.weights.h5").read_bytes() == before


def test_the_file_holds_the_folded_layer(tmp_path):
    model = trained()
    path = str(tmp_path / "some.weights.h5")
    save_weights(model, path)
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, x: found.update({name: x[()]} if hasattr(x, "shape") else {}))
    kernel, bias = model.roi_head.bbox_pred.get_weights()
    mean, std = model.roi_head.target_mean.numpy(), model.roi_head.target_std.numpy()
    wanted = [
        kernel * std.ravel(),
        bias * std.ravel() + mean.ravel(),
        np.zeros((4, 4)),
        np.ones((4, 4)),
    ]
    for value in wanted:
        assert any(
            x.shape == value.shape and np.allclose(x, value, rtol=1e-5, atol=1e-7)
            for x in found.values()
        )


def test_a_model_on_two_devices_saves_the_same(tmp_path):
    one = trained()
    with tiny.mirrored(2).scope():
        two = trained()
    for name, model in {"one": one, "two": two}.items():
        before = [v.numpy() for v in model.weights]
        save_weights(model, str(tmp_path / f"{name}.weights.h5"))
        for a, b in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
        for replicas in (v.value for v in model.weights):
            values = [v.numpy() for v in getattr(replicas, "values", [replicas])]
            np.testing.assert_array_equal(values[0], values[-1])
    models = [tiny.model(), tiny.model()]
    for name, model in zip(("one", "two"), models, strict=True):
        restore(model, str(tmp_path / f"{name}.weights.h5"))
    for a, b in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_save_that_fails_leaves_the_file_and_the_model(tmp_path, monkeypatch):
    model = trained()
    path = tmp_path / "some.weights.h5"
    save_weights(model, str(path))
    content, before = path.read_bytes(), state(model)

    def half(target):
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(model, "save_weights", half)
    with pytest.raises(OSError, match="disk full"):
        save_weights(model, str(path))
    assert path.read_bytes() == content
    for a, b in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["absent", "damaged", "other model"])
def test_weights_that_do_not_load_are_named(tmp_path, kind):
    path = str(tmp_path / "some.weights.h5")
    if kind == "damaged":
        (tmp_path / "some.weights.h5").write_bytes(b"nothing")
    if kind == "other model":
        save_weights(tiny.model(num_classes=5), path)
    with pytest.raises(InputError, match=r"some\.weights\.h5 does not load") as error:
        restore(tiny.model(), path)
    assert "\n" not in str(error.value)


def test_snapshots_are_found_by_rising_step(tmp_path):
    assert snapshots(str(tmp_path)) == {}
    folder = tmp_path / SNAPSHOTS
    folder.mkdir()
    assert snapshots(str(tmp_path)) == {}
    for step in (100000000, 20000, 5):
        with open(snapshot_path(str(tmp_path), step), "w"):
            pass
    (folder / "new+step-00000007.weights.h5").touch()  # a save that was killed
    found = snapshots(str(tmp_path))
    assert list(found) == [5, 20000, 100000000]
    assert found[20000] == str(folder / "step-00020000.weights.h5")
    assert all(os.path.exists(path) for path in found.values())


def test_best_json_says_what_the_weights_say(tmp_path):
    repair_best(str(tmp_path))
    assert os.listdir(tmp_path) == []
    save_best(trained(), str(tmp_path), 4, 0.1)
    path = tmp_path / "best.json"
    assert json.loads(path.read_text()) == {"step": 4, "mAP": 0.1}
    path.write_text('{"step": 2, "mAP": 0.05}')
    repair_best(str(tmp_path))
    assert json.loads(path.read_text()) == {"step": 4, "mAP": 0.1}
    restore(tiny.model(), str(tmp_path / "best.weights.h5"))
    save_weights(trained(), str(tmp_path / "best.weights.h5"))  # of an older run
    path.write_text('{"step": 2, "mAP": 0.05}')
    repair_best(str(tmp_path))
    assert json.loads(path.read_text()) == {"step": 2, "mAP": 0.05}


def test_the_log_without_a_line_that_was_cut_off(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "cls": 0.5}\n{"step": 2, "cl')
    assert read_log(str(tmp_path)) == [{"step": 1, "cls": 0.5}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("x\n", "cannot be read"),
        ('{"cls": 1}\n', 'line 1 has no "step"'),
        ('{"step": 1}\n[1]\n', 'line 2 has no "step"'),
    ],
)
def test_a_log_that_is_none(text, message, tmp_path):
    if text is not None:
        (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        read_log(str(tmp_path))
