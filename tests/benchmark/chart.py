"""A bar chart as SVG, for light and dark pages: how long ours takes, with the rival's time as 1."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

MOST = 1.6  # times the rival; longer bars are cut off
WIDTH, LABELS, FIGURES, ROW, TOP, BAR = 960, 430, 90, 40, 64, 14
STYLE = """
text { font: 13px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }
text.quiet { font-size: 11px; fill: #59636e }
.page { fill: #ffffff } .line { stroke: #d1d9e0 } .rival { stroke: #59636e; stroke-dasharray: 4 3 }
.met { fill: #2a6fdb } .missed { fill: #bc4c00 } .wanted { stroke: #1f2328; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } text.quiet { fill: #9198a1 }
  .page { fill: #0d1117 } .line { stroke: #3d444d } .rival { stroke: #9198a1 }
  .met { fill: #4493f8 } .missed { fill: #f0883e } .wanted { stroke: #e6edf3 }
}
"""


@dataclass(frozen=True)
class Bar:
    """`ratio` of ours to the rival's, and the most that is wanted."""

    label: str
    against: str
    ratio: float
    most: float


def chart(bars: list[Bar]) -> str:
    """The whole file."""
    height = TOP + ROW * len(bars) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img" aria-label="ccstore beside its rivals">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        '<text x="16" y="24" font-weight="600">ccstore beside its rivals: times their time</text>',
        '<text class="quiet" x="16" y="44">less is better; the mark is what is wanted, at most</text>',
    ]
    parts += [_grid(ratio / 2, height) for ratio in range(int(MOST * 2) + 1)]
    parts += [_bar(bar, TOP + ROW * number) for number, bar in enumerate(bars)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(ratio: float) -> float:
    return round(LABELS + min(ratio, MOST) / MOST * (WIDTH - LABELS - FIGURES), 1)


def _grid(ratio: float, height: int) -> str:
    x, kind = _x(ratio), "rival" if ratio == 1 else "line"
    name = "the rival" if ratio == 1 else f"{ratio:g} ×"
    return (
        f'<line class="{kind}" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{height - 16}"/>'
        f'<text class="quiet" x="{x}" y="{TOP - 12}" text-anchor="middle">{name}</text>'
    )


def _bar(bar: Bar, y: int) -> str:
    kind = "met" if bar.ratio <= bar.most else "missed"
    middle, end, mark = y + ROW // 2, _x(bar.ratio), _x(bar.most)
    return (
        f'<text x="{LABELS - 12}" y="{middle - 2}" text-anchor="end">{_text(bar.label, 62)}</text>'
        f'<text class="quiet" x="{LABELS - 12}" y="{middle + 12}" text-anchor="end">{_text(bar.against, 74)}</text>'
        f'<rect class="{kind}" x="{LABELS}" y="{middle - BAR // 2}" rx="2"'
        f' width="{max(end - LABELS, 1.5):.1f}" height="{BAR}"/>'
        f'<line class="wanted" x1="{mark}" x2="{mark}" y1="{middle - BAR}" y2="{middle + BAR}"/>'
        f'<text x="{max(end, mark) + 8}" y="{middle + 5}">{bar.ratio:.2f} ×</text>'
    )


def _text(markdown: str, most: int) -> str:
    """Without marks of markdown, and cut off where the column ends."""
    plain = re.sub(r"[`*]", "", markdown)
    return escape(plain if len(plain) <= most else f"{plain[: most - 1]}…")
