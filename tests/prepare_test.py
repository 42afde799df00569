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
from PIL import Image

from ohem_tf import prepare
from ohem_tf.data import records
from ohem_tf.errors import InputError

REPOSITORY = Path(__file__).parents[1]
SIZE = (48, 40)  # width, height


def make_image(root, image_id, *objects, size=SIZE, name=None) -> None:
    """A picture with a rectangle for each object (class, xmin, ymin, xmax, ymax[, difficult])."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, image_id)))
    pixels = rng.integers(0, 12, (size[1], size[0], 3))
    text = f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
    for label, x0, y0, x1, y1, *difficult in objects:
        pixels[max(y0 - 1, 0) : y1, max(x0 - 1, 0) : x1] += rng.integers(60, 240, 3)
        box = f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        flag = f"<difficult>{int(bool(difficult))}</difficult>"
        text += f"<object><name>{label}</name>{flag}<bndbox>{box}</bndbox></object>"
    image = Image.fromarray(np.minimum(pixels, 255).astype(np.uint8))
    image.save(root / "JPEGImages" / (name or f"{image_id}.png"))
    (root / "Annotations" / f"{image_id}.xml").write_text(text + "</annotation>")


def make_split(root, name, *ids) -> None:
    (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids))


@pytest.fixture
def root(tmp_path):
    """Five training images (one without an object) and two test images."""
    root = tmp_path / "voc"
    make_image(root, "a", ("dog", 5, 5, 24, 24), ("cat", 25, 20, 44, 36))
    make_image(root, "b", ("cat", 10, 8, 30, 30), ("cat", 1, 1, 9, 9, True), name="b.JPG")
    make_image(root, "c")
    make_image(root, "d", ("dog", 0, 4, 20, 30))
    make_image(root, "e", ("cat", 12, 12, 40, 33))
    make_image(root, "t", ("dog", 8, 8, 30, 30))
    make_image(root, "u", ("cat", 6, 8, 20, 30))
    make_split(root, "train", *"abcde")
    make_split(root, "test", *"tu")
    return root


def options(root, output, **changes) -> prepare.Options:
    base = prepare.Options("voc", str(root), ("train", "test"), str(output), shard_size=2)
    return dataclasses.replace(base, **changes)


def files(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def read(directory, split) -> list[records.Record]:
    return [records.from_example(item) for item in records.RecordReader(directory, split)]


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
    make_image(root, "u", ("cow", 6, 8, 20, 30))
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


def test_a_killed_run_goes_on_to_the_same_bytes(root, tmp_path):
    prepare.prepare(options(root, tmp_path / "whole"))
    broken = tmp_path / "broken"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(root), str(broken)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    assert run.returncode == -9, run.stderr.decode()
    assert not (broken / "dataset.json").exists()
    before = {path: path.stat() for path in broken.glob("*.tfrecord")}
    assert len(before) == 2
    prepare.prepare(options(root, broken))
    for path, stat in before.items():
        now = path.stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert files(broken) == files(tmp_path / "whole")


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
    make_image(root, "a", ("dog", 5, 5, 24, 25))
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


def damage(root, kind) -> str:
    """Spoils the folder; returns what the message must hold."""
    image, xml = root / "JPEGImages/e.png", root / "Annotations/e.xml"
    if kind == "missing image":
        image.unlink()
        return "JPEGImages/e.jpg: image is missing"
    if kind == "truncated image":
        image.write_bytes(image.read_bytes()[:-30])
        return "e.png: truncated or damaged"
    if kind == "no image":
        image.write_bytes(b"hello")
        return "e.png: not an image"
    if kind == "xml":
        xml.write_text("<annotation>")
        return "e.xml: xml that does not parse"
    if kind == "empty box":
        make_image(root, "e", ("cat", 12, 12, 12, 33), ("dog", 5, 5, 24, 24))
        return "e.xml: object 1 (cat): empty box"
    make_image(root, "e", ("cat", 12, 12, 50, 33), ("dog", 5, 5, 24, 24))
    return "e.xml: object 1 (cat): the box xmin=12, ymin=12, xmax=50, ymax=33 lies 2 px outside"


BAD_IMAGES = ["missing image", "truncated image", "no image"]
BAD_OBJECTS = ["empty box", "outside"]


@pytest.mark.parametrize("kind", [*BAD_IMAGES, *BAD_OBJECTS, "xml"])
def test_bad_records_end_it_before_any_proposal(root, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(
        prepare.proposals, "selective_search", lambda *_: pytest.fail("a proposal was computed")
    )
    expected = damage(root, kind)
    with pytest.raises(InputError) as caught:
        prepare.prepare(options(root, tmp_path / "out", splits=("test", "train")))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [*BAD_IMAGES, *BAD_OBJECTS])
def test_skip_drops_objects_and_only_unreadable_images(root, tmp_path, kind, capsys):
    damage(root, kind)
    info = prepare.prepare(options(root, tmp_path / "out", on_bad_record="skip"))
    ids = [record.image_id for record in read(tmp_path / "out", "train")]
    (cause,) = info["splits"]["train"]["skipped"]
    assert info["splits"]["train"]["skipped"] == {cause: 1}
    assert f"skipped: {cause} 1" in capsys.readouterr().out
    assert ids == list("abcd" if kind in BAD_IMAGES else "abcde")
    if kind in BAD_OBJECTS:
        last = read(tmp_path / "out", "train")[-1]
        np.testing.assert_array_equal(last.boxes, [[4, 4, 24, 24]])


def test_skip_does_not_cover_an_annotation_that_cannot_be_read(root, tmp_path):
    damage(root, "xml")
    with pytest.raises(InputError, match="xml that does not parse"):
        prepare.prepare(options(root, tmp_path / "out", on_bad_record="skip"))


def test_given_classes_set_the_order_and_skip_drops_the_others(root, tmp_path):
    with pytest.raises(InputError, match=r"a\.xml: object 1: unknown class 'dog'"):
        prepare.prepare(options(root, tmp_path / "out", classes=("cat",)))
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


def make_coco(root) -> None:
    ids = {"a": 11, "b": 5}
    (root / "annotations").mkdir(parents=True)
    for split, name in (("train", "a"), ("val", "b")):
        make_image(root / "voc", name)
        (root / split).mkdir()
        os.rename(root / f"voc/JPEGImages/{name}.png", root / split / f"{name}.png")
        annotation = {"image_id": ids[name], "category_id": 7, "bbox": [4, 6, 20, 10.5]}
        crowd = annotation | {"category_id": 3, "iscrowd": 1, "id": 2, "area": 42.5}
        data = {
            "images": [{"id": ids[name], "file_name": f"{name}.png", "height": 40, "width": 48}],
            "categories": [{"id": 7, "name": "cow"}, {"id": 3, "name": "cat"}],
            "annotations": [annotation | {"id": 1}, crowd],
        }
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(data))


def test_coco(tmp_path):
    make_coco(tmp_path / "coco")
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "x"}, "--format=x: expected one of voc, coco"),
        ({"num_workers": 0}, "--num_workers=0: expected at least 1"),
        ({"splits": ("train", "train")}, "--split=train,train: expected each split once"),
        ({"splits": ("a/b",)}, "--split: 'a/b' is no name"),
        ({"images": "x"}, "--images: is for --format=coco"),
        ({"format": "coco", "images": "x"}, "--images=x: expected {split} in it"),
        ({"root": None}, "--root: expected the folder"),
        ({"classes": ("a", "a")}, "--classes=a,a: expected each name once"),
    ],
)
def test_bad_options(changes, message):
    base = {"format": "voc", "root": "r", "splits": ("train", "test"), "output": "o"}
    with pytest.raises(InputError) as caught:
        prepare.Options(**base | changes)
    assert str(caught.value).startswith(message)


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
    assert records.RecordReader(tmp_path / "out", "test").classes == ("dog", "cat")
    damage(root, "truncated image")
    bad = run("--split=train", "--num_workers=2")
    assert bad.returncode == 1
    assert "Traceback" not in bad.stderr
    last = bad.stderr.rstrip().splitlines()[-1]
    assert last.startswith(f"error: {root}/JPEGImages/e.png: truncated or damaged")
