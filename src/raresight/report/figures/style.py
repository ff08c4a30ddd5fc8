"""How every figure looks and is written: vector, deterministic, readable without colour, with words and a table."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from raresight.report.tables import Table

# Okabe & Ito, "Color Universal Design" (2008), in the order in which arms take them.
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, YELLOW = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442",
)  # fmt: skip
INK, SOFT, FAINT, HAIR = "#1d2329", "#5c6670", "#a4adb5", "#dfe3e6"
CYCLE = (VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLUE)
MARKERS = ("s", "D", "^", "v", "P", "X")
WIDTH = 7.0  # inches: a column of the page, 672 CSS pixels

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "raresight",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0,
    "xtick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "hatch.linewidth": 0.6,
    "path.simplify": True,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Figure:
    """A drawing, its text alternative, what it shows in a sentence, and the numbers behind it."""

    svg: str
    alt: str
    caption: str
    table: Table


@dataclass(frozen=True)
class Absent:
    """A figure or table that could not be made: `not computed, because ...`."""

    why: str


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[Canvas]:
    """A figure that belongs to nobody else: no global state, no window."""
    with mpl.rc_context(STYLE):
        yield Canvas(figsize=(width, height), layout="constrained")


def to_svg(figure: Canvas) -> str:
    """The drawing as an SVG element to stand inside a page: no prologue, metadata, addresses or ids of its own.

    Equal drawings give equal text: no date, ids hashed from content, coordinates to a hundredth of a point.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' xmlns(?::\w+)?="[^"]*"', "", text)
    text = re.sub(r' id="[A-Za-z]+[\w.]*_\d+"', "", text)
    text = re.sub(r" ?font-family: [^;\"]*;", "", text)
    text = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", text)
    text = re.sub(r"(\d+\.\d\d)\d+", r"\1", text)
    text = re.sub(r"<g>\s*</g>", "", text)
    text = re.sub(r"\n\s*", "\n", text)
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2]
    text = re.sub(r'(?:width|height)="[\d.]+pt" ?', "", text, count=2)
    return text.replace("<svg", f'<svg style="aspect-ratio: {width} / {height}"', 1).strip()


def rows_axis(axes: Axes, names: list[str]) -> None:
    """Names down the side, the first on top, with hairlines between the rows."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", colors=INK)
    axes.spines["left"].set_visible(False)
    for y in range(len(names) - 1):
        axes.axhline(y + 0.5, color=HAIR, lw=0.6, zorder=0)


def percent_axis(axes: Axes, which: str = "x") -> None:
    """Shares from 0% to 100%."""
    ticks, names = [0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"]
    if which == "x":
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks(ticks, names)
        axes.grid(axis="x", color=HAIR, lw=0.6)
    else:
        axes.set_ylim(-0.02, 1.04)
        axes.set_yticks(ticks, names)
        axes.grid(axis="y", color=HAIR, lw=0.6)
    axes.set_axisbelow(True)


def interval_mark(axes: Axes, y: float, estimate: Any, colour: str, marker: str = "o", size: float = 5.5) -> None:
    """A point with its interval; hollow and thin where wide, a grey note where there is no figure."""
    if estimate is None or estimate.value is None:
        axes.text(0.02, y, "not estimable" if estimate is not None else "not computed", color=SOFT, va="center",
                  fontsize=7.5, style="italic", transform=axes.get_yaxis_transform())  # fmt: skip
        return
    wide = estimate.status == "wide"
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [y, y], color=FAINT if wide else colour, lw=1.3 if wide else 1.8,
                  solid_capstyle="butt", zorder=2, clip_on=False)  # fmt: skip
    axes.plot([estimate.value], [y], marker, ms=size, mfc="white" if wide else colour, zorder=3,
              mec=SOFT if wide else colour, mew=1.1, clip_on=False)  # fmt: skip
