"""Worker processes."""

from __future__ import annotations

import collections
import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ohem_tf.errors import InputError

R = TypeVar("R")


def _start(setup: Callable[..., None] | None, arguments: tuple) -> None:
    """Sets up a worker, and ends it once its parent is gone: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a worker

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    if setup is not None:
        setup(*arguments)


class Workers:
    """Runs a function over items on `count` processes; with one, in this process.

    The processes are spawned, not forked (TensorFlow's threads do not survive a fork), so functions
    and items must be picklable.
    """

    def __init__(
        self,
        count: int,
        flag: str = "--num_workers",
        setup: Callable[..., None] | None = None,
        arguments: tuple = (),
    ) -> None:
        """Called `with` the workers.

        Args:
          count: of processes.
          flag: where the count stands, for messages.
          setup: called first in each process (not with a count of 1), with `arguments`.
        """
        self._count = count
        self._flag = flag
        self._setup = (setup, arguments)
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self._count > 1:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self._count, multiprocessing.get_context("spawn"), _start, self._setup
            )
        return self

    def __exit__(self, *unused: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[..., R], *items: Iterable[Any]) -> Iterator[R]:
        """As the built-in `map`: in the order of the items; a bounded number waits in memory.

        Raises:
          InputError: a worker process died; or whatever `function` raises, in order.
        """
        if self._pool is None:
            yield from map(function, *items)
            return
        waiting: collections.deque[concurrent.futures.Future[R]] = collections.deque()
        try:
            for arguments in zip(*items, strict=False):  # as `map`, to the end of the shortest
                waiting.append(self._pool.submit(function, *arguments))
                if len(waiting) > 8 * self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except concurrent.futures.process.BrokenProcessPool:
            raise InputError(
                f"a worker process died, most likely for want of memory; use fewer {self._flag}"
            ) from None
        finally:
            for future in waiting:
                future.cancel()
