"""The tables: one set of keys, rows from what networks measured, Holm by family, and files that are whole or old."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from raresight.explain.arm_rows import Sides, alignment_rows, detector_rows, score_rows
from raresight.explain.draws import Draws, Figure
from raresight.explain.paired import Inferred
from raresight.explain.tables import KEYS, TABLES, adjust, fact_rows, gate_rows, inferred_row, row, save_tables

PATIENTS = np.array([f"p{i:02d}" for i in range(24)])


def lines(shift: dict[str, float], **columns) -> pd.DataFrame:
    """24 images of 24 patients, half of each of two classes, two seeds an arm; `mass` about 0.5 + shift."""
    rng = np.random.default_rng(2)
    frames = []
    for arm, by in shift.items():
        for seed in (0, 1):
            mass = 0.5 + by + 0.02 * rng.normal(size=24)
            frame = {"arm": arm, "seed": seed, "class": np.repeat(["a", "b"], 12), "case": np.arange(24)}
            frame |= {"patient": PATIENTS, "mass": mass, "mass_0": 0.2, "mass_prior": 0.4, "empty": 0.0}
            frames.append(pd.DataFrame(frame | columns))
    return pd.concat(frames, ignore_index=True)


def sides(**more) -> Sides:
    return Sides("bce", Draws(PATIENTS, resamples=128), {"a": "head", "b": "tail"}, **more)


def find(rows, **wanted):
    return [one for one in rows if all(one[key] == value for key, value in wanted.items())]


def test_alignment_rows_are_means_corrections_and_differences_with_the_baselines_own_row():
    frame = lines({"bce": 0.0, "focal": -0.1}, layer="l4", method="grad_cam")
    rows = alignment_rows(frame, sides(greyed={"focal": "gate"}))
    assert {tuple(one) for one in rows} == {tuple(KEYS)}
    assert {one["metric"] for one in rows} == {"mass", "mass_corrected", "mass_skill", "no_evidence"}
    base, ours = (find(rows, arm=arm, metric="mass", **{"class": "b"})[0] for arm in ("bce", "focal"))
    mean = frame[(frame["arm"] == "focal") & (frame["class"] == "b")]["mass"].mean()
    assert ours["value"] == pytest.approx(mean) and ours["low"] < mean < ours["high"]
    assert ours["difference"] == pytest.approx(ours["value"] - base["value"]) and ours["diff_high"] < 0
    assert base["difference"] is None and base["p"] is None and base["value"] is not None
    assert (ours["band"], ours["layer"], ours["method"], ours["n_patients"]) == ("tail", "l4", "grad_cam", 12)
    assert ours["greyed"] and not base["greyed"]
    corrected = find(rows, arm="focal", metric="mass_corrected", **{"class": "b"})[0]
    assert corrected["value"] == pytest.approx((mean - 0.2) / 0.8)
    skill = find(rows, arm="focal", metric="mass_skill", **{"class": "b"})[0]
    assert skill["value"] == pytest.approx((mean - 0.4) / 0.6) and skill["value"] < corrected["value"]
    macro = find(rows, arm="bce", metric="mass", **{"class": None})[0]
    whole = frame[frame["arm"] == "bce"].groupby("class")["mass"].mean().mean()
    assert macro["value"] == pytest.approx(whole) and macro["n_patients"] == 12


def test_found_and_missed_differ_over_the_images_that_every_network_found():
    frame = lines({"bce": 0.0, "focal": -0.1})
    frame["found"] = (frame["case"] % 12 != 0) * 1.0
    frame.loc[(frame["arm"] == "focal") & (frame["seed"] == 1) & (frame["case"] == 1), "found"] = 0.0
    rows = alignment_rows(frame, sides())
    ours = find(rows, arm="focal", metric="mass", cases="found", **{"class": "a"})[0]
    common = frame[(frame["class"] == "a") & ~frame["case"].isin([0, 1])]
    means = common.groupby("arm")["mass"].mean()
    assert ours["difference"] == pytest.approx(means["focal"] - means["bce"]) and ours["n_images"] == 10
    missed = find(rows, arm="bce", metric="mass", cases="missed", **{"class": "a"})[0]
    assert missed["status"] == "few" and missed["n_images"] == 1 and missed["low"] is None


def test_an_image_that_one_network_lacks_is_out_of_that_pair_alone():
    frame = lines({"bce": 0.0, "focal": -0.1, "cb": 0.0})
    frame.loc[(frame["arm"] == "focal") & (frame["seed"] == 0) & (frame["case"] == 3), "mass"] = np.nan
    rows = find(alignment_rows(frame, sides()), metric="mass", **{"class": "a"})
    assert {one["arm"]: one["n_images"] for one in rows} == {"bce": 12, "focal": 11, "cb": 12}
    assert find(rows, arm="focal")[0]["status"] == "ok" and find(rows, arm="bce")[0]["n_patients"] == 12


def test_scores_of_an_absent_class_are_absent_and_not_in_the_macro():
    labels = np.zeros((24, 2))
    labels[:12, 0] = 1
    logits = {arm: {0: labels + np.arange(48).reshape(24, 2) % 5 * s} for arm, s in (("bce", 0.3), ("focal", 0.4))}
    rows = score_rows(logits, labels, PATIENTS, ("a", "b"), sides())
    gone = find(rows, arm="focal", metric="auroc", **{"class": "b"})[0]
    assert (gone["value"], gone["difference"], gone["low"], gone["status"]) == (None, None, None, "absent")
    macro, one = (find(rows, arm="focal", metric="auroc", **{"class": name})[0]["value"] for name in (None, "a"))
    assert macro == one and 0.5 < one <= 1
    assert {one["family"] for one in find(rows, arm="focal", metric="auroc")} >= {"score"}


def test_detectors_are_compared_by_arm():
    def figure(n):
        return Figure(float(n), n + np.tile([-1.0, 1.0], 64), 20, 15)

    counts = {"bce": {0: [figure(10)], 1: [figure(12)]}, "focal": {0: [figure(5)], 1: [figure(6)]}}
    rows = detector_rows(counts, ("a",), sides(), layer="l4")
    ours = find(rows, arm="focal")[0]
    assert (ours["value"], ours["difference"], ours["table"], ours["layer"]) == (5.5, -5.5, "dissection", "l4")
    assert ours["spread"] == pytest.approx(np.sqrt(2))


def test_an_interval_over_seeds_ends_where_the_number_must():
    """Of three seeds t's quantile is 4.30: .9 +- 4.30 x .1/sqrt(3) and 1 +- 4.30 reach past what the numbers can be."""
    facts = pd.DataFrame(
        [{"arm": "a", "seed": s, "metric": "cka", "value": v} for s, v in enumerate((0.8, 0.9, 1.0))]
        + [{"arm": "a", "seed": s, "metric": "detectors_04", "value": v} for s, v in enumerate((0.0, 0.0, 3.0))]
        + [{"arm": "a", "seed": s, "metric": "bias_slope", "value": v} for s, v in enumerate((0.0, 0.0, 3.0))]
    )
    cka, count, slope = fact_rows("geometry", facts, baseline=None)
    assert cka["low"] == pytest.approx(0.9 - 4.30265 * 0.1 / 3**0.5, abs=1e-4) and cka["high"] == 1
    assert count["low"] == 0 and count["high"] == pytest.approx(1 + 4.30265, abs=1e-4)
    assert slope["low"] == pytest.approx(1 - 4.30265, abs=1e-4)


def test_facts_are_compared_over_seeds_as_a_paired_t_test():
    values = {"bce": [1.0, 1.3, 1.1], "focal": [1.4, 1.6, 1.7]}
    facts = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "metric": "nc1", "class": None, "layer": "l4", "value": value, "n_images": 50}
            for arm, each in values.items()
            for seed, value in enumerate(each)
        ]
        + [{"arm": "bce", "seed": 0, "metric": "bias", "class": "a", "value": None, "reason": "no linear head"}]
    )
    rows = fact_rows("geometry", facts, baseline="bce", bands={"a": "head"}, greyed={"focal": "gate"})
    ours = find(rows, arm="focal", metric="nc1")[0]
    assert ours["p"] == pytest.approx(ttest_rel(values["focal"], values["bce"]).pvalue)
    assert ours["p_adjusted"] is None and ours["difference"] == pytest.approx(13 / 30) and ours["greyed"]
    trusted = find(fact_rows("geometry", facts, baseline="bce"), arm="focal")[0]
    assert trusted["p_adjusted"] == trusted["p"] == ours["p"] and not trusted["greyed"]
    assert (ours["class"], ours["layer"], ours["n_images"], ours["n_patients"]) == (None, "l4", 50, None)
    absent = find(rows, metric="bias")[0]
    assert (absent["value"], absent["status"], absent["reason"], absent["band"]) == (
        None,
        "absent",
        "no linear head",
        "head",
    )
    assert all(one["difference"] is None for one in fact_rows("between", facts, baseline=None))


def test_one_failing_seed_greys_its_arm():
    rows, greyed = gate_rows(
        {"bce": {0: (True, ""), 1: (True, "")}, "focal": {0: (True, ""), 1: (False, "maps did not change")}},
        [{"arm": "focal", "seed": 1, "metric": "spearman", "value": 0.9}, {"arm": "bce", "seed": 0, "metric": "ssim"}],
    )
    assert greyed == {"focal": "seed 1: maps did not change"}
    assert [(one["metric"], one["value"], one["greyed"]) for one in rows] == [
        ("gate", 1.0, False), ("gate", 0.5, True), ("spearman", 0.9, True), ("ssim", None, False),
    ]  # fmt: skip


def test_holm_is_per_family_and_leaves_greyed_rows_out():
    rows = [row(metric=str(i), p=p, family=f) for i, (p, f) in enumerate([(0.01, "x"), (0.03, "x"), (0.02, "y")])]
    rows += [row(metric="grey", p=0.001, family="x", greyed=True), row(metric="none", p=0.01)]
    adjust(rows)
    assert [one["p_adjusted"] for one in rows] == [0.02, 0.03, 0.02, None, None]
    with pytest.raises(KeyError, match="p_value"):
        row(p_value=0.1)


def test_files_hold_the_same_rows_and_an_empty_cell_is_no_zero(tmp_path):
    rows = [row(metric="nc1", value=np.float64(0.5), seed=np.int64(3), greyed=np.bool_(True)), row(value=float("nan"))]
    paths = save_tables({"geometry": rows, "verdict": []}, tmp_path)
    assert [path.name for path in paths] == ["T4_geometry.csv", "T4_geometry.json", "T1_verdict.csv", "T1_verdict.json"]
    kept = json.loads(paths[1].read_text())
    assert kept == rows and kept[0]["value"] == 0.5 and kept[1]["value"] is None
    with paths[0].open() as stream:
        cells = list(csv.DictReader(stream))
    assert list(cells[0]) == list(KEYS) and cells[0]["value"] == "0.5" and cells[0]["greyed"] == "true"
    assert cells[1]["value"] == "" and cells[1]["greyed"] == "false"
    assert set(TABLES.values()) >= {path.stem for path in paths}


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path):
    save_tables({"gate": [row(metric="old")]}, tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        save_tables({"gate": [KEYS | {"metric": "new", "value": float("inf")}]}, tmp_path)
    assert json.loads((tmp_path / "T5_gate.json").read_text())[0]["metric"] == "old"
    assert not list(tmp_path.glob(".*.tmp"))


def test_images_are_joined_by_case_whatever_the_order_of_a_networks_rows():
    frame = lines({"bce": 0.0, "focal": -0.1})
    one = (frame["arm"] == "focal") & (frame["seed"] == 1)
    mixed = pd.concat([frame[~one], frame[one].iloc[::-1]], ignore_index=True)
    assert alignment_rows(mixed, sides()) == alignment_rows(frame, sides())


def test_intervals_end_where_figures_and_their_differences_must() -> None:
    level, change = Inferred(0.01, -0.03, 0.05, 0.2), Inferred(-0.99, -1.03, -0.93, 0.001)
    share = inferred_row(level, change, metric="no_evidence")
    assert (share["low"], share["high"]) == (0.0, 0.05)
    assert (share["difference"], share["diff_low"], share["diff_high"]) == (-0.99, -1.0, -0.93)
    alike = inferred_row(level, Inferred(1.9, 1.8, 2.1, 0.001), metric="cka")
    assert (alike["low"], alike["diff_high"]) == (-0.03, 2.0)
    free = inferred_row(level, change, metric="mass_corrected")
    assert (free["low"], free["diff_low"]) == (-0.03, -1.03)
    bare = inferred_row(Inferred(0.4), Inferred(-0.1, None, None, 1.0), metric="no_evidence")
    assert bare["low"] is bare["diff_low"] is bare["diff_high"] is None
