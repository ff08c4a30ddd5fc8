"""From evidence to advice: which arm for which class, and one arm to deploy, with the figures for and against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raresight.core.estimate import FEW_POSITIVE_PATIENTS, Estimate
from raresight.core.task import Task

PER_CLASS = ("recall_at_matched_specificity", "auprc")
RULE_METRIC = "macro_auprc"
LEVEL = 0.05
DEFAULT_POINTS = ("argmax", "0.5")
TO_CONFIRM = "; drawn from the rows that it is judged on: confirm it on others"


def recommend(
    task: Task,
    comparisons: Sequence[Mapping[str, Any]],
    estimates: Sequence[Estimate],
    *,
    baseline: str,
    costs: Any = None,
    sweeps: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """`{"recommendation": [{class, arm, reason, evidence, dissent}], "deploy": {arm, reason}}`.

    Per class: an arm must beat the baseline at the same operating rule. It wins where the interval of its paired
    difference in recall at matched specificity (where that was tested, else in AUPRC) lies above 0 and Holm's p is at
    most 0.05; a gain outside the declared family, which has no such p, is dissent. Of several the one with the largest
    difference. Otherwise the baseline stays and its threshold is moved; the reason says what moving it buys on the part
    that it was chosen on. `evidence` and `dissent` are the rows themselves, in numbers and words; dissent lists where
    the winner is worse, certain or not. `sweeps`, each a `sweep.json`, add their verdicts to their class's evidence.

    To deploy: with costs, the lowest expected cost on validation at tuned thresholds, mean over seeds, if the arm's
    interval lies below the baseline's value; otherwise the arm with the highest macro AUPRC among those whose paired
    interval lies above 0; the baseline where there is none. Rows of the test part do not choose
    where others exist; where there are no others (predictions of somebody else), every reason says so.
    """
    against = [row for row in comparisons if row["baseline"] == baseline]
    rows = [row for row in against if row["part"] != "test"]
    if against and not rows:
        return _confirmable(recommend(task, [{**row, "part": ""} for row in against], [], baseline=baseline))
    moved = {name: _moving(name, estimates, baseline) for name in task.classes}
    entries = [_for_class(name, task, rows, baseline, moved[name]) for name in task.classes]
    for entry in entries:
        entry["evidence"] += [said for sweep in sweeps if sweep["class"] == entry["class"] for said in _swept(sweep)]
    return {"recommendation": entries, "deploy": _deploy(rows, estimates, baseline, costs)}


def _confirmable(advice: dict[str, Any]) -> dict[str, Any]:
    """Advice that was drawn from the very rows that it is judged on, and says so."""
    for entry in [*advice["recommendation"], advice["deploy"]]:
        entry["reason"] += TO_CONFIRM
    return advice


def _moving(name: str, estimates: Sequence[Estimate], baseline: str) -> str:
    """What the baseline's tuned threshold buys: recall and specificity at both points, means over seeds; or nothing."""

    def mean(metric: str, points: tuple[str, ...]) -> float | None:
        values = [
            e.value
            for e in estimates
            if (e.arm, e.metric, e.class_) == (baseline, metric, name)
            and e.operating_point in points
            and e.part != "test"
            and e.subgroup is None
            and e.value is not None
        ]
        return sum(values) / len(values) if values else None

    points = [(mean("recall", at), mean("specificity", at)) for at in (DEFAULT_POINTS, ("tuned",))]
    if any(value is None for point in points for value in point):
        return ""
    (recall, specificity), (moved, price) = points
    return (
        f": recall {recall:.2f} -> {moved:.2f}, specificity {specificity:.2f} -> {price:.2f}, on the cases that the "
        "threshold was chosen on"
    )


def _swept(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    part = sweep.get("test") or sweep["val"]
    where = "test part" if sweep.get("test") else "validation part"
    return [{"text": f"sweep, training prevalence {row['column']}, {where}: {row['text']}"} for row in part["verdicts"]]


def _for_class(name: str, task: Task, rows: list[Mapping[str, Any]], baseline: str, moved: str) -> dict[str, Any]:
    here = [row for row in rows if row["class"] == name and row["difference"] is not None]
    for metric in PER_CLASS:
        tested = [row for row in here if row["metric"] == metric]
        if tested:
            break
    else:
        reason = "no arm could be compared for this class: keep the baseline"
        return {"class": name, "arm": baseline, "reason": reason, "evidence": [], "dissent": []}
    critical = "critical class; " if name in task.critical else ""
    winners = [row for row in tested if _wins(row)]
    best = max(winners or tested, key=lambda row: row["difference"])
    most = max((row.get("n_positive_patients") or 0) for row in tested)
    if not winners and 0 < most < FEW_POSITIVE_PATIENTS:
        with_it = "one patient with it is" if most == 1 else f"{most} patients with it are"
        reason = f"{critical}{with_it} too few to choose an arm by: keep the baseline"
        return {"class": name, "arm": baseline, "reason": reason, "evidence": [], "dissent": _nearly(best)}
    if not winners:
        reason = (
            f"{critical}no arm is clearly better than '{baseline}': keep the baseline and move its threshold{moved}"
        )
        evidence = [_said(row) for row in sorted(tested, key=lambda row: -row["difference"])]
        return {"class": name, "arm": baseline, "reason": reason, "evidence": evidence, "dissent": _nearly(best)}
    adjusted = f"adjusted for all arms and classes tested (Holm p = {best['p_adjusted']:.3g})"
    reason = f"{critical}'{best['arm']}' is better than '{baseline}'; {adjusted}"
    evidence = [_said(row) for row in here if row["arm"] == best["arm"] and row["difference"] > 0]
    worse = [
        row for row in rows if row["arm"] == best["arm"] and row["difference"] is not None and row["difference"] < 0
    ]
    worse.sort(key=lambda row: (row["high"] >= 0, row["difference"]))
    return {
        "class": name,
        "arm": best["arm"],
        "reason": reason,
        "evidence": evidence,
        "dissent": [_said(row) for row in worse],
    }


def _deploy(rows: list[Mapping[str, Any]], estimates: Sequence[Estimate], baseline: str, costs: Any) -> dict[str, Any]:
    if _has_costs(costs):
        by_cost = _by_cost(estimates, baseline)
        if by_cost is not None:
            return by_cost
    tested = [row for row in rows if row["metric"] == RULE_METRIC and row["difference"] is not None]
    winners = [row for row in tested if row["low"] > 0]
    rule = "highest macro AUPRC among the arms distinguishable from the baseline"
    measure = "average precision over all classes (macro AUPRC)"
    if not winners:
        best = max(tested, key=lambda row: row["difference"], default=None)
        closest = f"; closest: {best['arm']} {_gain(best)}" if best else ""
        reason = (
            f"nothing is clearly better than '{baseline}' in {measure}{closest}. So keep it, and move its thresholds"
        )
        return {"arm": baseline, "reason": reason, "rule": rule}
    best = max(winners, key=lambda row: row["difference"])
    reason = f"it has the largest clear gain over '{baseline}' in {measure}: {_gain(best)}"
    if len(tested) > 1:
        reason += f"; the interval is not adjusted for the {len(tested)} arms compared"
    return {"arm": best["arm"], "reason": reason, "rule": rule}


def _by_cost(estimates: Sequence[Estimate], baseline: str) -> dict[str, Any] | None:
    """The arm of the lowest expected cost on validation, or None where the baseline's could not be estimated."""
    named = [e for e in estimates if e.metric == "expected_cost" and e.part != "test" and e.value is not None]
    tuned = [e for e in named if e.operating_point in ("tuned", "frozen")] or named
    cost: dict[str, list[float]] = {}
    reach: dict[str, list[float]] = {}
    for e in tuned:
        assert e.value is not None
        cost.setdefault(e.arm, []).append(e.value)
        reach.setdefault(e.arm, []).append(e.high if e.high is not None else e.value)
    if baseline not in cost:
        return None
    mean = {arm: sum(values) / len(values) for arm, values in cost.items()}
    upper = {arm: sum(values) / len(values) for arm, values in reach.items()}
    best = min(mean, key=lambda arm: (mean[arm], arm != baseline))
    rule = "lowest expected cost on validation at tuned thresholds, if its interval lies below the baseline's cost"
    figures = f"'{best}' costs as much as {mean[best]:.3f} false alarms a case (up to {upper[best]:.3f})"
    if best != baseline:
        figures += f", '{baseline}' as {mean[baseline]:.3f}"
    where = "by the costs given, on the validation part"
    if best != baseline and upper[best] < mean[baseline]:
        return {"arm": best, "reason": f"{where}, its errors are clearly cheaper: {figures}", "rule": rule}
    cheaper = f"'{best}' looks cheaper, but its gain is not distinguishable from chance"
    found = "no arm's errors are cheaper" if best == baseline else cheaper
    return {"arm": baseline, "reason": f"{where}, {found}: {figures}", "rule": rule}


def _has_costs(costs: Any) -> bool:
    missed = costs.get("missed") if isinstance(costs, Mapping) else getattr(costs, "missed", None)
    return bool(missed)


def _wins(row: Mapping[str, Any]) -> bool:
    return row["low"] > 0 and row["p_adjusted"] is not None and row["p_adjusted"] <= LEVEL


def _nearly(best: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_said(best)] if best["difference"] > 0 else []


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("arm", "metric", "class", "difference", "low", "high", "p", "p_adjusted", "n_patients")
    return {key: row.get(key) for key in (*keys, "n_positive_patients", "status")} | {"text": _line(row)}


def _patients(n: int) -> str:
    return f"{n} patient" if n == 1 else f"{n} patients"


def _gain(row: Mapping[str, Any]) -> str:
    return f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}), {_patients(row['n_patients'])}"


def _line(row: Mapping[str, Any]) -> str:
    of = f" of '{row['class']}'" if row["class"] is not None else ""
    figure = str(row["metric"]).replace("_", " ")
    positives = row.get("n_positive_patients")
    behind = f", {_patients(positives)} with it" if positives is not None else f", {_patients(row['n_patients'])}"
    return f"{row['arm']}: {figure}{of} {row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}){behind}"
