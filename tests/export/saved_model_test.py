"""The export as a file: what it holds, who can load it, and that it appears atomically."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tiny
from tensorflow_serving.apis import prediction_log_pb2

from benchmarks import agreement
from export import saved_model, versions
from ohem_tf import experiment, images
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import parse_example
from ohem_tf.errors import InputError
from ohem_tf.inference.detection import Detections
from ohem_tf.inference.exported import version_numbers
from ohem_tf.inference.predict import Predictor
from ohem_tf.workdir import BEST_WEIGHTS, save_config

SETTINGS = {
    "plain": {},
    "two scales and rounds, bfloat16": {
        "detection.shortest_sides": (48, 64),
        "detection.rounds": 2,
        "detection.nms": "gaussian",
        "detection.voting": True,
        "dtype": "bfloat16",
    },
}


def batch(dataset, split="val"):
    """The files of a split and their proposals, filled up with rows of zeros."""
    records = [parse_example(tf.constant(r)) for r in iter_records(dataset, split)]
    boxes = [r["proposals"].numpy() for r in records]
    rows = 3 + max(map(len, boxes))
    padded = np.stack([np.pad(b, ((0, rows - len(b)), (0, 0))) for b in boxes])
    return [r["encoded"].numpy() for r in records], boxes, padded


def iter_records(dataset, split):
    reader = RecordReader(dataset, split)
    return [reader[i] for i in range(len(reader))]


@pytest.mark.parametrize(
    "name", ["plain", pytest.param("two scales and rounds, bfloat16", marks=pytest.mark.slow)]
)
def test_the_saved_model_finds_what_evaluation_finds(
    name, config, workdir, dataset, exported, tmp_path
):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(SETTINGS[name])
    path = saved_model.export(config, workdir, str(tmp_path)) if SETTINGS[name] else exported
    serve = tf.saved_model.load(path).signatures
    model = experiment.load_model(config, workdir)
    predictor = Predictor(model, experiment.detection_settings(config))
    encoded, boxes, padded = batch(dataset)
    outputs = serve["serving_default"](
        image_bytes=tf.constant(encoded), proposals=tf.constant(padded)
    )
    outputs = {key: value.numpy() for key, value in outputs.items()}
    assert {value.dtype for value in outputs.values()} == {np.dtype(np.float32)}
    assert outputs["detection_boxes"].shape == (len(encoded), 20, 4)
    for i, (data, proposals) in enumerate(zip(encoded, boxes, strict=True)):
        image = images.decode(data).numpy()
        wanted = predictor(image, proposals)
        count = len(wanted.scores)
        assert count > 5
        assert outputs["num_detections"][i] == count
        scale = np.tile(image.shape[:2], 2)
        found = {key: outputs[key][i] for key in outputs if key != "num_detections"}
        np.testing.assert_allclose(
            found["detection_boxes"][:count] * scale, wanted.boxes, atol=1e-4
        )
        np.testing.assert_allclose(found["detection_scores"][:count], wanted.scores, atol=1e-4)
        np.testing.assert_array_equal(found["detection_classes"][:count], wanted.classes)
        assert all(not np.any(value[count:]) for value in found.values())
        same = serve["from_tensors"](images=image[None], proposals=proposals[None])
        for key, value in found.items():
            np.testing.assert_allclose(same[key][0], value, atol=1e-6)
    none = serve["from_tensors"](images=image[None], proposals=np.zeros((1, 0, 4), np.float32))
    assert none["num_detections"].numpy().tolist() == [0]


def test_agreement_counts_what_differs():
    one = Detections(np.zeros((2, 4)), np.array([0.9, 0.5]), np.array([1, 2]))
    moved = one._replace(boxes=one.boxes + 0.25, scores=one.scores - 0.125)
    answers = [(one, one), (one, moved), (one, Detections(*(x[:1] for x in one)))]
    assert agreement.compare(iter(answers)) == {
        "images": 3,
        "detections": 6,
        "images_that_differ": 1,
        "box_pixels": 0.25,
        "score": 0.125,
    }


def test_signatures_are_named_as_the_object_detection_api_names_them(exported):
    graph = tf.compat.v1.saved_model.load(
        tf.compat.v1.Session(graph=tf.Graph()), ["serve"], exported
    )
    found_in_file = {
        name: (
            {k: (v.dtype, [d.size for d in v.tensor_shape.dim]) for k, v in s.inputs.items()},
            {k: (v.dtype, [d.size for d in v.tensor_shape.dim]) for k, v in s.outputs.items()},
        )
        for name, s in graph.signature_def.items()
    }
    real, text, byte = (int(d.as_datatype_enum) for d in (tf.float32, tf.string, tf.uint8))
    found = {
        "detection_boxes": (real, [-1, 20, 4]),
        "detection_scores": (real, [-1, 20]),
        "detection_classes": (real, [-1, 20]),
        "num_detections": (real, [-1]),
    }
    boxes = (real, [-1, -1, 4])
    assert found_in_file["serving_default"] == (
        {"image_bytes": (text, [-1]), "proposals": boxes},
        found,
    )
    images_ = {"images": (byte, [-1, -1, -1, 3]), "proposals": boxes}
    assert found_in_file["from_tensors"] == (images_, found)
    assert found_in_file["metadata"] == ({"key": (text, [-1])}, {"value": (text, [-1])})


def test_classes_config_and_versions_go_with_the_model(exported, loaded, config):
    assets = pathlib.Path(exported, "assets")
    assert (assets / "classes.txt").read_text().split() == list(tiny.CLASSES)
    about = json.loads((assets / "metadata.json").read_text())
    assert about["config"]["detection"]["max_detections"] == 20
    assert about["config"]["data"]["dir"] == os.path.basename(config.data.dir)  # no folder of ours
    assert about["versions"]["exported"]["tensorflow"] == tf.__version__
    assert about["checkpoint"] == "ckpt-1"
    keys = list(about)
    values = loaded.signatures["metadata"](key=tf.constant(keys))["value"].numpy()
    assert {key: json.loads(value) for key, value in zip(keys, values, strict=True)} == about
    with pytest.raises(tf.errors.InvalidArgumentError, match="key: expected of classes, "):
        loaded.signatures["metadata"](key=tf.constant(["classes", "color"]))


def test_warm_up_requests_are_answered(exported, loaded):
    path = os.path.join(exported, "assets.extra", "tf_serving_warmup_requests")
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(path)
    ]
    assert len(logs) == 2
    for log in logs:
        request = log.predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        assert loaded.signatures["serving_default"](**inputs)["num_detections"] > 0


@pytest.mark.slow
def test_runs_where_ohem_tf_cannot_be_imported(exported, dataset, tmp_path):
    encoded, boxes, _ = batch(dataset)
    np.savez(tmp_path / "request.npz", image=np.frombuffer(encoded[0], np.uint8), boxes=boxes[0])
    code = """
import sys
sys.modules["ohem_tf"] = sys.modules["export"] = None
import numpy as np, tensorflow as tf
try:
    import ohem_tf
    raise SystemExit("ohem_tf can be imported")
except ImportError:
    pass
request = np.load("request.npz")
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
outputs = serve(image_bytes=tf.constant([request["image"].tobytes()]),
                proposals=tf.constant(request["boxes"][None]))
print(int(outputs["num_detections"][0]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, exported],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 20


@pytest.mark.slow
def test_runs_in_saved_model_cli(exported, dataset, tmp_path):
    encoded, boxes, _ = batch(dataset)
    np.savez(tmp_path / "request.npz", image=np.array(encoded[:1]), boxes=boxes[0][None])
    command = [os.path.join(os.path.dirname(sys.executable), "saved_model_cli"), "run"]
    command += ["--dir", exported, "--tag_set=serve", "--signature_def=serving_default"]
    command += ["--inputs=image_bytes=request.npz[image];proposals=request.npz[boxes]"]
    done = subprocess.run(
        [*command, "--outdir=."], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "num_detections.npy") == 20
    assert np.load(tmp_path / "detection_boxes.npy").shape == (1, 20, 4)


def test_versions_rise_and_nothing_is_left_of_a_broken_one(config, workdir, tmp_path, monkeypatch):
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    broken = False

    def half(folder, *_):
        pathlib.Path(folder, "saved_model.pb").write_bytes(b"half")
        assert version_numbers(str(tmp_path)) == ([7, 8] if broken else [7])
        if broken:
            raise OSError("disk full")
        return 0.0

    monkeypatch.setattr(saved_model, "_write", half)
    path = saved_model.export(config, workdir, str(tmp_path))
    assert path == str(tmp_path / "8")
    assert os.stat(path).st_mode & 0o777 == 0o755
    broken = True
    with pytest.raises(OSError, match="disk full"):
        saved_model.export(config, workdir, str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["7", "8", "notes"]


def test_two_exports_at_once_get_a_version_each(tmp_path):
    with versions.new_version(str(tmp_path)) as first:
        with versions.new_version(str(tmp_path)) as second:
            pathlib.Path(second.temporary, "file").touch()
            pathlib.Path(first.temporary, "file").touch()
            assert version_numbers(str(tmp_path)) == []
        assert second.path == str(tmp_path / "1")
    assert first.path == str(tmp_path / "2")


def test_a_version_that_another_export_took_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "other").touch()
    answers = iter([[], [1]])
    monkeypatch.setattr(versions, "version_numbers", lambda _: next(answers))
    with versions.new_version(str(tmp_path)) as version:
        pathlib.Path(version.temporary, "file").touch()
    assert version.path == str(tmp_path / "2")
    assert os.listdir(tmp_path / "1") == ["other"]


def test_refuses_a_workdir_without_checkpoint_before_it_builds(config, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "build_model", lambda *_, **__: pytest.fail("built"))
    save_config(config, {}, tiny.CLASSES, str(tmp_path))
    output = tmp_path / "exports"
    for checkpoint, words in (
        ("last", "--workdir: .* holds no checkpoint yet"),
        ("best", "--best: there is no .*best.weights.h5"),
        (str(tmp_path / "ckpt-5"), "--checkpoint: there is no .*ckpt-5"),
    ):
        with pytest.raises(InputError, match=words):
            saved_model.export(config, str(tmp_path), str(output), checkpoint)
    assert not output.exists()


def test_best_takes_the_best_weights(config, workdir, tmp_path, monkeypatch):
    biases = []

    def keep(folder, config, model, about):
        biases.append((about["checkpoint"], list(model.roi_head.cls_score.bias.numpy())))
        return 0.0

    monkeypatch.setattr(saved_model, "_write", keep)
    for checkpoint in ("last", "best"):
        saved_model.export(config, workdir, str(tmp_path), checkpoint)
    assert biases == [("ckpt-1", [0, 0, 0, 0]), (BEST_WEIGHTS, [0, 5, 0, 0])]
