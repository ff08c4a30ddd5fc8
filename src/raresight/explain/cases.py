"""Which cases are shown: picked by stated rules, the same for every class, and never by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.seeds import numpy_rng

RULES = ("median", "largest gain", "largest loss", "disagreement", "found", "missed")


def pick_cases(
    rows: pd.DataFrame,
    *,
    classes: Sequence[str],
    arms: Sequence[str],
    baseline: str,
    seed: int | None = None,
    measure: str = "alignment",
    greyed: Iterable[str] = (),
    names: Sequence[object] = ("study",),
) -> list[dict[str, Any]]:
    """One case of each class for each rule that it has a case for, in the order of `classes` and `RULES`.

    Equation: with a_m(i) the measure of image i in arm m, b the baseline, and m among the arms that are not greyed:
    *median*, the i whose a_b(i) lies nearest to the median of a_b; *largest gain* and *largest loss*, the largest and
    the smallest a_m(i) - a_b(i) over i and m, and none that is not above, or below, 0; *disagreement*, the largest
    max_m a_m(i) - min_m a_m(i) above 0, the baseline among the m; *found* and *missed*, one of the images that the
    baseline found, and missed, drawn by lot. A case is picked once in a class, and so is a patient while others are
    left: then the next best for the rule stands in, and `why` says that it does. Ties are settled by lot too, whatever
    the order of rows.

    Shapes: `rows` has one row an (arm, seed, class, case): columns arm, seed, class, case, patient, logit, found (True,
    False, or NaN where no threshold is known) and `measure`; `ranked` and `cut` (the score that is cut, and where), and
    `drawn` (whether somebody drew the finding), where they are known. Only the rows of `seed` count (the lowest if
    None), as its maps are those that are shown; lots are drawn with it and `names`. Returns dicts of `name`
    (`melanoma-1`, a pseudonym), `case`, `patient`, `class`, `seed`, `rule`, `why` (in words), and `arms`: arm ->
    `logit`, `alignment` (the measure), `found`, `score` (`ranked`) and `cut`, each None where unknown.
    Ranges: any finite measure, the larger the better; an image without a figure in the baseline, or in an arm that is
    not greyed, is not picked.
    Absent class: a class without a row has no case. Where no row of a class has the measure, the logit takes its place
    and `why` says so, and for what reason: nobody drew a region, all are of one patient, or it was not measured.
    Raises: `KeyError` where the baseline is not one of `arms`.
    Source: ours; no published procedure is known to us.
    """
    greyed = set(greyed)
    seed = int(rows["seed"].min()) if seed is None and len(rows) else seed
    shown = rows[(rows["seed"] == seed) & rows["arm"].isin(list(arms))]
    cases: list[dict[str, Any]] = []
    for name in classes:
        of_class = shown[shown["class"] == name]
        if len(of_class):
            cases += _of_class(of_class, name, arms, baseline, int(seed or 0), measure, greyed, names)
    return cases


def _of_class(
    rows: pd.DataFrame,
    class_: str,
    arms: Sequence[str],
    baseline: str,
    seed: int,
    measure: str,
    greyed: set[str],
    names: Sequence[object],
) -> list[dict[str, Any]]:
    column, called = measure, "alignment"
    if measure not in rows or rows[measure].isna().all():
        column, called = "logit", f"logit ({_why_no_measure(rows)})"
    wide = rows.pivot_table(index="case", columns="arm", values=column, aggfunc="first", dropna=False)
    wide = wide.reindex(columns=list(arms)).sort_index(key=lambda index: index.astype(str))
    compared = [arm for arm in arms if arm not in greyed or arm == baseline]
    wide = wide.loc[np.isfinite(wide[compared].to_numpy(dtype=float)).all(axis=1)]
    wide = wide.iloc[numpy_rng("cases", class_, seed, *names).permutation(len(wide))]  # settles ties
    patient = rows.drop_duplicates("case").set_index("case")["patient"]
    picked: list[dict[str, Any]] = []
    for rule, ranked in _ranked(wide, rows, baseline, [arm for arm in compared if arm != baseline], called):
        used = {one["case"] for one in picked}
        seen = {one["patient"] for one in picked}
        left = [(case, why) for case, why in ranked if str(case) not in used]
        fresh = [(case, why) for case, why in left if str(patient[case]) not in seen]
        for case, why in (fresh or left)[:1]:
            nearer = [str(other) for other, _ in ranked[: ranked.index((case, why))]]
            by_lot = rule in ("found", "missed")
            picked.append(
                {
                    "name": f"{class_}-{len(picked) + 1}",
                    "case": str(case),
                    "patient": str(patient[case]),
                    "class": class_,
                    "seed": seed,
                    "rule": rule,
                    "why": why if by_lot else why + _passed_over(nearer, used),
                    "arms": _said(rows[rows["case"] == case], arms, measure),
                }
            )
    return picked


def _why_no_measure(rows: pd.DataFrame) -> str:
    """Why no image of a class has a figure of the look."""
    if "drawn" not in rows:
        return "where maps lie was not measured"
    if not rows["drawn"].any():
        return "nobody drew a region of this class here"
    if rows["patient"][rows["drawn"]].nunique() == 1:
        return "all regions are of one patient, so there are no others to compare with"
    return "drawn, but where maps lie was not measured"


def _passed_over(nearer: Sequence[str], used: set[str]) -> str:
    """Why none of these cases was picked, though the rule would have had them rather; nothing where there is none."""
    if not nearer:
        return ""
    one = len(nearer) == 1
    said = f"; {len(nearer)} nearer to the rule {'stands' if one else 'stand'} under other rules"
    return said if used.issuperset(nearer) else f"{said}, or {'its patient does' if one else 'their patients do'}"


def _ranked(
    wide: pd.DataFrame, rows: pd.DataFrame, baseline: str, others: Sequence[str], called: str
) -> Iterator[tuple[str, list[tuple[Any, str]]]]:
    """Each rule with its candidates, the one that fits best first, and why."""
    if not len(wide):
        return
    base = wide[baseline].astype(float)
    middle = float(base.median())
    order = (base - middle).abs().sort_values(kind="stable").index
    yield "median", [(case, f"nearest to {baseline}'s median {called}, {middle:.2f}") for case in order]
    if others:
        gains = wide[list(others)].astype(float).sub(base, axis=0)
        gain, up = gains.max(axis=1), gains.idxmax(axis=1)
        loss, down = -gains.min(axis=1), gains.idxmin(axis=1)
        yield "largest gain", [(i, f"{called} +{gain[i]:.2f}, {up[i]} against {baseline}") for i in _above_zero(gain)]
        yield "largest loss", [(i, f"{called} −{loss[i]:.2f}, {down[i]} against {baseline}") for i in _above_zero(loss)]
        every = wide[[baseline, *others]].astype(float)
        apart, high, low = every.max(axis=1) - every.min(axis=1), every.idxmax(axis=1), every.idxmin(axis=1)
        yield (
            "disagreement",
            [
                (i, f"arms lie {apart[i]:.2f} apart in {called}: {high[i]} highest, {low[i]} lowest")
                for i in _above_zero(apart)
            ],
        )
    said = rows[rows["arm"] == baseline].set_index("case")["found"] if "found" in rows else pd.Series(dtype=object)
    for rule, wanted in (("found", True), ("missed", False)):
        cases = [case for case in wide.index if case in said.index and _truth(said[case]) is wanted]
        yield rule, [(case, f"drawn from the {len(cases)} that {baseline} {rule}") for case in cases]


def _above_zero(values: pd.Series) -> pd.Index:
    """The cases with a value above 0, the largest first; equal ones keep their order."""
    return values[values > 0].sort_values(ascending=False, kind="stable").index


def _truth(value: Any) -> bool | None:
    return None if value is None or pd.isna(value) else bool(value)


def _said(rows: pd.DataFrame, arms: Sequence[str], measure: str) -> dict[str, dict[str, Any]]:
    by_arm = rows.drop_duplicates("arm").set_index("arm")
    told = {}
    for arm in arms:
        if arm not in by_arm.index:
            continue
        row = by_arm.loc[arm]
        told[arm] = {
            "logit": _figure(row.get("logit")),
            "alignment": _figure(row.get(measure)),
            "found": _truth(row.get("found")),
            "score": _figure(row.get("ranked")),
            "cut": _figure(row.get("cut")),
        }
    return told


def _figure(value: Any) -> float | None:
    return None if value is None or not np.isfinite(float(value)) else float(value)
