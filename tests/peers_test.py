"""benchmarks.peers: both projects' steps take turns; the peer's step trains what ours trains."""

import math
import subprocess

import numpy as np
import pytest

from benchmarks import step_time
from benchmarks.peers import compare
from ohem_tf.config import paper
from ohem_tf.errors import InputError

PYTHON = "/usr/bin/python3"


@pytest.fixture
def peer_python():
    try:
        found = subprocess.run([PYTHON, "-c", "import torchvision"], capture_output=True)
    except OSError:
        pytest.skip(f"no {PYTHON}")
    if found.returncode:
        pytest.skip(f"{PYTHON} has no torchvision; apt install python3-torchvision")
    return PYTHON


@pytest.fixture
def config():
    """VGG16 on an image of 48 x 64 px."""
    config = paper()
    config.backbone.weights = "none"
    config.data.shortest_sides, config.data.longest_side = (48,), 64
    config.head.hidden = (8, 8)
    config.train.images_per_step, config.train.rois_per_step = 2, 16
    return config


def test_a_python_without_pytorch_is_refused(config, tmp_path):
    batch = compare.peer_batch(config, step_time.example(config, 10))
    with pytest.raises(InputError, match="none: No such file"):
        compare.Peer(str(tmp_path / "none"), batch)
    with pytest.raises(InputError, match="expected a Python with PyTorch"):
        compare.Peer("/bin/true", batch)


def test_the_peer_gets_boxes_in_pixels_of_its_images(config):
    batch = step_time.example(config, 10)
    sent = compare.peer_batch(config, batch)
    assert sent["images"].shape == (2, 48, 64, 3)
    np.testing.assert_allclose(sent["proposals"], 1.6 * batch["proposals"].numpy(), rtol=1e-6)
    assert sent["proposals"].max() <= 64
    assert sent["rois_per_image"] == 8


def test_the_peers_losses(config, peer_python):
    batch = compare.peer_batch(config, step_time.example(config, 40))
    with compare.Peer(peer_python, batch) as peer:
        losses = {method: peer.step(method) for method in ("FRCN", "OHEM")}
    # Untrained and with 21 classes about log(21), and the hardest are harder.
    assert 0.5 * math.log(21) < losses["FRCN"] < losses["OHEM"] < 6 * math.log(21)


def test_ratios_are_of_the_same_method():
    seconds = {
        "ohem_tf, FRCN": [1.0, 1.0],
        "ohem_tf, OHEM": [3.0, 3.0],
        "ohem_tf, OHEM, 256 candidates": [2.0, 2.0],
        "PyTorch, FRCN": [2.0, 4.0],
        "PyTorch, OHEM": [4.0, 6.0],
    }
    page = compare.page(seconds, {}, "# Title")
    assert "| FRCN | 1.000 | 3.000 | 0.38 | 0.25 to 0.50 |" in page
    assert "| OHEM | 3.000 | 5.000 | 0.62 | 0.50 to 0.75 |" in page
    assert "| OHEM, 256 candidates | 2.000 | 5.000 | 0.42 | 0.33 to 0.50 |" in page
