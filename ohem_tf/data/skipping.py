"""A split without its damaged records, for `train --on_bad_record=skip`."""

from __future__ import annotations

import threading

from absl import logging

from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError


class SkippingReader(RecordReader):
    """The records of a split, each damaged one replaced by the next that is whole.

    So a training stream, and with it every step, stays a function of seed and position. A record is
    checked when it is first read (see `RecordReader.check`). Attributes as those of the split.

    Attributes:
      skipped: {index: what is wrong with it} of the damaged records found so far.
    """

    def __init__(self, whole: RecordReader) -> None:
        self.classes = whole.classes
        self.category_ids = whole.category_ids
        self.split = whole.split
        self.annotated = whole.annotated
        self.has_proposals = whole.has_proposals
        self.skipped: dict[int, str] = {}
        self._frames = whole._frames
        self._whole = whole
        self._good: set[int] = set()
        self._lock = threading.Lock()

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of the images as they were prepared; see `RecordReader.image_ids`."""
        return self._whole.image_ids

    def __getitem__(self, index: int) -> bytes:
        """Serialized Example number `index`, or the next one that is whole.

        Raises:
          IndexError: out of range.
          InputError: all are damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        for place in range(index, index + len(self)):
            candidate = place % len(self)
            if self._is_good(candidate):
                return self._whole[candidate]
        raise InputError(f"{self._frames[index].path}: no record of its split is whole")

    def _is_good(self, index: int) -> bool:
        if index in self._good or index in self.skipped:
            return index in self._good
        try:
            self._whole.check(index)
        except InputError as error:
            with self._lock:
                if index not in self.skipped:
                    logging.warning("skipped: %s", error)
                self.skipped[index] = str(error)
            return False
        self._good.add(index)
        return True

    def summary(self) -> str:
        """A line on what was skipped so far."""
        count = f"skipped {len(self.skipped)} of {len(self)} records"
        first = next(iter(self.skipped.values()), "")
        return f"{count}; the first: {first}" if first else count
