"""What a recipe takes from the data, and that it trains."""

import json

import command_line
import numpy as np
import pytest
import tiny

from configs import finetune
from ohem_tf import finetuning
from ohem_tf.config import validate
from ohem_tf.errors import InputError
from ohem_tf.workdir import has_checkpoint


def facts(**changes):
    return finetuning.DataFacts(
        **{
            "train_split": "train",
            "eval_split": "val",
            "images": 300,
            "shortest_side": 480,
            "longest_side": 640,
            "sizes": np.linspace(0.1, 0.9, 101),
            "aspect_ratios": np.linspace(0.5, 2.0, 101),
            "most_objects": 12,
            **changes,
        }
    )


def test_facts_of_the_data(dataset):
    found = finetuning.examine(dataset)
    assert (found.train_split, found.eval_split, found.images) == ("train", "val", 8)
    shapes = [(96, 128), (128, 96), (80, 120), (100, 100), (64, 128), (90, 110), (96, 128)]
    records = [tiny.make_record(i, *s, objects=1 + i % 3) for i, s in enumerate(shapes)]
    extents = [box[2:] - box[:2] for one in records for box in one.boxes]
    sides = [min(one.height, one.width) for one in records for _ in one.boxes]
    sizes = [np.sqrt(h * w) / side for (h, w), side in zip(extents, sides, strict=True)]
    np.testing.assert_allclose(found.sizes, sizes, rtol=1e-5)
    np.testing.assert_allclose(found.aspect_ratios, [h / w for h, w in extents], rtol=1e-5)
    assert found.most_objects == 3
    assert (found.shortest_side, found.longest_side) == (96, 128)  # medians of the eight


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (["val", "train"], ("train", "val")),
        (["train", "val", "test"], ("train+val", "test")),
        (["trainval", "test"], ("trainval", "test")),
        (["train", "valid", "more"], ("train", "valid")),
        (["all"], ("all[:80%]", "all[80%:]")),
    ],
)
def test_splits(splits, expected, tmp_path):
    records = [tiny.make_record(i, 64, 64, objects=1) for i in range(5 * len(splits))]
    tiny.write_dataset(tmp_path, {s: records[i :: len(splits)] for i, s in enumerate(splits)})
    found = finetuning.examine(str(tmp_path))
    assert (found.train_split, found.eval_split) == expected


def test_unusable_data_is_refused(tmp_path):
    records = [tiny.make_record(i, 64, 64, objects=0) for i in range(4)]
    for name in "ab":
        (tmp_path / name).mkdir()
    tiny.write_dataset(tmp_path / "a", {"left": records[:2], "right": records[2:]})
    with pytest.raises(InputError, match="splits with annotations are left, right; expected train"):
        finetuning.examine(str(tmp_path / "a"))
    tiny.write_dataset(tmp_path / "b", {"train": records[:2], "val": records[2:]})
    with pytest.raises(InputError, match="train holds no object in 2 images"):
        finetuning.examine(str(tmp_path / "b"))
    with pytest.raises(
        InputError, match=r"give the prepared data, --config=.*finetune\.py:RECORDS"
    ):
        finetune.get_config()


def test_the_recipe_follows_the_data():
    config = finetuning.recipe(facts())
    assert config.detection.shortest_sides == (480,)
    assert config.detection.longest_side >= 640
    assert config.data.shortest_sides == (384, 480, 576)
    assert config.pyramid.levels == (3, 4, 5, 6, 7)  # objects of 67 to 413 px
    assert config.rpn.aspect_ratios == (0.5, 1.0, 2.0)
    assert config.train.steps == 3000
    assert config.train.decay_steps[0] < config.train.steps
    large = finetuning.recipe(facts(shortest_side=1080, longest_side=1920, images=10**6))
    assert large.detection.shortest_sides == (480,)
    assert large.detection.longest_side >= 480 * 1920 / 1080
    assert large.train.steps == 12000
    assert finetuning.recipe(facts(images=20)).train.steps == 1500


def test_small_and_slender_and_many_objects():
    small = finetuning.recipe(facts(sizes=np.full(9, 12 / 480)))
    assert small.detection.shortest_sides == (640,)  # 12 px become 16
    assert small.pyramid.levels[0] == 2
    tiny_ones = finetuning.recipe(facts(sizes=np.full(9, 3 / 480)))
    assert tiny_ones.detection.shortest_sides == (960,)  # no more than twice
    slender = finetuning.recipe(facts(aspect_ratios=np.array([0.2, 1.0, 5.0])))
    assert slender.rpn.aspect_ratios == (0.25, 0.5, 1.0, 2.0, 4.0)
    crowded = finetuning.recipe(facts(most_objects=400))
    assert crowded.detection.max_detections == 800
    assert crowded.rpn.test_proposals == 2000


@pytest.mark.parametrize("backbone", ["", "hed", "weights/efficientnet_lite0", "ResNet50"])
def test_backbones(backbone):
    config = finetuning.recipe(facts(), backbone)
    validate(config)
    lite = backbone in ("", "weights/efficientnet_lite0")
    assert (config.backbone.preprocessing == "lite") == lite
    assert config.backbone.weights == ("hed" if backbone == "hed" else "imagenet")


def test_fields_on_the_command_line_win(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("ohem_tf.models.backbones.build", lambda **_: (tiny.pyramid_backbone(), {}))
    fields = ("pyramid.channels=8", "head.hidden=(8,)", "train.steps=2", "train.decay_steps=()")
    given = (f"--config=configs/finetune.py:{dataset},ResNet50", f"--workdir={tmp_path}")
    done = command_line.run("ohem_tf.train", *given, *(f"--config.{field}" for field in fields))
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "config.json").read_text())["config"]
    assert saved["train"]["steps"] == 2
    assert saved["data"]["dir"] == str(dataset)
    assert saved["backbone"]["name"] == "ResNet50"
    assert has_checkpoint(str(tmp_path))
