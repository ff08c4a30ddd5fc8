"""Everything a report says, gathered before a word of it is written: the page is a pure function of a `Content`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from raresight.core.config import StudyConfig
from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions
from raresight.core.task import Task

OPERATING_POINTS = ("frozen", "tuned", "argmax", "0.5")
WITHOUT_STUDY = "predictions alone were given, and they do not tell"


@dataclass(frozen=True)
class ArmResult:
    """One arm on the part that is shown: per seed its predictions (one row a decision unit), and its estimates.

    `calibrated` holds the same rows after calibration, `thresholds` the alarm threshold of each class for the first
    seed, `events` the training history of each seed. `validation` are the first seed's calibrated predictions on the
    part that chose the thresholds, `operating` and `calibrator` the files that came of it, `env` the machine that
    trained. Whatever is not known stays empty.
    """

    name: str
    methods: tuple[str, ...] = ()
    predictions: tuple[Predictions, ...] = ()
    calibrated: tuple[Predictions, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    estimates: tuple[Estimate, ...] = ()
    events: tuple[tuple[dict[str, Any], ...], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    validation: Predictions | None = None
    operating: Mapping[str, Any] = field(default_factory=dict)
    calibrator: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    outside: bool = False

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({e.seed for e in self.estimates if e.seed is not None})

    @cached_property
    def shown_seed(self) -> int | None:
        """None where pooled estimates exist, else the lowest seed."""
        if any(e.seed is None for e in self.estimates) or not self.seeds:
            return None
        return self.seeds[0]

    @cached_property
    def by_key(self) -> dict[tuple[str, str | None, int | None, str | None], Estimate]:
        whole = (e for e in self.estimates if e.subgroup is None)
        return {(e.metric, e.class_, e.seed, e.operating_point): e for e in whole}

    def find(
        self, metric: str, class_: str | None = None, *, seed: int | None = -1, point: str = ""
    ) -> Estimate | None:
        """The estimate at the operating point that would be used: frozen, else tuned, else the default one."""
        seed = self.shown_seed if seed == -1 else seed
        for operating_point in (point,) if point else (*OPERATING_POINTS, None):
            found = self.by_key.get((metric, class_, seed, operating_point))
            if found is not None:
                return found
        return None


@dataclass(frozen=True)
class FrozenResult:
    """The bundle that acceptance is asked of: its arm, its estimates on the part shown, and when it was frozen.

    `openings_before` counts how often the test part had been opened by then; `reason` says why there are no estimates.
    """

    name: str
    sha256: str
    seeds: tuple[int, ...]
    frozen: str
    openings_before: int
    estimates: tuple[Estimate, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Content:
    """What the page is made of. Only `task` is needed; `missing` says why the rest is not there.

    `prevalence` and `missed` are what was said about use: the share of a class where the model will be used, and how
    many false alarms one missed case is worth. `site` names where external data come from; `frozen` is the bundle.
    `matrix` is the
    cost matrix; `pictures` are JPEG data URIs by case, for the failure gallery, and empty unless asked for. `explain`
    is explain.json, where the networks were looked into.
    """

    task: Task
    title: str = "Predictions"
    part: str = ""
    arms: tuple[ArmResult, ...] = ()
    baseline: str = ""
    comparisons: tuple[dict[str, Any], ...] = ()
    recommendation: tuple[dict[str, Any], ...] = ()
    deploy: Mapping[str, Any] = field(default_factory=dict)
    inert: tuple[tuple[str, str], ...] = ()
    unit: str = "image"
    group_by: str = "patient_id"
    audit: Mapping[str, Any] | None = None
    flow: Mapping[str, Any] | None = None
    people: Mapping[str, Any] | None = None
    leaks: Mapping[str, Any] | None = None
    faithfulness: Mapping[str, Any] | None = None
    choices: Mapping[str, Any] | None = None
    sweeps: tuple[Mapping[str, Any], ...] = ()
    issues: tuple[dict[str, Any], ...] | None = None
    ledger: tuple[dict[str, Any], ...] | None = None
    lock: Mapping[str, Any] | None = None
    config: StudyConfig | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()
    accept: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    prevalence: Mapping[str, float] = field(default_factory=dict)
    missed: Mapping[str, float] = field(default_factory=dict)
    site: str = ""
    frozen: FrozenResult | None = None
    matrix: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    explain: Mapping[str, Any] | None = None

    def why_missing(self, what: str) -> str:
        return "not computed, because " + self.missing.get(what, WITHOUT_STUDY)

    @property
    def outside(self) -> bool:
        """Whether every model shown was trained elsewhere, so that a reader knows it as a model and not as an arm."""
        return bool(self.arms) and all(arm.outside for arm in self.arms)

    @property
    def quick(self) -> bool:
        return self.config is not None and self.config.quick

    @cached_property
    def by_name(self) -> dict[str, ArmResult]:
        return {arm.name: arm for arm in self.arms}

    @property
    def chosen(self) -> ArmResult | None:
        """The arm the pages speak of: the one to deploy, else the baseline, else the first."""
        for name in (self.deploy.get("arm"), self.baseline):
            if name in self.by_name:
                return self.by_name[str(name)]
        return self.arms[0] if self.arms else None

    @property
    def reference(self) -> ArmResult | None:
        return self.by_name.get(self.baseline)

    @property
    def watched(self) -> list[str]:
        """The critical classes, or the three rarest where none was named."""
        if self.task.critical:
            return list(self.task.critical)
        return self.rarest_first[:3]

    @cached_property
    def rarest_first(self) -> list[str]:
        share = {name: self.share(name) for name in self.task.classes}
        return sorted(self.task.classes, key=lambda name: (share[name] is None, share[name] or 0.0))

    def share(self, name: str) -> float | None:
        """Prevalence of a class in the whole data set, else in the predictions shown; None where neither is known."""
        for row in (self.audit or {}).get("classes", []):
            if row["name"] == name and row.get("prevalence") is not None:
                return float(row["prevalence"])
        for arm in self.arms:
            for estimate in arm.estimates:
                if estimate.class_ == name and estimate.prevalence is not None:
                    return estimate.prevalence
        return None
