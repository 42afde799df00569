"""Images that look the same: leaks from one split into another, and images that count twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ohem_tf.data.checks import Checked
from ohem_tf.progress import tqdm

# Bits. Of 400 VOC photographs, compressed again to JPEG quality 30 or halved in size, all are this
# near to the original; of the 8 million pairs of different photographs of VOC07's trainval the
# nearest are 7 bits apart.
MAX_DISTANCE = 5
_BLOCK = 1 << 24  # pairs compared at a time


class Copy(NamedTuple):
    """An image that looks like another one."""

    split: str
    entry: Checked


def find(splits: Mapping[str, Sequence[Checked]]) -> list[list[Copy]]:
    """The images of all splits that look the same, in groups; see `groups`.

    Args:
      splits: {name: its readable entries}.
    """
    images = [Copy(name, entry) for name, entries in splits.items() for entry in entries]
    hashed = [image for image in images if image.entry.look.perceptual_hash is not None]
    hashes = [image.entry.look.perceptual_hash or 0 for image in hashed]
    return [[hashed[index] for index in group] for group in groups(hashes)]


def across(group: Sequence[Copy]) -> bool:
    """Whether the images of a group stand in more than one split."""
    return len({image.split for image in group}) > 1


def groups(hashes: Sequence[int]) -> list[list[int]]:
    """Which images look the same.

    Args:
      hashes: of `remarks.perceptual_hash`.

    Returns:
      Groups of two or more indices, ascending, that hang together by pairs at most `MAX_DISTANCE`
      apart; ordered by their first. An image is in one group at most.
    """
    values = np.array(hashes, np.uint64)
    count = len(values)
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    step = max(1, _BLOCK // max(count, 1))
    for start in tqdm(range(0, count, step), desc="comparing images", delay=2, unit="block"):
        block = values[start : start + step, None] ^ values[None, start:]
        row, column = np.nonzero(np.bitwise_count(block) <= MAX_DISTANCE)
        later = column > row
        rows.append(row[later] + start)
        columns.append(column[later] + start)
    if not count:
        return []
    pairs = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(pairs[0]), np.bool_), pairs), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    members: dict[int, list[int]] = {}
    for index in np.union1d(*pairs).tolist():
        members.setdefault(int(labels[index]), []).append(index)
    return sorted(members.values())
