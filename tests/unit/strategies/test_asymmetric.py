"""Asymmetric loss: timm as oracle, BCE and focal loss as special cases, and what each setting does."""

from __future__ import annotations

import math

import pytest
import torch
from timm.loss import AsymmetricLossMultiLabel, AsymmetricLossSingleLabel
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import Facts, Stack
from raresight.strategies.losses.asymmetric import Asymmetric
from raresight.strategies.losses.cross_entropy import cross_entropy
from raresight.strategies.losses.focal import Focal

IDS = torch.arange(6)


def _draw(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, 3, generator=rng, dtype=dtype)
    return logits, (torch.rand(6, 3, generator=rng) < 0.4).to(dtype)


def _loss(method: Asymmetric, logits: Tensor, target: Tensor) -> Tensor:
    ones = torch.ones_like(target)
    return method.loss(logits, target, ones, ones, IDS[: len(target)])[0]


@pytest.mark.parametrize("clip", [0.0, 0.05, 0.3])
@pytest.mark.parametrize(("plus", "minus"), [(1.0, 4.0), (0.0, 4.0), (2.0, 0.0), (0.5, 3.0)])
def test_value_and_gradient_against_timm(plus: float, minus: float, clip: float) -> None:
    logits, target = _draw(torch.float32)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    method = Asymmetric(gamma_plus=plus, gamma_minus=minus, clip=clip)
    total = _loss(method, ours, target)
    oracle = AsymmetricLossMultiLabel(gamma_pos=plus, gamma_neg=minus, clip=clip, reduction="mean")(theirs, target)
    torch.testing.assert_close(total, oracle)
    total.backward()
    oracle.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


def test_a_scalar_loop() -> None:
    """The loss of Ridnik et al., term by term."""
    logits, target = _draw()
    method = Asymmetric(gamma_plus=0.5, gamma_minus=3, clip=0.2)
    expected = torch.zeros(6, 3, dtype=torch.float64)
    for i in range(6):
        for k in range(3):
            p = 1 / (1 + math.exp(-logits[i, k].item()))
            p_m = max(p - 0.2, 0)
            negative = -(p_m**3) * math.log(1 - p_m)
            expected[i, k] = -((1 - p) ** 0.5) * math.log(p) if target[i, k] else negative
    ones = torch.ones_like(target)
    total, per_case = method.loss(logits, target, ones, ones, IDS)
    torch.testing.assert_close(total, expected.mean())
    torch.testing.assert_close(per_case, expected.mean(1))
    mixed = _loss(method, logits, 0.3 * target + 0.7 * (1 - target))  # a soft target mixes the two sides
    torch.testing.assert_close(mixed, 0.3 * total + 0.7 * _loss(method, logits, 1 - target))


def test_all_zero_is_binary_cross_entropy() -> None:
    logits, target = _draw()
    ones = torch.ones_like(target)
    plain, _ = cross_entropy(logits, target, ones, ones, kind="independent")
    torch.testing.assert_close(_loss(Asymmetric(**Asymmetric.neutral()), logits, target), plain)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_equal_gammas_without_clip_are_focal(gamma: float) -> None:
    logits, target = _draw()
    ones = torch.ones_like(target)
    focal = Focal(gamma=gamma)
    focal.fit(Facts("independent", ("a", "b", "c"), target, ones))
    expected = focal.loss(logits, target, ones, ones, IDS)
    found = Asymmetric(gamma_plus=gamma, gamma_minus=gamma, clip=0).loss(logits, target, ones, ones, IDS)
    torch.testing.assert_close(found, expected)


def _pull(method: Asymmetric, p: float, label: float) -> float:
    z = torch.tensor([[math.log(p / (1 - p))]], dtype=torch.float64, requires_grad=True)
    _loss(method, z, torch.full((1, 1), label, dtype=torch.float64)).backward()
    assert z.grad is not None
    return z.grad.item()


def test_direction_negatives_fade_and_positives_stay() -> None:
    method, plain = Asymmetric(), Asymmetric(**Asymmetric.neutral())
    easy = 0.2
    assert 0 < _pull(method, easy, 0) < 0.05 * _pull(plain, easy, 0)  # an easy negative
    assert _pull(method, 1 - easy, 1) < 0.2 * _pull(plain, 1 - easy, 1) < 0  # an equally easy positive, less so
    rare_to_common = _pull(method, 0.3, 1) / _pull(method, 0.3, 0)
    assert abs(rare_to_common) > abs(_pull(plain, 0.3, 1) / _pull(plain, 0.3, 0))


def test_negatives_below_the_clip_cost_nothing() -> None:
    method = Asymmetric(gamma_minus=2, clip=0.1)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    below, above = torch.tensor([[0.0999]]).double().logit(), torch.tensor([[0.1001]]).double().logit()
    assert _loss(method, below, zero) == 0
    assert _loss(method, above, zero) > 0
    assert _pull(method, 0.0999, 0) == 0
    assert _pull(method, 0.0999, 1) < 0


def test_a_negative_sure_to_be_positive_fades_with_clip_alone() -> None:
    """Ridnik et al. section 2.5: the shift attenuates very hard negatives, which may be unlabelled positives."""
    shifted, plain = Asymmetric(clip=0.05), Asymmetric(clip=0)
    assert _pull(shifted, 0.9999, 0) < 0.01
    assert _pull(plain, 0.9999, 0) > 0.9


@pytest.mark.parametrize("clip", [0.0, 0.05, 1e-9])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
def test_gradient_is_finite_at_certainty(gamma: float, clip: float) -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0, 0.0]] * 2, requires_grad=True)
    target = torch.tensor([[1.0, 1, 1, 1], [0.0, 0, 0, 0]])
    total = _loss(Asymmetric(gamma_plus=gamma, gamma_minus=gamma, clip=clip), logits, target)
    total.backward()
    assert total.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_gradient_is_that_of_the_formula(clip: float) -> None:
    """The factors carry a gradient: numerically differentiated, not detached."""
    logits, target = _draw()
    method = Asymmetric(gamma_plus=0.5, gamma_minus=2, clip=clip)
    assert torch.autograd.gradcheck(lambda z: _loss(method, z, target), logits.requires_grad_())


def test_why_exclusive_labels_are_refused() -> None:
    """The authors' single-label form, without label smoothing, does not depend on gamma_minus: it is focal loss."""
    logits, target = _draw()[0], torch.eye(3, dtype=torch.float64)[[0, 1, 2, 2, 1, 0]]
    ones = torch.ones_like(target)
    focal = Focal(gamma=1)
    focal.fit(Facts("exclusive", ("a", "b", "c"), target, ones))
    for gamma_minus in (0, 4):
        theirs = AsymmetricLossSingleLabel(gamma_pos=1, gamma_neg=gamma_minus, eps=0)(logits, target.argmax(1))
        torch.testing.assert_close(theirs, focal.loss(logits, target, ones, ones, IDS)[0])
    with pytest.raises(ConfigError, match="serves independent labels"):
        Stack([Asymmetric()], Task("exclusive", ("a", "b")))


@pytest.mark.parametrize(
    ("settings", "compensates"),
    [
        ({"gamma_plus": 2, "gamma_minus": 2, "clip": 0}, False),
        ({"gamma_plus": 2, "gamma_minus": 1, "clip": 0}, False),
        ({"gamma_plus": 1, "gamma_minus": 2, "clip": 0}, True),
        ({"gamma_plus": 0, "gamma_minus": 0, "clip": 0.1}, True),
    ],
)
def test_no_prior_is_claimed(settings: dict[str, float], compensates: bool) -> None:
    method = Asymmetric(**settings)
    target = torch.eye(3)
    method.fit(Facts("independent", ("a", "b", "c"), target, torch.ones_like(target)))
    assert method.log_prior_shift() is None
    assert method.compensates() is compensates


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gamma_plus": -1}, r"\[0, 20\]"),
        ({"gamma_plus": 21}, r"\[0, 20\]"),
        ({"gamma_minus": -1}, r"\[0, 20\]"),
        ({"gamma_minus": 21}, r"\[0, 20\]"),
        ({"clip": -0.1}, r"\[0, 0.5\]"),
        ({"clip": 0.6}, r"\[0, 0.5\]"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        Asymmetric(**settings)
    assert refusal.value.problems[0].column == f"asymmetric.{next(iter(settings))}"
    assert Asymmetric(gamma_plus=20, gamma_minus=20, clip=0.5).clip == 0.5
