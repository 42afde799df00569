"""Work that runs ahead of the loop that needs it."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(function: Callable[[T], R], items: Iterable[T], most: int = 4) -> Iterator[R]:
    """As the built-in `map`, but a thread of its own computes up to `most` results in advance.

    It gains what `function` does without Python's lock: reading, OpenCV, TensorFlow. One thread,
    since selective search takes its random numbers from the C library, in which it seeds them.
    A loop that ends early waits for the one call that runs.

    Args:
      function: called in the order of the items.
      items: of any number.
      most: results that wait in memory.

    Raises:
      whatever `function` raises, at its place in the order.
    """
    thread = concurrent.futures.ThreadPoolExecutor(1)
    waiting: collections.deque[concurrent.futures.Future[R]] = collections.deque()
    try:
        for item in items:
            waiting.append(thread.submit(function, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)
