"""Worker processes: order, errors, and a worker that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ohem_tf.data.workers import Workers
from ohem_tf.errors import InputError
from ohem_tf.limits import Limits


def slow_first(x: int) -> int:
    time.sleep(0.2 if x == 0 else 0)
    return x * x


def fail_from_three(x: int) -> int:
    if x >= 3:
        raise InputError(f"item {x} is bad")
    return x


def die(x: int) -> int:
    os._exit(x)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_results_come_in_order_and_the_first_error_in_order_counts(count):
    with Workers(count) as workers:
        assert list(workers.map(slow_first, range(40))) == [x * x for x in range(40)]
        seen = []
        with pytest.raises(InputError, match="item 3 is bad"):
            seen.extend(workers.map(fail_from_three, range(10)))
        # The pool is still good after an error.
        assert list(workers.map(slow_first, [2, 3])) == [4, 9]


def die_at_three(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return x


def hang_at_three(x: int) -> int:
    while x == 3:
        pass
    return x


@pytest.mark.parametrize(("function", "cause"), [(die_at_three, "SIGSEGV"), (hang_at_three, "1 s")])
def test_the_item_that_ends_a_limited_worker_is_named(function, cause):
    limits = Limits(seconds=1)
    with (
        Workers(2, limits=limits) as workers,
        pytest.raises(InputError, match=f"^3.jpg: reading it .*{cause}"),
    ):
        list(workers.map(function, range(6), what="{}.jpg".format))


def test_a_worker_that_dies_is_reported_in_one_line():
    with Workers(2) as workers, pytest.raises(InputError, match="a worker process died"):
        list(workers.map(die, [1, 1]))


PARENT = """
    import os, sys
    from ohem_tf.data.workers import Workers

    if __name__ == "__main__":
        with Workers(2) as workers:
            print(*set(workers.map(os.getpgid, [0] * 4)), flush=True)
            sys.stdin.read()
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as parent:
        group = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        for _ in range(200):
            try:
                os.killpg(group, 0)  # is there anybody left of the parent's process group?
            except ProcessLookupError:
                return
            time.sleep(0.1)
        os.killpg(group, signal.SIGKILL)
        pytest.fail("workers outlived their parent")
