"""Referral: the band around the thresholds, by hand, and what it buys."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from prediction_tables import drawn, predictions

from raresight.core.errors import GateError
from raresight.core.estimate import Estimate
from raresight.evaluate.referral import UNLIKE, UNSURE, distance, fit, handed_over, hands_over, judge, referred

ROW = Estimate(metric="", value=0.0, part="test", operating_point="frozen")
# Log-odds about a threshold of one half: -2 -1 -.5 .25 1 3.
Z = np.array([-2, -1, -0.5, 0.25, 1, 3])
P = 1 / (1 + np.exp(-Z))
Y = np.array([0.0, 0, 1, 0, 1, 1])


def one(y: np.ndarray = Y, p: np.ndarray = P, **more):
    return predictions("independent", y[:, None], p[:, None], **more)


def test_distance_is_the_factor_of_the_odds() -> None:
    np.testing.assert_allclose(distance(P[:, None], {"c0": 0.5}, ("c0",)), np.abs(Z))
    # A threshold of one in five lies log 4 below one half; two classes: the nearer one counts.
    both = distance(np.array([[0.5, 0.2]]), {"a": 0.2, "b": 0.5}, ("a", "b"))
    assert both == pytest.approx(math.log(4))
    assert distance(np.array([[0.5, 0.2]]), {"a": 0.2, "b": 0.2}, ("a", "b")) == pytest.approx(0)
    assert np.isinf(distance(P[:, None], {}, ("c0",))).all()


@pytest.mark.parametrize(
    ("share", "n", "width"), [(1 / 6, 1, 0.375), (0.3, 1, 0.375), (0.34, 2, 0.75), (0.5, 2, 0.75), (0.67, 4, 1.5)]
)
def test_the_widest_band_that_the_share_allows(share: float, n: int, width: float) -> None:
    """Nearest first: .25, .5, then -1 and 1 together (both or neither), -2, 3; the edge lies halfway."""
    fitted = fit(one(), {"c0": 0.5}, share)
    assert fitted is not None and fitted["width"] == pytest.approx(width)
    assert fitted["odds_factor"] == pytest.approx(math.exp(width))
    away = referred(P[:, None], fitted, ("c0",))
    assert away.sum() == n and fitted["share_validation"] == pytest.approx(n / 6) and n / 6 <= share
    assert away.tolist() == (np.abs(Z) <= width).tolist()


def test_nothing_to_refer() -> None:
    assert fit(one(), {"c0": 0.5}, 0.0) is None
    none = fit(one(), {"c0": {"threshold": None}}, 0.5)
    assert none is not None and none["width"] is None and "no threshold for c0" in none["reason"]
    tied = fit(one(p=np.full(6, 0.4)), {"c0": 0.5}, 0.5)
    assert tied is not None and tied["width"] is None and "equally near" in tied["reason"]
    for fitted in (None, none, tied):
        assert not referred(P[:, None], fitted, ("c0",)).any()


def test_critical_classes_are_watched() -> None:
    given = drawn("exclusive", critical=("c0", "c2"))
    thresholds = {f"c{k}": 0.2 for k in range(4)}
    assert fit(given, thresholds, 0.1)["watched"] == ["c0", "c2"]
    assert fit(drawn("exclusive"), thresholds, 0.1)["watched"] == ["c0", "c1", "c2", "c3"]
    assert fit(given, thresholds, 0.1, watched=["c1"])["watched"] == ["c1"]


def test_a_larger_share_is_a_wider_band() -> None:
    given = drawn("exclusive")
    widths = [fit(given, {"c0": 0.1}, share)["width"] for share in (0.02, 0.1, 0.4)]
    assert widths[0] < widths[1] < widths[2]


def test_what_it_buys_by_hand() -> None:
    # Referred: -.5 (with the class: a miss) and .25 (without: a false alarm). Decided: alarms at 1 and 3, both right.
    fitted = fit(one(), {"c0": 0.5}, 0.34)
    costs = {"missed": {"c0": 20.0}, "referral": 0.5}
    rows = {(r.metric, r.class_): r for r in judge(one(part="test"), {"c0": 0.5}, {"refer": fitted}, costs, ROW)}
    assert rows["share_referred", None].value == pytest.approx(2 / 6)
    assert rows["share_referred", None].low == pytest.approx(0.0433, abs=1e-4)  # Clopper-Pearson, 2 of 6
    assert rows["recall_decided", "c0"].value == 1 and rows["recall_decided", "c0"].n_images == 2
    assert rows["specificity_decided", "c0"].value == 1 and rows["specificity_decided", "c0"].n_images == 2
    avoided = rows["misses_avoided_per_100_referrals", "c0"]
    assert avoided.value == 50 and avoided.low == pytest.approx(1.258, abs=1e-3) and avoided.n_images == 2
    # Saved: 20 for the miss, 1 for the false alarm, less .5 for each of two referrals, over six cases.
    saving = rows["referral_net_saving", None]
    assert saving.value == pytest.approx((20 + 1 - 2 * 0.5) / 6) and saving.low < 0 < saving.high
    assert saving.status == "wide" and "false alarms a case" in saving.reason


def test_a_dear_referral_does_not_pay() -> None:
    fitted = fit(one(), {"c0": 0.5}, 0.34)
    rows = judge(one(part="test"), {"c0": 0.5}, {"refer": fitted}, {"missed": {"c0": 2.0}, "referral": 10.0}, ROW)
    assert next(r for r in rows if r.metric == "referral_net_saving").value == pytest.approx((2 + 1 - 20) / 6)
    without = judge(one(part="test"), {"c0": 0.5}, {"refer": fitted}, {"missed": {"c0": 2.0}}, ROW)
    assert "referral_net_saving" not in {r.metric for r in without}


def test_figures_that_cannot_be_told() -> None:
    fitted = fit(one(), {"c0": 0.5}, 0.34)
    absent = {r.metric: r for r in judge(one(Y * 0, part="test"), {"c0": 0.5}, {"refer": fitted}, None, ROW)}
    assert "no case has 'c0'" in absent["recall_decided"].reason
    assert absent["misses_avoided_per_100_referrals"].status == "not_estimable"
    far = one(p=np.array([0.01, 0.01, 0.99, 0.99, 0.99, 0.01]), part="test")
    sure = {r.metric: r for r in judge(far, {"c0": 0.5}, {"refer": fitted}, None, ROW)}
    assert sure["share_referred"].value == 0
    assert "no case was referred" in sure["misses_avoided_per_100_referrals"].reason
    unsure = {
        r.metric: r for r in judge(one(p=np.full(6, 0.5), part="test"), {"c0": 0.5}, {"refer": fitted}, None, ROW)
    }
    assert "every case with the class was referred" in unsure["recall_decided"].reason
    assert unsure["specificity_decided"].status == "not_estimable"


def test_the_edge_of_the_band_is_in_it() -> None:
    at = np.array([[0.3], [0.7]])
    width = float(distance(at, {"c0": 0.5}, ("c0",))[0])
    assert referred(at[:1], {"width": width, "thresholds": {"c0": 0.5}}, ("c0",)).all()
    assert not referred(at[:1], {"width": width * (1 - 1e-9), "thresholds": {"c0": 0.5}}, ("c0",)).any()


def test_a_case_that_no_class_fits_is_referred_and_counted() -> None:
    """Sets hold a class from 0.4 on: (.35 .33 .32) is in none; (.51 .3 .19) lies next to the threshold of 0.5."""
    prob = np.array([[0.35, 0.33, 0.32], [0.51, 0.30, 0.19], [0.9, 0.05, 0.05], [0.05, 0.9, 0.05]])
    entry = {"q": 0.6, "always": False, "reason": ""}
    sets = {"miscoverage": 0.1, "classes": {name: dict(entry) for name in ("c0", "c1", "c2")}}
    band = {"share": 0.1, "watched": ["c0"], "thresholds": {"c0": 0.5}, "width": 0.1, "reason": ""}
    given = predictions("exclusive", np.eye(3)[[0, 1, 0, 1]], prob, part="test")
    both = {"conformal": sets, "refer": band}
    assert handed_over(given.prob, both, given.task).tolist() == [UNLIKE, UNSURE, "", ""]
    assert handed_over(given.prob, {"conformal": sets, "refer": None}, given.task).tolist() == [UNLIKE, "", "", ""]
    rows = {(r.metric, r.class_): r for r in judge(given, {"c0": 0.5}, both, None, ROW)}
    assert (
        rows["share_referred", None].value == 0.5 and "1 because no class fits" in rows["share_referred", None].reason
    )
    assert rows["recall_decided", "c0"].n_images == 1  # of two cases with c0 one is like no class
    assert rows["misses_avoided_per_100_referrals", "c0"].value == 50
    alone = judge(given, {"c0": 0.5}, {"conformal": sets}, None, ROW)
    assert alone[0].value == 0.25 and "no band" in alone[0].reason
    # A class that is always in the set leaves none empty; independent labels may all be absent.
    sets["classes"]["c1"] = {"always": True, "reason": "few"}
    assert not hands_over({"conformal": sets}, given.task) and hands_over({"refer": band}, given.task)
    assert handed_over(given.prob, {"conformal": sets}, given.task).tolist() == [""] * 4
    sets["classes"]["c1"] = dict(entry)
    assert hands_over({"conformal": sets}, given.task)
    assert not hands_over({"conformal": sets}, replace(given.task, kind="independent"))


def test_referral_is_never_fitted_on_test() -> None:
    with pytest.raises(GateError, match="RS-R36"):
        fit(replace(one(), part="test"), {"c0": 0.5}, 0.1)
