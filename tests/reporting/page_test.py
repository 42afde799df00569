"""The page of a report: whole, of nothing from outside, no markup from data; in a browser too."""

from __future__ import annotations

import io
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from evaluated import LOG
from html_reader import Reader
from PIL import Image

from ohem_tf.checking.findings import LOOK, SUSPECT, Finding, Mark, Picture
from ohem_tf.checking.recall import Recall
from ohem_tf.errors import InputError
from ohem_tf.reporting import page as pages
from ohem_tf.reporting.content import analyse, worst
from ohem_tf.reporting.doubts import HARD, Doubts
from ohem_tf.reporting.page import Report
from ohem_tf.reporting.runs import Run

ROOT = pathlib.Path(__file__).resolve().parents[2]
EVIL = "<script>alert(1)</script>"
CLASSES = (EVIL, "dog", "cow")
IDS = [f"{EVIL}{i}" for i in range(8)]
SECTIONS = {
    *("overview", "training", "classes", "curves", "confusion", "errors", "sizes", "calibration"),
    *("recall", "losses", "false", "misses", "settings"),
}


def picture(_, image_id) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (80, 60), (10, 10 + 20 * IDS.index(image_id), 90)).save(buffer, "PNG")
    return buffer.getvalue()


def truth_and_detections(seed):
    """Objects of three classes, and detections that are right two times out of three."""
    rng = np.random.default_rng(0)
    truth, corners = [], rng.uniform(0, 30, (8, 2, 2))
    sides = rng.uniform(15, 28, (8, 2, 2))
    classes = rng.integers(1, 4, (8, 2))
    rng = np.random.default_rng(seed)
    found = []
    for corner, side, label in zip(corners, sides, classes, strict=True):
        boxes = np.concatenate([corner, corner + side], axis=1)
        truth.append({"boxes": boxes, "classes": label, "difficult": np.zeros(2, bool)})
        moved = np.repeat(boxes, 2, axis=0) + rng.normal(0, 2, (4, 4))
        kinds = np.where(rng.random(4) < 0.7, np.repeat(label, 2), rng.integers(1, 4, 4))
        found.append({"boxes": moved, "classes": kinds, "scores": rng.random(4)})
    return truth, found


def run(name, found, sampler):
    config = {"sampler": sampler, "seed": 0, "data": {"dir": EVIL, "flip": "none"}}
    versions = {"keras": "3.15"}
    settings = {"split": "records/val", "checkpoint": "ckpt-4"}
    return Run(
        name, f"runs/{name}", config, CLASSES, versions, LOG, "voc07", 0.5, IDS, found, settings
    )


def report(runs=2, comparison=None, model=True) -> Report:
    truth, first = truth_and_detections(1)
    all_runs = [run(f"ohem{EVIL}", first, "ohem")]
    all_runs += [run(f"frcn-{i}", truth_and_detections(i)[1], "frcn") for i in range(2, runs + 1)]
    analyses = [analyse(truth, r.detections, CLASSES, "voc07", 0.5, 5) for r in all_runs]
    recall = Recall(CLASSES)
    recall.count("dog", 100.0, True)
    finding = [
        Finding(kind, LOOK, "val", f"{EVIL} {kind}", (Picture("val", i, (Mark((1, 1, 9, 9)),)),))
        for kind in (SUSPECT, HARD)
        for i in IDS[:3]
    ]
    return Report(
        runs=all_runs,
        analyses=analyses,
        sentences=[EVIL],
        split="val",
        proposals=recall.as_json() if model else None,
        proposals_are="They are the model's own.",
        doubts=Doubts(finding, 3, recall) if model else None,
        false_positives=worst(truth, first, 0.5, 0.5, 4)[0],
        misses=worst(truth, first, 0.5, 0.5, 4)[1],
        comparison=comparison,
        read=picture,
    )


@pytest.fixture
def comparison():
    content = json.loads((ROOT / "docs/results/voc07_320.json").read_text())
    return content | {"command": EVIL}


def sections(read) -> set[str]:
    return {attributes["aria-labelledby"] for attributes in read.all("section")}


@pytest.mark.parametrize("runs", [1, 2, 6])
def test_the_page_is_whole(runs):
    read = Reader(pages.page(report(runs), 2))
    read.check_whole()
    assert sections(read) == SECTIONS
    assert all(attributes["scope"] in ("row", "col") for attributes in read.all("th"))
    # Of each kind of doubt two, and the mistakes.
    count = 4 + len(report().false_positives) + len(report().misses)
    assert len(read.all("img")) == count > 6
    assert all(attributes["aria-label"] for attributes in read.all("svg"))
    scrolling = [a for a in read.all("div") if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    assert EVIL in read.text
    style = "".join(read.text)
    assert "prefers-color-scheme: dark" in style


def test_the_comparison_is_a_section(comparison):
    text = pages.page(report(comparison=comparison), 2)
    read = Reader(text)
    read.check_whole()
    assert sections(read) == {*SECTIONS, "compared"}
    assert comparison["differences"]["ohem"]["verdict"] in read.text
    headings = re.findall(r"<h(\d)>(Verdict|Every run)", text)
    assert {level for level, _ in headings} == {"3"}
    assert sum(a["src"].startswith("data:image/png") for a in read.all("img")) == 1


def test_a_comparison_of_another_kind(comparison):
    del comparison["runs"][0]["AP"]
    with pytest.raises(InputError, match=r"compare\.json is not what .* \(KeyError: 'AP'\)"):
        pages.page(report(comparison=comparison), 2)


def test_without_the_model():
    read = Reader(pages.page(report(model=False), 2))
    assert "The model did not run for this page (--loss_images=0)." in read.text
    assert any(text.startswith("No proposals were measured") for text in read.text)


def test_pictures_stop_at_the_limit(monkeypatch):
    monkeypatch.setattr(pages, "MAX_BYTES", 1)
    read = Reader(pages.page(report(), 2))
    assert len(read.all("img")) == 1
    assert any(text.startswith("The pictures stop where") for text in read.text)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, 1), (390, 0)])  # light, dark
def test_a_browser_shows_it_without_a_complaint(width, scheme, comparison, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium or google-chrome, which is not here")
    path = tmp_path / "report.html"
    path.write_text(pages.page(report(comparison=comparison), 2), encoding="utf-8")
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        *(f"--user-data-dir={tmp_path}/profile", f"--window-size={width},1000"),
        f"--blink-settings=preferredColorScheme={scheme}",
    ]
    shown = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "CONSOLE" not in shown.stderr
    dom = Reader(shown.stdout)
    assert sections(dom) == {*SECTIONS, "compared"}
    assert not dom.all("script")
    picture = tmp_path / "page.png"
    subprocess.run([*command, f"--screenshot={picture}", path.as_uri()], capture_output=True)
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape[1] == width
    light = np.median(pixels) > 128
    assert light == (scheme == 1)
    assert pixels.std() > 5


def test_more_classes_than_a_page_holds(monkeypatch):
    monkeypatch.setattr(pages.classes, "_MOST_CLASSES", 2)
    read = Reader(pages.page(report(1), 2))
    counts = report(1).analyses[0].metrics["objects"]
    labels = [attributes["aria-label"] for attributes in read.all("svg")]
    shown = [label.split(": precision against")[0] for label in labels if "precision a" in label]
    most = sorted(counts, key=lambda name: -counts[name])[:2]
    assert shown == [name for name in CLASSES if name in most]
    assert not [a for a in read.all("table") if a.get("class") == "matrix"]
