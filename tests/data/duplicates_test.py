"""Groups of near hashes against every pair compared by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tiny_voc
from hypothesis import given
from hypothesis import strategies as st

from ohem_tf.data import duplicates, remarks


def by_hand(hashes) -> list[list[int]]:
    """Groups that grow until no pair joins two of them."""
    groups = [{i} for i in range(len(hashes))]
    for i, j in itertools.combinations(range(len(hashes)), 2):
        if (hashes[i] ^ hashes[j]).bit_count() <= 5:
            joined = [g for g in groups if i in g or j in g]
            groups = [g for g in groups if g not in joined] + [set().union(*joined)]
    return sorted(sorted(g) for g in groups if len(g) > 1)


CLOSE = st.integers(0, 2**9 - 1)  # at most nine bits apart
FAR = st.integers(0, 2**64 - 1)


@given(st.lists(CLOSE | FAR, max_size=12))
def test_groups(hashes):
    assert duplicates.groups(hashes) == by_hand(hashes)


def test_blocks_do_not_change_the_groups(monkeypatch):
    rng = np.random.default_rng(0)
    hashes = [int(h) for h in rng.integers(0, 2**12, 60)]
    whole = duplicates.groups(hashes)
    assert whole
    monkeypatch.setattr(duplicates, "_BLOCK", 100)
    assert duplicates.groups(hashes) == whole


@pytest.mark.parametrize(("other", "across"), [("test", True), ("train", False)])
def test_splits(other, across):
    def entry(image_id, value):
        return tiny_voc.checked(image_id=image_id, look=remarks.Look((), (), value))

    splits = {"train": [entry("a", 0), entry("b", 2**40 - 1)], "test": []}
    splits[other].append(entry("c", 3))
    (group,) = duplicates.find(splits)
    assert [(image.split, image.entry.image_id) for image in group] == [
        ("train", "a"),
        (other, "c"),
    ]
    assert duplicates.across(group) == across


def test_entries_without_a_hash_are_no_copies():
    assert duplicates.find({"train": [tiny_voc.checked(), tiny_voc.checked()]}) == []
