"""Adaptive focal loss: the rule step by step, its bounds, and focal loss with the gamma of the moment."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.losses.adaptive_focal import AdaptiveFocal, mean_p_true
from raresight.strategies.losses.cross_entropy import cross_entropy
from raresight.strategies.losses.focal import Focal

IDS = torch.arange(4)


def _facts(kind: str) -> Facts:
    target = torch.eye(3)
    return Facts(kind, ("a", "b", "c"), target, torch.ones_like(target))  # type: ignore[arg-type]


def _fitted(kind: str = "exclusive", **settings: float) -> AdaptiveFocal:
    method = AdaptiveFocal(**settings)
    method.fit(_facts(kind))
    return method


def _step(method: AdaptiveFocal, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    ones = torch.ones_like(target)
    total, per_case = method.loss(logits, target, ones if mask is None else mask, ones, IDS[: len(target)])
    assert per_case is not None
    method.observe(IDS[: len(target)], per_case)
    return total


def _draw(kind: str) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, 3, generator=rng, dtype=torch.float64)
    if kind == "exclusive":
        return logits, torch.eye(3, dtype=torch.float64)[[0, 1, 2, 2]]
    return logits, (torch.rand(4, 3, generator=rng) < 0.4).double()


@pytest.mark.parametrize(("kind", "expected"), [("exclusive", math.log(3)), ("independent", math.log(2))])
def test_gamma_begins_at_chance(kind: str, expected: float) -> None:
    assert _fitted(kind).gamma_.item() == pytest.approx(expected, rel=1e-6)


def test_the_rule_by_hand() -> None:
    """P: 1/3; after a batch with p_t = 0.6 and 0.2: 0.75/3 + 0.25 * 0.4 = 0.35; after p_t = 0.9: 0.4875."""
    method = _fitted(smoothing=0.75)
    first = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.2, 0.3]]).log()
    _step(method, first, torch.eye(3)[[0, 1]])
    assert method.p_correct_.item() == pytest.approx(0.35, rel=1e-6)
    assert method.gamma_.item() == pytest.approx(-math.log(0.35), rel=1e-6)
    _step(method, torch.tensor([[0.05, 0.9, 0.05]]).log(), torch.eye(3)[[1]])
    assert method.p_correct_.item() == pytest.approx(0.4875, rel=1e-6)


def test_the_independent_rule_counts_every_known_label_once() -> None:
    """p 0.8 for a positive, 0.3 and 0.1 for negatives, one label unknown: (0.8 + 0.7 + 0.9) / 3 = 0.8."""
    logits = torch.tensor([[0.8, 0.3], [0.6, 0.1]]).logit()
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    method = _fitted("independent", smoothing=0.5)
    _step(method, logits, target, mask)
    assert method.p_correct_.item() == pytest.approx(0.5 * 0.5 + 0.5 * 0.8, rel=1e-6)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_mean_probability_of_the_truth_against_a_loop(kind: str) -> None:
    logits, target = _draw(kind)
    values = []
    for row, labels in zip(logits.tolist(), target.tolist(), strict=True):
        if kind == "exclusive":
            values.append(math.exp(row[labels.index(1)]) / sum(math.exp(z) for z in row))
        else:
            values += [1 / (1 + math.exp(-z if y else z)) for z, y in zip(row, labels, strict=True)]
    found = mean_p_true(logits, target, torch.ones_like(target), kind=kind)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(sum(values) / len(values), rel=1e-9)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_the_loss_is_focal_with_the_gamma_of_the_moment(kind: str) -> None:
    logits, target = _draw(kind)
    ones = torch.ones_like(target)
    method = _fitted(kind, smoothing=0.5)
    for _ in range(3):
        focal = Focal(gamma=method.gamma_.item())
        focal.fit(_facts(kind))
        expected = focal.loss(logits, target, ones, ones, IDS)
        torch.testing.assert_close(method.loss(logits, target, ones, ones, IDS), expected)
        method.observe(IDS, expected[1])


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_gamma_max_zero_is_cross_entropy(kind: str) -> None:
    logits, target = _draw(kind)
    ones = torch.ones_like(target)
    method = _fitted(kind, gamma_max=0)
    _step(method, logits, target)
    plain = cross_entropy(logits, target, ones, ones, kind=kind)  # type: ignore[arg-type]
    torch.testing.assert_close(method.loss(logits, target, ones, ones, IDS), plain)
    assert method.log_prior_shift().tolist() == [0, 0, 0]


def test_direction_the_focus_fades_as_the_model_learns_and_returns_when_it_forgets() -> None:
    method, target = _fitted(), torch.eye(3)
    gammas = [method.gamma_.item()]
    for _ in range(40):
        _step(method, 6 * torch.eye(3), target)
        gammas.append(method.gamma_.item())
    assert all(later < earlier for earlier, later in pairwise(gammas))
    assert gammas[0] > 1
    assert gammas[-1] < 0.2
    _step(method, -6 * torch.eye(3), target)
    assert method.gamma_.item() > gammas[-1]


def test_gamma_stays_within_its_bounds() -> None:
    method = _fitted(smoothing=0, gamma_max=1.5)
    _step(method, -3 * torch.eye(3), torch.eye(3))  # p_t = 0.024, -log p_t = 3.7
    assert method.gamma_.item() == 1.5
    method.p_correct_ = torch.tensor(1.0000001)  # a mean of ones may round up
    assert method.gamma_.item() == 0


def test_a_batch_without_known_labels_moves_nothing() -> None:
    method = _fitted(smoothing=0)
    before = method.gamma_
    _step(method, 6 * torch.eye(3), torch.eye(3), torch.zeros(3, 3))
    assert torch.equal(method.gamma_, before)
    _step(method, 6 * torch.eye(3), torch.eye(3))
    assert method.gamma_ < 0.01


def test_only_the_first_call_of_a_step_counts() -> None:
    """A second forward pass of the step (SAM's) is at weights that are not kept."""
    once, twice = _fitted(), _fitted()
    ones = torch.ones(3, 3)
    for method in (once, twice):
        _, per_case = method.loss(torch.eye(3), torch.eye(3), ones, ones, IDS[:3])
        if method is twice:
            method.loss(-torch.eye(3), torch.eye(3), ones, ones, IDS[:3])
        method.observe(IDS[:3], per_case)
    assert torch.equal(once.p_correct_, twice.p_correct_)
    before = once.p_correct_
    once.observe(IDS[:3], per_case)  # nothing seen since
    assert torch.equal(once.p_correct_, before)


def test_state_is_kept_exactly() -> None:
    method, other = _fitted(), _fitted()
    _step(method, 2 * torch.eye(3), torch.eye(3))
    other.loss(-torch.eye(3), torch.eye(3), torch.ones(3, 3), torch.ones(3, 3), IDS[:3])
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.gamma_, method.gamma_)
    for each in (method, other):
        _step(each, torch.eye(3), torch.eye(3))
    assert torch.equal(other.gamma_, method.gamma_)


def test_no_prior_is_claimed() -> None:
    assert _fitted().log_prior_shift() is None
    assert not _fitted().compensates()
    assert AdaptiveFocal.rowwise is False


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"smoothing": 1.0}, r"\[0, 1\)"),
        ({"smoothing": -0.1}, r"\[0, 1\)"),
        ({"gamma_max": -1}, r"\[0, 20\]"),
        ({"gamma_max": 21}, r"\[0, 20\]"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        AdaptiveFocal(**settings)
    assert refusal.value.problems[0].column == f"adaptive_focal.{next(iter(settings))}"
    assert AdaptiveFocal(gamma_max=20).gamma_max == 20
