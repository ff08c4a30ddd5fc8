"""What a run promises beside resuming: equal conditions for every arm, honest selection, clear stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_study import CLASSES, CPU, Average, Balanced, Bench, Mixing, Retrained, TwoPasses, Witness, events_of
from torch import Tensor, nn

from raresight.core.arm import Arm
from raresight.core.config import parse_config
from raresight.core.errors import ConfigError, RaresightError
from raresight.core.predictions import tabulate
from raresight.evaluate.select import score
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Strategy
from raresight.train import loop
from raresight.train.closure import Closure
from raresight.train.dry_run import dry_run
from raresight.train.predict import extract, logits_of, new_model


def test_every_arm_sees_the_same_cases_in_the_same_order(bench: Bench) -> None:
    plain, mixed = Witness(), Witness()
    bench.train("plain", plain)
    bench.train("mixed", Mixing(), mixed)
    assert plain.ids == mixed.ids
    # 30 cases in batches of at most 8: four batches of 7 or 8, every case once an epoch, another order each epoch
    assert [len(ids) for ids in plain.ids] == [7, 8, 7, 8] * 3
    epochs = [list(chain(*plain.ids[start : start + 4])) for start in (0, 4, 8)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_initial_weights_are_the_same_for_every_arm_and_another_seed_has_others(bench: Bench) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one = new_model(bench.config, CPU, rng_seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    same, other = (new_model(bench.config, CPU, rng_seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_what_ran_before_changes_nothing(bench: Bench) -> None:
    alone = bench.train("alone", Mixing())
    torch.manual_seed(99)
    torch.rand(17)
    bench.train("between", Balanced(), Average())
    after = bench.train("after", Mixing())
    assert alone.best.read_bytes() == after.best.read_bytes()
    assert events_of(alone) == events_of(after)


@pytest.mark.parametrize("strategies", [[], [Balanced()], [Retrained()], [Balanced(), Retrained(), Mixing()]])
def test_every_arm_takes_the_same_number_of_steps(bench: Bench, strategies: list[Strategy]) -> None:
    run = bench.train("arm", *strategies)
    assert events_of(run)[-1]["step"] == 12  # 3 epochs of ceil(30 / 8) steps
    written = json.loads(run.arm_json.read_text())
    assert written["steps"] == 12
    assert written["head_steps"] == (2 if any(s.head_phase for s in strategies) else 0)  # 20% of 12, rounded


def test_a_sampler_draws_by_weight_from_a_stream_of_its_own(bench: Bench) -> None:
    class OnlyThree(Strategy):
        name: ClassVar[str] = "only_three"
        place: ClassVar[Any] = "sampling"

        def sample_weights(self) -> Tensor | None:
            return torch.tensor([1.0, 0.0, 2.0] + [0.0] * 26 + [1.0])

    witness = Witness()
    bench.train("arm", OnlyThree(), witness)
    drawn = np.concatenate(witness.ids)
    assert len(drawn) == 90
    assert set(drawn) == {0, 2, 29}
    # 90 draws at probability 1/2: mean 45, standard deviation 4.7; three of them either way
    assert 30 < (drawn == 2).sum() < 60


def test_the_best_checkpoint_is_the_one_that_scores_best_on_validation(bench: Bench) -> None:
    kept: dict[int, dict[str, Tensor]] = {}
    run = bench.run("arm")
    bench.with_train(evaluate_every=1, lr=0.0005).train(
        "arm", on_event=lambda event: kept.update({event["step"]: load_file(run.last)})
    )
    model = new_model(bench.config, CPU, rng_seed=0)
    target = bench.val_cases.target
    scores = {}
    for step, weights in kept.items():
        model.load_state_dict(weights)
        prob = logits_of(model, extract(model, bench.val_cases, 8, CPU)).double().softmax(1).numpy()
        scores[step] = score(target, prob, "exclusive", "macro_auprc")
    assert len(set(scores.values())) > 3
    best = max(scores, key=lambda step: (scores[step], -step))
    assert best < 12  # else this test could not tell the best checkpoint from the last one
    assert scores == pytest.approx({event["step"]: event["score"] for event in events_of(run)}, abs=1e-12)
    stored = load_file(run.best)
    assert all(torch.equal(stored[name], kept[best][name]) for name in stored)
    assert [event["step"] for event in events_of(run) if event["best"]][-1] == best


def test_the_deployed_weights_are_evaluated_and_saved(bench: Bench) -> None:
    average = Average()
    trained: dict[str, Tensor] = {}

    class Spy(Strategy):
        name: ClassVar[str] = "spy"
        place: ClassVar[Any] = "schedules"

        def after_step(self, step: int, model: nn.Module) -> None:
            trained.update({name: value.detach().clone() for name, value in model.named_parameters()})

    run = bench.train("arm", average, Spy())
    last = load_file(run.last)
    assert all(torch.equal(last[name], average.mean_[name]) for name in average.mean_)
    assert not torch.equal(last["head.weight"], trained["head.weight"])


def test_predictions_are_adjusted_and_pass_through_the_waist(bench: Bench) -> None:
    class Shifted(Strategy):
        name: ClassVar[str] = "shifted"
        place: ClassVar[Any] = "decisions"

        def adjust(self, logits: Tensor) -> Tensor:
            return logits + torch.tensor([0.0, 1.0, 0.0])

    run = bench.train("arm")
    plain, shifted = bench.predict(run), bench.predict(run, Shifted())
    assert plain.shape == (20, 3)
    assert plain.dtype == np.float32
    assert np.array_equal(shifted, plain + np.array([0, 1, 0], np.float32))
    table = tabulate(bench.config.problem, bench.val_cases.cases, plain, bench.val_cases.target, _no_metadata())
    assert len(table) == 20


def _no_metadata() -> Any:
    import pandas as pd

    return pd.DataFrame({"case": []})


def test_a_loss_that_is_not_a_number_stops_and_names_the_cases(bench: Bench) -> None:
    class Diverging(Strategy):
        name: ClassVar[str] = "diverging"
        place: ClassVar[Any] = "losses"
        steps = 0

        def penalty(self, logits: Tensor, target: Tensor, mask: Tensor, model: nn.Module) -> Tensor | None:
            self.steps += 1
            return logits.sum() * (float("nan") if self.steps == 7 else 0.0)

    witness = Witness()
    with pytest.raises(RaresightError, match="RS-R46") as caught:
        bench.train("arm", Diverging(), witness)
    assert "step 7" in caught.value.problems[0].found
    assert all(f"case{i}" in caught.value.problems[0].found for i in witness.ids[6])
    run = bench.run("arm")
    assert [event["step"] for event in events_of(run)] == [4]
    assert all(value.isfinite().all() for value in load_file(run.best).values())


def _closure(bench: Bench, *strategies: Strategy, y: Tensor | None = None) -> tuple[Closure, nn.Module]:
    model = new_model(bench.config, CPU, rng_seed=0).train()
    model.backbone.add_module("spare", nn.Identity())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.eye(3).repeat(2, 1) if y is None else y
    stack = Stack(strategies, bench.config.problem)
    stream: Callable[[str], torch.Generator] = lambda name: torch.Generator().manual_seed(5)  # noqa: E731
    batch = (x, y, torch.arange(6))
    return Closure(model, stack, optimiser, CPU, batch, epoch=0, stream=stream, model_seed=11), model


def test_a_second_pass_replays_the_first_and_moves_no_statistics(bench: Bench) -> None:
    class Dropping(Strategy):
        name: ClassVar[str] = "dropping"
        place: ClassVar[Any] = "features"

        def mix_features(self, z: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
            # one draw of its own and one of the model's dropout stream
            return nn.functional.dropout(z, 0.5) * torch.rand(1, generator=rng), y

    closure, model = _closure(bench, Mixing(), Dropping())
    start = {name: value.clone() for name, value in model.named_buffers()}
    first = closure()
    gradient = model.head.weight.grad.clone()
    once = {name: value.clone() for name, value in model.named_buffers()}
    second = closure()
    assert first == second
    assert torch.equal(gradient, model.head.weight.grad)
    moved = [name for name in start if not torch.equal(start[name], once[name])]
    assert any(name.endswith("running_mean") for name in moved)
    assert all(torch.equal(once[name], value) for name, value in model.named_buffers())
    assert all(layer.track_running_stats for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))


def test_a_pass_over_some_rows_is_their_part_of_the_loss_of_the_mixed_batch(bench: Bench) -> None:
    closure, model = _closure(bench, Mixing())
    model.eval()  # so that a row's logits do not depend on the others
    rows = torch.tensor([1, 4])
    some = closure(rows)
    assert closure.seen.tolist() == [1, 4]
    partner = torch.randperm(6, generator=torch.Generator().manual_seed(5))
    x = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.eye(3).repeat(2, 1)
    x, y = 0.5 * (x + x[partner]), 0.5 * (y + y[partner])
    log_prob = model(model.normalise(x[rows])).log_softmax(1)
    assert float(some) == pytest.approx(float(-(y[rows] * log_prob).sum().detach() / 6), abs=1e-6)


def test_two_passes_in_a_run_see_the_same_loss(bench: Bench) -> None:
    two = TwoPasses()
    bench.train("arm", Mixing(), two)
    assert len(two.pairs) == 12
    assert all(first == second for first, second in two.pairs)


def test_unknown_labels_are_masked_and_stay_unknown_when_mixed(bench: Bench) -> None:
    bench.config = parse_config(bench.config.model_dump() | {"task": {"kind": "independent", "classes": CLASSES}})
    seen: list[tuple[Tensor, Tensor]] = []

    class Looking(Strategy):
        name: ClassVar[str] = "looking"
        place: ClassVar[Any] = "losses"

        def penalty(self, logits: Tensor, target: Tensor, mask: Tensor, model: nn.Module) -> Tensor | None:
            seen.append((target, mask))
            return None

    y = torch.eye(3).repeat(2, 1)
    y[0, 1] = torch.nan
    _closure(bench, Looking(), y=y)[0]()
    target, mask = seen.pop()
    assert target[0].tolist() == [1, 0, 0]
    assert mask[0].tolist() == [1, 0, 1]
    assert mask.sum() == 17
    closure, _ = _closure(bench, Mixing(), Looking(), y=y)
    assert closure().isfinite()
    partner = torch.randperm(6, generator=torch.Generator().manual_seed(5)).tolist()
    unknown = {0, partner.index(0)}
    assert {row for row in range(6) if seen[0][1][row, 1] == 0} == unknown

    # and in a run: a class without any label gets no gradient
    target_with_holes = bench.train_cases.target.copy()
    target_with_holes[:, 2] = np.nan
    bench.train_cases = replace(bench.train_cases, target=target_with_holes)
    run = bench.train("arm")
    start = new_model(bench.config, CPU, rng_seed=loop.derive(1, 0, "model")).head
    trained = load_file(run.last)
    assert torch.equal(trained["head.bias"][2], start.bias[2])  # no label, no gradient (and no decay on a bias)
    assert not torch.equal(trained["head.bias"][0], start.bias[0])


def test_the_head_phase_trains_the_head_alone_upon_the_best_representation(bench: Bench) -> None:
    represented: dict[str, Tensor] = {}

    class Keeping(Retrained):
        def start_head(self, model: nn.Module, rng: torch.Generator) -> None:
            represented.update({name: value.clone() for name, value in model.state_dict().items()})
            super().start_head(model, rng)

    run = bench.with_train(head_steps=6, evaluate_every=2).train("arm", Keeping())
    rows = events_of(run)
    assert [(row["phase"], row["step"]) for row in rows] == [
        ("representation", 2),
        ("representation", 4),
        ("representation", 6),
        ("head", 8),
        ("head", 10),
        ("head", 12),
    ]
    best = load_file(run.best)
    assert all(torch.equal(best[name], represented[name]) for name in best if not name.startswith("head."))
    assert not torch.equal(best["head.weight"], represented["head.weight"])
    assert not (run.path / loop.REPRESENTATION).exists()


def test_more_head_steps_than_steps_are_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="RS-C34"):
        bench.with_train(head_steps=12).train("arm", Retrained())


def test_an_empty_validation_part_keeps_the_last_weights(bench: Bench) -> None:
    bench.val_cases = replace(bench.val_cases, rows=bench.val_cases.rows[:0], target=bench.val_cases.target[:0])
    run = bench.train("arm")
    assert run.best.read_bytes() == run.last.read_bytes()
    assert {row["score"] for row in events_of(run)} == {None}


def test_a_full_disk_is_said_in_one_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match=r"RS-R45 .*the disk is full"):
        bench.train("arm")
    assert not list(bench.run("arm").path.glob("*"))


def test_memory_that_runs_out_is_said_in_one_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def out(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(loop.Stepper, "__call__", out)
    with pytest.raises(ConfigError, match="RS-R45") as caught:
        bench.train("arm")
    assert "`batch: 4`" in caught.value.problems[0].remedy


def test_a_dry_run_measures_and_writes_nothing(bench: Bench, tmp_path: Path) -> None:
    arm = Arm.parse("arm", ["mixing"])
    stack = Stack([Mixing()], bench.config.problem)
    cost = dry_run(arm, stack, bench.config, bench.train_cases, CPU, study_seed=1, n_val=20)
    assert cost["steps"] == 12
    assert cost["hours"] >= 12 * cost["seconds_per_step"] / 3600 > 0
    assert 0.1 < cost["gb"] < 64
    assert not list(tmp_path.iterdir())
