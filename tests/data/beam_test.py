"""Shards by Beam: the bytes of the local run, its counts and refusals; taken over after a kill."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import tiny_voc

from ohem_tf import prepare
from ohem_tf.data import beam, one_image, shards
from ohem_tf.errors import InputError


@pytest.fixture
def root(tmp_path):
    return tiny_voc.make(tmp_path / "voc")


@pytest.fixture
def needs_beam():
    pytest.importorskip("apache_beam", reason="needs the extra [beam], in an environment apart")


def options(root, output, **changes) -> prepare.Options:
    base = prepare.Options("voc", str(root), ("train", "test"), str(output), shard_size=2)
    return dataclasses.replace(base, **changes)


def files(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


@pytest.mark.usefixtures("needs_beam")
@pytest.mark.parametrize("proposals", ["selective_search", "file"])
@pytest.mark.parametrize("damage", [None, "truncated image", "empty box"])
def test_beam_writes_the_bytes_that_processes_write(
    root, tmp_path, proposals, damage, monkeypatch, capsys
):
    """Shards, dataset.json with its counts, and the closing table; with relative paths."""
    changes = {"on_bad_record": "skip"} if damage else {}
    if damage:
        tiny_voc.damage(root, damage)
    if proposals == "file":
        boxes = {name: [[0, 0, 9, 9], [4, 4, 24, 24]] for name in "abcdetu"}
        (tmp_path / "p.json").write_text(json.dumps(boxes))
        changes["proposals"] = str(tmp_path / "p.json")
    monkeypatch.chdir(tmp_path)
    prepare.prepare(options("voc", "local", **changes))
    local = capsys.readouterr().out
    prepare.prepare(options("voc", "beam", runner="DirectRunner", **changes))
    assert files(tmp_path / "beam") == files(tmp_path / "local")
    assert capsys.readouterr().out == local.replace("written to local", "written to beam")


@pytest.mark.usefixtures("needs_beam")
def test_a_bad_record_is_refused_before_the_job(root, tmp_path, monkeypatch):
    monkeypatch.setattr(beam, "write", lambda *_: pytest.fail("it began a job"))
    expected = tiny_voc.damage(root, "truncated image")
    with pytest.raises(InputError, match=expected):
        prepare.prepare(options(root, tmp_path / "out", runner="DirectRunner"))


@pytest.mark.usefixtures("needs_beam")
def test_what_a_worker_refuses_is_one_line_and_the_next_run_takes_over(root, tmp_path, monkeypatch):
    image = root / "JPEGImages/e.png"
    whole = image.read_bytes()
    check = prepare.splits.Split.check

    def check_then_damage(split, workers):
        check(split, workers)
        image.write_bytes(whole[:-30])

    with monkeypatch.context() as patch:
        patch.setattr(prepare.splits.Split, "check", check_then_damage)
        with pytest.raises(InputError, match=r"e\.png: truncated.*changed since it was checked"):
            prepare.prepare(
                options(root, tmp_path / "out", splits=("train",), runner="DirectRunner")
            )
    image.write_bytes(whole)
    before = {path: path.stat().st_ino for path in (tmp_path / "out").glob("*.tfrecord")}
    assert len(before) == 2
    prepare.prepare(options(root, tmp_path / "out", runner="DirectRunner"))
    assert {path: path.stat().st_ino for path in before} == before
    prepare.prepare(options(root, tmp_path / "local"))
    assert files(tmp_path / "out") == files(tmp_path / "local")


@pytest.mark.usefixtures("needs_beam")
@pytest.mark.parametrize(
    ("runner", "beam_options", "words"),
    [("SlurmRunner", "", "--runner=SlurmRunner"), ("DirectRunner", "'--x", "No closing quotation")],
)
def test_no_such_runner_or_options(root, tmp_path, runner, beam_options, words):
    with pytest.raises(InputError, match=words):
        prepare.prepare(options(root, tmp_path / "out", runner=runner, beam_options=beam_options))
    assert not (tmp_path / "out").exists()


def test_without_beam_it_says_what_to_install(root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError, match=r"needs Apache Beam; pip install -e '\.\[beam\]'"):
        prepare.prepare(options(root, tmp_path / "out", runner="DirectRunner"))


def test_options_of_a_runner_need_one(root, tmp_path):
    with pytest.raises(InputError, match="--beam_options=--project=p: for a --runner"):
        options(root, tmp_path / "out", beam_options="--project=p")


@pytest.fixture
def by_hand(root, tmp_path, monkeypatch):
    """What `write` leaves for a worker, and what it finds afterwards, without Beam."""
    output = tmp_path / "out"
    job = beam.Job(output, "train", one_image.Settings(("cat", "dog")), beam.cv2.__version__)
    split = prepare.splits.list_voc(root, "train")
    split.check(prepare.Workers(0))
    shard = shards.Todo("train-00000-of-00001.tfrecord", split.entries)
    job.folder.mkdir(parents=True)
    todo = job.folder / f"{shard.name}.todo"
    return job, shard, todo


def test_a_worker_writes_a_shard_twice_as_once(by_hand, root, tmp_path):
    job, shard, todo = by_hand
    todo.write_bytes(pickle.dumps((job, shard, None)))
    beam.write_shard(str(todo))
    first = (job.output / shard.name).read_bytes()
    beam.write_shard(str(todo))  # a runner may
    assert (job.output / shard.name).read_bytes() == first
    assert sorted(os.listdir(job.folder)) == [f"{shard.name}.json", f"{shard.name}.todo"]
    (found,) = beam.write(job, "DirectRunner", "", None, [shard], lambda: None)  # all is done
    info = prepare.prepare(options(root, tmp_path / "local", splits=("train",), shard_size=8))
    assert [found] == info["splits"]["train"]["shards"]
    assert first == (tmp_path / "local" / shard.name).read_bytes()
    assert not job.folder.exists()


def test_a_worker_with_another_opencv_is_refused(by_hand):
    job, shard, todo = by_hand
    job = dataclasses.replace(job, opencv="4.0.0")
    todo.write_bytes(pickle.dumps((job, shard, None)))
    beam.write_shard(str(todo))
    with pytest.raises(InputError, match=r"a Beam worker has OpenCV .*4\.0\.0 here"):
        list(beam.write(job, "DirectRunner", "", None, [shard], lambda: None))
    assert not (job.output / shard.name).exists()
