"""Methods against rarity: one file = one method; the folder = its place on the line.

`ALL` is the whole list; adding a method is one file and one line here. `build` turns an arm as written into a `Stack`.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from raresight.core.arm import Arm, StrategySpec
from raresight.core.errors import ConfigError, Problem, nearest
from raresight.core.task import Task
from raresight.strategies.decisions.logit_adjustment import LogitAdjustment
from raresight.strategies.decisions.prior_correction import PriorCorrection
from raresight.strategies.decisions.tau_normalisation import TauNormalisation
from raresight.strategies.features.adasyn import ADASYN
from raresight.strategies.features.borderline_smote import BorderlineSMOTE
from raresight.strategies.features.random_oversampling import RandomFeatureOversampling
from raresight.strategies.features.smote import SMOTE
from raresight.strategies.inputs.balanced_mixup import BalancedMixup
from raresight.strategies.inputs.cutmix import CutMix
from raresight.strategies.inputs.heavy import HeavyAugment
from raresight.strategies.inputs.mixup import Mixup
from raresight.strategies.inputs.plausible import Augment
from raresight.strategies.inputs.remix import Remix
from raresight.strategies.losses.adaptive_focal import AdaptiveFocal
from raresight.strategies.losses.asymmetric import Asymmetric
from raresight.strategies.losses.auc_margin import AUCMargin
from raresight.strategies.losses.balanced_softmax import BalancedSoftmax
from raresight.strategies.losses.between_class_bce import BetweenClassBCE
from raresight.strategies.losses.class_balanced_focal import ClassBalancedFocal
from raresight.strategies.losses.class_weights import ClassWeights
from raresight.strategies.losses.cost_matrix import CostWeights
from raresight.strategies.losses.dice import Dice
from raresight.strategies.losses.dice_ce import DiceCE
from raresight.strategies.losses.focal import Focal
from raresight.strategies.losses.ldam import LDAM
from raresight.strategies.losses.saf import SAF
from raresight.strategies.losses.tversky import Tversky
from raresight.strategies.losses.uncertainty import Uncertainty
from raresight.strategies.losses.vs import VS
from raresight.strategies.losses.within_class_bce import WithinClassBCE
from raresight.strategies.sampling.class_balanced import ClassBalancedSampling
from raresight.strategies.sampling.hard_examples import HardExamples
from raresight.strategies.sampling.importance import ImportanceSampling
from raresight.strategies.sampling.progressively_balanced import ProgressivelyBalancedSampling
from raresight.strategies.sampling.random_oversampling import RandomOversampling
from raresight.strategies.sampling.random_undersampling import RandomUndersampling
from raresight.strategies.schedules.classifier_retraining import ClassifierRetraining
from raresight.strategies.schedules.deferred_reweighting import DeferredReweighting
from raresight.strategies.schedules.ema import EMA
from raresight.strategies.stack import Stack
from raresight.strategies.steps.imbalanced_sam import ImbSAM
from raresight.strategies.steps.looksam import LookSAM
from raresight.strategies.steps.msam import MSAM
from raresight.strategies.steps.sam import SAM
from raresight.strategies.strategy import Facts, Strategy, SyntheticRows

ALL: tuple[type[Strategy], ...] = (
    RandomOversampling,
    RandomUndersampling,
    ClassBalancedSampling,
    ProgressivelyBalancedSampling,
    ImportanceSampling,
    HardExamples,
    Augment,
    HeavyAugment,
    Mixup,
    BalancedMixup,
    Remix,
    CutMix,
    RandomFeatureOversampling,
    SMOTE,
    BorderlineSMOTE,
    ADASYN,
    ClassWeights,
    CostWeights,
    WithinClassBCE,
    BetweenClassBCE,
    Focal,
    ClassBalancedFocal,
    AdaptiveFocal,
    Asymmetric,
    BalancedSoftmax,
    VS,
    LDAM,
    AUCMargin,
    Dice,
    DiceCE,
    Tversky,
    Uncertainty,
    SAF,
    SAM,
    MSAM,
    ImbSAM,
    LookSAM,
    EMA,
    DeferredReweighting,
    ClassifierRetraining,
    LogitAdjustment,
    TauNormalisation,
    PriorCorrection,
)

__all__ = ["ALL", "Facts", "Stack", "Strategy", "SyntheticRows", "build", "describe"]


def build(arm: Arm, task: Task) -> Stack:
    """The arm's strategies, constructed with their settings and checked against the task.

    A name is one of `ALL` or `package.module:Class`, any importable subclass of `Strategy`.

    Raises: `ConfigError` RS-C33 for an unknown method or setting (with the nearest known one), RS-C34 for a value out
    of range or a list of values, RS-C35 where the methods do not go together; each names the arm.
    """
    return Stack([_construct(spec, arm.name) for spec in arm.strategies], task, arm.name)


def describe() -> list[dict[str, Any]]:
    """One row per method, in the order of the line: name, place, settings with defaults, kinds, source, summary."""
    return [
        {
            "name": method.name,
            "place": method.place,
            "about": (inspect.getdoc(method) or "").split("\n", 1)[0],
            "settings": {key: parameter.default for key, parameter in _settings(method).items()},
            "kinds": list(method.kinds),
            "spaces": list(method.spaces),
            "head_phase": method.head_phase,
            "experimental": method.experimental,
            "source": method.source,
        }
        for method in ALL
    ]


def _construct(spec: StrategySpec, arm: str) -> Strategy:
    method = _resolve(spec.name, arm)
    known = _settings(method)
    place = f"arms.{arm}.{spec.name}"
    takes_any = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(method).parameters.values())
    for key, value in spec.settings.items():
        if key not in known and not takes_any:
            close = nearest(key, known)
            remedy = f"settings of '{spec.name}': {', '.join(known) or 'none'}"
            raise _wrong(
                "RS-C33",
                f"{place}.{key}",
                f"'{spec.name}' has no setting '{key}'",
                "a misspelt setting would silently leave the default in force",
                f"did you mean '{close}'? {remedy}" if close else remedy,
            )
        if isinstance(value, list | tuple):
            raise _wrong(
                "RS-C34",
                f"{place}.{key}",
                f"'{spec.name}': {key} = {value!r}, a list, which stands for a grid",
                "a method acts with one value; `raresight train` chooses it from the list before it builds the arm",
                f"write one arm per value: {arm}_1: [{{{spec.name}: {{{key}: {next(iter(value), 'VALUE')}}}}}], ...",
            )
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in spec.settings:
            raise _wrong(
                "RS-C33",
                place,
                f"'{spec.name}' needs the setting '{key}'",
                "it has no default",
                f"write {{{spec.name}: {{{key}: VALUE}}}}",
            )
    try:
        return method(**spec.settings)
    except ConfigError as error:  # raised by the method, which does not know the arm
        raise ConfigError(*(_in_arm(problem, arm) for problem in error.problems)) from None
    except (TypeError, ValueError) as error:
        raise _wrong(
            "RS-C34", place, f"'{spec.name}' refuses its settings: {error}", "it cannot be built", ""
        ) from error


def _settings(method: type[Strategy]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(method).parameters
    return {key: p for key, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _resolve(name: str, arm: str) -> type[Strategy]:
    by_name = {method.name: method for method in ALL}
    if name in by_name:
        return by_name[name]
    place = f"arms.{arm}"
    if ":" not in name:
        close = nearest(name, by_name)
        raise _wrong(
            "RS-C33",
            place,
            f"unknown method '{name}'",
            "the arm cannot be built without it",
            f"did you mean '{close}'?" if close else "see `raresight list strategies`; your own: package.module:Class",
        )
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise _wrong(
            "RS-C33",
            place,
            f"'{name}' cannot be imported: {error}",
            "the arm cannot be built without it",
            f"check that `python -c 'from {module_name} import {class_name}'` works in this environment",
        ) from None
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise _wrong(
            "RS-C33",
            place,
            f"'{name}' is not a subclass of raresight.strategies.Strategy",
            "the training loop would not know when to call it",
            f"write `class {class_name}(Strategy)` and implement the hooks it needs",
        )
    return found


def _in_arm(problem: Problem, arm: str) -> Problem:
    return Problem(
        **{**problem.as_dict(), "column": f"arms.{arm}.{problem.column}" if problem.column else f"arms.{arm}"}
    )


def _wrong(code: str, place: str, found: str, why: str, remedy: str) -> ConfigError:
    return ConfigError(
        Problem(
            code=code,
            level="error",
            file="study.yaml",
            column=place,
            found=found,
            why=why,
            remedy=remedy or "see `raresight list strategies`",
        )
    )
