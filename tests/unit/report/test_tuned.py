"""The section on what was tuned: every candidate, the chosen one, and how many tries an arm had."""

from __future__ import annotations

from dataclasses import replace

from raresight.core.config import parse_config
from raresight.core.task import Task
from raresight.report.content import Content
from raresight.report.page import render
from raresight.report.sections import sections
from raresight.report.tuned import about_tuning, in_words, tuned_arms, tuning

CHOICES = {
    "budget": 6,
    "select": "macro_auprc",
    "baseline": "plain",
    "seeds": [0, 1],
    "arms": {
        "weighed": {
            "tried": [
                {"settings": {"class_weights": {"power": 0.5}}, "score": None, "seeds": [0, 1, 9]},
                {"settings": {"class_weights": {"power": 1}}, "score": 0.41249, "seeds": [0, 1, 9]},
            ],
            "chosen": {"class_weights": {"power": 1}},
        },
        "focal": {
            "tried": [
                {"settings": {"focal": {"gamma": g}}, "score": 0.4 + g / 100, "seeds": [0, 1]} for g in (1, 2, 5)
            ],
            "chosen": {"focal": {"gamma": 5}},
        },
    },
}
CONTENT = Content(Task("exclusive", ("a", "b")), choices=CHOICES)


def test_every_candidate_has_a_row_and_the_chosen_one_a_mark() -> None:
    rows = tuning(CONTENT).rows
    assert [row.cells for row in rows[:3]] == [
        ("weighed", "class weights power 0.5", "–", "3", ""),
        ("weighed", "class weights power 1", "0.412", "3", "chosen"),
        ("focal", "focal gamma 1", "0.410", "2", ""),
    ]
    assert [row.mark for row in rows] == ["", "strong", "", "", "strong"]
    assert (
        in_words({"focal": {"gamma": 2, "x": 1}, "mixup": {"alpha": 0.2}})
        == "focal gamma 2, focal x 1, mixup alpha 0.2"
    )


def test_it_says_where_values_were_chosen_and_how_many_tries_there_were() -> None:
    text = about_tuning(CONTENT)
    assert "chosen on validation data" in text and "features of plain (6 heads for every arm)" in text
    assert "weighed had 2 tries and focal had 3 tries, where plain had one" in text


def test_the_section_stands_only_where_something_was_tuned() -> None:
    assert "tuned" in {section.key for section in sections(CONTENT)}
    assert "What was tuned" in render(CONTENT)
    assert "tuned" not in {section.key for section in sections(replace(CONTENT, choices=None))}


def test_an_arm_without_lists_of_its_own_is_left_out() -> None:
    """Its name stands in an old choices.json; today's study gives it one value."""
    arms = {"plain": [], "weighed": ["class_weights"], "focal": [{"focal": {"gamma": [1, 2, 5]}}]}
    config = parse_config({"task": {"kind": "exclusive", "classes": ["a", "b"]}, "arms": arms})
    assert list(tuned_arms(replace(CONTENT, config=config))) == ["focal"]
