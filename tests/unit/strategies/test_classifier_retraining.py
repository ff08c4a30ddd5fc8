"""Classifier retraining: a fresh head from its own generator, and balanced rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raresight.strategies import Facts
from raresight.strategies.schedules.classifier_retraining import ClassifierRetraining

COUNTS = [90, 25, 5]
TARGET = torch.eye(3)[torch.arange(3).repeat_interleave(torch.tensor(COUNTS))]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 400)
        self.head = nn.Linear(400, 3)


def _fitted() -> ClassifierRetraining:
    method = ClassifierRetraining()
    method.fit(Facts("exclusive", ("a", "b", "c"), TARGET, torch.ones_like(TARGET)))
    return method


def test_head_is_drawn_anew_and_only_the_head() -> None:
    model = Model()
    nn.init.constant_(model.head.weight, 5.0)
    body = model.body.weight.clone()
    _fitted().start_head(model, torch.Generator().manual_seed(0))
    weight = model.head.weight.detach()
    # uniform on +-1/sqrt(400) = +-0.05: torch's own default for a linear layer; variance 0.05^2 / 3
    assert weight.abs().max() <= 0.05
    assert model.head.bias.abs().max() <= 0.05
    assert 0.9 < weight.var().item() / (0.05**2 / 3) < 1.1
    assert torch.equal(model.body.weight, body)


def test_head_comes_from_the_given_generator_alone() -> None:
    heads = []
    for global_seed, own_seed in ((1, 0), (2, 0), (2, 1)):
        torch.manual_seed(global_seed)
        model = Model()
        state = torch.get_rng_state()
        _fitted().start_head(model, torch.Generator().manual_seed(own_seed))
        assert torch.equal(state, torch.get_rng_state())
        heads.append(torch.cat([model.head.weight.detach().flatten(), model.head.bias.detach()]))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[1], heads[2])


def test_rows_are_drawn_evenly_over_classes_synthetic_ones_included() -> None:
    synthetic = torch.eye(3)[[2] * 40]
    target = torch.cat([TARGET, synthetic])
    weights = _fitted().head_sample_weights(target, torch.ones_like(target))
    share = weights @ target.double() / weights.sum()
    torch.testing.assert_close(share, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_shift_is_minus_log_prior_up_to_a_constant() -> None:
    shift = _fitted().log_prior_shift()
    expected = -(torch.tensor(COUNTS, dtype=torch.float64) / 120).log()
    torch.testing.assert_close(shift - shift[0], expected - expected[0])
    assert shift.argmax() == 2


def test_it_asks_for_a_head_phase() -> None:
    assert ClassifierRetraining.head_phase


def test_unknown_labels_count_neither_for_the_draw_nor_for_the_shift() -> None:
    # 3 and 1 known cases of two classes; the fifth, of the second class, is unknown
    target = torch.eye(2)[[0, 0, 0, 1, 1]]
    mask = torch.tensor([[1.0]] * 4 + [[0.0]]).expand(5, 2)
    method = ClassifierRetraining()
    method.fit(Facts("exclusive", ("a", "b"), target, mask))
    assert method.head_sample_weights(target, mask).tolist() == pytest.approx([1 / 3] * 3 + [1, 0])
    expected = torch.tensor([0.5 / 0.75, 0.5 / 0.25], dtype=torch.float64).log()
    torch.testing.assert_close(method.log_prior_shift(), expected)
    # a row that is drawn through a group it is not known to belong to would change the count of all of that group
    two, known = torch.tensor([[1.0, 0], [1, 1], [0, 0]]), torch.tensor([[1.0, 1], [1, 0], [1, 1]])
    independent = ClassifierRetraining()
    independent.fit(Facts("independent", ("a", "b"), two, known))
    assert independent.head_sample_weights(two, known).tolist() == [0.5, 0.5, 1]
    assert independent.log_prior_shift().tolist() == pytest.approx([-torch.tensor(2.0).log().item(), 0])
