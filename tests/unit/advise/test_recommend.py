"""The recommendation: a winner only on evidence, with its dissent; one arm to deploy, by a stated rule."""

from __future__ import annotations

from typing import Any

from raresight.advise.recommend import recommend
from raresight.core.estimate import Estimate
from raresight.core.task import Task

TASK = Task("exclusive", ("mel", "nv"), ("mel",))
PRIMARY = "recall_at_matched_specificity"


def row(arm: str, metric: str, name: str | None, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {
        "arm": arm,
        "baseline": "baseline",
        "part": "val",
        "metric": metric,
        "class": name,
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "p": 0.01,
        "p_adjusted": None,
        "family": "exploratory",
        "n_patients": 90,
        "n_positive_patients": None if name is None else 12,
    } | more


def cost(arm: str, value: float, high: float, point: str = "tuned") -> Estimate:
    return Estimate(metric="expected_cost", arm=arm, part="val", operating_point=point, value=value, low=0.0, high=high)


def test_a_winner_needs_its_interval_and_its_adjusted_p() -> None:
    rows = [
        row("focal", PRIMARY, "mel", 0.05, 0.25, p_adjusted=0.03, family="primary"),
        row("smote", PRIMARY, "mel", 0.08, 0.40, p_adjusted=0.20, family="primary"),
        row("focal", "recall", "nv", -0.08, -0.02),
        row("focal", "auprc", "nv", -0.05, 0.03),
        row("smote", "auprc", "nv", -0.01, 0.09),
    ]
    advice = {entry["class"]: entry for entry in recommend(TASK, rows, [], baseline="baseline")["recommendation"]}
    mel = advice["mel"]
    assert mel["arm"] == "focal", "smote gained more, but not after Holm"
    assert "adjusted" in mel["reason"] and "0.03" in mel["reason"]
    assert mel["evidence"][0]["difference"] == rows[0]["difference"] and mel["evidence"][0]["n_positive_patients"] == 12
    assert [(d["metric"], d["class"]) for d in mel["dissent"]] == [("recall", "nv"), ("auprc", "nv")]
    assert "+0.150 (+0.050 to +0.250), 12 patients with it" in mel["evidence"][0]["text"]
    nv = advice["nv"]
    assert nv["arm"] == "baseline" and "keep the baseline and move its threshold" in nv["reason"]
    assert nv["dissent"][0]["arm"] == "smote", "what spoke for another arm is said"


def test_an_exploratory_gain_does_not_win_and_is_dissent() -> None:
    advice = recommend(TASK, [row("focal", "auprc", "nv", 0.01, 0.05)], [], baseline="baseline")
    mel, nv = advice["recommendation"]
    assert nv["arm"] == "baseline" and "keep the baseline and move its threshold" in nv["reason"]
    assert [entry["arm"] for entry in nv["dissent"]] == ["focal"]
    assert mel["arm"] == "baseline" and "no arm could be compared" in mel["reason"]


def rate(metric: str, point: str, value: float, **more: Any) -> Estimate:
    known = {"arm": "baseline", "part": "val", "class_": "mel", "operating_point": point, "value": value}
    return Estimate(metric=metric, **(known | {"low": 0.0, "high": 1.0} | more))


def test_the_reason_says_what_moving_the_threshold_buys() -> None:
    rows = [row("focal", PRIMARY, "mel", -0.05, 0.25, p_adjusted=0.3)]
    estimates = [
        *(rate("recall", "argmax", value, seed=seed) for seed, value in enumerate((0.25, 0.37))),
        *(rate("recall", "tuned", value, seed=seed) for seed, value in enumerate((0.70, 0.86))),
        rate("specificity", "argmax", 0.98),
        rate("specificity", "tuned", 0.85),
        rate("recall", "tuned", 0.1, part="test"),
        rate("recall", "tuned", 0.1, arm="focal"),
        rate("recall", "tuned", 0.1, class_="nv"),
        rate("recall", "tuned", 0.1, subgroup="sex=f"),
    ]
    mel = recommend(TASK, rows, estimates, baseline="baseline")["recommendation"][0]
    assert mel["arm"] == "baseline" and "recall 0.31 -> 0.78, specificity 0.98 -> 0.85" in mel["reason"]
    silent = recommend(TASK, rows, estimates[:4], baseline="baseline")["recommendation"][0]
    assert "->" not in silent["reason"], "recall without its price is not told"


def test_a_sweep_is_evidence_for_its_class_and_the_test_part_goes_first() -> None:
    val = {"verdicts": [{"column": "0.01", "text": "nothing beats baseline"}]}
    test = {"verdicts": [{"column": "0.01", "text": "focal beats baseline"}]}
    rows = [row("focal", PRIMARY, "mel", -0.05, 0.25, p_adjusted=0.3)]
    for sweep, said in (
        ({"val": val, "test": None}, "validation part: nothing"),
        ({"val": val, "test": test}, "focal"),
    ):
        mel, nv = recommend(TASK, rows, [], baseline="baseline", sweeps=[sweep | {"class": "mel"}])["recommendation"]
        assert said in mel["evidence"][-1]["text"] and not nv["evidence"]


def test_the_test_part_never_chooses() -> None:
    rows = [
        row("focal", "auprc", "nv", 0.01, 0.05, part="test"),
        row("focal", "auprc", "nv", -0.05, 0.05),
        row("focal", "macro_auprc", None, 0.01, 0.05, part="test"),
    ]
    advice = recommend(TASK, rows, [], baseline="baseline")
    assert {entry["arm"] for entry in advice["recommendation"]} == {"baseline"}
    assert advice["deploy"]["arm"] == "baseline"
    alone = recommend(TASK, [r for r in rows if r["part"] == "test"], [], baseline="baseline")
    assert alone["deploy"]["arm"] == "focal" and "confirm it on others" in alone["deploy"]["reason"]


def test_deploys_by_macro_auprc_only_what_is_distinguishable() -> None:
    rows = [row("focal", "macro_auprc", None, -0.01, 0.09), row("smote", "macro_auprc", None, 0.01, 0.03)]
    deploy = recommend(TASK, rows, [], baseline="baseline")["deploy"]
    assert deploy["arm"] == "smote" and "macro AUPRC" in deploy["rule"]
    assert f"not adjusted for the {len(rows)} arms compared" in deploy["reason"]
    deploy = recommend(TASK, rows[:1], [], baseline="baseline")["deploy"]
    assert deploy["arm"] == "baseline" and "closest: focal" in deploy["reason"]


def test_deploys_by_cost_where_costs_are_given() -> None:
    costs = {"missed": {"mel": 20}}
    rows = [row("focal", "macro_auprc", None, 0.01, 0.03)]
    estimates = [cost("baseline", 0.50, 0.6), cost("focal", 0.45, 0.55), cost("smote", 0.20, 0.30)]
    deploy = recommend(TASK, rows, estimates, baseline="baseline", costs=costs)["deploy"]
    assert deploy["arm"] == "smote" and "0.200" in deploy["reason"]
    deploy = recommend(TASK, rows, estimates[:2], baseline="baseline", costs=costs)["deploy"]
    assert deploy["arm"] == "baseline" and "not distinguishable" in deploy["reason"]
    without = recommend(TASK, rows, estimates, baseline="baseline")["deploy"]
    assert without["arm"] == "focal"
    fallback = recommend(TASK, rows, [], baseline="baseline", costs=costs)["deploy"]
    assert fallback["arm"] == "focal"


def test_rows_without_a_difference_are_no_evidence() -> None:
    absent = row("focal", PRIMARY, "mel", 0.0, 0.0) | {"difference": None, "low": None, "high": None, "p": None}
    advice = recommend(TASK, [absent], [], baseline="baseline")
    assert advice["recommendation"][0]["arm"] == "baseline"
    assert advice["deploy"]["arm"] == "baseline"
