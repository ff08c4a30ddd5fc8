"""What the bundles of a study have to do with its test part: they are named in the plan, and judged at the opening."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raresight.core.bundle import FACTS, Bundle
from raresight.core.errors import ConfigError, Problem
from raresight.core.files import write_json
from raresight.core.ledger import openings
from raresight.core.predictions import Predictions
from raresight.verbs.freeze import accepted, judge, pooled
from raresight.verbs.opened import OpenStudy
from raresight.verbs.opening import opened_under
from raresight.verbs.predicting import weights_sha256

RESULTS = "bundles.json"


def bundles(study: OpenStudy) -> list[Bundle]:
    """The bundles in the study's folder, whole and unchanged. Raises: `DataError` RS-B02."""
    return [Bundle.load(path.parent) for path in sorted(study.folder.bundles.glob(f"*/{FACTS}"))]


def with_bundles(study: OpenStudy, plan: dict[str, Any]) -> dict[str, Any]:
    """The plan of an opening with the hash of every bundle that was frozen before it.

    A bundle that came after the last opening is part of the next one: it changes nothing about the last.
    """
    found, opened = bundles(study), len(openings(study.folder.ledger))

    def naming(some: Sequence[Bundle]) -> dict[str, Any]:
        return plan | {"bundles": {one.name: one.sha256 for one in some}} if some else plan

    seen = naming([one for one in found if one.facts["openings_before"] < max(opened, 1)])
    return seen if opened_under(study, seen) is not None else naming(found)


def require_same_weights(study: OpenStudy, named: Mapping[str, str]) -> None:
    """Raise a `ConfigError` RS-R44 where a bundle was frozen from other weights than its arm has now."""
    for bundle in bundles(study):
        if bundle.name in named and _weights(study, bundle) != bundle.facts["network"]["weights_of"]:
            raise ConfigError(_other_weights(bundle))


def _weights(study: OpenStudy, bundle: Bundle) -> dict[str, str]:
    """Hashes of the weights that the bundle's arm and seeds have today."""
    arm = next((arm for arm in study.arms if arm.name == bundle.name), None)
    runs = [run for run in study.finished().get(bundle.name, []) if run.seed in bundle.seeds]
    return weights_sha256(study, arm, runs) if arm is not None and runs else {}


def changed_since(study: OpenStudy, bundle: Bundle) -> str:
    """What the study has changed since the bundle was frozen, in words; empty where it is still the study's."""
    config, facts = study.config, bundle.facts
    if _weights(study, bundle) != facts["network"]["weights_of"]:
        return "the arm was trained anew since"
    now = {
        "costs": config.costs.model_dump(),
        "decision": config.decision.model_dump(),
        "accept": accepted(config),
        "intended_use": config.intended_use,
    }
    changed = [name for name, value in now.items() if value != facts[name]]
    return f"{', '.join(changed)} changed since" if changed else ""


def judge_bundles(study: OpenStudy, named: Mapping[str, str], tested: Sequence[Predictions], folder: Path) -> None:
    """Write `bundles.json` of an opening: the estimates of every bundle in its plan, at its own operating point.

    A bundle's predictions are those of its runs, which have its very weights; of several seeds the mean probability.
    """
    rows = []
    for bundle in bundles(study):
        if bundle.name not in named:
            continue
        own = [one for one in tested if one.arm == bundle.name and one.seed in bundle.seeds]
        estimates = judge(study, bundle.folder, bundle.name, pooled(own), "frozen")
        rows.append(
            {
                "name": bundle.name,
                "sha256": bundle.sha256,
                "seeds": bundle.seeds,
                "openings_before": bundle.facts["openings_before"],
                "estimates": [estimate.as_dict() for estimate in estimates],
            }
        )
    if rows:
        write_json(folder / RESULTS, {"bundles": rows})


def _other_weights(bundle: Bundle) -> Problem:
    return Problem(
        code="RS-R44",
        level="error",
        file=str(bundle.folder),
        found=f"the bundle was frozen from other weights than arm '{bundle.name}' has now",
        why="the figures of the arm would be taken for those of the bundle",
        remedy="freeze it again with --force, or move its folder out of the study",
    )
