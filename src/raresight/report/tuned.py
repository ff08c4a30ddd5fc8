"""What was tried and chosen for the arms whose settings were lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raresight.report.content import Content
from raresight.report.tables import Row, Table, table
from raresight.report.words import DASH, listing, many, metric_name


def tuned_arms(content: Content) -> dict[str, Mapping[str, Any]]:
    """The arms whose values were chosen, in the order of the study; an arm that has no lists any more is left out."""
    made = (content.choices or {}).get("arms", {})
    written = [arm.name for arm in content.config.parsed_arms if arm.has_grid] if content.config else list(made)
    return {name: made[name] for name in written if name in made}


def about_tuning(content: Content) -> str:
    """How the values were chosen, and how much more chance that gave an arm than the baseline had."""
    assert content.choices is not None
    baseline, budget = content.choices["baseline"], content.choices["budget"]
    arms = tuned_arms(content)
    tries = listing([f"{name} had {many(len(entry['tried']), 'try')}" for name, entry in arms.items()])
    return (
        f"These values were chosen on validation data, by heads trained on the features of {baseline} "
        f"({many(budget, 'head')} for every arm), before the arm itself was trained. {tries}, where {baseline} had "
        "one: part of what such an arm gains on validation data may be the luck of the best of several."
    )


def tuning(content: Content) -> Table:
    """A row for every candidate; the chosen one is marked."""
    assert content.choices is not None
    rows = []
    for name, entry in tuned_arms(content).items():
        for tried in entry["tried"]:
            chosen = tried["settings"] == entry["chosen"]
            score = DASH if tried["score"] is None else f"{tried['score']:.3f}"
            heads = str(len(tried["seeds"]))
            cells = (name, in_words(tried["settings"]), score, heads, "chosen" if chosen else "")
            rows.append(Row(cells, "strong" if chosen else ""))
    head = ("Arm", "Values tried", f"{metric_name(content.choices['select'])}, validation", "Heads", "")
    return table(head, rows, (2, 3), "The score is the mean over the heads; it has no interval and chooses, no more.")


def in_words(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """`{"focal": {"gamma": 2}}` -> `focal gamma 2`."""
    return ", ".join(
        f"{method.replace('_', ' ')} {key} {value}" for method, ours in settings.items() for key, value in ours.items()
    )
