"""Lists in an arm's settings: which of their values the arm is trained with, chosen on the validation part.

Before an arm with lists is trained, its candidates are trained as heads on the baseline's features, once for every seed
of the study; the one with the highest mean score wins. All such arms get the same number of heads: an arm of fewer
candidates trains each of them with further seeds. Arms without lists choose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from raresight.core.arm import Arm
from raresight.core.errors import ConfigError, Problem
from raresight.core.files import read_json, write_json
from raresight.core.seeds import derive
from raresight.verbs.frozen import source_for
from raresight.verbs.one_run import label, train_run
from raresight.verbs.opened import OpenStudy, stamp, stamped, weights_sha256

if TYPE_CHECKING:
    from raresight.strategies.stack import Stack


@dataclass
class Try:
    """One head of one candidate: `turn` counts the heads of its candidate; one score for each fold."""

    arm: Arm
    candidate: int
    turn: int
    scores: list[float | None] = field(default_factory=list)


def choose(study: OpenStudy) -> dict[str, Any]:
    """Write and return `choices.json`: what was tried and chosen for every arm with lists; {} where there is none.

    The baseline is trained first where it is not. A choice that was made among the same candidates, on the same
    features, stands: one more seed of the study does not open it again.

    Raises: `ConfigError` RS-C34 for a list of a method that cannot act on frozen features, RS-C35 for a baseline that
    has no features of its own to offer.
    """
    tuned = [arm for arm in study.arms if arm.has_grid]
    if not tuned:
        return {}
    baseline = _baseline(study)
    for arm in tuned:
        _refuse_idle_lists(study, arm)
    if study.ranks.first(lambda: _stands(study, tuned, baseline)):
        return read_json(study.folder.choices)
    for run in study.runs(baseline):
        train_run(study, baseline, run)
    return study.ranks.first(lambda: _choose(study, tuned, baseline))


def _stands(study: OpenStudy, tuned: Sequence[Arm], baseline: Arm) -> bool:
    """Whether today's file was made among these candidates, on these features."""
    seeds = _seeds_then(study)
    return bool(seeds) and stamped(study.folder.choices, _stamp(study, tuned, baseline, seeds or []))


def _choose(study: OpenStudy, tuned: Sequence[Arm], baseline: Arm) -> dict[str, Any]:
    """Try all candidates as heads, and write what was chosen."""
    seeds = list(study.config.seeds)
    budget = max(len(arm.candidates) for arm in tuned) * len(seeds)
    tries = [
        Try(arm, head % len(arm.candidates), head // len(arm.candidates)) for arm in tuned for head in range(budget)
    ]
    for position in range(len(seeds)):
        _train(study, baseline, [one for one in tries if one.turn % len(seeds) == position], seeds, position)
    made = {
        "inputs": _stamp(study, tuned, baseline, seeds),
        "budget": budget,
        "select": study.config.train.select,
        "baseline": baseline.name,
        "seeds": seeds,
        "arms": {arm.name: _entry(study, arm, [one for one in tries if one.arm is arm], seeds) for arm in tuned},
    }
    write_json(study.folder.choices, made)
    for arm in tuned:
        _say(study, arm, made)
    return made


def _train(study: OpenStudy, baseline: Arm, tries: Sequence[Try], seeds: Sequence[int], position: int) -> None:
    """All heads that stand on one seed of the baseline, fold by fold."""
    from raresight.train.trouble import named_trouble

    source_run = study.folder.run(baseline.name, seeds[position])
    for part in study.parts(source_run):
        source = source_for(study, baseline, part)
        with (
            study.progress.bar(f"choosing on the features of {label(part)}: {len(tries)} heads") as advance,
            source.runtime.settled(),
            named_trouble(source.config),
        ):
            jobs = []
            for one in tries:
                reduced, stack = _acting(study, one.arm.candidates[one.candidate])
                jobs.append(source.job(one.arm.name, reduced, stack, head_seed(study, seeds, one.turn)))
            for one, head in zip(tries, source.heads(jobs, advance), strict=True):
                one.scores.append(head.score)


def head_seed(study: OpenStudy, seeds: Sequence[int], turn: int) -> int:
    """The seed of a candidate's `turn`-th head: the study's seeds, then derived ones, the same for all arms."""
    return seeds[turn] if turn < len(seeds) else derive(study.config.split.seed, "choosing", turn)


def _acting(study: OpenStudy, candidate: Arm) -> tuple[Arm, Stack]:
    """The candidate without the methods that act on a whole network's training alone."""
    from raresight.strategies import build
    from raresight.train.frozen import acts

    whole = build(candidate, study.task)
    specs = zip(candidate.strategies, whole.strategies, strict=True)
    reduced = replace(candidate, strategies=tuple(spec for spec, strategy in specs if acts(strategy)))
    return reduced, build(reduced, study.task)


def _entry(study: OpenStudy, arm: Arm, tries: Sequence[Try], seeds: Sequence[int]) -> dict[str, Any]:
    tried: list[dict[str, Any]] = []
    for i, candidate in enumerate(arm.candidates):
        mine = [one for one in tries if one.candidate == i]
        scores = [score for one in mine for score in one.scores if score is not None]
        tried.append(
            {
                "settings": arm.tuned(candidate),
                "score": sum(scores) / len(scores) if scores else None,
                "seeds": [head_seed(study, seeds, one.turn) for one in mine],
            }
        )
    ranks = [-math.inf if row["score"] is None else row["score"] for row in tried]
    return {"tried": tried, "chosen": tried[ranks.index(max(ranks))]["settings"]}  # the first of equal ones


def _say(study: OpenStudy, arm: Arm, made: dict[str, Any]) -> None:
    entry = made["arms"][arm.name]
    best = next(row for row in entry["tried"] if row["settings"] == entry["chosen"])
    values = ", ".join(
        f"{method} {key} {value}" for method, ours in best["settings"].items() for key, value in ours.items()
    )
    score = "no score" if best["score"] is None else f"{made['select']} {best['score']:.3f} on validation"
    n = len(entry["tried"])
    if n > 1 and len({row["score"] for row in entry["tried"]}) == 1:
        score += ", as all of them: nothing tells them apart, and the first was taken"
    study.progress.say(f"{arm.name}: chose {values}, of {n} candidates ({score}; {made['budget']} heads)")


def _seeds_then(study: OpenStudy) -> list[int] | None:
    """The seeds that the choice of today's file rests on; None where the study no longer has them all."""
    then = read_json(study.folder.choices)["seeds"] if study.folder.choices.exists() else []
    return then if then and set(then) <= set(study.config.seeds) else None


def _stamp(study: OpenStudy, tuned: Sequence[Arm], baseline: Arm, seeds: Sequence[int]) -> str:
    """What a choice rests on: the lists, the training settings, the data, and the features."""
    config = study.config
    settings = config.train.model_dump(exclude={"device", "threads", "precision"})
    costs = config.costs.model_dump() if config.train.select == "expected_cost" else None
    parts = [part for seed in seeds for part in study.parts(study.folder.run(baseline.name, seed))]
    weights = [weights_sha256(part.best) if part.best.exists() else None for part in parts]
    return stamp([arm.as_dict() for arm in tuned], settings, costs, study.evidence_sha256, list(seeds), weights)


def _baseline(study: OpenStudy) -> Arm:
    (baseline,) = (arm for arm in study.arms if arm.name == study.baseline)
    if baseline.has_grid or baseline.frozen is not None or baseline.predictions is not None:
        what = "has lists itself" if baseline.has_grid else "is frozen" if baseline.frozen else "was trained elsewhere"
        raise _refused(
            "RS-C35",
            study,
            f"arms.{baseline.name}",
            f"values are chosen on the features of the baseline, '{baseline.name}', which {what}",
            "all arms with lists must choose on the same features, trained here without a choice",
            "add   baseline: []   to the arms",
        )
    return baseline


def _refuse_idle_lists(study: OpenStudy, arm: Arm) -> None:
    from raresight.strategies import build
    from raresight.train.frozen import acts

    for spec, strategy in zip(arm.strategies, build(arm.candidates[0], study.task).strategies, strict=True):
        if spec.grid and not acts(strategy):
            key, values = next(iter(spec.grid.items()))
            examples = [f"{arm.name}_{i}: [{{{spec.name}: {{{key}: {value}}}}}]" for i, value in enumerate(values, 1)]
            raise _refused(
                "RS-C34",
                study,
                f"arms.{arm.name}.{spec.name}.{key}",
                f"'{spec.name}': {key} = {values!r}, a list, of a method that acts on a whole network's training",
                "values are chosen on frozen features, where this method can do nothing",
                f"write one arm per value: {', '.join(examples[:2])}" + (", ..." if len(examples) > 2 else ""),
            )


def _refused(code: str, study: OpenStudy, column: str, found: str, why: str, remedy: str) -> ConfigError:
    file = str(study.folder.config)
    return ConfigError(Problem(code=code, level="error", file=file, column=column, found=found, why=why, remedy=remedy))
