"""Xml that strangers wrote: what expat refuses, and reading a large file piece by piece."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ohem_tf.data import xml_file
from ohem_tf.errors import InputError
from ohem_tf.limits import Limits

LAUGHS = '<!DOCTYPE a [<!ENTITY l0 "lolololololol">' + "".join(
    f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10)
)
HOSTILE = {
    "a billion laughs": LAUGHS + "]><a><b>&l9;</b></a>",
    "one long entity, often": f'<!DOCTYPE a [<!ENTITY x "{"a" * 50_000}">]><a>{"&x;" * 5000}</a>',
    "a file": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
    "cut off": "<a><b/>",
    "no such encoding": '<?xml version="1.0" encoding="x"?><a/>',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_refused(tmp_path, kind):
    path = tmp_path / "x.xml"
    path.write_text(HOSTILE[kind])
    with pytest.raises(InputError, match=r"x\.xml: xml that does not parse"):
        xml_file.read(str(path), "a", "missing")
    with pytest.raises(InputError, match=r"x\.xml: xml that does not parse"):
        list(xml_file.children(str(path), "a"))


def test_files(tmp_path):
    path = tmp_path / "x.xml"
    with pytest.raises(InputError, match=r"x\.xml: it is not there"):
        xml_file.read(str(path), "a", "it is not there")
    with pytest.raises(InputError, match=r"x\.xml: cannot be read"):
        list(xml_file.children(str(path), "a"))
    path.write_text("<b/>")
    for read in (
        lambda: xml_file.read(str(path), "a", ""),
        lambda: list(xml_file.children(str(path), "a")),
    ):
        with pytest.raises(InputError, match="its root is <b>; expected <a>"):
            read()
    small = Limits(xml_mb=1e-6, json_mb=1e-6)
    for read in (
        lambda: xml_file.read(str(path), "b", "", small),
        lambda: list(xml_file.children(str(path), "b", small)),
    ):
        with pytest.raises(InputError, match="megabytes; expected at most"):
            read()


def test_children_are_those_of_the_whole_tree(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text('<a q="1">t<b x="1"><c><b/></c>u</b><!-- -->v<d/><b>w</b></a>')
    whole = [ET.tostring(child) for child in ET.parse(path).getroot()]
    pieces = []
    for child in xml_file.children(str(path), "a"):
        child.tail = None
        pieces.append(ET.tostring(child))
    assert [ET.canonicalize(p) for p in pieces] == [
        ET.canonicalize(w.decode().rstrip("v")) for w in whole
    ]
