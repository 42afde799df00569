"""Damage for benchmarks.fuzz: to bytes, to the tree of a json, to that of an xml."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import numpy as np

_WORDS = (b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"<", b'"', b"]", b"\n", b"-1")
_NUMBERS = ("-1", "0", "1e999", "-1e308", "NaN", "1" * 400, "2147483648", "18446744073709551616")
_TEXTS = ("", "x", "../x", "/etc/passwd", "a\nb", "a/b", "\0", "\ud800", "\x1b[2J", "..", "1_0")
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**64, 10**400, 0.5, -1e308, 1e308),
    *(float("nan"), float("inf"), [], {}, [[]], [1, 2, 3, 4], {"id": 1}),
    *_TEXTS,
)
_TAGS = ("object", "name", "bndbox", "xmin", "ymax", "size", "width", "difficult", "x")


def of_bytes(rng: np.random.Generator, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Some flips, overwritten words, cuts, repetitions, numbers exchanged, and splices."""
    out = bytearray(data)
    for _ in range(int(rng.geometric(0.4))):
        at = int(rng.integers(len(out) + 1))
        length = int(min(rng.geometric(0.05), len(out) - at))
        kind = rng.integers(8)
        if kind <= 1 and at < len(out):
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            word = _WORDS[rng.integers(len(_WORDS))]
            out[at : at + len(word)] = word
        elif kind == 3:
            out[at : at + length] = rng.bytes(length)
        elif kind == 4:
            del out[at : at + length]
        elif kind == 5:
            out[at:at] = out[at : at + length] * int(rng.integers(1, 20))
        elif kind == 6:
            runs = list(re.finditer(rb"-?\d+", bytes(out)))
            if runs:
                start, end = runs[rng.integers(len(runs))].span()
                out[start:end] = _NUMBERS[rng.integers(len(_NUMBERS))].encode()
        elif rng.integers(4) == 0:
            del out[at:]
        else:
            other = seeds[rng.integers(len(seeds))]
            place = int(rng.integers(len(other) + 1))
            out[at : at + length] = other[place : place + length]
    return bytes(out)


def of_json(rng: np.random.Generator, data: bytes) -> bytes:
    """Some values exchanged, removed, repeated or nested."""
    tree = [json.loads(data)]
    for _ in range(int(rng.geometric(0.5))):
        places = list(_places(tree))
        parent, key = places[rng.integers(len(places))]
        kind = rng.integers(8)
        if kind <= 4:
            parent[key] = copy.deepcopy(_VALUES[rng.integers(len(_VALUES))])
        elif kind == 5 and parent is not tree:
            del parent[key]
        elif kind == 6 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif kind == 7:
            parent[key] = [parent[key]]
    text = json.dumps(tree[0])
    if not rng.integers(50):  # too deep for the stack
        deep = 100_000
        text = text.replace("[", "[" * deep, 1).replace("]", "]" * deep, 1)
    return text.encode()


def _places(tree: Any) -> Any:
    keys = tree if isinstance(tree, dict) else range(len(tree))
    for key in list(keys):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def of_xml(rng: np.random.Generator, data: bytes) -> bytes:
    """Some elements with other text or another tag, removed, or repeated."""
    root = ET.fromstring(data)
    for _ in range(int(rng.geometric(0.5))):
        parents = [parent for parent in root.iter() if len(parent)]
        if not parents:
            break
        parent = parents[rng.integers(len(parents))]
        child = parent[rng.integers(len(parent))]
        kind = rng.integers(8)
        if kind <= 4:
            texts = (*_NUMBERS, *_TEXTS)
            child.text = texts[rng.integers(len(texts))]
        elif kind == 5:
            child.tag = _TAGS[rng.integers(len(_TAGS))]
        elif kind == 6:
            parent.remove(child)
        else:
            parent.append(copy.deepcopy(child))
    return (
        ET.tostring(root, encoding="utf-8", xml_declaration=True, method="xml")
        if (rng.integers(2))
        else ET.tostring(root).replace(b"<annotation>", b"<annotation>\n")
    )


def of_array(rng: np.random.Generator) -> np.ndarray:
    """An array that is hardly [R, 4] boxes."""
    shapes = ((3, 4), (0, 4), (4,), (1, 4), (2, 3), (), (1, 1, 4), (5, 4))
    kinds = (np.float32, np.float64, np.int8, np.uint64, np.bool_, np.complex64, "U3", "S2")
    values = rng.integers(-3, 60, shapes[rng.integers(len(shapes))])
    if rng.integers(3):
        values = np.sort(np.abs(values), axis=-1) if values.ndim else values
    array = np.asarray(values).astype(kinds[rng.integers(len(kinds))])
    if array.dtype.kind == "f" and array.size and not rng.integers(4):
        array.flat[0] = rng.choice([np.nan, np.inf, 1e30])
    return array
