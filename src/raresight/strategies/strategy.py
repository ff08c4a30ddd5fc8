"""The contract of a strategy: seven places on the line, hooks that do nothing unless a method says otherwise.

A method is one file with one final class. It implements the hooks it needs; `place` is the folder it stands in. Its
constructor arguments (keyword-only) are its settings in `study.yaml`; values learned in `fit` end in `_`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from raresight.core.task import Kind

Place = Literal["sampling", "inputs", "features", "losses", "steps", "schedules", "decisions"]
PLACES: tuple[Place, ...] = ("sampling", "inputs", "features", "losses", "steps", "schedules", "decisions")


@dataclass(frozen=True)
class Facts:
    """What a strategy may know: labels and counts of the *training part alone*.

    `target` `(N, K)` holds 0 or 1 (0 where unknown), `mask` `(N, K)` 0 where unknown. `steps` is the number of
    optimiser steps of the run, `epochs` how often the training part is passed, `preset` the modality's preset name.
    """

    kind: Kind
    classes: tuple[str, ...]
    target: Tensor
    mask: Tensor
    steps: int = 1
    epochs: int = 1
    preset: str = "none"

    @property
    def n_cases(self) -> int:
        return len(self.target)

    @property
    def n_positive(self) -> Tensor:
        """Cases known to have each class, `(K,)` float64."""
        return (self.target * self.mask).sum(0, dtype=torch.float64)

    @property
    def n_known(self) -> Tensor:
        """Cases whose label for each class is known, `(K,)` float64."""
        return self.mask.expand_as(self.target).sum(0, dtype=torch.float64)

    @property
    def prior(self) -> Tensor:
        """Training prevalence, `(K,)` float64; 0 for a class that the training part lacks.

        Exclusive: shares of all cases with a label, summing to 1. Independent: positives / known, class by class.
        """
        if self.kind == "exclusive":
            return self.n_positive / self.n_positive.sum().clamp(min=1)
        return self.n_positive / self.n_known.clamp(min=1)


@dataclass(frozen=True)
class SyntheticRows:
    """Synthetic feature rows as recipes, not copies: row i is z[base] + gap * (z[neighbour] - z[base]).

    `base`, `neighbour` `(M,)` int32 or int64 row numbers of the features; `gap` `(M,)` or `(M, 1)` in [0, 1];
    `target`, `mask` `(M, K)` the labels of the synthetic rows, 0 or 1 of any type (mask 0 = unknown).
    """

    base: Tensor
    neighbour: Tensor
    gap: Tensor
    target: Tensor
    mask: Tensor


class Strategy:
    """The hooks, in the order in which a batch meets them. Every one does nothing here.

    Shapes: images `x` `(B, C, H, W)` float in [0, 1], not yet normalised; features `z` `(B, F)`; `logits`, `target`,
    `mask`, `weight` `(B, K, *S)`; `ids` `(B,)` int64 row numbers of the training part. `rng` is the strategy's own CPU
    generator, made anew for every step from (study seed, run seed, method name, step).
    """

    name: ClassVar[str]
    place: ClassVar[Place]
    source: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    spaces: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)
    head_phase: ClassVar[bool] = False  # True: the arm's last `head_steps` train the head on extracted features
    takes_weights: ClassVar[bool] = True  # False: the method's loss has no place for case weights (a pairwise loss)
    experimental: ClassVar[bool] = False  # True: it works, but nothing yet says that it is worth its cost
    rowwise: ClassVar[bool] = True  # False: the method's loss is not a mean over rows, so batches cannot be joined
    takes_parts: ClassVar[bool] = False  # True: the method asks for the part of a loss that some rows have
    mixes_cases: ClassVar[bool] = False  # True: a row of the batch is made of several cases
    follows_cases: ClassVar[bool] = False  # True: the method remembers single cases, so none may be mixed

    @classmethod
    def neutral(cls) -> dict[str, Any] | None:
        """Settings at which the method *is* plain training, or None where there are none."""
        return None

    def fit(self, facts: Facts) -> None:
        """Learn from the labels of the training part, once, before the first step."""

    def log_prior_shift(self) -> Tensor | None:
        """`(K,)` shift s that the method adds to the log-odds a plain model would learn, or None: not defined.

        A model trained with the method estimates p(k|x) * exp(s_k) (exclusive: renormalised), so logits - s are those
        of the training prevalence.
        """
        return torch.zeros(())

    def compensates(self) -> bool:
        """Whether the method raises rare classes although its `log_prior_shift` cannot say by how much (None)."""
        return False

    def findings(self) -> list[str]:
        """What the user should know about what the method did with these data, as plain sentences."""
        return []

    # sampling
    def sample_weights(self) -> Tensor | None:
        """`(N,)` weights >= 0 by which training rows are drawn with replacement; None: each row once an epoch.

        Asked at the beginning of every epoch, after `start_epoch`, so they may change from one epoch to the next.
        Within an epoch they stay as they are: weights that follow from observed losses are fixed in `start_epoch` and
        kept in `state_dict`, so that a run resumed within the epoch draws the same rows. Asked before the first
        epoch they stand for the whole training: what an own loop would draw by.
        """
        return None

    def undoes_its_drawing(self) -> bool:
        """Whether `case_weights` make up for the method's own `sample_weights`: wrong for rows that another draws."""
        return False

    # inputs
    def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return x, y

    # features
    def mix_features(self, z: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return z, y

    def fit_features(
        self, z: Tensor, y: Tensor, mask: Tensor, ids: Tensor, rng: torch.Generator
    ) -> SyntheticRows | None:
        """In a head phase: see all training features `(N, F)` once; may answer with synthetic rows to train on too."""
        return None

    def head_sample_weights(self, y: Tensor, mask: Tensor) -> Tensor | None:
        """In a head phase: `(M,)` weights over real and synthetic rows, overriding `sample_weights`; every epoch."""
        return None

    # losses
    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor | None:
        """Weights that multiply with those of other strategies, broadcastable to `(B, K, *S)`."""
        return None

    def loss(
        self, logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The total (a scalar) and the unweighted loss per case `(B,)`, or None where the loss has none."""
        raise NotImplementedError

    def penalty(self, logits: Tensor, target: Tensor, mask: Tensor, model: nn.Module) -> Tensor | None:
        """A term added to the loss."""
        return None

    # steps
    def step(
        self, closure: Callable[..., Tensor], optimiser: torch.optim.Optimizer, batch: dict[str, Tensor]
    ) -> Tensor:
        """One optimiser step. `closure(rows=None)` zeroes gradients, runs forward and backward, returns the loss.

        Called again in the same step it replays mixing and dropout and leaves batch-norm statistics alone. With `rows`
        it takes the part of the batch's loss that these rows have (the parts of rows that make up the batch add up to
        the whole); where batch normalisation joins the rows of a batch, all of them pass and these are counted.
        """
        raise NotImplementedError

    # schedules
    def start_epoch(self, epoch: int, model: nn.Module, rng: torch.Generator) -> None:
        """Called before epoch `epoch` (from 0): one pass's worth of the training part, in every phase.

        A head phase goes on counting; it calls once more for the epoch in which it begins. A run resumed within an
        epoch calls again for it, with the same `rng`, and only then loads the saved state.
        """

    def begun(self, epoch: int) -> bool:
        """Whether the method acts in `epoch`: a deferred one says when, so that earlier weights are not taken for its.

        The best weights of a run are those of the best evaluation in which every method had begun.
        """
        return True

    def start_head(self, model: nn.Module, rng: torch.Generator) -> None:
        """Called once, when the head phase begins (classifier retraining resets the head here)."""

    def observe(self, ids: Tensor, per_case: Tensor) -> None:
        """See the unweighted losses of a batch, once a step, in both phases; ids may repeat."""

    def after_step(self, step: int, model: nn.Module) -> None:
        """Called after optimiser step `step` (from 1)."""

    @contextmanager
    def deployed(self, model: nn.Module) -> Iterator[None]:
        """Within this context `model` carries the weights that would be deployed: for validation and checkpoints."""
        yield

    def stale_statistics(self) -> bool:
        """Whether batch-norm statistics collected in training belong to other weights than those deployed.

        The loop then estimates them anew for the deployed weights, before every evaluation.
        """
        return False

    def end_training(self, model: nn.Module) -> None:
        """Called once at the end of the representation phase; may write the deployed weights into `model`."""

    # decisions
    def correct(self, shift: Tensor) -> None:
        """See the sum `(K,)` of the other methods' log-prior shifts: after `fit`, and again after `fit_features`.

        The stack refuses the arm where one of them is not defined.
        """

    def adjust(self, logits: Tensor) -> Tensor:
        """Change logits `(N, K)` after training, before they are written to the predictions."""
        return logits

    # exact resume
    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that change during training and that a resume needs; what `fit` learns is fitted again instead."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if state:
            raise KeyError(f"{self.name} keeps no state, yet the checkpoint holds {sorted(state)}")


def implements(strategy: Strategy, hook: str) -> bool:
    """Whether the method's class defines `hook` itself."""
    return getattr(type(strategy), hook) is not getattr(Strategy, hook)


def owners(strategies: Sequence[Strategy], hook: str) -> list[Strategy]:
    return [strategy for strategy in strategies if implements(strategy, hook)]
