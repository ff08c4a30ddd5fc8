"""An arm: a name and a list of strategies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raresight.core.errors import ConfigError, Problem


@dataclass(frozen=True)
class StrategySpec:
    """A method's name (or `package.module:Class`) and its settings, as written in `study.yaml`."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def as_yaml(self) -> str | dict[str, Any]:
        return {self.name: self.settings} if self.settings else self.name


@dataclass(frozen=True)
class Arm:
    """One way of handling imbalance. `predictions` is set for an arm trained elsewhere: part -> file."""

    name: str
    strategies: tuple[StrategySpec, ...] = ()
    predictions: dict[str, str] | None = None

    @classmethod
    def parse(cls, name: str, written: Any) -> Arm:
        """Read an arm as written: a list of names and `{name: settings}`, or `{predictions: {val: file, ...}}`.

        Raises: `ConfigError` naming the arm and the entry that is neither.
        """
        if isinstance(written, dict) and set(written) == {"predictions"} and isinstance(written["predictions"], dict):
            return cls(name, (), {str(part): str(path) for part, path in written["predictions"].items()})
        if not isinstance(written, list):
            raise _unreadable(name, written)
        specs = []
        for entry in written:
            if isinstance(entry, str):
                specs.append(StrategySpec(entry))
            elif isinstance(entry, dict) and len(entry) == 1:
                ((method, settings),) = entry.items()
                if not isinstance(settings, dict | None):
                    raise _unreadable(name, entry)
                specs.append(StrategySpec(str(method), {str(k): v for k, v in (settings or {}).items()}))
            else:
                raise _unreadable(name, entry)
        return cls(name, tuple(specs))

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "strategies": [{"name": s.name, "settings": s.settings} for s in self.strategies],
        }


def _unreadable(arm: str, entry: Any) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-C33",
            level="error",
            file="study.yaml",
            column=f"arms.{arm}",
            found=f"{entry!r}",
            why="an arm is a list of methods, each a name or {name: {setting: value}}",
            remedy="write for example   arms: {hybrid: [heavy_augment, {focal: {gamma: 2}}]}",
        )
    )
