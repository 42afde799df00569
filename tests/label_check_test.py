"""benchmarks.label_check: where flaws are planted, and what counts as found."""

from __future__ import annotations

import numpy as np
import tiny

from benchmarks import label_check
from ohem_tf.checking.findings import LOOK, SUSPECT, UNLABELLED, Finding, Mark, Picture
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import from_example


def test_flaws_are_planted_where_it_says(dataset):
    reader = RecordReader(dataset, "train")
    copies, flaws = label_check.plant(reader, 8, 0)
    originals = [from_example(reader[i]) for i in range(8)]
    assert list(flaws[UNLABELLED]) == [originals[0].image_id, originals[4].image_id]
    assert list(flaws[SUSPECT]) == [originals[2].image_id, originals[6].image_id]
    for number, (copy, original) in enumerate(zip(copies, originals, strict=True)):
        if copy.image_id in flaws[UNLABELLED]:
            box = flaws[UNLABELLED][copy.image_id]
            assert len(copy.boxes) == len(copy.classes) == len(original.boxes) - 1
            assert not np.any(np.all(copy.boxes == box, axis=1))
        else:
            np.testing.assert_array_equal(copy.boxes, original.boxes)
            changed = np.flatnonzero(copy.classes != original.classes)
            assert len(changed) == (number in (2, 6))
            assert set(copy.classes) <= {1, 2, 3}
    assert label_check.plant(reader, 8, 500)[1] == {UNLABELLED: {}, SUSPECT: {}}


def test_the_copies_are_a_data_set(dataset, tmp_path):
    reader = RecordReader(dataset, "train")
    copies, _ = label_check.plant(reader, 3, 0)
    label_check.write(str(tmp_path), "planted", copies, reader)
    planted = RecordReader(tmp_path, "planted")
    assert planted.classes == tiny.CLASSES
    assert planted.image_ids == reader.image_ids[:3]


def test_each_flaw_counts_once():
    def finding(kind, image_id, *box):
        return Finding(kind, LOOK, "x", "", (Picture("x", image_id, (Mark(box),)),))

    flaws = {
        UNLABELLED: {"a": np.float32([0, 0, 10, 10]), "b": np.float32([0, 0, 10, 10])},
        SUSPECT: {},
    }
    found = [
        finding(UNLABELLED, "a", 0, 0, 10, 9),
        finding(SUSPECT, "b", 0, 0, 10, 10),
        finding(UNLABELLED, "a", 0, 0, 10, 10),
        finding(UNLABELLED, "b", 20, 20, 30, 30),
    ]
    assert label_check.score(found, flaws, UNLABELLED) == {
        "planted": 2,
        "found": 1,
        "listed": 3,
        "first": {"10": 1, "25": 1, "50": 1},
    }
    assert label_check.score(found, flaws, SUSPECT)["listed"] == 1
