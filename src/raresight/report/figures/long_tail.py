"""The long tail: how rare each class is, on a log scale, in its severity band, with the patients behind it."""

from __future__ import annotations

from raresight.core.severity import BANDS
from raresight.report.content import Content
from raresight.report.figures.style import BLUE, FAINT, INK, SOFT, VERMILLION, Absent, Figure, canvas, rows_axis, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import class_name, many, plural, share, unit_of

SHADES = ("#ffffff", "#f6f7f8", "#eef0f1", "#e5e8ea", "#dcdfe2")


def long_tail(content: Content) -> Figure | Absent:
    if content.audit is None:
        return Absent(content.why_missing("audit"))
    who = unit_of(str(content.audit.get("group_by", content.group_by)))
    classes = sorted(content.audit["classes"], key=lambda row: -row["prevalence"])
    present = [row["prevalence"] for row in classes if row["prevalence"] > 0]
    floor = 10 ** _decade(min([*present, 0.002]))
    with canvas(0.55 + 0.31 * len(classes)) as figure:
        axes = figure.add_subplot()
        upper = 1.0
        for (low, name), shade in zip(BANDS, SHADES, strict=True):
            left = max(low, floor)
            axes.axvspan(left, upper, color=shade, zorder=-2, lw=0)
            axes.text((left * upper) ** 0.5, -0.62, name, ha="center", va="bottom", color=SOFT, fontsize=7.5)
            upper = left
        for y, row in enumerate(classes):
            critical = row["name"] in content.task.critical
            if row["prevalence"] > 0:
                axes.barh(y, row["prevalence"] - floor, left=floor, height=0.55, color=VERMILLION if critical else BLUE,
                          hatch="////" if critical else None, edgecolor="white", lw=0)  # fmt: skip
            text = f"{share(row['prevalence'])} · {many(row['n_patients'], who)}" if row["n_images"] else "none"
            axes.text(1.08, y, text, va="center", color=INK, fontsize=8)
        axes.set_xscale("log")
        axes.set_xlim(floor, 1)
        ticks = [10**-k for k in range(-_decade(floor), -1, -1)]
        axes.set_xticks(ticks, [_tick(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("share of all images (log scale)")
        rows_axis(axes, [class_name(row["name"]) for row in classes])
        axes.spines["bottom"].set_color(FAINT)
        svg = to_svg(figure)
    rows = [
        Row(
            (
                class_name(row["name"]),
                f"{row['n_images']:,}",
                f"{row['n_patients']:,}",
                share(row["prevalence"]) if row["n_images"] else "none",
                row["severity"],
                "critical" if row["name"] in content.task.critical else "",
            ),
            "" if row["n_images"] else "blank",
        )
        for row in classes
    ]
    rare = classes[-1]
    caption = (
        f"{class_name(classes[0]['name']).capitalize()} makes up {share(classes[0]['prevalence'])} of the images, "
        f"{class_name(rare['name'])} {share(rare['prevalence']) if rare['n_images'] else 'none'}. "
        "Hatched: classes that must not be missed."
    )
    head = ("Class", "Images", plural(who).capitalize(), "Prevalence", "Severity of imbalance", "")
    alt = "Bars of how common each class is, from the commonest to the rarest, on a log scale. " + caption
    return Figure(svg, alt, caption, table(head, rows, (1, 2, 3)))


def _decade(value: float) -> int:
    from math import floor, log10

    return floor(log10(value) + 1e-9)


def _tick(value: float) -> str:
    return f"{100 * value:g}%"
