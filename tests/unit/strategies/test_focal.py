"""Focal loss: a scalar loop, torchvision, and the paper's own figure as references."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.losses.cross_entropy import cross_entropy
from raresight.strategies.losses.focal import Focal

IDS = torch.arange(6)


def _focal(kind: str, **settings: object) -> Focal:
    method = Focal(**settings)  # type: ignore[arg-type]
    target = torch.eye(3)
    method.fit(Facts(kind, ("a", "b", "c"), target, torch.ones_like(target)))  # type: ignore[arg-type]
    return method


def _draw(kind: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, 3, generator=rng, dtype=dtype)
    if kind == "exclusive":
        return logits, torch.eye(3, dtype=dtype)[[0, 1, 2, 2, 1, 0]]
    return logits, (torch.rand(6, 3, generator=rng) < 0.4).to(dtype)


def _loss(method: Focal, logits: Tensor, target: Tensor) -> Tensor:
    ones = torch.ones_like(target)
    return method.loss(logits, target, ones, ones, IDS[: len(target)])[0]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_exclusive_against_a_scalar_loop(gamma: float) -> None:
    logits, target = _draw("exclusive")
    expected = 0.0
    for row, label in zip(logits.tolist(), target.argmax(1).tolist(), strict=True):
        p = math.exp(row[label]) / sum(math.exp(z) for z in row)
        expected += -((1 - p) ** gamma) * math.log(p) / len(logits)
    assert _loss(_focal("exclusive", gamma=gamma), logits, target).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
def test_independent_against_torchvision(gamma: float, alpha: float | None) -> None:
    logits, target = _draw("independent")
    theirs = sigmoid_focal_loss(logits, target, alpha=-1 if alpha is None else alpha, gamma=gamma, reduction="mean")
    torch.testing.assert_close(_loss(_focal("independent", gamma=gamma, alpha=alpha), logits, target), theirs)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_gamma_zero_is_cross_entropy(kind: str) -> None:
    logits, target = _draw(kind, torch.float32)
    ones = torch.ones_like(target)
    total, per_case = _focal(kind, gamma=0).loss(logits, target, ones, ones, IDS)
    plain, plain_case = cross_entropy(logits, target, ones, ones, kind=kind)  # type: ignore[arg-type]
    torch.testing.assert_close(total, plain)
    torch.testing.assert_close(per_case, plain_case)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_soft_target_mixes_the_hard_losses(kind: str) -> None:
    """By definition, and unlike torchvision, whose p_t becomes p y + (1 - p)(1 - y)."""
    method = _focal(kind, gamma=2)
    logits, hard = _draw(kind)
    share = 0.3
    other = hard.roll(1, 0)
    mixed = _loss(method, logits, share * hard + (1 - share) * other)
    expected = share * _loss(method, logits, hard) + (1 - share) * _loss(method, logits, other)
    torch.testing.assert_close(mixed, expected)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_an_easy_case_counts_a_hundred_times_less(kind: str) -> None:
    """Lin et al., section 3.2: with gamma 2, p_t = 0.9 has 100 times lower loss than cross-entropy."""
    method = _focal(kind, gamma=2)
    if kind == "exclusive":
        logits, target = torch.tensor([[0.9, 0.06, 0.04]]).double().log(), torch.eye(3, dtype=torch.float64)[:1]
    else:
        logits, target = torch.full((1, 3), math.log(9), dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    plain = _loss(_focal(kind, gamma=0), logits, target)
    assert (plain / _loss(method, logits, target)).item() == pytest.approx(100, rel=1e-6)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_gradient_is_that_of_the_formula(kind: str, gamma: float) -> None:
    logits, target = _draw(kind)
    method = _focal(kind, gamma=gamma)
    assert torch.autograd.gradcheck(lambda z: _loss(method, z, target), logits.requires_grad_())


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_direction_hard_cases_take_a_larger_share_of_the_gradient(kind: str) -> None:
    target = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    logits = torch.tensor([[4.0, -4, -4], [-1.0, 1, -4]])  # easy, hard
    shares = []
    for gamma in (0.0, 2.0):
        z = logits.clone().requires_grad_()
        _loss(_focal(kind, gamma=gamma), z, target).backward()
        assert z.grad is not None
        assert (z.grad[:, 0] < 0).all()  # the truth's logit is still pushed up
        shares.append((z.grad[1, 0] / z.grad[:, 0].sum()).item())
    assert shares[1] > shares[0]


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_gamma_below_one_has_a_finite_gradient_at_certainty(kind: str) -> None:
    z = torch.tensor([[200.0, -200, -200]], requires_grad=True)
    _loss(_focal(kind, gamma=0.2), z, torch.tensor([[1.0, 0, 0]])).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_alpha_is_refused_for_exclusive_labels() -> None:
    with pytest.raises(ConfigError, match="class_weights"):
        _focal("exclusive", alpha=0.25)


@pytest.mark.parametrize(
    "settings", [{"gamma": -2}, {"gamma": 21}, {"gamma": "two"}, {"gamma": True}, {"gamma": math.nan}, {"alpha": 1.5}]
)
def test_settings_out_of_range_name_the_range(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"\[0, (20|1)\]") as refusal:
        Focal(**settings)  # type: ignore[arg-type]
    (problem,) = refusal.value.problems
    assert problem.code == "RS-C34"
    assert problem.column == f"focal.{next(iter(settings))}"


def test_only_an_uneven_alpha_compensates() -> None:
    assert [Focal(alpha=alpha).compensates() for alpha in (None, 0.5, 0.25, 0.75)] == [False, False, True, True]
