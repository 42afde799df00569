"""The rows of configs/paper.py: their settings are the paper's, and the pages that name them."""

import json
import pathlib
import re

import pytest

from benchmarks import full_size, reproduce
from configs.paper import ROWS, get_config
from ohem_tf import experiment
from ohem_tf.config import validate
from ohem_tf.errors import InputError
from ohem_tf.hard_mining import HardMining, MaskedHardMining
from ohem_tf.models import backbones
from ohem_tf.paper import recipes
from ohem_tf.sampling import HeuristicSampling

ROOT = pathlib.Path(__file__).resolve().parents[2]

# As the paper's tables 1 and 3 to 6 and its authors' release have them. Fields that are not here:
# VGG16, N = 2, B = 128, rate 0.001, bg_lo = 0.1, no multi-scale (M), no iterative regression (B).
VGGM = {"backbone": "vgg_cnn_m_1024"}
ALL = {"rois": 2048, "bg_lo": 0.0, "rate": 0.003}
PAPER = {
    "voc07_vggm_frcn": ("FRCN", "07", VGGM, "59.6"),
    "voc07_frcn": ("FRCN", "07", {}, "67.2"),
    "voc07_vggm_frcn_bg0": ("FRCN", "07", {**VGGM, "bg_lo": 0.0}, "57.2"),
    "voc07_frcn_bg0": ("FRCN", "07", {"bg_lo": 0.0}, "67.5"),
    "voc07_frcn_n1": ("FRCN", "07", {"images": 1}, "66.3"),
    "voc07_frcn_n1_bg0": ("FRCN", "07", {"images": 1, "bg_lo": 0.0}, "66.3"),
    "voc07_vggm_all_n1": ("FRCN", "07", {**VGGM, **ALL, "rate": 0.004, "images": 1}, "57.7"),
    "voc07_vggm_all_n2": ("FRCN", "07", {**VGGM, **ALL, "rate": 0.004}, "60.4"),
    "voc07_all_n1": ("FRCN", "07", {**ALL, "images": 1}, "67.5"),
    "voc07_all_n2": ("FRCN", "07", ALL, "68.7"),
    "voc07_ohem_n1": ("OHEM", "07", {"images": 1}, "69.7"),
    "voc07_vggm_ohem": ("OHEM", "07", VGGM, "62.0"),
    "voc07_ohem": ("OHEM", "07", {}, "69.9"),
    "voc07_frcn_test_m": ("FRCN", "07", {"testing": "M"}, None),
    "voc07_frcn_m": ("FRCN", "07", {"training": "M", "testing": "M"}, "68.6"),
    "voc07_frcn_b": ("FRCN", "07", {"testing": "B"}, None),
    "voc07_frcn_m_b": ("FRCN", "07", {"training": "M", "testing": "MB"}, "72.4"),
    "voc07_ohem_test_m": ("OHEM", "07", {"testing": "M"}, None),
    "voc07_ohem_m": ("OHEM", "07", {"training": "M", "testing": "M"}, "71.2"),
    "voc07_ohem_b": ("OHEM", "07", {"testing": "B"}, None),
    "voc07_ohem_m_b": ("OHEM", "07", {"training": "M", "testing": "MB"}, "75.1"),
    "voc07_frcn_no_ratio": ("FRCN", "07", {"fixed_ratio": False}, None),
    "voc07_ohem_masked": ("OHEM", "07", {"masked": True}, None),
    "voc07_vggm_release": ("OHEM", "07", {**VGGM, "release": True}, "62.8"),
    "voc07_frcn_release": ("FRCN", "07", {"release": True}, "67.6"),
    "voc07_release": ("OHEM", "07", {"release": True}, "71.5"),
    "voc0712_frcn": ("FRCN", "07+12", {}, "70.0"),
    "voc0712_ohem": ("OHEM", "07+12", {}, "74.6"),
    "voc0712_ohem_m_b": ("OHEM", "07+12", {"training": "M", "testing": "MB"}, "78.9"),
    "voc0712_release": ("OHEM", "07+12", {"release": True}, "75.5"),
    "voc12_frcn": ("FRCN", "12", {}, "65.7"),
    "voc12_ohem": ("OHEM", "12", {}, "69.8"),
    "voc12_ohem_m_b": ("OHEM", "12", {"training": "M", "testing": "MB"}, "72.9"),
    "voc0712pp_frcn": ("FRCN", "07++12", {}, "68.4"),
    "voc0712pp_ohem": ("OHEM", "07++12", {}, "71.9"),
    "voc0712pp_ohem_m_b": ("OHEM", "07++12", {"training": "M", "testing": "MB"}, "76.3"),
    "coco_frcn": ("FRCN", "COCO train", {}, "19.7"),
    "coco_ohem": ("OHEM", "COCO train", {}, "22.6"),
    "coco_ohem_m": ("OHEM", "COCO train", {"training": "M", "testing": "M"}, "24.4"),
    "coco_ohem_m_trainval": ("OHEM", "COCO trainval", {"training": "M", "testing": "M"}, "25.5"),
}
# Splits; steps, and the steps at which the rate falls to a tenth.
EVERY_40K = (200_000, (40_000, 80_000, 120_000, 160_000))
DATA = {
    "07": ("trainval", "test", 80_000, (30_000, 60_000)),
    "07+12": ("voc07/trainval+voc12/trainval", "voc07/test", *EVERY_40K),
    "12": ("trainval", "test", *EVERY_40K),
    "07++12": ("voc07/trainval+voc07/test+voc12/trainval", "voc12/test", *EVERY_40K),
    "COCO train": ("train2014", "val2014", 240_000, (160_000,)),
    "COCO trainval": ("train2014+val2014", "test-dev2015", 240_000, (160_000,)),
}
RELEASED = {"07": (40_000, (30_000,)), "07+12": (80_000, (30_000, 60_000))}
# Seconds of a step on a Titan X (table 2), by backbone and method.
SECONDS = {
    ("vgg16", "FRCN"): 0.57,
    ("vgg16", "OHEM"): 1.00,
    ("vgg_cnn_m_1024", "FRCN"): 0.13,
    ("vgg_cnn_m_1024", "OHEM"): 0.22,
}


def of_the_paper(name):
    """What decides the result of a row, by the tables above."""
    method, data, fields, figure = PAPER[name]
    train_split, eval_split, *schedule = DATA[data]
    vggm, released = fields.get("backbone"), "release" in fields
    training, testing = fields.get("training", ""), fields.get("testing", "")
    return {
        "data": (train_split, eval_split),
        "backbone": ("vgg_cnn_m_1024", "conv1") if vggm else ("vgg16", "block2_pool"),
        "head": (6, (4096, 1024)) if vggm else (7, (4096, 4096)),
        "method": method,
        "N, B, rate": [fields.get("images", 2), fields.get("rois", 128), fields.get("rate", 0.001)],
        "bg_lo, ratio": (fields.get("bg_lo", 0.1), fields.get("fixed_ratio", True)),
        "per label, masked": (released, fields.get("masked", False)),
        "schedule": RELEASED[data] if released else tuple(schedule),
        "training": (480, 576, 688, 864, 900) if "M" in training else (600,),
        "testing": (480, 576, 688, 864, 1000) if "M" in testing else (600,),
        "rounds, voting": (2, True) if "B" in testing else (1, False),
        "kept": (2000, 1e-5),  # as the release scores OHEM
        "AP": "area" if data in ("12", "07++12") else "voc07",
        "tested in training": not testing and not data.startswith("COCO"),
        "proposals": 2000 if data.startswith("COCO") else 0,  # 0: all
        "figure": figure,
        "title": data,
    }


def of_the_config(name):
    config, row = get_config(name), ROWS[name]
    validate(config)
    train, figure = config.train, re.match(r"(?:mAP|AP) (\d+\.\d)", row.expected)
    detection = experiment.detection_settings(config)
    return {
        "data": (config.data.train_split, config.data.eval_split),
        "backbone": (config.backbone.name, config.backbone.frozen_until),
        "head": (config.head.pool_size, config.head.hidden),
        "method": {"ohem": "OHEM", "heuristic": "FRCN"}[config.sampler],
        "N, B, rate": [train.images_per_step, train.rois_per_step, train.learning_rate],
        "bg_lo, ratio": (config.heuristic.bg_lo, config.heuristic.fixed_ratio),
        "per label, masked": (config.ohem.per_label, config.ohem.masked_backward),
        "schedule": (train.steps, train.decay_steps),
        "training": config.data.shortest_sides,
        "testing": detection.shortest_sides,
        "rounds, voting": (detection.rounds, detection.voting),
        "kept": (detection.max_detections, detection.score_threshold),
        "AP": config.evaluation.method,
        "tested in training": train.eval_every > 0,
        "proposals": config.data.max_proposals,
        "figure": figure and figure[1],
        "title": row.data.name,
    }


def test_a_row_is_what_the_paper_says():
    assert list(ROWS) == list(PAPER)
    for name in ROWS:
        assert of_the_config(name) == of_the_paper(name), name
        assert PAPER[name][0] in ROWS[name].title


def test_a_row_builds_its_sampler(tiny_backbone):
    cases = {
        "voc07_frcn": HeuristicSampling(64, fg_fraction=0.25, fg_iou=0.5, bg_lo=0.1, bg_hi=0.5),
        "voc07_frcn_n1_bg0": HeuristicSampling(128, bg_lo=0.0),
        "voc07_all_n2": HeuristicSampling(1024, bg_lo=0.0),  # nearly all of 2000
        "voc07_frcn_no_ratio": HeuristicSampling(64, fixed_ratio=False),
        "voc07_ohem": HardMining(64, iou_threshold=0.7, per_label=False, dropout=True),
        "voc07_ohem_n1": HardMining(128),  # B/N
        "voc07_release": HardMining(64, per_label=True),
        "voc07_ohem_masked": MaskedHardMining(64),
    }
    for name, sampler in cases.items():
        assert experiment.build_sampler(get_config(name)) == sampler


def test_a_row_that_only_tests_has_the_model_of_another():
    testing = [row for row in ROWS.values() if row.trained_by]
    assert len(testing) == 6
    for row in testing:
        config, trained = get_config(row.name), get_config(row.trained_by)
        assert not ROWS[row.trained_by].trained_by
        assert config.detection != trained.detection
        config.detection, config.train = trained.detection, trained.train
        assert config == trained


def test_durations_are_estimated_as_the_page_says():
    for row in ROWS.values():
        if row.trained_by:
            assert row.duration == ""
            continue
        method, _, fields, _ = PAPER[row.name]
        seconds = SECONDS[fields.get("backbone", "vgg16"), method] * fields.get("images", 2) / 2
        if "rois" in fields or "masked" in fields:  # 2.5 times Fast R-CNN's, for all RoIs
            frcn = SECONDS[fields.get("backbone", "vgg16"), "FRCN"]
            seconds = 2.5 * frcn * fields.get("images", 2) / 2
        seconds *= 1.2 if "training" in fields else 1.0
        hours = get_config(row.name).train.steps * seconds / 2.9 / 3600
        number, unit = row.duration.split()
        given = float(number) / {"h": 1, "min": 60}[unit]
        assert given == pytest.approx(hours, rel=0.03, abs=0.5 if unit == "h" else 0.05), row.name


def test_a_row_gives_a_fresh_config_and_an_unknown_one_is_refused():
    get_config("voc07_frcn").train.steps = 1
    assert get_config("voc07_frcn").train.steps == 80_000
    with pytest.raises(InputError, match=r"no row 'coco_frnc'; .* with one of coco_frcn, "):
        get_config("coco_frnc")
    assert get_config("voc07_ohem") == _file("voc07")


def _file(name):
    scope = {}
    exec((ROOT / "configs" / f"{name}.py").read_text(), scope)
    return scope["get_config"]()


def test_backbones_of_all_configs_are_frozen_up_to_a_layer_that_they_have():
    configs = [*map(get_config, ROWS), *map(_file, ("bccd", "quickstart"))]
    distinct = {json.dumps(c.backbone.to_dict() | {"weights": "none"}): c for c in configs}
    assert len(distinct) == 3
    for settings in map(json.loads, distinct):
        network = backbones.build(**settings)[0].network
        trained = {layer.name: layer.trainable for layer in network.layers if layer.weights}
        first = next(name for name, trainable in trained.items() if trainable)
        assert first == {"conv1": "conv2", "block2_pool": "block3_conv1"}.get(
            settings["frozen_until"], "block4_conv1"
        )


def test_the_page_is_made_of_the_rows():
    page = reproduce.PAGE.read_text()
    assert reproduce.filled(page) == page  # else run python -m benchmarks.reproduce
    made = dict(re.findall(r"<!-- rows: (\w+) -->\n(.*?)<!-- end of rows -->", page, re.DOTALL))
    for row in ROWS.values():
        for place in row.tables.split(", "):
            assert f"| `{row.name}` " in made[place.split()[0]]
        assert all(command in made["commands"] for command in row.commands())
    assert "mAP 75.1" in made["6"]


def test_the_commands_of_a_row():
    train, evaluate = (" ".join(c.split()) for c in ROWS["voc12_ohem"].commands())
    place = r"--config=configs/paper.py:voc12_ohem \ --workdir=runs/voc12_ohem"
    assert train == f"python -m ohem_tf.train {place} --config.data.dir=records/voc12"
    assert evaluate == f"python -m ohem_tf.evaluate {place} --write_results=results/voc12_ohem"
    (only,) = ROWS["voc07_ohem_m_b"].commands()
    assert "ohem_tf.evaluate --config=configs/paper.py:voc07_ohem_m_b" in only
    assert "--workdir=runs/voc07_ohem_m --output=runs/voc07_ohem_m/voc07_ohem_m_b.json" in only


def test_configs_that_are_named_anywhere_exist():
    files = [ROOT / "Makefile", *ROOT.glob("*.md")]
    for folder in ("docs", "ohem_tf", "export", "benchmarks", "configs"):
        files += [p for p in (ROOT / folder).rglob("*") if p.suffix in (".md", ".py")]
    named = set()
    for path in files:
        named |= set(re.findall(r"configs/(\w+)\.py(?::(\w+))?", path.read_text()))
    named -= {("NAME", ""), ("paper", "ROW")}
    assert ("paper", "voc07_frcn") in named
    for file, row in named:
        assert (ROOT / "configs" / f"{file}.py").is_file(), file
        assert not row or row in ROWS or file != "paper", row
    assert ROWS.keys() >= {*full_size.TRAINED, *(row for pair in full_size.TESTED for row in pair)}


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("flags : fpu avx512f avx512_bf16 sse", "bfloat16"),
        ("flags : amx_bf16", "bfloat16"),
        ("Features : asimd bf16 sve", "bfloat16"),
        ("flags : fpu avx2 avx512f", "float32"),
        (None, "float32"),
    ],
)
def test_bfloat16_only_where_the_processor_has_it(flags, dtype, tmp_path):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    config = get_config("voc07_ohem")
    recipes.native_bfloat16(config, str(tmp_path / "cpuinfo"))
    assert config.dtype == dtype
