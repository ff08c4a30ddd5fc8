"""Remix: images mixed as in mixup, labels decided in favour of the rarer class."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.inputs.augmentation import check_setting
from raresight.strategies.inputs.mixing import beta, mixed, refuse_unknown
from raresight.strategies.strategy import Facts, Place, Strategy


class Remix(Strategy):
    """Mix images as mixup does, but give the whole label to the rarer class where it is rarer by far and shows enough.

    Equation: x~ = lambda x_i + (1 - lambda) x_j and y~ = lambda_y y_i + (1 - lambda_y) y_j with lambda ~
    Beta(alpha, alpha), j a random permutation of the batch, n_i the training cases of image i's class, and

        lambda_y = 0       where n_i / n_j >= kappa and lambda < tau,
                   1       where n_i / n_j <= 1 / kappa and 1 - lambda < tau,
                   lambda  elsewhere.

    Independent labels: every class k is a problem of its own with two classes, whose counts are the positives and
    the negatives of k, and has its own lambda_y. Soft labels are taken for the class they lean to.

    Shapes: `x` `(B, C, H, W)`, `y` `(B, K)`; soft labels come back. A batch of one is its own partner and stays.
    Ranges: `alpha` >= 0, at 0 nothing is mixed; `kappa` >= 1; `tau` in [0, 1], at 0 it is mixup. Up to tau 1/2 a label
    never goes to the image that shows less.
    Absent class: one that the training part lacks has n = 0 and is the rarer one of any pair it turns up in.
    Log-prior shift: 0 where nothing is decided (tau 0, or no two classes kappa apart); else none is defined, for only
    mixtures are relabelled: an unmixed image keeps its label, and what a network makes of both is its own. It does
    raise rare classes, which the arm's findings say.

    Helps: where mixup is wanted and drowns the rare class, whose pictures are nearly always mixed with common ones.
    Hurts: probabilities, which no shift corrects; where a rare finding is small, for a picture that shows half of it
    is then called all of it.
    Evidence: none found by us on medical images with intervals or several seeds.

    Raises: `ConfigError` for settings out of their ranges, and at `fit` where some training labels are unknown.

    Source: Chou et al. 2020, Remix: Rebalanced mixup; their kappa 3 and tau 1/2 are the defaults. We
    differ in one lambda per pair, and in the form for independent labels, which is ours.

    >>> target = torch.eye(2)[[0] * 9 + [1]]
    >>> remix = Remix(alpha=1.0)
    >>> remix.fit(Facts("exclusive", ("common", "rare"), target, torch.ones_like(target)))
    >>> own = torch.tensor([0.4, 0.4, 0.6])  # the share of the first image of each pair
    >>> share = remix.label_share(own, target[[0, 9, 0]], target[[9, 0, 9]])  # common-rare, rare-common, common-rare
    >>> [round(s, 2) for s in share.squeeze(1).tolist()]
    [0.0, 0.4, 0.6]
    """

    name: ClassVar[str] = "remix"
    place: ClassVar[Place] = "inputs"
    source: ClassVar[str] = "Chou et al. 2020, Remix"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    mixes_cases: ClassVar[bool] = True
    spaces: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, *, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5) -> None:
        self.alpha = check_setting(self.name, "alpha", alpha, 0)
        self.kappa = check_setting(self.name, "kappa", kappa, 1)
        self.tau = check_setting(self.name, "tau", tau, 0, 1)
        self.decides_ = True

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"alpha": 0}

    def fit(self, facts: Facts) -> None:
        if self.alpha > 0:
            refuse_unknown(self.name, facts)
        self.kind_: Kind = facts.kind
        self.positive_ = facts.n_positive.float()
        self.negative_ = (facts.n_known - facts.n_positive).float()
        if facts.kind == "exclusive":
            present = self.positive_[self.positive_ > 0]
            self.decides_ = len(present) > 0 and bool(present.max() >= self.kappa * present.min())
        else:
            most, least = torch.maximum(self.positive_, self.negative_), torch.minimum(self.positive_, self.negative_)
            self.decides_ = bool(((least > 0) & (most >= self.kappa * least)).any())

    def log_prior_shift(self) -> Tensor | None:
        return None if self.compensates() else torch.zeros(())

    def compensates(self) -> bool:
        return self.alpha > 0 and self.tau > 0 and self.decides_

    def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.alpha == 0 or len(x) < 2:
            return x, y
        partner = torch.randperm(len(x), generator=rng).to(x.device, non_blocking=True)
        own = beta(len(x), self.alpha, self.alpha, rng)
        return mixed(x, partner, own), mixed(y, partner, self.label_share(own.to(y.device), y, y[partner]))

    def label_share(self, own: Tensor, y: Tensor, other: Tensor) -> Tensor:
        """lambda_y of each pair, `(B, 1)` (exclusive) or `(B, K)`, from lambda `(B,)` and both labels `(B, K)`."""
        own = own.view(-1, 1)
        n_own, n_other = self._cases_like(y), self._cases_like(other)
        to_other = (n_own >= self.kappa * n_other) & (own < self.tau)
        to_own = (n_other >= self.kappa * n_own) & (1 - own < self.tau)
        share = own.expand(to_own.shape).masked_fill(to_other, 0.0)
        return share.masked_fill(to_own, 1.0)

    def _cases_like(self, y: Tensor) -> Tensor:
        """How many training cases have this label: of the class (exclusive), or of either side of each class."""
        positive = self.positive_.to(y.device)
        if self.kind_ == "exclusive":
            return positive[y.argmax(1)].unsqueeze(1)
        return torch.where(y > 0.5, positive, self.negative_.to(y.device))
