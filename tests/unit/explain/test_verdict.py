"""The verdict: every branch of its rule, on hand-made rows; then from simulated studies, with and without a change."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from raresight.core.seeds import numpy_rng
from raresight.explain.tables import distrust, row
from raresight.explain.verdict import (
    CONSISTENT,
    FLAGS,
    LAST,
    NOT_SHOWN,
    NOT_TRUSTED,
    SAME_SCORE,
    TOO_FEW,
    WORSE_LOOK,
    Second,
    chance_verdict,
    verdict,
)
from raresight.explain.verdict_table import verdict_rows

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks/look_null.py"
SPEC = importlib.util.spec_from_file_location("look_null", SCRIPT)
look_null = importlib.util.module_from_spec(SPEC)
sys.modules["look_null"] = look_null
SPEC.loader.exec_module(look_null)


def said(metric, difference, p, p_adjusted=None, **more):
    given = {
        "metric": metric, "class": "mel", "arm": "focal", "baseline": "bce", "difference": difference,
        "diff_low": difference - 0.02, "diff_high": difference + 0.02, "p": p,
        "p_adjusted": p if p_adjusted is None else p_adjusted, "diff_n_patients": 30, "diff_n_seeds": 3,
        "diff_status": "ok",
    }  # fmt: skip
    return row(**given | more)


def rows(*those):
    return {one["metric"]: one for one in those}


FLAT = (said("auroc", 0.01, 0.4), said("auprc", 0.01, 0.6))


@pytest.mark.parametrize(
    ("those", "flag"),
    [
        ((*FLAT, said("alignment", -0.2, 0.001)), SAME_SCORE),
        ((*FLAT, said("alignment", 0.2, 0.001)), SAME_SCORE),
        ((*FLAT, said("alignment", 0.0, 1.0), said("detectors", -4, 0.001)), SAME_SCORE),
        ((*FLAT, said("alignment", 0.0, 1.0), said("d_prime", -4, 0.001)), CONSISTENT),  # of the score's own logits
        ((*FLAT, said("alignment", -0.2, 0.001, 0.06)), CONSISTENT),  # not after Holm
        ((*FLAT, said("alignment", 0.0, 0.001)), CONSISTENT),  # of no side
        ((said("auroc", 0.01, 0.05, 0.1), FLAT[1], said("alignment", -0.2, 0.001)), CONSISTENT),  # the strict side
        ((*FLAT, said("alignment", -0.2, 0.04, 0.05)), SAME_SCORE),  # alpha itself is shown
        ((said("auroc", 0.1, 0.001), said("auprc", 0.0, 0.9), said("alignment", -0.2, 0.001)), WORSE_LOOK),
        ((said("auroc", 0.0, 0.9), said("auprc", 0.1, 0.001), said("alignment", -0.2, 0.001)), WORSE_LOOK),
        ((said("auroc", -0.1, 0.001), said("auprc", 0.1, 0.001), said("alignment", -0.2, 0.001)), CONSISTENT),
        ((said("auroc", 0.1, 0.001), said("auprc", 0.0, 0.9), said("alignment", 0.2, 0.001)), CONSISTENT),
        ((said("auroc", -0.1, 0.001), said("auprc", 0.0, 0.9), said("alignment", -0.2, 0.001)), CONSISTENT),
        ((said("auroc", 0.1, 0.02, 0.3), said("auprc", 0.0, 0.9), said("alignment", -0.2, 0.001)), CONSISTENT),
        ((said("auroc", 0.1, 0.001), said("alignment", 0.0, 0.9), said("detectors", -4, 0.001)), CONSISTENT),
    ],
)
def test_the_rule(those, flag):
    got, reason = verdict(rows(*those))
    assert got == flag and got in FLAGS and "AUROC" in reason


def test_same_score_does_not_claim_that_scores_are_equal_and_carries_their_intervals():
    _, reason = verdict(rows(*FLAT, said("alignment", -0.2, 0.001), said("detectors", -3.0, 0.5)))
    assert "does not make them equal" in reason and "AUROC +0.010 (-0.010 to +0.030)" in reason
    assert "shown: alignment -0.200 (-0.220 to -0.180)" in reason and "detectors -" not in reason
    assert "not looked at" not in reason


def test_too_few_patients_seeds_or_looks_tell_nothing():
    few = {"p": None, "p_adjusted": None, "diff_status": "few", "diff_reason": "4 patients, fewer than 10: no interval"}
    lost = said("alignment", -0.2, 1e-6)
    flag, reason = verdict(rows(said("auroc", 0.1, 1) | few, said("auprc", 0.1, 1) | few, lost))
    assert flag == TOO_FEW and "4 patients" in reason
    for seeds, words in ((1, "one seed"), (2, "2 seeds")):
        flag, reason = verdict(rows(*FLAT, lost | {"diff_n_seeds": seeds}))
        assert flag == TOO_FEW and words in reason
    flag, reason = verdict(rows(*FLAT, said("alignment", 0.1, 1) | few, said("d_prime", 3.0, 1e-6)))
    assert flag == TOO_FEW and "alignment (4 patients" in reason and "detectors" in reason
    assert verdict({})[0] == TOO_FEW


def test_maps_that_failed_the_gate_flag_nothing_whichever_arm_made_them():
    lost = said("alignment", -0.2, 1e-6)
    for whose in ("arm", "baseline"):
        flag, reason = verdict(rows(*FLAT, lost), untrusted=whose)
        assert flag is None and NOT_TRUSTED in reason and whose in reason


def test_where_no_look_is_shown_those_that_can_be_compared_are_told():
    greyed = said("alignment", -0.2, 0.5) | {"p": None, "p_adjusted": None}
    _, reason = verdict(rows(*FLAT, greyed, said("detectors", -4.0, 0.5), said("d_prime", 0.3, 0.5)))
    assert "detectors -4.0" in reason and "d′ +0.300" in reason and "alignment -0.200" not in reason


HIGHER = (said("auroc", 0.1, 0.001), said("auprc", 0.1, 0.001))
LOST = said("alignment", -0.2, 1e-6, method="grad_cam", value=0.4)
LESS = LOST | {"method": "hires_cam", "difference": -0.01, "p": 0.9, "p_adjusted": None}


@pytest.mark.parametrize(
    ("second", "flags", "words"),
    [
        (Second("hires_cam", LESS | {"p": 0.05}), (SAME_SCORE, WORSE_LOOK), "both methods show it (Grad-CAM -0.200"),
        (Second("hires_cam", LESS | {"p": 0.051}), (CONSISTENT,) * 2, "HiResCAM does not show the difference"),
        (Second("hires_cam", LESS | {"p": None}), (CONSISTENT,) * 2, "HiResCAM does not show the difference"),
        (Second("hires_cam", LESS | {"difference": 0.3}), (CONSISTENT,) * 2, "disagree on the alignment (Grad-CAM"),
        (Second("hires_cam", LESS | {"difference": 0.0}), (CONSISTENT,) * 2, "HiResCAM does not show the difference"),
        (Second("hires_cam", LESS, trusted=False), (CONSISTENT,) * 2, "HiResCAM did not pass the check"),
        (Second("hires_cam", None), (CONSISTENT,) * 2, "HiResCAM was not measured"),
        (Second("hires_cam", LOST | {"value": 0.4 + 1e-8}), (SAME_SCORE, WORSE_LOOK), "gives the same maps"),
        (None, (SAME_SCORE, WORSE_LOOK), "Grad-CAM alone was looked at"),
    ],
)
def test_a_second_kind_of_map_has_to_show_the_same(second, flags, words):
    for scores, flag in zip((FLAT, HIGHER), flags, strict=True):
        got, reason = verdict(rows(*scores, LOST), second={} if second is None else {"alignment": second})
        assert got == flag and words in reason, reason


def test_disagreement_takes_the_alignment_alone_out_of_the_looks():
    against = {"alignment": Second("hires_cam", LESS | {"difference": 0.3})}
    flag, reason = verdict(rows(*FLAT, LOST, said("detectors", -4, 0.001)), second=against)
    assert flag == SAME_SCORE and "shown: detectors -4.0" in reason and "disagree" in reason
    small = LOST | {"p": 0.4, "p_adjusted": 0.9}
    flag, reason = verdict(rows(*FLAT, small), second=against)
    assert flag == CONSISTENT and "disagree" not in reason  # nothing was shown that had to be confirmed


@pytest.mark.parametrize(
    ("chosen", "last", "flags"),
    [
        ((0.0, 0.9), (-0.2, 0.001), (SAME_SCORE, WORSE_LOOK)),  # what it leans on shows at the last layer alone
        ((-0.2, 0.001), (0.0, 0.9), (SAME_SCORE, WORSE_LOOK)),
        ((-0.2, 0.001), (-0.2, 0.001), (SAME_SCORE, WORSE_LOOK)),
        ((0.2, 0.001), (-0.2, 0.001), (SAME_SCORE, CONSISTENT)),  # they contradict each other
        ((0.0, 0.9), (0.2, 0.001), (SAME_SCORE, CONSISTENT)),
        ((0.0, 0.9), (-0.2, 0.04, 0.06), (CONSISTENT, CONSISTENT)),  # not after Holm
    ],
)
def test_a_look_may_show_at_the_last_layer(chosen, last, flags):
    for scores, flag in zip((FLAT, HIGHER), flags, strict=True):
        got, reason = verdict(rows(*scores, said("alignment", *chosen), said(LAST, *last)))
        assert got == flag and "alignment at the last layer" in reason, reason


def test_each_layer_is_confirmed_by_its_own_second_map():
    at_last = LOST | {"metric": LAST}
    against = Second("hires_cam", LESS | {"difference": 0.3})
    same = Second("hires_cam", LOST)
    small = LOST | {"p": 0.4, "p_adjusted": 0.9}
    flag, reason = verdict(rows(*HIGHER, small, at_last), second={"alignment": against, LAST: same})
    assert flag == WORSE_LOOK and "alignment at the last layer: Grad-CAM alone" in reason, reason
    flag, reason = verdict(rows(*HIGHER, LOST, at_last), second={"alignment": against, LAST: against})
    assert flag == CONSISTENT and reason.count("disagree") == 2
    flag, reason = verdict(rows(*HIGHER, small, at_last), second={"alignment": same, LAST: against})
    assert flag == CONSISTENT


def distrusted(rows, *arms):
    """Copies of rows of alignment in which the maps of these arms are not trusted."""
    made = [dict(one) for one in rows]
    for one in made:
        distrust(one, *("why" if side in arms else "" for side in (one["arm"], one["baseline"])))
    return made


def test_where_the_chosen_layer_is_the_last_there_is_one_alignment():
    alignment = [one | {"layer": "four"} for one in of("mass_corrected", "alignment", p_level=0.01)]
    made = verdict_rows(of("auroc", "verdict"), alignment, layer="four", last="four")
    assert not [one for one in made if one["metric"] == LAST]
    assert "last layer" not in next(one["reason"] for one in made if one["metric"] == "verdict")


def test_the_last_layer_has_rows_a_place_in_the_family_and_a_gate_of_its_own():
    chosen = [one | {"layer": "three"} for one in of("mass_corrected", "alignment", p_level=0.01)]
    last = distrusted([one | {"layer": "four"} for one in chosen], "cb")
    scores = [one | {"p": one["p"] and 0.5} for one in of("auroc", "verdict")]
    made = verdict_rows(scores, chosen + last, layer="three", last="four")
    holm = {(one["metric"], one["arm"]): one["p_adjusted"] for one in made}
    assert holm["alignment", "focal"] == holm[LAST, "focal"] == pytest.approx(0.004 * 3) and holm[LAST, "cb"] is None
    flags = {one["arm"]: one for one in made if one["metric"] == "verdict"}
    assert flags["cb"]["verdict"] == SAME_SCORE  # by the chosen layer, whose maps it may trust
    assert "not looked at: alignment at the last layer (maps of cb are not trusted: why)" in flags["cb"]["reason"]
    assert flags["cb"]["reason"].count("alignment at the last layer") == 1  # its number is not told beside that
    of_baseline = distrusted([one | {"layer": "four"} for one in chosen], "bce")
    made = verdict_rows(scores, chosen + of_baseline, layer="three", last="four")
    assert [one["p_adjusted"] for one in made if one["metric"] == LAST] == [None] * 3
    assert {one["verdict"] for one in made if one["metric"] == "verdict"} == {SAME_SCORE}


def test_an_arm_that_failed_at_the_chosen_layer_leaves_the_family_at_the_last_too():
    last = [one | {"layer": "four"} for one in of("mass_corrected", "alignment", p_level=0.01)]
    chosen = distrusted([one | {"layer": "three"} for one in last], "cb")
    scores = of("auroc", "verdict", diff_n_patients=40)
    made = verdict_rows(scores, chosen + last, layer="three", last="four", greyed=["cb"])
    assert {one["n_patients"] for one in made if one["metric"] == "verdict"} == {30}  # the fewest that it rests on
    of_last = {one["arm"]: one for one in made if one["metric"] == LAST}
    assert of_last["cb"]["p_adjusted"] is None and of_last["cb"]["family"] == ""
    assert of_last["focal"]["p_adjusted"] == pytest.approx(0.004 * 2)  # its own two alignments
    assert {one["arm"]: one["verdict"] for one in made if one["metric"] == "verdict"}["cb"] is None


@pytest.mark.parametrize(("against", "flag"), [("three", CONSISTENT), ("four", SAME_SCORE), (None, SAME_SCORE)])
def test_the_table_asks_the_second_map_of_each_layer_of_its_own(against, flag):
    """Layer four shows no difference, so it matters alone what the second map says at three, whichever is chosen."""
    first = [one | {"method": "grad_cam"} for one in of("mass_corrected", "alignment", p_level=0.01)]
    rows = [one | {"layer": "three"} for one in first]
    rows += [one | {"layer": "four", "value": 0.3, "p": one["p"] and 0.9} for one in first]
    for one in list(rows):
        away = -1 if one["layer"] == against else 1
        rows.append(one | {"method": "hires_cam", "difference": one["difference"] and away * one["difference"] * 2})
    scores = [one | {"p": one["p"] and 0.5} for one in of("auroc", "verdict") + of("auprc", "verdict")]
    unknown = [one for one in rows if (one["layer"], one["method"]) != ("three", "hires_cam")]
    for layer, last in (("three", "four"), ("four", "three")):
        asked = {"layer": layer, "last": last, "method": "grad_cam", "second": "hires_cam"}
        for given in (rows, rows[::-1]):
            made = verdict_rows(scores, given, **asked)
            assert {one["arm"]: one["verdict"] for one in made if one["metric"] == "verdict"}["focal"] == flag
        made = verdict_rows(scores, unknown, **asked)
        said = {one["arm"]: one for one in made if one["metric"] == "verdict"}["focal"]
        assert said["verdict"] == CONSISTENT and "HiResCAM was not measured" in said["reason"]


def test_beyond_chance_is_of_the_chosen_layer():
    chosen = [one | {"layer": "three"} for one in of("mass_corrected", "alignment", p_level=0.01)]
    last = [one | {"layer": "four", "value": -0.5} for one in chosen]
    made = verdict_rows(of("auroc", "verdict"), chosen + last, layer="three", last="four")
    assert {one["verdict"] for one in made if one["metric"] == "beyond_chance"} == {"beyond chance"}


def test_beyond_chance_needs_to_be_above_zero_and_shown():
    one = row(metric="beyond_chance", value=0.2, p_adjusted=0.001)
    assert chance_verdict(one)[0] == "beyond chance"
    assert chance_verdict(one | {"metric": "beyond_prior"})[0] == "beyond the anatomical prior"
    assert chance_verdict(one | {"value": -0.2})[0] == chance_verdict(one | {"value": 0.0})[0] == NOT_SHOWN
    assert chance_verdict(one | {"p_adjusted": 0.05})[0] == "beyond chance"  # alpha itself is shown
    assert chance_verdict(one | {"p_adjusted": 0.06})[0] == NOT_SHOWN
    assert chance_verdict(one | {"p_adjusted": None})[0] == TOO_FEW
    assert chance_verdict(one | {"greyed": True})[0] == NOT_TRUSTED


def of(metric, table, **more):
    nothing = dict.fromkeys(("difference", "diff_low", "diff_high", "p", "diff_status"))
    made = [said(metric, d, 0.004, table=table, arm=arm, value=0.5) for arm, d in (("focal", -0.2), ("cb", -0.1))]
    return [one | {"p_adjusted": None} | more for one in (made[0] | {"arm": "bce"} | nothing, *made)]


def test_the_status_says_whether_there_was_enough_to_tell():
    for seeds, status in ((3, "ok"), (2, "few")):
        made = verdict_rows(of("auroc", "verdict", diff_n_seeds=seeds), of("mass_corrected", "alignment"))
        assert {one["status"] for one in made if one["metric"] == "verdict"} == {status}


def test_families_are_counted_apart_and_greyed_arms_leave_the_look_family_only():
    alignment = of("mass_corrected", "alignment", p_level=0.01) + of("mass_skill", "alignment", p_level=0.2)
    alignment += of("mass_corrected", "alignment", cases="found") + of("hit_corrected", "alignment")
    scores = of("auroc", "verdict") + of("auprc", "verdict") + of("auroc", "verdict", **{"class": None})
    alignment = distrusted(alignment, "cb")
    for one in scores:
        one["greyed"] = one["arm"] == "cb"
    made = verdict_rows(scores, alignment, of("detectors", "dissection"), measure="mass", greyed=["cb"])
    holm = {(one["metric"], one["arm"]): one["p_adjusted"] for one in made if one["class"] == "mel"}
    assert holm["auroc", "focal"] == pytest.approx(0.004 * 4)  # two scores x two arms
    assert holm["auroc", "cb"] == pytest.approx(0.004 * 4) and holm["auroc", "bce"] is None
    assert holm["alignment", "cb"] is None
    assert holm["detectors", "cb"] is None  # whatever is said of a look of an arm whose maps failed
    assert holm["alignment", "focal"] == pytest.approx(0.004 * 2)  # its alignment and detectors
    assert [one["p_adjusted"] for one in made if one["class"] is None] == [None] * 3
    flags = {one["arm"]: one for one in made if one["metric"] == "verdict"}
    assert flags["cb"]["verdict"] is None and flags["cb"]["status"] == "not_trusted" and "bce" not in flags
    beyond = {one["arm"]: one for one in made if one["metric"] == "beyond_chance"}
    assert beyond["bce"]["verdict"] == "beyond chance" and beyond["cb"]["verdict"] == NOT_TRUSTED
    assert beyond["bce"]["p_adjusted"] == pytest.approx(0.02) and beyond["focal"]["difference"] is None
    assert {one["verdict"] for one in made if one["metric"] == "beyond_prior"} == {NOT_SHOWN, NOT_TRUSTED}
    assert {one["table"] for one in made} == {"verdict"}


def test_a_class_whose_maps_are_mostly_empty_takes_its_own_alignment_away_and_nothing_else():
    fine = of("mass_corrected", "alignment", p_level=0.01)
    alignment = distrusted(fine, "bce") + [one | {"class": "nv"} for one in fine]
    scores = [one | {"class": name, "p": one["p"] and 0.5} for name in ("mel", "nv") for one in of("auroc", "verdict")]
    made = verdict_rows(scores, alignment, [one | {"p": 0.9} for one in of("detectors", "dissection") if one["p"]])
    flags = {(one["class"], one["arm"]): one for one in made if one["metric"] == "verdict"}
    assert flags["nv", "focal"]["verdict"] == SAME_SCORE and flags["mel", "focal"]["verdict"] == CONSISTENT
    assert "not looked at: alignment (maps of bce are not trusted: why)" in flags["mel", "focal"]["reason"]
    assert not any(one["greyed"] for one in flags.values())
    beyond = {(one["class"], one["arm"]): one for one in made if one["metric"] == "beyond_chance"}
    assert beyond["mel", "bce"]["verdict"] == NOT_TRUSTED and "why" in beyond["mel", "bce"]["reason"]
    assert beyond["mel", "focal"]["verdict"] == beyond["nv", "bce"]["verdict"] == "beyond chance"


def test_a_baseline_that_failed_leaves_no_look_to_compare():
    alignment = distrusted(of("mass_corrected", "alignment", p_level=0.01), "bce")
    made = verdict_rows(of("auroc", "verdict"), alignment, measure="mass", greyed=["bce"])
    assert {one["verdict"] for one in made if one["metric"] == "verdict"} == {None}
    assert all(one["p_adjusted"] is None for one in made if one["metric"] == "alignment")


@pytest.mark.parametrize(
    ("theirs", "greyed", "flag"), [(-0.3, (), SAME_SCORE), (0.3, (), CONSISTENT), (-0.3, ("bce",), CONSISTENT),
                                   (-0.3, ("focal",), CONSISTENT), (-0.3, ("cb",), SAME_SCORE)]
)  # fmt: skip
def test_the_second_method_is_looked_up_in_the_table_with_its_own_gate(theirs, greyed, flag):
    first = [one | {"method": "grad_cam"} for one in of("mass_corrected", "alignment", p_level=0.01)]
    other = distrusted([one | {"method": "hires_cam"} for one in first], *greyed)
    other = [one | {"difference": one["difference"] and theirs} for one in other]
    scores = [one | {"p": one["p"] and 0.5} for one in of("auroc", "verdict") + of("auprc", "verdict")]
    for alignment in (first + other, other + first):
        made = verdict_rows(scores, alignment, method="grad_cam", second="hires_cam")
        assert {one["arm"]: one["verdict"] for one in made if one["metric"] == "verdict"}["focal"] == flag
        assert len([one for one in made if one["metric"] == "alignment"]) == 3  # T1 holds the first method's


SMALL = look_null.Setting("small", patients=150, arms=3, classes=look_null.CLASSES[:4])


def flags_of(setting, run, resamples=64):
    study = look_null.simulate(setting, numpy_rng("test verdict", setting.name, run))
    made = look_null.table(study, setting.classes, resamples, run)
    return {(one["arm"], one["class"]): one["verdict"] for one in made if one["metric"] == "verdict"}


def test_arms_that_do_not_differ_are_seldom_flagged():
    """Were 5% of studies flagged, 24 would hold three or more in one of nine such tests; these are always the same."""
    flagged = [bool({SAME_SCORE, WORSE_LOOK} & set(flags_of(SMALL, run).values())) for run in range(24)]
    assert sum(flagged) <= 2


def test_a_lost_alignment_is_found_and_only_its_loss_is_called_worse():
    lost = replace(SMALL, patients=300, seeds=4, own_noise=0.1, seed_noise=0.02, alignment=-0.3)
    found = flags_of(lost, 0)
    assert found["one", "mel"] == SAME_SCORE and found["two", "mel"] == CONSISTENT
    assert flags_of(replace(lost, logit=2.5), 0)["one", "mel"] == WORSE_LOOK
    assert flags_of(replace(lost, logit=2.5, alignment=0.3), 0)["one", "mel"] == CONSISTENT
