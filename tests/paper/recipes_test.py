"""The configs of the paper's rows: their settings, their models, and a few steps of each kind."""

import ast
import json
import pathlib
import re

import numpy as np
import pytest
import tiny
from command_line import load_config

from ohem_tf import experiment
from ohem_tf.config import validate
from ohem_tf.evaluate import evaluate
from ohem_tf.paper import recipes
from ohem_tf.train import train

CONFIGS = sorted((pathlib.Path(__file__).resolve().parents[2] / "configs").glob("*.py"))

# Rows of the paper's table 1: sampler, N, B, bg_lo, learning rate, backbone.
TABLE_1 = {
    "voc07_vggm_frcn": ("heuristic", 2, 128, 0.1, 0.001, "vgg_cnn_m_1024"),
    "voc07_frcn": ("heuristic", 2, 128, 0.1, 0.001, "vgg16"),
    "voc07_vggm_frcn_bg0": ("heuristic", 2, 128, 0.0, 0.001, "vgg_cnn_m_1024"),
    "voc07_frcn_bg0": ("heuristic", 2, 128, 0.0, 0.001, "vgg16"),
    "voc07_frcn_n1": ("heuristic", 1, 128, 0.1, 0.001, "vgg16"),
    "voc07_frcn_n1_bg0": ("heuristic", 1, 128, 0.0, 0.001, "vgg16"),
    "voc07_vggm_all_n1": ("heuristic", 1, 2048, 0.0, 0.004, "vgg_cnn_m_1024"),
    "voc07_vggm_all_n2": ("heuristic", 2, 2048, 0.0, 0.004, "vgg_cnn_m_1024"),
    "voc07_all_n1": ("heuristic", 1, 2048, 0.0, 0.003, "vgg16"),
    "voc07_all_n2": ("heuristic", 2, 2048, 0.0, 0.003, "vgg16"),
    "voc07_ohem_n1": ("ohem", 1, 128, None, 0.001, "vgg16"),
    "voc07_vggm_ohem": ("ohem", 2, 128, None, 0.001, "vgg_cnn_m_1024"),
    "voc07": ("ohem", 2, 128, None, 0.001, "vgg16"),
}
# Steps, and the steps at which the rate falls to a tenth.
SCHEDULES = {
    "voc07": (80_000, (30_000, 60_000)),
    "voc0712_ohem": (200_000, (40_000, 80_000, 120_000, 160_000)),
    "voc12_ohem": (200_000, (40_000, 80_000, 120_000, 160_000)),
    "voc0712pp_ohem": (200_000, (40_000, 80_000, 120_000, 160_000)),
    "coco_ohem": (240_000, (160_000,)),
    "voc07_release": (40_000, (30_000,)),
    "voc0712_release": (80_000, (30_000, 60_000)),
}
SPLITS = {
    "voc07": ("trainval", "test"),
    "voc0712_frcn": ("voc07/trainval+voc12/trainval", "voc07/test"),
    "voc12_frcn": ("trainval", "test"),
    "voc0712pp_frcn": ("voc07/trainval+voc07/test+voc12/trainval", "voc12/test"),
    "coco_frcn": ("train2014", "val2014"),
    "coco_ohem_m_trainval": ("train2014+val2014", "test-dev2014"),
}
# M in training, M in testing, B; of the paper's table 6 and the last columns of tables 3 to 5.
BELLS = {
    "voc07_frcn_test_m": (False, True, False),
    "voc07_frcn_m": (True, True, False),
    "voc07_frcn_b": (False, False, True),
    "voc07_frcn_m_b": (True, True, True),
    "voc07_ohem_test_m": (False, True, False),
    "voc07_ohem_m": (True, True, False),
    "voc07_ohem_b": (False, False, True),
    "voc07_ohem_m_b": (True, True, True),
    "voc0712_ohem_m_b": (True, True, True),
    "voc12_ohem_m_b": (True, True, True),
    "voc0712pp_ohem_m_b": (True, True, True),
    "coco_ohem_m": (True, True, False),
    "coco_ohem_m_trainval": (True, True, False),
}


def load(name):
    path = next(p for p in CONFIGS if p.stem == name)
    return load_config(path), ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("name", TABLE_1)
def test_rows_of_table_1(name):
    config, _ = load(name)
    sampler, images, rois, bg_lo, rate, backbone = TABLE_1[name]
    assert config.sampler == sampler
    assert (config.train.images_per_step, config.train.rois_per_step) == (images, rois)
    assert config.train.learning_rate == rate
    assert config.backbone.name == backbone
    if bg_lo is not None:
        assert config.heuristic.bg_lo == bg_lo
    vggm = backbone == "vgg_cnn_m_1024"
    assert config.head.pool_size == (6 if vggm else 7)
    assert tuple(config.head.hidden) == ((4096, 1024) if vggm else (4096, 4096))
    assert config.backbone.frozen_until == ("conv1" if vggm else "block2_pool")


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    train_settings = load(name)[0].train
    assert (train_settings.steps, tuple(train_settings.decay_steps)) == SCHEDULES[name]


@pytest.mark.parametrize("name", SPLITS)
def test_splits(name):
    data = load(name)[0].data
    assert (data.train_split, data.eval_split) == SPLITS[name]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_bells_and_whistles_only_where_the_row_has_them(path):
    config, _ = load(path.stem)
    found = (
        len(config.data.shortest_sides) > 1,
        len(config.detection.shortest_sides) > 1,
        config.detection.rounds > 1 and config.detection.voting,
    )
    assert found == BELLS.get(path.stem, (False, False, False))
    if found[0]:
        assert tuple(config.data.shortest_sides) == (480, 576, 688, 864, 900)
    if found[1]:
        assert tuple(config.detection.shortest_sides) == (480, 576, 688, 864, 1000)


def test_the_release_differs_from_the_paper_where_it_should():
    release, paper = load("voc07_release")[0], load("voc07")[0]
    changed = {
        f"{section}.{field}"
        for section in ("ohem", "train", "detection", "data", "head", "backbone")
        for field in paper[section]
        if paper[section][field] != release[section][field]
    }
    assert changed == {
        "ohem.per_label",
        "train.steps",
        "train.decay_steps",
        "detection.max_detections",
        "detection.score_threshold",
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_commands_in_the_docstring_name_files_that_exist(path):
    _, text = load(path.stem)
    named = re.findall(r"--config=configs/(\w+)\.py", text)
    assert set(named) <= {p.stem for p in CONFIGS}
    assert path.stem in named or path.stem == "quickstart"  # which `make quickstart` runs


def architecture(config):
    return json.dumps([config.backbone.to_dict(), config.head.to_dict()], sort_keys=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_resolves_and_builds_its_model(path, shared_models, request):
    config, _ = load(path.stem)
    if path.stem == "voc07_320":  # its backbone is given on the command line
        weights = request.getfixturevalue("shared") / "weights"
        config.backbone.name = str(weights / "efficientnet_lite0_imagenet")
    validate(config)
    experiment.detection_settings(config)
    experiment.build_optimizer(config)
    key = architecture(config)
    if key not in shared_models:  # most rows share one; building its fc6 takes seconds
        shared_models[key] = experiment.build_model(config, 20, load_weights=False)
    model = shared_models[key]
    assert model.roi_head.hidden[0].units == config.head.hidden[0]
    frozen = config.backbone.frozen_until
    names = [layer.name for layer in model.backbone.network.layers]
    trained = [layer.trainable for layer in model.backbone.network.layers if layer.weights]
    assert all(trained) if not frozen else not all(trained)
    assert not frozen or frozen in names


@pytest.fixture(scope="module")
def shared_models():
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "voc07_frcn_n1",
        "voc07_frcn",
        "voc07_frcn_no_ratio",
        "voc07_all_n2",
        "voc07",
        "voc07_vggm_ohem",
        "voc07_release",
        "voc07_ohem_masked",
        "voc07_ohem_m_b",
    ],
)
def test_three_steps_and_an_evaluation(name, dataset, tmp_path):
    config, _ = load(name)
    config.data.dir = str(dataset)
    config.data.train_split, config.data.eval_split = "train", "val"
    scales = (96, 112, 128) if len(config.data.shortest_sides) > 1 else (96,)
    config.data.shortest_sides, config.data.longest_side = scales, 160
    scales = (96, 112) if len(config.detection.shortest_sides) > 1 else (96,)
    config.detection.shortest_sides, config.detection.longest_side = scales, 160
    config.backbone.weights = "none"
    config.head.hidden = (16, 16)
    config.train.steps, config.train.log_every = 3, 1
    config.detection.score_threshold = 0.0
    validate(config)

    train(config, str(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss/hard" in line]
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert all(np.isfinite(line["loss/hard"]) and line["loss/hard"] > 0 for line in steps)
    assert all(("loss/all_rois" in line) == (config.sampler == "ohem") for line in steps)
    result = evaluate(config, str(tmp_path))
    assert 0.0 <= result["mAP"] <= 1.0
    assert list(result["AP"]) == list(tiny.CLASSES)


def test_all_rois_means_nearly_all_rois():
    config = recipes.voc07()
    recipes.all_rois(config, learning_rate=0.003)
    model = experiment.build_model(_shrunk(config), 20, load_weights=False)
    assert model.sampler.rois_per_image == 1024
    assert (model.sampler.bg_lo, model.sampler.fg_fraction) == (0.0, 0.25)


def _shrunk(config):
    config.head.hidden = (8, 8)
    return config
