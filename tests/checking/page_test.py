"""The page: whole HTML, nothing from outside, no markup from data, a limit on its size."""

from __future__ import annotations

import base64
import io

import pytest
from html_reader import Reader
from PIL import Image

from ohem_tf.checking import page as pages
from ohem_tf.checking.findings import ERROR, LOOK, Finding, Mark, Picture
from ohem_tf.checking.outcome import CheckedSplit, Outcome

EVIL = '<script>alert("x")</script>'


def image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(buffer, "PNG")
    return buffer.getvalue()


def outcome(count=3) -> Outcome:
    def read(split, image_id):
        if image_id == "gone":
            raise FileNotFoundError(image_id)
        return image()

    picture = Picture("train", EVIL, (Mark((1, 1, 20, 20), EVIL),))
    found = [Finding("tiny box", LOOK, "train", f"{EVIL} {i}", (picture,)) for i in range(count)]
    found.append(Finding("image missing", ERROR, "train", "gone", (Picture("train", "gone"),)))
    split = CheckedSplit(EVIL, 4, True)
    return Outcome((EVIL, "cat"), [split], found, read, "prepare refuses this data")


def test_the_page_is_whole_and_needs_nothing_else():
    read = Reader(pages.page(outcome(), "Check of <data>", 24))
    assert not read.all("script")
    assert not read.all("link")
    sources = [attributes["src"] for attributes in read.all("img")]
    assert len(sources) == 3
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).format == "JPEG"
    assert all(EVIL in attributes["alt"] for attributes in read.all("img"))
    assert all(attributes["scope"] in ("row", "col") for attributes in read.all("th"))
    anchors = {attributes["href"] for attributes in read.all("a")}
    names = {f"#{attributes['id']}" for _, attributes in read.tags if "id" in attributes}
    assert anchors <= names
    assert read.all("html") == [{"lang": "en"}]
    assert "1 errors: prepare refuses this data." in read.text
    assert "prefers-color-scheme: dark" in "".join(read.text)


def test_the_first_of_a_kind_are_shown():
    text = pages.page(outcome(5), "x", 2)
    assert len(Reader(text).all("img")) == 2
    assert "2 of 5 shown; check.json has all." in text


def test_pictures_stop_at_the_limit(monkeypatch):
    one = len(pages.page(outcome(1), "x", 9)) - len(pages.page(outcome(0), "x", 9))
    monkeypatch.setattr(pages, "MAX_BYTES", 2 * one)
    text = pages.page(outcome(20), "x", 20)
    assert 1 < len(Reader(text).all("img")) < 5
    assert "The pictures stop where they take" in text


@pytest.mark.parametrize("count", [0, 1])
def test_without_findings(count):
    checked = outcome(count)
    checked.findings = checked.findings[:count]
    text = pages.page(checked, "x", 9)
    assert "No error." in text
    assert len(Reader(text).all("section")) == count + 1
