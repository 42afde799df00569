"""Progress: a bar on a terminal, plain lines elsewhere."""

import io

import pytest

from ohem_tf import progress
from ohem_tf.progress import tqdm


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass by hand."""
    now = [1000.0]

    class Clock:
        def advance(self, seconds):
            now[0] += seconds

    monkeypatch.setattr(progress.library.std, "time", lambda: now[0])
    return Clock()


def work(clock, out, seconds, count=10, **options):
    for _ in tqdm(range(count), file=out, desc="images", unit="image", **options):
        clock.advance(seconds)
    return out.getvalue()


def test_a_log_has_a_line_every_half_a_minute(clock):
    lines = work(clock, io.StringIO(), 20.0).splitlines()
    assert lines[0] == "images: 2 of 10 images, 00:40 so far, 02:40 left"
    assert lines[-1].startswith("images: 10 of 10 images, 03:20 so far, 00:00 left")
    assert 4 <= len(lines) <= 7


def test_a_log_has_no_control_characters_nor_empty_lines(clock):
    out = io.StringIO()
    for _ in tqdm(range(3), file=out, desc="splits", unit="split"):
        work(clock, out, 20.0, leave=False)
    assert all(line and line.isprintable() for line in out.getvalue().splitlines())


def test_short_work_is_silent(clock):
    assert work(clock, io.StringIO(), 0.4) == ""


def test_work_without_a_known_end(clock):
    out = io.StringIO()
    for _ in tqdm(iter(range(10)), file=out, desc="images", unit="image"):
        clock.advance(20.0)
    assert out.getvalue().splitlines()[-1] == "images: 10 images, 03:20 so far"


def test_values_stand_behind(clock):
    out = io.StringIO()
    bar = tqdm(total=5, file=out, desc="training", unit="step")
    for step in range(5):
        clock.advance(40.0)
        bar.set_postfix({"loss": step}, refresh=False)
        bar.update()
    bar.close()
    bar.close()
    assert out.getvalue().splitlines()[-1].endswith("left, loss=4")


def test_a_terminal_has_a_bar(clock):
    text = work(clock, Terminal(), 20.0)
    assert "\r" in text
    assert "100%|" in text
    assert text.endswith("\n")
