"""Charts: where points lie, what stands in their place for a screen reader."""

from __future__ import annotations

import re

import pytest
from html_reader import Reader

from ohem_tf.reporting import charts
from ohem_tf.reporting.charts import DIAGONAL, Series

EVIL = '"><script>'


def path(text, style):
    """The points of a curve in pixels."""
    (drawn,) = re.findall(rf'<path class="s{style}" d="M([^"]*)"', text)
    return [tuple(map(float, point.split())) for point in drawn.split("L")]


def test_a_curve_lies_between_its_ticks():
    text = charts.lines("Loss", [Series("a", [(0, 4.0), (50, 1.0), (100, 2.0)], 0)], "step", "loss")
    (x0, y0), (x1, y1), (x2, y2) = path(text, 0)
    assert x1 - x0 == pytest.approx(x2 - x1)
    # Upwards is more: 4 is the top, 0 at the bottom.
    top, bottom = y0, y0 + (y1 - y0) * 4 / 3
    assert y2 == pytest.approx((top + bottom) / 2, abs=0.2)
    ticks = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert {"0", "4", "20", "100", "step"} <= set(ticks)


def test_a_square_chart_goes_from_0_to_1():
    series = [Series("a", [(0.0, 0.0), (1.0, 1.0)], DIAGONAL), Series("b", [(0.2, 0.5)], 0)]
    text = charts.lines("x", series, "score", "true", square=True)
    (left, bottom), (right, top) = path(text, DIAGONAL)
    assert path(text, 0) == [
        (pytest.approx(left + 0.2 * (right - left), abs=0.1), pytest.approx((top + bottom) / 2))
    ]


@pytest.mark.parametrize("values", [[(5, 0.0)], [(5, 3.0), (6, 3.0)], [(1, -2.0), (2, 1.0)]])
def test_flat_and_negative_curves(values):
    points = path(charts.lines("x", [Series("a", values, 1)], "step", "y"), 1)
    assert len(points) == len(values)
    assert all(0 <= x <= 420 and 0 <= y <= 250 for x, y in points)


def test_a_chart_says_in_words_what_it_shows():
    series = [Series(EVIL, [(1, 0.5), (2, 12345.0)], 0), Series("empty", [], 1)]
    read = Reader(charts.lines(EVIL, series, "step", "loss"))
    assert not read.all("script")
    (drawing,) = read.all("svg")
    assert drawing["role"] == "img"
    assert f"{EVIL}: from 0.5 at 1 to 12345 at 2." in drawing["aria-label"]
    assert "empty" not in drawing["aria-label"]
    assert f"{EVIL}, step 2: 12345" in read.text


def test_bars():
    assert charts.bars([0.254, None, 2.0]) == [
        '25.4<span class="bar" style="--v:25.4%"></span>',
        "no data",
        '200.0<span class="bar b1" style="--v:100.0%"></span>',
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.00123, "0.00123"), (8000, "8000"), (1.23456, "1.23")]
)
def test_numbers(value, text):
    assert charts.number(value) == text


def test_one_run_needs_no_legend():
    assert charts.legend(["a"]) == ""
    assert charts.legend(["a", "<b>"]).count('class="key') == 2
    assert "&lt;b&gt;" in charts.legend(["a", "<b>"])
