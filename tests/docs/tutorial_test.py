"""The commands of docs/tutorial.md run, in their order, on a few scenes and with tiny networks.

Not run: pip (what is installed is what the tests have), docker compose (its server is replaced by
one that answers the same requests from Python), and compare, which compare_test.py runs.
"""

import shutil

import command_line
import pytest
import tensorflow as tf
import tiny
from page_blocks import blocks, noted

from benchmarks import loopback_server
from docs.scripts.pages import ROOT
from ohem_tf.__main__ import COMMANDS

NOT_RUN = {"pip", "docker", "compare"}
# Sizes, for the sake of time.
SMALL = {
    "scenes": ["--train=5", "--val=3"],
    "train": [
        f"--config.{field}"
        for field in (
            *("pyramid.channels=8", "head.hidden=(8,)", "train.steps=2", "train.decay_steps=()"),
            *("train.warmup_steps=0", "train.images_per_step=1", "rpn.train_proposals=20"),
        )
    ],
    "mine": ["--min_score=0.001"],
}


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    build = "ohem_tf.models.backbones.build"
    monkeypatch.setattr(build, lambda **_: (tiny.pyramid_backbone(), {}))
    commands = [
        words for block in blocks("docs/tutorial.md", "") for words in noted(block, tmp_path)
    ]
    ran = []
    for program, *arguments in commands:
        name = arguments[0] if program == "ohem" else program
        if name in NOT_RUN:
            continue
        ran.append(name)
        if name == "mine":
            shutil.copytree("MINE/JPEGImages", "background")
        arguments = [*arguments[1:], *SMALL.get(name, [])]
        if name == "client":
            loaded = tf.saved_model.load("exports/mine/1")
            with loopback_server.grpc_server(loopback_server.Backend(loaded)) as address:
                arguments[0] = f"--server={address}"
                done = command_line.run(COMMANDS[name][0], *arguments)
        else:
            done = command_line.run(COMMANDS[name][0], *arguments)
        assert done.returncode == 0, f"{name} {arguments}\n{done.stderr[-2000:]}"
    assert {*("scenes", "check", "prepare", "train", "evaluate"), "export", "client"} < set(ran)
    for file in (
        *("report/check.html", "records/mine/dataset.json", "runs/mine/metrics.json"),
        *("runs/mine/report.html", "found/detections.png", "doubts/check.html"),
        *("exports/mine/1/saved_model.pb", "found_by_server/detections.json"),
    ):
        assert (tmp_path / file).is_file(), file
    answers = [
        (tmp_path / folder / "detections.json").read_text()
        for folder in ("found_by_export", "found_by_server")
    ]
    assert answers[0]
    assert len(answers[0]) == pytest.approx(len(answers[1]), rel=0.2)
