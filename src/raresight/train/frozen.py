"""Arms that train their head alone, on the features of another arm's best weights.

The features of a source run are extracted once and kept in memory; all heads that stand on them train together
(`train/heads.py`). An arm that changes its images (augmentation, mixup) sees several views of every case: view 0 is
the plain image, view v the image as `mix_inputs` makes it with the stream named `("view", v)`, soft labels included.
Which view a case is seen as moves from case to case and from epoch to epoch (`train/head_rows.py`), so that a short
training sees changed images too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.core.files import sha256, sweep, write_json, write_jsonl
from raresight.core.run import RunFolder
from raresight.core.seeds import torch_rng
from raresight.models.backbones import Classifier
from raresight.strategies.stack import Stack, Stream
from raresight.strategies.strategy import Strategy, implements, owners
from raresight.train.batches import Cases, Images, Order
from raresight.train.checkpoint import (
    Progress,
    identity_of,
    load_network,
    load_resume,
    save_head,
    save_labels,
    save_resume,
)
from raresight.train.course import implied
from raresight.train.head_safety import safety_of
from raresight.train.heads import END_TO_END, HeadJob, HeadTable, TrainedHead, head_steps_of, train_heads
from raresight.train.predict import LABELS, Features, facts_of, new_model, no_weights, require_source
from raresight.train.runtime import Runtime, peak_gb
from raresight.train.trouble import named_trouble

# Hooks through which a method reaches a head on extracted features (images change through views).
ACTING = (
    "sample_weights",
    "mix_inputs",
    "mix_features",
    "fit_features",
    "head_sample_weights",
    "case_weights",
    "loss",
    "start_head",
    "deployed",
    "adjust",
)

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class FrozenRun:
    """One head to train: its folder, its arm, and the arm's methods."""

    run: RunFolder
    arm: Arm
    stack: Stack


@dataclass
class Source:
    """A trained run whose network is left as it is: the tables that heads train on, made when first asked for."""

    run: RunFolder
    config: StudyConfig
    train: Cases
    val: Cases
    runtime: Runtime
    study_seed: int
    features: Features = field(default_factory=Features)
    _tables: dict[tuple[str, ...], HeadTable] = field(default_factory=dict)

    def job(self, name: str, arm: Arm, stack: Stack, seed: int) -> HeadJob:
        """A head of this arm on these features; its methods are fitted to the training labels here."""
        stack.fit(facts_of(*self.train.labels(), self.config))
        return HeadJob(name=name, stack=stack, table=self.table(arm, stack), seed=seed)

    def table(self, arm: Arm, stack: Stack) -> HeadTable:
        """Features and labels of the training part, view after view; arms that change images alike share one table."""
        changing = zip(arm.strategies, stack.strategies, strict=True)
        key = tuple(
            repr((spec.name, sorted(spec.settings.items())))
            for spec, strategy in changing
            if implements(strategy, "mix_inputs")
        )
        if key not in self._tables:
            self._tables[key] = self._table(stack)
        return self._tables[key]

    def heads(self, jobs: Sequence[HeadJob], progress: Advance | None = None) -> list[TrainedHead]:
        """Train all of them at once, each as it would be trained alone."""
        z_val = self.features(self.run, self.config, self.val, self.runtime)
        return train_heads(
            jobs,
            val_z=z_val,
            val_target=self.val.target,
            config=self.config,
            study_seed=self.study_seed,
            progress=progress,
        )

    def _table(self, stack: Stack) -> HeadTable:
        plain = self.features(self.run, self.config, self.train, self.runtime)
        target, mask = self.train.labels()
        z, targets, masks = [plain], [target.to(plain.device)], [mask.to(plain.device)]
        views = n_views(stack, self.config)
        if views > 1:
            model = new_model(self.config, self.runtime, rng_seed=0, random_weights=True)
            load_network(self.run.best, model)
            model.eval()
            for view in range(1, views):
                changed, soft = self._view(model, stack, view)
                z.append(changed)
                targets.append(soft.nan_to_num(0.0))
                masks.append((~soft.isnan()).to(soft.dtype))
        return HeadTable(z=torch.cat(z), target=torch.cat(targets), mask=torch.cat(masks), views=views)

    def _stream(self, *moment: object) -> Stream:
        return lambda name: torch_rng(self.study_seed, self.run.seed, name, "view", *moment)

    def _view(self, model: Classifier, stack: Stack, view: int) -> tuple[Tensor, Tensor]:
        """Features `(N, F)` and labels `(N, K)` (NaN where unknown) of the images as the arm changes them.

        Images meet their partners in batches drawn at random: a manifest in the order of its classes would otherwise
        mix every case with its like.
        """
        n, batch_size = len(self.train), self.config.train.batch
        order = Order(n, batch_size, study_seed=self.study_seed, run_seed=self.run.seed, name="view order")
        images = Images(self.train, self.runtime, resident=False)
        known = torch.from_numpy(np.array(self.train.target, dtype=np.float32)).to(self.runtime.device)
        z = torch.empty(n, model.head.in_features, device=self.runtime.device)
        target = torch.empty_like(known)
        with torch.no_grad():
            for batch in range(order.per_epoch):
                rows = order.rows(view * order.per_epoch + batch)
                ids = torch.from_numpy(rows).to(z.device)
                x, y = stack.mix_inputs(images(rows), known[ids], self._stream(view, batch))
                with self.runtime.autocast():
                    z_batch = model.features(model.normalise(x))
                z[ids], target[ids] = z_batch.float(), y
        return z, target


def train_frozen(
    heads: Sequence[FrozenRun], source: Source, *, data_hash: str, progress: Advance | None = None
) -> None:
    """Train every head that is not trained yet; write its run folder as that of an ordinary arm, weights of head alone.

    Each folder gets `arm.json env.json events.jsonl labels.safetensors best.safetensors resume.pt` (its identity).
    What a head becomes does not depend on the others: a batch that was killed trains those that are missing.

    Raises: `ConfigError` RS-R44 where a head was begun with other settings, or on other weights of its source;
    RS-R44b where the source is not trained; RS-R45 where memory or disk runs out.
    """
    if not source.run.best.exists():
        raise no_weights(source.run)
    weights = sha256(source.run.best)
    todo: list[tuple[FrozenRun, dict[str, Any]]] = []
    for head in heads:
        sweep(head.run.path)
        identity = identity_of(
            head.arm,
            source.config,
            source.runtime,
            study_seed=source.study_seed,
            run_seed=head.run.seed,
            data_hash=data_hash,
            views=n_views(head.stack, source.config),
            source_sha256=weights,
        )
        if head.run.resume.exists() and head.run.arm_json.exists():
            require_source(head.run, source.run)
        if load_resume(head.run.resume, identity, head.run) is None:
            todo.append((head, identity))
    if not todo:
        return
    with source.runtime.settled(), named_trouble(source.config):
        jobs = [source.job(head.arm.name, head.arm, head.stack, head.run.seed) for head, _ in todo]
        heads_trained = source.heads(jobs, progress)
        safety = safety_of(jobs, heads_trained, source.study_seed)
        for (head, identity), trained, safe in zip(todo, heads_trained, safety, strict=True):
            _write(head, source, trained, safe, identity, weights)


def n_views(stack: Stack, config: StudyConfig) -> int:
    """How many views of an image an arm sees: one unless it changes images."""
    return config.train.views if owners(stack.strategies, "mix_inputs") else 1


def refuse_idle(arm: Arm, stack: Stack) -> None:
    """Raise a `ConfigError` RS-C35 for a method of a frozen arm that can do nothing there."""
    for strategy in stack.strategies:
        if not acts(strategy):
            raise ConfigError(
                Problem(
                    code="RS-C35",
                    level="error",
                    file="study.yaml",
                    column=f"arms.{arm.name}.{strategy.name}",
                    found=f"'{strategy.name}' acts while a whole network is trained; this arm trains its head alone",
                    why="the arm would be the same without it",
                    remedy=f"leave '{strategy.name}' out, or leave out {{frozen: {arm.frozen}}}",
                )
            )


def acts(strategy: Strategy) -> bool:
    """Whether a method does there what it does in the training of a whole network."""
    hampered = any(implements(strategy, hook) for hook in END_TO_END)
    return not hampered and any(implements(strategy, hook) for hook in ACTING)


def _write(
    head: FrozenRun,
    source: Source,
    trained: TrainedHead,
    safe: list[dict[str, Any]],
    identity: dict[str, Any],
    weights_sha256: str,
) -> None:
    """The run folder; the identity comes last, so that a kill before it trains this head again."""
    run, stack, config = head.run, head.stack, source.config
    (run.path / LABELS).unlink(missing_ok=True)
    save_labels(run.path / LABELS, *source.train.labels())
    save_head(run.best, trained.weight, trained.bias, stack)
    write_json(
        run.arm_json,
        head.arm.as_dict()
        | implied(trained.implied_prior, trained.findings, config.task.classes)
        | {
            "seed": run.seed,
            "fold": run.fold,
            "select": config.train.select,
            "views": n_views(stack, config),
            "frozen_sha256": weights_sha256,
            "weights": f"the best weights of {source.run.arm}, seed {source.run.seed}; the head alone was trained",
        }
        | ({"safety": safe} if safe else {}),
    )
    counts = {"n_train": len(source.train), "n_val": len(source.val)}
    write_json(run.env, source.runtime.described() | counts | {"peak_gb": peak_gb()})
    event = {"phase": "head", "step": trained.step, "score": trained.score, "rule": config.train.select, "best": True}
    write_jsonl(run.events, [event | {"steps": head_steps_of(config, len(source.train))}])
    save_resume(run.resume, identity, Progress(phase="head", step=trained.step, best_score=trained.score))
