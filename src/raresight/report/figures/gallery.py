"""The failure gallery: missed cases, confident errors and labels in doubt, with pictures only where asked for.

Cases have pseudonyms in the page. The key to them is written beside it, for those who have the data anyway.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape

from raresight.core.predictions import Predictions
from raresight.evaluate.confusions import confusions
from raresight.evaluate.failures import Failure, failures
from raresight.report.answers import shown_predictions
from raresight.report.content import Content
from raresight.report.figures.style import INK, SOFT, Absent, Figure
from raresight.report.tables import Row, table
from raresight.report.words import DASH, class_name, listing, many, percent

TITLES = {
    "mistaken": "The confusions that matter most",
    "missed": "Missed cases",
    "confident": "Confident errors",
    "suspect": "Labels in doubt",
}
EXPLAINED = {
    "mistaken": "Of each of the worst confusions the three surest; at the default operating point.",
    "missed": "They have a class that must not be missed, and no alarm was raised for it; the least suspected first.",
    "confident": "Another class was said with at least 50% probability; the surest first.",
    "suspect": "The model disagrees with the label as firmly as it agrees with others: is the label right?",
}
LETTER = {"mistaken": "C", "missed": "M", "confident": "E", "suspect": "L"}
PAIRS, OF_EACH = 4, 3
ACROSS, SIDE, CELL, LINES = 6, 100, 112, 38
WIDTH = ACROSS * CELL


def named_failures(content: Content) -> list[tuple[str, Failure]]:
    """The failures of the arm shown with their pseudonyms: M1, M2, ... for missed cases, E for errors, L for labels."""
    arm = content.chosen
    shown = None if arm is None else shown_predictions(arm)
    if shown is None:
        return []
    found = _mistaken(content, shown[0])
    found += failures(shown[0], thresholds=shown[1], watched=content.watched)
    counted = dict.fromkeys(LETTER, 0)
    named = []
    for one in found:
        counted[one.kind] += 1
        named.append((f"{LETTER[one.kind]}{counted[one.kind]}", one))
    return named


def key(content: Content) -> str:
    """`pseudonym,case` as CSV, for those who hold the data."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        [("pseudonym", "case"), *((name, one.case) for name, one in named_failures(content))]
    )
    return stream.getvalue()


def _mistaken(content: Content, predictions: Predictions) -> list[Failure]:
    """The surest cases of the worst confusions, as failures of their own kind."""
    worst = confusions(predictions, costs={"missed": content.missed, "matrix": content.matrix})[:PAIRS]
    row_of = {str(case): row for row, case in enumerate(predictions.cases)}
    prob, index = predictions.prob, predictions.task.index
    return [
        Failure(
            "mistaken",
            case,
            pair["true"],
            pair["predicted"],
            float(prob[row_of[case], index(pair["true"])]),
            None if pair["predicted"] is None else float(prob[row_of[case], index(pair["predicted"])]),
        )
        for pair in worst
        for case in pair["cases"][:OF_EACH]
    ]


def gallery(content: Content, *, kind: str, named: Sequence[tuple[str, Failure]]) -> Figure | Absent:
    """The `named` failures of one kind: a table of pseudonyms, and their pictures where `content.pictures` has them."""
    arm = content.chosen
    if arm is None or not arm.predictions:
        return Absent(content.why_missing("arms") if arm is None else "not computed, because there are no predictions")
    cases = [(name, one) for name, one in named if one.kind == kind]
    if not cases:
        return Absent("not shown, because there is no such case")
    pictured = [(name, one) for name, one in cases if one.case in content.pictures]
    caption = f"{many(len(cases), content.unit).capitalize()}. {EXPLAINED[kind]}"
    alt = f"Small pictures of {listing([_told(name, one) for name, one in pictured])}." if pictured else ""
    rows = [Row((name, _class(one.true), _class(one.said), _share(one.true_score), _share(one.said_score)))
            for name, one in cases]  # fmt: skip
    head = ("Case", "Labelled", "Said instead", "Score of the label", "Score of what was said")
    note = "Pseudonyms; gallery_key.csv beside the page tells the cases to those who hold the data."
    return Figure(_drawing(content, pictured), alt, caption, table(head, rows, (3, 4), note))


def _drawing(content: Content, cases: list[tuple[str, Failure]]) -> str:
    """One SVG of embedded JPEGs with a line or two of text under each."""
    if not cases:
        return ""
    height = (CELL + LINES) * -(-len(cases) // ACROSS)
    parts = [f'<svg style="aspect-ratio: {WIDTH} / {height}" viewBox="0 0 {WIDTH} {height}">']
    for i, (name, one) in enumerate(cases):
        x, y = CELL * (i % ACROSS), (CELL + LINES) * (i // ACROSS)
        parts.append(
            f'<image x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" href="{escape(content.pictures[one.case])}">'
            f"<title>{escape(_told(name, one))}</title></image>"
        )
        lines = [f"{name}: {_class(one.true)}", f"said: {_class(one.said)}"]
        parts += [
            f'<text x="{x}" y="{y + SIDE + 13 * (n + 1)}" font-size="10" fill="{INK if n == 0 else SOFT}">'
            f"{escape(_short(line))}</text>"
            for n, line in enumerate(lines)
        ]
    return "".join([*parts, "</svg>"])


def _told(name: str, one: Failure) -> str:
    score = "" if one.said_score is None else f" ({percent(one.said_score)})"
    return f"{name}, labelled {_class(one.true)}, said {_class(one.said)}{score}"


def _class(name: str | None) -> str:
    return "nothing" if name is None else class_name(name)


def _share(score: float | None) -> str:
    return DASH if score is None else percent(score)


def _short(line: str, most: int = 21) -> str:
    return line if len(line) <= most else line[: most - 1] + "…"
