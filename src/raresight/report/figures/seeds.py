"""Chance in training: every seed of every arm a dot."""

from __future__ import annotations

from raresight.report.content import Content
from raresight.report.figures.style import BLUE, FAINT, Absent, Figure, canvas, rows_axis, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import class_name, metric_name, percent
from raresight.report.words import figure as as_text

CHOICES = ("macro_f1", "balanced_accuracy", "macro_auprc")


def seeds(content: Content) -> Figure | Absent:
    arms = [arm for arm in content.arms if len(arm.seeds) > 1]
    if content.arms and all(arm.outside for arm in content.arms):
        return Absent("not computed, because predictions alone were given, and they do not tell")
    if not arms and any(len(arm.events) > 1 for arm in content.arms):
        return Absent("not computed, because the arms were not evaluated; run `raresight evaluate`")
    if not arms:
        return Absent("not computed, because every arm was trained with one seed; chance in training is not measured")
    macro = next((m for m in CHOICES if arms[0].find(m, seed=arms[0].seeds[0]) is not None), None)
    wanted: list[tuple[str, str | None, str]] = [(macro, None, metric_name(macro))] if macro else []
    wanted += [("recall", name, f"finds {class_name(name)}") for name in content.watched[:2]]
    rows = []
    with canvas(0.6 + 0.27 * len(content.arms)) as figure:
        panels = figure.subplots(1, len(wanted), sharey=True, squeeze=False)[0]
        for axes, (metric, name, title) in zip(panels, wanted, strict=True):
            for y, arm in enumerate(content.arms):
                values = [v.value for s in arm.seeds if (v := arm.find(metric, name, seed=s)) is not None]
                known = [v for v in values if v is not None]
                if known:
                    axes.plot([min(known), max(known)], [y, y], color=FAINT, lw=1.2)
                    axes.plot(known, [y] * len(known), "o", ms=5, mfc=BLUE, mec="white", mew=0.7)
            axes.set_title(title, fontsize=8.5)
            axes.grid(axis="x", color="#dfe3e6", lw=0.6)
            axes.locator_params(axis="x", nbins=5)
            if metric not in ("macro_f1", "macro_auprc"):
                axes.xaxis.set_major_formatter(lambda value, _: percent(value))
            rows_axis(axes, [arm.name for arm in content.arms])
        for axes in panels[1:]:
            axes.tick_params(axis="y", labelleft=False)
        svg = to_svg(figure)
    for arm in content.arms:
        for seed in arm.seeds:
            rows.append(Row((arm.name, str(seed), *(as_text(arm.find(m, c, seed=seed)) for m, c, _ in wanted))))
    caption = "Each dot is one training. Arms whose dots overlap are not told apart by chance in training alone."
    head = ("Arm", "Seed", *(title[0].upper() + title[1:] for _, _, title in wanted))
    alt = "One dot for every seed of every arm. "
    return Figure(
        svg, alt + caption, caption, table(head, rows, range(1, 2 + len(wanted)), "95% intervals over patients.")
    )
