"""Cost weights: every class counts in the loss by what missing it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.core.errors import ConfigError, nearest
from raresight.core.task import Kind
from raresight.strategies.losses.label_weights import mean_one, of_target
from raresight.strategies.settings import number, refused
from raresight.strategies.strategy import Facts, Place, Strategy

Row = float | dict[str, float]
LEAST, MOST = 1e-6, 1e6


class CostWeights(Strategy):
    """Weight every label by the clinical cost of getting it wrong, counted in false alarms.

    Equation: with c_k the cost of missing class k, exclusive: w_k = c_k / sum_j pi_j c_j; independent: positives of
    class k weigh c_k, negatives 1, both over pi_k c_k + (1 - pi_k). The mean weight over training labels is 1. A full
    matrix C[true][predicted] (exclusive labels) is first reduced to c_k = mean over j != k of C[k][j]: weights can
    express what missing a class costs, not what it is mistaken for.

    Shapes: `case_weights` returns `(1, K, 1...)` (exclusive) or `(B, K, *S)` (independent).
    Ranges: `costs` {class: cost} or {class: {predicted class: cost}}, a class or pair not named costs 1; costs in
    [1e-6, 1e6], entries of a matrix in [0, 1e6], being right costs 0. {} is plain training. None, no costs stated: to
    miss all cases of a class costs the same for every class, which is `class_weights` with inverse frequencies.
    Absent class: weight 1 (it has no positive label for it to act on).
    Helps: where the price of a miss is known and differs between classes; the loss then asks for what the clinic pays.
    Hurts: large costs on few cases are large weights on few cases: these are learned by heart. Thresholds chosen by
    cost already count the price; uncorrected probabilities would count it twice.
    Evidence: none found by us on medical images with stated clinical costs.
    Raises: `ConfigError` RS-C34 for costs outside these ranges, classes that the task does not have, or a matrix with
    independent labels.
    Source: Elkan 2001, "The foundations of cost-sensitive learning" (weights in proportion to cost); Ting
    2002, "An instance-weighting method to induce cost-sensitive trees" (a matrix reduced to the sum of its
    rows, mean weight 1). We take the mean of a row, in the same proportions.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 1]]
    >>> method = CostWeights(costs={"melanoma": 5})
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> method.case_weights(target, torch.arange(4), 0).flatten().tolist()  # 1 and 5 over 3/4 + 5/4
    [0.5, 2.5]
    """

    name: ClassVar[str] = "cost_weights"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "Elkan 2001, weights by cost; Ting 2002, instance weighting"

    def __init__(self, *, costs: Mapping[str, float | Mapping[str, float]] | None = None) -> None:
        if costs is not None and not isinstance(costs, Mapping):
            raise self._refused(f"costs = {costs!r}", "it must map classes to costs")
        self.costs: dict[str, Row] | None = None
        if costs is not None:
            self.costs = {str(name): self._row(str(name), value) for name, value in costs.items()}

    def _row(self, name: str, value: Any) -> Row:
        if not isinstance(value, Mapping):
            return number(self.name, f"costs.{name}", value, LEAST, MOST)
        row = {str(other): number(self.name, f"costs.{name}.{other}", c, 0, MOST) for other, c in value.items()}
        if row.pop(name, 0.0) != 0:
            raise self._refused(
                f"costs.{name}.{name} = {value[name]!r}", "a right answer costs nothing: the others are counted from it"
            )
        return row

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"costs": {}}

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind
        n_positive = facts.n_positive
        if self.costs is None:
            n_other = facts.n_known - n_positive if facts.kind == "independent" else torch.ones_like(n_positive)
            missed = n_other / n_positive.clamp(min=1)
        else:
            missed = torch.tensor([self._missed(name, facts) for name in facts.classes], dtype=torch.float64)
            self._refuse_unknown(self.costs, facts.classes)
        self.positive_, self.negative_ = mean_one(facts, missed, torch.ones_like(missed))

    def _missed(self, name: str, facts: Facts) -> float:
        """The cost of missing class `name`."""
        row = (self.costs or {}).get(name, 1.0)
        if not isinstance(row, dict):
            return row
        if facts.kind == "independent":
            raise self._refused(
                f"costs.{name} is a row of a matrix, with independent labels",
                "independent labels are not mistaken for one another: each is missed or found",
                f"write one cost for {name}",
            )
        self._refuse_unknown(row, facts.classes)
        others = [row.get(other, 1.0) for other in facts.classes if other != name]
        return number(self.name, f"costs.{name}", sum(others) / len(others), LEAST, MOST)

    def _refuse_unknown(self, named: Mapping[str, object], classes: tuple[str, ...]) -> None:
        for name in named:
            if name not in classes:
                close = nearest(name, classes)
                hint = f"did you mean '{close}'? " if close else ""
                raise self._refused(
                    f"costs name the class '{name}', which the task does not have",
                    "a misspelt class would silently cost 1",
                    f"{hint}classes of the task: {', '.join(classes)}",
                )

    def _refused(self, found: str, expected: str, remedy: str | None = None) -> ConfigError:
        return refused(self.name, "costs", found, expected, remedy)

    def log_prior_shift(self) -> Tensor:
        return (self.positive_ / self.negative_).log()

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor:
        return of_target(target, self.positive_, self.negative_, self.kind_)
