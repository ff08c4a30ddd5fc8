"""The strategies of one arm, working as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from raresight.core.errors import ConfigError, Problem
from raresight.core.task import Task
from raresight.strategies.features.safety import safety
from raresight.strategies.losses.cross_entropy import cross_entropy
from raresight.strategies.strategy import PLACES, Facts, Strategy, SyntheticRows, implements, owners

Stream = Callable[[str], torch.Generator]

# Hooks that only one strategy of an arm may own; all others chain.
SINGLE = ("sample_weights", "head_sample_weights", "fit_features", "loss", "step", "correct")


class Stack:
    """Compose strategies in the order given.

    `stream(name)` hands a method its own generator for this step; the stack never shares one between methods.

    Raises: `ConfigError` naming both where two strategies own one place, where a method stands twice, and where one
    does not serve the task's kind or space.
    """

    def __init__(self, strategies: Sequence[Strategy], task: Task, arm: str = "") -> None:
        self.strategies = tuple(strategies)
        self.task = task
        self.arm = arm
        self._check()

    def _check(self) -> None:
        for hook in SINGLE:
            rivals = owners(self.strategies, hook)
            if len(rivals) > 1:
                names = " and ".join(f"'{rival.name}'" for rival in rivals)
                raise self._refused(
                    f"{names} both own the place '{rivals[0].place}' ({hook})",
                    "only one of them could act, silently",
                    f"keep one of {names} in this arm",
                )
        for strategy in self.strategies:
            if sum(other.name == strategy.name for other in self.strategies) > 1:
                raise self._refused(
                    f"'{strategy.name}' stands twice", "a method acts once in an arm", "remove one of the two"
                )
            if self.task.kind not in strategy.kinds:
                raise self._refused(
                    f"'{strategy.name}' serves {', '.join(strategy.kinds)} labels, the task has {self.task.kind} ones",
                    "its formula is not defined there",
                    "see `raresight list strategies` for those that serve this kind",
                )
            if self.task.space not in strategy.spaces:
                raise self._refused(
                    f"'{strategy.name}' serves label spaces of {strategy.spaces} axes, the task has {self.task.space}",
                    "its formula is not defined there",
                    "see `raresight list strategies`",
                )
        self._refuse_weights_of_a_sampler()
        self._refuse_mixed_cases()
        for strategy in self.strategies:
            if strategy.takes_parts:
                self._refuse_whole_losses(f"'{strategy.name}'")

    def refuse_pieces(self, what: str) -> None:
        """Refuse an arm whose batches cannot pass in pieces, beside `what`, which asks for that.

        The pieces' gradients have to add up to those of the whole batch: not so where the loss is no sum over rows, nor
        where features are mixed with those of rows in another piece.

        Raises: `ConfigError` RS-C35 naming both.
        """
        self._refuse_whole_losses(what)
        for mixer in owners(self.strategies, "mix_features"):
            raise self._refused(
                f"'{mixer.name}' and {what}",
                "it mixes the features of a whole batch, which here passes in pieces",
                "leave out one of the two",
            )

    def _refuse_whole_losses(self, what: str) -> None:
        for owner in owners(self.strategies, "loss"):
            if not owner.rowwise:
                raise self._refused(
                    f"'{owner.name}' and {what}",
                    "its loss is that of a whole batch: those of some rows and of the others do not add up to it",
                    "leave out one of the two, or choose another loss",
                )

    def _refuse_mixed_cases(self) -> None:
        for follower in self.strategies:
            mixers = [s for s in self.strategies if s.mixes_cases or implements(s, "mix_features")]
            if follower.follows_cases and mixers:
                raise self._refused(
                    f"'{follower.name}' and '{mixers[0].name}'",
                    f"'{follower.name}' compares a case with what it was before; in a mixed batch no row is one case",
                    "leave out one of the two",
                )

    def _refused(self, found: str, why: str, remedy: str) -> ConfigError:
        column = f"arms.{self.arm}" if self.arm else None
        return ConfigError(
            Problem(
                code="RS-C35",
                level="error",
                file="study.yaml",
                column=column,
                found=found,
                why=why,
                remedy=remedy,
            )
        )

    # before training

    def fit(self, facts: Facts) -> None:
        for strategy in self.strategies:
            strategy.fit(facts)
        self._refuse_weights_without_place(facts)
        self._tell_correctors()

    def _refuse_weights_without_place(self, facts: Facts) -> None:
        """Case weights that the loss could not use are refused before training, those of late epochs included."""
        if not all(owner.takes_weights for owner in owners(self.strategies, "loss")):
            for epoch in (0, facts.epochs - 1):
                self._weight(facts.target[:1], torch.zeros(1, dtype=torch.int64), epoch)

    def _refuse_weights_of_a_sampler(self) -> None:
        """Weights that undo a sampler are wrong for rows that another one draws, and useless to a loss without any."""
        for sampler in self.strategies:
            if not sampler.undoes_its_drawing():
                continue
            for head in owners(self.strategies, "head_sample_weights"):
                if head is not sampler:
                    raise self._refused(
                        f"'{sampler.name}' weighs its own rows, '{head.name}' draws those of the head",
                        "the head's loss would be weighed for rows that were drawn otherwise",
                        f"leave out '{sampler.name}' or its unbiased weights",
                    )
            for owner in owners(self.strategies, "loss"):
                if not owner.takes_weights:
                    raise self._refused(
                        f"'{owner.name}' cannot use the case weights of '{sampler.name}'",
                        "its loss has no place for them, so the drawing would not be made up for",
                        f"leave out '{sampler.name}' or its unbiased weights, or choose another loss",
                    )

    def _tell_correctors(self) -> None:
        """Hand a method that corrects for the others the sum of their shifts."""
        for corrector in owners(self.strategies, "correct"):
            others = [strategy for strategy in self._counting() if strategy is not corrector]
            total = self._sum_of_shifts(others)
            if total is None:
                undefined = [f"'{strategy.name}'" for strategy in others if strategy.log_prior_shift() is None]
                raise self._refused(
                    f"'{corrector.name}' cannot correct for {' and '.join(undefined)}",
                    "by how much that moves the probabilities is not defined, so there is nothing to take back",
                    f"leave '{corrector.name}' out: `raresight tune` calibrates on the validation part",
                )
            corrector.correct(total)

    @property
    def head_phase(self) -> bool:
        return any(strategy.head_phase for strategy in self.strategies)

    def implied_prior(self) -> Tensor | None:
        """Sum of the methods' log-prior shifts, `(K,)`; None where one of them is not correctable.

        Where `head_sample_weights` draws the rows of a head phase, it alone decides how often a class is seen there:
        the sampler of the first phase and the number of synthetic rows no longer count.
        """
        return self._sum_of_shifts(self._counting())

    def _sum_of_shifts(self, strategies: Sequence[Strategy]) -> Tensor | None:
        total = torch.zeros(self.task.n_classes, dtype=torch.float64)
        for strategy in strategies:
            shift = strategy.log_prior_shift()
            if shift is None:
                return None
            total = total + shift.to(torch.float64)
        return total

    def findings(self) -> list[str]:
        """What the user should know about the methods and their combination, as plain sentences."""
        return [*(said for strategy in self.strategies for said in strategy.findings()), *self._compensations()]

    def _compensations(self) -> list[str]:
        """The warning for several methods that compensate for one imbalance."""
        counting = [s for s in self._counting() if not implements(s, "correct")]
        compensating = [s.name for s in counting if s.compensates() or self._favours(s.log_prior_shift())]
        if len(compensating) < 2:
            return []
        names = f"{', '.join(compensating[:-1])} and {compensating[-1]}"
        times = {2: "double", 3: "triple"}.get(len(compensating), f"{len(compensating)}-fold")
        found = f"RS-C35: {names} each compensate for the imbalance: {times} compensation"
        implied = self.implied_prior()
        if implied is None:
            return [f"{found}; its implied prior is not defined, so probabilities cannot be corrected for it"]
        factors = ", ".join(
            f"{name} x{factor:.3g}" for name, factor in zip(self.task.classes, implied.exp().tolist(), strict=True)
        )
        return [f"{found}; its implied prior multiplies the training odds by {factors}"]

    def _counting(self) -> list[Strategy]:
        """The strategies whose shift reaches the final head."""
        if not owners(self.strategies, "head_sample_weights"):
            return list(self.strategies)
        overruled = {*owners(self.strategies, "sample_weights"), *owners(self.strategies, "fit_features")}
        return [s for s in self.strategies if s not in overruled or implements(s, "head_sample_weights")]

    def _favours(self, shift: Tensor | None) -> bool:
        if shift is None:
            return False
        if self.task.kind == "exclusive":  # adding one number to all logits changes nothing
            shift = shift - shift.mean()
        return bool(shift.abs().max() > 1e-6)

    # in the order in which a batch meets them

    def sample_weights(self) -> Tensor | None:
        return next((s.sample_weights() for s in owners(self.strategies, "sample_weights")), None)

    def mix_inputs(self, x: Tensor, y: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        for strategy in owners(self.strategies, "mix_inputs"):
            x, y = strategy.mix_inputs(x, y, stream(strategy.name))
        return x, y

    def mix_features(self, z: Tensor, y: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        for strategy in owners(self.strategies, "mix_features"):
            z, y = strategy.mix_features(z, y, stream(strategy.name))
        return z, y

    def fit_features(self, z: Tensor, y: Tensor, mask: Tensor, ids: Tensor, stream: Stream) -> SyntheticRows | None:
        for strategy in owners(self.strategies, "fit_features"):
            rows = strategy.fit_features(z, y, mask, ids, stream(strategy.name))
            self._tell_correctors()  # the prior that synthetic rows make is known only now
            return rows
        return None

    def safety(
        self, z: Tensor, y: Tensor, mask: Tensor, ids: Tensor, synthetic: SyntheticRows | None, stream: Stream
    ) -> list[dict[str, Any]]:
        """Where the synthetic rows lie, class by class (`features/safety.py`); empty without synthetic rows."""
        return [] if synthetic is None else safety(self.task, z, y, mask, ids, synthetic, stream("safety"))

    def head_sample_weights(self, y: Tensor, mask: Tensor) -> Tensor | None:
        return next((s.head_sample_weights(y, mask) for s in owners(self.strategies, "head_sample_weights")), None)

    def loss(
        self,
        logits: Tensor,
        target: Tensor,
        mask: Tensor,
        ids: Tensor,
        epoch: int,
        model: nn.Module | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The arm's loss: the product of all case weights, the owner's loss (cross-entropy if none), all penalties."""
        weight = self._weight(target, ids, epoch)
        owner = next(iter(owners(self.strategies, "loss")), None)
        per_case: Tensor | None
        if owner is None:
            total, per_case = cross_entropy(logits, target, mask, weight, kind=self.task.kind)
        else:
            total, per_case = owner.loss(logits, target, mask, weight, ids)
        if model is not None:
            for strategy in owners(self.strategies, "penalty"):
                term = strategy.penalty(logits, target, mask, model)
                if term is not None:
                    total = total + term
        return total, per_case

    def _weight(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor:
        """The product of all case weights. Raises: `ConfigError` where the arm's loss has no place for them."""
        weight = torch.ones_like(target)
        for strategy in owners(self.strategies, "case_weights"):
            factor = strategy.case_weights(target, ids, epoch)
            if factor is None:
                continue
            for owner in owners(self.strategies, "loss"):
                if not owner.takes_weights and strategy is not owner:
                    raise self._refused(
                        f"'{owner.name}' cannot use the case weights of '{strategy.name}'",
                        "its loss compares cases in pairs, so no single case has a loss to be weighed",
                        f"leave '{strategy.name}' or its weights out, or choose another loss",
                    )
            weight = weight * factor
        return weight

    def step(
        self, closure: Callable[..., Tensor], optimiser: torch.optim.Optimizer, batch: dict[str, Tensor]
    ) -> Tensor:
        for strategy in owners(self.strategies, "step"):
            return strategy.step(closure, optimiser, batch)
        loss = closure()
        optimiser.step()
        return loss

    def start_epoch(self, epoch: int, model: nn.Module, stream: Stream) -> None:
        for strategy in owners(self.strategies, "start_epoch"):
            strategy.start_epoch(epoch, model, stream(strategy.name))

    def start_head(self, model: nn.Module, stream: Stream) -> None:
        for strategy in owners(self.strategies, "start_head"):
            strategy.start_head(model, stream(strategy.name))

    def observe(self, ids: Tensor, per_case: Tensor | None) -> None:
        if per_case is not None:
            for strategy in owners(self.strategies, "observe"):
                strategy.observe(ids, per_case)

    def begun(self, epoch: int) -> bool:
        """Whether every method acts in this epoch, so that weights of it are the arm's."""
        return all(strategy.begun(epoch) for strategy in owners(self.strategies, "begun"))

    def after_step(self, step: int, model: nn.Module) -> None:
        for strategy in owners(self.strategies, "after_step"):
            strategy.after_step(step, model)

    @contextmanager
    def deployed(self, model: nn.Module) -> Iterator[None]:
        """In the order of the line, whatever the order in the arm: a mean of weights first, then what acts upon it."""
        with ExitStack() as contexts:
            for strategy in sorted(owners(self.strategies, "deployed"), key=lambda owner: PLACES.index(owner.place)):
                contexts.enter_context(strategy.deployed(model))
            yield

    def stale_statistics(self) -> bool:
        """Whether batch-norm statistics have to be estimated anew for the deployed weights."""
        return any(strategy.stale_statistics() for strategy in owners(self.strategies, "stale_statistics"))

    def end_training(self, model: nn.Module) -> None:
        for strategy in owners(self.strategies, "end_training"):
            strategy.end_training(model)

    def adjust(self, logits: Tensor) -> Tensor:
        for strategy in owners(self.strategies, "adjust"):
            logits = strategy.adjust(logits)
        return logits

    # exact resume

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        return {s.name: s.state_dict() for s in self.strategies if implements(s, "state_dict")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for strategy in owners(self.strategies, "load_state_dict"):
            strategy.load_state_dict(state[strategy.name])
