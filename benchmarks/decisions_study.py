"""What re-weighting gains, and what moving the threshold gives for free: decisions_study.py STUDY [--table FILE]

STUDY is a trained study whose test part was opened once. Nothing is trained and nothing is chosen here on test cases:
calibrators and thresholds are fitted to each run's validation predictions, and judged on the test cases. Every arm is
looked at in three states: as trained (argmax); with the prior that its training implied taken out (argmax); and with
thresholds that cost least on validation.

The cost of a case is linear in its decisions, so the intervals are a plain bootstrap: patients within strata of their
rarest class, the same draw for every arm, and the seeds as a second level.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.files import read_json, write_text
from raresight.core.predictions import Predictions
from raresight.core.seeds import numpy_rng
from raresight.evaluate.bootstrap import blocks, over_seeds, percentile
from raresight.evaluate.calibration import ece, expected_observed
from raresight.evaluate.cost import cost_array
from raresight.evaluate.counts import decide
from raresight.evaluate.intervals import rate
from raresight.evaluate.recalibrate import calibrate
from raresight.evaluate.resampled import Resampled
from raresight.evaluate.thresholds import threshold_array, tune
from raresight.verbs.opened import OpenStudy
from raresight.verbs.tune import units

STATES = ("as trained", "prior corrected", "threshold moved")


@dataclass(frozen=True)
class Judged:
    """One run on the test cases: per state the alarms `(N, K)` and the probabilities that they rest on."""

    test: Predictions
    alarm: Mapping[str, np.ndarray]
    prob: Mapping[str, np.ndarray]


def main() -> None:
    options = arguments()
    study = OpenStudy.open(options.study)
    missed = {name: float(cost) for name, cost in (pair.split("=") for pair in options.missed)}
    runs = {arm.name: judged(study, arm.name, missed) for arm in study.arms if arm.name in study.finished()}
    text = table(study, runs, missed, options)
    print(text)
    if options.table:
        write_text(options.table, text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--missed", nargs="+", default=["mel=20", "bcc=10", "akiec=10"], metavar="CLASS=ALARMS")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--table", type=Path)
    return parser.parse_args()


# one arm


def judged(study: OpenStudy, arm: str, missed: dict[str, float]) -> list[Judged]:
    """The runs of an arm, one per seed, in each state."""
    opened = pd.read_parquet(study.folder.opening(1) / "predictions.parquet")
    runs = []
    for run in study.finished()[arm]:
        rows = opened[(opened["arm"] == arm) & (opened["seed"] == run.seed)].sort_values("case")
        rows = rows.drop(columns=["arm", "seed"]).reset_index(drop=True)
        test = units(study, Predictions(rows, study.task, arm, run.seed, "test"))
        val = units(study, study.predictions(run))
        prior = read_json(run.arm_json)["implied_prior"]
        tuned = tune(val, implied_prior=None if prior is None else np.asarray(prior), costs={"missed": missed})
        shift_alone = {"method": "none", "shift": tuned.calibrator["shift"], "temperature": 1.0}
        corrected = calibrate(test, shift_alone)
        final = calibrate(test, tuned.calibrator)
        chosen = threshold_array(tuned.values, study.task.classes)
        prob = dict(zip(STATES, (test.prob, corrected.prob, final.prob), strict=True))
        kind = study.task.kind
        alarm = {state: decide(p, kind, chosen if state == STATES[2] else None) for state, p in prob.items()}
        runs.append(Judged(test, alarm, prob))
    return runs


def cost_of(run: Judged, state: str, missed: dict[str, float]) -> np.ndarray:
    """False alarms' worth of each case, `(N,)`, summed over the classes that have a cost."""
    price = cost_array({"missed": missed}, run.test.task.classes)
    counted = ~np.isnan(price)
    target, alarm = run.test.target[:, counted], run.alarm[state][:, counted]
    return ((target == 1) & ~alarm) @ price[counted] + ((target == 0) & alarm).sum(axis=1)


# all arms


class Costs:
    """The cost per 1,000 cases of every arm in every state, on the data and on every resample."""

    def __init__(self, runs: Mapping[str, list[Judged]], missed: dict[str, float], resamples: int) -> None:
        first = next(iter(runs.values()))[0]
        draws = Resampled(first.test)
        weights = np.concatenate(list(blocks(draws.rarest, resamples, 0, "decisions")), axis=1).astype(float)
        images = draws.per_patient(np.ones(len(first.test.table))) @ weights
        rng = numpy_rng("decisions seeds", 0)
        n_seeds = max(len(seeds) for seeds in runs.values())
        drawn = rng.integers(0, n_seeds, size=(n_seeds, resamples))
        self.value: dict[tuple[str, str], float] = {}
        self.resampled: dict[tuple[str, str], np.ndarray] = {}
        for arm, seeds in runs.items():
            for state in STATES:
                each = [1000 * cost_of(run, state, missed) for run in seeds]
                self.value[arm, state] = float(np.mean(each))
                per_seed = np.stack([draws.per_patient(cost) @ weights / images for cost in each])
                self.resampled[arm, state] = over_seeds(per_seed, drawn[: len(seeds)] % len(seeds))

    def told(self, arm: str, state: str) -> str:
        low, high, _ = percentile(self.resampled[arm, state])
        return f"{self.value[arm, state]:,.0f} ({low:,.0f} to {high:,.0f})"

    def difference(self, ours: tuple[str, str], theirs: tuple[str, str]) -> str:
        low, high, _ = percentile(self.resampled[ours] - self.resampled[theirs])
        return f"{self.value[ours] - self.value[theirs]:+,.0f} ({low:+,.0f} to {high:+,.0f})"


def table(
    study: OpenStudy, runs: Mapping[str, list[Judged]], missed: dict[str, float], options: argparse.Namespace
) -> str:
    costs = Costs(runs, missed, options.resamples)
    base = study.baseline
    first = runs[base][0].test
    n = {name: len(np.unique(first.patient[first.target[:, study.task.classes.index(name)] == 1])) for name in missed}
    prices = ", ".join(f"a missed {name} costs {cost:g} false alarms" for name, cost in missed.items())
    seeds = ", ".join(str(seed) for seed in study.config.seeds)
    lines = [
        f"# Re-weighting, and moving the threshold: {options.study.resolve().name}, {date.today().isoformat()}",
        "",
        f"`python benchmarks/decisions_study.py STUDY`, {options.resamples:,} resamples; seeds {seeds}; two CPU cores.",
        f"{prices[0].upper()}{prices[1:]}. Test cases: {len(first.table):,}; patients with the class:",
        f"{', '.join(f'{name} {count}' for name, count in n.items())}. What is fitted is fitted to validation cases.",
        "",
        "## Cost per 1,000 cases, in false alarms",
        "",
        "| arm | " + " | ".join([*STATES, "as trained, less baseline", "moved, less moved baseline"]) + " |",
        "|---|---|---|---|---|---|",
    ]
    for arm in runs:
        against = [costs.difference((arm, s), (base, s)) if arm != base else "" for s in (STATES[0], STATES[2])]
        lines.append(f"| {arm} | " + " | ".join([*(costs.told(arm, state) for state in STATES), *against]) + " |")
    free = costs.difference((base, STATES[2]), (base, STATES[0]))
    lines += [
        "",
        f"Moving the baseline's thresholds: {free}.",
        "",
        "## What each state finds, and whether it may be believed",
        "",
    ]
    lines += ["| arm | state | " + " | ".join(f"{name}: recall, specificity, E/O, ECE" for name in missed) + " |"]
    lines += ["|---|---|" + "---|" * len(missed)]
    for arm, seeds_of in runs.items():
        for state in STATES:
            lines.append(f"| {arm} | {state} | " + " | ".join(found(seeds_of, state, name) for name in missed) + " |")
    return "\n".join([*lines, "", "Recall and specificity: means over seeds of value and interval ends.", ""])


def found(runs: list[Judged], state: str, name: str) -> str:
    """Recall and specificity with the means of their intervals' ends, E/O and ECE, of one class in one state."""
    k = runs[0].test.task.classes.index(name)
    rows = []
    for run in runs:
        y, alarm, who = run.test.target[:, k], run.alarm[state][:, k], run.test.patient.astype(str)
        recall, specificity = rate(alarm[y == 1], who[y == 1]), rate(~alarm[y == 0], who[y == 0])
        prob = run.prob[state][:, k]
        both = [recall.value, recall.low, recall.high, specificity.value, specificity.low, specificity.high]
        rows.append([*both, expected_observed(y, prob), ece(y, prob)])
    r, rl, rh, s, sl, sh, ratio, error = np.mean(rows, axis=0)
    return f"{r:.0%} ({rl:.0%}-{rh:.0%}), {s:.0%} ({sl:.0%}-{sh:.0%}), {ratio:.2f}, {error:.3f}"


if __name__ == "__main__":
    main()
