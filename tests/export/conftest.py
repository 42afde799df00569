"""A tiny training run and its exports."""

import contextlib

import pytest
import tensorflow as tf
import tiny

from export import saved_model
from ohem_tf import experiment
from ohem_tf.models import backbones
from ohem_tf.workdir import BEST_WEIGHTS, CHECKPOINTS, checkpoint_of, save_config, save_weights

MAX_PIXELS = 50_000


@contextlib.contextmanager
def tiny_backbones():
    """Models that are built from a config have the backbone of tiny.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "build", lambda **_: (tiny.backbone(), {}))
        yield


@pytest.fixture(autouse=True)
def _tiny_backbones():
    with tiny_backbones():
        yield


@pytest.fixture(scope="session")
def config(dataset):
    return tiny.config(dataset, **{"detection.max_detections": 20})


@pytest.fixture(scope="session")
def workdir(tmp_path_factory, config):
    """A run with a last checkpoint, and other weights as its best."""
    folder = tmp_path_factory.mktemp("workdir")
    save_config(config, {}, tiny.CLASSES, str(folder))
    with tiny_backbones():
        model = experiment.build_model(config, len(tiny.CLASSES))
    checkpoints = str(folder / CHECKPOINTS)
    tf.train.CheckpointManager(checkpoint_of(model), checkpoints, 1).save()
    model.roi_head.cls_score.bias.assign([0.0, 5.0, 0.0, 0.0])
    save_weights(model, str(folder / BEST_WEIGHTS))
    return str(folder)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, config, workdir):
    """The folder of a version, 1."""
    output = str(tmp_path_factory.mktemp("exports"))
    with tiny_backbones():
        return saved_model.export(config, workdir, output, max_pixels=MAX_PIXELS)


@pytest.fixture(scope="session")
def loaded(exported):
    return tf.saved_model.load(exported)
