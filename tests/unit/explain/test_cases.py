"""Cases by rule: hand-made tables in which one image alone can be right for each rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from raresight.explain.cases import RULES, pick_cases

ARMS = ("base", "focal", "grey")


def rows(values: dict[str, dict[str, float]], found: dict[str, bool], **more: object) -> pd.DataFrame:
    """`values`: arm -> case -> alignment; one patient a case, logits ten times the alignment."""
    lines = [
        {"arm": arm, "seed": 0, "class": "mel", "case": case, "patient": f"patient {case}", "logit": 10 * value,
         "found": found.get(case) if arm == "base" else None, "alignment": value} | more
        for arm, cases in values.items()
        for case, value in cases.items()
    ]  # fmt: skip
    return pd.DataFrame(lines)


#                 median of base is .5: c       gain: a (+.4)   loss: e (-.6)   spread: d (+.3) once a and e are used
BASE = {"a": 0.1, "b": 0.4, "c": 0.5, "d": 0.6, "e": 0.9, "f": 0.3, "g": 0.7}
FOCAL = {"a": 0.5, "b": 0.4, "c": 0.5, "d": 0.9, "e": 0.3, "f": 0.35, "g": 0.69}
GREY = dict.fromkeys(BASE, 5.0)  # would be the largest gain everywhere, if it counted
FOUND = {"f": True, "g": False}


def picked(table: pd.DataFrame, **more: object) -> dict[str, dict]:
    cases = pick_cases(table, classes=["mel"], arms=ARMS, baseline="base", greyed={"grey"}, **more)  # type: ignore[arg-type]
    return {one["rule"]: one for one in cases}


def test_each_rule_takes_the_one_image_that_fits_it() -> None:
    found = picked(rows({"base": BASE, "focal": FOCAL, "grey": GREY}, FOUND))
    assert {rule: one["case"] for rule, one in found.items()} == {
        "median": "c", "largest gain": "a", "largest loss": "e", "disagreement": "d", "found": "f", "missed": "g"
    }  # fmt: skip
    assert tuple(found) == RULES
    assert [one["name"] for one in found.values()] == [f"mel-{i}" for i in range(1, 7)]
    assert found["median"]["why"] == "nearest to base's median alignment, 0.50"
    assert found["largest gain"]["why"] == "alignment +0.40, focal against base"
    assert found["largest loss"]["why"] == "alignment −0.60, focal against base"
    assert found["disagreement"]["why"] == (
        "arms lie 0.30 apart in alignment: focal highest, base lowest; 2 nearer to the rule stand under other rules"
    )
    assert found["found"]["why"] == "drawn from the 1 that base found"
    assert found["missed"]["why"] == "drawn from the 1 that base missed"


def test_what_each_arm_said_stands_beside_the_case() -> None:
    one = picked(rows({"base": BASE, "focal": FOCAL, "grey": GREY}, FOUND))["missed"]
    assert one["arms"] == {
        "base": {"logit": 7.0, "alignment": 0.7, "found": False, "score": None, "cut": None},
        "focal": {"logit": pytest.approx(6.9), "alignment": 0.69, "found": None, "score": None, "cut": None},
        "grey": {"logit": 50.0, "alignment": 5.0, "found": None, "score": None, "cut": None},
    }
    cut = rows({"base": BASE, "focal": FOCAL, "grey": GREY}, FOUND, ranked=-1.25, cut=-1.0)
    assert {(said["score"], said["cut"]) for said in picked(cut)["missed"]["arms"].values()} == {(-1.25, -1.0)}
    assert (one["patient"], one["seed"], one["class"]) == ("patient g", 0, "mel")


def test_gains_and_losses_have_their_sign_or_are_not_shown() -> None:
    better = {case: value + 0.1 for case, value in BASE.items()}
    up = picked(rows({"base": BASE, "focal": better, "grey": GREY}, {}))
    assert "largest gain" in up and "largest loss" not in up and "found" not in up
    down = picked(rows({"base": better, "focal": BASE, "grey": GREY}, {}))
    assert "largest loss" in down and "largest gain" not in down


def test_a_name_with_a_hyphen_keeps_it_beside_a_loss() -> None:
    table = rows({"c-b": BASE, "la-0.5": FOCAL}, {})
    cases = pick_cases(table, classes=["mel"], arms=["c-b", "la-0.5"], baseline="c-b")
    said = {one["rule"]: one["why"] for one in cases}
    assert said["largest loss"] == "alignment −0.60, la-0.5 against c-b"  # a minus before the figure alone
    assert said["largest gain"] == "alignment +0.40, la-0.5 against c-b"


def test_without_regions_the_logit_takes_the_place_and_says_so() -> None:
    table = rows({"base": BASE, "focal": FOCAL, "grey": GREY}, FOUND, alignment=np.nan)
    found = picked(table)
    assert found["largest gain"]["case"] == "a"
    assert found["largest gain"]["why"] == "logit (where maps lie was not measured) +4.00, focal against base"
    assert found["median"]["arms"]["base"]["alignment"] is None
    assert picked(table.drop(columns="alignment"))["largest loss"]["case"] == "e"


@pytest.mark.parametrize(
    ("drawn", "why"),
    [
        ("", "nobody drew a region of this class here"),
        ("d", "all regions are of one patient, so there are no others to compare with"),
        ("de", "drawn, but where maps lie was not measured"),
    ],
)
def test_why_the_look_has_no_figure_is_what_is_the_case(drawn: str, why: str) -> None:
    table = rows({"base": BASE, "focal": FOCAL, "grey": GREY}, FOUND, alignment=np.nan)
    table["drawn"] = table["case"].isin(list(drawn))
    assert picked(table)["largest gain"]["why"] == f"logit ({why}) +4.00, focal against base"


def test_the_order_of_rows_is_nothing_and_the_names_settle_ties() -> None:
    table = rows({"base": dict.fromkeys("abcdefgh", 0.5)}, dict.fromkeys("abcdefgh", True))
    arms = {"arms": ("base",), "classes": ["mel"], "baseline": "base"}
    first = [one["case"] for one in pick_cases(table, **arms)]  # type: ignore[arg-type]
    again = [one["case"] for one in pick_cases(table.sample(frac=1, random_state=3), **arms)]  # type: ignore[arg-type]
    assert first == again and len(set(first)) == 2
    others = {tuple(one["case"] for one in pick_cases(table, names=(i,), **arms)) for i in range(8)}  # type: ignore[arg-type]
    assert len(others) > 1


def test_a_patient_is_shown_once_while_others_are_left() -> None:
    table = rows({"base": BASE, "focal": FOCAL, "grey": GREY}, {})
    table.loc[table["case"].isin(["c", "a"]), "patient"] = "same"
    found = picked(table)
    assert found["median"]["case"] == "c"
    assert found["largest gain"]["case"] == "d"  # +.3, since a is the median's patient
    # a is under no rule, but its patient is.
    assert found["largest gain"]["why"].endswith("; 1 nearer to the rule stands under other rules, or its patient does")
    assert found["disagreement"]["case"] not in ("a", "c", "d", "e")
    assert found["disagreement"]["why"].endswith("; 3 nearer to the rule stand under other rules, or their patients do")
    assert "nearer" not in found["median"]["why"] + found["largest loss"]["why"]
    table["patient"] = "same"
    assert picked(table)["largest gain"]["case"] == "a" and "nearer" not in picked(table)["largest gain"]["why"]


def test_only_the_maps_of_the_seed_that_is_shown_count() -> None:
    zero = rows({"base": BASE, "focal": FOCAL, "grey": GREY}, FOUND)
    one = rows({"base": BASE, "focal": {**FOCAL, "b": 1.4}, "grey": GREY}, FOUND, seed=1)
    both = pd.concat([one, zero])
    assert picked(both)["largest gain"]["case"] == "a"
    assert picked(both)["largest gain"]["seed"] == 0
    assert picked(both, seed=1)["largest gain"]["case"] == "b"


def test_a_class_without_images_has_no_case() -> None:
    table = rows({"base": BASE}, {})
    assert pick_cases(table, classes=["df"], arms=["base"], baseline="base") == []
    assert pick_cases(table.iloc[:0], classes=["mel"], arms=["base"], baseline="base") == []


def test_an_image_that_an_arm_has_no_figure_for_is_not_picked() -> None:
    table = rows({"base": BASE, "focal": FOCAL, "grey": GREY}, {})
    table.loc[(table["case"] == "a") & (table["arm"] == "grey"), "alignment"] = np.nan
    assert picked(table)["largest gain"]["case"] == "a"  # a greyed arm decides nothing
    table.loc[(table["case"] == "a") & (table["arm"] == "focal"), "alignment"] = np.nan
    assert "a" not in {one["case"] for one in picked(table).values()}
