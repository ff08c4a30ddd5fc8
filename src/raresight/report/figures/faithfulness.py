"""The faithfulness audit drawn: how far each transform moves each feature, against two photographs of one lesion."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raresight.report.figures.style import (
    BLUE,
    FAINT,
    HAIR,
    INK,
    SOFT,
    VERMILLION,
    WIDTH,
    Figure,
    canvas,
    rows_axis,
    to_svg,
)
from raresight.report.tables import Row, Table, table

LEAST, MOST = 0.01, 100.0  # the axis; what lies outside is drawn on its edge


@dataclass(frozen=True)
class Panel:
    """One example: a picture `(H, W, C)` in [0, 1] with its soft mask, and what the transform destroys in general."""

    title: str
    image: np.ndarray
    mask: np.ndarray
    destroys: tuple[str, ...]


def faithfulness(audit: Mapping[str, Any]) -> Figure:
    """Bars of every transform's change over the spread of repeated photographs, one panel a feature."""
    svg = _bars(audit, to_svg)
    named = [
        f"{row['name']} ({row['bound']}): {', '.join(row['destroys'])}" for row in _allowed(audit) if row["destroys"]
    ]
    if audit["not_judged"]:
        caption = f"Nothing is named: {audit['not_judged']}. Bars are shown against the spread between lesions."
    elif named:
        caption = (
            f"Moved further than two photographs of one lesion differ, by '{audit['preset']}': {'; '.join(named)}."
        )
    else:
        caption = (
            f"Nothing that the preset '{audit['preset']}' does moves a feature beyond two photographs of one lesion."
        )
    alt = "Change of each diagnostic feature under each transform, with 95% intervals over patients. " + caption
    return Figure(svg, alt, caption, numbers(audit))


def numbers(audit: Mapping[str, Any]) -> Table:
    """A row a transform: what it destroys, and its ratio to the spread of repeated photographs by feature."""
    head = ("Transform", "At", "Preset", *(row["feature"] for row in audit["features"]), "Cut by the edge", "Destroys")
    rows = []
    for row in audit["transforms"]:
        cells = [_told(feature) for feature in row["features"]]
        inside = "yes" if row["allowed"] else "no"
        destroyed = ", ".join(row["destroys"])
        made = (row["name"], row["bound"], inside, *cells, f"{row['share_cut'] or 0:.0%}", destroyed or "nothing")
        rows.append(Row(made, "strong" if destroyed and row["allowed"] else ""))
    return table(head, rows, numeric=range(3, 3 + len(audit["features"])), note=audit["rule"])


def standalone(audit: Mapping[str, Any]) -> str:
    """The bars as an SVG file of its own."""

    def whole(figure: Any) -> str:
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
        return stream.getvalue()

    return _bars(audit, whole)


def examples(panels: Sequence[Panel], columns: int = 6) -> bytes:
    """The panels side by side with their lesions outlined, as PNG; titles are red where something is destroyed."""
    rows = -(-len(panels) // columns)
    with canvas(1.72 * rows, width=WIDTH * 1.5) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, panel in zip(grid.flat, panels, strict=False):
            shown = np.clip(panel.image, 0, 1)
            axes.imshow(shown if shown.shape[2] == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1)
            if panel.mask.min() < 0.5 < panel.mask.max():
                axes.contour(
                    panel.mask, levels=[0.5], colors=[VERMILLION if panel.destroys else "white"], linewidths=0.9
                )
            axes.set_title(panel.title, fontsize=6.5, color=VERMILLION if panel.destroys else INK, fontweight="normal")
            if panel.destroys:
                axes.text(0.02, 0.02, "destroys " + ",\n".join(panel.destroys), transform=axes.transAxes, fontsize=5.5,
                          color="white", va="bottom", bbox={"fc": VERMILLION, "ec": "none", "pad": 1.2})  # fmt: skip
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def _bars(audit: Mapping[str, Any], write: Any) -> Any:
    rows = [audit["control"], *audit["transforms"]]
    names = [row["feature"] for row in audit["features"]]
    judged = not audit["not_judged"]
    with canvas(0.9 + 0.2 * len(rows), width=WIDTH * 1.5) as figure:
        panels = figure.subplots(1, len(names), sharey=True)
        for k, (axes, name) in enumerate(zip(panels, names, strict=True)):
            axes.set_xscale("log")
            axes.set_xlim(LEAST, MOST)
            axes.axvspan(LEAST, 1, color=HAIR, alpha=0.45, lw=0)
            axes.axvline(1, color=SOFT, lw=0.8)
            for y, row in enumerate(rows):
                _bar(axes, y, row, row["features"][k], "to_within" if judged else "to_between")
            axes.set_title(name, fontsize=8.5, color=INK)
            axes.set_xticks([0.01, 0.1, 1, 10, 100], ["", "0.1", "1", "10", ""])
            axes.minorticks_off()
            rows_axis(axes, [f"{row['name']}, {row['bound']}" for row in rows])
            if k:
                axes.tick_params(axis="y", labelleft=False)
        against = "two photographs of one lesion" if judged else "different lesions"
        figure.supxlabel(f"median change / standard deviation among {against}; red: destroys the feature; "
                         "hollow: not in the preset", fontsize=8.5, color=SOFT)  # fmt: skip
        return write(figure)


def _bar(axes: Any, y: int, row: Mapping[str, Any], feature: Mapping[str, Any], key: str) -> None:
    ratio = feature[key]
    if ratio is None or ratio["value"] is None or ratio["value"] < LEAST:
        return
    colour = VERMILLION if feature["destroyed"] else BLUE if row["allowed"] else FAINT
    value = min(ratio["value"], MOST)
    filled = {"color": colour} if row["allowed"] else {"fc": "none", "ec": colour}
    axes.barh(y, value - LEAST, left=LEAST, height=0.55, lw=0.9, zorder=2, **filled)
    if ratio["low"] is not None and ratio["high"] is not None:
        ends = np.clip([ratio["low"], ratio["high"]], LEAST, MOST)
        axes.plot(ends, [y, y], color=INK, lw=1.0, zorder=3, solid_capstyle="butt")


def _told(feature: Mapping[str, Any]) -> str:
    ratio = feature["to_within"] or feature["to_between"]
    if ratio["value"] is None:
        return "-"
    if ratio["value"] < 0.005:
        return "0"
    return f"{ratio['value']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})" + (" *" if feature["destroyed"] else "")


def _allowed(audit: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in audit["transforms"] if row["allowed"]]
