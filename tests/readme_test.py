"""README's Python runs, and the package exports what it says."""

import pathlib
import re
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import ohem_tf
from ohem_tf.inference.detection import Detections

ROOT = pathlib.Path(__file__).resolve().parents[1]


LOADING, TRAINING, SAMPLER, MINER = re.findall(
    r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
)


def test_the_python_of_the_readme_trains_saves_and_takes_a_sampler(dataset, tmp_path):
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


def test_the_python_of_the_readme_loads_and_detects(monkeypatch, capsys):
    found = Detections(np.float32([[1, 2, 3, 4]]), np.float32([0.5]), np.int32([2]))
    detector = types.SimpleNamespace(classes=("cat", "dog"), detect={"photo.jpg": found}.get)
    monkeypatch.setattr(ohem_tf, "load", {"runs/voc07": detector}.get, raising=False)
    exec(LOADING, {})
    assert capsys.readouterr().out == "dog 0.5 [1. 2. 3. 4.]\n"


def test_the_python_of_the_readme_mines_hard_examples():
    names = {"keras": keras, "tf": tf, "ohem_tf": ohem_tf}
    exec(MINER, names)
    boxes = tf.constant([[[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29], [0, 0, 0, 0]]])
    logits = tf.constant([[[4.0, 0.0], [3.0, 0.0], [0.0, 1.0], [9.0, 0.0]]])
    x = {"rois": boxes, "valid": boxes[..., 2] > 0}
    loss = names["Detector"]().compute_loss(x, tf.constant([[1, 1, 1, 1]]), logits)
    assert float(loss) == pytest.approx((np.log1p(np.exp(4)) + np.log1p(np.exp(-1))) / 2, rel=1e-5)


def test_every_public_name_is_there_and_no_other():
    for name in ohem_tf.__all__:
        assert getattr(ohem_tf, name).__name__ == name
    assert set(ohem_tf.__all__) == set(ohem_tf._MODULES)


def test_a_config_needs_neither_tensorflow_nor_keras():
    code = (
        "import sys; import ohem_tf.config as c; c.validate(c.paper()); "
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
