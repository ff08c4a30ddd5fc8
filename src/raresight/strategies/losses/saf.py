"""SAF: every case's output is held near what it was some epochs ago."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from raresight.core.task import Kind
from raresight.strategies.losses.cross_entropy import cross_entropy
from raresight.strategies.losses.reduce import at_least_float32, reduce
from raresight.strategies.settings import number, whole
from raresight.strategies.strategy import Facts, Place, Strategy


class SAF(Strategy):
    """Cross-entropy and the distance of a case's output from its own some epochs ago: flatness without a second pass.

    Equation: L_i = CE_i + lam T^2 KL(softmax(z'_i / T) || softmax(z_i / T)), z'_i the logits of case i when it last
    came up `every` epochs ago. Independent labels: sigmoid for softmax, and the sum of two terms for each class. The
    second term begins with epoch max(every, start * epochs), from 0, and where the case came up in that epoch; a case
    weight counts for both (exclusive: that of the true class). A head phase trains with the first term alone.

    Shapes: `logits`, `target` `(B, K)`, `mask`, `weight` broadcastable, `ids` rows of the training part; returns a
    scalar and `(B,)`, the latter the cross-entropy of each case. It keeps logits `(every + 1, N, K)`, in float32.
    Ranges: `lam` >= 0; 0 is cross-entropy. `temperature` T in (0, 100]; `every` >= 1 epochs; `start` in [0, 1], a share
    of the run's epochs.
    Absent class: the output for it is held near what it was, like any other.
    Helps: where SAM helps and its second pass cannot be paid; the cost is a look into a table.
    Hurts: rare cases are learned late, and it holds every case back to what was thought of it before. Nothing to hold
    on to in a run of few epochs.
    Evidence: none found by us on imbalanced or medical images. Experimental.
    Raises: `ConfigError` RS-C34 for settings out of range; RS-C35 beside a method that mixes cases, for a mixture has
    no output of its own in the past.
    Source: Du et al. 2022, "Sharpness-aware training for free", arXiv 2205.14083, the loss SAF; the factor T^2 and the
    defaults are those of the authors' code. We differ in independent labels, in case weights, and in leaving a case
    alone that did not come up in the earlier epoch (samplers). The shift is 0: plain cross-entropy's.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target, ids = torch.eye(2), torch.arange(2)
    >>> method, ones = SAF(lam=1, temperature=1, every=1, start=0), torch.ones(2, 2)
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, ones, epochs=2))
    >>> for epoch, logits in enumerate([torch.zeros(2, 2), torch.tensor([[2.0, 0.0], [0.0, 0.0]])]):
    ...     method.start_epoch(epoch, torch.nn.Identity(), torch.Generator())
    ...     total, _ = method.loss(logits, target, ones, ones, ids)
    ...     method.after_step(epoch + 1, torch.nn.Identity())
    >>> kl = 0.5 * torch.log(0.5 / torch.tensor([2.0, 0.0]).softmax(0)).sum()
    >>> plain = torch.nn.functional.cross_entropy(logits, target)
    >>> bool(torch.isclose(total, plain + kl / 2))  # the second case is where it was
    True
    """

    name: ClassVar[str] = "saf"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "Du et al. 2022, SAF, arXiv 2205.14083"
    spaces: ClassVar[tuple[int, ...]] = (0,)
    rowwise: ClassVar[bool] = False  # each run has a past of its own
    follows_cases: ClassVar[bool] = True
    experimental: ClassVar[bool] = True

    def __init__(self, *, lam: float = 0.3, temperature: float = 5.0, every: int = 3, start: float = 0.05) -> None:
        self.lam = number(self.name, "lam", lam, 0)
        self.temperature = number(self.name, "temperature", temperature, 0, 100, above_low=True)
        self.every = whole(self.name, "every", every, 1)
        self.start = number(self.name, "start", start, 0, 1)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"lam": 0.0}

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind
        self.epochs_ = facts.epochs
        self.first_ = max(self.every, round(self.start * facts.epochs))
        self.table_ = torch.full((self.every + 1, facts.n_cases, len(facts.classes)), torch.nan)
        self.epoch_ = 0
        self.ended_ = self.lam == 0
        self.seen_: tuple[Tensor, Tensor] | None = None

    def findings(self) -> list[str]:
        if self.lam == 0 or self.first_ < self.epochs_:
            return []
        return [f"saf: it would begin after {self.first_} epochs, and the run has {self.epochs_}: every step is plain"]

    def begun(self, epoch: int) -> bool:
        return self.lam == 0 or epoch >= self.first_

    def start_epoch(self, epoch: int, model: nn.Module, rng: torch.Generator) -> None:
        self.epoch_ = epoch
        self.table_[epoch % len(self.table_)] = torch.nan

    def start_head(self, model: nn.Module, rng: torch.Generator) -> None:
        self.ended_ = True

    def loss(
        self, logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        logits = at_least_float32(logits)
        total, per_case = cross_entropy(logits, target, mask, weight, kind=self.kind_)
        if self.ended_:
            return total, per_case
        if self.seen_ is None:  # further calls in a step are at weights that the run does not keep
            self.seen_ = ids, logits.detach()
        if self.epoch_ >= self.first_:
            if self.kind_ == "exclusive":
                weight = (weight * target).sum(1, keepdim=True)
            drift, _ = reduce(self._drift(logits, ids), mask, weight, kind=self.kind_)
            total = total + self.lam * self.temperature**2 * drift
        return total, per_case

    def _drift(self, logits: Tensor, ids: Tensor) -> Tensor:
        """KL divergence from the outputs of the earlier epoch, by class; 0 for cases that did not come up in it."""
        self.table_ = self.table_.to(logits.device)
        past = self.table_[(self.epoch_ - self.every) % len(self.table_)][ids]
        known = ~past.isnan()
        before, now = past.nan_to_num(0.0) / self.temperature, logits / self.temperature
        if self.kind_ == "exclusive":
            divergence = log_softmax(before, 1).exp() * (log_softmax(before, 1) - log_softmax(now, 1))
        else:
            yes = before.sigmoid() * (logsigmoid(before) - logsigmoid(now))
            divergence = yes + (-before).sigmoid() * (logsigmoid(-before) - logsigmoid(-now))
        return torch.where(known, divergence, 0.0)

    def after_step(self, step: int, model: nn.Module) -> None:
        if self.seen_ is not None:
            ids, logits = self.seen_
            self.table_ = self.table_.to(logits.device)
            self.table_[self.epoch_ % len(self.table_), ids] = logits.to(self.table_.dtype)
            self.seen_ = None

    def state_dict(self) -> dict[str, Tensor]:
        return {"table": self.table_.clone(), "ended": torch.tensor(self.ended_)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.table_ = state["table"].clone()
        self.ended_ = bool(state["ended"])
        self.seen_ = None
