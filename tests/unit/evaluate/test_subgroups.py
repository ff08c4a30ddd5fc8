"""Figures by subgroup: who is in which group, what is hidden, and differences. Figures worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from prediction_tables import drawn, predictions

from raresight.core.errors import ConfigError
from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions
from raresight.evaluate.estimates import estimate
from raresight.evaluate.grouping import grouped
from raresight.evaluate.subgroups import COVER, FEW, check_columns, subgroups


def with_column(given: Predictions, **columns: object) -> Predictions:
    return replace(given, table=given.table.assign(**columns))


def two_groups(women: int, men: int, unknown: int = 0, healthy: int = 40) -> Predictions:
    """One patient an image: positives of class c0 by group, each third one found, and 2 x `healthy` others."""
    sex = ["f"] * women + ["m"] * men + [""] * unknown + ["f", "m"] * healthy
    positives = women + men + unknown
    target = np.array([[1.0]] * positives + [[0.0]] * 2 * healthy)
    score = [0.9 if i % 3 == 0 else 0.1 for i in range(positives)] + [0.05, 0.2] * (healthy - 4) + [0.7] * 8
    return with_column(predictions("independent", target, np.array(score)[:, None]), sex=sex)


def found(rows: list[Estimate], metric: str, subgroup: str, point: str | None = "0.5") -> Estimate:
    return next(r for r in rows if (r.metric, r.subgroup, r.operating_point) == (metric, subgroup, point))


def test_a_group_is_judged_like_a_table_of_its_own() -> None:
    given = drawn("exclusive", n=900, n_patients=300, skill=3.0)
    given = with_column(given, site=np.where(np.arange(900) % 3 == 0, "A", "B"))
    thresholds = {f"c{k}": 0.3 for k in range(4)}
    rows = subgroups(given, ["site"], thresholds=thresholds, operating="frozen")
    only = replace(given, table=given.table[given.table["site"] == "B"].reset_index(drop=True))
    whole = {
        (e.metric, e.class_, e.operating_point): e
        for e in estimate(only, thresholds=thresholds, operating="frozen", resamples=20)
    }
    shown = [r for r in rows if r.subgroup == "site=B" and r.value is not None]
    assert {r.metric for r in shown} == {"recall", "precision", "specificity", "alarms_per_1000", "auroc"}
    assert {r.operating_point for r in shown} == {"argmax", "frozen", None}
    for row in shown:
        other = whole[row.metric, row.class_, row.operating_point]
        assert (row.value, row.low, row.high, row.method) == (other.value, other.low, other.high, other.method)
        assert (row.n_patients, row.n_positive_patients) == (other.n_patients, other.n_positive_patients)


def test_hand_worked_rates() -> None:
    rows = subgroups(two_groups(12, 30), ["sex"])
    women = found(rows, "recall", "sex=f")
    # 4 of 12 women are found; Clopper-Pearson of 4 in 12, from any table: 0.0992 to 0.6511
    assert (women.value, women.low, women.high) == pytest.approx((1 / 3, 0.0992, 0.6511), abs=1e-3)
    assert (women.n_positive_patients, women.n_images) == (12, 52)
    assert found(rows, "specificity", "sex=f").value == pytest.approx(36 / 40)
    assert found(rows, "precision", "sex=f").value == pytest.approx(4 / 8)
    assert found(rows, "alarms_per_1000", "sex=f").value == pytest.approx(1000 * 8 / 52)


def test_nine_positive_patients_are_hidden_and_ten_are_not() -> None:
    rows = subgroups(two_groups(9, 30, unknown=3), ["sex"])
    for row in (r for r in rows if r.subgroup == "sex=f"):
        assert (row.value, row.low, row.high, row.n_positive_patients, row.prevalence) == (None,) * 5
        assert row.reason == FEW
    assert found(rows, "recall", "sex=m").value is not None, "f and unknown cannot be told apart in what is left"
    assert found(subgroups(two_groups(10, 30), ["sex"]), "recall", "sex=f").value is not None


def test_one_hidden_group_hides_the_next_smallest() -> None:
    rows = subgroups(two_groups(9, 30), ["sex"])
    assert {r.reason for r in rows if r.subgroup == "sex=m"} == {COVER}
    assert all(r.value is None and r.n_positive_patients is None for r in rows)
    nobody = subgroups(two_groups(0, 30), ["sex"])
    assert found(nobody, "recall", "sex=m").value is not None, "nobody's figure can be worked out"
    unknown = subgroups(two_groups(15, 30, unknown=4), ["sex"])
    assert found(unknown, "recall", "sex=unknown").value is None
    assert found(unknown, "recall", "sex=f").value is not None


def test_differences_are_newcombe_s_and_exploratory() -> None:
    rows = subgroups(two_groups(12, 30), ["sex"])
    a, b = found(rows, "recall", "sex=f"), found(rows, "recall", "sex=m")
    d = found(rows, "recall_difference", "sex=f against m")
    assert d.value == pytest.approx(4 / 12 - 10 / 30)
    assert d.low == pytest.approx(d.value - math.sqrt((a.value - a.low) ** 2 + (b.high - b.value) ** 2))
    assert d.high == pytest.approx(d.value + math.sqrt((a.high - a.value) ** 2 + (b.value - b.low) ** 2))
    assert d.reason.startswith("exploratory: one of 3 differences between 2 subgroups")
    assert (d.n_positive_patients, d.n_patients) == (12, 122)
    assert {r.metric for r in rows if "against" in str(r.subgroup)} == {
        f"{m}_difference" for m in ("recall", "specificity", "auroc")
    }


def test_patients_in_both_groups_are_said() -> None:
    given = drawn("independent", n=600, n_patients=60, skill=2.0)
    given = with_column(given, device=np.where(np.arange(600) % 2 == 0, "A", "B"))
    row = next(r for r in subgroups(given, ["device"]) if r.metric == "recall_difference")
    assert "patients are in both groups" in row.reason and row.n_patients <= 60


def test_an_absent_class_has_no_figure_anywhere() -> None:
    given = two_groups(12, 30)
    rows = subgroups(with_column(given, label_c0=0.0), ["sex"])
    assert rows and all(r.value is None and r.reason for r in rows)


def test_thresholds_that_are_missing_or_chosen_here_are_said() -> None:
    given = two_groups(12, 30)
    rows = subgroups(given, ["sex"], thresholds={"c0": 0.5})
    assert "chosen on this same part" in found(rows, "recall", "sex=f", "tuned").reason
    judged = subgroups(replace(given, part="test"), ["sex"], thresholds={"c0": 0.5}, operating="frozen")
    assert "chosen on this same part" not in found(judged, "recall", "sex=f", "frozen").reason
    none = subgroups(given, ["sex"], thresholds={"c1": 0.5})
    assert found(none, "recall", "sex=f", "tuned").value is None


def test_unknown_columns_name_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        subgroups(with_column(two_groups(12, 30), age=50), ["sx", "prob_c0"])
    first, second = caught.value.problems
    assert (first.code, first.found, first.remedy) == ("RS-C34", "no column 'sx'", "did you mean 'sex'?")
    assert second.found == "'prob_c0' holds scores, labels or ids of cases"
    check_columns(["sex"], ["case", "sex"])
    for name in ("case", "label", "label_mel", "logit_mel"):
        with pytest.raises(ConfigError):
            check_columns([name], ["case", "sex", "label", "label_mel", "logit_mel"])


# groups of a column


def test_decades_of_age_are_merged_while_small() -> None:
    ages = [5] * 2 + [33] * 20 + [48] * 20 + [52.5] * 20 + [61] * 20 + [79] * 15 + [84, 91, None]
    made = grouped(ages, "age")
    # 100 known: 0s 2, 10s 0, 20s 0, 30s 20, ..., 80s 1, 90s 1 are merged until 5 or more bins of at least 10 are left
    assert made.names == ("0-39", "40-49", "50-59", "60-69", "70-99", "unknown")
    assert "decades" in made.how
    assert made.of_row[0] == "0-39" and made.of_row[-2] == "70-99" and made.of_row[-1] == "unknown"
    assert grouped(["033Y", *map(str, ages[:-1])], "Patient age").of_row[0] == "0-39"
    assert "quartiles" in grouped(ages, "image").how, "a column that only contains the letters"


def test_decades_stop_merging_at_four() -> None:
    made = grouped([5] * 100 + [15, 25, 35, 45, 55, 65], "age")
    assert len(made.names) == 4 and made.names[0] == "0-9"


def test_an_age_over_few_decades_and_other_numbers_have_quartiles() -> None:
    assert grouped(range(40, 69), "age").names[0] == "below 47"
    made = grouped([*range(1, 101), "n/a"], "size_mm")
    # numpy's quantiles of 1..100 are 25.75, 50.5 and 75.25, to three figures 25.8, 50.5 and 75.2
    assert made.names == ("below 25.8", "25.8 to below 50.5", "50.5 to below 75.2", "75.2 and above", "unknown")
    assert made.of_row[24] == "below 25.8" and made.of_row[25] == "25.8 to below 50.5"


def test_categories_keep_their_spelling_and_few_numbers_are_codes() -> None:
    made = grouped(["F", "f ", "F", "M", "nan", None, float("nan"), ""], "sex")
    assert made.names == ("F", "M", "unknown")
    assert made.of_row.tolist() == ["F", "F", "F", "M"] + ["unknown"] * 4
    assert grouped([0, 1, 2, 0, 1, 2], "grade").names == ("0", "1", "2")


def test_many_values_are_put_together() -> None:
    values = [f"site{i:02}" for i in range(30) for _ in range(40 - i)]
    made = grouped(values, "site")
    assert made.names == (*(f"site{i:02}" for i in range(11)), "other")
    assert "11 commonest" in made.how
    assert len(grouped(values[: sum(40 - i for i in range(12))], "site").names) == 12
