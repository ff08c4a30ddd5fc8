"""A row speaks of two numbers, an arm's own and its difference from the baseline: each with what it rests on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from raresight.explain.arm_rows import Sides, alignment_rows, detector_rows, score_rows
from raresight.explain.draws import Draws, Figure
from raresight.explain.tables import Row, adjust, distrust, fact_rows, gate_rows, row
from raresight.explain.verdict import TOO_FEW, verdict
from raresight.explain.verdict_table import verdict_rows

PATIENTS = np.array([f"p{i:02d}" for i in range(24)])
EMPTY = "most maps are empty"


def lines(**columns: Any) -> pd.DataFrame:
    """24 images of 24 patients, 12 of each of two classes; two seeds an arm, `mass` of focal .1 below that of bce."""
    rng = np.random.default_rng(7)
    frames = []
    for arm, mean in (("bce", 0.5), ("focal", 0.4), ("cb", 0.5)):
        for seed in (0, 1):
            frame = {"arm": arm, "seed": seed, "class": np.repeat(["a", "b"], 12), "case": np.arange(24)}
            frame |= {"patient": PATIENTS, "mass": mean + 0.02 * rng.normal(size=24), "empty": 0.0}
            frames.append(pd.DataFrame(frame | columns))
    return pd.concat(frames, ignore_index=True)


def sides(greyed: dict[Any, str] | None = None) -> Sides:
    return Sides("bce", Draws(PATIENTS, resamples=128), {"a": "head", "b": "tail"}, greyed or {})


def find(rows: list[Row], **wanted: Any) -> Row:
    (found,) = [one for one in rows if all(one[key] == value for key, value in wanted.items())]
    return found


def test_value_and_difference_have_counts_status_and_reason_of_their_own() -> None:
    """focal finds all 12 images of a, the baseline 9 of them: those alone can be compared, and they are too few."""
    frame = lines(found=1.0)
    frame.loc[(frame["arm"] == "bce") & (frame["case"] > 8), "found"] = 0.0
    rows = alignment_rows(frame, sides())
    about = {"metric": "mass", "cases": "found", "class": "a"}
    ours, base = find(rows, arm="focal", **about), find(rows, arm="bce", **about)
    assert (ours["n_images"], ours["n_patients"], ours["n_seeds"], ours["status"], ours["reason"]) == (
        12,
        12,
        2,
        "ok",
        "",
    )
    assert ours["low"] < ours["value"] < ours["high"] and ours["diff_low"] is None and ours["p"] is None
    assert (ours["diff_n_images"], ours["diff_n_patients"], ours["diff_n_seeds"]) == (9, 9, 2)
    assert (ours["diff_status"], ours["diff_reason"]) == ("few", "9 patients, fewer than 10: no interval")
    common = frame[(frame["class"] == "a") & (frame["case"] <= 8)].groupby("arm")["mass"].mean()
    assert ours["difference"] == pytest.approx(common["focal"] - common["bce"])
    assert (base["n_patients"], base["status"], base["reason"]) == (9, "few", "9 patients, fewer than 10: no interval")
    assert [base[f"diff_{key}"] for key in ("n_images", "n_patients", "n_seeds", "status")] == [None] * 4
    assert base["diff_reason"] == ""


def test_a_value_that_nothing_changes_says_why_it_has_no_interval() -> None:
    """No map of focal is empty, a third of the baseline's are: the share 0 has no spread, the difference has."""
    frame = lines()
    frame.loc[(frame["arm"] == "bce") & (frame["case"] % 3 == 0), "empty"] = 1.0
    rows = alignment_rows(frame, sides())
    ours = find(rows, arm="focal", metric="no_evidence", **{"class": "a"})
    assert (ours["value"], ours["low"], ours["status"]) == (0.0, None, "same")
    assert "no spread to resample" in ours["reason"]
    assert ours["difference"] == pytest.approx(-1 / 3) and ours["diff_low"] < -1 / 3 < ours["diff_high"]
    assert (ours["diff_status"], ours["diff_reason"]) == ("ok", "")
    for one in rows:
        assert one["low"] is not None or one["reason"], one
        assert one["difference"] is None or one["diff_low"] is not None or one["diff_reason"], one


def test_the_fewer_seeds_of_either_arm_count_in_the_difference() -> None:
    frame = lines()
    frame = frame[(frame["arm"] != "bce") | (frame["seed"] == 0)]
    ours = find(alignment_rows(frame, sides()), arm="focal", metric="mass", **{"class": "a"})
    assert (ours["n_seeds"], ours["diff_n_seeds"], ours["reason"]) == (2, 1, "")
    rest = {"class": "a", "arm": "focal", "baseline": "bce", "difference": 0.1, "p": 0.001, "p_adjusted": 0.001}
    of = {metric: row(metric=metric, n_seeds=5, diff_n_seeds=2, **rest) for metric in ("auroc", "alignment")}
    flag, why = verdict(of)
    assert flag == TOO_FEW and why.startswith("2 seeds an arm")


def test_a_caution_stands_beside_the_interval_that_it_is_about() -> None:
    def figure(n: float, spread: float) -> Figure:
        return Figure(n, n + spread * np.tile([-1.0, 1.0], 64), 20, 15)

    counts = {"bce": {0: [figure(3, 1)], 1: [figure(3, 1)]}, "focal": {0: [figure(0, 0)], 1: [figure(0, 0)]}}
    rows = detector_rows(counts, ("a",), sides(), caution="it leans low")
    base, ours = find(rows, arm="bce"), find(rows, arm="focal")
    assert base["reason"] == "it leans low" == ours["diff_reason"] and base["diff_reason"] == ""
    assert ours["low"] is None and "no spread" in ours["reason"] and "leans" not in ours["reason"]


VALUES = {"bce": (1.0, 1.3, 1.1), "focal": (1.4, 1.6, 1.7)}


def facts(**patients: tuple[int | None, int | None]) -> pd.DataFrame:
    """A number of each class, with the patients that bce's and focal's rest on."""
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "metric": "probe_ap_gain", "class": name, "value": value, "n_patients": n}
            for name, of_arms in patients.items()
            for (arm, values), n in zip(VALUES.items(), of_arms, strict=True)
            for seed, value in enumerate(values)
        ]
    )


def test_fewer_than_ten_patients_give_no_interval_over_seeds_either() -> None:
    rows = fact_rows("geometry", facts(few=(9, 9), ten=(10, 10), unknown=(None, None), one=(9, 12)), baseline="bce")
    few = "9 patients, fewer than 10: no interval"
    ours = find(rows, arm="focal", **{"class": "few"})
    assert ours["value"] == pytest.approx(4.7 / 3) and ours["difference"] == pytest.approx(1.3 / 3)
    assert [ours[key] for key in ("low", "high", "p_level", "diff_low", "diff_high", "p", "p_adjusted")] == [None] * 7
    assert (ours["status"], ours["reason"], ours["diff_status"], ours["diff_reason"]) == ("few", few, "few", few)
    assert (ours["n_patients"], ours["diff_n_patients"]) == (9, 9)
    ten, unknown = (find(rows, arm="focal", **{"class": name}) for name in ("ten", "unknown"))
    assert ten["low"] is not None and ten["diff_low"] is not None and ten["status"] == ten["diff_status"] == "ok"
    assert ten["p_adjusted"] == pytest.approx(2 * ten["p"])  # of ten and unknown: the others are no tests
    assert all(ten[key] == unknown[key] for key in ("value", "low", "high", "p", "diff_low", "reason", "status"))
    assert unknown["n_patients"] is unknown["diff_n_patients"] is None
    apart = find(rows, arm="focal", **{"class": "one"})
    assert (apart["status"], apart["n_patients"], apart["diff_status"], apart["diff_n_patients"]) == (
        "ok",
        12,
        "few",
        9,
    )
    assert apart["low"] == pytest.approx(ten["low"]) and apart["diff_low"] is None and apart["diff_reason"] == few
    base = find(rows, arm="bce", **{"class": "one"})
    assert (base["status"], base["low"], base["diff_status"]) == ("few", None, None)


def test_a_number_that_the_baseline_lacks_has_no_difference_and_says_why() -> None:
    table = facts(a=(20, 20))
    table.loc[table["arm"] == "bce", "value"] = np.nan
    table["reason"] = np.where(table["arm"] == "bce", "the layer cannot be probed", None)
    ours = find(fact_rows("geometry", table, baseline="bce"), arm="focal")
    assert ours["value"] is not None and ours["status"] == "ok" and "cannot" not in ours["reason"]
    assert (ours["difference"], ours["diff_status"]) == (None, "absent")
    assert ours["diff_reason"] == "the layer cannot be probed"


def test_a_greyed_baseline_greys_every_difference_from_it_and_no_other_arms_value() -> None:
    free, grey = (alignment_rows(lines(), sides(greyed)) for greyed in ({}, {"bce": "it failed"}))
    for one, was in zip(grey, free, strict=True):
        assert one["greyed"] == (one["arm"] == "bce") and one["p_adjusted"] is None
        assert all(one[key] == was[key] for key in ("value", "low", "difference", "diff_low", "p"))
        if one["arm"] != "bce":
            assert one["diff_status"] == "not_trusted" and one["reason"] == was["reason"]
            assert one["diff_reason"].startswith("maps of bce are not trusted: it failed")
    assert find(free, arm="focal", metric="mass", **{"class": "a"})["p_adjusted"] is not None


def test_a_greyed_arm_greys_its_own_value_and_difference() -> None:
    rows = alignment_rows(lines(), sides({"focal": "it failed", "bce": "so did it"}))
    one = find(rows, arm="focal", metric="mass", **{"class": None})
    assert one["greyed"] and one["reason"] == "maps of focal are not trusted: it failed"
    assert one["diff_reason"] == "maps of focal are not trusted: it failed; maps of bce are not trusted: so did it"


def test_a_class_whose_maps_are_mostly_empty_is_greyed_alone() -> None:
    held = sides({("bce", "a"): EMPTY, ("focal", "b"): EMPTY})
    assert held.why_greyed("bce", "a") == EMPTY == held.why_greyed("focal", "b")
    assert held.why_greyed("bce", "b") == held.why_greyed("bce", None) == held.why_greyed("cb", "a") == ""
    assert sides({"bce": "it failed", ("bce", "a"): EMPTY}).why_greyed("bce", "a") == "it failed"
    rows = alignment_rows(lines(), held)

    def told(arm: str, name: str | None) -> tuple[bool, str | None]:
        one = find(rows, arm=arm, metric="mass", **{"class": name})
        return one["greyed"], one["diff_status"]

    assert told("bce", "a") == (True, None) and told("bce", "b") == (False, None)
    assert told("focal", "a") == told("cb", "a") == (False, "not_trusted")
    assert told("focal", "b") == (True, "not_trusted") and told("cb", "b") == (False, "ok")
    assert {told(arm, None) for arm in ("focal", "cb")} == {(False, "ok")}
    emptiness = [one for one in rows if one["metric"] == "no_evidence"]
    assert emptiness and not any(one["greyed"] or one["diff_status"] == "not_trusted" for one in emptiness)
    tested = [one for one in rows if one["p_adjusted"] is not None]
    assert {(one["arm"], one["class"]) for one in tested if one["metric"] == "mass"} == {("cb", "b")}


def test_holm_counts_the_differences_that_may_be_read() -> None:
    rows = [row(metric=str(i), arm="x", baseline="b", p=0.01, family="f", diff_status="ok") for i in range(3)]
    distrust(rows[0], "", "it failed")
    distrust(rows[1], "", "")
    adjust(rows)
    assert [one["p_adjusted"] for one in rows] == [None, 0.02, 0.02]
    absent = row(arm="x", baseline="b", diff_status="absent", diff_reason="nothing")
    distrust(absent, "", "it failed")
    assert (absent["diff_status"], absent["diff_reason"]) == ("absent", "nothing")


def test_scores_rest_on_no_map() -> None:
    labels = np.zeros((24, 1))
    labels[:12, 0] = 1
    rng = np.random.default_rng(3)
    logits = {
        arm: {seed: labels * s + rng.normal(size=(24, 1)) for seed in (0, 1)} for arm, s in (("bce", 1), ("cb", 2))
    }
    free, grey = (
        score_rows(logits, labels, PATIENTS, ("a",), sides(greyed))
        for greyed in ({}, {"bce": "it failed", ("cb", "a"): EMPTY})
    )
    assert [one | {"greyed": False} for one in grey] == free
    assert {one["arm"] for one in grey if one["greyed"]} == {"bce"}


def test_what_an_arms_maps_show_by_themselves_outlives_a_baseline_that_failed() -> None:
    told = {"p_level": 0.001, "class": "a", "baseline": "bce", "value": 0.4, "n_patients": 30, "reason": "own"}
    ours = row(metric="mass_corrected", arm="focal", difference=0.2, diff_status="not_trusted", diff_reason="x", **told)
    base = row(metric="mass_corrected", arm="bce", greyed=True, **told)
    made = [one for one in verdict_rows([], [ours, base]) if one["metric"] == "beyond_chance"]
    assert {one["arm"]: one["verdict"] for one in made} == {"focal": "beyond chance", "bce": "maps not trusted"}
    mine = find(made, arm="focal")
    assert (mine["diff_status"], mine["diff_reason"], mine["difference"], mine["reason"]) == (None, "", None, "own")
    assert mine["n_patients"] == 30


def test_rows_of_the_gate_say_why_they_have_no_interval() -> None:
    seen = [{"arm": "bce", "seed": 0, "metric": "ssim", "value": 0.2}]
    seen += [{"arm": "bce", "seed": 0, "metric": "spearman", "value": 0.1, "reason": "told"}]
    rows, greyed = gate_rows({"bce": {0: (True, "")}, "none": {}}, seen)
    assert not greyed and [one["reason"] for one in rows] == [
        "a share of the networks that were tried: no interval", "", "one network: no interval", "told",
    ]  # fmt: skip


def test_regions_of_one_patient_are_told_from_nothing_to_measure() -> None:
    """Class b has one patient: its maps have nobody else's regions to be compared with. Class a has twelve."""
    frame = lines()
    frame["patient"] = np.where(frame["class"] == "b", "p12", frame["patient"])
    frame["mass_0"] = np.where(frame["class"] == "b", np.nan, 0.2)
    rows = alignment_rows(frame, sides({("focal", "b"): "it failed"}))
    about = {"metric": "mass_corrected", "class": "b"}
    alone = "all regions are of one patient: no other's to compare with"
    base, ours = find(rows, arm="bce", **about), find(rows, arm="cb", **about)
    assert (base["value"], base["n_images"], base["n_patients"]) == (None, 12, 1)
    assert (base["status"], base["reason"], base["diff_reason"]) == ("absent", alone, "")
    assert (ours["reason"], ours["diff_reason"], ours["diff_status"]) == (alone, alone, "absent")
    grey = find(rows, arm="focal", **about)
    assert grey["reason"] == f"maps of focal are not trusted: it failed; {alone}"
    assert find(rows, arm="cb", metric="mass", **{"class": "b"})["reason"] == "1 patient, fewer than 10: no interval"
    assert find(rows, arm="cb", metric="mass_corrected", **{"class": "a"})["value"] is not None
