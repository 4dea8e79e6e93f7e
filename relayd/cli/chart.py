"""Shares that grow with time, drawn: as text for a terminal, and as SVG. Pure.

Time is on a logarithmic axis from `START` to the last point; what is there at once stands at its left end. The axis of
shares begins a little below the lowest, so that differences show. The SVG is a picture of its own (no script, nothing
from elsewhere), readable on light and dark pages, and says in its description what it shows.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

from relayd.config.units import Duration

Points = Sequence[tuple[float, float]]
"""Seconds, and the share reached by then (0 to 1); both rise."""

START = 0.1
"""Seconds at the left end."""
_TICKS = tuple(Duration.parse(text) for text in ("1s", "10s", "1m", "10m", "1h", "4h", "1d"))
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ROWS = 8
"""Height of an area in the terminal, in lines."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 440, 64, 150, 48, 48
_LABEL = 15
"""Units between labels, at least."""
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-size: 15px; font-weight: 600 }
.grid { stroke: #ddd } .line { fill: none; stroke-width: 2; stroke-linejoin: round } .leader { stroke: #999 }
.end { text-anchor: end } .middle { text-anchor: middle } .paper { fill: #fff }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .grid { stroke: #444 } .leader { stroke: #777 } .paper { fill: #181818 } }
"""
_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#8a6d00",
    "#56b4e9",
    "#e69f00",
    "#7f7f7f",
    "#9467bd",
    "#b22222",
)


def area(points: Points, *, width: int) -> str:
    """One curve as a filled area, with both axes; ``width`` columns of text at most."""
    start, end = _floor([points]), points[-1][0]
    gutter = 8
    heights = [_height(share, start) * _ROWS for share in _columns(points, width - gutter)]
    lines = []
    for row in range(_ROWS - 1, -1, -1):
        label = _percent(start + (row + 1) * (1 - start) / _ROWS) if row % 2 else ""
        cells = (_EIGHTHS[max(0, min(8, round((height - row) * 8)))] for height in heights)
        lines.append(f"{label:>7} {''.join(cells)}".rstrip())
    return "\n".join([*lines, *_axis(width - gutter, end, gutter)])


def rows(curves: Mapping[str, Points], *, width: int) -> str:
    """A line for each curve, all on the same axes; ``width`` columns of text at most."""
    start, end = _floor(list(curves.values())), max(points[-1][0] for points in curves.values())
    gutter = max(map(len, curves)) + 9
    lines = [
        f"{name:{gutter - 9}} {points[0][1]:>7.2%} "
        + "".join(_EIGHTHS[math.ceil(_height(share, start) * 8)] for share in _columns(points, width - gutter - 8))
        + f" {points[-1][1]:.2%}"
        for name, points in curves.items()
    ]
    return "\n".join([*lines, *_axis(width - gutter - 8, end, gutter)])


def _axis(width: int, end: float, gutter: int) -> Iterator[str]:
    marks, text = ["─"] * width, [" "] * (width + 8)
    for tick in _TICKS:
        column = round(_place(tick, end) * (width - 1))
        label = str(tick)
        if tick < end and "".join(text[max(column - 2, 0) : column + len(label)]).isspace():
            marks[column] = "┴"
            text[column : column + len(label)] = label
    yield " " * gutter + "".join(marks)
    yield " " * gutter + "".join(text).rstrip()


def _columns(points: Points, width: int) -> Iterator[float]:
    """The share reached by the time of each column."""
    end = points[-1][0]
    for column in range(width):
        seconds = START * (end / START) ** (column / (width - 1))
        place = bisect_right(points, seconds * (1 + 1e-9), key=lambda point: point[0])
        yield points[place - 1][1] if place else 0.0


def _place(seconds: float, end: float) -> float:
    """Where a time lies on the axis, from 0 to 1."""
    return max(math.log(seconds / START) / math.log(end / START), 0.0)


def _floor(curves: Sequence[Points]) -> float:
    """Where the axis of shares begins."""
    lowest = min(points[0][1] for points in curves)
    step = 10.0 ** math.floor(math.log10(max(1 - lowest, 1e-4)))
    return max(1 - math.ceil((1 - lowest) / step + 0.2) * step, 0.0)


def _height(share: float, start: float) -> float:
    return (share - start) / (1 - start)


def svg(title: str, curves: Mapping[str, Points]) -> str:
    """All curves in one picture; those that are the same share a line and a label."""
    same: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for name, points in curves.items():
        same.setdefault(tuple(points), []).append(name)
    start, end = _floor(list(same)), max(points[-1][0] for points in same)
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(seconds: float) -> float:
        return _LEFT + _place(seconds, end) * across

    def y(share: float) -> float:
        return _TOP + (1 - _height(share, start)) * down

    said = "; ".join(f"{', '.join(names)}: {points[-1][1]:.2%}" for points, names in same.items())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{_escaped(title)}</title><desc>In the end {_escaped(said)}</desc><style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="24">{_escaped(title)}</text>',
        f'<text class="middle" x="{_LEFT + across / 2:g}" y="{_HEIGHT - 10}">time since the first attempt</text>',
    ]
    for step in range(5):
        share = start + step * (1 - start) / 4
        parts += [
            f'<path class="grid" d="M{_LEFT} {y(share):.1f}h{across}"/>',
            f'<text class="end" x="{_LEFT - 8}" y="{y(share) + 4:.1f}">{_percent(share)}</text>',
        ]
    for tick in _TICKS:
        if tick < end:
            parts += [
                f'<path class="grid" d="M{x(tick):.1f} {_TOP}v{down}"/>',
                f'<text class="middle" x="{x(tick):.1f}" y="{_TOP + down + 18}">{tick}</text>',
            ]
    labels = sorted((y(points[-1][1]), number) for number, points in enumerate(same))
    spread = _spread([at for at, _ in labels], _TOP + down)
    for (at, number), label_at in zip(labels, spread, strict=True):
        points, names = list(same.items())[number]
        colour = _COLOURS[number % len(_COLOURS)]
        path, before = [f"M{_LEFT} {y(points[0][1]):.1f}"], y(points[0][1])
        for seconds, share in points:
            path.append(f"L{x(seconds):.1f} {before:.1f}L{x(seconds):.1f} {y(share):.1f}")
            before = y(share)
        parts += [
            f'<path class="line" stroke="{colour}" d="{"".join(path)}"/>',
            f'<path class="leader" d="M{_LEFT + across} {at:.1f}L{_LEFT + across + 10} {label_at:.1f}"/>',
            f'<text style="fill:{colour}" x="{_LEFT + across + 14}" y="{label_at + 4:.1f}">'
            f"{_escaped(', '.join(names))}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])


def _spread(places: Sequence[float], lowest: float) -> list[float]:
    """Rising places, moved apart so that labels there do not touch; the last is at ``lowest`` at most."""
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + _LABEL) if found else place)
    limit = lowest
    for number in range(len(found) - 1, -1, -1):
        found[number] = min(found[number], limit)
        limit = found[number] - _LABEL
    return found


def _percent(share: float) -> str:
    """For an axis."""
    return f"{round(share * 100, 3):g}%"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
