"""--val_fraction: which images are held out."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import tiny_voc
from hypothesis import given, settings
from hypothesis import strategies as st

from ohem_tf.data import checks, holdout, remarks, splits
from ohem_tf.errors import InputError


def entry(image_id: str, names=(), look: int | None = None) -> checks.Checked:
    objects = tuple(
        checks.Object(name, (0, 0, 9, 9), False, False, None, f"object {i}", "")
        for i, name in enumerate(names)
    )
    seen = remarks.Look(perceptual_hash=look)
    return tiny_voc.checked(image_id=image_id, objects=objects, look=seen)


def split(entries) -> splits.Split:
    return splits.Split("train", list(entries), {}, "error", list(entries))


def counts(entries) -> collections.Counter:
    return collections.Counter(name for e in entries for name in {o.name for o in e.objects})


def drawn(seed: int = 0, images: int = 200) -> list[checks.Checked]:
    """Images of four classes, the rarest in about one of twenty; some hold none."""
    rng = np.random.default_rng(seed)
    rates = {"often": 0.7, "some": 0.3, "few": 0.1, "rare": 0.05}
    return [
        entry(f"{i:03}", [name for name, rate in rates.items() if rng.random() < rate])
        for i in range(images)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_every_class_has_its_share(seed):
    entries = drawn(seed)
    rest, held = holdout.divide(split(entries), "val", 0.2, seed)
    assert (rest.name, held.name) == ("train", "val")
    assert len(rest.entries) + len(held.entries) == 200
    assert len(held.entries) == 40
    for name, count in counts(entries).items():
        assert abs(counts(held.entries)[name] - 0.2 * count) <= 2
    empty = [sum(not e.objects for e in part) for part in (held.entries, entries)]
    assert abs(empty[0] - 0.2 * empty[1]) <= 2


def test_it_is_nearer_than_chance():
    """Mean distance from the wanted counts, against drawing images blindly."""
    entries = drawn(7, 60)
    total = counts(entries)

    def distance(held):
        return sum(abs(counts(held)[name] - 0.25 * n) for name, n in total.items())

    blind = []
    for seed in range(200):
        chosen = np.random.default_rng(seed).permutation(60)[:15]
        blind.append(distance([entries[i] for i in chosen]))
    ours = [distance(holdout.divide(split(entries), "val", 0.25, s)[1].entries) for s in range(9)]
    assert max(ours) < np.quantile(blind, 0.1)


def test_order_does_not_count_but_the_seed_does():
    entries = drawn()
    chosen = holdout.choose(entries, 0.2, 0)
    assert holdout.choose(entries[::-1], 0.2, 0) == chosen
    assert holdout.choose(entries, 0.2, 1) != chosen
    rest, held = holdout.divide(split(entries[::-1]), "val", 0.2)
    for part in (rest, held):  # each keeps the order that it came in
        ids = [e.image_id for e in part.entries]
        assert ids == sorted(ids, reverse=True)
        assert [image.image_id for image in part.images] == ids


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=3), min_size=2, max_size=20),
    st.floats(0.05, 0.95),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_each_image_is_in_one_part(names, fraction, seed):
    entries = [entry(str(i), own) for i, own in enumerate(names)]
    chosen = holdout.choose(entries, fraction, seed)
    assert chosen <= {e.image_id for e in entries}
    assert abs(len(chosen) - fraction * len(entries)) <= 0.5


def test_copies_stay_together():
    """Three copies of each of 20 images, by hash; one image has none."""
    entries = [
        entry(f"{i}-{copy}", ["cat"], (i * 0x9E3779B97F4A7C15 % 2**64) ^ copy)
        for i in range(20)
        for copy in (0, 1, 2)
    ]
    entries.append(entry("x", ["cat"]))
    chosen = holdout.choose(entries, 0.3)
    of_image = collections.Counter(image_id.partition("-")[0] for image_id in chosen - {"x"})
    assert set(of_image.values()) == {3}
    assert len(of_image) == 6


def test_what_was_dropped_stays_with_the_first():
    whole = split(drawn(0, 20))
    whole.drop(checks.Problem("empty box", "x", known=True))
    rest, held = holdout.divide(whole, "val", 0.2)
    assert (rest.skipped, held.skipped, held.dropped) == ({"empty box": 1}, {}, [])


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_part_without_images_is_refused(fraction):
    with pytest.raises(InputError, match=rf"--val_fraction={fraction}: of the 4 images of 'train'"):
        holdout.divide(split([entry(c, "x") for c in "abcd"]), "val", fraction)
