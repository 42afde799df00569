"""Limits against absurd files, and the flag that raises them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tiny_voc
from PIL import Image

from ohem_tf import prepare
from ohem_tf.data import checks, coco, one_image, proposals, voc
from ohem_tf.errors import InputError
from ohem_tf.limits import Limits

LIMITS = Limits(xml_mb=0.002, json_mb=0.001, pixels=1000, objects=3, proposals=5)


def factor_in(message: str) -> float:
    assert "\n" not in message
    return float(re.search(r"\(--limit_factor=([\d.]+) raises", message)[1])


def refused(call, *args) -> None:
    """`call` is refused under LIMITS, and not under those that the message proposes."""
    with pytest.raises(InputError) as caught:
        call(*args, LIMITS)
    call(*args, LIMITS.times(factor_in(str(caught.value))))


def test_an_xml_and_its_objects(tmp_path):
    root = tiny_voc.make(tmp_path / "voc")
    tiny_voc.make_image(root, "a", *[("cat", 5, 5, 20, 24)] * 4, size=(20, 24))
    refused(one_image.check_image, voc.Listed(str(root), "a"))
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<size>", " " * 2000 + "<size>"))
    refused(voc.read_entry, voc.Listed(str(root), "a"))


def test_a_json(tmp_path):
    image = {"id": 1, "file_name": "a.png"}
    data = {"images": [image], "categories": [], "annotations": [], "info": "x" * 1000}
    (tmp_path / "x.json").write_text(json.dumps(data))
    refused(coco.read_json, tmp_path / "x.json", True)
    (tmp_path / "p.json").write_text(json.dumps({"a": [[0, 0, 5, 5]] * 200}))
    refused(proposals.ProposalFile, tmp_path / "p.json")


def test_proposals_of_an_image(tmp_path):
    entry = tiny_voc.checked(height=40, width=48)
    boxes = np.tile([[0.0, 0, 9, 9]], (7, 1)) + np.arange(7)[:, None]
    np.savez(tmp_path / "p.npz", a=boxes)
    with pytest.raises(InputError, match=r"p\.npz: image a: 7 proposals; expected at most 5"):
        proposals.ProposalFile(tmp_path / "p.npz", LIMITS).get(entry)
    assert len(proposals.ProposalFile(tmp_path / "p.npz", LIMITS.times(2)).get(entry)) == 7
    # A bomb: it is refused before it is unpacked.
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros((10**6, 4)))
    with pytest.raises(InputError, match=r"image a: 1000000 proposals; expected at most 100000"):
        proposals.ProposalFile(tmp_path / "bomb.npz").get(entry)


def test_a_large_image_can_be_skipped(tmp_path):
    root = tiny_voc.make(tmp_path / "voc")
    checked = one_image.check_image(voc.Listed(str(root), "a"), LIMITS)
    (problem,) = checked.problems
    assert problem.cause == "image too large"
    assert "a.png: too large: 1920 pixels; expected at most 1000" in problem.message
    more = LIMITS.times(factor_in(problem.message))
    assert one_image.check_image(voc.Listed(str(root), "a"), more).readable


def test_the_flag(tmp_path):
    root = tiny_voc.make(tmp_path / "voc")
    objects = [("cat", 5, 5, 24, 24)] * 10_001
    tiny_voc.make_image(root, "a", *objects)
    args = ("voc", str(root), ("train",), str(tmp_path / "out"), "none")
    with pytest.raises(InputError, match=r"a\.xml: image a: 10001 objects in an image"):
        prepare.prepare(prepare.Options(*args))
    with pytest.raises(InputError, match=r"--limit_factor=0\.5: expected at least 1"):
        prepare.Options(*args, limit_factor=0.5)
    info = prepare.prepare(prepare.Options(*args, limit_factor=1.1))
    assert info["splits"]["train"]["objects"] == 10_001 + 4


def test_readers_that_run_programs_are_not_asked(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n")
    with Image.open(path) as image:
        assert image.format == "EPS"  # Pillow would start Ghostscript to decode it
    with pytest.raises(ValueError, match="not an image"):
        checks.open_image(path.read_bytes())
