"""Small line charts as SVG: several panels, both axes logarithmic, one line for each server."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Curve = Sequence[tuple[int, float | None]]

_WIDTH, _HEIGHT = 380, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 16, 36, 34
_COLOURS = ("#c0392b", "#e67e22", "#8e44ad", "#1f6fb2", "#69b3e7", "#2e8b57")


def panels(curves: Mapping[str, Mapping[str, Curve]]) -> str:
    """Return a drawing with a panel for each title, two in a row, and a legend."""
    names = list(next(iter(curves.values())))
    rows = math.ceil(len(curves) / 2)
    height = rows * _HEIGHT + 24 * math.ceil(len(names) / 3) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * _WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12" fill="#222">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for number, (title, lines) in enumerate(curves.items()):
        at = f"translate({number % 2 * _WIDTH},{number // 2 * _HEIGHT})"
        parts.append(f'<g transform="{at}">{_panel(title, lines)}</g>')
    for number, name in enumerate(names):
        x, y = 20 + number % 3 * 250, rows * _HEIGHT + 20 + number // 3 * 24
        parts.append(f'<rect x="{x}" y="{y - 9}" width="14" height="10" fill="{_COLOURS[number]}"/>')
        parts.append(f'<text x="{x + 20}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(title: str, lines: Mapping[str, Curve]) -> str:
    points = [(x, y) for line in lines.values() for x, y in line if y]
    parts = [f'<text x="{_LEFT}" y="20" font-weight="bold">{escape(title)}</text>']
    if not points:
        return parts[0]
    low = math.floor(math.log10(min(y for _, y in points)))
    high = max(low + 1, math.ceil(math.log10(max(y for _, y in points))))
    files = sorted({x for x, _ in points})
    for power in range(low, high + 1):
        y = _scale(10.0**power, 10.0**low, 10.0**high, _HEIGHT - _BOTTOM, _TOP)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:,g}</text>')
    under = f'y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle"'
    parts += [f'<text x="{_at(x, files):.1f}" {under}>{x:,} files</text>' for x in files]
    for line, colour in zip(lines.values(), _COLOURS, strict=False):
        found = [
            (_at(x, files), _scale(y, 10.0**low, 10.0**high, _HEIGHT - _BOTTOM, _TOP)) for x, y in line if y
        ]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in found)
        if path:
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in found]
    return "".join(parts)


def _at(x: int, files: Sequence[int]) -> float:
    return _scale(x, files[0], files[-1], _LEFT + 24, _WIDTH - _RIGHT - 34)


def _scale(value: float, low: float, high: float, begin: float, end: float) -> float:
    if low == high:
        return (begin + end) / 2
    return begin + (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low)) * (
        end - begin
    )
