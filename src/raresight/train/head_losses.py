"""The loss gradient of many heads at once: heads whose arms have one loss share one call of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from raresight.core.task import Kind
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Strategy, implements, owners

LEARNING = ("observe", "state_dict")  # a loss that implements one of these is the head's own
NO_IDS: Any = object()  # in place of case numbers where there are none: whoever asks for them fails at once


def same(one: Any, other: Any) -> bool:
    """Whether two fitted values are equal for certain; False where that cannot be told."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Strategy) or is_dataclass(one):
        one, other = vars(one), vars(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
    try:
        return bool(one == other)
    except (TypeError, ValueError, RuntimeError):
        return False


def learns(strategy: Strategy) -> bool:
    return any(implements(strategy, hook) for hook in LEARNING)


@dataclass(frozen=True)
class Group:
    """Heads that all have the loss of `stack`. `joined`: their batches may be one; `as_map`: heads may be its cases,
    and a head's rows the places of a case, a form in which row-wise work needs no transposed copies and runs faster."""

    heads: list[int]
    stack: Stack
    joined: bool
    as_map: bool


def groups_of(stacks: Sequence[Stack], epoch: int, target: Tensor, mask: Tensor, ids: Tensor) -> list[Group]:
    """Heads by loss. `target`, `mask` `(B, K)` and `ids` `(B,)` are any cases, on which the losses are tried out."""
    groups: list[tuple[Group, list[Strategy]]] = []
    for head, stack in enumerate(stacks):
        weighing = owners(stack.strategies, "case_weights")
        acting = owners(stack.strategies, "loss")
        acting += [s for s in weighing if s.case_weights(target, ids, epoch) is not None]
        joined = all(strategy.rowwise and not learns(strategy) for strategy in acting)
        as_map = joined and not owners(stack.strategies, "observe") and _same_as_map(stack, epoch, target, mask, ids)
        for group, others in groups:
            if joined and group.joined and group.as_map == as_map and same(acting, others):
                group.heads.append(head)
                break
        else:
            groups.append((Group([head], stack, joined, as_map), acting))
    return [group for group, _ in groups]


def _same_as_map(stack: Stack, epoch: int, target: Tensor, mask: Tensor, ids: Tensor) -> bool:
    """Whether the loss of rows is that of a map whose places they are. A loss that asks for case numbers has none."""
    logits = torch.linspace(-2, 3, target.numel()).to(target).view_as(target).sin() * 2
    by_rows, _ = stack.loss(logits, target, mask, ids, epoch)
    try:
        places = [x.T.unsqueeze(0) for x in (logits, target, mask)]
        by_places, _ = stack.loss(places[0], places[1], places[2], NO_IDS, epoch)
    except Exception:  # a method of the user's may refuse a map, or the missing case numbers, in any way it likes
        return False
    return bool(torch.isclose(by_rows, by_places, rtol=1e-5))


class Losses:
    """Gradients with respect to the logits of all heads, `(H, K, B)`, each as if its head were alone.

    The mean of a joined batch divides by all its known labels; a head's own would divide by its own. So a head's part
    of the gradient is multiplied by known(joined) / known(head).
    """

    def __init__(self, groups: Sequence[Group], kind: Kind, device: torch.device) -> None:
        self.groups, self.kind = groups, kind
        self.order = torch.tensor([head for group in groups for head in group.heads], device=device)
        ends = list(accumulate(len(group.heads) for group in groups))
        self.parts = [slice(end - len(group.heads), end) for group, end in zip(groups, ends, strict=True)]

    def scales(self, mask: Tensor) -> Tensor:
        """The factors of the gradients for `mask` `(S, H, K, B)` in the order of the groups: `(S, H, 1, 1)`."""
        known = mask.amin(2).sum(2) if self.kind == "exclusive" else mask.sum((2, 3))  # as in losses/reduce.py
        scale = torch.ones_like(known)
        for group, part in zip(self.groups, self.parts, strict=True):
            if group.joined:
                scale[:, part] = known[:, part].sum(1, keepdim=True).clamp(min=1) / known[:, part].clamp(min=1)
        return scale[..., None, None]

    def gradient(
        self, logits: Tensor, target: Tensor, mask: Tensor, ids: Tensor, sizes: Sequence[int], epoch: int
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Unscaled gradients `(H, K, B)`, and per group the loss of every row; all in the order of the groups.

        Shapes: `logits`, `target`, `mask` `(H, K, B)`, `ids` `(H, B)`, `sizes` `(H,)` the true rows of each batch.
        """
        leaves, totals, per_case = [], [], []
        for group, part in zip(self.groups, self.parts, strict=True):
            if group.as_map:
                leaf = logits[part].detach().requires_grad_()
                total, each = group.stack.loss(leaf, target[part], mask[part], NO_IDS, epoch)
            else:
                n_rows = None if group.joined else sizes[part.start]  # what only fills up a batch may not be seen
                leaf = _rows(logits[part])[:n_rows].detach().requires_grad_()
                labels, known = _rows(target[part])[:n_rows], _rows(mask[part])[:n_rows]
                total, each = group.stack.loss(leaf, labels, known, ids[part].flatten()[:n_rows], epoch)
            leaves.append(leaf)
            totals.append(total)
            per_case.append(each)
        found = torch.autograd.grad(totals, leaves)
        return torch.cat([self._places(x, logits.shape[2]) for x in found]), per_case

    def _places(self, gradient: Tensor, width: int) -> Tensor:
        """A group's gradient `(n, K, B)`, whatever form the group had."""
        if gradient.dim() == 3:
            return gradient
        lacking = -len(gradient) % width
        return pad(gradient, (0, 0, 0, lacking)).view(-1, width, gradient.shape[1]).transpose(1, 2)


def _rows(x: Tensor) -> Tensor:
    """`(n, K, B)` as `(n B, K)`."""
    return x.transpose(1, 2).reshape(-1, x.shape[1])
