"""Exponential moving average: deploy the mean of the last weights instead of the last weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from raresight.strategies.settings import choice, flag, number, whole
from raresight.strategies.strategy import Place, Strategy

PREFIX = "average."
Buffers = Literal["estimate", "average", "copy"]
BUFFERS: tuple[Buffers, ...] = get_args(Buffers)


class EMA(Strategy):
    """Keep a running mean of the weights, and validate, save and deploy that.

    Equation: a <- d_t a + (1 - d_t) w after every `every`-th step, d_t = decay^every at update t = 2, 3, ..., with
    `warmup` at most (1 + t) / (10 + t); the first update sets a = w. Training itself is not changed. At the end of the
    representation phase the mean is written into the model and the averaging ends: a head phase goes on from the mean.

    Floating buffers (batch-norm statistics) are averaged alike with `buffers: average`, copied with `copy`; with
    `estimate` they are averaged and the training loop estimates them anew for the mean weights before every evaluation
    (`train/statistics.py`; in a loop of your own: `torch.optim.swa_utils.update_bn`). Other buffers are copied.

    Shapes: those of the model's `state_dict`.
    Ranges: `decay` in [0, 1), of one step; 0 is plain training; `every` >= 1 steps between updates; `warmup` true or
    false; `buffers` is `estimate`, `average` or `copy`.
    Absent class: no role.
    Helps: where validation scores jump from one evaluation to the next, as they do with few rare cases: the mean of
    many steps is steadier than any of them, and no label or probability is touched.
    Hurts: it does not know which class is rare and raises none. In a run of few steps the mean lags behind the weights;
    a case learned in the last steps is then not in it.
    Evidence: HAM10000, five paired seeds (docs/findings/flat_minima.md): no difference in macro-F1 or AUPRC from plain
    training. Cost, measured by us (ResNet-18, 64 px, one CPU thread): 1.00 times a plain step.
    Raises: `ConfigError` RS-C34 for values outside these ranges.
    Source: Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"; Tarvainen and Valpola
    2017, "Mean teachers" (exponential). We differ in the warm-up of d_t, which is that of TensorFlow's
    ExponentialMovingAverage (there t counts steps, here updates).

    >>> import torch
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> method = EMA(decay=0.5)
    >>> for step, value in enumerate([0.0, 1.1], 1):
    ...     _ = model.weight.data.fill_(value)
    ...     method.after_step(step, model)
    >>> with method.deployed(model):
    ...     print(round(model.weight.item(), 3))  # d_2 = 3/12: 1.1 * 9/12
    0.825
    """

    name: ClassVar[str] = "ema"
    place: ClassVar[Place] = "schedules"
    source: ClassVar[str] = "Polyak and Juditsky 1992, averaging; Tarvainen and Valpola 2017, mean teacher"

    def __init__(
        self, *, decay: float = 0.999, every: int = 1, warmup: bool = True, buffers: Buffers = "estimate"
    ) -> None:
        self.decay = number(self.name, "decay", decay, 0, 1, below_high=True)
        self.every = whole(self.name, "every", every, 1)
        self.warmup = flag(self.name, "warmup", warmup)
        self.buffers = choice(self.name, "buffers", buffers, BUFFERS)
        self.average_: dict[str, Tensor] = {}
        self.n_updates_ = 0
        self.ended_ = False

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"decay": 0.0}

    @torch.no_grad()
    def after_step(self, step: int, model: nn.Module) -> None:
        if self.ended_ or step % self.every:
            return
        live = model.state_dict()
        self.n_updates_ += 1
        if not self.average_:
            self.average_ = {key: value.clone() for key, value in live.items()}
            return
        decay = self.decay**self.every
        if self.warmup:
            decay = min(decay, (1 + self.n_updates_) / (10 + self.n_updates_))
        average = self._beside(live)
        floating = [key for key, value in live.items() if value.is_floating_point()]
        if self.buffers == "copy":
            weights = {key for key, _ in model.named_parameters(remove_duplicate=False)}
            floating = [key for key in floating if key in weights]
        torch._foreach_lerp_([average[key] for key in floating], [live[key] for key in floating], 1 - decay)
        for key in live.keys() - set(floating):
            average[key].copy_(live[key])

    def stale_statistics(self) -> bool:
        return self.buffers == "estimate" and self.decay > 0 and bool(self.average_) and not self.ended_

    @contextmanager
    def deployed(self, model: nn.Module) -> Iterator[None]:
        if self.ended_ or not self.average_:
            yield
            return
        live = model.state_dict()
        before = {key: value.clone() for key, value in live.items()}
        _write(self._beside(live), live)
        try:
            yield
        finally:
            _write(before, live)

    def end_training(self, model: nn.Module) -> None:
        if self.average_ and not self.ended_:
            live = model.state_dict()
            _write(self._beside(live), live)
        self.ended_ = True

    def _beside(self, live: dict[str, Tensor]) -> dict[str, Tensor]:
        """The average on the devices of the model (a checkpoint arrives on the CPU)."""
        self.average_ = {key: self.average_[key].to(value.device) for key, value in live.items()}
        return self.average_

    def state_dict(self) -> dict[str, Tensor]:
        state = {PREFIX + key: value.clone() for key, value in self.average_.items()}
        return state | {"n_updates": torch.tensor(self.n_updates_), "ended": torch.tensor(self.ended_)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.n_updates_ = int(state["n_updates"])
        self.ended_ = bool(state["ended"])
        self.average_ = {
            key.removeprefix(PREFIX): value.clone() for key, value in state.items() if key.startswith(PREFIX)
        }


@torch.no_grad()
def _write(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for key, value in target.items():
        value.copy_(source[key])
