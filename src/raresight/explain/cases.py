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

    With a_m(i) the measure of image i in arm m and b the baseline: *median*, the i whose a_b lies nearest to the
    median of a_b; *largest gain* and *largest loss*, the largest and smallest a_m(i) - a_b(i) over i and the arms m
    that are not greyed; *disagreement*, the largest max_m a_m(i) - min_m a_m(i); *found* and *missed*, one of the
    images that the baseline found, and missed, drawn with `names`. Gains are positive and losses negative, or there is
    none.

    Shapes: `rows` has one row an (arm, seed, class, case): columns arm, seed, class, case, patient, logit, found (True,
    False, or NaN where no threshold is known) and `measure`. Only the rows of `seed` count (the lowest if None), as
    its maps are those that are shown. Returns dicts of `name` (`melanoma-1`, a pseudonym), `case`, `patient`, `class`,
    `seed`, `rule`, `why` (a sentence), and `arms`: arm -> `logit`, `alignment`, `found` (None where unknown).
    Ranges: any finite measure; an image that one of the compared arms has no figure for is not picked.
    Ties: the order of a draw from `names` decides, so equal rows give equal cases whatever their order.
    Absent class: a class without a row has no case. Where no row has the measure (nobody drew a region), the logit
    takes its place and `why` says so. A patient is shown once in a class, unless only one is left.

    Source: interpretability.md, section 5 (F2); no published procedure known to us.
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
        column, called = "logit", "logit (nobody drew a region of this class)"
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
            passed_over = ranked.index((case, why))
            ordinal = "" if not passed_over else f"; {passed_over} nearer to the rule stand under other rules"
            picked.append(
                {
                    "name": f"{class_}-{len(picked) + 1}",
                    "case": str(case),
                    "patient": str(patient[case]),
                    "class": class_,
                    "seed": seed,
                    "rule": rule,
                    "why": why + (ordinal if rule not in ("found", "missed") else ""),
                    "arms": _said(rows[rows["case"] == case], arms, measure),
                }
            )
    return picked


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
        best, worst = gains.max(axis=1), gains.min(axis=1)
        up, down = gains.idxmax(axis=1), gains.idxmin(axis=1)
        yield (
            "largest gain",
            [
                (case, f"{called} {best[case]:+.2f}, {up[case]} against {baseline}")
                for case in best.sort_values(ascending=False, kind="stable").index
                if best[case] > 0
            ],
        )
        yield (
            "largest loss",
            [
                (case, f"{called} {worst[case]:+.2f}, {down[case]} against {baseline}".replace("-", "−"))
                for case in worst.sort_values(kind="stable").index
                if worst[case] < 0
            ],
        )
        every = wide[[baseline, *others]].astype(float)
        spread = every.max(axis=1) - every.min(axis=1)
        high, low = every.idxmax(axis=1), every.idxmin(axis=1)
        yield (
            "disagreement",
            [
                (case, f"arms lie {spread[case]:.2f} apart in {called}: {high[case]} highest, {low[case]} lowest")
                for case in spread.sort_values(ascending=False, kind="stable").index
                if spread[case] > 0
            ],
        )
    said = rows[rows["arm"] == baseline].set_index("case")["found"] if "found" in rows else pd.Series(dtype=object)
    for rule, wanted in (("found", True), ("missed", False)):
        cases = [case for case in wide.index if case in said.index and _truth(said[case]) is wanted]
        yield rule, [(case, f"drawn from the {len(cases)} that {baseline} {rule}") for case in cases]


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
        }
    return told


def _figure(value: Any) -> float | None:
    return None if value is None or not np.isfinite(float(value)) else float(value)
