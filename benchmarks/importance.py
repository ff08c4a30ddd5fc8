"""Is importance sampling unbiased, and what does it do to the gradient's variance? No training, no data needed.

    python benchmarks/importance.py [--cases 20000] [--features 64] [--batches 4000] [--batch 32] [--seeds 5]

A softmax head on planted features (classes of 94.5, 5 and 0.5 per cent). For each seed the full gradient is computed
over all cases, then that of many drawn batches through `Stack.loss`, once with rows drawn evenly and once with
`importance_sampling`. Printed for the whole gradient, and for the part of it that rare-class cases contribute: the
largest deviation of the mean from the full gradient in standard errors, over the gradient's projections on random
directions; and the ratio of variances (summed over all weights), importance sampling over even draws: below 1 it is the
steadier of the two.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from raresight.core.task import Task
from raresight.strategies import Facts, Stack
from raresight.strategies.sampling.importance import ImportanceSampling

SHARES = (0.945, 0.05, 0.005)
TASK = Task("exclusive", ("common", "uncommon", "rare"))
DIRECTIONS = 4  # few, so that the largest of their deviations still belongs below three standard errors


def planted(n: int, features: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Features `(n, F)`, one-hot labels `(n, 3)`, and a head `(F, 3)` that has learned something, not all."""
    counts = [round(n * share) for share in SHARES[1:]]
    label = torch.arange(3).repeat_interleave(torch.tensor([n - sum(counts), *counts]))
    centre = torch.randn(3, features, generator=rng)
    z = centre[label] + 2 * torch.randn(n, features, generator=rng)
    return z, torch.eye(3)[label], 0.1 * centre.T + 0.02 * torch.randn(features, 3, generator=rng)


def gradients(stack: Stack, z: Tensor, y: Tensor, head: Tensor, ids: Tensor) -> Tensor:
    """Gradient `(B, F * 3)` of each drawn row's part of the loss, which is their mean, as the arm computes it."""
    logits = (z[ids] @ head).requires_grad_()
    total, _ = stack.loss(logits, y[ids], torch.ones_like(y[ids]), ids, 0)
    (by_logit,) = torch.autograd.grad(total, logits)
    return (z[ids][:, :, None] * by_logit[:, None, :]).flatten(1).double() * len(ids)


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, dict[str, float]]:
    rng = torch.Generator().manual_seed(seed)
    z, y, head = planted(args.cases, args.features, rng)
    plain, importance = Stack([], TASK), Stack([ImportanceSampling()], TASK)
    facts = Facts("exclusive", TASK.classes, y, torch.ones_like(y))
    plain.fit(facts)
    importance.fit(facts)
    everyone = torch.arange(len(z))
    each = gradients(plain, z, y, head, everyone)
    direction = torch.randn(each.shape[1], DIRECTIONS, generator=rng, dtype=torch.float64)
    parts = {"total": torch.ones(len(z)), "rare class": y[:, 2]}
    full = {name: (each * part[:, None]).mean(0) for name, part in parts.items()}
    even = torch.full((len(z),), 1 / len(z), dtype=torch.float64)
    drawn = importance.sample_weights()
    assert drawn is not None
    found: dict[str, dict[str, float]] = {name: {} for name in parts}
    for arm, stack, chance in (("even", plain, even), ("importance", importance, drawn)):
        means: dict[str, list[Tensor]] = {name: [] for name in parts}
        for _ in range(args.batches):
            ids = torch.multinomial(chance, args.batch, replacement=True, generator=rng)
            rows = gradients(stack, z, y, head, ids)
            for name, part in parts.items():
                means[name].append((rows * part[ids, None]).mean(0))
        for name, rows_of_part in means.items():
            batches = torch.stack(rows_of_part)
            projected = (batches - full[name]) @ direction
            errors = projected.mean(0).abs() / (projected.std(0) / args.batches**0.5)
            found[name][f"bias {arm}"] = errors.max().item()
            found[name][f"variance {arm}"] = batches.var(0).sum().item()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"cases": 20_000, "features": 64, "batches": 4000, "batch": 32, "seeds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{args.cases} cases, rare class {SHARES[2]:.1%}, batches of {args.batch}, {args.batches} batches a seed")
    print(f"{'seed':>4}  {'gradient':<11} {'bias, even':>11} {'bias, importance':>17} {'variance ratio':>15}")
    worst = 0.0
    for seed in range(args.seeds):
        for name, row in one_seed(args, seed).items():
            ratio = row["variance importance"] / row["variance even"]
            worst = max(worst, row["bias importance"])
            print(
                f"{seed:>4}  {name:<11} {row['bias even']:>8.2f} SE {row['bias importance']:>14.2f} SE {ratio:>15.3f}"
            )
    print(
        f"largest bias of importance sampling: {worst:.2f} standard errors, of {args.seeds * 2 * DIRECTIONS} looked at"
    )


if __name__ == "__main__":
    main()
