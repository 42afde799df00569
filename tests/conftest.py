"""Two logical CPUs, for the tests of MirroredStrategy, and fixtures that many tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib
import signal

import pytest
import tensorflow as tf
import tiny

from ohem_tf.models import backbones

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def pytest_collection_modifyitems(items):
    """Files with slow tests first, so that no process is left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared():
    """The folder of data and weights beside the project."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (data and weights beside the project), which is not here")
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Images of six sizes with 0 to 3 objects: splits train (8) and val (4)."""
    sizes = [(96, 128), (128, 96), (80, 120), (100, 100), (64, 128), (90, 110)]
    train = [tiny.make_record(i, *sizes[i % 6], objects=1 + i % 3) for i in range(7)]
    train.append(tiny.make_record(7, 96, 128, objects=0))
    val = [tiny.make_record(100 + i, *sizes[i], objects=2) for i in range(4)]
    return tiny.write_dataset(tmp_path_factory.mktemp("dataset"), {"train": train, "val": val})


@pytest.fixture
def tiny_backbone(monkeypatch):
    """Models that are built from a config have the backbone of tiny.py."""
    monkeypatch.setattr(backbones, "build", lambda **_: (tiny.backbone(), {}))


@pytest.fixture
def heeds_sigint():
    """SIGINT counts, though the tests may run in the background of a script, where it does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
