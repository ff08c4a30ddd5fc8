"""Classifier retraining: features from all cases as they come, then a fresh head on balanced ones."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from raresight.core.task import Kind
from raresight.strategies.prior import balanced_rows, shift_of_rows
from raresight.strategies.strategy import Facts, Place, Strategy


class ClassifierRetraining(Strategy):
    """Train the representation plainly, reset the head, and train the head alone on class-balanced rows.

    Equation: phase 1 as the rest of the arm says; phase 2: head weights and bias ~ U(-F^-1/2, F^-1/2), rows drawn by
    q_i ~ 1 / n_c (exclusive) or by the independent rule of `class_balanced_sampling` over real and synthetic rows.

    Shapes: `model.head` is an `nn.Linear` of F features; `head_sample_weights` `(M,)`.
    Ranges: no settings; the length of the head phase is the study's.
    Absent class: no row has it; its logit is learned from the others' rows alone.
    Helps: where the features of plain training are good and only the last layer leans towards common classes: the
    features keep all cases, the head is balanced.
    Hurts: with a handful of cases the fresh head learns these few by heart, and features that never saw what sets a
    rare class apart cannot be mended by a head. Probabilities follow the new class balance unless corrected for it.
    Evidence: NIH-CXR-LT (600 balanced test images; LongTailCXR's README): mean accuracy of head, medium and tail groups
    0.369 against 0.164 for plain training, tail 0.300 against 0.017 (90 images). DermaMNIST (MONICA's result files,
    ResNet-50, one seed): group average 0.773 against 0.673, balanced accuracy 0.746 against 0.616.
    Raises: nothing.
    Source: Kang et al. 2020, "Decoupling representation and classifier for long-tailed recognition", classifier
    re-training (cRT), eq. 1 with q = 0. We differ in working on features extracted once (no augmentation in phase 2).

    >>> import torch
    >>> model = torch.nn.Module()
    >>> model.head = torch.nn.Linear(4, 2)
    >>> ClassifierRetraining().start_head(model, torch.Generator().manual_seed(0))
    >>> bool(model.head.weight.abs().max() <= 0.5)
    True
    """

    name: ClassVar[str] = "classifier_retraining"
    place: ClassVar[Place] = "schedules"
    source: ClassVar[str] = "Kang et al. 2020, classifier re-training (cRT), eq. 1"
    spaces: ClassVar[tuple[int, ...]] = (0,)
    head_phase: ClassVar[bool] = True

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind
        self.shift_ = shift_of_rows(facts, balanced_rows(facts.target, facts.mask, facts.kind))

    def log_prior_shift(self) -> Tensor:
        return self.shift_

    @torch.no_grad()
    def start_head(self, model: nn.Module, rng: torch.Generator) -> None:
        head = model.head
        assert isinstance(head, nn.Linear), "the model's head must be an nn.Linear"
        bound = head.in_features**-0.5
        for parameter in (head.weight, head.bias):
            if parameter is not None:
                drawn = torch.empty(parameter.shape, dtype=torch.float32).uniform_(-bound, bound, generator=rng)
                parameter.copy_(drawn)

    def head_sample_weights(self, y: Tensor, mask: Tensor) -> Tensor:
        return balanced_rows(y, mask, self.kind_)
