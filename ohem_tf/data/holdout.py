"""Makes a validation split of a part of another one, for --val_fraction.

Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML 2011) for two parts: the class that
the fewest images have is shared out first, each image to the part that lacks most of that class.
Then single images change sides until the numbers of images are right. Images that look the same
(duplicates.py) go together, so that nothing is measured on what has been trained on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from ohem_tf.data import duplicates
from ohem_tf.data.checks import Checked
from ohem_tf.data.splits import Split
from ohem_tf.errors import InputError

_EMPTY = ""  # stands for the class of images without an object


def divide(split: Split, name: str, fraction: float, seed: int = 0) -> tuple[Split, Split]:
    """Divides a split that has been checked.

    Which image goes where depends on the images, the classes of their objects, fraction and seed,
    not on the order of files.

    Args:
      split: its entries; none is changed.
      name: of the new split.
      fraction: of the images that it gets, as near as classes and copies allow; between 0 and 1.
      seed: which images.

    Returns:
      The rest, under the old name and with what was dropped, and the new split.

    Raises:
      InputError: one of them would be empty.
    """
    chosen = choose(split.entries, fraction, seed)
    parts = [
        [entry for entry in split.entries if (entry.image_id in chosen) == held]
        for held in (False, True)
    ]
    if not all(parts):
        raise InputError(
            f"--val_fraction={fraction}: of the {len(split.entries)} images of {split.name!r}, "
            f"{len(chosen)} would be in {name!r}; expected images in both (copies of an image stay "
            "together)"
        )
    of_part = [
        [image for image in split.images if (image.image_id in chosen) == held]
        for held in (False, True)
    ]
    rest = dataclasses.replace(split, images=of_part[0], entries=parts[0])
    held_out = dataclasses.replace(
        split, name=name, images=of_part[1], entries=parts[1], skipped={}, dropped=[]
    )
    return rest, held_out


def choose(entries: Sequence[Checked], fraction: float, seed: int = 0) -> set[str]:
    """Ids of the images that are held out; see `divide`."""
    # Units that stay together, in an order that seed and ids alone decide.
    units = sorted(_units(entries), key=lambda ids: _rank(seed, ids[0]))
    names = {e.image_id: {item.name for item in e.objects} or {_EMPTY} for e in entries}
    columns = {name: i for i, name in enumerate(sorted(set().union(*names.values())))}
    counts = np.zeros((len(units), len(columns)))  # images of a unit with a class
    for row, ids in zip(counts, units, strict=True):
        for image_id in ids:
            for name in names[image_id]:
                row[columns[name]] += 1
    sizes = np.array([len(ids) for ids in units], float)
    held = _settled(_stratified(counts, sizes, fraction), counts, sizes, fraction)
    return {image_id for index in np.flatnonzero(held) for image_id in units[index]}


def _stratified(counts: np.ndarray, sizes: np.ndarray, fraction: float) -> np.ndarray:
    """Which units are held out, [U] bool, by iterative stratification.

    Args:
      counts: [U, K] images of a unit with a class.
      sizes: [U] images of a unit.
      fraction: that is held out.
    """
    shares = np.array([1 - fraction, fraction])
    wanted = np.outer(shares, counts.sum(axis=0))
    room = shares * sizes.sum()
    part = np.full(len(sizes), -1)
    while (left := np.flatnonzero(part < 0)).size:
        remaining = counts[left].sum(axis=0)
        rarest = np.argmin(np.where(remaining > 0, remaining, np.inf))
        for unit in left[counts[left, rarest] > 0]:
            needs = [(wanted[k, rarest], room[k]) for k in (0, 1)]
            part[unit] = k = int(needs[1] > needs[0])
            wanted[k] -= counts[unit]
            room[k] -= sizes[unit]
    return part == 1


def _settled(
    held: np.ndarray, counts: np.ndarray, sizes: np.ndarray, fraction: float
) -> np.ndarray:
    """Moves units until as many images are held out as wanted, each time the one that the classes
    miss least; arguments as those of `_stratified`.
    """
    total = counts.sum(axis=0)
    while True:
        missing = fraction * sizes.sum() - sizes[held].sum()
        movable = (held == (missing < 0)) & (np.abs(np.abs(missing) - sizes) < np.abs(missing))
        if not movable.any():
            return held
        after = counts[held].sum(axis=0) + np.sign(missing) * counts
        costs = np.sum((after - fraction * total) ** 2 / total, axis=1)
        held = held.copy()
        held[np.argmin(np.where(movable, costs, np.inf))] ^= True


def _units(entries: Sequence[Checked]) -> list[list[str]]:
    """Ids of images that look the same, sorted; most are alone."""
    ordered = sorted(entries, key=lambda entry: entry.image_id)
    hashed = [entry for entry in ordered if entry.look.perceptual_hash is not None]
    groups = duplicates.groups([entry.look.perceptual_hash or 0 for entry in hashed])
    together = [[hashed[index].image_id for index in group] for group in groups]
    grouped = {image_id for group in together for image_id in group}
    return together + [[e.image_id] for e in ordered if e.image_id not in grouped]


def _rank(seed: int, image_id: str) -> bytes:
    return hashlib.sha256(f"{seed}/{image_id}".encode()).digest()
