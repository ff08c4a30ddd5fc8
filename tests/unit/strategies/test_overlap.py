"""Dice, Dice + CE and Tversky: a loop over single elements as reference, and what they do where nothing is there."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import Facts, Stack, Strategy
from raresight.strategies.losses.class_weights import ClassWeights
from raresight.strategies.losses.cross_entropy import cross_entropy
from raresight.strategies.losses.dice import Dice
from raresight.strategies.losses.dice_ce import DiceCE
from raresight.strategies.losses.tversky import Tversky

KINDS = ("exclusive", "independent")


def _fitted(method: Strategy, kind: str) -> Strategy:
    target = torch.eye(3)
    method.fit(Facts(kind, ("a", "b", "c"), target, torch.ones_like(target)))  # type: ignore[arg-type]
    return method


def _draw(kind: str, space: tuple[int, ...] = (2, 3)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """4 cases with every class somewhere, yet not in every image; some labels unknown; weights of every size."""
    rng = torch.Generator().manual_seed(1)
    shape = (4, 3, *space)
    logits = 2 * torch.randn(shape, generator=rng, dtype=torch.float64)
    if kind == "exclusive":
        label = torch.randint(0, 2, (4, *space), generator=rng)
        label[1] *= 2
        target = torch.eye(3, dtype=torch.float64)[label].movedim(-1, 1).contiguous()
    else:
        target = (torch.rand(shape, generator=rng) < 0.4).double()
        target[2, 1] = 0
    mask = (torch.rand(shape, generator=rng) < 0.9).double()
    weight = 0.5 + torch.rand(shape, generator=rng, dtype=torch.float64)
    return logits, target, mask, weight


def _loop(kind: str, batch: tuple[Tensor, ...], alpha: float, beta: float, smooth: float, *, per_image: bool) -> float:
    """The loss element by element, from the definition, without a tensor operation."""
    logits, target, mask, weight = (tensor.flatten(2).tolist() for tensor in batch)
    n, k_all, size = len(logits), len(logits[0]), len(logits[0][0])
    regions: dict[tuple[int, ...], list[float]] = {}
    for b in range(n):
        for s in range(size):
            z = [logits[b][k][s] for k in range(k_all)]
            for k in range(k_all):
                if kind == "exclusive":
                    if not all(mask[b][j][s] for j in range(k_all)):
                        continue
                    p = math.exp(z[k]) / sum(math.exp(other) for other in z)
                    w = sum(weight[b][j][s] * target[b][j][s] for j in range(k_all))
                else:
                    if not mask[b][k][s]:
                        continue
                    p = 1 / (1 + math.exp(-z[k]))
                    w = weight[b][k][s]
                y = target[b][k][s]
                sums = regions.setdefault((b, k) if per_image else (k,), [0.0, 0.0, 0.0, 0.0])
                for i, part in enumerate((p * y, p * (1 - y), (1 - p) * y, y)):
                    sums[i] += w * part
    losses = []
    for tp, fp, fn, size_of_truth in regions.values():
        if size_of_truth > 0:
            losses.append(1 - (2 * tp + smooth) / (2 * tp + 2 * alpha * fp + 2 * beta * fn + smooth))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("smooth", [0.0, 1.5])
@pytest.mark.parametrize("kind", KINDS)
def test_dice_against_a_loop(kind: str, smooth: float, per_image: bool) -> None:
    method = _fitted(Dice(smooth=smooth, per_image=per_image), kind)
    batch = _draw(kind)
    total, per_case = method.loss(*batch, torch.arange(4))
    assert per_case is None
    assert total.item() == pytest.approx(_loop(kind, batch, 0.5, 0.5, smooth, per_image=per_image), rel=1e-9)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_tversky_against_a_loop(kind: str, per_image: bool) -> None:
    method = _fitted(Tversky(alpha=0.2, beta=1.7, smooth=0.4, per_image=per_image), kind)
    batch = _draw(kind)
    total, _ = method.loss(*batch, torch.arange(4))
    assert total.item() == pytest.approx(_loop(kind, batch, 0.2, 1.7, 0.4, per_image=per_image), rel=1e-9)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_dice_ce_mixes_the_two(kind: str, per_image: bool) -> None:
    batch = _draw(kind)
    method = _fitted(DiceCE(share=0.3, smooth=0.7, per_image=per_image), kind)
    plain, _ = cross_entropy(*batch, kind=kind)  # type: ignore[arg-type]
    dice = _loop(kind, batch, 0.5, 0.5, 0.7, per_image=per_image)
    total, per_case = method.loss(*batch, torch.arange(4))
    assert per_case is None
    assert total.item() == pytest.approx(0.3 * dice + 0.7 * plain.item(), rel=1e-9)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("space", [(5,), (2, 3), (2, 2, 3)], ids=len)
@pytest.mark.parametrize("kind", KINDS)
def test_equal_prices_are_dice(kind: str, space: tuple[int, ...], per_image: bool) -> None:
    batch, ids = _draw(kind, space), torch.arange(4)
    even = _fitted(Tversky(alpha=0.5, beta=0.5, smooth=2.0, per_image=per_image), kind)
    torch.testing.assert_close(
        even.loss(*batch, ids)[0], _fitted(Dice(smooth=2.0, per_image=per_image), kind).loss(*batch, ids)[0]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_certain_and_right_is_zero_wrong_is_one(kind: str) -> None:
    target = torch.eye(3)[[0, 1, 2, 0]]
    ones = torch.ones_like(target)
    for method in (Dice(), Tversky()):
        _fitted(method, kind)
        assert method.loss(200 * (2 * target - 1), target, ones, ones, torch.arange(4))[0] == 0
        assert method.loss(200 * (1 - 2 * target), target, ones, ones, torch.arange(4))[0] == 1


def test_whole_images_give_the_soft_f1_of_the_batch_by_hand() -> None:
    # class a: truth 1, 1, 0 with p 0.5, 0.5, 0.5: 2 * 1 / (1.5 + 2) = 4/7; class b: truth 0, 0, 1: 2 * 0.5 / 2.5 = 2/5
    target = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    ones = torch.ones_like(target)
    expected = 1 - (4 / 7 + 2 / 5) / 2
    for kind in KINDS:
        total, _ = _fitted(Dice(), kind).loss(torch.zeros(3, 2), target, ones, ones, torch.arange(3))
        assert total.item() == pytest.approx(expected)


@pytest.mark.parametrize("method", [Dice(), Tversky(), DiceCE(share=1.0)], ids=lambda m: m.name)
@pytest.mark.parametrize("per_image", [False, True])
def test_a_class_that_is_not_there_is_left_out(method: Strategy, per_image: bool) -> None:
    """Neither 0 nor 1 enters the mean, and no gradient asks for lower probabilities everywhere."""
    _fitted(method, "independent")
    method.per_image = per_image  # type: ignore[attr-defined]
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, generator=rng).requires_grad_()
    target = torch.zeros(2, 3, 4)
    target[:, 0, :2] = 1
    ones, ids = torch.ones_like(target), torch.arange(2)
    total, _ = method.loss(logits, target, ones, ones, ids)
    alone, _ = method.loss(logits[:, :1], target[:, :1], ones[:, :1], ones[:, :1], ids)
    torch.testing.assert_close(total, alone)
    assert 0.1 < total.item() < 0.9
    total.backward()
    assert logits.grad is not None
    assert logits.grad[:, 1:].abs().max() == 0
    # nothing at all: 0, and nothing is asked for, not even with smoothing
    for smooth in (0.0, 1.0):
        method.smooth = smooth  # type: ignore[attr-defined]
        logits.grad = None
        nothing, _ = method.loss(logits, torch.zeros_like(target), ones, ones, ids)
        nothing.backward()
        assert nothing == 0
        assert logits.grad is not None
        assert logits.grad.abs().max() == 0


def test_an_absent_class_whose_probability_underflows_has_no_gradient() -> None:
    """Its overlap is 0/0 in floating point too, which must reach neither the loss nor the gradient."""
    logits = torch.tensor([[0.5, -200.0], [-0.5, -200.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0], [0, 0]])
    ones = torch.ones_like(target)
    total, _ = _fitted(Dice(), "independent").loss(logits, target, ones, ones, torch.arange(2))
    total.backward()
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0, 0]
    assert logits.grad[:, 0].abs().min() > 0


def test_normal_images_are_felt_through_the_batch_or_through_cross_entropy() -> None:
    """An image without the class beside one with it: its false alarms count over the batch, not image by image."""
    target = torch.zeros(2, 1, 4)
    target[0, 0, 0] = 1
    ones, ids = torch.ones_like(target), torch.arange(2)
    for method, felt in ((Dice(), True), (Dice(per_image=True), False), (DiceCE(per_image=True), True)):
        logits = torch.zeros(2, 1, 4, requires_grad=True)
        _fitted(method, "independent").loss(logits, target, ones, ones, ids)[0].backward()
        assert logits.grad is not None
        assert (logits.grad[1] > 0).all() == felt
        assert (logits.grad[1] == 0).all() != felt


def test_smoothing_by_hand() -> None:
    # seven missed elements cost 1 - s / (7 + s): the table of our study of tiny lesions
    target = torch.ones(1, 1, 7)
    ones, ids = torch.ones_like(target), torch.arange(1)
    for smooth, cost in ((0.0, 1.0), (0.1, 0.986), (1.0, 0.875), (10.0, 0.412), (100.0, 0.065)):
        total, _ = _fitted(Dice(smooth=smooth), "independent").loss(-200 * ones, target, ones, ones, ids)
        assert total.item() == pytest.approx(cost, abs=5e-4)


def test_direction_beta_makes_misses_dearer_and_alpha_false_alarms() -> None:
    target = torch.tensor([[[1.0, 1, 0, 0, 0, 0]]])
    ones, ids = torch.ones_like(target), torch.arange(1)
    pull = {}
    for name, method in {"misses": Tversky(alpha=0.3, beta=0.7), "alarms": Tversky(alpha=0.7, beta=0.3)}.items():
        logits = torch.full_like(target, -1.0).requires_grad_()
        _fitted(method, "independent").loss(logits, target, ones, ones, ids)[0].backward()
        assert logits.grad is not None
        assert (logits.grad[target == 1] < 0).all()
        assert (logits.grad[target == 0] > 0).all()
        pull[name] = (logits.grad[0, 0, 0] / logits.grad[0, 0, 5]).abs().item()
    assert pull["misses"] > pull["alarms"]


def test_direction_the_lone_element_of_a_rare_class_is_pulled_harder_than_by_cross_entropy() -> None:
    """1 element of 40, all probabilities 1/2. Dice: dL/dp = -(2 * 21 - 1) / 21^2 (21 = sum p + sum y), halved over two
    classes, dp/dz = 1/4. Cross-entropy: -1/2 over 80 labels."""
    target = torch.eye(2)[(torch.arange(40) == 7).long()].T[None]
    ones = torch.ones_like(target)
    pull = []
    for share in (1.0, 0.0):
        logits = torch.zeros_like(target, requires_grad=True)
        _fitted(DiceCE(share=share), "independent").loss(logits, target, ones, ones, torch.arange(1))[0].backward()
        assert logits.grad is not None
        pull.append(logits.grad[0, 1, 7].item())
    assert pull == pytest.approx([-(41 / 441) / 8, -1 / 160])
    assert pull[0] < pull[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_of_weight_two_is_a_case_that_stands_twice(kind: str) -> None:
    logits, target, mask, _ = _draw(kind)
    weight = torch.ones(4, 1, 1, 1, dtype=torch.float64)
    weight[1] = 2
    twice = torch.tensor([0, 1, 1, 2, 3])
    for method in (Dice(smooth=0.3), Tversky(), DiceCE(share=1.0)):
        _fitted(method, kind)
        weighted, _ = method.loss(logits, target, mask, weight, torch.arange(4))
        repeated, _ = method.loss(
            logits[twice], target[twice], mask[twice], torch.ones(5, 1, 1, 1, dtype=torch.float64), twice
        )
        torch.testing.assert_close(weighted, repeated)


def test_class_weights_act_on_the_elements_that_classes_compete_for() -> None:
    """Exclusive: an element takes the weight of its true class in all K overlaps (else the weights would cancel)."""
    logits, target, _, _ = _draw("exclusive")
    ones, ids = torch.ones_like(target), torch.arange(4)
    weights = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64).view(1, 3, 1, 1)
    dice = _fitted(Dice(), "exclusive")
    weighted, _ = dice.loss(logits, target, ones, weights, ids)
    plain, _ = dice.loss(logits, target, ones, ones, ids)
    assert (weighted - plain).abs() > 1e-3
    expected = _loop("exclusive", (logits, target, ones, weights.expand_as(target)), 0.5, 0.5, 0, per_image=False)
    assert weighted.item() == pytest.approx(expected, rel=1e-9)
    Stack([Dice(), ClassWeights()], Task("exclusive", ("a", "b", "c")), "both")  # and the arm may be built


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_formula(kind: str) -> None:
    logits, target, mask, weight = _draw(kind, (3,))
    for method in (Dice(), Tversky(per_image=True), DiceCE(smooth=1.0)):
        _fitted(method, kind)

        def loss(z: Tensor, method: Strategy = method) -> Tensor:
            return method.loss(z, target, mask, weight, torch.arange(4))[0]

        assert torch.autograd.gradcheck(loss, logits.detach().requires_grad_())


@pytest.mark.parametrize("kind", KINDS)
def test_overflow_behind_the_mask_does_not_leak(kind: str) -> None:
    logits, target, mask, weight = (tensor.clone() for tensor in _draw(kind))
    mask[0] = 0
    expected, _ = _fitted(Dice(), kind).loss(logits, target, mask, weight, torch.arange(4))
    logits[0] = math.inf
    logits.requires_grad_()
    total, _ = _fitted(Dice(), kind).loss(logits, target, mask, weight, torch.arange(4))
    total.backward()
    torch.testing.assert_close(total, expected)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("method", [Dice, DiceCE, Tversky], ids=lambda m: m.name)
def test_regions_within_an_image_need_an_image_with_places(method: type[Strategy]) -> None:
    target = torch.eye(3)
    with pytest.raises(ConfigError, match="no region of its own") as refusal:
        _fitted(method(per_image=True), "exclusive").loss(target, target, target, target, torch.arange(3))
    assert refusal.value.problems[0].column == f"{method.name}.per_image"


def test_what_is_said_about_the_prior() -> None:
    for method in (Dice(), Tversky(), DiceCE()):
        assert method.log_prior_shift() is None
        assert method.compensates()
    shift = DiceCE(share=0.0).log_prior_shift()
    assert shift is not None
    assert shift.item() == 0
    assert not DiceCE(share=0.0).compensates()


@pytest.mark.parametrize(
    ("method", "settings", "allowed"),
    [
        (Dice, {"smooth": -1.0}, r"\[0, 1000\]"),
        (Dice, {"smooth": 1001.0}, r"\[0, 1000\]"),
        (Dice, {"per_image": 1}, "true or false"),
        (DiceCE, {"share": 1.1}, r"\[0, 1\]"),
        (DiceCE, {"share": -0.1}, r"\[0, 1\]"),
        (DiceCE, {"smooth": -1.0}, r"\[0, 1000\]"),
        (DiceCE, {"smooth": 1001.0}, r"\[0, 1000\]"),
        (DiceCE, {"per_image": 1}, "true or false"),
        (Tversky, {"alpha": 0.0}, r"\[0.01, 10\]"),
        (Tversky, {"alpha": 10.1}, r"\[0.01, 10\]"),
        (Tversky, {"beta": 0.0}, r"\[0.01, 10\]"),
        (Tversky, {"beta": 10.1}, r"\[0.01, 10\]"),
        (Tversky, {"smooth": -1.0}, r"\[0, 1000\]"),
        (Tversky, {"smooth": 1001.0}, r"\[0, 1000\]"),
        (Tversky, {"per_image": 1}, "true or false"),
    ],
)
def test_settings_out_of_range_name_the_range(
    method: type[Strategy], settings: dict[str, object], allowed: str
) -> None:
    with pytest.raises(ConfigError, match=allowed) as refusal:
        method(**settings)
    (problem,) = refusal.value.problems
    assert problem.code == "RS-C34"
    assert problem.column == f"{method.name}.{next(iter(settings))}"
