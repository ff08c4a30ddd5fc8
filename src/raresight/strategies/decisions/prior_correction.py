"""Prior correction: give back the training prevalence, or a stated one, to an arm that learned under another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.core.errors import nearest
from raresight.core.task import Kind
from raresight.strategies.losses.reduce import along_classes
from raresight.strategies.prior import log_prior
from raresight.strategies.settings import refused
from raresight.strategies.strategy import Facts, Place, Strategy


class PriorCorrection(Strategy):
    """Subtract from the logits what the arm's other methods add by their implied prior, after training.

    Equation: z_k - sum_m s_mk + d_k, s_m the log-prior shift of method m; d = 0 gives the logits of the training
    prevalence pi, a stated deployment prevalence p the shift d_k = log(p_k / pi_k) (exclusive) or
    logit(p_k) - logit(pi_k) (independent). Exclusive classes that are not named share 1 - sum of the named in their
    training proportions; independent ones keep theirs.

    Shapes: `adjust` takes and returns `(N, K, *S)`.
    Ranges: `prevalence` a mapping from class to a number above 0 and below 1, or None: the training prevalence. Named
    exclusive classes sum to less than 1, or to 1 if all are named.
    Absent class: nothing was learned about it, so its logit is left as it is, even where its prevalence is stated.
    Helps: probabilities are needed as such (expected cost, a stated threshold) after weights, samplers, balanced
    softmax or synthetic rows; the clinic sees another prevalence than the data set.
    Hurts: alone it does nothing; argmax and recall at 1/2 return to what plain training gives, so a gain that was only
    a moved threshold is gone; it assumes that p(image | class) is the same at deployment, which another spectrum of
    disease is not. Thresholds of `raresight tune` need no correction.
    Evidence: none found by us on medical images; exact at the population optimum for methods whose shift is exact.
    `raresight tune` takes the arm's implied prior out by itself; with this method there is nothing left to take but a
    stated prevalence, which it takes out since it judges on the validation part.
    Raises: `ConfigError` RS-C34 for classes or numbers that are not as above, RS-C35 where a method of the arm has no
    log-prior shift (focal loss, LDAM, ...).
    Source: Saerens et al. 2002, "Adjusting the outputs of a classifier to new a priori probabilities" (known new ones);
    King and Zeng 2001, "Logistic regression in rare events data", prior correction (independent). We differ in taking
    the prevalence that the model learned from the arm's methods instead of from a sample.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 1]]
    >>> method = PriorCorrection(prevalence={"melanoma": 0.1})
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> method.correct(torch.tensor([0.0, 1.0]))  # another method raises melanoma by 1
    >>> [round(z, 3) for z in method.adjust(torch.tensor([[0.0, 1.0]]))[0].tolist()]  # log(0.9/0.75), log(0.1/0.25)
    [0.182, -0.916]
    """

    name: ClassVar[str] = "prior_correction"
    place: ClassVar[Place] = "decisions"
    source: ClassVar[str] = "Saerens et al. 2002, known new priors; King and Zeng 2001, prior correction"

    def __init__(self, *, prevalence: Mapping[str, float] | None = None) -> None:
        if prevalence is not None and not (isinstance(prevalence, Mapping) and prevalence):
            raise self._wrong(prevalence, "it must map classes to their prevalence, such as {melanoma: 0.02}")
        for name, share in (prevalence or {}).items():
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
                raise self._wrong(share, "a prevalence lies above 0 and below 1", f".{name}")
        self.prevalence = None if prevalence is None else {name: float(share) for name, share in prevalence.items()}

    def fit(self, facts: Facts) -> None:
        self.others_ = torch.zeros(len(facts.classes), dtype=torch.float64)
        self.deployment_ = torch.zeros(len(facts.classes), dtype=torch.float64)
        if self.prevalence is not None:
            self._check(facts.classes, facts.kind)
            self.deployment_ = self._towards(self.prevalence, facts)

    def _towards(self, prevalence: dict[str, float], facts: Facts) -> Tensor:
        """d, `(K,)`: what is added to logits of the training prevalence."""
        named = torch.tensor([name in prevalence for name in facts.classes])
        stated = torch.tensor([prevalence.get(name, 0.5) for name in facts.classes], dtype=torch.float64)
        prior, learned = facts.prior, log_prior(facts)
        if facts.kind == "exclusive":
            rest = 1 - sum(prevalence.values())
            others = prior[~named].sum()
            stated = torch.where(named, stated, prior * rest / others.clamp(min=1e-300))
            return torch.where(prior > 0, stated.clamp(min=1e-300).log() - learned, 0.0)
        usable = named & (prior > 0) & (prior < 1)
        return torch.where(usable, torch.logit(stated) - learned, 0.0)

    def correct(self, shift: Tensor) -> None:
        self.others_ = shift.to(torch.float64).clone()

    def log_prior_shift(self) -> Tensor:
        return self.deployment_ - self.others_

    def adjust(self, logits: Tensor) -> Tensor:
        return logits + along_classes(self.log_prior_shift(), logits)

    def state_dict(self) -> dict[str, Tensor]:
        # The prior of synthetic rows is known once features are seen, which predictions do not do again.
        return {"others": self.others_.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.others_ = state["others"].clone()

    def _check(self, classes: tuple[str, ...], kind: Kind) -> None:
        assert self.prevalence is not None
        for name in self.prevalence:
            if name not in classes:
                close = nearest(name, classes)
                known = f"the classes are {', '.join(classes)}"
                raise self._wrong(
                    self.prevalence[name], known, f".{name}", f"did you mean '{close}'?" if close else None
                )
        if kind == "independent":
            return
        total, complete = sum(self.prevalence.values()), len(self.prevalence) == len(classes)
        if complete and not math.isclose(total, 1, abs_tol=1e-6):
            raise self._wrong(self.prevalence, f"all classes are named, so they must sum to 1, not to {total:g}")
        if not complete and total >= 1:
            raise self._wrong(self.prevalence, f"named classes sum to {total:g} and leave nothing for the others")

    def _wrong(self, value: Any, expected: str, place: str = "", remedy: str | None = None) -> Exception:
        return refused(self.name, f"prevalence{place}", f"prevalence{place} = {value!r}", expected, remedy)
