"""Prior correction: hand-worked shifts, the exact optimum of a population, and what is known only in training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from population import Population
from torch import Tensor, nn

from raresight.core.arm import Arm
from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.evaluate.recalibrate import calibrated_logits
from raresight.strategies import ALL, Facts, Stack, Strategy, build
from raresight.strategies.decisions.prior_correction import PriorCorrection
from raresight.train.checkpoint import load_weights, save_weights

METHODS = {method.name: method for method in ALL}
CLASSES = ("nevus", "melanoma", "vascular")


def _facts(kind: str, counts: list[int]) -> Facts:
    n = sum(counts)
    if kind == "exclusive":
        target = torch.eye(len(counts))[torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))]
    else:
        target = torch.stack([(torch.arange(n) < k).float() for k in counts], 1)
    return Facts(kind, CLASSES[: len(counts)], target, torch.ones_like(target))  # type: ignore[arg-type]


def _shift(kind: str, counts: list[int], prevalence: dict[str, float] | None) -> list[float]:
    """What is added to logits, the other methods adding 1, -2 and 0.5."""
    method = PriorCorrection(prevalence=prevalence)
    method.fit(_facts(kind, counts))
    method.correct(torch.tensor([1.0, -2.0, 0.5]))
    added = method.adjust(torch.tensor([[10.0, 20.0, 30.0]])) - torch.tensor([[10.0, 20.0, 30.0]])
    torch.testing.assert_close(added[0].double(), method.log_prior_shift(), rtol=0, atol=1e-5)
    return [value + other for value, other in zip(added[0].tolist(), [1.0, -2.0, 0.5], strict=True)]


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_without_a_prevalence_the_others_are_taken_back(kind: str) -> None:
    assert _shift(kind, [80, 15, 5], None) == pytest.approx([0, 0, 0])


def test_exclusive_prevalence_by_hand() -> None:
    every = {"nevus": 0.9, "melanoma": 0.08, "vascular": 0.02}
    expected = [math.log(0.9 / 0.8), math.log(0.08 / 0.15), math.log(0.02 / 0.05)]
    assert _shift("exclusive", [80, 15, 5], every) == pytest.approx(expected, abs=1e-5)
    # melanoma 0.3 leaves 0.7 for the others, who had 0.85
    expected = [math.log(0.7 / 0.85), math.log(0.3 / 0.15), math.log(0.7 / 0.85)]
    assert _shift("exclusive", [80, 15, 5], {"melanoma": 0.3}) == pytest.approx(expected, abs=1e-5)


def test_independent_prevalence_by_hand() -> None:
    # of 100 cases 80 have the first, 15 the second, 5 the third
    def logit(p: float) -> float:
        return math.log(p / (1 - p))

    prevalence = {"melanoma": 0.3, "vascular": 0.9}  # no sum is asked of independent labels
    expected = [0, logit(0.3) - logit(0.15), logit(0.9) - logit(0.05)]
    assert _shift("independent", [80, 15, 5], prevalence) != expected
    target = _facts("independent", [80, 15, 5]).target[:100]
    method = PriorCorrection(prevalence=prevalence)
    method.fit(Facts("independent", CLASSES, target, torch.ones_like(target)))
    assert method.log_prior_shift().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_a_class_never_seen_is_left_alone(kind: str) -> None:
    prevalence = {"melanoma": 0.3, "vascular": 0.1}
    assert _shift(kind, [80, 20, 0], prevalence)[2] == 0
    assert _shift(kind, [80, 20, 0], {"melanoma": 0.3})[2] == 0
    if kind == "exclusive":  # and takes nothing of what is left: 0.6 for the nevi, who had 0.8
        assert _shift(kind, [80, 20, 0], prevalence)[0] == pytest.approx(math.log(0.6 / 0.8), abs=1e-5)
    else:
        assert _shift(kind, [100, 20, 0], {"nevus": 0.5})[0] == pytest.approx(math.log(1 / 1.0) - math.log(100 / 20))


def test_an_independent_class_that_every_case_has_is_left_alone() -> None:
    target = torch.tensor([[1.0, 1], [1, 0], [1, 0]])
    method = PriorCorrection(prevalence={"nevus": 0.2, "melanoma": 0.2})
    method.fit(Facts("independent", CLASSES[:2], target, torch.ones_like(target)))
    assert method.log_prior_shift().tolist() == pytest.approx([0, math.log(0.2 / 0.8) - math.log(1 / 2)])


CORRECTABLE: list[list[str]] = [
    ["class_weights"],
    ["balanced_softmax"],
    ["logit_adjustment"],
    ["class_balanced_sampling"],
    ["classifier_retraining"],
    ["class_weights", "class_balanced_sampling"],
    ["class_balanced_sampling", "classifier_retraining"],
    ["deferred_reweighting"],
]


@pytest.mark.parametrize("names", CORRECTABLE, ids="+".join)
@pytest.mark.parametrize("problem", ["exclusive", "one finding"])
@pytest.mark.parametrize("last", [True, False], ids=["last", "first"])
def test_the_arm_says_the_true_posterior_again(problem: str, names: list[str], last: bool) -> None:
    population = Population(problem)
    others = [METHODS[name]() for name in names]
    stack = population.stack(*others, PriorCorrection()) if last else population.stack(PriorCorrection(), *others)
    implied = stack.implied_prior()
    assert implied is not None
    assert implied.abs().max() < 1e-12
    found = population.prob(population.minimum(stack))
    torch.testing.assert_close(found, population.posterior, rtol=0, atol=2e-5)


def test_a_stated_prevalence_gives_its_posterior_by_bayes() -> None:
    population = Population("exclusive")
    share = {"class 0": 0.5, "class 1": 0.3, "class 2": 0.2}
    stack = population.stack(METHODS["class_weights"](), PriorCorrection(prevalence=share))
    likelihood = population.counts / population.counts.sum(0)
    joint = likelihood * torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    found = population.prob(population.minimum(stack))
    torch.testing.assert_close(found, joint / joint.sum(1, keepdim=True), rtol=0, atol=2e-5)
    # and the implied prior is the way from the training prevalence to the stated one
    implied = stack.implied_prior()
    assert implied is not None
    prior = population.counts.sum(0) / population.counts.sum()
    torch.testing.assert_close(implied, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log() - prior.log())


@pytest.mark.parametrize("prevalence", [None, {"class 2": 0.4}])
def test_calibration_does_not_correct_twice(prevalence: dict[str, float] | None) -> None:
    """What `raresight tune` subtracts (the arm's implied prior) leads to the posterior of the validation part."""
    population = Population("exclusive")
    for arm in ([METHODS["class_weights"]()], [METHODS["class_weights"](), PriorCorrection(prevalence=prevalence)]):
        stack = population.stack(*arm)
        implied = stack.implied_prior()
        assert implied is not None
        prior_taken_out = {"method": "none", "shift": implied.tolist(), "temperature": 1.0}
        tuned = calibrated_logits(population.minimum(stack).numpy(), prior_taken_out, population.kind)
        prob = torch.from_numpy(np.asarray(tuned)).softmax(1)
        torch.testing.assert_close(prob, population.posterior, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("names", "kind"), [(["focal"], "exclusive"), (["ldam", "tau_normalisation"], "exclusive"), (["dice"], "exclusive")]
)
def test_a_method_without_a_shift_is_refused_by_name(names: list[str], kind: str) -> None:
    arm = [METHODS[name]() for name in names]
    stack = Stack([*arm, METHODS["class_weights"](), PriorCorrection()], Task(kind, CLASSES), "mine")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'prior_correction' cannot correct for") as refusal:
        stack.fit(_facts(kind, [80, 15, 5]))
    (problem,) = refusal.value.problems
    assert problem.code == "RS-C35"
    assert problem.column == "arms.mine"
    assert all(f"'{name}'" in problem.found for name in names)
    assert "class_weights" not in problem.found


def test_taking_back_is_no_second_compensation() -> None:
    stack = Stack([METHODS["class_weights"](), PriorCorrection()], Task("exclusive", CLASSES), "arm")
    stack.fit(_facts("exclusive", [80, 15, 5]))
    assert stack.findings() == []


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 3)


def _oversampled() -> tuple[Stack, Facts]:
    """An arm whose prior depends on the synthetic rows that it makes from features."""
    facts = _facts("exclusive", [30, 8, 6])
    stack = Stack([METHODS["smote"](), PriorCorrection()], Task("exclusive", CLASSES), "arm")
    stack.fit(facts)
    return stack, facts


def _see_features(stack: Stack, facts: Facts) -> None:
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(len(facts.target), 2, generator=rng)
    ids = torch.arange(len(z))
    stack.fit_features(z, facts.target, facts.mask, ids, lambda name: torch.Generator().manual_seed(0))


class Late(Strategy):
    """A feature method whose prior turns out otherwise than expected."""

    name = "late"
    place = "features"
    source = "a test"

    def __init__(self) -> None:
        self.shift_ = torch.zeros(3)

    def log_prior_shift(self) -> Tensor:
        return self.shift_

    def fit_features(self, z: Tensor, y: Tensor, mask: Tensor, ids: Tensor, rng: torch.Generator) -> None:
        self.shift_ = torch.tensor([0.0, 2.0, 3.0])


def test_a_prior_known_only_after_features_are_seen_is_taken_back() -> None:
    stack = Stack([PriorCorrection(), Late()], Task("exclusive", CLASSES), "arm")
    facts = _facts("exclusive", [30, 8, 6])
    stack.fit(facts)
    assert stack.adjust(torch.zeros(1, 3)).tolist() == [[0, 0, 0]]
    _see_features(stack, facts)
    assert stack.adjust(torch.zeros(1, 3)).tolist() == [[0, -2, -3]]
    implied = stack.implied_prior()
    assert implied is not None
    assert implied.tolist() == [0, 0, 0]


def test_it_travels_with_the_weights(tmp_path: Path) -> None:
    """Predictions fit the arm to the labels again, yet see no training features: the weights say what was found."""
    facts = _facts("exclusive", [30, 8, 6])
    trained = Stack([Late(), PriorCorrection()], Task("exclusive", CLASSES), "arm")
    trained.fit(facts)
    _see_features(trained, facts)
    save_weights(tmp_path / "best.safetensors", Head(), trained)
    again = Stack([Late(), PriorCorrection()], Task("exclusive", CLASSES), "arm")
    again.fit(facts)
    load_weights(tmp_path / "best.safetensors", Head(), again)
    assert again.adjust(torch.zeros(1, 3)).tolist() == [[0, -2, -3]]


def test_with_smote_the_implied_prior_is_zero_before_and_after() -> None:
    stack, facts = _oversampled()
    for _ in range(2):
        implied = stack.implied_prior()
        assert implied is not None
        assert implied.abs().max() < 1e-12
        _see_features(stack, facts)
    (smote,) = [s for s in stack.strategies if s.name == "smote"]
    made = smote.log_prior_shift()
    assert made is not None
    assert made[2] > made[1] > made[0]
    torch.testing.assert_close(stack.adjust(torch.zeros(1, 3))[0].double(), -made, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("prevalence", "words"),
    [
        ({"melanoma": 0.0}, "above 0 and below 1"),
        ({"melanoma": 1.0}, "above 0 and below 1"),
        ({"melanoma": "2 %"}, "above 0 and below 1"),
        ({"melanoma": True}, "above 0 and below 1"),
        ({}, "must map classes"),
        (0.1, "must map classes"),
    ],
)
def test_prevalences_out_of_range(prevalence: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        PriorCorrection(prevalence=prevalence)  # type: ignore[arg-type]
    (problem,) = refusal.value.problems
    assert problem.code == "RS-C34"
    assert problem.column is not None
    assert problem.column.startswith("prior_correction.prevalence")


@pytest.mark.parametrize(
    ("prevalence", "words"),
    [
        ({"melanom": 0.1}, "did you mean 'melanoma'"),
        ({"melanoma": 0.6, "vascular": 0.4}, "leave nothing for the others"),
        ({"nevus": 0.6, "melanoma": 0.2, "vascular": 0.1}, "must sum to 1, not to 0.9"),
        ({"nevus": 0.6, "melanoma": 0.3, "vascular": 0.2}, "must sum to 1, not to 1.1"),
    ],
)
def test_prevalences_that_do_not_fit_the_classes(prevalence: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        PriorCorrection(prevalence=prevalence).fit(_facts("exclusive", [80, 15, 5]))
    assert words in str(refusal.value)
    if words.startswith("did"):
        return
    PriorCorrection(prevalence=prevalence).fit(_facts("independent", [80, 15, 5]))


def test_written_in_a_study() -> None:
    arm = Arm.parse("deployed", ["class_weights", {"prior_correction": {"prevalence": {"melanoma": 0.02}}}])
    (_, method) = build(arm, Task("exclusive", CLASSES)).strategies
    assert isinstance(method, PriorCorrection)
    assert method.prevalence == {"melanoma": 0.02}
