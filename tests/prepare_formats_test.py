"""prepare and check on what labelling tools write, with a validation split made."""

from __future__ import annotations

import json
import pickle

import command_line
import numpy as np
import pytest
import tiny_coco
import tiny_formats as tiny
import tiny_voc

from ohem_tf import check, prepare
from ohem_tf.data import beam, one_image, records, shards
from ohem_tf.data.options import Options
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError

PICTURES = {
    f"{name}{i}": tiny.PICTURES[name] for name in ("a", "b", "c", "empty") for i in range(5)
}


def options(root, output, kind="auto", splits=("train", "val"), **changes) -> Options:
    return Options(kind, str(root), splits, str(output), proposals="none", **changes)


def read(directory, split) -> dict[str, records.Record]:
    return {r.image_id: r for r in map(records.from_example, RecordReader(directory, split))}


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_from_a_flat_folder_to_two_splits(tmp_path, kind):
    root, out = tiny.make(tmp_path / "root", kind, PICTURES), tmp_path / "out"
    info = prepare.prepare(options(root, out, val_fraction=0.2))
    assert (info["format"], set(info["classes"])) == (kind, set(tiny.CLASSES))
    train, val = read(out, "train"), read(out, "val")
    images = 15 if kind == "open_images" else 20
    assert (len(train), len(val)) == (images * 4 // 5, images // 5)
    for name in tiny.CLASSES:  # each in 10 of the images
        label = info["classes"].index(name) + 1
        assert abs(sum(label in record.classes for record in val.values()) - 2) <= 1
    for image_id, record in (train | val).items():
        objects = PICTURES[image_id.rpartition("/")[2]]
        corners = np.array([o[1:] for o in objects], float).reshape(-1, 4)[:, [1, 0, 3, 2]]
        np.testing.assert_allclose(record.boxes, corners, atol=1e-4)
        names = [info["classes"][label - 1] for label in record.classes]
        assert names == [o[0] for o in objects]
    # Again: nothing is written anew, and the same images are held out.
    assert prepare.prepare(options(root, out, kind, val_fraction=0.2)) == info
    with pytest.raises(InputError, match="split 'train' was prepared there from other input"):
        prepare.prepare(options(root, out, val_fraction=0.2, split_seed=1))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_check_reads_what_prepare_reads(tmp_path, kind, capsys):
    root = tiny.make(tmp_path / "root", kind, PICTURES)
    flags = (f"--root={root}", "--val_fraction=0.2", "--num_workers=1", "--min_examples=1")
    result = command_line.run("ohem_tf.check", *flags, f"--output={tmp_path / 'report'}")
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "report/check.json").read_text())
    info = prepare.prepare(options(root, tmp_path / "out", val_fraction=0.2))
    for name, split in found["splits"].items():
        assert split["images"] == info["splits"][name]["images"]
        assert split["objects"] == info["splits"][name]["objects"]
    next(root.rglob("b0.png")).write_bytes(b"hello")
    outcome = check.check(options(root, "", kind, ("train",)), min_examples=0)
    assert [f.kind for f in outcome.findings if f.level == "error"] == ["image unreadable"]


def test_worker_processes_read_the_same(tmp_path):
    for kind in ("yolo", "cvat"):
        root = tiny.make(tmp_path / kind, kind)
        for workers in (0, 1):
            out = tmp_path / f"{kind}{workers}"
            prepare.prepare(options(root, out, splits=("train",), num_workers=workers))
        first, second = (
            (tmp_path / f"{kind}{n}/train-00000-of-00001.tfrecord").read_bytes() for n in (0, 1)
        )
        assert first == second


@pytest.mark.parametrize("kind", ["yolo", "cvat", "voc"])
def test_a_worker_of_beam_writes_the_same_shard(tmp_path, kind):
    root = tiny.make(tmp_path / "root", kind)
    split = tiny.split(root, kind)
    classes = prepare.splits.find_classes(split)
    job = beam.Job(tmp_path / "beam", "train", one_image.Settings(classes), None)
    shard = shards.Todo("train-00000-of-00001.tfrecord", split.entries)
    job.folder.mkdir(parents=True)
    todo = job.folder / f"{shard.name}.todo"
    boxes = [np.zeros((0, 4), np.float32)] * len(split.entries)
    todo.write_bytes(pickle.dumps((job, shard, boxes)))
    beam.write_shard(str(todo))
    prepare.prepare(options(root, tmp_path / "local", splits=("train",)))
    assert (tmp_path / "local" / shard.name).read_bytes() == (
        (tmp_path / "beam" / shard.name).read_bytes()
    )


def test_the_devkit_and_coco_are_divided_too(tmp_path):
    root = tiny_voc.make(tmp_path / "voc")
    info = prepare.prepare(options(root, tmp_path / "one", val_fraction=0.4))
    ids = [info["splits"][name]["image_ids"].split() for name in ("train", "val")]
    assert (sorted(ids[0] + ids[1]), len(ids[1])) == (list("abcde"), 2)
    three = options(root, tmp_path / "two", splits=("train", "val", "test"), val_fraction=0.4)
    info = prepare.prepare(three)
    assert info["splits"]["test"]["image_ids"] == "t u"
    with pytest.raises(InputError, match="the split 'test' is there already; leave the flag out"):
        prepare.prepare(options(root, tmp_path / "x", splits=("train", "test"), val_fraction=0.4))
    coco = tiny_coco.make(tmp_path / "coco")
    with pytest.raises(InputError, match=r"--val_fraction=0\.5: of the 1 images of 'val', 0 would"):
        prepare.prepare(options(coco, tmp_path / "y", "coco", ("val", "held"), val_fraction=0.5))


def test_a_folder_of_roboflow_with_train_alone(tmp_path):
    tiny.make(tmp_path / "root/train", "voc", PICTURES)
    info = prepare.prepare(options(tmp_path / "root", tmp_path / "out", val_fraction=0.25))
    assert [info["splits"][name]["images"] for name in ("train", "val")] == [15, 5]
    assert {len(i) for i in info["splits"]["val"]["image_ids"].split()} <= {2, 6}  # no "train/"


def test_coco_of_roboflow(tmp_path):
    coco = tiny_coco.make(tmp_path / "coco")
    for name in ("train", "val"):
        json_file = coco / f"annotations/instances_{name}.json"
        json_file.rename(coco / name / "_annotations.coco.json")
    (coco / "voc").rename(tmp_path / "voc")
    info = prepare.prepare(options(coco, tmp_path / "out"))
    assert (info["format"], info["classes"], info["category_ids"]) == (
        "coco",
        ["cat", "cow"],
        [3, 7],
    )


def test_the_format_of_an_output_stays(tmp_path):
    for kind in ("voc", "yolo"):
        tiny.make(tmp_path / kind, kind)
    prepare.prepare(options(tmp_path / "voc", tmp_path / "out", splits=("train",)))
    with pytest.raises(InputError, match="format there: voc, now: yolo"):
        prepare.prepare(options(tmp_path / "yolo", tmp_path / "out", splits=("more",)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["yolo", "voc"])
@pytest.mark.usefixtures("tiny_backbone")
def test_two_commands_from_raw_data_to_training(tmp_path, kind):
    """README's: with a tiny backbone, and two steps of training; then with what is mined."""
    root = tiny.make(tmp_path / "mine", kind, PICTURES)
    flags = (f"--root={root}", "--val_fraction=0.2", "--proposals=none", "--num_workers=0")
    result = command_line.run("ohem_tf.prepare", *flags, f"--output={tmp_path / 'records/mine'}")
    assert result.returncode == 0, result.stderr
    assert f"format: {kind}, by" in result.stdout
    config = f"--config=configs/finetune.py:{tmp_path / 'records/mine'},hed"
    few = ("steps=2", "decay_steps=()", "checkpoint_every=2", "eval_every=2", "log_every=1")
    fields = [f"--config.train.{field}" for field in few]
    fields += ["--config.head.hidden=(8,)", "--config.rpn.channels=8"]
    workdir = f"--workdir={tmp_path / 'run'}"
    result = command_line.run("ohem_tf.train", config, workdir, *fields)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run/best.weights.h5").exists()

    if kind == "voc":
        return
    images, mined = tmp_path / "unlabelled", tmp_path / "mined"
    for i in range(3):
        tiny.picture(images / f"{i}.png", f"unlabelled {i}")
    flags = (f"--images={images}/*.png", f"--output={mined}", "--min_score=0.001")
    result = command_line.run("ohem_tf.mine", workdir, *flags)
    assert result.returncode == 0, result.stderr
    assert "3 of 3 images have a detection of 0.001 or more" in result.stdout
    flags = (f"--root={mined}", "--split=train", f"--classes={mined}/classes.txt")
    more = ("--proposals=none", "--num_workers=0", f"--output={tmp_path / 'records/mined'}")
    result = command_line.run("ohem_tf.prepare", *flags, *more)
    assert result.returncode == 0, result.stderr
    fields.append(f"--config.data.dir={tmp_path / 'records'}")
    fields.append("--config.data.train_split=mine/train+mined/train")
    fields.append("--config.data.eval_split=mine/val")
    result = command_line.run("ohem_tf.train", config, f"--workdir={tmp_path / 'again'}", *fields)
    assert result.returncode == 0, result.stderr
