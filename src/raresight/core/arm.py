"""An arm: a name, a list of strategies, and where its network comes from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raresight.core.errors import ConfigError, Problem, listed, nearest

MOST_BUDGET = 100
MOST_CANDIDATES = 16  # of one arm's grid: a choice among more is a lottery on a validation part of usual size
NETWORK = ("frozen", "backbone")  # entries of an arm that are no methods


@dataclass(frozen=True)
class StrategySpec:
    """A method's name (or `package.module:Class`) and its settings, as written in `study.yaml`."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def as_yaml(self) -> str | dict[str, Any]:
        return {self.name: self.settings} if self.settings else self.name

    @property
    def grid(self) -> dict[str, list[Any]]:
        """The settings whose value is a list: candidates, of which one is chosen on the validation part."""
        return {key: value for key, value in self.settings.items() if isinstance(value, list)}


@dataclass(frozen=True)
class Arm:
    """One way of handling imbalance.

    `predictions` is set for an arm trained elsewhere: part -> file. `frozen` names the arm on whose features (those of
    its best weights, same seed) this arm trains its head alone. `backbone` is a network of the arm's own. `budget` is
    how many times the study's optimiser steps it trains: 2 gives plain training what SAM costs.
    """

    name: str
    strategies: tuple[StrategySpec, ...] = ()
    predictions: dict[str, str] | None = None
    frozen: str | None = None
    backbone: str | None = None
    budget: int = 1

    @classmethod
    def parse(cls, name: str, written: Any) -> Arm:
        """Read an arm as written: a list of names and `{name: settings}`, or `{predictions: {val: file, ...}}`.

        The entries `{frozen: ARM}` and `{backbone: NAME}` say where the network comes from, `{budget: N}` how long it
        trains.

        Raises: `ConfigError` naming the arm and the entry that is neither (RS-C33), a grid that is empty or too large
        (RS-C34), entries that exclude each other (RS-C35).
        """
        if isinstance(written, dict) and set(written) == {"predictions"} and isinstance(written["predictions"], dict):
            return cls(name, (), {str(part): str(path) for part, path in written["predictions"].items()})
        if not isinstance(written, list):
            raise _unreadable(name, written)
        specs: list[StrategySpec] = []
        network: dict[str, str] = {}
        budgets: list[int] = []
        for entry in written:
            if entry == "budget":
                budgets.append(_budget(name, None))
            elif isinstance(entry, str) and entry not in NETWORK:
                specs.append(StrategySpec(entry))
            elif isinstance(entry, dict) and len(entry) == 1:
                ((method, settings),) = entry.items()
                if method == "budget":
                    budgets.append(_budget(name, settings))
                elif method in NETWORK:
                    network[method] = _network(name, method, settings, network)
                elif not isinstance(settings, dict | None):
                    raise _unreadable(name, entry)
                else:
                    specs.append(StrategySpec(str(method), {str(k): v for k, v in (settings or {}).items()}))
            else:
                raise _unnamed(name, entry, None) if entry in NETWORK else _unreadable(name, entry)
        if len(budgets) > 1 or (budgets and "frozen" in network):
            raise _one_budget(name, budgets)
        arm = cls(name, tuple(specs), None, network.get("frozen"), network.get("backbone"), *budgets)
        _check_grid(arm)
        return arm

    @property
    def has_grid(self) -> bool:
        return any(spec.grid for spec in self.strategies)

    @property
    def candidates(self) -> tuple[Arm, ...]:
        """The arm with every combination of its lists' values, the last list moving fastest; itself without lists."""
        places = [(i, key, values) for i, spec in enumerate(self.strategies) for key, values in spec.grid.items()]
        return tuple(
            self.with_settings([(i, key, value) for (i, key, _), value in zip(places, chosen, strict=True)])
            for chosen in itertools.product(*(values for _, _, values in places))
        )

    def with_settings(self, changes: Sequence[tuple[int, str, Any]]) -> Arm:
        """The arm with setting `key` of its i-th method replaced, for every (i, key, value)."""
        specs = list(self.strategies)
        for i, key, value in changes:
            specs[i] = StrategySpec(specs[i].name, specs[i].settings | {key: value})
        return replace(self, strategies=tuple(specs))

    def tuned(self, candidate: Arm) -> dict[str, dict[str, Any]]:
        """The values that `candidate` has where this arm has lists: method -> setting -> value."""
        pairs = zip(self.strategies, candidate.strategies, strict=True)
        return {ours.name: {key: theirs.settings[key] for key in ours.grid} for ours, theirs in pairs if ours.grid}

    def as_dict(self) -> dict[str, Any]:
        network = {key: value for key in NETWORK if (value := getattr(self, key)) is not None}
        return {
            "name": self.name,
            "strategies": [{"name": s.name, "settings": s.settings} for s in self.strategies],
            **network,
            **({"budget": self.budget} if self.budget > 1 else {}),
        }


def check_sources(arms: Sequence[Arm]) -> None:
    """Every frozen arm names an arm that is trained here as a whole.

    Raises: `ConfigError` RS-C33 for an unknown arm (with the nearest known one), RS-C35 for itself, another frozen arm
    or an arm trained elsewhere.
    """
    by_name = {arm.name: arm for arm in arms}
    whole = [arm.name for arm in arms if arm.frozen is None and arm.predictions is None]
    for arm in arms:
        if arm.frozen is None:
            continue
        source = by_name.get(arm.frozen)
        remedy = f"name one of {listed(whole)}" if whole else "add an arm that is trained as a whole"
        if source is None:
            close = nearest(arm.frozen, whole)
            found, code = f"frozen: no arm is called '{arm.frozen}'", "RS-C33"
            remedy = f"did you mean '{close}'?" if close else remedy
        elif source is arm:
            found, code = f"frozen: '{arm.name}' names itself", "RS-C35"
        elif source.frozen is not None:
            found, code = f"frozen: '{arm.frozen}' is itself frozen, on '{source.frozen}'", "RS-C35"
            remedy = f"write {{frozen: {source.frozen}}}"
        elif source.predictions is not None:
            found, code = f"frozen: '{arm.frozen}' was trained elsewhere, and its weights are not here", "RS-C35"
        else:
            continue
        raise _wrong(arm.name, "frozen", code, found, "a frozen arm trains its head on a whole arm's features", remedy)


def _check_grid(arm: Arm) -> None:
    for spec in arm.strategies:
        for key, values in spec.grid.items():
            if not values or any(isinstance(value, list | dict) for value in values):
                found = f"'{spec.name}': {key} = {values!r} " + ("holds no value" if not values else "holds a list")
                why = "a list of plain values stands for a grid, from which one is chosen on the validation part"
                remedy = f"write {key}: [VALUE, VALUE], or one value"
                raise _wrong(arm.name, f"{spec.name}.{key}", "RS-C34", found, why, remedy)
    n = len(arm.candidates)
    if n > MOST_CANDIDATES:
        raise _wrong(
            arm.name,
            None,
            "RS-C34",
            f"the lists of this arm make {n} candidates, more than {MOST_CANDIDATES}",
            "the best of so many on one validation part is mostly luck",
            "shorten the lists, or fix some of the values",
        )


def _twice(arm: str, entry: str, network: Mapping[str, str]) -> ConfigError:
    (first,) = network
    if entry == first:
        return _wrong(arm, entry, "RS-C35", f"'{entry}' stands twice", "an arm has one network", "keep one of the two")
    return _wrong(
        arm,
        entry,
        "RS-C35",
        "'frozen' and 'backbone' stand together",
        "a frozen arm has the network of the arm that it names",
        "keep one; to freeze another network, give it an arm of its own and name that one",
    )


def _network(arm: str, entry: str, given: Any, already: Mapping[str, str]) -> str:
    if not isinstance(given, str) or not given:
        raise _unnamed(arm, entry, given)
    if already:
        raise _twice(arm, entry, already)
    return given


def _budget(arm: str, given: Any) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= MOST_BUDGET:
        return given
    wrong = "'budget' without a number: it takes" if given is None else f"budget: {given!r} is not"
    found = f"{wrong} a whole number from 1 to {MOST_BUDGET}"
    why = "it says how many times the study's optimiser steps this arm trains"
    raise _wrong(arm, "budget", "RS-C34", found, why, "write {budget: 2} for twice the steps")


def _one_budget(arm: str, budgets: Sequence[int]) -> ConfigError:
    if len(budgets) > 1:
        return _wrong(arm, "budget", "RS-C35", "'budget' stands twice", "an arm trains once", "keep one of the two")
    found, why = "'frozen' and 'budget' stand together", "all heads on one arm's features train the same steps"
    return _wrong(arm, "budget", "RS-C35", found, why, "keep one of the two")


def _unnamed(arm: str, entry: str, given: Any) -> ConfigError:
    what, example = ("an arm", "baseline") if entry == "frozen" else ("a network", "resnet18+se")
    found = f"'{entry}' without a name" if not given else f"{entry}: {given!r} is not a name"
    why = f"it takes the name of {what}"
    return _wrong(arm, entry, "RS-C34", found, why, f"write {{{entry}: {example}}}")


def _unreadable(arm: str, entry: Any) -> ConfigError:
    return _wrong(
        arm,
        None,
        "RS-C33",
        f"{entry!r}",
        "an arm is a list of methods, each a name or {name: {setting: value}}",
        "write for example   arms: {hybrid: [heavy_augment, {focal: {gamma: 2}}]}",
    )


def _wrong(arm: str, place: str | None, code: str, found: str, why: str, remedy: str) -> ConfigError:
    column = f"arms.{arm}.{place}" if place else f"arms.{arm}"
    return ConfigError(
        Problem(code=code, level="error", file="study.yaml", column=column, found=found, why=why, remedy=remedy)
    )
