"""AUC-margin loss: a loop over pairs, hand-worked values, and what follows where the loss is zero."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import Facts, Stack
from raresight.strategies.losses.auc_margin import AUCMargin, pairwise_margin
from raresight.strategies.losses.class_weights import ClassWeights
from raresight.strategies.sampling.class_balanced import ClassBalancedSampling
from raresight.strategies.sampling.importance import ImportanceSampling

CLASSES = ("effusion", "hernia", "nodule")


def _method(**settings: float) -> AUCMargin:
    method = AUCMargin(**settings)
    target = torch.eye(3)
    method.fit(Facts("independent", CLASSES, target, torch.ones_like(target)))
    return method


def _draw() -> tuple[Tensor, Tensor, Tensor]:
    """9 cases; the last class has a single positive; some labels are unknown."""
    rng = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(9, 3, generator=rng, dtype=torch.float64)
    target = (torch.rand(9, 3, generator=rng) < 0.4).double()
    target[:, 2] = 0
    target[4, 2] = 1
    mask = (torch.rand(9, 3, generator=rng) < 0.8).double()
    mask[4, 2] = 1
    return logits, target, mask


def _loss(method: AUCMargin, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    mask = torch.ones_like(target) if mask is None else mask
    total, per_case = method.loss(logits, target, mask, torch.ones_like(target), torch.arange(len(target)))
    assert per_case is None
    return total


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@pytest.mark.parametrize("margin", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_against_a_loop_over_pairs(margin: float, share: float) -> None:
    logits, target, mask = _draw()
    pairs = plain = 0.0
    known = 0
    for k in range(3):
        gaps = []
        for i in range(9):
            if not mask[i, k]:
                continue
            p = _sigmoid(logits[i, k].item())
            plain -= math.log(p) if target[i, k] else math.log(1 - p)
            known += 1
            for j in range(9):
                if mask[j, k] and target[i, k] and not target[j, k]:
                    gaps.append(p - _sigmoid(logits[j, k].item()))
        pairs += sum(max(0.0, margin - gap) ** 2 for gap in gaps) / len(gaps) / 3
    found = _loss(_method(margin=margin, share=share), logits, target, mask).item()
    assert found == pytest.approx(share * pairs + (1 - share) * plain / known, rel=1e-9)


def test_by_hand_with_a_class_without_pairs() -> None:
    # class 0: positives 0.8 and 0.6, negative 0.7, margin 0.2: (0.2 - 0.1)^2 and (0.2 + 0.1)^2, mean 0.05; class 1 has
    # positives only; the mean over two classes is 0.025
    score = torch.tensor([[0.8, 0.9], [0.6, 0.1], [0.7, 0.2]], dtype=torch.float64)
    target = torch.tensor([[1.0, 1], [1, 1], [0, 1]], dtype=torch.float64)
    found = pairwise_margin(score, target, torch.ones_like(target), 0.2)
    assert found.item() == pytest.approx(0.025)
    # and as negatives only
    target[:, 1] = 0
    assert pairwise_margin(score, target, torch.ones_like(target), 0.2).item() == pytest.approx(0.025)


def test_a_soft_target_counts_on_both_sides() -> None:
    # y = 0.25 at score 0.5 beside a negative at 0.1, margin 1: pairs (soft, negative) 0.25 * 0.6^2, and the soft case's
    # two halves with each other 0.25 * 0.75 * 1; sum of pairs 0.25 * (0.75 + 1)
    score, target = torch.tensor([[0.5], [0.1]]), torch.tensor([[0.25], [0.0]])
    expected = (0.25 * 0.36 + 0.25 * 0.75) / (0.25 * 1.75)
    assert pairwise_margin(score, target, torch.ones(2, 1), 1.0).item() == pytest.approx(expected)


def test_zero_means_an_auc_of_one_and_ordered_by_the_margin() -> None:
    method = _method(margin=0.4, share=1.0)
    target = torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    score = 0.2 + 0.45 * target + torch.tensor([[0.0], [0.04], [0.02], [0.01]])
    assert _loss(method, torch.logit(score), target).item() == 0
    assert roc_auc_score(target.numpy(), score.numpy()) == 1
    # a single pair short of the margin, though still in order, is enough to pay
    score[1, 0] -= 0.1
    assert roc_auc_score(target.numpy(), score.numpy()) == 1
    assert _loss(method, torch.logit(score), target).item() > 0


def test_with_a_margin_that_always_binds_it_is_variances_plus_distance_of_means() -> None:
    """Ying et al. 2016: where no pair is in order by the margin, E (m - h+ + h-)^2 = var+ + var- + (m - a + b)^2."""
    score = torch.tensor([[0.3], [0.5], [0.2], [0.6], [0.1]], dtype=torch.float64)
    target = torch.tensor([[1.0], [1], [0], [0], [0]], dtype=torch.float64)
    plus, minus = score[:2], score[2:]
    expected = plus.var(correction=0) + minus.var(correction=0) + (1 - plus.mean() + minus.mean()) ** 2
    torch.testing.assert_close(pairwise_margin(score, target, torch.ones_like(target), 1.0), expected)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_direction_positives_are_pushed_up_and_negatives_down(share: float) -> None:
    logits, target, mask = _draw()
    logits.requires_grad_()
    _loss(_method(share=share), logits, target, mask).backward()
    assert logits.grad is not None
    known = mask > 0
    assert (logits.grad[(target == 1) & known] < 0).all()
    assert (logits.grad[(target == 0) & known] > 0).all()
    assert logits.grad[~known].abs().max() == 0


def test_direction_a_lone_positive_weighs_as_much_as_all_negatives_together() -> None:
    """Shifting all scores alike changes nothing, so the pull on 1 positive equals that on 8 negatives."""
    score = torch.linspace(0.2, 0.6, 9, dtype=torch.float64)[:, None].requires_grad_()
    target = torch.zeros(9, 1, dtype=torch.float64)
    target[3] = 1
    pairwise_margin(score, target, torch.ones_like(target), 1.0).backward()
    assert score.grad is not None
    assert score.grad[3].item() == pytest.approx(-(score.grad.sum() - score.grad[3]).item())
    assert score.grad[3].item() < -0.5


def test_gradient_is_that_of_the_formula() -> None:
    logits, target, mask = _draw()
    method = _method(margin=0.7)
    assert torch.autograd.gradcheck(lambda z: _loss(method, z, target, mask), logits.requires_grad_())


def test_batch_without_any_pair_is_cross_entropy_alone() -> None:
    logits, target = torch.tensor([[0.3, -1.0, 2.0]]), torch.tensor([[1.0, 0, 0]])
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(_loss(_method(share=0.25), logits, target), 0.75 * plain)


def test_no_prior_is_claimed_but_for_share_zero() -> None:
    assert _method().log_prior_shift() is None
    assert _method().compensates()
    plain = _method(share=0.0)
    shift = plain.log_prior_shift()
    assert shift is not None
    assert shift.tolist() == [0, 0, 0]
    assert not plain.compensates()


def test_case_weights_are_refused_but_a_sampler_is_not() -> None:
    task = Task("independent", CLASSES)
    with pytest.raises(ConfigError, match="'auc_margin' cannot use the case weights of 'class_weights'"):
        _fit(Stack([AUCMargin(), ClassWeights()], task, "mine"))
    with pytest.raises(ConfigError, match="'auc_margin' cannot use the case weights of 'importance_sampling'"):
        _fit(Stack([AUCMargin(), ImportanceSampling()], task, "mine"))
    _fit(Stack([AUCMargin(), ClassBalancedSampling()], task, "mine"))


def _fit(stack: Stack) -> None:
    target = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    stack.fit(Facts("independent", CLASSES, target, torch.ones_like(target)))


@pytest.mark.parametrize("settings", [{"margin": -0.1}, {"margin": 1.1}, {"share": -0.1}, {"share": 1.1}])
def test_settings_out_of_range_name_the_range(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"\[0, 1\]") as refusal:
        AUCMargin(**settings)
    (problem,) = refusal.value.problems
    assert problem.code == "RS-C34"
    assert problem.column == f"auc_margin.{next(iter(settings))}"
