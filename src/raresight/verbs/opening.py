"""The gate of the test part: a frozen plan, a confirmation, and a line in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raresight.core.errors import GateError, Problem
from raresight.core.files import read_json, sha256_of, write_json
from raresight.core.ledger import openings, record
from raresight.verbs.opened import OpenStudy


def open_under(
    study: OpenStudy, plan: dict[str, Any], *, confirm: Callable[[str], bool], reuse: bool = False, reason: str = ""
) -> int:
    """The number of the opening whose plan this is: recorded now, or before.

    `plan` holds everything that a figure on the test part could depend on, `arms` among it; it is written to
    `test/opening-N/plan.json`. A plan that was opened before is no new look, whatever was opened since.

    Raises: `GateError` RS-R36 where the test part was opened under another plan and `reuse` with a reason is not given,
    or where `confirm` says no.
    """
    past = openings(study.folder.ledger)
    plan_hash = sha256_of(plan)
    before = opened_under(study, plan)
    if before is not None:
        return before
    if past and not (reuse and reason.strip()):
        raise _spent(study, past, plan)
    if not confirm("Open the test part? It is meant to be opened once, after every choice is made."):
        raise GateError(problem(study, "the test part stays shut", "it was not confirmed", "answer y, or give --yes"))
    # The plan lies there before the ledger names its hash, so that no recorded opening is without one.
    write_json(study.folder.opening(len(past) + 1) / "plan.json", plan)
    return record(
        study.folder.ledger, plan_sha256=plan_hash, data_sha256=study.data_sha256, reason=reason or "first opening"
    )


def opened_under(study: OpenStudy, plan: dict[str, Any]) -> int | None:
    """The number of the last opening with this very plan; None where there is none."""
    plan_hash = sha256_of(plan)
    same = (line["opening"] for line in reversed(openings(study.folder.ledger)) if line["plan_sha256"] == plan_hash)
    return next(same, None)


def _spent(study: OpenStudy, past: list[dict[str, Any]], plan: dict[str, Any]) -> GateError:
    path = study.folder.opening(past[-1]["opening"]) / "plan.json"
    last = read_json(path) if path.exists() else {}
    changed = [key for key in plan if plan[key] != last.get(key)]
    arms = [name for name in plan["arms"] if plan["arms"][name] != last.get("arms", {}).get(name)]
    what = ", ".join(changed) + (f" ({', '.join(arms)})" if arms else "")
    return GateError(
        problem(
            study,
            f"the test part was opened on {past[-1]['time']} and the plan has changed since: {what}",
            "results that follow from having seen test results are validation results",
            '--reuse-test --reason "..."; page one will then say "second-stage validation"',
        )
    )


def problem(study: OpenStudy, found: str, why: str, remedy: str) -> Problem:
    return Problem(code="RS-R36", level="error", file=str(study.folder.path), found=found, why=why, remedy=remedy)
