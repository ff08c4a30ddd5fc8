"""Heads on another run's features: tables, views, folders, and what makes them stale."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_study import Average, Bench, Mixing, Retrained, TwoPasses
from torch import Tensor

from raresight.core.arm import Arm, StrategySpec
from raresight.core.errors import ConfigError
from raresight.core.files import read_json, sha256
from raresight.core.run import RunFolder
from raresight.core.seeds import numpy_rng, torch_rng
from raresight.strategies.features.smote import SMOTE
from raresight.strategies.losses.focal import Focal
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Strategy
from raresight.train import frozen, predict
from raresight.train.checkpoint import identity_of
from raresight.train.frozen import FrozenRun, Source, acts, refuse_idle, train_frozen
from raresight.train.predict import Features, new_model


class Darken(Strategy):
    """Half as bright; labels of half the strength."""

    name: ClassVar[str] = "darken"
    place: ClassVar[Any] = "inputs"

    def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return 0.5 * x, 0.5 * y


def source_of(bench: Bench, **changes: Any) -> Source:
    run = bench.train("whole")
    options = {"study_seed": 1, **changes}
    return Source(run, bench.config, bench.train_cases, bench.val_cases, bench.runtime, **options)


def head(bench: Bench, name: str, *strategies: Strategy) -> FrozenRun:
    arm = Arm(name, tuple(StrategySpec(strategy.name) for strategy in strategies), frozen="whole")
    return FrozenRun(RunFolder(bench.folder / name, name, 0), arm, Stack(strategies, bench.config.problem))


def train(bench: Bench, heads: Sequence[FrozenRun], source: Source | None = None) -> Source:
    source = source or source_of(bench)
    train_frozen(heads, source, data_hash="data")
    return source


def network(bench: Bench) -> Any:
    model = new_model(bench.config, bench.runtime, rng_seed=0)
    tensors = load_file(bench.folder / "whole" / "best.safetensors")
    model.load_state_dict(tensors)
    return model.eval()


def test_view_0_is_the_plain_image_and_the_others_are_changed(bench: Bench) -> None:
    source = source_of(bench)
    table = source.job("dark", *arm_and_stack(bench, Darken()), seed=0).table
    model, images = network(bench), torch.from_numpy(bench.train_cases.pixels[bench.train_cases.rows]) / 255
    x = images.permute(0, 3, 1, 2)
    with torch.no_grad():
        plain, dark = (model.features(model.normalise(image)) for image in (x, 0.5 * x))
    target, mask = bench.train_cases.labels()
    assert table.views == 4 and len(table.z) == 4 * len(x)
    assert torch.allclose(table.z[: len(x)], plain, atol=1e-5)
    assert torch.equal(table.target[: len(x)], target)
    for view in range(1, 4):
        part = slice(view * len(x), (view + 1) * len(x))
        assert torch.allclose(table.z[part], dark, atol=1e-5)
        assert torch.equal(table.target[part], 0.5 * target) and torch.equal(table.mask[part], mask)


def test_views_draw_from_streams_of_their_own_in_random_batches(bench: Bench) -> None:
    """Mixed labels written out: batch b of view v pairs by (study seed, run seed, name, "view", v, b)."""
    table = source_of(bench).job("mixed", *arm_and_stack(bench, Mixing()), seed=0).table
    y, n = torch.from_numpy(bench.train_cases.target), len(bench.train_cases)
    n_batches = -(-n // 8)
    for view in (1, 3):
        order = numpy_rng(1, 0, "view order", view).permutation(n)
        expected = torch.empty_like(y)
        for b in range(n_batches):
            rows = order[n * b // n_batches : n * (b + 1) // n_batches]
            partner = torch.randperm(len(rows), generator=torch_rng(1, 0, "mixing", "view", view, b))
            expected[rows] = 0.5 * (y[rows] + y[rows][partner])
        assert torch.allclose(table.target[view * n : (view + 1) * n], expected)


def test_unknown_labels_are_masked_in_every_view(bench: Bench) -> None:
    target = bench.train_cases.target.copy()
    target[4] = np.nan
    bench = replace(bench, train_cases=replace(bench.train_cases, target=target))
    table = source_of(bench).job("dark", *arm_and_stack(bench, Darken()), seed=0).table
    unknown = (table.mask == 0).any(1).nonzero().flatten().tolist()
    assert unknown == [4, 34, 64, 94] and not table.target.isnan().any()


def arm_and_stack(bench: Bench, *strategies: Strategy) -> tuple[Arm, Stack]:
    made = head(bench, "arm", *strategies)
    return made.arm, made.stack


def test_arms_that_change_images_alike_share_a_table(bench: Bench) -> None:
    source = source_of(bench)
    table = lambda *strategies: source.job("x", *arm_and_stack(bench, *strategies), seed=0).table  # noqa: E731
    assert table(Mixing()) is table(Focal(), Mixing())
    assert table() is table(Focal())
    assert table(Mixing()) is not table(Darken()) is not table()


def test_one_view_where_the_study_asks_for_one(bench: Bench) -> None:
    table = source_of(bench.with_train(views=1)).job("dark", *arm_and_stack(bench, Darken()), seed=0).table
    assert table.views == 1 and len(table.z) == len(bench.train_cases)


def test_where_synthetic_rows_lie_is_asked_once_and_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two arms of one seed with the same SMOTE share the answer; another k has its own; none without synthetic rows."""
    asked: list[int] = []
    ask = Stack.safety

    def counted(self: Stack, *rest: Any) -> Any:
        asked.append(1)
        return ask(self, *rest)

    monkeypatch.setattr(Stack, "safety", counted)
    arms = {"a": (SMOTE(k=1),), "b": (SMOTE(k=1), Focal()), "c": (SMOTE(k=2),), "d": (Focal(),)}
    train(bench, [head(bench, name, *strategies) for name, strategies in arms.items()])
    said = {name: read_json(bench.folder / name / "arm.json").get("safety") for name in arms}
    assert len(asked) == 2
    assert said["a"] == said["b"] and said["a"] and said["d"] is None
    keys = {"class", "n_real", "n_synthetic", "unsafe_before", "unsafe_synthetic", "unsafe_after"}
    assert all(keys <= set(row) for row in [*said["a"], *said["c"]])


def test_what_a_head_becomes_does_not_depend_on_the_others(bench: Bench) -> None:
    """Killed after the first folder: the second head, trained later without it, is the same."""
    train(bench, [head(bench, "a", Focal()), head(bench, "b", Mixing()), head(bench, "c")])
    kept = {name: load_file(bench.folder / name / "best.safetensors") for name in "abc"}
    before = (bench.folder / "a" / "best.safetensors").stat().st_mtime_ns
    for name in "bc":
        for path in (bench.folder / name).iterdir():
            path.unlink()
    train(bench, [head(bench, "c"), head(bench, "a", Focal()), head(bench, "b", Mixing())])
    assert (bench.folder / "a" / "best.safetensors").stat().st_mtime_ns == before
    for name in "bc":
        again = load_file(bench.folder / name / "best.safetensors")
        assert all(torch.allclose(again[key], value, atol=1e-6) for key, value in kept[name].items())


class Killed(BaseException):
    """Nothing may catch it."""


@pytest.mark.parametrize("after", range(0, 16, 3))
def test_killed_at_a_write(bench: Bench, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = train(bench, [head(bench, "a", Focal()), head(bench, "b")])
    whole = {name: load_file(bench.folder / name / "best.safetensors") for name in "ab"}
    for name in "ab":
        for path in (bench.folder / name).iterdir():
            path.unlink()
    replace_file, left = os.replace, [after]

    def failing(one: Any, other: Any) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        replace_file(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with suppress(Killed):
            train(bench, [head(bench, "a", Focal()), head(bench, "b")], source)
    train(bench, [head(bench, "a", Focal()), head(bench, "b")], source)
    for name in "ab":
        again = load_file(bench.folder / name / "best.safetensors")
        assert all(torch.allclose(again[key], value, atol=1e-6) for key, value in whole[name].items())


def test_prediction_is_the_head_on_the_sources_features_extracted_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = train(bench, [head(bench, "a", Focal()), head(bench, "b")])
    calls: list[int] = []
    extract = predict.extract

    def counting(*args: Any) -> Tensor:
        calls.append(1)
        return extract(*args)

    monkeypatch.setattr(predict, "extract", counting)
    features, logits = Features(), {}
    for name in "ab":
        made = head(bench, name, *([Focal()] if name == "a" else []))
        options = {"source": source.run, "features": features}
        logits[name] = predict.predict(made.run, made.stack, bench.config, bench.val_cases, bench.runtime, **options)
    assert len(calls) == 1
    z = extract(network(bench), bench.val_cases, 8, bench.runtime)
    for name, found in logits.items():
        tensors = load_file(bench.folder / name / "best.safetensors")
        assert np.allclose(found, z @ tensors["head.weight"].T + tensors["head.bias"], atol=1e-5)
    fewer = replace(bench.val_cases, rows=bench.val_cases.rows[:5], cases=bench.val_cases.cases[:5])
    assert len(features(source.run, bench.config, fewer, bench.runtime)) == 5 and len(calls) == 2


def test_another_source_is_refused_in_training_and_prediction(bench: Bench) -> None:
    source = train(bench, [head(bench, "a")])
    assert read_json(bench.folder / "a" / "arm.json")["frozen_sha256"] == sha256(source.run.best)
    weights = load_file(source.run.best)
    save_file(
        {key: value + 1e-3 if value.is_floating_point() else value for key, value in weights.items()}, source.run.best
    )
    made = head(bench, "a")
    with pytest.raises(ConfigError, match="RS-R44") as refusal:
        train(bench, [made], source)
    assert "remove" in refusal.value.problems[0].remedy
    with pytest.raises(ConfigError, match="RS-R44"):
        predict.predict(made.run, made.stack, bench.config, bench.val_cases, bench.runtime, source=source.run)


def test_a_source_without_weights_is_named(bench: Bench) -> None:
    source = source_of(bench)
    source.run.best.unlink()
    with pytest.raises(ConfigError, match=r"RS-R44b.*'whole'"):
        train(bench, [head(bench, "a")], source)


def test_views_belong_to_frozen_arms_that_change_images_alone(bench: Bench) -> None:
    """Another `views` leaves whole arms, and heads without views, as they are; a head with views is refused."""
    whole = Arm("whole")
    seeds = {"study_seed": 1, "run_seed": 0, "data_hash": "data"}
    more = bench.with_train(views=2)
    assert identity_of(whole, bench.config, bench.runtime, **seeds) == identity_of(
        whole, more.config, bench.runtime, **seeds
    )
    source = train(bench, [head(bench, "a"), head(bench, "b", Darken())])
    train(more, [head(bench, "a")], replace(source, config=more.config))
    with pytest.raises(ConfigError, match=r"RS-R44.*views: 4 then, 2 now"):
        train(more, [head(bench, "b", Darken())], replace(source, config=more.config, _tables={}))


@pytest.mark.parametrize("idle", [Average(), TwoPasses()])
def test_methods_of_the_whole_network_are_refused(bench: Bench, idle: Strategy) -> None:
    made = head(bench, "a", Focal(), idle)
    with pytest.raises(ConfigError, match=rf"RS-C35.*arms.a.{idle.name}"):
        refuse_idle(made.arm, made.stack)
    assert not acts(idle) and all(acts(one) for one in (Focal(), Mixing(), Darken(), Retrained()))


def test_labels_of_an_older_attempt_do_not_stay(bench: Bench) -> None:
    made = head(bench, "a")
    made.run.path.mkdir()
    (made.run.path / "labels.safetensors").write_bytes(b"old")
    train(bench, [made])
    assert torch.equal(load_file(made.run.path / "labels.safetensors")["target"], bench.train_cases.labels()[0])


def test_features_are_dropped_when_they_grow_too_many(bench: Bench) -> None:
    source = source_of(bench)
    z = Features()(source.run, bench.config, bench.val_cases, bench.runtime)
    features = Features(most=z.numel() * 4)
    for cases in (bench.val_cases, bench.train_cases, bench.val_cases):
        features(source.run, bench.config, cases, bench.runtime)
        assert len(features._kept) == 1
    assert frozen.n_views(Stack([Darken()], bench.config.problem), bench.config) == 4
