"""The Python of docs/python.md runs."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from page_blocks import blocks

import ohem_tf
from ohem_tf.inference.detection import Detections

LOADING, RUN, TRAINING, SAMPLER, MINER = blocks("docs/python.md", "python")


def test_the_python_of_the_page_trains_saves_and_takes_a_sampler(dataset, tmp_path):
    code = f"{TRAINING}\n{SAMPLER}"
    for said, here in (
        ('"records/voc07", "trainval"', f'"{dataset}", "train"'),
        ("include_top=False,", "include_top=False, weights=None,"),
        ("backbone.channels)", "backbone.channels, hidden=(8,))"),
        ("seed=0)", "seed=0, shortest_sides=(64,), longest_side=100)"),
        ("80_000", "2"),
        ("voc07.keras", f"{tmp_path}/voc07.keras"),
    ):
        assert said in code
        code = code.replace(said, here)
    names: dict = {}
    exec(code, names)
    loaded = names["keras"].saving.load_model(tmp_path / "voc07.keras")
    assert loaded.step == 2
    model = names["model"]
    model.compile(ohem_tf.CaffeSGD(0.001))
    history = model.fit(names["batches"], steps_per_epoch=1, verbose=0, shuffle=False).history
    assert history["loss/all_rois"][0] > 0  # the read-only pass ran
    assert history["loss/hard"][0] > 0
    assert isinstance(model.sampler, ohem_tf.Sampler)


def test_the_python_of_the_page_loads_and_detects(monkeypatch, capsys):
    found = Detections(np.float32([[1, 2, 3, 4]]), np.float32([0.5]), np.int32([2]))
    detector = types.SimpleNamespace(classes=("cat", "dog"), detect={"photo.jpg": found}.get)
    monkeypatch.setattr(ohem_tf, "load", {"runs/voc07": detector}.get, raising=False)
    exec(LOADING, {})
    assert capsys.readouterr().out == "dog 0.5 [1. 2. 3. 4.]\n"


def test_the_python_of_the_page_runs_a_training(dataset, tiny_backbone, tmp_path):
    code = RUN
    for said, here in (
        ("= paper()", "= tiny.config(DATASET)"),
        ('"records/voc07"', "DATASET"),
        ('"runs/voc07"', "WORKDIR"),
    ):
        assert said in code
        code = code.replace(said, here)
    names = {"tiny": tiny, "DATASET": str(dataset), "WORKDIR": str(tmp_path)}
    exec(code, names)
    assert names["model"].step == names["config"].train.steps
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))


def test_the_python_of_the_page_mines_hard_examples():
    names = {"keras": keras, "tf": tf, "ohem_tf": ohem_tf}
    exec(MINER, names)
    boxes = tf.constant([[[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29], [0, 0, 0, 0]]])
    logits = tf.constant([[[4.0, 0.0], [3.0, 0.0], [0.0, 1.0], [9.0, 0.0]]])
    x = {"rois": boxes, "valid": boxes[..., 2] > 0}
    loss = names["Detector"]().compute_loss(x, tf.constant([[1, 1, 1, 1]]), logits)
    assert float(loss) == pytest.approx((np.log1p(np.exp(4)) + np.log1p(np.exp(-1))) / 2, rel=1e-5)
