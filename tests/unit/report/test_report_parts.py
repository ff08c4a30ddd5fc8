"""The parts of the report that figures of decisions, people and prices make; numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_page import in_memory

from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions, tabulate
from raresight.core.task import Task
from raresight.report.content import ArmResult, Content
from raresight.report.decision_limits import decision_limits
from raresight.report.effort import duration, effort, seconds
from raresight.report.figures.conformal import conformal
from raresight.report.figures.cooccurrence import cooccurrence
from raresight.report.figures.curves import Judged, recall_band, thinned
from raresight.report.figures.precision_recall import gained
from raresight.report.figures.prevalence import prevalence
from raresight.report.figures.price import prices
from raresight.report.figures.style import Absent, Figure
from raresight.report.figures.threshold_cost import price as worth_of
from raresight.report.limitations import limitations
from raresight.report.people import NOT_TOLD, REST, describe
from raresight.report.sections import sections

TASK = Task("independent", ("rare", "other"))


def predictions(alarms: list[int], target: list[int], name: str) -> Predictions:
    """One case a patient; an alarm for `rare` is a probability of about 0.88, none one of 0.12."""
    logits = np.where(np.array(alarms)[:, None] == 1, 2.0, -2.0) * np.ones((1, 2))
    labels = np.stack([np.array(target, dtype=float), np.zeros(len(target))], axis=1)
    cases = np.array([f"c{i}" for i in range(len(target))], dtype=object)
    table = tabulate(TASK, cases, logits, labels, pd.DataFrame({"patient_id": cases}))
    return Predictions(table, TASK, name, 0, "test")


def arm(alarms: list[int], target: list[int], name: str) -> ArmResult:
    return ArmResult(name, predictions=(predictions(alarms, target, name),))


def test_the_price_of_finding_more_by_hand() -> None:
    """10 with the class, 40 without. Baseline finds 4 with 2 false alarms, the arm 9 with 12: found more 50 of 100,
    alarms more (5 + 10)/50 = 300 per 1,000, 15 extra alarms for 5 extra cases = 3 for each."""
    target = [1] * 10 + [0] * 40
    base = arm([1] * 4 + [0] * 6 + [1] * 2 + [0] * 38, target, "baseline")
    more = arm([1] * 9 + [0] * 1 + [1] * 12 + [0] * 28, target, "more")
    found = prices(base, [more, base], "rare")
    one = found["more"]
    assert one is not None and one.ratio is not None
    assert one.found[0] == pytest.approx(50) and one.alarms[0] == pytest.approx(300)
    assert one.ratio[0] == pytest.approx(3)
    assert one.found[1] < 50 < one.found[2] and one.ratio[1] < 3 < one.ratio[2]
    same = found["baseline"]
    assert same is not None and same.found == (0, 0, 0) and same.ratio is None
    assert prices(more, [base], "rare")["baseline"].ratio is None  # type: ignore[union-attr]  # fewer found: no price
    # At a prevalence of 2%: 0.02 x 0.5 + 0.98 x 0.25 = 0.255, for 0.01 cases found more.
    rarer = prices(base, [more], "rare", prevalence=0.02)["more"]
    assert rarer is not None and rarer.ratio is not None
    assert rarer.alarms[0] == pytest.approx(255) and rarer.ratio[0] == pytest.approx(25.5)


def test_no_price_where_cases_differ_or_the_class_is_absent() -> None:
    target = [1] * 3 + [0] * 5
    base, other = arm([1] * 8, target, "baseline"), arm([1] * 7, target[:7], "other")
    assert prices(base, [other], "rare") == {"other": None}
    nobody = arm([0] * 8, [0] * 8, "baseline")
    assert prices(nobody, [nobody], "rare") == {"baseline": None}


def test_gain_over_chance() -> None:
    """Flach & Kull: at chance 0, perfect 1; precision 0.5 at a prevalence of 0.1: (0.5 - 0.1)/(0.9 x 0.5) = 0.8889."""
    made = gained(np.array([0.1, 1.0, 0.5, 0.05, 0.0]), 0.1)
    assert made[:3] == pytest.approx([0.0, 1.0, 0.8 / 0.9])
    assert made[3] < 0 and made[4] == -np.inf


def test_a_curve_keeps_its_ends_when_thinned() -> None:
    x = np.linspace(0, 1, 5000)
    rows = thinned(x, x**2)
    assert rows[0] == 0 and rows[-1] == 4999 and len(rows) <= 170
    assert list(thinned(x[:5], x[:5])) == [0, 1, 2, 3, 4]


def test_the_band_of_a_roc_curve_is_that_of_a_rate() -> None:
    """At the lowest positive score all 4 positives alarm: Clopper-Pearson's lower bound is 0.025^(1/4) = 0.398."""
    positive = np.array([True] * 4 + [False] * 4)
    score = np.array([0.9, 0.8, 0.7, 0.4, 0.6, 0.3, 0.2, 0.1])
    places, low, high = recall_band(Judged(positive, score, np.arange(8)))
    assert places[-1] == pytest.approx(0.25) and low[-1] == pytest.approx(0.025**0.25) and high[-1] == 1.0
    assert places[0] == 0.0 and low[0] == pytest.approx(1 - 0.975**0.25, abs=1e-9)


def test_who_is_in_which_part_counts_units_once() -> None:
    table = pd.DataFrame(
        {
            "patient_id": ["a", "a", "b", "c", "d"],
            "sex": ["f", "f", "m", "", "f"],
            "age": ["40", "44", "60", "50", ""],
            "empty": [""] * 5,
        }
    )
    part = np.array(["train", "train", "train", "test", ""], dtype=object)
    made = describe(table, part, "patient_id", ("sex", "age", "empty", "absent"))
    assert made["parts"] == ["train", "test"] and made["units"] == {"train": 2, "test": 1}
    sex = made["columns"][0]
    assert {row["value"]: row["parts"] for row in sex["values"]} == {
        "f": {"train": 1, "test": 0},
        "m": {"train": 1, "test": 0},
        NOT_TOLD: {"train": 0, "test": 1},
    }
    assert [column["name"] for column in made["columns"]] == ["sex", "age"]


def test_ages_are_summed_up_and_rare_sites_taken_together() -> None:
    n = 40
    table = pd.DataFrame(
        {
            "patient_id": [str(i) for i in range(n)],
            "age": [str(20 + i) for i in range(n)],
            "site": [f"s{min(i, 11)}" for i in range(n)],
        }
    )
    made = describe(table, np.full(n, "train", dtype=object), "patient_id", ("age", "site"))
    age, site = made["columns"]
    assert age["summary"]["train"] == {"median": 39.5, "low": 29.75, "high": 49.25, "known": 40, "unknown": 0}
    values = {row["value"]: row["parts"]["train"] for row in site["values"]}
    assert values["s11"] == 29 and values[REST] == 4 and len(values) == 9
    assert sum(values.values()) == n


def test_which_classes_come_together() -> None:
    rows = [{"name": n, "prevalence": p, "n_images": i} for n, p, i in (("rare", 0.1, 10), ("other", 0.5, 50))]
    together = {"classes": ["rare", "other"], "n_images": [[10, 8], [8, 50]]}
    made = cooccurrence(Content(task=TASK, audit={"classes": rows, "cooccurrence": together}))
    assert isinstance(made, Figure)
    assert [row.cells for row in made.table.rows] == [("rare", "10", "other 8 (80%)"), ("other", "50", "rare 8 (16%)")]
    assert "80% of rare come with other" in made.caption
    exclusive = cooccurrence(Content(task=Task("exclusive", ("a", "b")), audit={"classes": rows}))
    assert isinstance(exclusive, Absent) and "exactly one class" in exclusive.why


def rates(recall: float, specificity: float) -> tuple[Estimate, ...]:
    common = {"class_": "rare", "operating_point": "frozen", "n_patients": 50, "n_positive_patients": 20}
    return tuple(
        Estimate(metric=m, value=v, low=v - 0.1, high=min(v + 0.1, 1.0), **common)  # type: ignore[arg-type]
        for m, v in (("recall", recall), ("specificity", specificity))
    )


def test_predictive_values_at_the_stated_prevalence_by_hand() -> None:
    """Se 0.8, Sp 0.9, 1%: PPV 0.008/(0.008 + 0.099) = 7.5%, 13.4 to read, 107 alarms, 200 missed per 100,000."""
    content = Content(
        task=replace(TASK, critical=("rare",)),
        arms=(ArmResult("m", estimates=rates(0.8, 0.9)),),
        prevalence={"rare": 0.01},
    )
    made = prevalence(content)
    assert isinstance(made, Figure)
    row = next(row.cells for row in made.table.rows if "as stated" in row.cells[1])
    assert row[2].startswith("7% (") and row[4].startswith("13 (") and row[5].startswith("107 (")
    assert row[6].startswith("200 (")


def test_what_a_miss_is_worth() -> None:
    """Unstated, at 1 in 5: 4 false alarms, so that cost and Youden agree."""
    one = Judged(np.array([True] + [False] * 4), np.linspace(1, 0, 5), np.arange(5))
    free = worth_of(Content(task=TASK), "rare", one)
    assert free is not None and not free.stated and free.missed == pytest.approx(4)
    assert free.per_1000(0.5, 0.25) == pytest.approx(1000 * (0.2 * 4 * 0.5 + 0.8 * 0.25))
    said = worth_of(Content(task=TASK, missed={"rare": 20.0}, prevalence={"rare": 0.01}), "rare", one)
    assert said is not None and said.stated and said.per_1000(1.0, 0.1) == pytest.approx(99)
    assert worth_of(Content(task=TASK), "rare", Judged(np.zeros(3, bool), np.ones(3), np.arange(3))) is None


def test_sets_that_fall_short_are_named() -> None:
    rows = [
        Estimate(metric="conformal_coverage", class_=name, value=value, low=value - 0.1, high=high)
        for name, value, high in (("rare", 0.6, 0.7), ("other", 0.88, 0.93))
    ]
    fitted = {"conformal": {"miscoverage": 0.1, "classes": {"rare": {"always": False}, "other": {"always": True}}}}
    content = Content(task=TASK, part="test", arms=(ArmResult("m", estimates=tuple(rows), operating=fitted),))
    made = conformal(content)
    assert isinstance(made, Figure)
    assert "90%" in made.caption and "Clearly less is reached for rare." in made.caption
    assert "Always in the set, for want of patients: other." in made.table.note
    keys = {one.key for one in decision_limits(content, content.arms[0])}
    assert "sets_fall_short" in keys and "no_prevalence" in keys and "no_price" not in keys


def test_probabilities_that_mislead_are_a_limitation() -> None:
    def told(low: float, high: float) -> set[str]:
        row = Estimate(metric="expected_observed_ratio", class_="rare", value=(low + high) / 2, low=low, high=high)
        row = replace(row, prevalence=0.01)
        content = Content(task=replace(TASK, critical=("rare",)), arms=(ArmResult("m", estimates=(row,)),))
        return {one.key for one in decision_limits(content, content.arms[0])}

    assert "poorly_calibrated" in told(1.3, 3.0)
    assert "poorly_calibrated" in told(0.2, 0.7)
    assert "poorly_calibrated" not in told(1.2, 3.0)
    assert "no_price" in told(1.0, 3.0)


def test_external_validation_is_always_among_the_limitations(opened: Content, unopened: Content) -> None:
    for content in (opened, unopened, in_memory("exclusive"), Content(task=TASK)):
        assert "external_validation" in {one.key for one in limitations(content)}


def test_training_time_adds_up() -> None:
    events = ({"seconds": 40.0}, {"seconds": 80.0}, {"loss": 1.0})
    base = ArmResult("baseline", events=(events,), env={"device": "cpu"}, facts={"steps": 100})
    twice = replace(base, name="mine", events=((*events, {"seconds": 120.0}),))
    made = effort(Content(task=TASK, arms=(base, twice), baseline="baseline"))
    assert made is not None
    assert seconds(base) == 120
    assert [row.cells[:4] for row in made.rows] == [
        ("baseline", "2 min", "1.0 ×", "100"),
        ("mine", "4 min", "2.0 ×", "100"),
    ]
    assert made.rows[0].cells[5] == "not recorded"
    assert [duration(t) for t in (45, 720, 12240)] == ["45 s", "12 min", "3.4 h"]
    assert effort(Content(task=TASK, arms=(ArmResult("x", outside=True),))) is None


def test_every_part_is_there_or_says_why(opened: Content) -> None:
    found = {section.key: section for section in sections(opened)}
    wanted = {"rarity", "people", "forecast", "leaks", "paradox", "classes", "confusions", "curves", "reliability",
              "decisions", "conformal", "arms", "price", "seeds", "saliency", "training"}  # fmt: skip
    assert wanted <= set(found)
    for section in found.values():
        for item in section.items:
            assert (item.figure is not None) + (item.table is not None) + bool(item.absent) == 1, section.key
            assert not item.absent or item.absent.startswith("not "), item.absent
    drawn = sum(item.figure is not None for item in found["decisions"].items)
    assert drawn == 4


def test_near_duplicates_are_named_in_the_study_and_not_on_the_page(opened: Content) -> None:
    pair = {"case_a": "SECRET_1", "case_b": "SECRET_2", "part_a": "train", "part_b": "test", "distance": 3,
            "correlation": 0.991}  # fmt: skip
    leaks = {**(opened.leaks or {}), "near_duplicate_pairs": [pair], "n_near_duplicate_pairs": 1}
    section = next(s for s in sections(replace(opened, leaks=leaks)) if s.key == "leaks")
    cells = section.items[1].table.rows[0].cells  # type: ignore[union-attr]
    assert cells == ("Pair 1", "train and test", "3 of 64 bits", "0.991")
