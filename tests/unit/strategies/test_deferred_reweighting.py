"""Deferred re-weighting: when it begins, that it always does, and that it then is `class_weights`."""

from __future__ import annotations

import pytest
import torch

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.losses.class_weights import ClassWeights
from raresight.strategies.schedules.deferred_reweighting import DeferredReweighting

IDS = torch.arange(20)
KINDS = ("exclusive", "independent")


def _facts(kind: str, epochs: int) -> Facts:
    label = torch.tensor([0] * 14 + [1] * 5 + [2])
    target = torch.eye(3)[label]
    if kind == "independent":
        target[14:, 0] = 1
    return Facts(kind, ("a", "b", "c"), target, torch.ones_like(target), epochs=epochs)  # type: ignore[arg-type]


def _first(start: float, epochs: int) -> int:
    """The first epoch with weights, all later ones having them too."""
    method = DeferredReweighting(start=start)
    facts = _facts("exclusive", epochs)
    method.fit(facts)
    weighted = [method.case_weights(facts.target, IDS, epoch) is not None for epoch in range(epochs)]
    assert weighted == [method.begun(epoch) for epoch in range(epochs)]
    assert weighted == sorted(weighted)
    return weighted.index(True)


@pytest.mark.parametrize(
    ("start", "epochs", "first"),
    [
        (0.8, 200, 160),  # the paper's
        (0.8, 10, 8),
        (0.8, 12, 10),  # 9.6: the first epoch that begins at 80 % or later
        (0.55, 100, 55),  # a hair above 55 in floating point
        (0.0, 7, 0),
        (1.0, 7, 6),  # the last epoch at the latest
    ],
)
def test_it_begins_when_the_share_is_reached(start: float, epochs: int, first: int) -> None:
    assert _first(start, epochs) == first


@pytest.mark.parametrize("start", [0.0, 0.5, 0.8, 0.99, 1.0])
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5])
def test_no_study_is_too_short_for_it_to_begin(start: float, epochs: int) -> None:
    """The arm that a replication of LongTailCXR cut short never began, and equalled its baseline silently."""
    assert _first(start, epochs) <= epochs - 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["inverse", "sqrt_inverse", "effective"])
def test_once_begun_it_is_class_weights(kind: str, scheme: str) -> None:
    facts = _facts(kind, 10)
    deferred, weights = DeferredReweighting(scheme=scheme, beta=0.9), ClassWeights(scheme=scheme, beta=0.9)  # type: ignore[arg-type]
    deferred.fit(facts)
    weights.fit(facts)
    for epoch in (8, 9, 30):
        found = deferred.case_weights(facts.target, IDS, epoch)
        assert found is not None
        assert torch.equal(found, weights.case_weights(facts.target, IDS, epoch))
    assert torch.equal(deferred.log_prior_shift(), weights.log_prior_shift())


def test_weights_by_hand() -> None:
    # 14, 5, 1 of 20 cases, inverse: w_k = 20 / (3 n_k)
    facts = _facts("exclusive", 1)
    method = DeferredReweighting(scheme="inverse")
    method.fit(facts)
    found = method.case_weights(facts.target, IDS, 0)
    assert found is not None
    torch.testing.assert_close(found.flatten(), torch.tensor([20 / 42, 20 / 15, 20 / 3]))
    torch.testing.assert_close(method.log_prior_shift().float(), torch.tensor([20 / 42, 20 / 15, 20 / 3]).log())


@pytest.mark.parametrize("kind", KINDS)
def test_direction_late_positives_of_the_rare_class_weigh_most(kind: str) -> None:
    facts = _facts(kind, 10)
    method = DeferredReweighting()
    method.fit(facts)
    weight = method.case_weights(torch.eye(3), IDS[:3], 9)
    assert weight is not None
    rare = weight.expand(3, 3).diagonal()
    assert rare[2] > rare[1] > rare[0]


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"start": -0.1}, r"\[0, 1\]"),
        ({"start": 1.1}, r"\[0, 1\]"),
        ({"beta": 1.0}, r"\[0, 1\)"),
        ({"beta": -0.1}, r"\[0, 1\)"),
        ({"scheme": "efective"}, "did you mean 'effective'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], allowed: str) -> None:
    with pytest.raises(ConfigError, match=allowed) as refusal:
        DeferredReweighting(**settings)  # type: ignore[arg-type]
    (problem,) = refusal.value.problems
    assert problem.code == "RS-C34"
    assert problem.column == f"deferred_reweighting.{next(iter(settings))}"
