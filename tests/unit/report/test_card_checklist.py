"""The model card and the checklist: filled from what is there, silent about nothing, never optimistic."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from test_page import in_memory

from raresight.core.estimate import Estimate
from raresight.report.card import ASK, card
from raresight.report.checklist import checklist, checklist_text, tally
from raresight.report.checklist_evidence import EVIDENCE
from raresight.report.checklist_items import CLAIM, GUIDELINES, STARD, TRIPOD
from raresight.report.content import Content
from raresight.report.page import render, summary


def answers(content: Content, guideline: str) -> dict[str, str]:
    return {one.number: one.status for one in checklist(content) if one.guideline == guideline}


def test_the_guidelines_have_as_many_items_as_published() -> None:
    """52 of TRIPOD+AI (BMJ 2024;385:e078378), 48 rows of STARD-AI (40 items), 44 of CLAIM 2024."""
    assert (len(TRIPOD), len(STARD), len(CLAIM)) == (52, 48, 44)
    assert len({item.number for item in TRIPOD}) == 52
    assert len({item.number for item in STARD}) == 48
    assert {item.number for item in CLAIM} == {""}  # not verified, so not claimed
    assert all(item.topic and item.ask for _, items in GUIDELINES for item in items)
    used = {item.evidence for _, items in GUIDELINES for item in items} - {""}
    assert used == set(EVIDENCE)


def test_predictions_alone_answer_few_items() -> None:
    content = in_memory("exclusive")
    counts = Counter(one.status for one in checklist(content))
    assert counts["answered"] <= 10
    assert counts["not applicable"] == 0
    mine = answers(content, "TRIPOD+AI")
    assert {number for number, status in mine.items() if status == "answered"} == {"12e"}
    assert {number for number, s in answers(content, "STARD-AI").items() if s == "answered"} == {"18", "30", "31"}


def test_an_empty_content_answers_nothing() -> None:
    content = Content(task=in_memory("exclusive").task)
    assert {one.status for one in checklist(content)} == {"needs a human"}


def test_a_study_answers_what_its_files_show(opened: Content) -> None:
    mine = answers(opened, "TRIPOD+AI")
    for number in ("12a", "12c", "12e", "13", "15", "20a", "21"):
        assert mine[number] == "answered", number
    for number in ("1", "3a", "17", "18a", "18d", "19", "25", "26", "27a"):
        assert mine[number] == "needs a human", number
    assert mine["12f"] == mine["24"] == "not applicable"
    assert mine["23a"] == mine["14"] == "needs a human"  # no subgroups were asked for


def test_an_item_falls_back_to_a_human_when_its_evidence_goes(opened: Content) -> None:
    for change, number in (
        ({"flow": None}, "20a"),
        ({"ledger": None}, "15"),
        ({"missing": {"ledger": "changed by hand"}}, "15"),
        ({"config": None}, "12a"),
        ({"arms": ()}, "12e"),
    ):
        assert answers(replace(opened, **change), "TRIPOD+AI")[number] == "needs a human", (change, number)


def test_a_reopened_test_part_is_no_internal_test(opened: Content) -> None:
    def status(content: Content) -> str:
        return next(one.status for one in checklist(content) if one.topic == "Internal testing")

    assert status(opened) == "answered"
    assert opened.ledger is not None
    assert status(replace(opened, ledger=opened.ledger * 2)) == "needs a human"
    assert status(replace(opened, part="val")) == "needs a human"


def test_a_lesion_split_does_not_prove_that_patients_are_apart(opened: Content) -> None:
    topic = "Level at which partitions are disjoint"
    one = next(one for one in checklist(opened) if one.topic == topic)
    assert one.status == "needs a human" and "lesion" in one.text
    patients = replace(opened, group_by="patient_id")
    assert next(one.status for one in checklist(patients) if one.topic == topic) == "answered"
    leaking = replace(patients, leaks={**opened.leaks, "patients_shared": 2})  # type: ignore[dict-item]
    assert next(one.status for one in checklist(leaking) if one.topic == topic) == "needs a human"


def test_subgroup_figures_answer_the_items_on_subgroups(opened: Content) -> None:
    row = Estimate(metric="recall", class_="mel", subgroup="sex=female", value=0.8, low=0.6, high=0.9)
    arm = replace(opened.arms[0], estimates=(*opened.arms[0].estimates, row))
    told = replace(opened, arms=(arm, *opened.arms[1:]))
    assert answers(told, "TRIPOD+AI")["23a"] == "answered"
    assert answers(told, "TRIPOD+AI")["12d"] == "needs a human"  # sex is no site
    by_site = replace(arm, estimates=(*arm.estimates, replace(row, subgroup="site=north")))
    assert answers(replace(told, arms=(by_site,)), "TRIPOD+AI")["12d"] == "answered"


def test_every_link_of_the_checklist_leads_somewhere(opened: Content, opened_page: str) -> None:
    anchors = set(re.findall(r'<section id="([^"]+)"', opened_page))
    links = {one.link for one in checklist(opened) if one.link}
    assert len(links) >= 8
    assert {link.removeprefix("#") for link in links} <= anchors


def test_the_checklist_as_text_and_for_programs(opened: Content) -> None:
    text = checklist_text(opened)
    assert text == checklist_text(opened)
    counts = tally(checklist(opened))
    assert sum(counts["TRIPOD+AI"].values()) == 52
    assert f"| TRIPOD+AI | {counts['TRIPOD+AI']['answered']} |" in text
    assert text.count("\n| 12a |") == 1
    rows = summary(opened)["checklist"]
    assert len(rows) == 144
    assert set(rows[0]) == {"guideline", "item", "topic", "status", "text", "link"}


def test_the_page_folds_the_checklist(opened: Content) -> None:
    page = render(opened)
    section = page[page.index('<section id="checklist"') : page.index('<section id="glossary"')]
    assert section.count("<details>") == 3
    assert section.count("<tr") == 144 + 3


def test_the_card_says_what_is_known(opened: Content) -> None:
    text = card(opened)
    assert text == card(opened)
    for title in ("Intended use", "Data", "Training", "Performance", "By subgroup", "Where alarms are raised",
                  "Calibration", "Limitations", "Must not be used for", "Provenance"):  # fmt: skip
        assert f"\n## {title}\n" in text
    assert "No clinical evaluation was done" in text
    recall = opened.chosen.find("recall", "mel")  # type: ignore[union-attr]
    assert recall is not None and recall.value is not None
    row = next(line for line in text.split("\n") if line.startswith("| melanoma |") and "lesions |" in line)
    assert f"| {100 * recall.value:.0f}% (" in row
    assert f"{recall.n_positive_patients} lesions" in row
    assert all(digest in text for name, digest in opened.files.items() if not name.startswith("sweep/"))


def test_the_card_invents_no_purpose(opened: Content) -> None:
    assert f"- Purpose: {ASK}" in card(opened)
    assert opened.config is not None
    stated = replace(opened, config=opened.config.model_copy(update={"intended_use": "triage of pigmented lesions"}))
    assert "- Purpose: Triage of pigmented lesions." in card(stated)
    assert f"- Purpose: {ASK}" not in card(stated)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_the_card_of_predictions_alone(kind: str) -> None:
    text = card(in_memory(kind))
    assert f"The model was made elsewhere: {ASK}" in text
    assert f"Training data: {ASK}" in text
    assert "nan" not in re.findall(r"\w+", text.lower())


def test_a_class_that_was_not_measured_must_not_be_used(unopened: Content) -> None:
    text = card(unopened)
    assert "Anything about actinic keratosis: it could not be measured." in text
    assert "**QUICK: not for conclusions.**" in text
    row = next(line for line in text.split("\n") if line.startswith("| actinic keratosis |") and "estimable" in line)
    assert "0%" not in row and "100%" not in row
