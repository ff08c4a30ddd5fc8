"""Class weights: hand-worked weights, scikit-learn and torch as oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.losses.class_weights import ClassWeights, rarity

IDS = torch.arange(1)


def _exclusive(counts: list[int]) -> Facts:
    label = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    target = torch.eye(len(counts))[label]
    return Facts("exclusive", tuple("abcdefg"[: len(counts)]), target, torch.ones_like(target))


def _independent(n: int, positives: list[int]) -> Facts:
    target = torch.stack([(torch.arange(n) < k).float() for k in positives], 1)
    return Facts("independent", tuple("abcdefg"[: len(positives)]), target, torch.ones_like(target))


def _weights(facts: Facts, target: Tensor, **settings: object) -> Tensor:
    method = ClassWeights(**settings)  # type: ignore[arg-type]
    method.fit(facts)
    return method.case_weights(target, IDS, 0)


def test_inverse_is_scikit_learn_balanced() -> None:
    counts = [90, 25, 5]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=np.repeat(np.arange(3), counts))
    found = _weights(_exclusive(counts), torch.eye(3)).flatten()
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=1e-6, atol=0)


def test_sqrt_inverse_by_hand() -> None:
    # 16 and 4 cases: 1/4 and 1/2; mean over cases 0.8/4 + 0.2/2 = 0.3; so 5/6 and 5/3
    torch.testing.assert_close(
        _weights(_exclusive([16, 4]), torch.eye(2), scheme="sqrt_inverse").flatten(), torch.tensor([5 / 6, 5 / 3])
    )


def test_effective_number_by_hand() -> None:
    # beta 0.5: E(3) = (1 - 1/8) / (1/2) = 7/4, E(1) = 1; weights 4/7 and 1 over the mean 3/4 * 4/7 + 1/4 = 19/28
    torch.testing.assert_close(
        _weights(_exclusive([3, 1]), torch.eye(2), scheme="effective", beta=0.5).flatten(),
        torch.tensor([16 / 19, 28 / 19]),
    )


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [("inverse", [1, 1, 1 / 4]), ("sqrt_inverse", [1, 1, 1 / 2]), ("effective", [1, 1, 8 / 15])],
)
def test_rarity_by_hand(scheme: str, expected: list[float]) -> None:
    """Of 0 (as of 1), 1 and 4 labels; effective with beta 1/2: (1 - 1/2) / (1 - 1/16)."""
    n = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(rarity(n, scheme, 0.5), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("scheme", ["inverse", "sqrt_inverse", "effective"])
def test_mean_weight_over_the_training_part_is_one(scheme: str) -> None:
    for facts in (_exclusive([90, 25, 5]), _independent(100, [60, 20, 3])):
        weights = _weights(facts, facts.target, scheme=scheme)
        if facts.kind == "exclusive":
            mean = (weights * facts.target).sum(1).mean()
            torch.testing.assert_close(mean, torch.tensor(1.0))
        else:
            torch.testing.assert_close(weights.mean(0), torch.ones(3))


def test_independent_ratio_is_negatives_over_positives() -> None:
    """torch's pos_weight = negatives / positives is the same loss up to one factor per class."""
    facts = _independent(100, [60, 20, 3])
    logits = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    ours = torch.nn.functional.binary_cross_entropy_with_logits(logits, facts.target, reduction="none")
    ours = ours * _weights(facts, facts.target)
    pos_weight = torch.tensor([40 / 60, 80 / 20, 97 / 3])
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, facts.target, pos_weight=pos_weight, reduction="none"
    )
    ratio = ours / theirs
    # w_neg = 1 / (2 (1 - prior)) by hand
    torch.testing.assert_close(ratio, torch.tensor([1 / 0.8, 1 / 1.6, 1 / 1.94]).expand(100, 3))


def test_rare_class_weighs_more_in_its_own_place() -> None:
    weights = _weights(_exclusive([5, 90, 25]), torch.eye(3)).flatten()
    assert weights.argmax() == 0
    assert weights.argmin() == 1
    independent = _weights(_independent(100, [5, 60]), torch.tensor([[1.0, 0.0]]))
    assert independent[0, 0] > 1  # positives of a rare class
    assert independent[0, 1] > 1  # negatives of a class that most cases have


@pytest.mark.parametrize("scheme", ["inverse", "sqrt_inverse", "effective"])
def test_absent_class_keeps_weight_one(scheme: str) -> None:
    weights = _weights(_exclusive([9, 1, 0]), torch.eye(3), scheme=scheme).flatten()
    assert weights[2] == 1
    assert weights.isfinite().all()
    torch.testing.assert_close(0.9 * weights[0] + 0.1 * weights[1], torch.tensor(1.0))
    none = _weights(_independent(10, [0, 10]), torch.tensor([[0.0, 1.0]]), scheme=scheme)
    assert none.tolist() == [[1.0, 1.0]]


def test_equal_classes_are_plain_training() -> None:
    assert _weights(_exclusive([7, 7, 7]), torch.eye(3)).flatten().tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": 1.0}, r"\[0, 1\)"),
        ({"beta": -0.1}, r"\[0, 1\)"),
        ({"scheme": "invers"}, "did you mean 'inverse'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        ClassWeights(**settings)  # type: ignore[arg-type]
    assert refusal.value.problems[0].code == "RS-C34"
