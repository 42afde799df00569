"""A model with a region proposal network, from records without proposals to a SavedModel."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tiny

from export import saved_model
from ohem_tf import experiment
from ohem_tf.data.joined import open_split
from ohem_tf.data.reader import RecordReader, read_dataset_info
from ohem_tf.errors import InputError
from ohem_tf.evaluate import evaluate
from ohem_tf.files import write_json
from ohem_tf.inference.exported import ExportedPredictor
from ohem_tf.inference.predict import Predictor
from ohem_tf.models import backbones
from ohem_tf.roi_loss import measure
from ohem_tf.train import train

RPN = {
    "proposals": "rpn",
    "rpn.channels": 8,
    "rpn.anchor_scales": (2.0, 4.0),
    "rpn.min_size": 4.0,
    "rpn.train_candidates": 100,
    "rpn.train_proposals": 40,
    "rpn.test_candidates": 60,
    "rpn.test_proposals": 20,
    "head.target_normalisation": "fixed",
    "head.dropout": 0.0,
}


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """A prepared data set as prepare --proposals=none writes it."""
    members = [
        dataclasses.replace(
            tiny.make_record(i, 96, 128, objects=1 + i % 3), proposals=np.zeros((0, 4), np.float32)
        )
        for i in range(6)
    ]
    directory = tmp_path_factory.mktemp("without")
    tiny.write_dataset(directory, {"train": members, "val": members[:3]})
    info = read_dataset_info(directory)
    for split in info["splits"].values():
        split["proposals"] = {"method": "none"}
    write_json(directory / "dataset.json", info)
    return directory


@pytest.fixture(params=["one map", "pyramid"])
def config(request, without, monkeypatch):
    made = tiny.pyramid_backbone if request.param == "pyramid" else tiny.backbone
    monkeypatch.setattr(backbones, "build", lambda **_: (made(), {}))
    return tiny.config(without, **RPN, **{"train.steps": 6, "train.snapshot_every": 3})


def test_it_is_trained_evaluated_and_exported(config, tmp_path):
    workdir = str(tmp_path / "run")
    model = train(config, workdir)
    assert model.step == 6
    result = evaluate(config, workdir)
    assert 0 <= result["mAP"] <= 1
    (losses,) = measure({workdir: config}, max_images=3).values()
    assert [x["step"] for x in losses] == [3, 6]
    assert losses[0]["rois"] > 0

    exported = saved_model.export(config, workdir, str(tmp_path / "export"))
    predictor = ExportedPredictor(exported)
    assert not predictor.needs_proposals
    image = tf.io.decode_png(tiny.make_record(3, 96, 128, objects=2).encoded).numpy()
    mine = Predictor(model, experiment.detection_settings(config))(image)
    found = predictor(image)
    assert len(found.scores) > 0
    np.testing.assert_allclose(found.scores, mine.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, mine.boxes, atol=1e-2)


def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been(config, tmp_path):
    config.train.checkpoint_every, config.train.images_per_step = 2, 1
    whole = train(config, str(tmp_path / "whole"))
    with config.unlocked():
        config.train.steps = 4
    train(config, str(tmp_path / "halves"))
    config.train.steps = 6
    resumed = train(config, str(tmp_path / "halves"))
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5, err_msg=one.path)


def test_a_model_that_needs_proposals_refuses_records_without(without, tmp_path, tiny_backbone):
    config = tiny.config(without)
    with pytest.raises(InputError, match=r"data\.train_split: train .* --proposals=none"):
        train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_one_part_without_proposals_is_enough(without, dataset):
    assert not open_split(without, "train", "").has_proposals
    assert not open_split(without, "train[:50%]", "").has_proposals
    assert not open_split(without, "train[:1]+val[1:]", "").has_proposals
    assert RecordReader(dataset, "train").has_proposals
