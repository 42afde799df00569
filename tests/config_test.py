"""Configs: the paper's numbers, refusals that name the field, and every file in configs/."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest
from command_line import load_config
from ml_collections import ConfigDict

from ohem_tf import experiment
from ohem_tf.config import paper, validate
from ohem_tf.errors import InputError
from ohem_tf.hard_mining import HardMining
from ohem_tf.sampling import HeuristicSampling

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))

# Fast R-CNN and OHEM on VOC07 with VGG16, as published and as released.
PAPER = {
    "data.shortest_sides": (600,),
    "data.longest_side": 1000,
    "data.flip": "double",
    "data.max_proposals": 2000,
    "data.crowd_ioa": 0.7,
    "backbone.name": "vgg16",
    "backbone.weights": "imagenet",
    "backbone.frozen_until": "block2_pool",
    "backbone.feature_scale": 1.0,
    "head.pool_size": 7,
    "head.hidden": (4096, 4096),
    "head.dropout": 0.5,
    "head.target_normalisation": "empirical",
    "sampler": "ohem",
    "fg_iou": 0.5,
    "ohem.iou_threshold": 0.7,
    "ohem.per_label": False,
    "ohem.dropout": True,
    "heuristic.fg_fraction": 0.25,
    "heuristic.bg_lo": 0.1,
    "heuristic.bg_hi": 0.5,
    "train.steps": 80000,
    "train.images_per_step": 2,
    "train.rois_per_step": 128,
    "train.learning_rate": 0.001,
    "train.decay_steps": (30000, 60000),
    "train.gamma": 0.1,
    "train.warmup_steps": 0,
    "train.momentum": 0.9,
    "train.weight_decay": 0.0005,
    "detection.shortest_sides": (600,),
    "detection.longest_side": 1000,
    "detection.score_threshold": 0.05,
    "detection.nms": "hard",
    "detection.nms_iou": 0.3,
    "detection.rounds": 1,
    "detection.rescore_nms_iou": 0.95,
    "detection.rescore_max": 200,
    "detection.flip": False,
    "detection.voting": False,
    "detection.voting_iou": 0.5,
    "detection.max_detections": 100,
    "evaluation.method": "voc07",
    "evaluation.iou_threshold": 0.5,
}


def small(**changes):
    """The paper's config with a head and weights that cost nothing."""
    config = paper()
    config.backbone.weights = "none"
    config.head.hidden = (8,)
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize("field", PAPER)
def test_paper_holds_the_published_number(field):
    value = paper()
    for part in field.split("."):
        value = value[part]
    assert value == PAPER[field]


def test_paper_validates_and_each_call_is_a_fresh_copy():
    config = paper()
    validate(config)
    config.train.steps = 1
    assert paper().train.steps == 80000


@pytest.mark.parametrize(
    ("changes", "sampler"),
    [
        ({}, HardMining(64, 0.7, per_label=False, dropout=True, chunk=0)),
        ({"train.images_per_step": 1}, HardMining(128)),  # B/N
        ({"sampler": "heuristic"}, HeuristicSampling(64, 0.25, 0.5, 0.1, 0.5)),
    ],
)
def test_the_model_gets_the_sampler_of_the_config(changes, sampler):
    assert experiment.build_model(small(**changes), 20).sampler == sampler


BAD = [
    ("sampler", "random"),
    ("seed", -1),
    ("fg_iou", 1.5),
    ("fg_iou", -0.1),
    ("data.flip", "both"),
    ("data.longest_side", 0),
    ("data.max_proposals", 0),
    ("data.crowd_ioa", 1.5),
    ("data.crowd_ioa", -0.1),
    ("data.crowd_ioa", float("nan")),
    ("data.shortest_sides", ()),
    ("data.shortest_sides", (600, 0)),
    ("data.shortest_sides", (600.5,)),
    ("data.shortest_sides", (600, 1200)),  # above the cap
    ("head.pool_size", 0),
    ("head.hidden", ()),
    ("head.hidden", (4096, -1)),
    ("head.dropout", 1.0),
    ("head.dropout", -0.5),
    ("head.target_normalisation", "none"),
    ("ohem.iou_threshold", 70.0),
    ("ohem.chunk", -1),
    ("heuristic.fg_fraction", 25.0),
    ("heuristic.bg_lo", 0.6),  # above bg_hi
    ("heuristic.bg_hi", 1.1),
    ("train.steps", 0),
    ("train.images_per_step", 0),
    ("train.rois_per_step", 127),  # no multiple of N
    ("train.rois_per_step", 0),
    ("train.learning_rate", 0.0),
    ("train.learning_rate", float("nan")),
    ("train.decay_steps", (60000, 30000)),
    ("train.warmup_steps", -1),
    ("train.momentum", 1.0),
    ("train.weight_decay", -0.1),
    ("train.log_every", 0),
    ("train.checkpoint_every", 0),
    ("train.keep_checkpoints", 0),
    ("train.eval_every", -1),
    ("train.snapshot_every", -1),
    ("detection.shortest_sides", ()),
    ("detection.shortest_sides", (600, 0)),
    ("detection.shortest_sides", (600.5,)),
    ("detection.shortest_sides", (600, 1200)),  # above the cap
    ("detection.longest_side", 0),
    ("detection.scale_choice", "worst"),
    ("detection.rounds", 0),
    ("detection.rescore_threshold", -0.1),
    ("detection.rescore_nms_iou", 1.1),
    ("detection.rescore_max", 0),
    ("detection.nms", "soft"),
    ("detection.soft_nms_sigma", 0.0),
    ("detection.max_detections", 0),
    ("detection.nms_iou", 3.0),
    ("detection.score_threshold", -1.0),
    ("detection.voting_iou", 2.0),
    ("evaluation.method", "voc12"),
    ("evaluation.iou_threshold", 50.0),
    # These end in a traceback of TensorFlow, or quietly train something else, if let through.
    ("seed", 2**32),
    ("train.gamma", -0.1),
    ("train.decay_steps", (30000.5,)),
    ("train.decay_steps", ("30000",)),
    ("train.decay_steps", (-1, 30000)),
    ("backbone.feature_scale", 0.0),
]


@pytest.mark.parametrize(("field", "value"), BAD, ids=[f"{f}={v}" for f, v in BAD])
def test_a_bad_setting_is_refused_by_name(field, value):
    config = paper()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError) as caught:
        validate(config)
    message = str(caught.value)
    assert f"config.{field}" in message
    assert "must be" in message
    assert "\n" not in message


def test_a_roi_cannot_be_foreground_and_background_at_once():
    config = paper()
    config.fg_iou = 0.4  # the band of the background still ends at 0.5
    config.sampler = "heuristic"
    with pytest.raises(InputError, match=r"heuristic\.bg_hi"):
        validate(config)


def test_edges_of_what_is_allowed():
    config = paper()
    config.update_from_flattened_dict(
        {
            "train.decay_steps": (),
            "train.eval_every": 0,
            "train.weight_decay": 0.0,
            "train.momentum": 0.0,
            "train.images_per_step": 1,
            "train.rois_per_step": 1,
            "head.dropout": 0.0,
            "heuristic.bg_lo": 0.0,
            "data.shortest_sides": (480, 576, 688, 864, 900),
            "data.flip": "none",
        }
    )
    validate(config)


def test_a_field_that_does_not_exist_cannot_be_set():
    with pytest.raises(AttributeError, match="Did you mean"):
        paper().train.setps = 3
    with pytest.raises(TypeError):
        paper().train.steps = "many"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--config=configs/quickstart.py", "--config.trian.steps=3"], 'Did you mean "train"'),
        (["--config=configs/quickstart.py", "--config.nope=3"], "nope is no field there; ohem_tf"),
        (["--config=configs/qiuckstart.py"], "configs/qiuckstart.py"),
        (["--config=configs/quickstart.py", "--config.train.steps=0"], "config.train.steps"),
    ],
    ids=["field", "no such field", "file", "value"],
)
def test_a_bad_command_line_ends_in_one_line(arguments, wanted, tmp_path):
    command = [sys.executable, "-m", "ohem_tf.train", *arguments, f"--workdir={tmp_path}/run"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.lower().startswith("error")]
    assert len(errors) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == errors[0]
    assert wanted in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_loads_and_validates(path):
    config = load_config(path)
    assert isinstance(config, ConfigDict)
    assert config.is_locked
    validate(config)
    fields = dict(paper().items(preserve_field_references=True)).keys()
    assert set(config.keys()) == set(fields)
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert config.data.dir == ""  # no config knows a path
    assert all(step < config.train.steps for step in config.train.decay_steps)


def test_there_are_configs():
    assert "quickstart" in {path.stem for path in CONFIGS}
