"""SIGTERM and SIGINT: where they end a process, with which status and which line."""

import os
import signal
import threading

import pytest

from ohem_tf.interruption import Interrupted, Interruption

pytestmark = pytest.mark.usefixtures("heeds_sigint")


def kill(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def run(body):
    """Calls body(interruption) within it."""
    with Interruption(lambda: "here is how to go on") as stop:
        body(stop)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_at_once_with_a_line(capsys, number, code):
    def body(_):
        kill(number)
        pytest.fail("it went on")

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as end:
        run(body)
    assert end.value.code == code
    assert capsys.readouterr().err == f"{number.name}: here is how to go on\n"
    assert signal.getsignal(number) == before


def test_a_part_that_is_held_back_ends_first_and_further_signals_change_nothing():
    done = []

    def body(stop):
        with stop.held_back():
            kill(signal.SIGINT)
            kill(signal.SIGTERM)
            done.append("all of it")
        done.append("more")

    with pytest.raises(Interrupted) as end:
        run(body)
    assert done == ["all of it"]
    assert end.value.code == 130


@pytest.mark.parametrize("place", ["check", "before at_once", "in at_once"])
def test_where_a_part_that_is_held_back_may_end(place):
    def body(stop):
        with stop.held_back():
            stop.check()
            with stop.at_once():
                pass
            if place != "in at_once":
                kill()
            if place == "check":
                stop.check()
                pytest.fail("it went on")
            with stop.at_once():
                kill()
                pytest.fail("it went on")

    with pytest.raises(Interrupted):
        run(body)


def test_an_error_in_a_part_that_is_held_back_comes_first(capsys):
    def body(stop):
        with stop.held_back():
            kill()
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        run(body)
    assert capsys.readouterr().err == ""


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run(lambda _: kill(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_it_does_nothing():
    done = []
    thread = threading.Thread(target=lambda: run(done.append))
    thread.start()
    thread.join()
    assert len(done) == 1
