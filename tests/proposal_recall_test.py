"""benchmarks.proposal_recall: ranks and recalls, counted by hand."""

import numpy as np
import tensorflow as tf
import tiny

from benchmarks import proposal_recall
from benchmarks.proposal_recall import MISSED, first_hits
from ohem_tf.data.reader import RecordReader


def test_the_rank_is_that_of_the_first_proposal_that_covers_the_box():
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    proposals = np.array([[0, 0, 4, 10], [0, 0, 6, 10], [0, 0, 10, 10]], np.float32)
    np.testing.assert_array_equal(first_hits(boxes, proposals, 0.5), [1, MISSED])
    np.testing.assert_array_equal(first_hits(boxes, proposals, 0.7), [2, MISSED])
    np.testing.assert_array_equal(first_hits(boxes, proposals[:0], 0.5), [MISSED, MISSED])


def test_recalls_of_two_sources(dataset):
    records = RecordReader(dataset, "val")  # two objects in each image
    sources = {
        "objects": lambda example: example["boxes"],
        "first object, late": lambda example: np.concatenate(
            [np.zeros((2, 4), np.float32), example["boxes"][:1]]
        ),
    }
    found = proposal_recall.recalls(records, sources, [1, 2, 3])
    assert found["objects"]["0.7"] == [0.5, 1.0, 1.0]
    assert found["first object, late"]["0.5"] == [0.0, 0.0, 0.5]
    assert found["first object, late"]["mean"] == 3


def test_the_page(tmp_path):
    results = {"runs/a": {"0.5": [0.5, 1.0], "0.7": [0.25, 0.5], "mean": 7.4}}
    text = proposal_recall.page(results, [1, 30], "recall", "# Title")
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert rows[0] == "# Title"
    assert "| runs/a | 0.7 | 25.0 | 50.0 | 7 |" in rows
    proposal_recall.draw(results, [1, 30], str(tmp_path / "recall.png"))
    assert (tmp_path / "recall.png").stat().st_size > 10_000


def test_proposals_of_a_model_are_the_best_first(tmp_path, monkeypatch):
    model = tiny.faster_rcnn()
    config = tiny.config("records", **{"proposals": "rpn", "detection.shortest_sides": (64,)})
    monkeypatch.setattr("ohem_tf.experiment.trained_config", lambda *_: config)
    monkeypatch.setattr("ohem_tf.experiment.load_model", lambda *_: model)
    record = tiny.make_record(0, 96, 128, objects=1)
    image = tf.io.decode_png(record.encoded).numpy()
    found = proposal_recall.of_model("runs/a", 20)({"image": image})
    assert found.shape[1] == 4
    assert 0 < len(found) <= 20
    assert np.all(found >= 0)
    assert np.all(found <= [96, 128, 96, 128])
