"""prepare end to end: what is in the records, what is refused, and going on after a kill."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tiny_coco
import tiny_voc

from ohem_tf import files as files_module
from ohem_tf import prepare
from ohem_tf.data import records
from ohem_tf.data.options import read_classes
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path):
    return tiny_voc.make(tmp_path / "voc")


def options(root, output, **changes) -> prepare.Options:
    base = prepare.Options("voc", str(root), ("train", "test"), str(output), shard_size=2)
    return dataclasses.replace(base, **changes)


def files(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def read(directory, split) -> list[records.Record]:
    return [records.from_example(item) for item in RecordReader(directory, split)]


def test_records_hold_what_the_folder_holds(root, tmp_path, capsys):
    info = prepare.prepare(options(root, tmp_path / "out"))
    assert info == json.loads((tmp_path / "out/dataset.json").read_text())
    assert (info["format"], info["classes"], info["category_ids"]) == ("voc", ["cat", "dog"], None)
    train = info["splits"]["train"]
    assert [train[k] for k in ("images", "objects", "difficult", "crowd")] == [5, 6, 1, 0]
    assert (train["clipped"], train["skipped"]) == (1, {})
    assert train["per_class"] == {"cat": 4, "dog": 2}
    assert [s["records"] for s in train["shards"]] == [2, 2, 1]
    assert sorted(files(tmp_path / "out")) == sorted(
        ["dataset.json", "test-00000-of-00001.tfrecord"]
        + [f"train-0000{i}-of-00003.tfrecord" for i in range(3)]
    )

    found = {record.image_id: record for record in read(tmp_path / "out", "train")}
    assert list(found) == list("abcde")
    np.testing.assert_array_equal(found["a"].boxes, [[4, 4, 24, 24], [19, 24, 36, 44]])
    np.testing.assert_array_equal(found["a"].classes, [2, 1])
    np.testing.assert_array_equal(found["a"].area, [400, 17 * 20])
    np.testing.assert_array_equal(found["b"].difficult, [False, True])
    np.testing.assert_array_equal(found["d"].boxes, [[3, 0, 30, 20]])  # clipped by a pixel
    assert found["c"].boxes.shape == (0, 4)
    assert (found["b"].image_format, found["b"].filename) == ("jpeg", "b.JPG")
    assert (found["a"].image_format, found["a"].height, found["a"].width) == ("png", 40, 48)
    assert found["a"].encoded == (root / "JPEGImages/a.png").read_bytes()

    boxes = train["proposals"]
    assert (boxes["method"], boxes["mode"]) == ("selective_search", "fast")
    assert boxes["count"] == sum(len(record.proposals) for record in found.values())
    assert boxes["mean_per_image"] == boxes["count"] / 5
    assert 0 < boxes["recall_at_0.5"] <= 1
    assert boxes["countable_objects"] == 5
    text = capsys.readouterr().out
    assert "the ceiling of any detector trained on them" in text
    assert "images without an object: 1" in text


def test_a_second_split_takes_the_classes_of_the_first(root, tmp_path):
    prepare.prepare(options(root, tmp_path / "one"))
    prepare.prepare(options(root, tmp_path / "two", splits=("train",)))
    prepare.prepare(options(root, tmp_path / "two", splits=("test",)))
    assert files(tmp_path / "one") == files(tmp_path / "two")
    tiny_voc.make_image(root, "u", ("cow", 6, 8, 20, 30))
    with pytest.raises(InputError, match="unknown class 'cow'; expected one of cat, dog"):
        prepare.prepare(options(root, tmp_path / "three"))


def test_workers_do_not_change_the_result(root, tmp_path):
    prepare.prepare(options(root, tmp_path / "one"))
    prepare.prepare(options(root, tmp_path / "two", num_workers=2))
    assert files(tmp_path / "one") == files(tmp_path / "two")


KILLED = """
    import os, signal, sys
    from ohem_tf import prepare
    from ohem_tf.data import records

    write, written = records.write_shard, []

    def write_then_die(path, examples):
        if len(written) == 2:  # two shards are done: die within the third
            write(path, (os.kill(os.getpid(), signal.SIGKILL) or e for e in examples))
        write(path, examples)
        written.append(path)

    records.write_shard = write_then_die
    prepare.prepare(prepare.Options("voc", sys.argv[1], ("train", "test"), sys.argv[2],
                                    shard_size=2))
"""


def test_a_killed_run_resumes_to_the_same_bytes(root, tmp_path):
    prepare.prepare(options(root, tmp_path / "whole"))
    broken = tmp_path / "broken"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(root), str(broken)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    assert run.returncode == -9, run.stderr.decode()
    assert not (broken / "dataset.json").exists()
    before = {path: path.stat() for path in broken.glob("train-*.tfrecord")}
    assert len(before) == 2
    prepare.prepare(options(root, broken))
    for path, stat in before.items():
        now = path.stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert files(broken) == files(tmp_path / "whole")


def test_an_output_has_one_owner(root, tmp_path, monkeypatch):
    output = tmp_path / "out"
    output.mkdir()
    monkeypatch.setattr(files_module, "_PATIENCE_SECONDS", 0.0)
    words = f"--output: {output} is in use by process {os.getpid()} on"
    with files_module.owned(str(output), "output"), pytest.raises(InputError, match=words):
        prepare.prepare(options(root, output))
    assert files(output) == {}


def test_a_finished_run_is_left_alone_and_a_lost_shard_is_made_again(root, tmp_path):
    output = tmp_path / "out"
    prepare.prepare(options(root, output))
    before = files(output)
    nodes = {path: path.stat().st_ino for path in output.glob("*.tfrecord")}
    prepare.prepare(options(root, output))
    assert {path: path.stat().st_ino for path in output.glob("*.tfrecord")} == nodes
    shard = output / "train-00001-of-00003.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-3])
    prepare.prepare(options(root, output))
    assert files(output) == before


def test_other_input_is_refused_unless_it_may_overwrite(root, tmp_path):
    output = tmp_path / "out"
    prepare.prepare(options(root, output))
    with pytest.raises(InputError, match=r"'train' was prepared .*shard_size \(there: 2, now: 3\)"):
        prepare.prepare(options(root, output, shard_size=3))
    with pytest.raises(InputError, match="classes there"):
        prepare.prepare(options(root, output, classes=("dog", "cat")))
    tiny_voc.make_image(root, "a", ("dog", 5, 5, 24, 25))
    with pytest.raises(InputError, match="annotations") as caught:
        prepare.prepare(options(root, output))
    assert "\n" not in str(caught.value)
    prepare.prepare(options(root, output, shard_size=3, overwrite=True, classes=("dog", "cat")))
    prepare.prepare(options(root, tmp_path / "new", shard_size=3, classes=("dog", "cat")))
    assert files(output) == files(tmp_path / "new")
    with pytest.raises(InputError, match=r"use another --output \(the splits test have it\)"):
        prepare.prepare(
            options(root, output, splits=("train",), overwrite=True, classes=("cat", "dog"))
        )


def test_records_without_proposals(root, tmp_path, monkeypatch, capsys):
    searched = prepare.prepare(options(root, tmp_path / "searched"))
    monkeypatch.setattr(
        prepare.proposals, "selective_search", lambda *_: pytest.fail("a proposal was computed")
    )
    monkeypatch.setattr(
        prepare.proposals, "require_selective_search", lambda: pytest.fail("OpenCV was asked")
    )
    info = prepare.prepare(options(root, tmp_path / "out", proposals="none"))
    boxes = info["splits"]["train"]["proposals"]
    assert (boxes["method"], boxes["count"], boxes["recall_at_0.5"]) == ("none", 0, None)
    assert "warning" not in capsys.readouterr().out
    for mine, theirs in zip(
        read(tmp_path / "out", "train"), read(tmp_path / "searched", "train"), strict=True
    ):
        assert mine.proposals.shape == (0, 4)
        assert (mine.image_id, mine.encoded) == (theirs.image_id, theirs.encoded)
        np.testing.assert_array_equal(mine.boxes, theirs.boxes)
    assert info["classes"] == searched["classes"]
    assert not RecordReader(tmp_path / "out", "train").has_proposals
    assert RecordReader(tmp_path / "searched", "train").has_proposals


def refuse_to_check(monkeypatch) -> None:
    monkeypatch.setattr(prepare.splits.Split, "check", lambda *_: pytest.fail("it began to check"))


def test_a_bad_record_ends_it_before_any_proposal(root, tmp_path, monkeypatch):
    monkeypatch.setattr(
        prepare.proposals, "selective_search", lambda *_: pytest.fail("a proposal was computed")
    )
    expected = tiny_voc.damage(root, "truncated image")
    with pytest.raises(InputError, match=expected):
        prepare.prepare(options(root, tmp_path / "out", splits=("test", "train")))
    assert files(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", ["truncated image", "empty box"])
def test_skip_drops_what_is_bad(root, tmp_path, kind, capsys):
    tiny_voc.damage(root, kind)
    info = prepare.prepare(options(root, tmp_path / "out", on_bad_record="skip"))
    ((cause, count),) = info["splits"]["train"]["skipped"].items()
    assert (info["splits"]["train"]["images"], count) == (4 if "image" in kind else 5, 1)
    assert f"skipped: {cause} 1" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_that_cannot_be_a_folder(root, tmp_path, place, monkeypatch):
    refuse_to_check(monkeypatch)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=f"--output: .*{place} cannot be a folder"):
        prepare.prepare(options(root, tmp_path / place))


def test_every_list_is_read_before_the_first_check(root, tmp_path, monkeypatch):
    refuse_to_check(monkeypatch)
    with pytest.raises(InputError, match="tesst"):
        prepare.prepare(options(root, tmp_path / "out", splits=("train", "tesst")))


def test_what_an_earlier_run_left_is_read_before_the_first_check(root, tmp_path, monkeypatch):
    refuse_to_check(monkeypatch)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/test.partial.json").write_text('{"fingerpr')
    with pytest.raises(InputError, match=r"test\.partial\.json: not valid json .*delete it"):
        prepare.prepare(options(root, tmp_path / "out"))


def test_an_opencv_without_selective_search(root, tmp_path, monkeypatch):
    refuse_to_check(monkeypatch)
    monkeypatch.delattr(prepare.cv2, "ximgproc")
    with pytest.raises(InputError, match="opencv-contrib-python-headless"):
        prepare.prepare(options(root, tmp_path / "out"))


def test_proposals_from_a_file_need_no_selective_search(root, tmp_path, monkeypatch):
    monkeypatch.delattr(prepare.cv2, "ximgproc")
    (tmp_path / "p.json").write_text(json.dumps({name: [[0, 0, 9, 9]] for name in "tu"}))
    changes = {"proposals": str(tmp_path / "p.json"), "splits": ("test",)}
    info = prepare.prepare(options(root, tmp_path / "out", **changes))
    assert info["splits"]["test"]["proposals"]["count"] == 2


def test_skip_drops_the_objects_of_other_classes(root, tmp_path):
    info = prepare.prepare(options(root, tmp_path / "out", classes=("cat",), on_bad_record="skip"))
    assert info["splits"]["train"]["skipped"] == {"unknown class": 2}
    assert info["splits"]["train"]["images"] == 5


def test_proposals_from_a_file(root, tmp_path, capsys):
    boxes = {"a": [[4, 4, 24, 24], [0, 0, 5, 5]], "b": [[7, 9, 30, 30]], "c": [], "d": []}
    boxes["e"] = [[0, 0, 40, 48]]
    (tmp_path / "p.json").write_text(json.dumps(boxes | {"t": [], "u": []}))
    changes = {"proposals": str(tmp_path / "p.json"), "splits": ("train",)}
    info = prepare.prepare(options(root, tmp_path / "out", **changes))
    found = info["splits"]["train"]["proposals"]
    # Of a's two objects, b's one that is not difficult, d's and e's: dog of a and cat of b.
    assert (found["count"], found["countable_objects"], found["images_without"]) == (4, 5, 2)
    assert found["recall_at_0.5"] == 2 / 5
    assert "warning: 2 images have no proposal" in capsys.readouterr().out
    assert [len(r.proposals) for r in read(tmp_path / "out", "train")] == [2, 1, 0, 0, 1]
    del boxes["d"]
    (tmp_path / "p.json").write_text(json.dumps(boxes))
    with pytest.raises(InputError, match=r"p\.json: proposals missing for image d"):
        prepare.prepare(options(root, tmp_path / "new", **changes))


def test_coco(tmp_path):
    tiny_coco.make(tmp_path / "coco")
    base = options(tmp_path / "coco", tmp_path / "out", format="coco", splits=("train", "val"))
    info = prepare.prepare(base)
    assert (info["classes"], info["category_ids"]) == (["cat", "cow"], [3, 7])
    assert info["splits"]["val"]["crowd"] == 1
    (record,) = read(tmp_path / "out", "train")
    assert (record.image_id, record.filename) == ("11", "a.png")
    np.testing.assert_array_equal(record.boxes, [[6, 4, 16.5, 24]] * 2)
    np.testing.assert_array_equal(record.classes, [2, 1])
    np.testing.assert_array_equal(record.crowd, [False, True])
    np.testing.assert_array_equal(record.area, [210, 42.5])
    assert info["splits"]["train"]["proposals"]["countable_objects"] == 1

    elsewhere = dataclasses.replace(
        base,
        root=None,
        output=str(tmp_path / "two"),
        annotations=str(tmp_path / "coco/annotations/instances_{split}.json"),
        images=str(tmp_path / "coco/{split}"),
    )
    prepare.prepare(elsewhere)
    assert files(tmp_path / "out") == files(tmp_path / "two")

    path = tmp_path / "coco/annotations/instances_val.json"
    path.write_text(path.read_text().replace('id": 7', 'id": 8'))
    with pytest.raises(InputError, match="category 'cow' has id 8, but 7"):
        prepare.prepare(dataclasses.replace(base, output=str(tmp_path / "three")))


def test_coco_boxes_without_area_are_dropped_and_counted(tmp_path, capsys):
    """As train2014 has them (annotations 918 and 2206849): its command needs no flag."""
    tiny_coco.make(tmp_path / "coco")
    path = tmp_path / "coco/annotations/instances_train.json"
    data = json.loads(path.read_text())
    flat = {"image_id": 11, "category_id": 7, "bbox": [9.98, 18.56, 15.52, 0.0], "id": 918}
    data["annotations"].insert(1, flat)
    path.write_text(json.dumps(data))
    given = options(tmp_path / "coco", tmp_path / "out", format="coco", splits=("train", "val"))
    info = prepare.prepare(given)
    assert [s["skipped"] for s in info["splits"].values()] == [{"box without area": 1}, {}]
    assert "skipped: box without area 1\n" in capsys.readouterr().out
    (record,) = read(tmp_path / "out", "train")
    np.testing.assert_array_equal(record.boxes, [[6, 4, 16.5, 24]] * 2)
    np.testing.assert_array_equal(record.crowd, [False, True])

    flat["bbox"][3] = -1.0
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"train.json: annotation 918 \(cow\): empty box"):
        prepare.prepare(dataclasses.replace(given, output=str(tmp_path / "new")))


def test_the_binary_ends_with_one_line_and_reads_a_file_of_classes(root, tmp_path):
    (tmp_path / "classes.txt").write_text("dog\n\ncat\n")
    command = [sys.executable, "-m", "ohem_tf.prepare", "--format=voc", f"--root={root}"]
    command += [f"--output={tmp_path / 'out'}", f"--classes={tmp_path / 'classes.txt'}"]

    def run(*more):
        return subprocess.run(
            [*command, *more], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )

    good = run("--split=test", "--num_workers=1")
    assert good.returncode == 0, good.stderr
    assert RecordReader(tmp_path / "out", "test").classes == ("dog", "cat")
    tiny_voc.damage(root, "truncated image")
    bad = run("--split=train", "--num_workers=1")
    assert bad.returncode == 1
    assert "Traceback" not in bad.stderr
    last = bad.stderr.rstrip().splitlines()[-1]
    assert last.startswith(f"error: {root}/JPEGImages/e.png: truncated or damaged")


def test_a_file_of_classes_that_is_not_text(root, tmp_path):
    (tmp_path / "classes.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(InputError, match=r"--classes=.*classes\.txt: cannot be read .*UTF-8"):
        read_classes(str(tmp_path / "classes.txt"))
    with pytest.raises(InputError, match=r"--classes=.*none\.txt: not found"):
        read_classes(str(tmp_path / "none.txt"))
