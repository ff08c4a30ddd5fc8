"""Can the rows of rare classes pass a batch-normalised network alone? python benchmarks/tail_passes.py STUDY ARM SEED

Imbalanced SAM adds grad L_tail(w + e) - grad L_tail(w) to the batch's gradient. Exactly, L_tail is the part that the
tail's rows have in the loss of a batch that passes together; it would be cheaper to pass these rows alone. For some
batches of a trained run of STUDY, and of the same network at random weights, this prints how each cheaper way's
correction compares with the exact one: its length, and the cosine of the angle between the two.

    whole     all rows pass, the tail's are counted (exact)
    fixed     the tail's rows pass, normalised by the whole batch's statistics as constants
    alone     the tail's rows pass and normalise themselves
    company n the tail's rows pass with n others
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raresight import Study
from raresight.core.files import write_text
from raresight.strategies.steps.perturbation import moved, taken
from raresight.train.batches import Images
from raresight.train.checkpoint import load_network
from raresight.train.closure import batch_norms, frozen_statistics
from raresight.train.predict import new_model
from raresight.train.runtime import Runtime
from raresight.verbs.training import cases, locked_runtime

RHO = 0.05
BELOW = 0.1
COMPANY = (7, 19)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path)
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    study = Study.open(asked.study)._opened()
    config, runtime = study.config, locked_runtime(study)
    training = cases(study, study.folds.rows(study.manifest, "train", None))
    lines = [
        f"# Passing the rows of rare classes alone, {date.today().isoformat()}",
        "",
        f"`python benchmarks/tail_passes.py STUDY {asked.arm} {asked.seed} --batches {asked.batches}`:",
        f"{config.model.backbone} at {config.image.size} px, batch {config.train.batch}, rho {RHO}, "
        f"tail: classes below {BELOW:.0%}.",
        "Correction = gradient of the tail's loss at w + e less that at w. Medians over batches (least to most).",
        "",
        "| weights | passes | tail's loss at w | length of the correction | cosine with the exact one |",
        "|---|---|---|---|---|",
    ]
    with runtime.settled():
        for weights in ("random", "trained"):
            model = new_model(config, runtime, rng_seed=asked.seed, random_weights=True).train()
            if weights == "trained":
                load_network(study.folder.run(asked.arm, asked.seed).last, model)
            found = measured(
                model, Images(training, runtime), training.target, config.train.batch, asked.batches, runtime
            )
            for name, rows in found.items():
                cells = [spread([row[i] for row in rows]) for i in range(3)]
                lines.append(f"| {weights} | {name} | " + " | ".join(cells) + " |")
    text = "\n".join([*lines, ""])
    print(text)
    if asked.table:
        write_text(asked.table, text)


def measured(
    model: nn.Module, images: Images, target: np.ndarray, batch: int, n: int, runtime: Runtime
) -> dict[str, list[tuple[float, float, float]]]:
    """Per way of passing and batch: the tail's loss, the length of the correction, its cosine with the exact one."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(np.asarray(target))
    rare = labels.mean(0) < BELOW
    parameters = list(model.parameters())
    found: dict[str, list[tuple[float, float, float]]] = {}
    while len(next(iter(found.values()), [])) < n:
        drawn = rng.permutation(len(labels))[:batch]
        x, y = images(drawn), labels[drawn]
        tail = y[:, rare].any(1).nonzero().squeeze(1)
        if len(tail) < 2:
            continue
        others = (~y[:, rare].any(1)).nonzero().squeeze(1)
        fixed = batch_statistics(model, x, runtime)
        ways: dict[str, tuple[Tensor, Callable[[], AbstractContextManager[None]]]] = {
            "whole": (torch.cat([tail, others]), lambda: frozen_statistics(model)),
            "fixed": (tail, lambda fixed=fixed: normalised_by(model, fixed)),
            "alone": (tail, lambda: frozen_statistics(model)),
        }
        for company in COMPANY:
            ways[f"company {company}"] = (torch.cat([tail, others[:company]]), lambda: frozen_statistics(model))
        exact: list[Tensor] = []
        for name, (rows, context) in ways.items():
            with context():
                loss, before = gradient(model, parameters, x[rows], y[rows], len(tail), batch, runtime)
                with moved(parameters, before, RHO):
                    _, after = gradient(model, parameters, x[rows], y[rows], len(tail), batch, runtime)
            correction = [b - a for a, b in zip(before, after, strict=True)]
            exact = exact or correction
            length = norm(correction)
            product = sum((a * b).sum() for a, b in zip(correction, exact, strict=True))
            found.setdefault(name, []).append((loss, length, float(product) / (length * norm(exact))))
    return found


def gradient(
    model: nn.Module, parameters: list[Tensor], x: Tensor, y: Tensor, n_counted: int, batch: int, runtime: Runtime
) -> tuple[float, list[Tensor]]:
    """Loss and gradient of the first `n_counted` rows, as their part in a batch of `batch`."""
    with runtime.autocast():
        z = model.features(model.normalise(x))
    logits = model.head(z.float())[:n_counted]
    loss = -(y[:n_counted] * logits.log_softmax(1)).sum() / batch
    loss.backward()
    return loss.item(), taken(parameters)


def batch_statistics(model: nn.Module, x: Tensor, runtime: Runtime) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance that every batch normalisation sees for `x`; the running ones stay as they are."""
    layers = batch_norms(model)
    kept = [(layer.running_mean.clone(), layer.running_var.clone(), layer.momentum) for layer in layers]
    for layer in layers:
        layer.momentum = 1.0
    with torch.no_grad(), runtime.autocast():
        model.features(model.normalise(x))
    seen = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]
    for layer, (mean, variance, momentum) in zip(layers, kept, strict=True):
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
        layer.momentum = momentum
    return seen


@contextmanager
def normalised_by(model: nn.Module, seen: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Batch normalisation by the given statistics, as constants."""
    layers = batch_norms(model)
    own = [(layer.running_mean, layer.running_var) for layer in layers]
    for layer, (mean, variance) in zip(layers, seen, strict=True):
        layer.running_mean, layer.running_var = mean, variance
        layer.eval()
    try:
        yield
    finally:
        for layer, (mean, variance) in zip(layers, own, strict=True):
            layer.running_mean, layer.running_var = mean, variance
            layer.train()


def norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm())


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
