"""How alike the arms' insides are (CKA), also layer by layer, and in which layer the classes come apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from raresight.report.figures.look_style import arm_look, greyed_caption
from raresight.report.figures.style import HAIR, INK, SOFT, Absent, Figure, canvas, to_svg
from raresight.report.look_rows import Look, told_value
from raresight.report.tables import Row, Table, table

BANDS = (("tail", "the rarest third"), ("middle", "the middle third"), ("head", "the commonest third"))
LABEL_GAP = 0.085


def layers(look: Look) -> Figure | Absent:
    """The arms against each other by debiased CKA, then layer by layer, and probe AP over the layers by band."""
    alike = any(_cka(look, a, b) is not None for a in look.arms for b in look.arms if a != b)
    depths = [panel for panel in DEPTHS if any(len(panel.curve(look, arm)) > 1 for arm in look.arms)]
    bands = [(key, told) for key, told in BANDS if any(_curve(look, arm, key) for arm in look.arms)]
    if not alike and not depths and not bands:
        return Absent(look.why_no("between"))
    n = len(look.arms)
    high = (
        0.5 + 0.33 * n if alike else 0.0,
        1.95 + (0.0 if bands else 0.45) if depths else 0.0,
        0.7 + 1.85 if bands else 0.0,
    )
    with canvas(sum(high)) as figure:
        parts = iter(
            figure.subfigures(sum(h > 0 for h in high), 1, height_ratios=[h for h in high if h], squeeze=False)[:, 0]
        )
        if alike:
            _grid(next(parts), look)
        if depths:
            _depths(next(parts), look, depths, legend=not bands)
        if bands:
            _curves(next(parts), look, bands)
        svg = to_svg(figure)
    said = []
    if alike:
        said.append("Above: 1 is the same features up to rotation and scale, 0 is nothing in common; two seeds of one "
                    "arm are the yardstick, on the diagonal where they were compared.")  # fmt: skip
    if depths:
        said.append("By layer: the baseline's line on the left is that of its seeds among each other, the "
                    "yardstick; on the right, a layer near 1 holds what the deepest one holds.")  # fmt: skip
    if bands:
        said.append("Below: average precision of a linear probe on each layer's features, as many positives for every "
                    "class; where a line stops rising the layer holds all that the later ones hold.")  # fmt: skip
    caption = " ".join(said) + greyed_caption(look)
    return Figure(svg, "Likeness of the arms and separability by layer. " + caption, caption, numbers(look))


def _cka(look: Look, a: str, b: str) -> float | None:
    """CKA of two arms' features, whichever way round the pair was written; on the diagonal between seeds."""
    for one, two in ((a, b), (b, a)):
        found = look.value("between", "cka", one, None, other=two, other_layer=None)
        if found is not None:
            return None if a == b and found >= 1 - 1e-9 else found
    return None


def _beside_baseline(look: Look, arm: str) -> list[tuple[int, float]]:
    """Layer position and CKA of the arm with the baseline in that layer; of the baseline, among its seeds."""
    found = []
    for place, layer in enumerate(look.layers):
        for one, two in ((arm, look.baseline), (look.baseline, arm)):
            value = look.value("between", "cka", one, None, other=two, layer=layer, other_layer=layer)
            if value is not None:
                found.append((place, value))
                break
    return found


def _beside_deepest(look: Look, arm: str) -> list[tuple[int, float]]:
    """Layer position and CKA with the deepest layer of the same network."""
    found = []
    for place, layer in enumerate(look.layers[:-1]):
        value = look.value("between", "cka", arm, None, other=arm, layer=layer, other_layer=look.layers[-1])
        if value is not None:
            found.append((place, value))
    return found


@dataclass(frozen=True)
class _Depth:
    curve: Callable[[Look, str], list[tuple[int, float]]]
    title: str


DEPTHS = (
    _Depth(_beside_baseline, "with the same layer of the baseline"),
    _Depth(_beside_deepest, "with the deepest layer of the same network"),
)


def _curve(look: Look, arm: str, band: str) -> list[tuple[int, float]]:
    """Layer position and probe AP: the band's own row, else the mean over its classes."""
    found = []
    for place, layer in enumerate(look.layers):
        own = look.find("geometry", "probe_ap", arm, None, layer=layer, band=band)
        values = [] if own is None or own.get("value") is None else [float(own["value"])]
        if not values:
            names = [name for name in look.classes if look.per_class[name].get("band") == band]
            known = [look.value("geometry", "probe_ap", arm, name, layer=layer) for name in names]
            values = [value for value in known if value is not None]
        if values:
            found.append((place, sum(values) / len(values)))
    return found


def _grid(part: Canvas, look: Look) -> None:
    axes = part.subplots()
    arms = look.arms
    for y, a in enumerate(arms):
        for x, b in enumerate(arms):
            if x > y:
                continue
            value = _cka(look, a, b)
            grey = a in look.greyed or b in look.greyed
            if value is None:
                axes.text(x, y, "·" if a == b else "–", ha="center", va="center", color=SOFT)
                continue
            shade = max(0.0, min(1.0, value))
            axes.add_patch(_cell(x, y, (0.90 - 0.9 * shade * 0.75,) * 3 if grey else _blue(shade)))
            axes.text(x, y, f"{value:.2f}".replace("-", "−"), ha="center", va="center", fontsize=7.5,
                      color="white" if shade > 0.6 else INK)  # fmt: skip
    axes.set_xlim(-0.5, len(arms) - 0.5)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xticks(range(len(arms)), [arm.replace("_", "\n") for arm in arms], fontsize=7.5)
    axes.set_yticks(range(len(arms)), arms, fontsize=7.5)
    axes.tick_params(length=0, colors=INK)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title("Likeness of features between arms (CKA)", fontsize=8.5)


def _depths(part: Canvas, look: Look, depths: Sequence[_Depth], *, legend: bool) -> None:
    panels = part.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for axes, panel in zip(panels, depths, strict=True):
        for arm in look.arms:
            _line(axes, look, arm, panel.curve(look, arm))
        _finish(axes, look, panel.title)
    panels[0].set_ylabel("CKA")
    if legend:
        _legend(part, panels[0])


def _cell(x: float, y: float, colour: tuple[float, ...]):  # type: ignore[no-untyped-def]
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, fc=colour, ec="none")


def _blue(shade: float) -> tuple[float, ...]:
    """From near white to the palette's blue, dark enough at the end to carry white letters in print."""
    pale, deep = (0.93, 0.96, 0.98), (0.0, 0.33, 0.55)
    return tuple(a + (b - a) * shade for a, b in zip(pale, deep, strict=True))


def _curves(part: Canvas, look: Look, bands: Sequence[tuple[str, str]]) -> None:
    panels = part.subplots(1, len(bands), sharey=True, squeeze=False)[0]
    for axes, (band, told) in zip(panels, bands, strict=True):
        for arm in look.arms:
            _line(axes, look, arm, _curve(look, arm, band))
        _finish(axes, look, f"{told} of the classes")
    panels[0].set_ylabel("probe average precision")
    _legend(part, panels[0])


def _line(axes: Axes, look: Look, arm: str, points: Sequence[tuple[int, float]]) -> None:
    if not points:
        return
    colour, marker = arm_look(look, arm)
    base = arm == look.baseline
    axes.plot([x for x, _ in points], [y for _, y in points], marker=marker, ms=4, color=colour, label=arm,
              lw=1.8 if base else 1.1, ls=(0, (2, 2)) if arm in look.greyed else "-", zorder=4 if base else 2,
              mfc="white" if arm in look.greyed else colour)  # fmt: skip


def _legend(part: Canvas, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    part.legend(handles, names, loc="outside lower center", ncols=4, fontsize=7.5)


def _finish(axes: Axes, look: Look, title: str) -> None:
    axes.set_title(title, fontsize=8.5)
    axes.set_xticks(range(len(look.layers)), [_short(name) for name in look.layers], fontsize=7)
    axes.set_xlim(-0.3, len(look.layers) - 0.7)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "−"))
    axes.grid(axis="y", color=HAIR, lw=0.6)
    axes.set_axisbelow(True)


def _short(layer: str, most: int = 8) -> str:
    last = layer.rsplit(".", 1)[-1] if layer.rsplit(".", 1)[-1].isalpha() else layer.removeprefix("backbone.")
    return last if len(last) <= most else "…" + last[-most + 1 :]


def numbers(look: Look) -> Table:
    """CKA of every pair of arms, and how alike their maps are, the mean over classes."""
    rows = []
    for i, a in enumerate(look.arms):
        for b in look.arms[i:]:
            pairs = ((a, b), (b, a))
            told = (look.find("between", "cka", one, None, other=two, other_layer=None) for one, two in pairs)
            row = next((found for found in told if found), None)
            if row is None or (a == b and (row.get("value") or 0) >= 1 - 1e-9):
                continue
            maps = [
                value
                for one, two in dict.fromkeys(pairs)
                for name in look.classes
                if (value := look.value("between", "map_spearman", one, name, other=two)) is not None
            ]
            alike = f"{sum(maps) / len(maps):.2f}".replace("-", "−") if maps else "not computed"
            grey = "wide" if a in look.greyed or b in look.greyed else ""
            rows.append(Row((a, b if a != b else "another seed of it", told_value(row), alike), grey))
    note = "CKA is debiased. Maps: mean over classes of Spearman's correlation between two arms' maps of one finding."
    return table(("Arm", "Against", "CKA", "Maps alike"), rows, (2, 3), note)
