"""What the labels of the training part say about prevalence, in the forms that methods need."""

from __future__ import annotations

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.strategy import Facts


def log_prior(facts: Facts) -> Tensor:
    """The training prevalence on the scale of the logits, `(K,)` float64.

    Exclusive: log pi_k. Independent: log(pi_k / (1 - pi_k)). A class whose prevalence is 0 (or, independent, 1) gets
    0: its logit is left alone, since -log 0 would predict a class that nothing was learned about everywhere.
    """
    prior = facts.prior
    if facts.kind == "exclusive":
        return torch.where(prior > 0, prior.log(), 0.0)
    both = (prior > 0) & (prior < 1)
    return torch.where(both, prior.logit(), 0.0)


def balanced_rows(target: Tensor, mask: Tensor, kind: Kind, power: float = 1.0) -> Tensor:
    """Weight of every row by which classes come up in proportion to n_k^(1 - power), `(N,)` float64, not normalised.

    Exclusive: w_i = n_c^-power for the row's class c. Independent: the mean of n_k^-power over the classes k that the
    row is known to have; rows known to have none form one more group with its own count. Rows without any known label
    (exclusive: with one unknown class) weigh 0. `target` `(N, K)` may be soft; `mask` `(N, K)`.
    """
    member = groups(target, mask, kind)
    count = member.sum(0)
    rarity = torch.where(count > 0, count**-power, 0.0)
    return mean_over_groups(member, rarity)


def groups(target: Tensor, mask: Tensor, kind: Kind) -> Tensor:
    """To which groups each row counts, `(N, G)` float64; their sums over rows are the groups' sizes.

    Exclusive: G = K, the classes; a row with any unknown label counts to none. Independent: G = K + 1, the classes that
    the row is known to have, a row with several counting to each; the last group is rows known to have none of them. A
    row without any known label counts to none. Soft targets count in part.
    """
    mask = mask.expand_as(target).to(torch.float64)
    if kind == "exclusive":
        return target.to(torch.float64) * mask.amin(1, keepdim=True)
    positive = target.to(torch.float64) * mask
    none = (positive.sum(1) == 0) & (mask.amax(1) > 0)
    return torch.cat([positive, none[:, None].to(torch.float64)], 1)


def mean_over_groups(member: Tensor, value: Tensor) -> Tensor:
    """The mean of `value` `(G,)` over the groups of each row, `(N,)`; 0 for a row that counts to none."""
    return (member * value).sum(1) / member.sum(1).clamp(min=1e-300)


def shift_of_rows(facts: Facts, row_weight: Tensor) -> Tensor:
    """The log-prior shift of drawing rows by `row_weight` `(N,)`: log-odds of the drawn prevalence less the true ones.

    Exclusive: log(pi'_k / pi_k), exact. Independent: logit(pi'_k) - logit(pi_k) with pi' the weighted prevalence among
    known rows; exact where, given class k, the row's other labels tell nothing more about the image, an approximation
    elsewhere. 0 for a class without (or, independent, with nothing but) positives. Returns `(K,)` float64.
    """
    weighted = facts.mask.expand_as(facts.target).to(torch.float64) * row_weight[:, None]
    positive = (weighted * facts.target).sum(0)
    prior = facts.prior
    if facts.kind == "exclusive":
        return torch.where(positive > 0, (positive / positive.sum() / prior).log(), 0.0)
    negative = (weighted * (1 - facts.target)).sum(0)
    both = (positive > 0) & (negative > 0)
    return torch.where(both, (positive / negative / (prior / (1 - prior))).log(), 0.0)
