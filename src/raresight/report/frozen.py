"""The bundle that a report speaks of, and its figures on the part that is shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raresight.core.bundle import ESTIMATES, FACTS, Bundle
from raresight.core.errors import DataError
from raresight.core.estimate import Estimate, load_estimates
from raresight.core.files import read_json
from raresight.core.run import StudyFolder
from raresight.report.content import FrozenResult

UNSEEN = "it was frozen after the test part was opened and was not judged there; that needs --reuse-test --reason"


def frozen_result(
    folder: StudyFolder, deploy: str | None, opening: int | None, missing: dict[str, str]
) -> FrozenResult | None:
    """The bundle of the arm to deploy, else the one frozen last; None where there is none.

    Estimates are those of the opening that is shown, of validation where there is none. A bundle that was frozen after
    that opening has test figures only where it is one run with the very weights and thresholds that were judged there.
    """
    try:
        found = [Bundle.load(path.parent) for path in sorted(folder.bundles.glob(f"*/{FACTS}"))]
    except DataError as error:
        missing["bundle"] = f"a bundle is not as it was frozen: {error.problems[0].file} {error.problems[0].found}"
        return None
    if not found:
        missing["bundle"] = "no arm was frozen; run `raresight freeze`"
        return None
    bundle = max(found, key=lambda one: (one.name == deploy, str(one.facts["frozen"])))
    reason, estimates = "", load_estimates(bundle.folder / ESTIMATES)
    if opening is not None:
        judged = _judged(folder.opening(opening), bundle)
        reason, estimates = (UNSEEN, []) if judged is None else ("", judged)
    return FrozenResult(
        name=bundle.name,
        sha256=bundle.sha256,
        seeds=tuple(bundle.seeds),
        frozen=str(bundle.facts["frozen"]),
        openings_before=int(bundle.facts["openings_before"]),
        estimates=tuple(estimates),
        reason=reason,
    )


def _judged(opening: Path, bundle: Bundle) -> list[Estimate] | None:
    path = opening / "bundles.json"
    for row in read_json(path)["bundles"] if path.exists() else []:
        if row["sha256"] == bundle.sha256:
            return [Estimate.from_dict(one) for one in row["estimates"]]
    if not _was_judged(read_json(opening / "plan.json"), bundle):
        return None
    rows = load_estimates(opening / "estimates.json")
    return [one for one in rows if one.arm == bundle.name and one.seed == bundle.seeds[0]]


def _was_judged(plan: Mapping[str, Any], bundle: Bundle) -> bool:
    """Whether the plan of an opening held one run with this bundle's weights, calibrator and thresholds."""
    entry = plan.get("arms", {}).get(bundle.name)
    if entry is None or len(bundle.seeds) > 1 or bundle.seeds[0] not in entry["seeds"]:
        return False
    at = entry["seeds"].index(bundle.seeds[0])
    calibrator = {key: value for key, value in entry["calibrators"][at].items() if key != "inputs"}
    same_weights = bundle.facts["network"]["weights_of"].items() <= entry["weights"].items()
    return bool(
        same_weights and calibrator == bundle.calibrator and entry["thresholds"][at] == bundle.operating["thresholds"]
    )
