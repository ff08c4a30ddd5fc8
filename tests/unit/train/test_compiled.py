"""Compiling: the rule, who is compiled, and that a compiled run is the eager one to rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from tiny_study import CPU, Bench, make_cases
from torch import Tensor, nn

from raresight.core.arm import Arm
from raresight.core.config import TrainSection
from raresight.core.errors import ConfigError
from raresight.models.backbones import Classifier
from raresight.strategies.steps.perturbation import moved
from raresight.strategies.strategy import Strategy
from raresight.train import compiled as module
from raresight.train import loop
from raresight.train.checkpoint import identity_of
from raresight.train.compiled import Compiled, compiled, decide, missing_compiler
from raresight.train.probe import probe
from raresight.train.runtime import Runtime


@pytest.mark.parametrize(
    ("asked", "device", "steps", "missing", "answer", "why"),
    [
        (True, "cpu", None, None, True, "asked for"),
        (False, "cuda", 10**6, None, False, "asked not to"),
        ("auto", "cpu", 10**6, None, False, "not on 'cpu'"),
        ("auto", "mps", 10**6, None, False, "not on 'mps'"),
        ("auto", "cuda", None, None, False, "not known"),
        ("auto", "cuda", 10**6, "triton", False, "triton is not here"),
        ("auto", "cuda", 1200, None, False, "90 s, no more than 90 s"),  # 1200 x 0.5 s x 0.15 = 90 s: not more
        ("auto", "cuda", 1201, None, True, "more than 90 s of compiling"),
    ],
)
def test_the_rule(asked: Any, device: str, steps: int | None, missing: str | None, answer: bool, why: str) -> None:
    decided, reason = decide(asked, device, steps=steps, step_seconds=0.5, missing=missing)
    assert decided is answer
    assert why in reason


def test_the_lock_says_what_was_decided_and_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = probe(bench.config, bench.config.problem, n_cases=30)
    assert (lock["compile"], "not on 'cpu'" in lock["compile_reason"]) == (False, True)
    assert lock["peak_gflops"] > 0
    assert Runtime.from_lock(lock).peak_gflops == lock["peak_gflops"]
    assert Runtime.from_lock(lock | {"processor": "another"}).peak_gflops is None
    asked = bench.with_train(compile=True).config
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"RS-R45 .*C\+\+ compiler \('no-such-compiler'\)"):
        probe(asked, asked.problem)
    monkeypatch.setenv("CXX", "python3")  # anything on the path
    lock = probe(asked, asked.problem)
    assert (lock["compile"], lock["compile_reason"]) == (True, "asked for")
    assert Runtime.from_lock(lock).compile


def test_the_length_of_a_run_is_asked_of_settings_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def decided(*args: Any, steps: int | None, **kwargs: Any) -> tuple[bool, str]:
        seen.append(steps)
        return False, ""

    monkeypatch.setattr("raresight.train.probe.decide", decided)
    for config, n_cases in ((bench.config, 30), (bench.config, None), (bench.with_train(steps=5).config, 30)):
        probe(config, config.problem, n_cases=n_cases)
    assert seen == [12, None, 5]  # 3 epochs of ceil(30 / 8) batches


def test_an_older_lock_still_opens() -> None:
    runtime = Runtime.from_lock({"device": "cpu", "dtype": "fp32", "channels_last": False, "threads": 1, "torch": "2"})
    assert runtime == CPU
    assert (runtime.compile, runtime.peak_gflops) == (False, None)


@pytest.mark.parametrize("written", ["auto", True, False])
def test_only_a_compiled_run_has_another_identity(bench: Bench, written: Any) -> None:
    config = bench.with_train(compile=written).config
    about: dict[str, Any] = {"study_seed": 1, "run_seed": 0, "data_hash": "data"}
    eager = identity_of(Arm.parse("arm", []), config, CPU, **about)
    assert not any("compile" in key for key in eager)
    now = identity_of(Arm.parse("arm", []), config, replace(CPU, compile=True), **about)
    assert now == eager | {"lock.compile": "True"}


def test_a_word_that_is_no_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="compile"):
        TrainSection(compile="always")  # type: ignore[arg-type]


def test_only_usual_training_batches_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **options: lambda x: "compiled")
    backbone = nn.Linear(2, 2)
    call = Compiled(backbone, {7, 8})
    usual, other = torch.zeros(8, 2), torch.zeros(6, 2)
    assert call(usual) == "compiled"
    assert isinstance(call(other), Tensor)
    with torch.no_grad():
        assert isinstance(call(usual), Tensor)
    backbone.eval()
    assert isinstance(call(usual), Tensor)


def test_sizes_are_the_whole_numbers_around_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "refuse_without", lambda device: None)
    model = Classifier(nn.Linear(2, 2), 2, 3, [0.5], [0.5], "random")
    compiled(model, CPU, n_cases=30, calls=4)
    assert model.compiled is None
    names = set(model.state_dict())
    compiled(model, replace(CPU, compile=True), n_cases=30, calls=4)
    assert isinstance(model.compiled, Compiled)
    assert model.compiled.sizes == {7, 8}
    assert set(model.state_dict()) == names
    compiled(model, replace(CPU, compile=True), n_cases=32, calls=4)
    assert model.compiled.sizes == {8}  # type: ignore[union-attr]


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(x)).relu().mean((2, 3))


class EveryKindOfPass(Strategy):
    """Plain; at moved weights with frozen statistics; counting all rows, and three: the whole batch passes then too."""

    name: ClassVar[str] = "every_kind"
    place: ClassVar[Any] = "steps"

    def step(
        self, closure: Callable[..., Tensor], optimiser: torch.optim.Optimizer, batch: dict[str, Tensor]
    ) -> Tensor:
        loss = closure()
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        gradients = [p.grad.clone() for p in parameters]
        with moved(parameters, gradients, 0.5):
            closure()
        optimiser.step()
        closure(torch.arange(len(batch["x"])))
        optimiser.step()
        closure(torch.tensor([0, 2, 5]))
        optimiser.step()
        return loss


@pytest.mark.skipif(missing_compiler(torch.device("cpu")) is not None, reason="no C++ compiler on this machine")
def test_a_compiled_run_is_the_eager_one_to_rounding_and_resumes_to_the_bit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def new_model(config: Any, runtime: Runtime, *, rng_seed: int, random_weights: bool = False) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(rng_seed)
            return runtime.place(Classifier(Small(), 4, 3, [0.5] * 3, [0.5] * 3, "random"))

    import torch._dynamo
    import torch._inductor.config

    monkeypatch.setattr(loop, "new_model", new_model)
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)
    bench = bench.with_train(epochs=2, optimiser="sgd", lr=0.05, evaluate_every=3)
    bench.train_cases = make_cases(32, 0)
    eager = load_file(bench.train("eager", EveryKindOfPass()).last)
    bench.runtime = replace(CPU, compile=True)
    torch._dynamo.utils.counters.clear()
    unbroken = bench.train("unbroken", EveryKindOfPass())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # one size; running statistics move or not
    weights = load_file(unbroken.last)
    assert weights.keys() == eager.keys()
    assert max(float((weights[key] - eager[key]).abs().max()) for key in eager) < 1e-4

    class KilledError(Exception):
        pass

    def kill(event: dict[str, Any]) -> None:
        if event["step"] == 3:
            raise KilledError

    with pytest.raises(KilledError):
        bench.train("resumed", EveryKindOfPass(), on_event=kill)
    resumed = bench.train("resumed", EveryKindOfPass())
    assert resumed.last.read_bytes() == unbroken.last.read_bytes()
    assert resumed.best.read_bytes() == unbroken.best.read_bytes()


def test_a_compiler_that_fails_is_said_in_one_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fails(*args: Any, **kwargs: Any) -> None:
        raise TorchDynamoException("Python.h: no such file\nmore")

    monkeypatch.setattr(loop.Stepper, "__call__", fails)
    with pytest.raises(ConfigError, match=r"RS-R45 .*Python.h: no such file"):
        bench.train("arm")
