"""Within- and between-class weights of the seed study: torch's pos_weight and the released formula as references."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import Facts, Stack, Strategy
from raresight.strategies.losses.between_class_bce import BetweenClassBCE
from raresight.strategies.losses.class_weights import ClassWeights
from raresight.strategies.losses.within_class_bce import WithinClassBCE

COUNTS = [60, 20, 5]


def _facts(counts: list[int] | None = None) -> Facts:
    target = torch.stack([(torch.arange(100) < n).float() for n in counts or COUNTS], 1)
    return Facts("independent", ("a", "b", "c"), target, torch.ones_like(target))


def _stack(method: Strategy, facts: Facts | None = None) -> Stack:
    stack = Stack([method], Task("independent", ("a", "b", "c")))
    stack.fit(facts or _facts())
    return stack


def test_within_is_torchs_pos_weight() -> None:
    facts = _facts()
    logits = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    total, per_case = _stack(WithinClassBCE()).loss(logits, facts.target, facts.mask, torch.arange(100), 0)
    ratio = torch.tensor([40 / 60, 80 / 20, 95 / 5])
    torch.testing.assert_close(total, binary_cross_entropy_with_logits(logits, facts.target, pos_weight=ratio))
    plain = binary_cross_entropy_with_logits(logits, facts.target, reduction="none").mean(1)
    torch.testing.assert_close(per_case, plain)


def test_within_power_and_a_soft_target_by_hand() -> None:
    method = WithinClassBCE(power=0.5)
    method.fit(_facts())
    found = method.case_weights(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.25, 1.0]]), torch.arange(2), 0)
    # square roots of 2/3, 4, 19; a quarter of 2 and three quarters of 1
    torch.testing.assert_close(found, torch.tensor([[(2 / 3) ** 0.5, 2.0, 1.0], [1.0, 1.25, 19**0.5]]))


def test_within_balances_each_class() -> None:
    """Positives together weigh as much as negatives together: the definition, from the training labels."""
    facts = _facts()
    method = WithinClassBCE()
    method.fit(facts)
    weights = method.case_weights(facts.target, torch.arange(100), 0)
    torch.testing.assert_close((weights * facts.target).sum(0), (weights * (1 - facts.target)).sum(0))


def test_within_is_inverse_class_weights_up_to_a_factor_per_class() -> None:
    facts = _facts()
    ours, inverse = WithinClassBCE(), ClassWeights(scheme="inverse")
    ours.fit(facts)
    inverse.fit(facts)
    ratio = ours.case_weights(facts.target, torch.arange(100), 0) / inverse.case_weights(
        facts.target, torch.arange(100), 0
    )
    # the factor is 2 (1 - pi), twice the share of negatives
    torch.testing.assert_close(ratio, torch.tensor([0.8, 1.6, 1.9]).expand(100, 3))
    torch.testing.assert_close(ours.log_prior_shift(), inverse.log_prior_shift())


@pytest.mark.parametrize("counts", [[0, 100, 20]])
def test_within_leaves_a_class_with_one_side_alone(counts: list[int]) -> None:
    method = WithinClassBCE()
    method.fit(_facts(counts))
    assert method.positive_.tolist() == [1.0, 1.0, 4.0]
    assert method.log_prior_shift()[:2].tolist() == [0.0, 0.0]


def test_between_by_hand() -> None:
    # n^(-1/2): square roots of 60, 20, 5 below 1, over their mean
    raw = [60**-0.5, 20**-0.5, 5**-0.5]
    method = BetweenClassBCE()
    method.fit(_facts())
    expected = torch.tensor([[value / (sum(raw) / 3) for value in raw]])
    torch.testing.assert_close(method.case_weights(torch.zeros(2, 3), torch.arange(2), 0), expected)


def test_between_as_published_is_the_released_formula_times_the_number_of_classes() -> None:
    """imba-explain: sqrt(n_c / (n_max + sum n)), scaled to a sum of 1."""
    n = torch.tensor(COUNTS, dtype=torch.float64)
    theirs = (n / (n.max() + n.sum())).sqrt()
    theirs = theirs / theirs.sum()
    method = BetweenClassBCE(as_published=True)
    method.fit(_facts())
    torch.testing.assert_close(method.weight_, 3 * theirs)
    # and the loss is theirs but for that factor: class weights on every entry, positives and negatives alike
    facts = _facts()
    logits = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    total, _ = _stack(BetweenClassBCE(as_published=True)).loss(logits, facts.target, facts.mask, torch.arange(100), 0)
    entries = binary_cross_entropy_with_logits(logits, facts.target, reduction="none")
    torch.testing.assert_close(total, 3 * (entries * theirs.float()).mean())


def test_direction_of_between_and_of_its_published_defect() -> None:
    sound, published = BetweenClassBCE(), BetweenClassBCE(as_published=True)
    for method in (sound, published):
        method.fit(_facts())
    assert sound.weight_[0] < sound.weight_[1] < sound.weight_[2]
    assert published.weight_[0] > published.weight_[1] > published.weight_[2]
    for method in (sound, published):
        assert method.weight_.mean().item() == pytest.approx(1)
        assert method.log_prior_shift().tolist() == [0, 0, 0]
        assert not method.compensates()


@pytest.mark.parametrize("as_published", [False, True])
def test_between_leaves_an_absent_class_out(as_published: bool) -> None:
    method = BetweenClassBCE(power=1, as_published=as_published)
    method.fit(_facts([60, 20, 0]))
    assert method.weight_.tolist() == pytest.approx([1.5, 0.5, 1.0] if as_published else [0.5, 1.5, 1.0])
    method.fit(_facts([0, 0, 0]))
    assert method.weight_.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "method", [WithinClassBCE(power=0), BetweenClassBCE(power=0), BetweenClassBCE(power=0, as_published=True)]
)
def test_power_zero_is_plain_training(method: Strategy) -> None:
    facts = _facts()
    logits = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    total, _ = _stack(method).loss(logits, facts.target, facts.mask, torch.arange(100), 0)
    torch.testing.assert_close(total, binary_cross_entropy_with_logits(logits, facts.target))


@pytest.mark.parametrize("method", [WithinClassBCE, BetweenClassBCE])
def test_settings_out_of_range(method: type[WithinClassBCE | BetweenClassBCE]) -> None:
    for power in (-0.1, 1.1):
        with pytest.raises(ConfigError, match=r"\[0, 1\]") as refusal:
            method(power=power)
        assert refusal.value.problems[0].column == f"{method.name}.power"
    with pytest.raises(ConfigError, match="serves independent labels"):
        Stack([method(power=1)], Task("exclusive", ("a", "b")))
    with pytest.raises(ConfigError, match="true or false"):
        BetweenClassBCE(as_published=1)  # type: ignore[arg-type]
