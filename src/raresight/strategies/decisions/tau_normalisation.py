"""Tau-normalisation: rows of the head are made more alike in length, since those of common classes grew longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from raresight.core.task import Kind
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy


class TauNormalisation(Strategy):
    """Divide each class's row of the head, and its bias, by the row's length to the power tau; training is not changed.

    Equation: W_k / ||W_k||^tau and b_k / ||W_k||^tau, so the logit of class k becomes z_k / ||W_k||^tau. Plain training
    leaves long rows to common classes; tau 1 makes all rows equally long. The head is normalised whenever it is
    deployed: in each validation, in the weights that are saved, and so in predictions; the trained head goes on as it
    was. A head phase begins from the normalised head (or a fresh one) and its own result is normalised.

    Shapes: `model.head` is an `nn.Linear`, weight `(K, F)`, bias `(K,)` or None.
    Ranges: `tau` in [0, 2]; 0 is plain training. No value is right for all data: choose it on the validation part, as a
    grid `tau: [0, 0.25, 0.5, 0.75, 1]`.
    Absent class: its row was only pushed away from; it is normalised as the others, so it may win more cases than
    before. A row of length 0 is left alone.
    Helps: a trained model is at hand and nothing is to be trained again; rare classes with short rows, softmax.
    Hurts: rows of rare classes are short also because little is known of them; where weight decay or a retrained head
    has evened the lengths out nothing is left to gain. Probabilities lose their meaning.
    Evidence: NIH-CXR-LT (600 balanced test images; LongTailCXR's README): mean accuracy of head, medium and tail groups
    0.257, against 0.164 for plain training and 0.369 for classifier retraining; of the tail (90 images) 0.083, 0.017
    and 0.300.
    Raises: `ConfigError` RS-C34 for tau outside its range.
    Source: Kang et al. 2020, "Decoupling representation and classifier for long-tailed recognition", eq. 3. We
    differ in the bias: theirs is discarded; ours is divided alike, so that tau 0 is plain training and tau moves
    whole logits. Exclusive labels alone: with independent ones a positive factor for each class changes neither the
    order of cases nor the side of 0 on which they lie. No log-prior shift is defined for tau > 0.

    >>> import torch
    >>> model = torch.nn.Module()
    >>> model.head = torch.nn.Linear(2, 2, bias=False)
    >>> _ = model.head.weight.data.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.5]]))
    >>> with TauNormalisation(tau=1).deployed(model):
    ...     print([[round(w, 2) for w in row] for row in model.head.weight.tolist()])
    [[0.6, 0.8], [0.0, 1.0]]
    """

    name: ClassVar[str] = "tau_normalisation"
    place: ClassVar[Place] = "decisions"
    source: ClassVar[str] = "Kang et al. 2020, tau-normalised classifier, eq. 3"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive",)
    spaces: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, *, tau: float = 1.0) -> None:
        self.tau = number(self.name, "tau", tau, 0, 2)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"tau": 0.0}

    def fit(self, facts: Facts) -> None:
        self.n_classes_ = len(facts.classes)

    def log_prior_shift(self) -> Tensor | None:
        return None if self.tau > 0 else torch.zeros(self.n_classes_, dtype=torch.float64)

    def compensates(self) -> bool:
        return self.tau > 0

    @contextmanager
    def deployed(self, model: nn.Module) -> Iterator[None]:
        head = model.head
        assert isinstance(head, nn.Linear), "the model's head must be an nn.Linear"
        parameters: list[Tensor] = [parameter for parameter in (head.weight, head.bias) if parameter is not None]
        trained = [parameter.detach().clone() for parameter in parameters]
        length = trained[0].norm(dim=1)
        factor = torch.where(length > 0, length**-self.tau, 1.0)
        _write(parameters, [value * factor.view(-1, *[1] * (value.dim() - 1)) for value in trained])
        try:
            yield
        finally:
            _write(parameters, trained)


@torch.no_grad()
def _write(parameters: list[Tensor], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
