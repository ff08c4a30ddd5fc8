"""Hard-example mining: chances by a scalar loop, inclusion weights, what is remembered, and what a resume needs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.sampling.hard_examples import HardExamples

TARGET = torch.eye(2)[[0, 0, 0, 1]]
MODEL, RNG = torch.nn.Identity(), torch.Generator()


def _fitted(target: Tensor = TARGET, kind: str = "exclusive", mask: Tensor | None = None, **settings) -> HardExamples:  # type: ignore[no-untyped-def]
    method = HardExamples(**settings)
    method.fit(Facts(kind, ("a", "b"), target, torch.ones_like(target) if mask is None else mask))  # type: ignore[arg-type]
    return method


def _see(method: HardExamples, ids: list[int], losses: list[float]) -> None:
    method.observe(torch.tensor(ids), torch.tensor(losses))


def _draw(method: HardExamples, epoch: int = 1) -> list[float]:
    method.start_epoch(epoch, MODEL, RNG)
    weights = method.sample_weights()
    assert weights is not None
    return weights.tolist()


@pytest.mark.parametrize("mix", [0.25, 0.9])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("memory", [0.0, 0.75])
def test_chances_against_a_scalar_loop(mix: float, power: float, memory: float) -> None:
    method = _fitted(mix=mix, power=power, memory=memory)
    seen = [([0, 1], [0.5, 1.0]), ([2, 3], [0.25, 3.0]), ([3, 0], [1.0, 2.0])]
    kept: dict[int, float] = {}
    for ids, losses in seen:
        _see(method, ids, losses)
        for row, loss in zip(ids, losses, strict=True):
            kept[row] = memory * kept[row] + (1 - memory) * loss if row in kept else loss
    total = sum(loss**power for loss in kept.values())
    expected = [(1 - mix) / 4 + mix * kept[row] ** power / total for row in range(4)]
    assert _draw(method) == pytest.approx(expected, rel=1e-12)
    assert sum(expected) == pytest.approx(1)


def test_direction_the_harder_case_is_drawn_more_often_and_weighs_less() -> None:
    method = _fitted(unbiased=True)
    _see(method, [0, 1, 2, 3], [0.1, 0.1, 0.1, 0.7])
    chance = _draw(method)
    assert chance[3] > chance[0]
    weight = method.case_weights(TARGET, torch.tensor([0, 3]), 1)
    assert weight is not None
    # q = 1/8 + 0.05, 1/8 + 0.35
    assert weight.flatten().tolist() == pytest.approx([1 / (4 * 0.175), 1 / (4 * 0.475)])


@pytest.mark.parametrize(("kind", "power"), [("exclusive", 1.0), ("independent", 2.0)])
def test_with_inclusion_weights_the_expectation_is_exact(kind: str, power: float) -> None:
    """sum_i q_i w_i f_i is the mean of f; without the weights it is not."""
    method = _fitted(kind=kind, power=power, mix=0.8, unbiased=True)
    _see(method, [0, 1, 2, 3], [0.1, 0.4, 0.2, 2.0])
    q = torch.tensor(_draw(method), dtype=torch.float64)
    w = method.case_weights(TARGET.double(), torch.arange(4), 1)
    f = torch.tensor([3.0, -1.0, 2.0, 7.0], dtype=torch.float64)
    assert w is not None
    torch.testing.assert_close((q * w.flatten() * f).sum(), f.mean())
    assert ((q * f).sum() - f.mean()).abs() > 0.1
    assert w.max() <= 1 / (1 - 0.8) + 1e-9


def test_the_first_epoch_is_plain_and_unseen_cases_count_as_the_mean() -> None:
    method = _fitted(mix=0.5, unbiased=True)
    method.start_epoch(0, MODEL, RNG)
    assert method.sample_weights() is None
    assert method.case_weights(TARGET, torch.arange(4), 0) is None
    _see(method, [0, 1, 3], [1.0, 2.0, 6.0])
    # row 2 counts with (1 + 2 + 6) / 3 = 3
    assert _draw(method) == pytest.approx([1 / 8 + loss / 24 for loss in (1, 2, 3, 6)])


def test_within_an_epoch_nothing_moves() -> None:
    method = _fitted(unbiased=True)
    _see(method, [0, 1, 2, 3], [1.0, 1.0, 1.0, 3.0])
    before = _draw(method)
    weight = method.case_weights(TARGET, torch.arange(4), 1)
    _see(method, [0, 1], [9.0, 9.0])
    method.state_dict()
    assert method.sample_weights().tolist() == before  # type: ignore[union-attr]
    assert torch.equal(method.case_weights(TARGET, torch.arange(4), 1), weight)  # type: ignore[arg-type]
    assert _draw(method, 2) != before


def test_a_case_met_twice_in_a_batch_counts_once() -> None:
    method = _fitted(memory=0.5, mix=0.5)
    _see(method, [3, 0, 3, 1, 2], [1.0, 1.0, 5.0, 1.0, 1.0])
    assert method.state_dict()["loss"].tolist() == [1, 1, 1, 3]
    _see(method, [3, 3], [0.0, 2.0])
    assert method.state_dict()["loss"].tolist() == [1, 1, 1, 2]


def test_losses_of_zero_leave_an_even_draw() -> None:
    method = _fitted(mix=0.9)
    _see(method, [0, 1, 2, 3], [0.0] * 4)
    assert _draw(method) == pytest.approx([0.25] * 4)


def test_rows_without_labels_are_never_drawn_and_do_not_count() -> None:
    # five rows, two findings; the fourth has no known label, and its loss, 0 by the mask, tells nothing
    target = torch.tensor([[1.0, 0], [1, 1], [0, 0], [1, 1], [0, 1]])
    mask = torch.tensor([[1.0, 1], [1, 1], [1, 0], [0, 0], [1, 1]])
    method = _fitted(target, "independent", mask, mix=0.5, unbiased=True)
    _see(method, [3], [0.0])
    method.start_epoch(1, MODEL, RNG)
    assert method.sample_weights() is None
    _see(method, [0, 1, 2, 3], [1.0, 2.0, 3.0, 50.0])
    # row 4 counts with the mean of rows 0 to 2, which is 2
    assert _draw(method) == pytest.approx([1 / 8 + 1 / 16, 1 / 8 + 2 / 16, 1 / 8 + 3 / 16, 0, 1 / 8 + 2 / 16])
    weight = method.case_weights(torch.zeros(2, 2, 3), torch.tensor([3, 0]), 1)
    assert weight is not None
    assert weight.shape == (2, 1, 1)
    assert weight.flatten().tolist() == pytest.approx([0, 1 / (4 * 3 / 16)])


def test_state_goes_on_where_it_was() -> None:
    whole, resumed = _fitted(unbiased=True), _fitted(unbiased=True)
    _see(whole, [0, 1, 2, 3], [1.0, 2.0, 3.0, 4.0])
    drawn = _draw(whole)
    _see(whole, [0], [9.0])
    _see(resumed, [2], [77.0])  # what came before a resume is forgotten
    resumed.start_epoch(1, MODEL, RNG)
    _see(resumed, [2], [77.0])
    resumed.load_state_dict(whole.state_dict())
    assert resumed.sample_weights().tolist() == drawn  # type: ignore[union-attr]
    assert _draw(resumed, 2) == _draw(whole, 2) != drawn


def test_neutral_and_what_is_claimed() -> None:
    neutral, biased, unbiased = _fitted(mix=0), _fitted(), _fitted(unbiased=True)
    _see(neutral, [0, 1], [1.0, 2.0])
    neutral.start_epoch(1, MODEL, RNG)
    assert neutral.sample_weights() is None
    assert [m.log_prior_shift() for m in (neutral, biased, unbiased)] == [0, None, 0]
    assert [m.compensates() for m in (neutral, biased, unbiased)] == [False, True, False]
    assert _fitted(mix=0, unbiased=True).compensates() is False
    assert [m.undoes_its_drawing() for m in (neutral, biased, unbiased)] == [False, False, True]
    assert _fitted(mix=0, unbiased=True).undoes_its_drawing() is False
    _see(biased, [0, 1], [1.0, 2.0])
    biased.start_epoch(1, MODEL, RNG)
    assert biased.case_weights(TARGET, torch.arange(4), 1) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mix": 1}, r"mix.*\[0, 1\)"),
        ({"mix": -0.1}, r"mix.*\[0, 1\)"),
        ({"power": -1}, r"power.*\[0, 10\]"),
        ({"power": 10.5}, r"power.*\[0, 10\]"),
        ({"memory": 1}, r"memory.*\[0, 1\)"),
        ({"memory": -0.5}, r"memory.*\[0, 1\)"),
        ({"unbiased": 1}, "true or false"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        HardExamples(**settings)  # type: ignore[arg-type]
    assert HardExamples(mix=0, power=10, memory=0).power == 10
