"""Which classes come together: of the images with one class, the share that has the other too."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from raresight.report.content import Content
from raresight.report.figures.style import INK, SOFT, Absent, Figure, canvas, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import class_name, percent

SHADES = ("#ffffff", "#0072B2")
DARK = 0.55


def cooccurrence(content: Content) -> Figure | Absent:
    """How often two findings stand in one case, in cases; `Absent` for exclusive labels and without an audit."""
    if content.audit is None:
        return Absent(content.why_missing("audit"))
    if content.task.kind == "exclusive":
        return Absent("not computed, because every case has exactly one class here: none can come together")
    found = content.audit.get("cooccurrence")
    if not found:
        return Absent("not computed, because the audit holds no co-occurrence; run `raresight audit` again")
    names = [name for name in content.rarest_first if name in found["classes"]]
    order = [found["classes"].index(name) for name in names]
    count = np.asarray(found["n_images"], dtype=float)[np.ix_(order, order)]
    own = np.diag(count)
    share = np.divide(count, own[:, None], out=np.zeros_like(count), where=own[:, None] > 0)
    shown = share.copy()
    np.fill_diagonal(shown, 0.0)
    with canvas(1.3 + 0.3 * len(names)) as figure:
        axes = figure.add_subplot()
        axes.imshow(shown, cmap=LinearSegmentedColormap.from_list("share", SHADES), vmin=0, vmax=1, aspect="auto")
        for y in range(len(names)):
            for x in range(len(names)):
                if x == y or not count[y, x]:
                    axes.text(x, y, "·" if x == y else "", ha="center", va="center", color=SOFT, fontsize=7)
                    continue
                axes.text(x, y, f"{100 * share[y, x]:.0f}", ha="center", va="center", fontsize=7,
                          color="white" if share[y, x] > DARK else INK)  # fmt: skip
        labels = [class_name(name) for name in names]
        axes.set_yticks(range(len(names)), [f"{label} ({own[y]:,.0f})" for y, label in enumerate(labels)])
        axes.set_xticks(range(len(names)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.tick_params(length=0, colors=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
        svg = to_svg(figure)
    rows = []
    for y, name in enumerate(names):
        others = sorted((x for x in range(len(names)) if x != y and count[y, x]), key=lambda x: -count[y, x])
        told = "; ".join(f"{class_name(names[x])} {count[y, x]:,.0f} ({percent(share[y, x])})" for x in others[:5])
        rows.append(Row((class_name(name), f"{own[y]:,.0f}", told or "none"), "" if own[y] else "blank"))
    top = [(share[y, x], y, x) for y in range(len(names)) for x in range(len(names)) if x != y and own[y]]
    caption = "Read along a row: of the images with that class (how many), the percentage that also has the other. "
    if top and max(top)[0] > 0:
        value, y, x = max(top)
        caption += f"Most often, {percent(value)} of {class_name(names[y])} come with {class_name(names[x])}."
    head = ("Class", "Images", "Comes with (commonest five)")
    alt = "Grid of the classes that come together in one image. "
    return Figure(svg, alt + caption, caption, table(head, rows, (1,), "Counts in the whole data set."))
