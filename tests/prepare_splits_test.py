"""From raw data to training: splits without annotations, several data sets, crowd regions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_coco
import tiny_voc

from ohem_tf import prepare
from ohem_tf.data import records
from ohem_tf.data.joined import open_split
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.statistics import target_statistics
from ohem_tf.errors import InputError

FIELD = "config.data.train_split"


def proposals(path, boxes) -> str:
    path.write_text(json.dumps(boxes))
    return str(path)


@pytest.fixture
def root(tmp_path):
    """The tiny VOC folder, its test images without annotations."""
    root = tiny_voc.make(tmp_path / "voc")
    for name in "tu":
        (root / f"Annotations/{name}.xml").unlink()
    return root


def run(root, output, splits, **changes):
    output.parent.mkdir(exist_ok=True)
    file = output.parent / "proposals.json"
    boxes = [[4, 4, 24, 24], [0, 0, 9, 9]]
    changes = {"proposals": proposals(file, dict.fromkeys("abcdetu", boxes))} | changes
    return prepare.prepare(
        prepare.Options(changes.pop("format", "voc"), str(root), splits, str(output), **changes)
    )


def test_a_voc_split_without_annotations_beside_one_with(root, tmp_path, capsys):
    run(root, tmp_path / "out", ("train",))
    capsys.readouterr()
    info = run(root, tmp_path / "out", ("test",), no_annotations=True)
    assert info == json.loads((tmp_path / "out/dataset.json").read_text())
    train, test = info["splits"]["train"], info["splits"]["test"]
    assert (train["annotated"], test["annotated"]) == (True, False)
    assert (test["images"], test["objects"], test["image_ids"]) == (2, 0, "t u")
    assert train["image_ids"] == "a b c d e"
    assert test["proposals"]["recall_at_0.5"] is None
    text = capsys.readouterr().out
    assert "split test, without annotations: 2 images" in text
    assert "proposals: file, 4, 2.0 an image" in text
    assert "recall" not in text
    assert "without an object" not in text

    reader = RecordReader(tmp_path / "out", "test")
    assert (reader.classes, reader.annotated, reader.image_ids) == (
        ("cat", "dog"),
        False,
        ("t", "u"),
    )
    for item in reader:
        record = records.from_example(item)
        assert record.boxes.shape == (0, 4)
        assert len(record.proposals) == 2
    with pytest.raises(InputError, match=r"test was prepared without annotations.*write_results"):
        open_split(tmp_path / "out", "train+test", FIELD)


def test_annotations_that_are_there_are_not_read(tmp_path):
    root = tiny_voc.make(tmp_path / "voc")
    tiny_voc.damage(root, "xml")
    info = run(root, tmp_path / "out", ("train",), no_annotations=True, classes=("cow", "dog"))
    assert (info["classes"], info["splits"]["train"]["objects"]) == (["cow", "dog"], 0)


def test_a_split_is_not_both(root, tmp_path):
    """Prepared again in the other way it is other input."""
    out = tmp_path / "out"
    given = {"classes": ("cat", "dog")}
    tiny_voc.make_image(root, "c")
    tiny_voc.make_split(root, "empty", "c")  # no object: the records would be the same
    first = run(root, out, ("empty",), no_annotations=True, **given)
    assert run(root, out, ("empty",), no_annotations=True, **given) == first
    with pytest.raises(InputError, match=r"annotated \(there: False, now: None\)"):
        run(root, out, ("empty",), **given)
    info = run(root, out, ("empty",), overwrite=True, **given)
    assert info["splits"]["empty"]["annotated"]


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_missing_annotation_names_the_flag(root, tmp_path, kind):
    if kind == "voc":
        with pytest.raises(InputError, match=r"t\.xml: annotation file is missing.*no_annotations"):
            run(root, tmp_path / "out", ("test",))
        return
    (tmp_path / "coco/annotations").mkdir(parents=True)
    tiny_coco.write(tmp_path / "coco", "instances_test", "test", {"t": 9})
    with pytest.raises(InputError, match=r"lacks the list 'annotations'.*--no_annotations"):
        run(tmp_path / "coco", tmp_path / "out", ("test",), format="coco")


def test_something_must_tell_the_classes(root, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.splits.Split, "check", lambda *_: pytest.fail("it began to check"))
    with pytest.raises(InputError, match="classes are not known; give --classes, or prepare the"):
        run(root, tmp_path / "out", ("test",), no_annotations=True)
    coco = tmp_path / "coco"
    (coco / "annotations").mkdir(parents=True)
    tiny_coco.write(coco, "image_info_test", "test", {"t": 9}, categories=[])
    for classes in (None, ("cat", "cow")):
        changes = {"format": "coco", "no_annotations": True, "classes": classes}
        with pytest.raises(InputError, match="the json has no 'categories'; prepare the training"):
            run(coco, tmp_path / "out", ("test",), **changes)


@pytest.mark.parametrize("categories", [True, False])
def test_coco_image_info(tmp_path, categories):
    """Ids and classes are those of the training split; the json may leave out its categories."""
    coco, file = tiny_coco.make(tmp_path / "coco"), tmp_path / "p.json"
    tiny_coco.write(coco, "image_info_test", "test", {"t": 9})
    path = coco / "annotations/image_info_test.json"
    data = json.loads(path.read_text())
    if not categories:
        del data["categories"]
    data["annotations"] = [{"image_id": 77}]  # not read
    path.write_text(json.dumps(data))
    changes = {"format": "coco", "proposals": proposals(file, {"a": [], "t": [[0, 0, 9, 9]]})}
    run(coco, tmp_path / "out", ("train",), **changes)
    info = run(coco, tmp_path / "out", ("test",), no_annotations=True, **changes)
    assert (info["classes"], info["category_ids"]) == (["cat", "cow"], [3, 7])
    test = info["splits"]["test"]
    assert (test["annotated"], test["objects"], test["image_ids"]) == (False, 0, "9")
    if categories:  # on its own, the json tells the classes
        alone = run(coco, tmp_path / "alone", ("test",), no_annotations=True, **changes)
        assert (alone["classes"], alone["category_ids"]) == (["cat", "cow"], [3, 7])


def test_image_info_that_is_none(tmp_path):
    (tmp_path / "info.json").write_text("[]")
    changes = {"format": "coco", "no_annotations": True}
    changes["annotations"] = str(tmp_path / "info.json")
    with pytest.raises(InputError, match="lacks the list 'images'; expected COCO's image info"):
        run(tmp_path, tmp_path / "out", ("test",), **changes)


def test_two_voc_years_train_as_one(tmp_path):
    """VOC07 and VOC12 as on disk: two folders, each prepared by itself, joined in the config."""
    tiny_voc.make(tmp_path / "voc07")
    tiny_voc.make_image(tmp_path / "voc12", "f", ("dog", 5, 5, 24, 24), ("cat", 25, 20, 44, 36))
    tiny_voc.make_image(tmp_path / "voc12", "g", ("cat", 9, 9, 30, 30))
    tiny_voc.make_split(tmp_path / "voc12", "train", "f", "g")
    boxes = {name: [[4, 4, 24, 24], [8, 8, 30, 30], [0, 0, 9, 9]] for name in "abcdefg"}
    file = proposals(tmp_path / "boxes.json", boxes)
    for year in ("voc07", "voc12"):
        run(tmp_path / year, tmp_path / "out" / year, ("train",), proposals=file)
    records_ = open_split(tmp_path / "out", "voc07/train+voc12/train", FIELD)
    assert records_.image_ids == tuple("abcdefg")

    stream = TrainingStream(records_, 2, 0, (40,), 60, "double")
    seen: dict[str, set] = {}
    for step, batch in enumerate(stream.dataset().take(7).as_numpy_iterator()):  # one epoch of 14
        for i, image_id in enumerate(stream.image_ids(step)):
            mirrored = stream.choice(2 * step + i).flipped
            seen.setdefault(image_id, set()).add(mirrored)
            if image_id == "f":
                expected = [[4, 4, 24, 24], [19, 24, 36, 44]]
                if mirrored:
                    expected = [[y1, 48 - x2, y2, 48 - x1] for y1, x1, y2, x2 in expected]
                np.testing.assert_array_equal(batch["gt_boxes"][i], expected)
                assert batch["gt_classes"][i].tolist() == [2, 1]
    assert seen == {name: {False, True} for name in "abcdefg"}
    mean, std = target_statistics(records_, 2000, True)
    assert mean.shape == std.shape == (3, 4)


def test_coco_crowds_leave_out_proposals(tmp_path):
    """The crowd of cats is [y 6 to 16.5, x 4 to 24]; the cow has the same box."""
    coco, file = tiny_coco.make(tmp_path / "coco"), tmp_path / "p.json"
    boxes = [[6, 4, 16, 24], [6, 10, 16, 30], [6, 4, 26, 24], [30, 30, 39, 39], [7, 5, 12, 12]]
    run(coco, tmp_path / "out", ("train",), format="coco", proposals=proposals(file, {"a": boxes}))
    reader = open_split(tmp_path / "out", "train", FIELD)

    def trained_on(**changes):
        stream = TrainingStream(reader, 1, 0, (40,), 60, "none", **changes)
        return next(iter(stream.dataset().as_numpy_iterator()))

    # Inside: all of the first, 0.7 of the second, 0.525 of the third, all of the last.
    batch = trained_on()
    np.testing.assert_array_equal(batch["proposals"][0], np.float32(boxes)[[1, 2, 3]])
    assert batch["gt_boxes"].tolist() == [[[6, 4, 16.5, 24]]]
    assert batch["gt_classes"].tolist() == [[2]]
    batch = trained_on(crowd_ioa=1.0)
    np.testing.assert_array_equal(batch["proposals"][0], boxes)
    batch = trained_on(max_proposals=2)
    np.testing.assert_array_equal(batch["proposals"][0], np.float32(boxes)[[1]])
