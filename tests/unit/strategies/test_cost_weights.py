"""Cost weights: hand-worked weights, the decision they ask for, and every way of writing costs wrongly."""

from __future__ import annotations

import pytest
import torch
from population import Population
from torch import Tensor

from raresight.core.errors import ConfigError, Problem
from raresight.strategies import Facts
from raresight.strategies.losses.class_weights import ClassWeights
from raresight.strategies.losses.cost_matrix import CostWeights

CLASSES = ("nevus", "melanoma", "keratosis")


def _exclusive(counts: list[int]) -> Facts:
    target = torch.eye(len(counts))[torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))]
    return Facts("exclusive", CLASSES[: len(counts)], target, torch.ones_like(target))


def _independent(n: int, positives: list[int]) -> Facts:
    target = torch.stack([(torch.arange(n) < k).float() for k in positives], 1)
    return Facts("independent", CLASSES[: len(positives)], target, torch.ones_like(target))


def _fitted(facts: Facts, costs: object) -> CostWeights:
    method = CostWeights(costs=costs)  # type: ignore[arg-type]
    method.fit(facts)
    return method


def _weights(facts: Facts, costs: object, target: Tensor) -> Tensor:
    return _fitted(facts, costs).case_weights(target, torch.arange(1), 0)


def test_exclusive_by_hand() -> None:
    # costs 1, 10, 2 over shares 0.5, 0.1, 0.4: mean 0.5 + 1 + 0.8 = 2.3
    found = _weights(_exclusive([50, 10, 40]), {"melanoma": 10, "keratosis": 2}, torch.eye(3))
    assert found.shape == (1, 3)
    torch.testing.assert_close(found[0], torch.tensor([1 / 2.3, 10 / 2.3, 2 / 2.3]))


def test_independent_by_hand() -> None:
    # 20 of 100, cost 6: mean 1.2 + 0.8 = 2; class b is not named: cost 1, weight 1 on both sides
    target = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.25, 0.5]])
    found = _weights(_independent(100, [20, 60]), {"nevus": 6}, target)
    torch.testing.assert_close(found, torch.tensor([[3.0, 1.0], [0.5, 1.0], [1.125, 1.0]]))


def test_a_matrix_weighs_a_class_by_the_mean_of_its_row() -> None:
    """Ting 2002: weights in proportion to the sums of the rows; a class without a row costs 1, 1."""
    facts = _exclusive([50, 10, 40])
    matrix = {"melanoma": {"nevus": 20, "keratosis": 4, "melanoma": 0}, "keratosis": {"melanoma": 3}}
    found = _weights(facts, matrix, torch.eye(3))
    torch.testing.assert_close(found, _weights(facts, {"melanoma": 12, "keratosis": 2}, torch.eye(3)))
    # by Ting's formula, w_k = C_k N / sum_j C_j N_j
    row = torch.tensor([2.0, 24.0, 4.0])
    torch.testing.assert_close(found[0], row * 100 / (row * torch.tensor([50.0, 10, 40])).sum())
    torch.testing.assert_close(
        found, _weights(facts, {"melanoma": {"nevus": 20, "keratosis": 4}, "keratosis": 2}, torch.eye(3))
    )


def test_without_costs_every_class_costs_the_same_in_all() -> None:
    for facts in (_exclusive([50, 10, 40]), _independent(100, [20, 60, 3])):
        inverse = ClassWeights(scheme="inverse")
        inverse.fit(facts)
        method = _fitted(facts, None)
        torch.testing.assert_close(method.positive_, inverse.positive_)
        torch.testing.assert_close(method.negative_, inverse.negative_)


@pytest.mark.parametrize("costs", [{}, {"melanoma": 1, "nevus": 1.0}])
def test_equal_costs_are_plain_training(costs: object) -> None:
    assert _weights(_exclusive([50, 10, 40]), costs, torch.eye(3)).tolist() == [[1.0, 1.0, 1.0]]
    method = _fitted(_independent(100, [20, 60]), costs)
    assert method.positive_.tolist() == method.negative_.tolist() == [1.0, 1.0]


def test_absent_class_keeps_weight_one_whatever_it_costs() -> None:
    found = _weights(_exclusive([60, 40, 0]), {"keratosis": 100, "melanoma": 4}, torch.eye(3))
    torch.testing.assert_close(found[0], torch.tensor([1 / 2.2, 4 / 2.2, 1.0]))  # 0.6 + 1.6
    method = _fitted(_independent(10, [0, 10, 5]), {"nevus": 9, "melanoma": 9, "keratosis": 3})
    torch.testing.assert_close(method.positive_, torch.tensor([1.0, 1.0, 1.5], dtype=torch.float64))
    torch.testing.assert_close(method.negative_, torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64))


def test_the_likeliest_class_is_then_the_cheapest() -> None:
    """Elkan 2001: with cost c a finding pays from probability 1 / (1 + c) on; there the optimum is above 1/2."""
    population = Population("one finding")
    cost = 6.0
    stack = population.stack(CostWeights(costs={"class 0": cost}))
    weighted = population.prob(population.minimum(stack))
    true = population.posterior
    assert ((weighted > 0.5) == (true > 1 / (1 + cost))).all()
    assert ((weighted > 0.5) != (true > 0.5)).any()  # so that the test could have failed
    torch.testing.assert_close(stack.implied_prior(), torch.tensor([cost], dtype=torch.float64).log())


def _refused(costs: object, facts: Facts | None = None) -> Problem:
    with pytest.raises(ConfigError) as refusal:
        _fitted(facts or _exclusive([50, 10, 40]), costs)
    (problem,) = refusal.value.problems
    assert problem.code == "RS-C34"
    assert problem.column is not None
    assert problem.column.startswith("cost_weights.costs")
    return problem


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ({"melanom": 5}, "did you mean 'melanoma'?"),
        ({"zzz": 5}, "classes of the task: nevus, melanoma, keratosis"),
        ({"melanoma": {"nevos": 5}}, "did you mean 'nevus'?"),
        ({"melanoma": 0}, "[1e-06, 1e+06]"),
        ({"melanoma": 1e7}, "[1e-06, 1e+06]"),
        ({"melanoma": "much"}, "[1e-06, 1e+06]"),
        ({"melanoma": {"nevus": -1}}, "[0, 1e+06]"),
        ({"melanoma": {"nevus": 0, "keratosis": 0}}, "[1e-06, 1e+06]"),
        ({"melanoma": {"melanoma": 2}}, "a right answer costs nothing"),
        (5, "map classes to costs"),
    ],
)
def test_wrong_costs_are_refused(costs: object, words: str) -> None:
    problem = _refused(costs)
    assert words in f"{problem.found} {problem.why} {problem.remedy}"


def test_a_matrix_is_refused_with_independent_labels() -> None:
    problem = _refused({"nevus": {"melanoma": 3}}, _independent(10, [5, 2]))
    assert "not mistaken for one another" in problem.why
    assert "nevus" in problem.found


def test_the_bounds_of_costs_are_allowed() -> None:
    method = CostWeights(costs={"nevus": 1e-6, "melanoma": 1e6, "keratosis": {"nevus": 0}})
    assert method.costs == {"nevus": 1e-6, "melanoma": 1e6, "keratosis": {"nevus": 0.0}}
