"""SIGTERM (kill, batch systems) and SIGINT (Ctrl-C), as a place to stop rather than a death."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(SystemExit):
    """A signal ended the process: exit status 128 + its number, as of a shell."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


class Interruption:
    """A context that a signal leaves by `Interrupted`, with one line that says how to go on.

    At once, but in parts that are `held_back`: those end first. Further signals change nothing. One
    that the process ignores (SIGINT, in the background of a script) stays ignored; and outside the
    main thread, where Python has no signals, this does nothing.
    """

    def __init__(self, how_to_go_on: Callable[[], str]) -> None:
        """`how_to_go_on`: the line, without the name of the signal; asked when all is done."""
        self._how_to_go_on = how_to_go_on
        self._received: int | None = None
        self._held_back = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            heeded = [each for each in _SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
            self._before = {each: signal.signal(each, self._receive) for each in heeded}
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)  # type: ignore[arg-type]
        if isinstance(error, Interrupted):
            print(f"{error.name}: {self._how_to_go_on()}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """A part that a signal ends only where it calls `check`, or at its end."""
        with self._set(held_back=True):
            yield
        self.check()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within a part that is `held_back`, one that may end anywhere."""
        with self._set(held_back=False):
            self.check()
            yield

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come."""
        if self._received is not None:
            raise Interrupted(self._received)

    @contextlib.contextmanager
    def _set(self, held_back: bool) -> Iterator[None]:
        before, self._held_back = self._held_back, held_back
        try:
            yield
        finally:
            self._held_back = before

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is None:
            self._received = number
            if not self._held_back:
                self.check()
