"""Calls in a process of their own: what they return, and how they may end."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from ohem_tf.apart import Apart
from ohem_tf.errors import InputError
from ohem_tf.limits import Limits

LIMITS = Limits(seconds=1, memory_gb=1)


def crash(number: int) -> None:
    os.kill(os.getpid(), number)


def hang() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [])  # as a library in C, it handles no signal
    while True:
        pass


def fill(gigabytes: int) -> int:
    return np.ones(gigabytes * 10**9, np.uint8).sum()


def refuse() -> None:
    raise InputError("x.mat: lacks 'boxes'")


def unpicklable() -> None:
    error = KeyError("b")
    error.reason = lambda: None
    raise error


@pytest.fixture(scope="module")
def apart():
    with Apart(LIMITS) as process:
        yield process


def test_results_and_errors_come_back(apart):
    assert apart.call(os.path.join, "a", "b", what="x.mat") == "a/b"
    first = apart.call(os.getpid, what="x.mat")
    assert first != os.getpid()
    with pytest.raises(InputError, match=r"^x\.mat: lacks 'boxes'$"):
        apart.call(refuse, what="x.mat")
    with pytest.raises(ValueError, match=r"^KeyError: 'b'$") as caught:
        apart.call(unpicklable, what="x.mat")
    assert not isinstance(caught.value, InputError)
    with pytest.raises(ValueError, match="takes more than 1 GB of memory"):
        apart.call(fill, 3, what="x.mat")
    assert apart.call(os.getpid, what="x.mat") == first  # none of these ends it


def test_death_names_the_file_and_the_next_call_lives(apart, capfd):
    for number in (signal.SIGSEGV, signal.SIGABRT):
        message = rf"^x\.mat: reading it ended the process that did \({number.name}\); the file is"
        with pytest.raises(InputError, match=message):
            apart.call(crash, number, what="x.mat")
        assert apart.call(os.path.join, "a", "b", what="y.mat") == "a/b"
    assert capfd.readouterr().err == ""


def test_a_call_that_hangs_ends(apart):
    started = time.monotonic()
    with pytest.raises(InputError, match=r"^x\.mat: reading it takes longer than 1 s"):
        apart.call(hang, what="x.mat")
    assert time.monotonic() - started < 30
