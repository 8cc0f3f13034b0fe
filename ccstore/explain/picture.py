"""The steps behind a target as a picture (`graph --format svg`): what is there, what is to do, times and sizes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ccstore.explain.layered import Drawing, Sizes, draw

FONT, SMALL = 13, 11  # pixels
LETTER = 0.61  # of the font's size: the width of a letter in usual monospaced fonts
HEIGHT, MARGIN, LEGEND = 44.0, 16.0, 40.0
COLOURS = {
    "present": ("#d3f2d5", "#2e8540"),
    "cached": ("#d5e8fb", "#1f6fb2"),
    "to fetch": ("#fdf3c8", "#b58900"),
    "to copy": ("#fffdf0", "#b8ab5a"),
    "to build": ("#fde0cc", "#cb5a1e"),
    "not needed": ("#f0f0f0", "#8a8a8a"),
}


@dataclass(frozen=True, slots=True)
class Box:
    """A step, or several leaves as one: its inputs, a state (of COLOURS), and a line about time and size."""

    name: str
    state: str
    about: str
    inputs: Sequence[str]
    tip: str = ""


def svg(boxes: Sequence[Box], title: str) -> Iterator[str]:
    """The lines of an SVG 1.1 document; each box comes before those that use it."""
    by_name = {each.name: each for each in boxes}
    widths = {each.name: _width(each) for each in boxes}
    drawing = draw({each.name: each.inputs for each in boxes}, Sizes(widths, HEIGHT, 56.0, 14.0))
    states = [state for state in COLOURS if any(each.state == state for each in boxes)]
    legend = sum(LETTER * FONT * len(state) + 46 for state in states)
    width = max(drawing.width, legend) + 2 * MARGIN
    height = drawing.height + LEGEND + 2 * MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">'
    )
    yield f"<title>{escape(title)}</title>"
    yield f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>'
    yield f'<g transform="translate({MARGIN:.0f} {MARGIN:.0f})">'
    yield from _edges(drawing, by_name)
    for each in boxes:
        yield from _box(each, drawing.nodes[each.name], widths[each.name])
    yield from _legend(states, drawing.height + LEGEND - 14)
    yield "</g>"
    yield "</svg>"


def _width(box: Box) -> float:
    return 24 + LETTER * max(FONT * len(box.name), SMALL * len(box.about))


def _edges(drawing: Drawing, boxes: Mapping[str, Box]) -> Iterator[str]:
    yield '<g fill="none" stroke-width="1.3">'
    for (source, _), points in drawing.edges.items():
        colour = COLOURS[boxes[source].state][1]
        yield f'<path stroke="{colour}" stroke-opacity="0.6" d="{_curve(points)}"/>'
    yield "</g>"


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Level at each point: a curve between layers, a line through one."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        middle = (x1 + x2) / 2
        path += f"C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    return path


def _box(box: Box, place: tuple[float, float], width: float) -> Iterator[str]:
    fill, stroke = COLOURS[box.state]
    x, y = place
    yield f'<g transform="translate({x:.1f} {y:.1f})">'
    yield f"<title>{escape(box.tip or f'{box.name}: {box.state}')}</title>"
    yield f'<rect width="{width:.1f}" height="{HEIGHT:.0f}" rx="6" fill="{fill}" stroke="{stroke}"/>'
    yield f'<text x="12" y="18" font-size="{FONT}" fill="#1a1a1a">{escape(box.name)}</text>'
    yield f'<text x="12" y="34" font-size="{SMALL}" fill="#555">{escape(box.about)}</text>'
    yield "</g>"


def _legend(states: Sequence[str], y: float) -> Iterator[str]:
    x = 0.0
    for state in states:
        fill, stroke = COLOURS[state]
        yield f'<rect x="{x:.0f}" y="{y - 11:.0f}" width="18" height="12" rx="3" fill="{fill}" stroke="{stroke}"/>'
        yield f'<text x="{x + 24:.0f}" y="{y:.0f}" font-size="{FONT}" fill="#1a1a1a">{state}</text>'
        x += LETTER * FONT * len(state) + 46
