"""What several strategies do together: who may own a place, what compensates twice, which weights would not act."""

from __future__ import annotations

import pytest
import torch
from tiny_line import CLASSES, KINDS, SPACES, B, batch_of, fitted, instances, loss_of, make_data, stack_of

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import ALL, Facts, Stack


@pytest.mark.parametrize(
    ("first", "second"),
    [("focal", "ldam"), ("focal", "balanced_softmax"), ("focal", "focal")],
)
def test_two_owners_are_refused_by_name(first: str, second: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Stack(instances(first, second), Task("exclusive", CLASSES), "mine")
    (problem,) = refusal.value.problems
    assert problem.code == "RS-C35"
    assert problem.column == "arms.mine"
    assert f"'{first}'" in problem.found
    assert f"'{second}'" in problem.found


def test_a_kind_or_space_that_is_not_served_is_refused() -> None:
    with pytest.raises(ConfigError, match="serves label spaces of"):
        Stack(instances("smote"), Task("exclusive", CLASSES, space=2), "mine")


@pytest.mark.parametrize("kind", KINDS)
def test_double_compensation_is_found_and_its_prior_shown(kind: str) -> None:
    stack = fitted(kind, *instances("class_weights", "class_balanced_sampling"))
    (finding,) = stack.findings()
    assert "class_weights and class_balanced_sampling" in finding
    assert "double compensation" in finding
    implied = stack.implied_prior()
    assert implied is not None
    assert f"rare x{implied[2].exp().item():.3g}" in finding
    parts = [fitted(kind, *instances(name)).implied_prior() for name in ("class_weights", "class_balanced_sampling")]
    torch.testing.assert_close(implied, parts[0] + parts[1])


def test_triple_compensation_is_found() -> None:
    """Catalogue item 35: focal alpha and class weights and a balanced sampler."""
    by_name = {method.name: method for method in ALL}
    focal = by_name["focal"](alpha=0.25)
    stack = fitted("independent", focal, *instances("class_weights", "class_balanced_sampling"))
    (finding,) = stack.findings()
    assert "focal, class_weights and class_balanced_sampling" in finding
    assert "triple compensation" in finding
    assert "not defined" in finding
    assert stack.implied_prior() is None


@pytest.mark.parametrize("kind", KINDS)
def test_one_compensation_is_no_finding(kind: str) -> None:
    by_name = {method.name: method for method in ALL}
    mining = by_name["hard_examples"](unbiased=True)
    assert fitted(kind, *instances("focal", "class_weights")).findings() == []
    assert fitted(kind, mining, *instances("class_weights")).findings() == []
    assert fitted(kind, *instances("importance_sampling", "class_weights")).findings() == []
    assert fitted(kind, *instances("augment", "ema", "sam", "mixup")).findings() == []


def test_a_retrained_head_answers_to_its_own_sampler_alone() -> None:
    """Its balanced rows decide: neither the first phase's sampler nor synthetic rows add to the prior."""
    alone = fitted("exclusive", *instances("classifier_retraining")).implied_prior()
    for other in ("class_balanced_sampling", "smote"):
        both = fitted("exclusive", *instances(other, "classifier_retraining")).implied_prior()
        assert alone is not None
        assert both is not None
        torch.testing.assert_close(both, alone)


UNDOING: list[tuple[str, dict[str, object], bool]] = [
    ("importance_sampling", {}, True),
    ("importance_sampling", {"correction": 0.01}, True),
    ("importance_sampling", {"correction": 0}, False),
    ("importance_sampling", {"power": 0}, False),
    ("hard_examples", {"unbiased": True}, True),
    ("hard_examples", {"unbiased": True, "mix": 0}, False),
    ("hard_examples", {}, False),
    ("class_balanced_sampling", {}, False),
]


@pytest.mark.parametrize(("name", "settings", "undoes"), UNDOING)
@pytest.mark.parametrize(
    ("rival", "message"), [("classifier_retraining", "draws those of the head"), ("auc_margin", "no place for them")]
)
def test_inclusion_weights_that_would_not_act_are_refused(
    name: str, settings: dict[str, object], undoes: bool, rival: str, message: str
) -> None:
    by_name = {method.name: method for method in ALL}
    if rival not in by_name:
        pytest.skip(f"there is no method {rival}")
    task = Task("independent", CLASSES)
    arm = [by_name[name](**settings), by_name[rival]()]
    if not undoes:
        Stack(arm, task)
        return
    with pytest.raises(ConfigError, match=message):
        Stack(arm, task)


@pytest.mark.parametrize("space", SPACES, ids=len)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_of_an_empty_stack_is_cross_entropy(kind: str, space: tuple[int, ...]) -> None:
    """Oracle: torch's own losses, unreduced, averaged over known labels."""
    data = make_data(kind, space)
    logits, target, mask, ids = batch_of(data)
    total, per_case, _ = loss_of(stack_of(data), logits, target, mask, ids)
    if kind == "exclusive":
        entries = torch.nn.functional.cross_entropy(logits, target.argmax(1), reduction="none")
    else:
        entries = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    torch.testing.assert_close(total, entries.mean())
    torch.testing.assert_close(per_case, entries.reshape(B, -1).mean(1))


def test_prior_of_facts_by_hand() -> None:
    target = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 0]])
    mask = torch.tensor([[1.0, 1], [1, 0], [1, 1], [0, 0]])
    # independent: class 0 has 2 of 3 known, class 1 has 1 of 2 known
    prior = Facts("independent", ("a", "b"), target, mask).prior
    torch.testing.assert_close(prior, torch.tensor([2 / 3, 1 / 2], dtype=torch.float64))
