"""inference.exported, and detect with an exported model in place of a training run."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tiny
from PIL import Image

from ohem_tf import images
from ohem_tf.data import proposals
from ohem_tf.errors import InputError
from ohem_tf.inference.exported import ExportedPredictor


def run(*arguments):
    command = [sys.executable, "-m", "ohem_tf.detect", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_predictor_gives_pixels(exported, loaded):
    record = tiny.make_record(1, 96, 128, objects=2)
    image = tf.io.decode_png(record.encoded).numpy()
    predictor = ExportedPredictor(exported)
    assert predictor.classes == tiny.CLASSES
    found = predictor(image, record.proposals)
    outputs = loaded.signatures["serving_default"](
        image_bytes=tf.constant([record.encoded]), proposals=tf.constant(record.proposals[None])
    )
    boxes = outputs["detection_boxes"][0].numpy() * [96, 128, 96, 128]
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
    assert found.classes.dtype == np.int32
    with pytest.raises(InputError, match=r"refuses this: .*images: expected 1 to 50000 pixels"):
        predictor(np.zeros((300, 300, 3), np.uint8), record.proposals)


def test_of_a_folder_of_versions_the_highest_is_taken(exported, tmp_path):
    for name in ("9", "10", "notes"):
        (tmp_path / name).mkdir()
    shutil.copytree(exported, tmp_path / "10", dirs_exist_ok=True)
    assert ExportedPredictor(str(tmp_path)).classes == tiny.CLASSES
    os.remove(tmp_path / "10" / "saved_model.pb")
    with pytest.raises(InputError, match=r"10 is not an export of export.saved_model"):
        ExportedPredictor(str(tmp_path))
    with pytest.raises(InputError, match="no SavedModel and holds no version"):
        ExportedPredictor(str(tmp_path / "nowhere"))


def test_a_saved_model_of_somebody_else_is_refused(tmp_path):
    module = tf.Module()
    module.f = tf.function(lambda x: x, input_signature=[tf.TensorSpec([])])
    tf.saved_model.save(module, str(tmp_path), signatures=module.f)
    with pytest.raises(InputError, match=r"is not an export of export.saved_model"):
        ExportedPredictor(str(tmp_path))


@pytest.mark.slow
def test_the_binary_detects_with_an_export(exported, tmp_path):
    path = str(tmp_path / "a.jpg")
    png = tiny.make_record(1, 96, 128, objects=2).encoded
    Image.open(io.BytesIO(png)).save(path)
    arguments = [f"--images={tmp_path}/*.jpg", f"--output={tmp_path}/out"]
    done = run(f"--saved_model={exported}", *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    encoded, _, boxes = proposals.read_and_search(path, "fast", 2.0)
    wanted = ExportedPredictor(exported)(images.decode(encoded).numpy(), boxes)
    assert len(wanted.scores) > 5
    np.testing.assert_allclose([x["box"] for x in found[path]], wanted.boxes, atol=0.06)
    np.testing.assert_allclose([x["score"] for x in found[path]], wanted.scores, atol=6e-5)
    for given, words in (
        (
            [f"--saved_model={exported}", "--workdir=x"],
            "--workdir: has no effect with --saved_model",
        ),
        ([], "--config is missing (or give --saved_model)"),
    ):
        done = run(*given, *arguments)
        assert done.returncode == 1
        assert words in done.stderr.splitlines()[-1]
