"""Plots as inline SVG: learning curves, bars with intervals, heat maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from jobs.markup import Child, add, tag

WIDTH, HEIGHT = 720.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 12.0, 28.0
MOST_POINTS = 400
NUMBERED_CELLS = 24
"""A heat map of more classes shows its counts on pointing at a cell only."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a plot; few points are marked."""

    name: str
    points: Sequence[Point]
    kind: str
    """Class in the style sheet: "loss", "smooth" or "validation"."""


def number(value: float) -> str:
    """A number as short as it can be read."""
    if not math.isfinite(value):
        return "?"
    size = abs(value)
    if value == int(value) and size < 1e15:
        return f"{int(value):,}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if 0.01 <= size < 10 else f"{value:.3g}"


def curve(
    series: Sequence[Series], last: float, mark: Point | None = None, note: str = ""
) -> Element:
    """Lines over steps 0 to `last`; `mark` is a point that `note` explains."""
    points = [point for line in series for point in line.points]
    steps = [0.0, last]
    ticks = _ticks([value for _, value in points])
    x = _scale(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    y = _scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    names = ", ".join(line.name for line in series)
    picture = tag("svg", viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", role="img", aria_label=names)
    for tick in ticks:
        height = f"{y(tick):.1f}"
        add(picture, tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=height, y2=height, class_="grid"))
        label = tag("text", f"{tick:,.6g}", x=LEFT - 8, y=f"{y(tick) + 4:.1f}", class_="end")
        add(picture, label)
    for tick in _steps(min(steps), max(steps)):
        label = tag("text", f"{tick:,.0f}", x=f"{x(tick):.1f}", y=HEIGHT - 8, class_="middle")
        add(picture, label)
    for line in series:
        add(picture, *_line(line, x, y))
    if mark is not None:
        circle = tag("circle", tag("title", note), cx=f"{x(mark[0]):.1f}", cy=f"{y(mark[1]):.1f}")
        circle.set("r", "6")
        circle.set("class", "mark")
        add(picture, circle)
    return picture


def scatter(points: Sequence[Series], unit: str) -> Element:
    """A dot for each series' last point; x from 0 on, named by ``unit``."""
    last = max(line.points[-1][0] for line in points)
    dots = [Series(line.name, line.points[-1:], "validation") for line in points]
    picture = curve(dots, last)
    label = tag("text", unit, x=WIDTH - RIGHT, y=HEIGHT - BOTTOM - 6, class_="end")
    return add(picture, label)


def _line(series: Series, x: Callable[[float], float], y: Callable[[float], float]) -> list[Child]:
    points = thinned(series.points)
    places = [f"{x(step):.1f},{y(value):.1f}" for step, value in points]
    made: list[Child] = [tag("polyline", points=" ".join(places), class_=f"line {series.kind}")]
    if len(points) <= 60 and series.kind == "validation":
        for (step, value), place in zip(points, places, strict=True):
            cx, cy = place.split(",")
            title = tag("title", f"step {step:,.0f}: {series.name} {number(value)}")
            made.append(tag("circle", title, cx=cx, cy=cy, r=3, class_=f"dot {series.kind}"))
    return made


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most MOST_POINTS, the last one among them."""
    stride = math.ceil(len(points) / MOST_POINTS)
    kept = list(points[::stride]) if points else []
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Exponential moving average over a fiftieth of the steps, unbiased at its start."""
    decay = 1 - 1 / max(1.0, len(points) / 50)
    mean = weight = 0.0
    found = []
    for step, value in points:
        mean, weight = decay * mean + (1 - decay) * value, decay * weight + (1 - decay)
        found.append((step, mean / weight))
    return found


def bar(value: float, interval: Sequence[float] | None, other: float | None, top: float) -> Element:
    """A bar from 0 to `top` with its interval as a whisker, and a tick for the baseline."""

    def share(part: float) -> str:
        return f"{100 * min(1.0, max(0.0, part / top)):.2f}%"

    picture = tag("svg", class_="bar", role="img", aria_label=number(value))
    rail = tag("rect", x=0, y=5, width="100%", height=14, rx=3, class_="rail")
    add(picture, rail, tag("rect", x=0, y=5, width=share(value), height=14, rx=3, class_="value"))
    if other is not None:
        title = tag("title", f"baseline {number(other)}")
        place = share(other)
        add(picture, tag("line", title, x1=place, x2=place, y1=0, y2=24, class_="baseline"))
    if interval:
        low, high = (share(end) for end in interval)
        add(picture, tag("line", x1=low, x2=high, y1=12, y2=12, class_="whisker"))
        for end in (low, high):
            add(picture, tag("line", x1=end, x2=end, y1=8, y2=16, class_="whisker"))
    return picture


def heat(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Element:
    """Counts by label (rows) and prediction (columns), coloured by their share of the row."""
    size = len(labels)
    cell = max(12.0, min(56.0, 620.0 / max(1, size)))
    letters = max((len(label) for label in labels), default=0)
    margin = min(150.0, 16 + 7.0 * letters)
    slanted = size > 6 or letters * 8 > cell
    top = margin * (0.8 if slanted else 0) + (0 if slanted else 24)
    side, height = margin + cell * size + (margin * 0.6 if slanted else 4), top + cell * size + 4
    picture = tag("svg", viewBox=f"0 0 {side:.0f} {height:.0f}", role="img", class_="heat")
    picture.set("style", f"max-width:{side:.0f}px")
    picture.set("aria-label", "labels by predictions")
    for row, (label, line) in enumerate(zip(labels, counts, strict=True)):
        y = top + row * cell
        text = tag("text", _short(label), x=margin - 8, y=f"{y + cell / 2 + 4:.1f}", class_="end")
        add(picture, add(text, tag("title", label)))
        x = margin + row * cell + cell / 2
        turn = f"rotate(-40 {x:.1f} {top - 8:.1f})" if slanted else None
        kind = None if slanted else "middle"
        head = tag("text", _short(label), x=f"{x:.1f}", y=f"{top - 8:.1f}", class_=kind)
        if turn:
            head.set("transform", turn)
        add(picture, add(head, tag("title", label)))
        for column, count in enumerate(line):
            box = (margin + column * cell, y, cell)
            title = f"{label}, predicted {labels[column]}: {count:,}"
            share = count / max(1, sum(line))
            add(picture, *_cell(box, count, share, title, row == column, size))
    return picture


def _cell(
    box: tuple[float, float, float], count: int, share: float, title: str, right: bool, size: int
) -> list[Child]:
    x, y, cell = box
    # The square root lets few mistakes among many records be seen.
    opacity = 0.06 if not count else 0.1 + 0.9 * math.sqrt(share)
    square = tag("rect", tag("title", title), x=f"{x + 1:.1f}", y=f"{y + 1:.1f}", rx=2)
    square.set("width", f"{cell - 2:.1f}")
    square.set("height", f"{cell - 2:.1f}")
    square.set("class", "right" if right else "wrong")
    square.set("fill-opacity", f"{opacity:.2f}")
    if not count or size > NUMBERED_CELLS:
        return [square]
    text = tag("text", f"{count:,}", x=f"{x + cell / 2:.1f}", y=f"{y + cell / 2 + 4:.1f}")
    text.set("class", "middle on" if opacity > 0.55 else "middle")
    return [square, text]


def _short(label: str) -> str:
    return label if len(label) <= 18 else f"{label[:17]}…"


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    width = (high - low) or 1.0
    return lambda value: start + (value - low) / width * (stop - start)


def _ticks(values: Sequence[float], wanted: int = 5) -> list[float]:
    """Round numbers from below the least value to above the greatest."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    raw = (high - low) / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * s for s in (1, 2, 2.5, 5, 10) if power * s >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _steps(low: float, high: float) -> list[float]:
    inside = [tick for tick in _ticks([low, high]) if low <= tick <= high and tick == int(tick)]
    return inside or [low, high]
