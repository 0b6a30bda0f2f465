"""Line charts, small and clean, written as SVG by hand and as PNG by Pillow, from one list of strokes and words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]

WIDTH, HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 72, 52
_SIZE: Final = 13
_INK, _PALE = "#333333", "#dddddd"
# Distinguished by who cannot see red or green, too: Okabe and Ito, "Color Universal Design", 2008.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_ANCHORS: Final = {"start": "ls", "middle": "ms", "end": "rs"}
_SHARPER: Final = 2
"""Pixels of the PNG for each unit of the SVG."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line through points."""

    points: tuple[Point, ...]
    colour: str
    width: float


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text; `at` is on its base line."""

    at: Point
    text: str
    anchor: str = "start"
    size: int = _SIZE


@dataclass(frozen=True)
class Chart:
    """Lines over one horizontal axis."""

    title: str
    horizontal: str
    vertical: str
    lines: Mapping[str, Sequence[Point]]
    """By what they are called in the legend."""

    def write(self, folder: Path, name: str) -> None:
        """Write `name`.svg and `name`.png into a folder that is there."""
        drawn = list(self._drawn())
        (folder / f"{name}.svg").write_text(_svg(drawn), encoding="utf-8")
        _png(drawn).save(folder / f"{name}.png")

    def _drawn(self) -> Iterator[Stroke | Words]:
        points = [point for line in self.lines.values() for point in line]
        across = _ticks([x for x, _ in points])
        up = _ticks([y for _, y in points])

        def place(point: Point) -> Point:
            x = (point[0] - across[0]) / (across[-1] - across[0])
            y = (point[1] - up[0]) / (up[-1] - up[0])
            return _LEFT + x * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - y * (HEIGHT - _TOP - _BOTTOM)

        for tick in up:
            x, y = place((across[0], tick))
            yield Stroke(((x, y), (WIDTH - _RIGHT, y)), _PALE, 1)
            yield Words((x - 8, y + 4), f"{tick:g}", "end")
        for tick in across:
            x, y = place((tick, up[0]))
            yield Stroke(((x, y), (x, y + 5)), _INK, 1)
            yield Words((x, y + 20), f"{tick:g}", "middle")
        yield Stroke((place((across[0], up[0])), place((across[-1], up[0]))), _INK, 1)
        yield Words((_LEFT, 22), self.title, size=16)
        yield Words((_LEFT, _TOP - 12), self.vertical)
        yield Words(((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 12), self.horizontal, "middle")
        right = float(_LEFT)
        for colour, (called, line) in zip(_COLOURS, self.lines.items(), strict=False):
            yield Stroke(((right, 40), (right + 18, 40)), colour, 3)
            yield Words((right + 24, 44), called)
            right += 44 + 6.7 * len(called)
            yield Stroke(tuple(map(place, line)), colour, 2)


def _ticks(values: Sequence[float]) -> list[float]:
    """Give about five round numbers that span the values."""
    low, high = min(values), max(values)
    wide = (high - low) or 1.0
    power = 10 ** math.floor(math.log10(wide / 4))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda each: abs(wide / each - 4.5))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, max(last, first + 1) + 1)]


def _svg(drawn: Sequence[Stroke | Words]) -> str:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" fill="{_INK}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for each in drawn:
        if isinstance(each, Stroke):
            places = " ".join(f"{x:.1f},{y:.1f}" for x, y in each.points)
            parts.append(
                f'<polyline points="{places}" fill="none" stroke="{each.colour}" stroke-width="{each.width:g}"/>'
            )
        else:
            x, y = each.at
            parts.append(
                f'<text x="{x:.1f}" y="{y:.1f}" font-size="{each.size}" text-anchor="{each.anchor}">'
                f"{escape(each.text)}</text>"
            )
    return "\n".join([*parts, "</svg>", ""])


def _png(drawn: Sequence[Stroke | Words]) -> Image.Image:
    picture = Image.new("RGB", (WIDTH * _SHARPER, HEIGHT * _SHARPER), "white")
    pen = ImageDraw.Draw(picture)
    for each in drawn:
        if isinstance(each, Stroke):
            places = [(x * _SHARPER, y * _SHARPER) for x, y in each.points]
            pen.line(places, fill=each.colour, width=round(each.width * _SHARPER), joint="curve")
        else:
            font = ImageFont.load_default(each.size * _SHARPER)
            x, y = each.at
            pen.text(
                (x * _SHARPER, y * _SHARPER), each.text, fill=_INK, font=font, anchor=_ANCHORS[each.anchor]
            )
    return picture
