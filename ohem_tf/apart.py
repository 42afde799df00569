"""Calls in a process of their own, for readers that a damaged file can crash or hang.

Such are scipy's and h5py's of .mat files: a few hundred damaged ones end with a segmentation fault
or an endless loop. Here they take a process with them that does nothing else, and what remains is
an `InputError` that names the file. It is no sandbox: the process may do what its user may do.

Images are decoded apart too where there are many, of unknown origin: by the processes of
data/workers.py, in `prepare`. `detect` and `ohem_tf.load` decode in their own process: Pillow's and
TensorFlow's readers of `checks.FORMATS` crashed on none of the inputs of docs/results/fuzz.md.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from ohem_tf.errors import InputError, first_line
from ohem_tf.limits import Limits

R = TypeVar("R")
_START_SECONDS = 60  # to start a process on a busy machine


@contextlib.contextmanager
def timed(seconds: float) -> Iterator[None]:
    """A context that ends this process if it takes longer, even in the loop of a C library."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(seconds))
    try:
        yield
    finally:
        signal.alarm(0)


def serve(descriptor: int) -> None:
    """Answers calls until the other end is closed (runs in the process apart).

    Args:
      descriptor: of the connection; the limits come first.
    """
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError):
        limits: Limits = connection.recv()
        limits.apply_here()
        while True:
            function, arguments = connection.recv()
            answer: tuple[Any, Exception | None]
            try:
                with timed(limits.seconds):
                    answer = function(*arguments), None
            except InputError as error:
                answer = None, error
            except MemoryError:
                answer = None, ValueError(f"it takes more than {limits.memory_gb:g} GB of memory")
            except Exception as error:  # an exception of any library, which may not be picklable
                answer = None, ValueError(f"{type(error).__name__}: {first_line(error)}")
            connection.send(answer)


class Apart:
    """A process for calls that may end it.

    It is started with the first call, in about half a second, and kept for those that follow; after
    its death the next call has a new one. It knows nothing of the caller's script, which need not
    say `if __name__ == "__main__"`.
    """

    def __init__(self, limits: Limits) -> None:
        """With the `seconds` of a call, and the memory of the process."""
        self._limits = limits
        self._process: subprocess.Popen | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *unused: Any) -> None:
        self.close()

    def call(self, function: Callable[..., R], *arguments: Any, what: str) -> R:
        """What `function(*arguments)` returns there; function, arguments and result are pickled.

        So the function is one of a module that can be imported.

        Args:
          what: it reads, for messages.

        Raises:
          InputError: the process died or took too long; or `function` raised it.
          ValueError: `function` raised another exception.
        """
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._connection is not None
        try:
            self._connection.send((function, arguments))
            # The process ends itself in time; if it cannot even do that, this one does.
            if not self._connection.poll(self._limits.seconds + _START_SECONDS):
                self._process.kill()
            result, error = self._connection.recv()
        except (EOFError, ConnectionError):
            code = self._process.wait()
            self.close()
            raise InputError(f"{what}: {self._death(code)}") from None
        if error is not None:
            raise error
        return result

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        descriptor = theirs.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from ohem_tf.apart import serve; serve({descriptor})"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # a crashing library writes there
        )
        theirs.close()
        self._connection.send(self._limits)

    def _death(self, code: int) -> str:
        if code in (-signal.SIGALRM, -signal.SIGKILL):
            return (
                f"reading it takes longer than {self._limits.seconds:g} s, or more memory than "
                "there is; the file is damaged or too large"
            )
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"reading it ended the process that did ({cause}); the file is damaged"

    def close(self) -> None:
        """Ends the process."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = self._connection = None
