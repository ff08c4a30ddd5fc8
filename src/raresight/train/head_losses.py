"""The loss gradient of many heads at once: heads whose arms have one loss share one call of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from raresight.core.task import Kind
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Strategy, implements, owners

LEARNING = ("observe", "state_dict")  # a loss that implements one of these is the head's own


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
    """Heads `heads`, of which all have the loss of `stack`; `joined` where their batches may be one."""

    heads: list[int]
    stack: Stack
    joined: bool


def groups_of(stacks: Sequence[Stack], epoch: int, target: Tensor, ids: Tensor) -> list[Group]:
    """Heads by loss. `target` `(1, K)` and `ids` `(1,)` are any case, to ask who weighs cases in this epoch."""
    groups: list[tuple[Group, list[Strategy]]] = []
    for head, stack in enumerate(stacks):
        weighing = [
            s for s in owners(stack.strategies, "case_weights") if s.case_weights(target, ids, epoch) is not None
        ]
        acting = owners(stack.strategies, "loss") + weighing
        joined = all(strategy.rowwise and not learns(strategy) for strategy in acting)
        for group, others in groups:
            if joined and group.joined and same(acting, others):
                group.heads.append(head)
                break
        else:
            groups.append((Group([head], stack, joined), acting))
    return [group for group, _ in groups]


def known_labels(mask: Tensor, kind: Kind) -> Tensor:
    """How many labels a batch's mean divides by (`losses/reduce.py`): of `mask` `(..., B, K)`, `(...)`, at least 1."""
    known = mask.amin(-1).sum(-1) if kind == "exclusive" else mask.sum((-2, -1))
    return known.clamp(min=1)


class Losses:
    """Gradients with respect to the logits of all heads, `(H, B, K)`, each as if its head were alone.

    The mean of a joined batch divides by all its known labels; a head's own would divide by its own. So a head's part
    of the gradient is multiplied by known(joined) / known(head).
    """

    def __init__(self, groups: Sequence[Group], kind: Kind, device: torch.device) -> None:
        self.groups, self.kind = groups, kind
        self.order = torch.tensor([head for group in groups for head in group.heads], device=device)

    def scales(self, mask: Tensor) -> Tensor:
        """The factors of the gradients for `mask` `(S, H, B, K)` in the order of the groups: `(S, H, 1, 1)`."""
        known = known_labels(mask, self.kind)
        scale, first = torch.ones_like(known), 0
        for group in self.groups:
            part = slice(first, first := first + len(group.heads))
            if group.joined:
                joined = known_labels(mask[:, part].flatten(1, 2), self.kind)
                scale[:, part] = joined.unsqueeze(1) / known[:, part]
        return scale[..., None, None]

    def gradient(
        self,
        logits: Tensor,
        target: Tensor,
        mask: Tensor,
        ids: Tensor,
        sizes: Sequence[int],
        epoch: int,
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Unscaled gradients `(H, B, K)`, and per group the loss of every case; all in the order of the groups."""
        height, width, n_classes = logits.shape
        leaves, totals, per_case = [], [], []
        first = 0
        for group in self.groups:
            n = len(group.heads)
            part = slice(first, first + n)
            rows = n * width if group.joined else sizes[first]
            leaf = logits[part].reshape(-1, n_classes)[:rows].detach().requires_grad_()
            total, each = group.stack.loss(
                leaf,
                target[part].reshape(-1, n_classes)[:rows],
                mask[part].reshape(-1, n_classes)[:rows],
                ids[part].reshape(-1)[:rows],
                epoch,
            )
            leaves.append(leaf)
            totals.append(total)
            per_case.append(each)
            first += n
        found = torch.autograd.grad(totals, leaves)
        if sum(len(part) for part in found) == height * width:
            return torch.cat(found).view(height, width, n_classes), per_case
        lacking = [len(group.heads) * width - len(part) for group, part in zip(self.groups, found, strict=True)]
        full = [pad(part, (0, 0, 0, n)) for part, n in zip(found, lacking, strict=True)]
        return torch.cat(full).view(height, width, n_classes), per_case
