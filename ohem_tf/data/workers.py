"""Worker processes."""

from __future__ import annotations

import collections
import concurrent.futures
import concurrent.futures.process
import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ohem_tf.apart import Apart, timed
from ohem_tf.errors import InputError
from ohem_tf.limits import Limits

R = TypeVar("R")


def _start(setup: Callable[..., None] | None, arguments: tuple, limits: Limits | None) -> None:
    """Sets up a worker, and ends it once its parent is gone: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a worker

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    if setup is not None:
        setup(*arguments)
    if limits is not None:
        limits.apply_here()


def _within(seconds: float, function: Callable[..., R], *arguments: Any) -> R:
    with timed(seconds):
        return function(*arguments)


def _unnamed(*arguments: Any) -> str:
    return ""


class Workers:
    """Runs a function over items on `count` processes; with 0, in this process.

    The processes are spawned, not forked (TensorFlow's threads do not survive a fork), so functions
    and items must be picklable.
    """

    def __init__(
        self,
        count: int,
        flag: str = "--num_workers",
        setup: Callable[..., None] | None = None,
        arguments: tuple = (),
        limits: Limits | None = None,
    ) -> None:
        """Called `with` the workers.

        Args:
          count: of processes.
          flag: where the count stands, for messages.
          setup: called first in each process (not with a count of 0), with `arguments`.
          limits: of the memory of each process, and of the seconds for an item; None: no limits.
        """
        self._count = count
        self._flag = flag
        self._setup = (setup, arguments, limits)
        self._limits = limits
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self._count:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self._count, multiprocessing.get_context("spawn"), _start, self._setup
            )
        return self

    def __exit__(self, *unused: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(
        self,
        function: Callable[..., R],
        *items: Iterable[Any],
        what: Callable[..., str] = _unnamed,
    ) -> Iterator[R]:
        """As the built-in `map`: in the order of the items; a bounded number waits in memory.

        Args:
          function, items: of `map`, picklable.
          what: the files that an item is read from, for messages; takes what `function` takes.

        Raises:
          InputError: a worker process died; or whatever `function` raises, in order.
        """
        if self._pool is None:
            yield from map(function, *items)
            return
        called = function
        if self._limits is not None:
            called = functools.partial(_within, self._limits.seconds, function)
        waiting: collections.deque[tuple[concurrent.futures.Future[R], tuple]] = collections.deque()
        try:
            for arguments in zip(*items, strict=False):  # as `map`, to the end of the shortest
                waiting.append((self._pool.submit(called, *arguments), arguments))
                if len(waiting) > 8 * self._count:
                    yield waiting[0][0].result()
                    waiting.popleft()
            while waiting:
                yield waiting[0][0].result()
                waiting.popleft()
        except concurrent.futures.process.BrokenProcessPool:
            self._name_the_cause(function, [arguments for _, arguments in waiting], what)
            raise InputError(
                f"a worker process died, most likely for want of memory; use fewer {self._flag}"
            ) from None
        finally:
            for future, _ in waiting:
                future.cancel()

    def _name_the_cause(
        self, function: Callable[..., Any], pending: list[tuple], what: Callable[..., str]
    ) -> None:
        """Raises InputError for the first of the calls that ends a process."""
        if self._limits is None:
            return
        with Apart(self._limits) as apart:
            for arguments in pending:
                apart.call(function, *arguments, what=what(*arguments))
