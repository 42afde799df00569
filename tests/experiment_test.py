"""The config that a trained model is run with."""

import json

import pytest
import tiny

from ohem_tf import experiment
from ohem_tf.config import paper
from ohem_tf.errors import InputError
from ohem_tf.workdir import CONFIG, save_config


def saved_run(workdir, overrides, without=()):
    """A workdir whose config.json lacks some fields, as an older version may have written it."""
    workdir.mkdir()
    config = tiny.config("records/some", **overrides)
    save_config(config, overrides, tiny.CLASSES, str(workdir))
    path = workdir / CONFIG
    saved = json.loads(path.read_text())
    for section, name in without:
        del saved["config"][section][name]
    path.write_text(json.dumps(saved))
    return str(workdir)


def test_a_field_newer_than_the_run_has_its_default(tmp_path):
    fields = [("data", "crowd_ioa"), ("train", "snapshot_every"), ("heuristic", "fixed_ratio")]
    workdir = saved_run(tmp_path / "run", {"train.steps": 5}, fields)
    config = experiment.trained_config(paper(), {}, workdir)
    assert (config.data.crowd_ioa, config.train.snapshot_every) == (0.7, 0)
    assert config.heuristic.fixed_ratio is True
    assert config.head.hidden == (16, 16)
    assert config.detection.shortest_sides == (600,)  # of paper(), the config given


def test_a_field_that_is_gone_is_named(tmp_path):
    config = paper()
    save_config(config, {"detection.shortest_side": 600}, ("a",), str(tmp_path))
    with pytest.raises(InputError, match=r"config\.json: detection\.shortest_side is no field"):
        experiment.trained_config(config, {}, str(tmp_path))


def test_command_lines_of_several_runs_do_not_mix(tmp_path):
    a = saved_run(tmp_path / "a", {"detection.nms_iou": 0.5})
    b = saved_run(tmp_path / "b", {})
    given = paper()
    assert experiment.trained_config(given, {}, a).detection.nms_iou == 0.5
    assert experiment.trained_config(given, {}, b).detection.nms_iou == 0.3
    assert given.detection.nms_iou == 0.3
    config = experiment.trained_config(given, {"detection.nms_iou": 0.6}, a)
    assert config.detection.nms_iou == 0.6


def test_without_a_config_everything_is_as_trained(tmp_path):
    workdir = saved_run(tmp_path / "run", {"evaluation.method": "area"})
    config = experiment.trained_config(None, {}, workdir)
    assert (
        config.to_dict() == tiny.config("records/some", **{"evaluation.method": "area"}).to_dict()
    )
