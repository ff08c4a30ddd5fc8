"""Why a verdict of `raresight explain` is "too few to tell", in two or three words, from the reason that T1 gives."""

from __future__ import annotations

import re

from raresight.report.look_rows import Entry, Look

TOO_FEW = "too few to tell"
SEEDS = re.compile(r"(one seed|\d+ seeds) an arm")
PATIENTS = re.compile(r"(\d+) patients?, fewer than")
EMPTY = re.compile(r"maps? of this class (?:are|is) (?:mostly )?empty")
UNSEEN = "not looked at"
ALONE = "regions are of one patient"


def in_short(look: Look, row: Entry) -> str:
    """`7 patients`, `one seed`, `no regions`, `maps mostly empty`, `no maps`, or what the reason begins with.

    `row`: T1's of metric `verdict`; empty where it gives no reason.
    """
    reason = str(row.get("reason") or "")
    if found := SEEDS.search(reason):
        return found[1]
    if found := PATIENTS.search(reason):
        return "1 patient" if found[1] == "1" else f"{found[1]} patients"
    said = {
        "maps mostly empty": EMPTY.search(reason) is not None,
        "no maps": look.placeless,
        "no regions": UNSEEN in reason and not _regions(look, row),
        "regions of 1 patient": ALONE in reason,
    }
    return next((words for words, so in said.items() if so), re.split(r"[:;(]", reason)[0].strip())


def told_flag(look: Look, flag: str, row: Entry) -> str:
    """`too few to tell (one seed)`: the flag, and beside the one that nothing can be said under, why in short."""
    why = in_short(look, row) if flag == TOO_FEW else ""
    return f"{flag} ({why})" if why else flag


def verdict_lines(look: Look) -> str:
    """A line for each arm and class of the verdict table, with why nothing can be said, or why there is no line."""
    lines = [
        f"{row['arm'] or '':<24} {row['class'] or '':<20} "
        f"{told_flag(look, row['verdict'], row) if row['verdict'] else row['reason']}".rstrip()
        for row in look.rows("verdict")
        if row["metric"] == "verdict"
    ]
    return "\n".join(lines) or "one arm alone is compared with nothing: see the tables"


def _regions(look: Look, row: Entry) -> int:
    return int((look.per_class.get(str(row.get("class"))) or {}).get("n_regions") or 0)
