"""Charts as inline SVG, which takes its colours from the page, and bars in the cells of tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from ohem_tf.web_page import escape

STYLE = """
:root { --s0: #b5460f; --s1: #1f6fb2; --s2: #3b7d3a; --s3: #7a4fa3; --s4: #8a6a00; --s5: #6b6b66;
  --bar: #e9b48f; --bar1: #a9cbe6; --heat: 181, 70, 15; }
@media (prefers-color-scheme: dark) { :root { --s0: #ff9a5c; --s1: #6fb7f2; --s2: #86cf84;
  --s3: #c39bea; --s4: #e3c14e; --s5: #a9a9a4; --bar: #7d4321; --bar1: #27506f;
  --heat: 255, 154, 92; } }
.charts { display: grid; gap: 1rem; margin: .5rem 0 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.charts.small { grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); }
.charts figure { height: auto; }
.charts figcaption { color: var(--ink); }
.charts svg { display: block; width: 100%; height: auto; max-width: 34rem; }
.charts text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.charts .grid { stroke: var(--line); stroke-width: 1; }
.charts path { fill: none; stroke-width: 2; stroke-linejoin: round; }
.charts .dot { stroke: none; }
.charts .hit { fill: transparent; }
.charts .hit:hover { fill: var(--ink); }
.key { display: inline-block; width: 1.6rem; height: 0; border-top: 3px solid;
  margin: 0 .3rem .2rem 0; vertical-align: middle; }
.legend { margin: .25rem 0; } .legend > span { margin-right: 1rem; white-space: nowrap; }
.s0 { color: var(--s0); } .s1 { color: var(--s1); border-top-style: dashed; }
.s2 { color: var(--s2); border-top-style: dotted; } .s3 { color: var(--s3); }
.s4 { color: var(--s4); border-top-style: double; } .s5 { color: var(--s5); }
path[class^="s"] { stroke: currentColor; }
circle.dot { fill: currentColor; }
path.s1 { stroke-dasharray: 6 3; } path.s2 { stroke-dasharray: 2 3; }
path.s3 { stroke-dasharray: 9 3 2 3; } path.s4 { stroke-width: 1; }
path.s5 { stroke-dasharray: 3 4; }
.bar { display: inline-block; width: 6rem; height: .7rem; margin-left: .5rem;
  vertical-align: middle;
  background: linear-gradient(to right, var(--bar) var(--v), var(--card) var(--v)); }
@media (max-width: 40rem) { .bar { width: 3rem; } }
.bar.b2 { background: linear-gradient(to right, var(--line) var(--v), var(--card) var(--v)); }
.bar.b1 { background: linear-gradient(to right, var(--bar1) var(--v), var(--card) var(--v)); }
"""
COLOURS = 5  # of series; a sixth has those of the first
DIAGONAL = COLOURS  # the style of a line that is no run's

_WIDTH, _HEIGHT = 420, 250
_SMALL_WIDTH, _SMALL_HEIGHT = 300, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 36
_TICKS = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])


class Series(NamedTuple):
    """A curve: its name, its points by ascending x, and the number of its style."""

    name: str
    points: Sequence[tuple[float, float]]
    style: int


class _Axis:
    """Values to pixels, from `low` at the pixel `start` to `high` at the pixel `end`."""

    def __init__(self, values: Sequence[float], start: float, end: float, whole: bool) -> None:
        """`whole`: the range grows to whole ticks."""
        low, high = min(values), max(values)
        if low == high:
            low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
        ticks = [float(tick) for tick in _TICKS.tick_values(low, high)]
        if whole:
            low, high = ticks[0], ticks[-1]
        self.ticks = [tick for tick in ticks if low <= tick <= high]
        self._low, self._start = low, start
        self._scale = (end - start) / (high - low)

    def at(self, value: float) -> float:
        """The pixel of a value."""
        return round(self._start + (value - self._low) * self._scale, 1)


def lines(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    square: bool = False,
    small: bool = False,
    every: int = 1,
) -> str:
    """A chart of curves as a <figure>, with a sentence in place of the picture.

    Args:
      title: text.
      series: at least one of them with a point.
      x_label, y_label: text.
      square: both axes from 0 to 1.
      small: for a narrow column.
      every: so many points apart, one tells its values when pointed at; a dot if `square`.
    """
    series = [one for one in series if one.points]
    points = [point for one in series for point in one.points]
    width, height = (_SMALL_WIDTH, _SMALL_HEIGHT) if small else (_WIDTH, _HEIGHT)
    xs = [0.0, 1.0] if square else [x for x, _ in points]
    ys = [0.0, 1.0] if square else [0.0, *(y for _, y in points)]
    x = _Axis(xs, _LEFT, width - _RIGHT, whole=False)
    y = _Axis(ys, height - _BOTTOM, _TOP, whole=True)
    parts = [_grid(x, y, x_label, width, height)]
    for one in series:
        path = "L".join(f"{x.at(px)} {y.at(py)}" for px, py in one.points)
        parts.append(f'<path class="s{one.style}" d="M{path}"/>')
        chosen = list(one.points[::every])
        if one.style != DIAGONAL and (square or len(one.points) == 1):
            parts += [
                f'<circle class="dot s{one.style}" cx="{x.at(px)}" cy="{y.at(py)}" r="3.5"/>'
                for px, py in chosen
            ]
        for px, py in chosen if one.style != DIAGONAL else ():
            said = escape(f"{one.name}, {x_label} {number(px)}: {number(py)}")
            place = f'cx="{x.at(px)}" cy="{y.at(py)}"'
            parts.append(f'<circle class="hit" {place} r="5"><title>{said}</title></circle>')
    label = escape(f"{title}: {y_label} against {x_label}. {_in_words(series)}")
    drawing = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawing}</figure>"


def legend(names: Sequence[str]) -> str:
    """Which line is which, for several charts; the styles in the order of `names`."""
    if len(names) < 2:
        return ""
    keys = (
        f'<span><span class="key s{i % COLOURS}"></span>{escape(name)}</span>'
        for i, name in enumerate(names)
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def bar(text: str, share: float, style: int = 0) -> str:
    """The content of a cell: text, and a bar that is `share` of its full length."""
    kind = f"bar b{style}" if style else "bar"
    length = f"{100 * min(max(share, 0.0), 1.0):.1f}%"
    return f'{escape(text)}<span class="{kind}" style="--v:{length}"></span>'


def bars(values: Sequence[float | None]) -> list[str]:
    """A cell for each run: a share in percent with its bar, the first run's in its own colour."""
    return [share(value, min(i, 1)) for i, value in enumerate(values)]


def share(value: float | None, style: int) -> str:
    """The content of a cell: a share in percent with its bar."""
    return percent(value) if value is None else bar(percent(value), value, style)


def percent(value: float | None) -> str:
    """A share in percent."""
    return "no data" if value is None else f"{100 * value:.1f}"


def percent_columns(names: Sequence[str]) -> list[str]:
    """The heads of the columns of `bars`."""
    return [f"{escape(name)} %" for name in names]


def number(value: float) -> str:
    """A number with three significant digits, and no exponent where it is as short."""
    if value and abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _grid(x: _Axis, y: _Axis, x_label: str, width: int, height: int) -> str:
    left, right, top, bottom = _LEFT, width - _RIGHT, _TOP, height - _BOTTOM
    parts = []
    for tick in y.ticks:
        at = y.at(tick)
        parts.append(f'<path class="grid" d="M{left} {at}H{right}"/>')
        parts.append(f'<text x="{left - 5}" y="{at + 4}" text-anchor="end">{_tick(tick)}</text>')
    for tick in x.ticks:
        at = x.at(tick)
        parts.append(f'<path class="grid" d="M{at} {top}V{bottom}"/>')
        anchor = "end" if at > right - 12 else "middle"
        place = f'x="{at}" y="{bottom + 15}" text-anchor="{anchor}"'
        parts.append(f"<text {place}>{_tick(tick)}</text>")
    middle = (left + right) / 2
    parts.append(
        f'<text x="{middle}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return "".join(parts)


def _tick(value: float) -> str:
    return f"{0.0 if math.isclose(value, 0, abs_tol=1e-12) else value:.6g}"


def _in_words(series: Sequence[Series]) -> str:
    said = []
    for one in series:
        (first_x, first_y), (last_x, last_y) = one.points[0], one.points[-1]
        said.append(
            f"{one.name}: from {number(first_y)} at {number(first_x)} "
            f"to {number(last_y)} at {number(last_x)}"
        )
    return "; ".join(said) + ". The numbers stand in the table below."
