"""A sweep as text: `sweep.md`, the tables of the severity curve with what they rest on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raresight.report import sweep_tables
from raresight.report.sweep_tables import Result, column_name
from raresight.report.tables import Table
from raresight.report.tuned import in_words
from raresight.report.words import class_name, many, part_name, share, unit_of


def markdown(result: Result) -> str:
    """The whole sweep: verdicts first, then figures, differences, hybrids and what was trained on; both parts."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Result) -> Iterator[str]:
    name = class_name(result["class"])
    yield f"# Which arm for which severity: {name}"
    yield ""
    yield lead(result)
    for key in ("test", "val"):
        if result[key] is not None:
            yield from _of_part(result, result[key])
    yield from _training(result)


def lead(result: Result) -> str:
    """What was done, in two sentences."""
    name, who = class_name(result["class"]), unit_of(result["group_by"])
    return (
        f"{name.capitalize()} was thinned in the training part only, from {share(result['natural_prevalence'])} down, "
        f"{who} by {who}; every arm was trained anew at each prevalence with "
        f"{many(len(result['seeds']), 'seed')}. All are judged on the same cases."
    )


def judged_on(result: Result, part: Mapping[str, Any]) -> str:
    """On whom, and where the thresholds come from."""
    who = unit_of(result["group_by"])
    text = f"On the {part_name(part['part'])}: {many(part['n_positive_patients'], who)} with it"
    text += "" if part["prevalence"] is None else f", {share(part['prevalence'])} of the cases"
    if part["part"] == "test":
        return text + f". Thresholds were chosen on the validation part (opening {part['opening']} of the test part)."
    text += f". Each half of the {who}s is judged at the threshold that the other half chose."
    tuned = any(one for column in result["columns"] for one in column.get("chosen", []))
    chosen = "each run's best step and the values of arms with lists" if tuned else "each run's best step"
    return f"{text} The whole part also chose {chosen}: what it shows is for the test part to confirm."


def _of_part(result: Result, part: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## On the {part_name(part['part'])}"
    yield ""
    yield judged_on(result, part)
    yield from _table("Which arm", sweep_tables.verdicts(result, part))
    by_name = {column["name"]: column_name(column) for column in result["columns"]}
    for idle in part.get("inert", []):
        yield ""
        pair = " and ".join(idle["arms"])
        yield f"The same predictions at {by_name[idle['column']]}: {pair}; one of them did nothing."
    yield from _table("Figures", sweep_tables.figures(result, part))
    yield from _table("Differences from the baseline", sweep_tables.differences(result, part))
    if part["interactions"]:
        yield from _table("More than the sum of its parts?", sweep_tables.interactions(result, part))
    yield from _table("Does the gain depend on severity?", sweep_tables.across(result, part))


def _training(result: Result) -> Iterator[str]:
    yield ""
    yield "## What was trained on"
    yield ""
    yield "| prevalence | seed | reached | images | with it | groups with it | other classes that lost cases |"
    yield "|---|---|---|---|---|---|---|"
    notes = []
    for column in result["columns"]:
        for i, seed in enumerate(result["seeds"]):
            lost = [
                f"{class_name(other)} {n['before']} to {n['after']}"
                for other, n in column["others"][i].items()
                if n["after"] < n["before"]
            ]
            yield (
                f"| {column_name(column)} | {seed} | {share(column['achieved'][i])} | {column['n_images'][i]:,} | "
                f"{column['n_positive'][i]:,} | {column['n_positive_groups'][i]:,} | {'; '.join(lost) or 'none'} |"
            )
            notes += [f"{column_name(column)}, seed {seed}: {p['found']}; {p['why']}" for p in column["problems"][i]]
            for arm, values in (column["chosen"][i] if "chosen" in column else {}).items():
                notes.append(f"{column_name(column)}, seed {seed}: {arm} was trained with {in_words(values)}")
    if notes:
        yield ""
        yield from (f"- {note}" for note in notes)


def _table(title: str, made: Table) -> Iterator[str]:
    yield ""
    yield f"### {title}"
    yield ""
    yield "| " + " | ".join(made.head) + " |"
    yield "|" + "---|" * len(made.head)
    for row in made.rows:
        cells = [cell.replace("|", "\\|") for cell in row.cells]
        yield "| " + " | ".join(f"**{cell}**" if row.mark == "strong" and cell else cell for cell in cells) + " |"
    yield ""
    yield made.note
