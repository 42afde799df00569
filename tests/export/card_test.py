"""The model card: what it says is what the export, the config and metrics.json say."""

import json
import os
import re

import pytest
import tiny

from export import card
from ohem_tf import experiment

METRICS = {
    "mAP": 0.745,
    "AP": {"a_b": 0.5, "square": 0.99, "007": None},
    "method": "voc07",
    "iou_threshold": 0.5,
    "coco": {"AP": 0.4},
    "images": 4,
    "objects": {"a_b": 3, "square": 5, "007": 0},
    "settings": {"split": "records/val", "checkpoint": "ckpt-1"},
}


@pytest.fixture(scope="module")
def about(exported):
    with open(os.path.join(exported, "assets", "metadata.json"), encoding="utf-8") as file:
        return json.load(file)


def metrics(about, **settings):
    given = {**METRICS["settings"], "detection": about["config"]["detection"], **settings}
    return {**METRICS, "settings": given}


def test_an_export_has_a_card_that_says_how_it_is_called(exported, loaded, dataset):
    with open(os.path.join(exported, "assets.extra", "README.md"), encoding="utf-8") as file:
        text = file.read()
    for name in tiny.CLASSES:
        assert name in text
    assert f"{dataset.name}, train" in text
    assert "Not known: there was no complete metrics.json" in text
    assert str(dataset.parent) not in text  # an export is passed on
    plain = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1]
    record = tiny.make_record(3, 96, 128, objects=2)
    with open(os.path.join(exported, os.pardir, "photo.jpg"), "wb") as file:
        file.write(record.encoded)
    plain = plain.replace("EXPORT_DIR/VERSION", exported)
    names: dict = {}
    exec(plain.replace("photo.jpg", os.path.join(exported, os.pardir, "photo.jpg")), names)
    assert set(names["found"]) == set(loaded.signatures["serving_default"].structured_outputs)


def test_it_quotes_the_evaluation_and_says_of_what(about):
    text = card.card(about, metrics(about))
    assert "mAP 0.745 on records/val (4 images)" in text
    assert "of the weights ckpt-1." in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["a\\_b", "3", "0.500"] in rows
    assert ["007", "0", "no data"] in rows
    assert "COCO: AP 0.400." in text
    assert "other" not in text.partition("## How well")[2].partition("## Limits")[0]


@pytest.mark.parametrize("content", ["{", "[]", '{"mAP": 1.0}', None])
def test_metrics_that_do_not_say_what_they_are_of_are_left_out(content, about, tmp_path):
    if content:
        (tmp_path / "metrics.json").write_text(content)
    card.write(str(tmp_path), about, str(tmp_path))
    assert "Not known" in (tmp_path / "assets.extra" / "README.md").read_text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"checkpoint": "ckpt-2"}, "**This export has other weights.**"),
        ({"detection": {}}, "**This export has other detection settings.**"),
        (
            {"checkpoint": "best.weights.h5", "detection": {}},
            "**This export has other weights and other detection settings.**",
        ),
    ],
)
def test_figures_of_another_model_are_called_so(settings, words, about):
    assert words in card.card(about, metrics(about, **settings))


def test_an_evaluation_of_the_same_config_is_of_the_same_settings(about, config):
    """As `evaluate` writes them: asdict of DetectionSettings, through json."""
    detection = json.loads(json.dumps(config.detection.to_dict()))
    assert experiment.detection_settings(config)
    text = card.card(about, metrics(about, detection=detection))
    assert "This export has other" not in text


def test_what_depends_on_the_flavour(about):
    single = card.card({**about, "flavour": "single_image", "needs_proposals": False}, None)
    assert "TensorFlow Serving" not in single
    assert "pixels are refused" not in single
    assert "proposals=" not in single
    assert "decode_jpeg" in single
    assert f"more than {about['max_pixels']} pixels are refused" in card.card(about, None)
