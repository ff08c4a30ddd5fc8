"""Random over- and undersampling: counts against imbalanced-learn, several labels a row by hand, epochs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.sampling.class_balanced import ClassBalancedSampling
from raresight.strategies.sampling.random_oversampling import RandomOversampling
from raresight.strategies.sampling.random_undersampling import RandomUndersampling

COUNTS = [90, 25, 6]
LABEL = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
TARGET = torch.eye(3)[LABEL]
MODEL = torch.nn.Identity()

# n = 4 for "a", 1 for "b"; row 3 has both, row 4 is known to have neither: the third group, of one row
FIVE = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 1], [0, 0]])


def _facts(target: Tensor = TARGET, kind: str = "exclusive", mask: Tensor | None = None) -> Facts:
    mask = torch.ones_like(target) if mask is None else mask
    return Facts(kind, tuple("abcd"[: target.shape[1]]), target, mask)  # type: ignore[arg-type]


def _over(*args: object, **settings: object) -> RandomOversampling:
    method = RandomOversampling(**settings)  # type: ignore[arg-type]
    method.fit(_facts(*args))  # type: ignore[arg-type]
    return method


def _under(*args: object, **settings: object) -> RandomUndersampling:
    method = RandomUndersampling(**settings)  # type: ignore[arg-type]
    method.fit(_facts(*args))  # type: ignore[arg-type]
    return method


def _per_class(rows: Tensor) -> list[float]:
    return torch.zeros(3, dtype=torch.float64).index_add_(0, LABEL, rows).tolist()


# oversampling


@pytest.mark.parametrize("target", ["balance", 0.3, 0.1, 0.25])
def test_oversampled_counts_are_those_of_imbalanced_learn(target: str | float) -> None:
    """Its sampler takes a count for each class where there are more than two."""
    share = 1.0 if target == "balance" else float(target)
    due = {c: max(n, int(share * 90)) for c, n in enumerate(COUNTS)}
    x = np.arange(len(LABEL)).reshape(-1, 1)
    _, y = RandomOverSampler(sampling_strategy=due, random_state=0).fit_resample(x, LABEL.numpy())
    rows = _over(target=target).sample_weights()
    assert rows is not None
    assert _per_class(rows) == pytest.approx([Counter(y.tolist())[c] for c in range(3)])


@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_two_classes_take_the_ratio_of_imbalanced_learn(ratio: float) -> None:
    label = np.repeat([0, 1], [40, 6])
    x, target = np.arange(46).reshape(-1, 1), torch.eye(2)[label]
    _, more = RandomOverSampler(sampling_strategy=ratio, random_state=0).fit_resample(x, label)
    _, fewer = RandomUnderSampler(sampling_strategy=ratio, random_state=0).fit_resample(x, label)
    over, under = _over(target, target=ratio).sample_weights(), _under(target, target=ratio)
    assert over is not None
    assert (target.double().T @ over).tolist() == pytest.approx([(more == 0).sum(), (more == 1).sum()])
    under.start_epoch(0, MODEL, torch.Generator().manual_seed(0))
    kept = under.sample_weights()
    assert kept is not None
    assert (target.double().T @ kept).tolist() == [(fewer == 0).sum(), (fewer == 1).sum()]


def test_each_row_of_a_class_is_repeated_alike() -> None:
    rows = _over(target=0.5).sample_weights()
    assert rows is not None
    assert rows[:90].tolist() == [1.0] * 90
    assert rows[90:115].tolist() == pytest.approx([45 / 25] * 25)
    assert rows[115:].tolist() == pytest.approx([45 / 6] * 6)


def test_oversampling_five_rows_with_several_labels() -> None:
    # n_max = 4, so r = 1, 4 and 4: the row with both is repeated as its rarest class asks
    assert _over(FIVE, "independent").sample_weights().tolist() == [1, 1, 1, 4, 4]  # type: ignore[union-attr]
    # target 1/2: "b" and the row without findings are due 2; the list then holds "a" 5 times, "b" twice
    half = _over(FIVE, "independent", target=0.5)
    assert half.sample_weights().tolist() == [1, 1, 1, 2, 2]  # type: ignore[union-attr]
    # log odds: "a" from 4 : 1 to 5 : 2, "b" from 1 : 4 to 2 : 5
    expected = torch.tensor([5 / 8, 8 / 5], dtype=torch.float64).log()
    torch.testing.assert_close(half.log_prior_shift(), expected, rtol=1e-9, atol=1e-9)


def test_oversampling_reaches_every_target_with_several_labels() -> None:
    rng = torch.Generator().manual_seed(0)
    target = (torch.rand(200, 4, generator=rng) < torch.tensor([0.6, 0.3, 0.05, 0.02])).float()
    rows = _over(target, "independent", target=0.4).sample_weights()
    assert rows is not None
    count = target.sum(0).double()
    due = torch.maximum(count, (0.4 * count.max()).floor())
    assert (target.double().T @ rows >= due - 1e-9).all()
    assert due[2] > count[2] > count[3] > 0


def test_at_target_one_exclusive_oversampling_is_class_balanced() -> None:
    balanced, over = ClassBalancedSampling(), _over()
    balanced.fit(_facts())
    rows = over.sample_weights()
    assert rows is not None
    torch.testing.assert_close(rows / rows.sum(), balanced.sample_weights())
    torch.testing.assert_close(over.log_prior_shift(), balanced.log_prior_shift())


@pytest.mark.parametrize("method", [RandomOversampling, RandomUndersampling])
def test_classes_within_the_target_leave_plain_training(method: type[RandomOversampling | RandomUndersampling]) -> None:
    # 6 of 90 is 1/15: at that very share nothing is due, just above it something is
    for target, plain in ((1 / 15, True), (1 / 20, True), (0.1, False)):
        sampler = method(target=target)
        sampler.fit(_facts())
        sampler.start_epoch(0, MODEL, torch.Generator().manual_seed(0))
        assert (sampler.sample_weights() is None) == plain
        assert (sampler.log_prior_shift().abs().max() == 0) == plain


@pytest.mark.parametrize("method", [RandomOversampling, RandomUndersampling])
def test_an_absent_class_beside_equal_ones_leaves_plain_training(method: type) -> None:
    sampler = method()
    sampler.fit(_facts(torch.eye(3)[[0, 0, 1, 1]]))
    sampler.start_epoch(0, MODEL, torch.Generator().manual_seed(0))
    assert sampler.sample_weights() is None


@pytest.mark.parametrize("method", [RandomOversampling, RandomUndersampling])
def test_absent_classes_and_unknown_rows(method: type[RandomOversampling | RandomUndersampling]) -> None:
    target = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]])
    mask = torch.tensor([[1.0, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 1, 1]])
    sampler = method()
    sampler.fit(_facts(target, "exclusive", mask))
    # 3 of class 0, 1 known of class 1, none of class 2
    expected = [1, 1, 3, 0, 1] if method is RandomOversampling else [1 / 3, 1 / 3, 1, 0, 1 / 3]
    assert sampler.sample_weights().tolist() == pytest.approx(expected)  # type: ignore[union-attr]
    assert sampler.log_prior_shift()[2] == 0
    sampler.start_epoch(0, MODEL, torch.Generator().manual_seed(0))
    assert sampler.sample_weights()[3] == 0  # type: ignore[index]


@pytest.mark.parametrize("method", [RandomOversampling, RandomUndersampling])
@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_without_any_known_label_nothing_is_drawn_otherwise(
    method: type[RandomOversampling | RandomUndersampling], kind: str
) -> None:
    sampler = method()
    sampler.fit(_facts(torch.eye(3), kind, torch.zeros(3, 3)))
    assert sampler.sample_weights() is None


@pytest.mark.parametrize("method", [RandomOversampling, RandomUndersampling])
@pytest.mark.parametrize("target", [0, 1.1, -0.5, "half"])
def test_targets_out_of_range(method: type, target: object) -> None:
    with pytest.raises(ConfigError, match=f"{method.name}.*target"):  # type: ignore[attr-defined]
        method(target=target)
    assert method(target=1).target == 1


# undersampling


@pytest.mark.parametrize("target", ["balance", 0.3, 0.4, 0.07])
def test_kept_counts_are_those_of_imbalanced_learn(target: str | float) -> None:
    """Its sampler takes a count for each class where there are more than two."""
    share = 1.0 if target == "balance" else float(target)
    due = {c: min(n, int(6 / share)) for c, n in enumerate(COUNTS)}
    x = np.arange(len(LABEL)).reshape(-1, 1)
    _, y = RandomUnderSampler(sampling_strategy=due, random_state=0).fit_resample(x, LABEL.numpy())
    method = _under(target=target)
    expected = method.sample_weights()
    assert expected is not None
    counts = [Counter(y.tolist())[c] for c in range(3)]
    assert _per_class(expected) == pytest.approx(counts)
    for epoch in range(20):  # and in every epoch exactly
        method.start_epoch(epoch, MODEL, torch.Generator().manual_seed(epoch))
        kept = method.sample_weights()
        assert kept is not None
        assert set(kept.tolist()) == {0.0, 1.0}
        assert _per_class(kept) == counts


def test_epochs_keep_other_rows_and_one_seed_keeps_the_same() -> None:
    method = _under(target=0.5)
    kept = []
    for seed in (0, 1, 0):
        method.start_epoch(5, MODEL, torch.Generator().manual_seed(seed))
        kept.append(method.sample_weights())
    assert torch.equal(kept[0], kept[2])  # type: ignore[arg-type]
    assert not torch.equal(kept[0], kept[1])  # type: ignore[arg-type]
    assert kept[0][115:].tolist() == [1.0] * 6  # type: ignore[index]


def test_on_average_each_row_is_kept_as_its_chance_says() -> None:
    method = _under(FIVE, "independent", target=0.5)
    expected = method.sample_weights()
    total = torch.zeros(5, dtype=torch.float64)
    for epoch in range(600):
        method.start_epoch(epoch, MODEL, torch.Generator().manual_seed(epoch))
        total += method.sample_weights()
    # cap = 1 / (1/2) = 2 of the four "a": chance 1/2 for a row that is nothing but "a"; three such rows, so one or two
    assert expected.tolist() == [0.5, 0.5, 0.5, 1, 1]  # type: ignore[union-attr]
    assert total[3:].tolist() == [600, 600]
    assert (total[:3] - 300).abs().max() < 3 * 150**0.5  # three standard deviations of 600 even chances


def test_undersampling_five_rows_with_several_labels() -> None:
    # cap = 1: "a" alone is kept with chance 1/4, "a" with "b" surely, since "b" is not above the cap
    method = _under(FIVE, "independent")
    assert method.sample_weights().tolist() == [0.25, 0.25, 0.25, 1, 1]  # type: ignore[union-attr]
    # log odds: "a" from 4 : 1 to 7/4 : 1, "b" from 1 : 4 to 1 : 7/4
    expected = torch.tensor([7 / 16, 16 / 7], dtype=torch.float64).log()
    torch.testing.assert_close(method.log_prior_shift(), expected, rtol=1e-9, atol=1e-9)
    sizes = set()
    for epoch in range(50):
        method.start_epoch(epoch, MODEL, torch.Generator().manual_seed(epoch))
        kept = method.sample_weights()
        assert kept is not None
        assert kept[3:].tolist() == [1, 1]
        sizes.add(kept[:3].sum().item())
    assert sizes == {0.0, 1.0}  # 3/4 of a row: none or one


def test_a_row_counts_to_its_rarest_class() -> None:
    # n = 3, 2, 1 and none without findings: cap 1, chances 1/3, 1/2, 1
    target = torch.tensor([[1.0, 1, 0], [1, 1, 1], [1, 0, 0]])
    assert _under(target, "independent").sample_weights().tolist() == pytest.approx([1 / 2, 1, 1 / 3])  # type: ignore[union-attr]
    assert _over(target, "independent").sample_weights().tolist() == pytest.approx([3 / 2, 3, 1])  # type: ignore[union-attr]
