"""The paper's numbers, and which run is compared with which of them."""

import json
import re

import numpy as np
import pytest
from paper_runs import describe, voc07

from configs.paper import ROWS, get_config
from ohem_tf.paper import published, recipes


def metrics(setting, **changes):
    found = {"method": "voc07", "iou_threshold": 0.5, "images": 4952}
    if setting.test == "12 test":
        found |= {"method": "area", "images": 10991}
    classes = published._content()["classes"]
    return {**found, "AP": dict.fromkeys(classes, 0.5), **changes}


def row_of(config, **how):
    setting = describe(config, **how)
    return published.row_for(setting, metrics(setting))


def row_config(row):
    """Its config, with the data directory of its commands."""
    config = get_config(row.name)
    config.data.dir = row.data.directory
    return config


def test_a_row_is_compared_with_the_number_that_it_expects():
    for row in ROWS.values():
        found = row_of(row_config(row))
        expected = re.match(r"(?:mAP|AP) (\d\d\.\d)", row.expected)
        assert (found is None) == (expected is None), row.name
        if found:
            assert float(expected[1]) == (found.mean_ap or found.coco["AP"]), row.name
            assert found.setting.changes == ()
            assert found.table.replace(" (FRCN*)", "") == row.tables


def test_every_number_has_a_row():
    settings = {row.setting for row in published.rows()}
    assert len(settings) == len(published.rows())
    assert settings <= {describe(row_config(row)) for row in ROWS.values()}


def test_each_row_of_classes_has_the_printed_mean():
    rows = [row for row in published.rows() if row.ap]
    assert len(rows) == 13
    for row in rows:
        assert len(row.ap) == 20
        assert np.mean(list(row.ap.values())) == pytest.approx(row.mean_ap, abs=0.05)


def test_what_could_not_be_confirmed_is_not_there():
    for row in published.rows():
        assert set(row.coco) <= {"AP", "AP50", "AP_medium"}
        assert (row.setting.training, row.setting.testing) in {
            ("", ""),
            ("M", "M"),
            ("M", "M B"),
        }


def test_rows_equal_the_notes_of_the_paper(shared):
    noted = json.loads((shared / "paper_tables.json").read_text())["rows"]
    for row in published.rows():
        if row.ap:
            assert any(
                n["mAP"] == row.mean_ap and n["AP"] == list(row.ap.values()) for n in noted
            ), row.setting.label


def test_another_setting_is_not_compared():
    cases = [
        {"train.learning_rate": 0.002},
        {"train.steps": 60000},
        {"train.decay_steps": (40000,)},
        {"train.momentum": 0.8},
        {"head.dropout": 0.25},
        {"head.hidden": (512, 512)},
        {"ohem.iou_threshold": 0.5},
        {"backbone.weights": "hed"},
        {"backbone.frozen_until": ""},
        {"dtype": "bfloat16"},
        {"fg_iou": 0.6},
        {"data.dir": "/records/voc07_320"},
        {"data.train_split": "train"},
        {"data.eval_split": "val"},
        {"data.shortest_sides": (480,)},
        {"data.longest_side": 800},
        {"data.max_proposals": 2000},
        {"detection.longest_side": 800},
        {"detection.voting": True},
        {"detection.score_threshold": 0.05, "detection.max_detections": 100},
        {"detection.nms_iou": 0.5},
        {"heuristic.fixed_ratio": False, "sampler": "heuristic"},
        {"heuristic.fg_fraction": 0.5, "sampler": "heuristic"},
    ]
    for fields in cases:
        assert row_of(voc07(**fields)) is None, fields


def test_what_does_not_matter_is_compared():
    cases = [
        {"seed": 3},
        {"train.snapshot_every": 20000},
        {"ohem.chunk": 500},
        {"train.eval_every": 5000},
        {"detection.rescore_max": 15},  # there is one round
        {"heuristic.fg_fraction": 0.5},  # OHEM does not use it
        {"backbone.weights": "my_vgg16.npz"},
        {"data.dir": "/records", "data.train_split": "voc07/trainval", "data.eval_split": "x"},
    ]
    for fields in cases:
        how = {"split": "voc07/test"} if "data.dir" in fields else {}
        assert row_of(voc07(**fields), **how).mean_ap == 69.9, fields


def test_only_the_last_checkpoint_is_compared():
    cases = [
        ("ckpt-80000", True),
        ("step-00080000.weights.h5", True),
        ("ckpt-40000", False),
        ("step-00040000.weights.h5", False),
        ("best.weights.h5", False),  # chosen on the test set
        ("released.weights.h5", False),
    ]
    for checkpoint, compared in cases:
        assert (row_of(voc07(), checkpoint=checkpoint) is not None) == compared, checkpoint


def test_other_metrics_are_not_compared():
    setting = describe(voc07())
    assert published.row_for(setting, metrics(setting)) is not None
    cases = ({"method": "area"}, {"iou_threshold": 0.7}, {"images": 4951}, {"AP": {"aeroplane": 1}})
    for changes in cases:
        assert published.row_for(setting, metrics(setting, **changes)) is None, changes


def test_a_test_on_training_data_is_not_compared():
    config = recipes.coco()
    config.data.dir = "records/coco"
    assert row_of(config).coco["AP"] == 22.6
    assert describe(config).test == "COCO"
    assert row_of(config, split="train2014") is None
    config.data.train_split = "train2014+val2014"
    assert describe(config).test == "coco/val2014"
    assert describe(config, split="test-dev2015").test == "COCO"
