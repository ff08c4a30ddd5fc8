"""Balanced-MixUp: every image is mixed with a partner from a draw in which all classes are equally common."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.inputs.augmentation import check_setting
from raresight.strategies.inputs.mixing import beta, mixed, refuse_unknown
from raresight.strategies.prior import balanced_rows
from raresight.strategies.strategy import Facts, Place, Strategy


class BalancedMixup(Strategy):
    """Mix each image with a partner drawn so that the classes of the batch are equally common among partners.

    Equation:

        x~ = (1 - lambda) x_i + lambda x_j,    y~ = (1 - lambda) y_i + lambda y_j,    lambda ~ Beta(alpha, 1),

    i being every row of the batch (natural frequencies) and j drawn with replacement with probability
    1 / (K_b n_c(j)), where n_c counts class c in the batch and K_b the classes it has. Lambda has mean
    alpha / (1 + alpha) and mostly lies near 0: the natural image dominates, the balanced one is added.

    Shapes: `x` `(B, C, *S)`, `y` `(B, K, *S)`; soft labels come back. A batch of one is its own partner and stays.
    Ranges: `alpha` >= 0, usually 0.1 to 0.3; at 0 lambda is 0 and nothing is mixed. `x` stays in [0, 1].
    Independent labels: a row's weight is the mean of 1 / n_k over its positive classes k; rows with none form one
    more group. Soft labels count in their proportions; where labels have a space, those of its mean.
    Absent class: one that the batch lacks is nobody's partner there; a class that the training part lacks never is.
    No log-prior shift is defined: the labels' mean is known (it moves to (1 - E lambda) natural + E lambda balanced),
    but an unmixed image is the limit lambda -> 0, where the labels are the natural ones, and what lies between depends
    on how the network interpolates. It does raise rare classes, which the arm's findings say.

    Helps: where a balanced sampler would show the same few rare images again and again: here each showing has
    another, mostly common, picture in it.
    Hurts: probabilities; small findings, which a mixture fades; with batches so small that the rare class is seldom
    in one (then put a `class_balanced_sampling: {power: 0.5}` before it).
    Evidence: NIH-CXR-LT (20 findings, one seed), average accuracy on a balanced test set 0.211 against 0.164 for plain
    training and 0.160 for mixup, tail 0.108 against 0.017 (README of LongTailCXR) - but the loop released with those
    figures takes both images from one loader's output, so they are no evidence for the method. The authors report
    gains over other samplers on retinal and gastro-intestinal pictures (abstract of the paper).

    Raises: `ConfigError` for a negative alpha, and at `fit` where some training labels are unknown.

    Source: Galdran et al. 2021, Balanced-MixUp for highly imbalanced medical image classification; lambda
    and its side as in the authors' code. We differ: they draw j from the whole training set by a second loader; a
    strategy here sees only the batch (so that every arm reads the same images), so j comes from it and classes are
    balanced among those present. For a class rarer than one in a batch that is less than the paper's 1 / K: with a
    share p of the images, only 1 - (1 - p)^B of the batches have it. One lambda per pair, theirs per batch.

    >>> x, y = torch.rand(8, 3, 8, 8), torch.eye(2)[[0] * 7 + [1]]
    >>> mixed, soft = BalancedMixup(alpha=0.2).mix_inputs(x, y, torch.Generator().manual_seed(0))
    >>> bool(soft[:, 1].sum() > 1)  # the rare class has gained
    True
    """

    name: ClassVar[str] = "balanced_mixup"
    place: ClassVar[Place] = "inputs"
    source: ClassVar[str] = "Galdran et al. 2021, Balanced-MixUp, within the batch"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    mixes_cases: ClassVar[bool] = True

    def __init__(self, *, alpha: float = 0.2) -> None:
        self.alpha = check_setting(self.name, "alpha", alpha, 0)
        self.kind_: Kind = "exclusive"

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"alpha": 0}

    def fit(self, facts: Facts) -> None:
        if self.alpha > 0:
            refuse_unknown(self.name, facts)
        self.kind_ = facts.kind

    def log_prior_shift(self) -> Tensor | None:
        return None if self.alpha > 0 else torch.zeros(())

    def compensates(self) -> bool:
        return self.alpha > 0

    def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.alpha == 0 or len(x) < 2:
            return x, y
        share = y.detach().flatten(2).mean(2) if y.dim() > 2 else y.detach()
        chance = balanced_rows(share.cpu(), torch.ones_like(share, device="cpu"), self.kind_)
        partner = torch.multinomial(chance, len(x), replacement=True, generator=rng).to(x.device, non_blocking=True)
        own = 1 - beta(len(x), self.alpha, 1.0, rng)
        return mixed(x, partner, own), mixed(y, partner, own)
