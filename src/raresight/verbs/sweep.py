"""`raresight sweep`: one class thinned in the training part, and which arm suits which severity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raresight.core.arm import Arm
from raresight.core.errors import ConfigError, Problem
from raresight.verbs.opened import OpenStudy
from raresight.verbs.sweep_cells import cells, with_sources
from raresight.verbs.sweep_judging import judge
from raresight.verbs.train import chosen_arms, require_current, train


def sweep(
    study: OpenStudy,
    cls: str,
    prevalences: Sequence[str | float],
    *,
    arms: Sequence[str] = (),
    seeds: Sequence[str | int] = (),
    open_test: bool = False,
    confirm: Callable[[str], bool] = lambda question: True,
    reuse: bool = False,
    reason: str = "",
) -> dict[str, Any]:
    """Train `arms` (default: all) and the baseline at each training prevalence of `cls`, for each seed (default: the
    study's); judge them; write `sweep/<class>/sweep.json`, `sweep.md`, `sweep.svg`; return the JSON.

    Only the training part is thinned, patient by patient; validation and test are the study's. Killed at any time and
    run again it goes on where it was. Thresholds are chosen for the study's cost of missing `cls` (20 false alarms
    where it names none): on one half of the validation patients for the other half, and the other way round. With
    `open_test` they are chosen on the whole validation part and judged on the test part, behind the study's ledger.

    Keys: `class`, `group_by`, `evidence_sha256` (of the data), `unit`, `baseline`, `seeds`, `natural_prevalence` (of
    training), `arms` (`name`, `methods`), `cost` (`missed`, `assumed`, `prevalence` at which it is reckoned, or None:
    the judged part's), `columns` (`name`, `prevalence`, `natural`, and one value a seed: `achieved n_images n_positive
    n_positive_groups problems others chosen`, the last the values of arms with lists), `val` and `test` (None until
    opened), each `{part, prevalence, n_patients, n_positive_patients, opening, estimates, comparisons, interactions,
    across, inert, verdicts}`:
    `estimates` as in `estimates.json`, with `column` and `training_prevalence`, seeds pooled; metrics `auprc
    recall_at_specificity_90`, and at the default and the moved threshold `recall specificity expected_cost_per_1000`.
    `comparisons`: arm minus baseline, see `evaluate.sweep_differences.differences`; `interactions`: hybrids against the
    sum of their parts; `across`: whether an arm's gain differs from that with all cases; `verdicts`: `column
    outcome (arms, threshold, nothing, unresolved) arms text`.

    Raises: `ConfigError` RS-C33 (class, arm), RS-C39 (prevalence), RS-C34 (seeds, folds), RS-C36 (arm trained
    elsewhere), RS-R44 (a cell of other data or settings); `GateError` RS-R36 where the test part was opened under
    another plan and `reuse` with a reason is not given, or `confirm` says no.
    """
    require_current(study)
    _require_part(study)
    chosen = _arms(study, cls, arms)
    shares = sorted({_share(value) for value in prevalences})
    if not shares:
        raise _wrong(
            "RS-C39", "prevalence", "no prevalence is named", "a sweep is a curve over them", "write 0.05,0.01"
        )
    numbers = list(dict.fromkeys(_seed(value) for value in seeds)) or list(study.config.seeds)
    grid = cells(study, cls, shares, with_sources(study, chosen), numbers)
    for cell in grid:
        for problem in cell.thinned.problems:
            study.progress.say(f"{cls} at {cell.column}, seed {cell.seed}: {problem.found}; {problem.why}")
        study.progress.say(f"{cls} at {cell.column}, seed {cell.seed}: {cell.thinned.n_positive} training cases")
        train(cell.study, arms=[arm.name for arm in chosen], seeds=[cell.seed])
    study.finished()  # runs of other data are refused, not judged
    return judge(study, cls, grid, chosen, open_test=open_test, confirm=confirm, reuse=reuse, reason=reason)


def _arms(study: OpenStudy, cls: str, names: Sequence[str]) -> list[Arm]:
    from raresight.data.thin import require_class

    require_class(study.task, cls)
    if names:
        names = list(dict.fromkeys([*names, study.baseline]))
    chosen = chosen_arms(study, names)
    outside = [arm.name for arm in chosen if arm.predictions is not None]
    if outside and names:
        raise _wrong(
            "RS-C36",
            f"arms.{outside[0]}",
            f"'{outside[0]}' was trained elsewhere, on all cases",
            "a sweep trains every arm anew on the thinned cases",
            "leave it out of --arms",
        )
    return [arm for arm in chosen if arm.predictions is None]


def _share(value: str | float) -> float:
    """A prevalence as written; `5%` and `5` are refused with the right spelling."""
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%"))
    except ValueError:
        raise _wrong(
            "RS-C39", "prevalence", f"'{text}' is not a number", "a prevalence is a share", "write 0.05"
        ) from None
    if text.endswith("%") or not 0 < share < 1:
        percent = f"did you mean {share / 100:g}?" if 0 < share < 100 else "write a share between 0 and 1, such as 0.05"
        raise _wrong("RS-C39", "prevalence", f"'{text}' is not a share between 0 and 1", "5 would be 500%", percent)
    return share


def _seed(value: str | int) -> int:
    try:
        seed = int(str(value).strip())
    except ValueError:
        seed = -1
    if seed < 0:
        raise _wrong("RS-C34", "seeds", f"'{value}' is no seed", "a seed is a whole number from 0", "write 0,1,2")
    return seed


def _require_part(study: OpenStudy) -> None:
    if study.folds.n_folds:
        raise _wrong(
            "RS-C34",
            "split.folds",
            "the study is cross-fitted: its validation cases are training cases of other folds",
            "thinning the training part would thin what is judged",
            "sweep a study with folds: 0",
        )


def _wrong(code: str, place: str, found: str, why: str, remedy: str) -> ConfigError:
    return ConfigError(Problem(code=code, level="error", column=place, found=found, why=why, remedy=remedy))
