"""The shift that a weighted or shifted loss declares is the one that its minimum shows, solved exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from population import Population

from raresight.core.task import Kind
from raresight.strategies import ALL, Strategy
from raresight.strategies.losses.uncertainty import Uncertainty

METHODS = {method.name: method for method in ALL}
COSTS = {"class 0": 2.0, "class 1": 9.0}
MATRIX = {"class 2": {"class 0": 20.0, "class 1": 4.0}, "class 1": 3.0}
BOTH: tuple[Kind, ...] = ("exclusive", "independent")

SHIFTED: list[tuple[str, dict[str, Any], tuple[Kind, ...]]] = [
    ("cost_weights", {}, BOTH),
    ("cost_weights", {"costs": {"class 0": 5.0}}, BOTH),
    ("cost_weights", {"costs": MATRIX}, ("exclusive",)),
    ("class_balanced_focal", {"gamma": 0, "beta": 0.99}, BOTH),
    ("vs", {"gamma": 0, "tau": 1}, BOTH),
    ("vs", {"gamma": 0, "tau": 0.4}, BOTH),
    ("within_class_bce", {}, ("independent",)),
    ("within_class_bce", {"power": 0.5}, ("independent",)),
    ("adaptive_focal", {"gamma_max": 0}, BOTH),
]
CALIBRATED: list[tuple[str, dict[str, Any]]] = [
    ("between_class_bce", {}),
    ("between_class_bce", {"as_published": True}),
    ("uncertainty", {}),
    ("asymmetric", {"gamma_plus": 0, "gamma_minus": 0, "clip": 0}),
]
PROBLEMS: dict[str, Kind] = {"exclusive": "exclusive", "one finding": "independent", "two findings": "independent"}
CASES = [(*arm[:2], problem) for arm in SHIFTED for problem, kind in PROBLEMS.items() if kind in arm[2]]


def _make(name: str, settings: dict[str, Any]) -> Strategy:
    return METHODS[name](**settings)


@pytest.mark.parametrize(("name", "settings", "problem"), CASES)
def test_shift_recovers_the_true_posterior(name: str, settings: dict[str, Any], problem: str) -> None:
    population = Population(problem)
    stack = population.stack(_make(name, settings))
    shift = stack.implied_prior()
    assert shift is not None
    found = population.prob(population.minimum(stack) - shift)
    torch.testing.assert_close(found, population.posterior, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("name", "settings"), CALIBRATED)
def test_whole_classes_weighed_alike_keep_the_true_posterior(name: str, settings: dict[str, Any]) -> None:
    population = Population("two findings")
    method = _make(name, settings)
    stack = population.stack(method)
    if isinstance(method, Uncertainty):
        method.s_ = torch.tensor([1.0, -2.0])
    shift = stack.implied_prior()
    assert shift is not None
    assert shift.tolist() == [0, 0]
    torch.testing.assert_close(population.prob(population.minimum(stack)), population.posterior, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "settings", "problem"),
    [
        ("cost_weights", {}, "exclusive"),
        ("cost_weights", {}, "one finding"),
        ("cost_weights", {"costs": {"class 2": 5}}, "exclusive"),
        ("cost_weights", {"costs": {"class 0": 5}}, "one finding"),
        ("class_balanced_focal", {"gamma": 0}, "exclusive"),
        ("class_balanced_focal", {"gamma": 0}, "one finding"),
        ("class_balanced_focal", {}, "one finding"),
        ("vs", {"gamma": 0}, "exclusive"),
        ("vs", {}, "exclusive"),
        ("vs", {}, "one finding"),
        ("within_class_bce", {}, "one finding"),
        ("asymmetric", {}, "one finding"),
    ],
)
def test_direction_the_rare_class_is_raised(name: str, settings: dict[str, Any], problem: str) -> None:
    population = Population(problem)
    plain = population.prob(population.minimum(population.stack()))
    raised = population.prob(population.minimum(population.stack(_make(name, settings))))
    assert (raised[:, -1] > plain[:, -1] + 0.01).all()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("class_balanced_focal", "exclusive"),
        ("adaptive_focal", "exclusive"),
        ("adaptive_focal", "one finding"),
        ("vs", "exclusive"),
        ("vs", "one finding"),
        ("asymmetric", "one finding"),
    ],
)
def test_no_shift_is_claimed_where_none_is_defined(name: str, problem: str) -> None:
    """And rightly: no one number added to all log-odds of a class gives the truth back."""
    population = Population(problem)
    stack = population.stack(_make(name, {}))
    assert stack.implied_prior() is None
    moved = population.minimum(stack) - population.posterior.log()
    if problem == "exclusive":
        moved = moved - moved.mean(1, keepdim=True)
    else:
        moved = population.minimum(stack) - population.posterior.logit()
    assert (moved.amax(0) - moved.amin(0)).max() > 0.01
