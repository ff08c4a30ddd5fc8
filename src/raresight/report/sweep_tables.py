"""The numbers behind a severity curve: figures, differences, hybrids and verdicts, one table each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raresight.report.tables import Row, Table, table
from raresight.report.words import DASH, class_name, listing, many, p_value, percent, plural, share, unit_of

COST = "expected_cost_per_1000"
AT_90 = "recall_at_specificity_90"
MOVED = "baseline, threshold moved"
SHOWN = {
    "auprc": "average precision",
    AT_90: "sensitivity at 90% specificity",
    "recall": "sensitivity",
    "specificity": "specificity",
    COST: "expected cost per 1,000",
}
POINTS = {None: "", "argmax": "as it is", "0.5": "as it is", "tuned": "threshold moved", "frozen": "threshold moved"}
OUTCOMES = {
    "arms": "these arms",
    "threshold": "moving the threshold",
    "nothing": "none",
    "unresolved": "cannot be resolved",
}

Result = Mapping[str, Any]


def shown_part(result: Result) -> Mapping[str, Any]:
    """The test part where it was opened, else validation."""
    part: Mapping[str, Any] = result["test"] or result["val"]
    return part


def column_name(column: Mapping[str, Any]) -> str:
    """`2.0%`, and `11%, all cases`."""
    return share(column["prevalence"]) + (", all cases" if column["natural"] else "")


def trained_on(result: Result, column: Mapping[str, Any]) -> str:
    """`18 lesions`, or `17–19 lesions` where seeds differ."""
    counts = sorted(column["n_positive_groups"])
    n = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,}{DASH}{counts[-1]:,}"
    who = unit_of(result["group_by"])
    return f"{n} {who if counts == [1] * len(counts) else plural(who)}"


def verdicts(result: Result, part: Mapping[str, Any]) -> Table:
    """Which arm for which severity: one row a training prevalence."""
    by_name = {column["name"]: column for column in result["columns"]}
    rows = [
        Row(
            (
                column_name(by_name[one["column"]]),
                trained_on(result, by_name[one["column"]]),
                listing(one["arms"]) or OUTCOMES[one["outcome"]],
                one["text"],
            ),
            {"arms": "strong", "unresolved": "wide"}.get(one["outcome"], ""),
        )
        for one in part["verdicts"]
    ]
    head = ("Prevalence in training", "Trained on", f"Better than {result['baseline']}", "Evidence")
    return table(head, rows, (), "After Holm's correction over all arms and prevalences.")


def figures(result: Result, part: Mapping[str, Any]) -> Table:
    """Every arm at every prevalence: threshold-free figures, and both operating points."""
    found = {(e["column"], e["arm"], e["metric"], POINTS[e["operating_point"]]): e for e in part["estimates"]}
    rows = []
    for column in result["columns"]:
        for arm in result["arms"]:
            cells = [found.get((column["name"], arm["name"], m, point)) for m, point in _heads()]
            rows.append(Row((column_name(column), arm["name"], *(_told(cell) for cell in cells)), _mark(cells)))
    head = ("Prevalence", "Arm", *(f"{SHOWN[m]}, {p}" if p else SHOWN[m].capitalize() for m, p in _heads()))
    note = f"95% intervals, mean of {many(len(result['seeds']), 'seed')}. {priced(result, part)}"
    return table(head, rows, range(2, 2 + len(_heads())), note)


def differences(result: Result, part: Mapping[str, Any]) -> Table:
    """Arm minus baseline: the declared comparisons, adjusted by Holm."""
    by_name = {column["name"]: column for column in result["columns"]}
    rows = []
    for row in part["comparisons"]:
        if row["family"] != "primary":
            continue
        clear = row["p_adjusted"] is not None and row["p_adjusted"] < 0.05
        told = (SHOWN[row["metric"]], difference(row), p_value(row["p"]), p_value(row["p_adjusted"]), row["reason"])
        cells = (column_name(by_name[row["column"]]), row["arm"], *told)
        rows.append(Row(cells, "blank" if row["difference"] is None else "strong" if clear else ""))
    head = ("Prevalence", "Arm", "Figure", "Difference from the baseline", "p", "p after Holm", "Remark")
    note = f"Both with the threshold moved; '{MOVED}': against the baseline as it is. Lower cost is better."
    return table(head, rows, (3, 4, 5), note)


def interactions(result: Result, part: Mapping[str, Any]) -> Table:
    """Hybrids against the sum of what their parts gain alone."""
    by_name = {column["name"]: column for column in result["columns"]}
    rows = [
        Row(
            (
                column_name(by_name[row["column"]]),
                f"{row['arm']} = {' + '.join(row['parts'])}",
                SHOWN[row["metric"]],
                difference({**row, "difference": row["interaction"]}),
                row["says"],
            ),
            "blank" if row["interaction"] is None else "wide" if row["status"] == "wide" else "",
        )
        for row in part["interactions"]
    ]
    head = ("Prevalence", "Hybrid", "Figure", "Beyond the sum of its parts", "Which is")
    return table(head, rows, (3,), "Exploratory: not corrected for their number. Lower cost is better.")


def across(result: Result, part: Mapping[str, Any]) -> Table:
    """Whether an arm gains more, or less, where the class is rarer."""
    by_name = {column["name"]: column for column in result["columns"]}
    rows = [
        Row((column_name(by_name[row["column"]]), row["arm"], SHOWN[row["metric"]], difference(row), row["reason"]))
        for row in part["across"]
    ]
    head = ("Prevalence", "Arm", "Figure", "Its gain here minus that with all cases", "Remark")
    return table(head, rows, (3,), "Exploratory: not corrected for their number.")


def priced(result: Result, part: Mapping[str, Any]) -> str:
    """What cost means here, in a sentence."""
    cost, name = result["cost"], class_name(result["class"])
    at = cost["prevalence"] if cost["prevalence"] is not None else part["prevalence"]
    assumed = " (assumed: study.yaml names no cost)" if cost["assumed"] else ""
    share_of = "" if at is None else f" among 1,000 cases of which {share(at)} have it"
    return f"Cost: false alarms{share_of}, a missed {name} counting as {cost['missed']:g} of them{assumed}."


def difference(row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        return "not estimable"
    digits = 1 if row["metric"] == COST else 3
    value, low, high = (f"{row[key]:+.{digits}f}".replace("-", "−") for key in ("difference", "low", "high"))
    return f"{value} ({low} to {high})"


def _heads() -> list[tuple[str, str]]:
    rates = [(metric, point) for point in ("as it is", "threshold moved") for metric in ("recall", "specificity", COST)]
    return [("auprc", ""), (AT_90, ""), *rates]


def _told(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "not estimable"
    if estimate["metric"] == "auprc":
        return "{value:.3f} ({low:.3f}–{high:.3f})".format(**estimate)
    if estimate["metric"] == COST:
        return "{value:.0f} ({low:.0f}–{high:.0f})".format(**estimate)
    return f"{percent(estimate['value'])} ({100 * estimate['low']:.0f}{DASH}{100 * estimate['high']:.0f}%)"


def _mark(cells: Sequence[Mapping[str, Any] | None]) -> str:
    if all(cell is None or cell["value"] is None for cell in cells):
        return "blank"
    return "wide" if any(cell is not None and cell["status"] == "wide" for cell in cells[:2]) else ""
