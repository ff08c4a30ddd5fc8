"""Heads that train side by side equal heads that train alone, by an ordinary torch loop over one `nn.Linear`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig, parse_config
from raresight.core.errors import ConfigError
from raresight.core.seeds import torch_rng
from raresight.evaluate.select import score, scores
from raresight.strategies import ALL, build
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Facts, Strategy, implements
from raresight.train import head_losses
from raresight.train.batches import Order
from raresight.train.head import HeadRows
from raresight.train.head_rows import Draws
from raresight.train.heads import HeadJob, HeadTable, TrainedHead, train_heads
from raresight.train.schedule import MOMENTUM, rate

N, F, K, BATCH, STEPS, EVERY = 90, 12, 3, 16, 26, 4
STUDY_SEED = 5
METHODS: dict[str, list[Any]] = {
    "baseline": [],
    "sampling": ["class_balanced_sampling"],
    "smote": ["smote"],
    "ldam": ["ldam"],
    "focal": ["focal"],
    "balanced_softmax": ["balanced_softmax"],
    "class_weights": ["class_weights"],
    "logit_adjustment": ["logit_adjustment"],
}


class Swapped(Strategy):
    """Mixes features and labels of a batch, half and half, with a partner drawn at random."""

    name: ClassVar[str] = "swapped"
    place: ClassVar[Any] = "features"

    def mix_features(self, z: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        partner = torch.randperm(len(z), generator=rng)
        return 0.7 * z + 0.3 * z[partner], 0.7 * y + 0.3 * y[partner]


class Learning(Strategy):
    """Case weights that follow from the losses seen so far: they can be shared with nobody."""

    name: ClassVar[str] = "learning"
    place: ClassVar[Any] = "losses"

    def __init__(self) -> None:
        self.level_ = torch.tensor(1.0)

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor:
        return 1 + self.level_ * target + 0.01 * ids.view(-1, 1) + 0.1 * epoch

    def observe(self, ids: Tensor, per_case: Tensor) -> None:
        self.level_ = 0.9 * self.level_ + 0.1 * per_case.mean() + 0.001 * ids.float().mean()


class Hard(Strategy):
    """Draws by the losses of the epoch before; weighs cases from epoch 2 on."""

    name: ClassVar[str] = "hard"
    place: ClassVar[Any] = "sampling"

    def __init__(self) -> None:
        self.seen_, self.draw_ = torch.ones(N), torch.ones(N)

    def start_epoch(self, epoch: int, model: nn.Module, rng: torch.Generator) -> None:
        self.draw_ = self.seen_ + torch.rand(N, generator=rng) * model.head.bias.abs().max()  # type: ignore[union-attr, operator]

    def sample_weights(self) -> Tensor:
        return self.draw_

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor | None:
        return None if epoch < 2 else 1 + target

    def observe(self, ids: Tensor, per_case: Tensor) -> None:
        self.seen_[ids] = per_case


class Unit(Strategy):
    """Deploys weights of norm 1, class by class."""

    name: ClassVar[str] = "unit"
    place: ClassVar[Any] = "schedules"

    @contextmanager
    def deployed(self, model: nn.Module) -> Iterator[None]:
        weight = model.head.weight  # type: ignore[union-attr]
        kept = weight.detach().clone()  # type: ignore[operator, union-attr]
        with torch.no_grad():
            weight /= weight.norm(dim=1, keepdim=True)  # type: ignore[operator]
            yield
            weight.copy_(kept)  # type: ignore[operator, union-attr]


class Pulling(Strategy):
    """A penalty, which frozen heads refuse."""

    name: ClassVar[str] = "pulling"
    place: ClassVar[Any] = "losses"

    def penalty(self, logits: Tensor, target: Tensor, mask: Tensor, model: nn.Module) -> Tensor:
        return logits.square().mean()


def study(kind: str, **train: Any) -> StudyConfig:
    settings = {"batch": BATCH, "head_steps": STEPS, "lr": 0.02, "weight_decay": 0.1, "evaluate_every": EVERY}
    return parse_config(
        {
            "task": {"kind": kind, "classes": ["common", "rare", "other"]},
            "image": {"size": 16},
            "train": settings | train,
        }
    )


def labels(n: int, kind: str, rng: np.random.Generator, share: tuple[float, ...] = (0.7, 0.1, 0.2)) -> np.ndarray:
    """`(n, K)` with about one label in ten unknown (a whole case, or single labels)."""
    if kind == "exclusive":
        target = np.eye(K, dtype=np.float32)[rng.choice(K, n, p=share)]
        target[:6] = np.eye(K)[[0, 1, 2, 0, 1, 2]]
        target[rng.random(n) < 0.1] = np.nan
    else:
        target = (rng.random((n, K)) < np.array([0.5, 0.15, 0.3])).astype(np.float32)
        target[rng.random((n, K)) < 0.1] = np.nan
    return target


def table_of(kind: str, views: int = 1, seed: int = 0) -> HeadTable:
    rng = np.random.default_rng(seed)
    target = labels(N, kind, rng)
    plain = rng.normal(size=(N, F)).astype(np.float32)
    plain[:, :K] += np.nan_to_num(target)
    z = np.concatenate([plain + 0.3 * view * rng.normal(size=(N, F)).astype(np.float32) for view in range(views)])
    every = torch.from_numpy(np.concatenate([target] * views))
    return HeadTable(torch.from_numpy(z), every.nan_to_num(0.0), (~every.isnan()).float(), views)


def validation(kind: str) -> tuple[Tensor, np.ndarray]:
    rng = np.random.default_rng(99)
    target = labels(60, kind, rng, (0.4, 0.3, 0.3))
    z = rng.normal(size=(60, F)).astype(np.float32)
    z[:, :K] += np.nan_to_num(target)
    return torch.from_numpy(z), target


def stack_of(methods: list[Any], config: StudyConfig) -> Stack:
    own = [method() for method in methods if isinstance(method, type)]
    named = build(Arm.parse("arm", [m for m in methods if not isinstance(m, type)]), config.problem)
    return Stack([*named.strategies, *own], config.problem)


def head_alone(
    stack: Stack, table: HeadTable, seed: int, config: StudyConfig, val: tuple[Tensor, np.ndarray]
) -> tuple[Tensor, Tensor, float | None, int]:
    """One head by an ordinary loop: nn.Linear, torch.optim, autograd through the head, hook by hook."""
    settings, kind, views = config.train, config.task.kind, table.views
    n = len(table.z) // views
    steps = settings.head_steps
    assert steps is not None
    per_epoch = -(-n // settings.batch)

    def stream(*moment: object) -> Any:
        return lambda name: torch_rng(STUDY_SEED, seed, name, *moment)

    first = table.target[:n], table.mask[:n]
    stack.fit(Facts(kind, tuple(config.task.classes), *first, steps=steps, epochs=-(-steps // per_epoch)))
    model = nn.Module()
    model.head = nn.Linear(F, K)
    rng = torch_rng(STUDY_SEED, seed, "fresh head")
    with torch.no_grad():
        for parameter in (model.head.weight, model.head.bias):
            parameter.uniform_(-(F**-0.5), F**-0.5, generator=rng)
    stack.start_head(model, stream("head"))
    case = torch.arange(views * n) % n
    made = stack.fit_features(table.z, table.target, table.mask, case, stream("features"))
    z, target, mask = table.z, table.target, table.mask
    if made is not None:  # copies of the synthetic rows, which the engine never makes
        base, other = made.base.long(), made.neighbour.long()
        z = torch.cat([z, z[base] + made.gap.view(-1, 1) * (z[other] - z[base])])
        target = torch.cat([target, made.target.float()])
        mask = torch.cat([mask, made.mask.float().expand(len(base), K)])
        case = torch.cat([case, case[base]])
    n_synthetic = (len(z) - views * n) // views

    def row(place: int, epoch: int) -> int:
        view = (epoch + place) % views
        return view * n + place if place < n else views * n + (place - n) * views + view

    epoch = 0

    def weights() -> Tensor | None:
        rows = torch.tensor([row(place, epoch) for place in range(n + n_synthetic)])
        of_head = stack.head_sample_weights(target[rows], mask[rows])
        if of_head is not None:
            return of_head
        of_cases = stack.sample_weights()
        return None if of_cases is None else of_cases[case[rows]]

    order = Order(
        n + n_synthetic,
        settings.batch,
        study_seed=STUDY_SEED,
        run_seed=seed,
        name="head order",
        weights=weights,
        cases=n,
    )
    groups = [
        {"params": [model.head.weight], "weight_decay": settings.weight_decay},
        {"params": [model.head.bias], "weight_decay": 0.0},
    ]
    optimiser: torch.optim.Optimizer
    if settings.optimiser == "sgd":
        optimiser = torch.optim.SGD(groups, lr=settings.lr, momentum=MOMENTUM, nesterov=True)
    else:
        optimiser = torch.optim.AdamW(groups, lr=settings.lr)
    every = min(settings.evaluate_every or per_epoch, -(-steps // 5))
    best: tuple[Tensor, Tensor, float | None, int] | None = None
    begun = False
    for step in range(steps):
        epoch = step // per_epoch
        if step % per_epoch == 0:
            stack.start_epoch(epoch, model, stream("head epoch", epoch))
        for group in optimiser.param_groups:
            group["lr"] = rate(step, steps, base=settings.lr, warmup=settings.warmup)
        rows = torch.tensor([row(int(place), epoch) for place in order.rows(step)])
        y = torch.where(mask[rows] > 0, target[rows], torch.nan)
        batch, y = stack.mix_features(z[rows], y, stream(step))
        known = (~y.isnan()).float()
        optimiser.zero_grad()
        loss, per_case = stack.loss(model.head(batch), y.nan_to_num(0.0), known, case[rows], epoch, model)
        loss.backward()
        if settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.head.parameters(), settings.clip)
        optimiser.step()
        if per_case is not None:
            real = rows < views * n
            stack.observe(case[rows][real], per_case[real])
        if (step + 1) % every == 0 or step + 1 == steps:
            with stack.deployed(model), torch.no_grad():
                logits = stack.adjust(model.head(val[0])).double()
                prob = (logits.softmax(1) if kind == "exclusive" else logits.sigmoid()).numpy()
                value = score(val[1], prob, kind, settings.select)
                first_begun = not begun and (begun := stack.begun(epoch))
                if best is None or (best[2] is not None and value > best[2]) or first_begun:
                    best = model.head.weight.detach().clone(), model.head.bias.detach().clone(), value, step + 1
    assert best is not None
    return best


def test_every_epoch_shows_all_views_and_every_case_meets_each() -> None:
    """Even a head of less than an epoch sees what its arm does to images; V epochs show each row of the table once."""
    table = HeadTable(torch.zeros(36, F), torch.zeros(36, K), torch.ones(36, K), views=3)
    stack = stack_of([], study("exclusive"))
    draws = Draws(table, HeadRows(table.z, table.target, table.mask, None), stack, 4, STUDY_SEED, 0)
    epochs = [np.concatenate([draws.rows(3 * epoch + k) for k in range(3)]) for epoch in range(3)]
    for epoch, rows in enumerate(epochs):
        assert sorted(rows % 12) == list(range(12)), "an epoch shows every case once"
        assert np.bincount(rows // 12).tolist() == [4, 4, 4], "and all views in equal shares"
        assert {row // 12 for row in rows if row % 12 == 7} == {(epoch + 7) % 3}
    assert sorted(np.concatenate(epochs)) == list(range(36))


def jobs_of(
    arms: dict[str, list[Any]], seeds: range, table: HeadTable, config: StudyConfig, order: int = 1
) -> list[HeadJob]:
    return [HeadJob(name, stack_of(arms[name], config), table, s) for s in seeds for name in list(arms)[::order]]


def trained(jobs: list[HeadJob], config: StudyConfig) -> list[TrainedHead]:
    z, target = validation(config.task.kind)
    return train_heads(jobs, val_z=z, val_target=target, config=config, study_seed=STUDY_SEED)


def assert_alone(head: TrainedHead, arms: dict[str, list[Any]], table: HeadTable, config: StudyConfig) -> None:
    val = validation(config.task.kind)
    stack = stack_of(arms[head.name], config)
    weight, bias, value, step = head_alone(stack, table, head.seed, config, val)
    what = f"{head.name}, seed {head.seed}"
    assert (head.step, head.score) == (step, pytest.approx(value, abs=1e-9)), what
    assert (head.weight - weight).abs().max() <= 1e-5, what
    assert (head.bias - bias).abs().max() <= 1e-5, what
    assert (val[0] @ (head.weight - weight).T + head.bias - bias).abs().max() <= 1e-5, what
    prior = stack.implied_prior()
    assert (head.implied_prior is None) == (prior is None), what
    assert prior is None or torch.equal(head.implied_prior, prior), what  # type: ignore[arg-type]
    assert head.findings == stack.findings()


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_eight_methods_by_four_seeds_equal_the_heads_trained_alone(kind: str, views: int) -> None:
    config, table = study(kind), table_of(kind, views)
    heads = trained(jobs_of(METHODS, range(4), table, config), config)
    assert [(head.seed, head.name) for head in heads] == [(seed, name) for seed in range(4) for name in METHODS]
    for head in heads:
        assert_alone(head, METHODS, table, config)
    different = {head.name: head.weight for head in heads if head.seed == 2}
    assert all(
        (different["baseline"] - different[name]).abs().max() > 1e-3
        for name in set(METHODS) - {"baseline", "logit_adjustment"}
    )


@pytest.mark.parametrize(("kind", "optimiser"), [("exclusive", "sgd"), ("independent", "adamw")])
def test_clipping_shortens_each_head_s_gradient_by_itself(kind: str, optimiser: str) -> None:
    """The limit binds for some heads in some steps alone: one norm over all heads would couple them."""
    config, table = study(kind, optimiser=optimiser, clip=0.3), table_of(kind)
    heads = trained(jobs_of(METHODS, range(2), table, config), config)
    for head in heads:
        assert_alone(head, METHODS, table, config)
    free = study(kind, optimiser=optimiser)
    unclipped = trained(jobs_of(METHODS, range(2), table, free), free)
    assert all((a.weight - b.weight).abs().max() > 1e-4 for a, b in zip(heads, unclipped, strict=True))


SPECIAL: dict[str, list[Any]] = {
    "mixed": [Swapped],
    "mixed, weighed": ["class_weights", Swapped],
    "learning": [Learning],
    "learning, focal": ["focal", Learning],
    "hard": [Hard],
    "hard, ldam": ["ldam", Hard],
    "unit": [Unit],
    "retrained": ["classifier_retraining"],
    "retrained, smote": ["smote", "classifier_retraining"],
    "sampling, smote": ["class_balanced_sampling", "smote"],
    "sampling, ldam": ["class_balanced_sampling", "ldam"],
}


@pytest.mark.parametrize(("kind", "views"), [("exclusive", 2), ("independent", 1)])
def test_heads_with_batches_losses_or_weights_of_their_own_equal_the_heads_trained_alone(kind: str, views: int) -> None:
    config, table = study(kind, optimiser="sgd"), table_of(kind, views)
    for head in trained(jobs_of(SPECIAL | METHODS, range(2), table, config), config):
        assert_alone(head, SPECIAL | METHODS, table, config)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_every_method_that_can_train_a_frozen_head_equals_the_head_trained_alone(kind: str) -> None:
    config, table = study(kind), table_of(kind)
    hindered = ("step", "after_step", "penalty", "mix_inputs")
    able = [m for m in ALL if kind in m.kinds and not any(implements(m.__new__(m), hook) for hook in hindered)]
    arms: dict[str, list[Any]] = {method.name: [method.name] for method in able}
    assert len(arms) > 10
    for head in trained(jobs_of(arms, range(2), table, config), config):
        assert_alone(head, arms, table, config)


def test_a_head_is_the_same_whatever_trains_beside_it_and_in_whatever_order() -> None:
    config, table = study("exclusive"), table_of("exclusive")
    beside = {(h.name, h.seed): h for h in trained(jobs_of(METHODS | SPECIAL, range(3), table, config, -1), config)}
    for name in ("smote", "ldam", "learning", "mixed"):
        (alone,) = trained(jobs_of({name: (METHODS | SPECIAL)[name]}, range(1, 2), table, config), config)
        other = beside[name, 1]
        assert (alone.weight - other.weight).abs().max() <= 1e-5
        assert (alone.step, alone.score) == (other.step, pytest.approx(other.score, abs=1e-9))


def test_the_same_jobs_give_the_same_heads_bit_for_bit() -> None:
    config, table = study("independent"), table_of("independent")
    one, two = (trained(jobs_of(METHODS, range(2), table, config), config) for _ in range(2))
    assert all(torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_without_the_rescaling_of_joined_gradients_heads_are_not_the_heads_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, table = study(kind, optimiser="sgd"), table_of(kind)
    right = head_losses.Losses.scales
    mutants: list[Any] = [
        lambda self, mask: torch.ones_like(right(self, mask)),
        lambda self, mask: 1 / right(self, mask),
        lambda self, mask: torch.full_like(right(self, mask), 2.0),  # the number of heads: right but for unknown labels
    ]
    for mutant in mutants:
        monkeypatch.setattr(head_losses.Losses, "scales", mutant)
        for head in trained(jobs_of({"focal": ["focal"]}, range(2), table, config), config):
            with pytest.raises(AssertionError):
                assert_alone(head, METHODS, table, config)


def test_the_scale_of_a_gradient_is_known_of_all_over_known_of_the_head() -> None:
    mask = torch.ones(1, 3, 2, 4)
    mask[0, 0, 0, :3] = 0  # head 0: five known labels of eight, one known exclusive case of four
    mask[0, 1, 1, 3] = 0  # head 1: seven and three
    mask[0, 2] = 0  # head 2: none
    groups = [head_losses.Group([0, 1], Stack([], study("exclusive").problem), joined=True, as_map=True)]
    groups.append(head_losses.Group([2], groups[0].stack, joined=True, as_map=True))
    exclusive = head_losses.Losses(groups, "exclusive", mask.device).scales(mask)
    assert exclusive.flatten().tolist() == pytest.approx([4 / 1, 4 / 3, 1])
    independent = head_losses.Losses(groups, "independent", mask.device).scales(mask)
    assert independent.flatten().tolist() == pytest.approx([12 / 5, 12 / 7, 1])


def test_losses_are_shared_by_equal_arms_alone() -> None:
    config, table = study("exclusive"), table_of("exclusive")
    written = [[], ["smote"], ["focal"], [{"focal": {"gamma": 1.0}}], ["focal"], ["class_weights"], [Learning], [Hard]]
    stacks = [stack_of(methods, config) for methods in [*written, ["class_weights"], [Hard], [Learning]]]
    for stack in stacks:
        stack.fit(Facts("exclusive", tuple(config.task.classes), table.target, table.mask))

    def groups(epoch: int) -> list[list[int]]:
        found = head_losses.groups_of(stacks, epoch, table.target[:9], table.mask[:9], table.ids[:9])
        assert all(group.joined for group in found if len(group.heads) > 1)
        return [group.heads for group in found]

    assert groups(0) == [[0, 1], [2, 4], [3], [5, 8], [6], [7, 9], [10]]
    assert groups(2) == [[0, 1], [2, 4], [3], [5, 8], [6], [7], [9], [10]]  # from then on Hard weighs, and it learns


def test_methods_that_need_a_whole_network_are_refused_by_name() -> None:
    config, table = study("exclusive"), table_of("exclusive")
    for methods, name in ((["ema"], "ema"), (["sam"], "sam"), ([Pulling], "pulling")):
        with pytest.raises(ConfigError) as caught:
            trained(jobs_of({"odd": methods}, range(1), table, config), config)
        (problem,) = caught.value.problems
        assert problem.code == "RS-C35" and f"'{name}'" in problem.found and problem.column == f"arms.odd.{name}"
        assert problem.remedy.startswith("train it end to end")


def test_tables_of_their_own_seeds_sizes_and_validation_features_train_in_one_call() -> None:
    config = study("exclusive")
    tables = [table_of("exclusive", seed=1), table_of("exclusive", seed=2), table_of("exclusive", views=2, seed=3)]
    val_z, target = validation("exclusive")
    own = HeadTable(tables[1].z, tables[1].target, tables[1].mask, val_z=val_z.flip(1))
    said: list[tuple[int, int]] = []
    jobs = [
        HeadJob(name, stack_of(METHODS[name], config), table, seed)
        for seed, table in enumerate([tables[2], tables[0], own])
        for name in ("smote", "ldam", "sampling")
    ]
    heads = train_heads(
        jobs,
        val_z=val_z,
        val_target=target,
        config=config,
        study_seed=STUDY_SEED,
        progress=lambda done, total: said.append((done, total)),
    )
    assert said[-1] == (2 * STEPS, 2 * STEPS) and said == sorted(said)
    for head, job in zip(heads, jobs, strict=True):
        z = val_z if job.table.val_z is None else job.table.val_z
        weight, _, value, step = head_alone(
            stack_of(METHODS[job.name], config), job.table, job.seed, config, (z, target)
        )
        assert (head.weight - weight).abs().max() <= 1e-5
        assert (head.step, head.score) == (step, pytest.approx(value, abs=1e-9))


def test_without_validation_the_last_weights_are_kept_and_broken_ones_are_named() -> None:
    config, table = study("exclusive"), table_of("exclusive")
    jobs = jobs_of({"baseline": []}, range(1), table, config)
    nothing = {"val_z": torch.empty(0, F), "val_target": np.empty((0, K), np.float32), "study_seed": STUDY_SEED}
    (head,) = train_heads(jobs, config=config, **nothing)  # type: ignore[arg-type]
    assert (head.score, head.step) == (None, STEPS)
    with pytest.raises(ConfigError, match=r"arm 'baseline', seed 0"):
        train_heads(jobs, config=study("exclusive", optimiser="sgd", lr=1e38), **nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["macro_auprc", "macro_auroc", "macro_f1", "balanced_accuracy", "expected_cost"])
@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_scores_of_many_models_are_those_of_each(kind: Any, rule: str) -> None:
    rng = np.random.default_rng(3)
    target = labels(80, kind, rng).astype(np.float64)
    target[:, 2] = np.where(np.isnan(target[:, 2]), np.nan, 0.0)  # a class that is absent
    prob = rng.random((6, 80, K))
    prob[1] = prob[1].round(1)  # many ties
    prob[2] = 0.5
    prob[3] = np.abs(prob[3] - 0.6).clip(0.0) * -0.0 + (prob[3] > 0.5)  # zeros, some of them written -0.0
    prob[4, 7, 1] = np.nan
    prob[5] = np.float32(prob[5]) * 1e-30
    together = scores(target, prob, kind, rule, [5.0, 1.0, 2.0])
    each = [score(target, one, kind, rule, [5.0, 1.0, 2.0]) for one in prob]
    np.testing.assert_array_equal(together, each)
    assert np.isnan(together[4]) and np.isfinite(np.delete(together, 4)).all()
    below = scores(target, prob[:2] - 0.5, kind, rule, [5.0, 1.0, 2.0])
    np.testing.assert_array_equal(below, [score(target, p - 0.5, kind, rule, [5.0, 1.0, 2.0]) for p in prob[:2]])
