"""SAF: both terms by hand, from exactly so many epochs ago; whom it leaves alone; resume, head phase, refusals."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import ALL, Facts, Stack, Strategy
from raresight.strategies.losses.cross_entropy import cross_entropy
from raresight.strategies.losses.saf import SAF

NO_MODEL, RNG = nn.Identity(), torch.Generator()
TARGET = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
IDS = torch.arange(3)


def saf(kind: Any = "exclusive", *, epochs: int = 10, **settings: Any) -> SAF:
    method = SAF(**({"lam": 0.5, "temperature": 2.0, "every": 1, "start": 0.0} | settings))
    method.fit(Facts(kind, ("common", "rare"), TARGET, torch.ones(3, 2), epochs=epochs))
    return method


def outputs(epoch: int) -> Tensor:
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(epoch))


def passed(
    method: SAF,
    epoch: int,
    logits: Tensor,
    *,
    ids: Tensor = IDS,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    begin: bool = True,
) -> tuple[float, Tensor]:
    """One step: the total and the gradient towards the logits."""
    if begin:
        method.start_epoch(epoch, NO_MODEL, RNG)
    leaf = logits.clone().requires_grad_()
    ones = torch.ones(len(ids), 2)
    total, _ = method.loss(leaf, TARGET[ids], ones if mask is None else mask, ones if weight is None else weight, ids)
    total.backward()
    method.after_step(epoch + 1, NO_MODEL)
    assert leaf.grad is not None
    return total.item(), leaf.grad


def softmax(z: list[float], t: float) -> list[float]:
    top = [math.exp(x / t) for x in z]
    return [x / sum(top) for x in top]


def divergence(kind: str, past: Tensor, now: Tensor, t: float) -> list[list[float]]:
    """KL(past || now) in plain numbers, by case and class (exclusive: the class's term of the sum)."""
    rows = []
    for before, after in zip(past.tolist(), now.tolist(), strict=True):
        if kind == "exclusive":
            p, q = softmax(before, t), softmax(after, t)
            rows.append([a * math.log(a / b) for a, b in zip(p, q, strict=True)])
        else:
            p, q = ([1 / (1 + math.exp(-x / t)) for x in z] for z in (before, after))
            rows.append(
                [a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b)) for a, b in zip(p, q, strict=True)]
            )
    return rows


@pytest.mark.parametrize(("kind", "n_labels"), [("exclusive", 3), ("independent", 6)])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_total_by_hand_from_so_many_epochs_ago(kind: str, n_labels: int, every: int) -> None:
    method = saf(kind, every=every)
    for epoch in range(8):
        total, _ = passed(method, epoch, outputs(epoch))
        plain, _ = cross_entropy(outputs(epoch), TARGET, torch.ones(3, 2), torch.ones(3, 2), kind=kind)  # type: ignore[arg-type]
        drift = 0.0
        if epoch >= every:
            drift = sum(map(sum, divergence(kind, outputs(epoch - every), outputs(epoch), 2.0))) / n_labels
        assert total == pytest.approx(plain.item() + 0.5 * 4 * drift, abs=1e-6), epoch


def test_direction_the_output_is_pulled_to_what_it_was() -> None:
    """And not at all where it has not moved, nor by the gradient of the past, which is a constant."""
    for kind in ("exclusive", "independent"):
        method, plain = saf(kind), saf(kind, lam=0.0)
        past, now = torch.zeros(3, 2), torch.tensor([[0.0, 0.0], [2.0, 0.0], [-2.0, 0.0]])
        passed(method, 0, past)
        pull = passed(method, 1, now)[1] - passed(plain, 1, now)[1]
        assert pull[0].abs().max() <= 1e-7
        assert pull[1, 0] > 0
        assert pull[2, 0] < 0


@pytest.mark.parametrize(
    ("start", "every", "epochs", "first"), [(0.0, 1, 10, 1), (0.3, 1, 10, 3), (0.26, 1, 10, 3), (0.1, 4, 10, 4)]
)
def test_it_begins_after_a_share_of_the_epochs_and_once_there_is_a_past(
    start: float, every: int, epochs: int, first: int
) -> None:
    method, plain = saf(start=start, every=every, epochs=epochs), saf(lam=0.0, epochs=epochs)
    acts = [abs(passed(method, e, outputs(e))[0] - passed(plain, e, outputs(e))[0]) > 1e-9 for e in range(epochs)]
    assert acts == [epoch >= first for epoch in range(epochs)]
    assert [method.begun(epoch) for epoch in range(epochs)] == acts
    assert all(plain.begun(epoch) for epoch in range(epochs))
    assert method.findings() == plain.findings() == []


def test_a_run_too_short_for_it_says_so() -> None:
    method = saf(every=3, epochs=3)
    assert method.findings() == ["saf: it would begin after 3 epochs, and the run has 3: every step is plain"]
    assert saf(every=3, epochs=4).findings() == []
    assert saf(every=3, epochs=3, lam=0.0).findings() == []


def test_cases_that_did_not_come_up_in_the_earlier_epoch_are_left_alone() -> None:
    """A sampler drew case 1 in epoch 0, all in 1 and case 0 twice in 2: then epoch 3 has a past for case 0 alone."""
    method, plain = saf(), saf(lam=0.0)
    passed(method, 0, outputs(0)[[1]], ids=IDS[[1]])
    pull = passed(method, 1, outputs(1))[1] - passed(plain, 1, outputs(1))[1]
    assert (pull.abs().amax(1) > 1e-6).tolist() == [False, True, False]
    passed(method, 2, outputs(2)[[0]], ids=IDS[[0]])
    passed(method, 2, outputs(20)[[0]], ids=IDS[[0]], begin=False)  # the later output counts
    total, gradient = passed(method, 3, outputs(3))
    without, plainly = passed(plain, 3, outputs(3))
    assert ((gradient - plainly).abs().amax(1) > 1e-6).tolist() == [True, False, False]
    drift = sum(divergence("exclusive", outputs(20)[[0]], outputs(3)[[0]], 2.0)[0]) / 3
    assert total == pytest.approx(without + 0.5 * 4 * drift, abs=1e-6)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_case_weights_count_for_both_terms_and_unknown_labels_for_none(kind: str) -> None:
    method = saf(kind)
    weight = torch.tensor([[2.0, 0.5], [3.0, 4.0], [1.0, 1.0]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    passed(method, 0, outputs(0))
    total, gradient = passed(method, 1, outputs(1), mask=mask, weight=weight)
    plain, _ = cross_entropy(outputs(1), TARGET, mask, weight, kind=kind)  # type: ignore[arg-type]
    found = divergence(kind, outputs(0), outputs(1), 2.0)
    if kind == "exclusive":  # the weight of the true class; the third case is unknown
        drift = (2.0 * sum(found[0]) + 4.0 * sum(found[1])) / 2
        assert gradient[2].abs().max() == 0
    else:
        drift = (2 * found[0][0] + 0.5 * found[0][1] + 3 * found[1][0] + 4 * found[1][1] + found[2][1]) / 5
        assert gradient[2, 0] == 0
    assert total == pytest.approx(plain.item() + 0.5 * 4 * drift, abs=1e-6)


def test_what_is_remembered_is_the_first_pass_of_a_step() -> None:
    """A second pass, at perturbed weights, leaves no trace; nor does a pass without a step."""
    method = saf()
    method.start_epoch(0, NO_MODEL, RNG)
    ones = torch.ones(3, 2)
    for logits in (outputs(0), outputs(7)):
        method.loss(logits, TARGET, ones, ones, IDS)
    method.after_step(1, NO_MODEL)
    method.after_step(2, NO_MODEL)
    assert torch.equal(method.table_[0], outputs(0))
    assert method.table_[1].isnan().all()


def test_half_precision_logits_are_remembered_in_full() -> None:
    method = saf()
    passed(method, 0, outputs(0).bfloat16())
    assert method.table_.dtype == torch.float32
    assert torch.equal(method.table_[0], outputs(0).bfloat16().float())


@pytest.mark.parametrize("stop", [3, 4])
def test_resume_is_exact_also_within_an_epoch(stop: int) -> None:
    """Epochs of two steps; a run resumed within one is told of it again before its state is loaded."""

    def steps(method: SAF, first: int, last: int) -> list[float]:
        totals = []
        for step in range(first, last):
            epoch, half = divmod(step, 2)
            ids = IDS[:2] if half == 0 else IDS[2:]
            totals.append(passed(method, epoch, outputs(step)[ids], ids=ids, begin=half == 0)[0])
        return totals

    whole, again = saf(every=1), saf(every=1)
    steps(whole, 0, stop)
    state = copy.deepcopy(whole.state_dict())
    if stop % 2:
        again.start_epoch(stop // 2, NO_MODEL, RNG)
    again.load_state_dict(state)
    assert steps(whole, stop, 8) == steps(again, stop, 8)


def test_a_head_phase_is_plain() -> None:
    """The head may have been reset; what the old one said is no past of it."""
    method, plain = saf(), saf(lam=0.0)
    passed(method, 0, outputs(0))
    method.start_head(NO_MODEL, RNG)
    assert passed(method, 1, outputs(1))[0] == passed(plain, 1, outputs(1))[0]
    resumed = saf()
    resumed.load_state_dict(method.state_dict())
    assert passed(resumed, 1, outputs(1))[0] == passed(plain, 1, outputs(1))[0]


class Swapping(Strategy):
    name = "swapping"
    place = "features"
    source = "a test"

    def mix_features(self, z: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return z.flip(0), y.flip(0)


@pytest.mark.parametrize("name", ["mixup", "balanced_mixup", "remix", "cutmix", "swapping"])
def test_methods_that_mix_cases_are_refused_by_name(name: str) -> None:
    mixer = next(m for m in (*ALL, Swapping) if m.name == name)()
    with pytest.raises(ConfigError, match="RS-C35") as caught:
        Stack([mixer, SAF()], Task("exclusive", ("common", "rare")), "mine")
    assert f"'saf' and '{name}'" in caught.value.problems[0].found


def test_methods_that_change_a_case_by_itself_go_with_it() -> None:
    by_name = {m.name: m for m in ALL}
    names = ("augment", "heavy_augment", "sam", "ema", "class_balanced_sampling")
    Stack([SAF(), *(by_name[name]() for name in names)], Task("exclusive", ("common", "rare")))


def test_it_says_that_it_is_experimental() -> None:
    assert SAF.experimental
    assert {m.name for m in ALL if m.experimental} == {"saf", "looksam"}


@pytest.mark.parametrize(
    "settings",
    [{"lam": -0.1}, {"temperature": 0.0}, {"temperature": 101}, {"every": 0}, {"start": 1.1}, {"start": -0.1}],
)
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="RS-C34"):
        SAF(**settings)


def test_a_lower_bound_that_is_left_out_is_written_with_a_round_bracket() -> None:
    with pytest.raises(ConfigError, match=r"\(0, 100\]"):
        SAF(temperature=0)
    assert SAF(temperature=100).temperature == 100
