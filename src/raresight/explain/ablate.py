"""From correlation to use: how much a class's ranking loses without the units that go with it, beside any units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from raresight.core.errors import ConfigError
from raresight.core.seeds import numpy_rng
from raresight.evaluate.ranking import auprc
from raresight.explain.split_head import TOLERANCE
from raresight.explain.undisturbed import logits_of, named, undisturbed
from raresight.explain.unit_auroc import auroc_of_units

Forward = Callable[[np.ndarray, np.ndarray], np.ndarray]
Choose = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Ablation:
    """What K classes lose without their n best units; each `(K,)` unless said, NaN where there is nothing to measure.

    `whole` AP with all units, `drop` AP lost without the n best, `random` the mean loss without n others, `spread` the
    standard deviation of that over the draws, `p` the share of draws (the observed counted in) that lose as much.
    `units` `(2, K, n)` those chosen for either half, -1 where none (n the most of any class); `n_patients` patients
    with the class.
    """

    whole: np.ndarray
    drop: np.ndarray
    random: np.ndarray
    spread: np.ndarray
    p: np.ndarray
    units: np.ndarray
    n_patients: np.ndarray
    draws: int

    @property
    def excess(self) -> np.ndarray:
        """drop - random: above 0 where the class rests on its own units more than on any others."""
        return self.drop - self.random


def ablate(
    forward: Forward,
    values: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    *,
    n: int | Sequence[int] | np.ndarray = 10,
    draws: int = 50,
    choose: Choose | None = None,
    exclusive: bool = False,
    names: tuple[object, ...] = (),
) -> Ablation:
    """The drop in AP of each class when its n best units are set to 0, less that of random units.

    drop_k = AP_k(all units) - AP_k(without B_k), measured on one half of the patients with the n units B_k that were
    best on the other, then the halves swapped and the two drops averaged (one alone if only that half has the class):
    no unit is chosen on an image that it is judged on. Halves are drawn within rarest classes, so each has its share
    of a rare one. The random n are drawn from the living units outside B_k, `draws` times, the same way in both halves.

    `forward(rows, units)` gives the logits `(len(rows), K)` with those units at 0 (`linear_forward`,
    `hooked_forward`, `tail_forward`). `values` `(N, U)` pooled activations, by which units live (vary) and, unless
    `choose` is given, are ranked: by AUROC for the class. `choose(rows)` gives scores `(U, K)` of units from those
    rows alone; NaN is never chosen. `exclusive`: AP of softmax rather than of logits. `n`: one for all classes or one
    of each, at most half of the living units; a class with n = 0 costs no pass. Absent class: NaN; so is a class with
    fewer than two positive patients, or with n = 0.
    Source: Zhou et al., arXiv:1806.02891; the halves and the random control are our own.
    """
    k = labels.shape[1]
    sizes = np.broadcast_to(np.asarray(n, dtype=np.int64), (k,))
    side = split_halves(patients, labels, *names)
    pick = choose or (lambda rows: _by_auroc(values[rows], labels[rows]))
    whole, drop = np.full((2, k), np.nan), np.full((2, k), np.nan)
    random = np.full((2, k, draws), np.nan)
    units = np.full((2, k, int(sizes.max(initial=0))), -1, dtype=np.int64)
    for half in (0, 1):
        rows, others = np.flatnonzero(side == half), np.flatnonzero(side != half)
        if not len(rows) or not len(others):
            continue
        living = np.flatnonzero(np.ptp(values[others], axis=0) > 0)
        score = np.asarray(pick(others), dtype=np.float64)
        before = _scores(forward(rows, living[:0]), exclusive)
        for c in range(k):
            count = min(int(sizes[c]), len(living) // 2)
            known = score[living, c] > -np.inf  # neither NaN
            best = living[known][np.argsort(-score[living[known], c], kind="stable")][:count]
            whole[half, c] = auprc(labels[rows, c], before[:, c])
            if not count or len(best) < count or np.isnan(whole[half, c]) or not (labels[rows, c] == 0).any():
                continue
            units[half, c, :count] = best
            drop[half, c] = whole[half, c] - _ap(forward, rows, best, labels, c, exclusive)
            rest = np.setdiff1d(living, best)
            for d in range(draws):
                some = numpy_rng("ablate", *names, half, c, d).choice(rest, count, replace=False)
                random[half, c, d] = whole[half, c] - _ap(forward, rows, some, labels, c, exclusive)
    measured = ~np.isnan(drop)
    over = measured.sum(axis=0)
    whole, drop = _mean(whole, measured), _mean(drop, measured)
    chance = _mean(random, measured[:, :, None] & np.ones(draws, dtype=bool))
    p = np.where(over > 0, (1 + (chance >= drop[:, None] - 1e-12).sum(axis=1)) / (1 + draws), np.nan)
    persons = np.array([len(np.unique(patients[labels[:, c] == 1])) for c in range(k)])
    spread = chance.std(axis=1, ddof=1) if draws > 1 else np.full(k, np.nan)
    return Ablation(whole, drop, chance.mean(axis=1), spread, p, units, persons, draws)


def linear_forward(values: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Forward:
    """Exact where logits = W v + b of pooled units v: `values` `(N, U)`, `weight` `(K, U)`, `bias` `(K,)`."""

    def forward(rows: np.ndarray, units: np.ndarray) -> np.ndarray:
        mine = np.array(values[rows], dtype=np.float64)
        mine[:, units] = 0.0
        return mine @ np.asarray(weight, dtype=np.float64).T + np.asarray(bias, dtype=np.float64)

    return forward


def hooked_forward(
    model: nn.Module, layer: str, pixels: Callable[[np.ndarray], np.ndarray], *, batch: int = 64
) -> Forward:
    """A whole forward pass in which the channels of a layer's output are set to 0; for any tail.

    `pixels(rows)` gives images `(n, C, *S)` in [0, 1] (`ProbeSet.pixels`). The network is left as it was found.
    Raises: `ConfigError` RS-R49 for a layer that the network does not have.
    """
    module = named(model, [layer])[layer]
    device = next(iter(model.parameters()), torch.empty(0)).device

    def forward(rows: np.ndarray, units: np.ndarray) -> np.ndarray:
        def silenced(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
            return output.index_fill(1, torch.as_tensor(units, dtype=torch.int64, device=output.device), 0.0)

        found = []
        handle = module.register_forward_hook(silenced)
        try:
            with undisturbed(model), torch.no_grad():
                for start in range(0, len(rows), batch):
                    x = torch.from_numpy(np.ascontiguousarray(pixels(rows[start : start + batch]))).to(device)
                    found.append(logits_of(model, x).cpu().numpy())
        finally:
            handle.remove()
        return np.concatenate(found).astype(np.float64)

    return forward


def tail_forward(
    model: nn.Module,
    layer: str,
    activations: np.ndarray,
    pixels: Callable[[np.ndarray], np.ndarray],
    *,
    batch: int = 64,
) -> Forward | None:
    """`hooked_forward` from activations that were kept, `(N, U, *s)`: only what follows the layer costs anything.

    A black image goes through the network, and at the layer the activations of a batch are put in the place of its own.
    None where the logits rest on more than this layer: two images' logits have to come out to 1e-4 of the largest.
    """
    module = named(model, [layer])[layer]
    device = next(iter(model.parameters()), torch.empty(0)).device

    def hooked(hook: Callable[..., torch.Tensor | None], x: torch.Tensor, n: int) -> torch.Tensor:
        handle = module.register_forward_hook(hook)
        try:
            with undisturbed(model), torch.no_grad():
                return logits_of(model, x, n)
        finally:
            handle.remove()

    def behind(a: torch.Tensor) -> torch.Tensor:
        return hooked(lambda *_: a, black, len(a))

    x = torch.from_numpy(np.ascontiguousarray(pixels(np.arange(min(2, len(activations)))))).to(device)
    black = torch.zeros_like(x[:1])
    heard: list[torch.Tensor] = []
    whole = hooked(lambda _, __, output: heard.append(output.clone()), x, len(x))
    try:
        if not torch.allclose(behind(heard[-1]), whole, rtol=0, atol=TOLERANCE * float(whole.abs().max())):
            return None
    except (RuntimeError, ValueError, IndexError, ConfigError):
        return None

    def forward(rows: np.ndarray, units: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(rows), batch):
            a = np.asarray(activations[rows[start : start + batch]], dtype=np.float32)
            a[:, units] = 0.0
            found.append(behind(torch.from_numpy(a).to(device)).cpu().numpy())
        return np.concatenate(found).astype(np.float64)

    return forward


def split_halves(patients: np.ndarray, labels: np.ndarray, *names: object) -> np.ndarray:
    """0 or 1 for every image, `(N,)`: whole patients, alternating within those whose rarest class is the same."""
    _, who = np.unique(patients, return_inverse=True)
    has = np.stack([np.bincount(who, weights=labels[:, k] == 1) > 0 for k in range(labels.shape[1])], axis=1)
    by_rarity = np.argsort(has.sum(axis=0), kind="stable")
    rarest = np.where(has.any(axis=1), has[:, by_rarity].argmax(axis=1), has.shape[1])
    order = np.lexsort([numpy_rng("ablation halves", *names).permutation(len(rarest)), rarest])
    side = np.empty(len(rarest), dtype=np.int64)
    side[order] = np.arange(len(rarest)) % 2
    return side[who]


def _by_auroc(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    known = ~np.isnan(labels)
    each = [auroc_of_units(values[known[:, k]], labels[known[:, k], k] == 1) for k in range(labels.shape[1])]
    return np.stack(each, axis=1)


def _ap(forward: Forward, rows: np.ndarray, units: np.ndarray, labels: np.ndarray, c: int, exclusive: bool) -> float:
    return auprc(labels[rows, c], _scores(forward(rows, units), exclusive)[:, c])


def _scores(logits: np.ndarray, exclusive: bool) -> np.ndarray:
    if not exclusive:
        return logits
    shifted = logits - logits.max(axis=1, keepdims=True)
    # Logarithms of softmax: the same order, without ties where probabilities round to 1.
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _mean(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """The mean over the halves that were measured."""
    over = measured.sum(axis=0)
    total = np.where(measured, values, 0.0).sum(axis=0)
    return np.divide(total, over, out=np.full(total.shape, np.nan), where=over > 0)
