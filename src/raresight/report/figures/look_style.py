"""What the figures of `raresight explain` share: classes by rarity, arms by colour, greyed arms, labels kept apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, to_hex

from raresight.report.figures.style import CYCLE, FAINT, INK, MARKERS, SOFT, Absent, Figure
from raresight.report.look_rows import FEWEST_SEEDS, Look, few_seeds, greyed
from raresight.report.words import class_name, listing

AROUND = 0.75  # of a label's room: how near it may come to a mark, which is smaller than another label
DARKEST, PALEST = 0.0, 0.82  # of cividis: what is paler cannot be seen on white


def rarity_norm(look: Look) -> LogNorm:
    counts = [max(1, look.count(name)) for name in look.classes] or [1]
    low, high = min(counts), max(counts)
    return LogNorm(low, high if high > low else low * 10)


def rarity_scale() -> ListedColormap:
    return ListedColormap(mpl.colormaps["cividis"](np.linspace(DARKEST, PALEST, 64)))


def rarity_colour(look: Look, class_: str) -> str:
    """The rarest class darkest, on a log scale: a blue-to-yellow scale that all kinds of colour vision order alike."""
    place = float(rarity_norm(look)(max(1, look.count(class_))))
    return to_hex(mpl.colormaps["cividis"](DARKEST + (PALEST - DARKEST) * place))


def arm_look(look: Look, arm: str) -> tuple[str, str]:
    """Colour and marker of an arm: the baseline in ink, a greyed arm in grey, be it the baseline.

    Where colours begin again, markers go on by one: no two of some dozens of arms look the same.
    """
    if arm == look.baseline:
        return (FAINT if arm in look.greyed else INK), "o"
    turn, place = divmod(look.others.index(arm), len(CYCLE))
    return (FAINT if arm in look.greyed else CYCLE[place]), MARKERS[(place + turn) % len(MARKERS)]


def arm_title(axes: Axes, look: Look, arm: str, letters: int = 40) -> None:
    """The arm's name above its panel; a greyed arm says why it is grey, in lines of so many `letters`."""
    if arm not in look.greyed:
        axes.set_title(arm, fontsize=8.5)
        return
    why = wrapped(look.greyed[arm], letters)
    axes.set_title(f"{arm}: not to be read", fontsize=8.5, color=SOFT, pad=4 + 8.0 * (1 + why.count("\n")))
    told = axes.text(0, 1.02, why, transform=axes.transAxes, va="bottom", fontsize=6.5, color=SOFT, style="italic")
    told.set_in_layout(False)


def greyed_caption(look: Look, arms: Sequence[str] = ()) -> str:
    """A sentence for the caption where arms are greyed; empty else."""
    names = [name for name in (arms or look.arms) if name in look.greyed]
    if not names:
        return ""
    told = "; ".join(f"{name} ({look.greyed[name]})" for name in names)
    return f" Grey: maps that failed the check and must not be read, {told}."


def greyed_classes_caption(look: Look, metric: str) -> str:
    """A sentence for the caption where an arm's maps of single classes are not trusted; empty else."""
    found: dict[str, list[str]] = {}
    for name in look.classes:
        for arm in look.arms:
            if arm not in look.greyed and greyed(look.find("verdict", metric, arm, name)):
                found.setdefault(arm, []).append(class_name(name))
    told = "; ".join(f"{arm}: {listing(names)}" for arm, names in found.items())
    return f" Grey in single classes, because most maps of the class are empty: {told}." if told else ""


def few_seeds_caption(look: Look) -> str:
    """A sentence for the caption where arms have too few seeds for any difference to be called clear; empty else."""
    found = sorted({int(row["diff_n_seeds"]) for row in look.rows("verdict") if few_seeds(row)})
    if not found:
        return ""
    told = "one seed" if found == [1] else listing(["one" if n == 1 else str(n) for n in found], "or") + " seeds"
    return (
        f" With {told} an arm nothing can be told, so nothing of it is filled, whatever its interval: a difference may "
        f"be a seed's luck, and {FEWEST_SEEDS} seeds are the fewest that count."
    )


def apart(
    points: Sequence[tuple[float, float]],
    size: tuple[float, float],
    gap: float = 1.15,
    marks: Sequence[tuple[float, float]] = (),
) -> list[tuple[float, float]]:
    """Places for labels near their points, pushed apart until none of width and height `size` covers another.

    `marks` stay where they are, and no label covers one.
    """
    at = np.array(points, dtype=float).reshape(-1, 2)
    fixed = np.array(marks, dtype=float).reshape(-1, 2)
    box = np.array(size) * gap
    for _ in range(200):
        moved = False
        for i in range(len(at)):
            for mark in fixed:
                step = at[i] - mark
                if (np.abs(step) < AROUND * box).all():
                    axis = int(np.argmin((AROUND * box - np.abs(step)) / box))
                    at[i, axis] = mark[axis] + (1.001 * AROUND * box[axis]) * (1.0 if step[axis] >= 0 else -1.0)
                    moved = True
            for j in range(i):
                step = at[i] - at[j]
                if (np.abs(step) >= box).all() or (np.abs(step) >= box).any():
                    continue
                axis = int(np.argmin((box - np.abs(step)) / box))
                push = (box[axis] - abs(step[axis])) / 2 + 1e-6
                sign = 1.0 if step[axis] > 0 or (step[axis] == 0 and i > j) else -1.0
                at[i, axis] += sign * push
                at[j, axis] -= sign * push
                moved = True
        if not moved:
            break
    return [(float(x), float(y)) for x, y in at]


def wrapped(text: str, width: int) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def standalone(made: Figure | Absent) -> str:
    """The drawing as an SVG file of its own; an empty drawing with the reason where there is none."""
    from html import escape

    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" font-family="sans-serif"'
    if isinstance(made, Absent):
        text = f'<text x="10" y="25" font-size="12">{escape(made.why)}</text>'
        return f'<svg {spaces} role="img" viewBox="0 0 640 40">{text}</svg>\n'
    named = f'<svg {spaces} role="img" aria-label="{escape(made.alt)}"'
    return re.sub(r"^<svg", lambda _: named, made.svg) + "\n"
