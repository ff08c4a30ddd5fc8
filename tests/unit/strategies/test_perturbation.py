"""What sharpness-aware steps share: which weights move, one norm for all of them, and back without a trace."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from raresight.core.errors import ConfigError
from raresight.strategies.steps.perturbation import moved, normalising, taken, told, trained, within


def _weights(*sizes: int, device: str = "cpu") -> list[Tensor]:
    rng = torch.Generator().manual_seed(len(sizes))
    return [nn.Parameter(torch.randn(size, generator=rng).to(device)) for size in sizes]


@pytest.mark.parametrize("distance", [0.5, -0.5])
def test_one_norm_over_all_tensors_by_hand(distance: float) -> None:
    first, second = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0, 2.0]))
    with moved([first, second], [torch.tensor([2.0]), torch.tensor([1.0, -2.0])], distance) as away:
        assert away
        # the norm of (2, 1, -2) is 3
        assert first.tolist() == pytest.approx([1 + distance * 2 / 3])
        assert second.tolist() == pytest.approx([1 + distance / 3, 2 - distance * 2 / 3])
    assert (first.tolist(), second.tolist()) == ([1.0], [1.0, 2.0])


@pytest.mark.parametrize("room", [None, []])
@pytest.mark.parametrize("broken", [False, True])
def test_weights_come_back_bit_for_bit_also_after_an_exception(broken: bool, room: list[Tensor] | None) -> None:
    weights, directions = _weights(50, 7, 1), [w.detach() * 0.37 + 0.1 for w in _weights(50, 7, 1)]
    before = [(w.data_ptr(), w.detach().clone()) for w in weights]
    for _ in range(2):
        try:
            with moved(weights, directions, 0.123, room):
                assert not any(torch.equal(w, kept) for w, (_, kept) in zip(weights, before, strict=True))
                if broken:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
    assert all(w.data_ptr() == at and torch.equal(w, kept) for w, (at, kept) in zip(weights, before, strict=True))


def test_weights_come_back_where_the_swap_itself_is_interrupted() -> None:
    class Stubborn(nn.Parameter):
        @property
        def data(self) -> Tensor:
            return super().data

        @data.setter
        def data(self, value: Tensor) -> None:
            if not hasattr(self, "told"):
                self.told = True
                raise KeyboardInterrupt
            nn.Parameter.data.__set__(self, value)  # type: ignore[attr-defined]

    first = nn.Parameter(torch.tensor([1.0]))
    with (
        pytest.raises(KeyboardInterrupt),
        moved([first, Stubborn(torch.tensor([2.0]))], [torch.ones(1), torch.ones(1)], 1.0),
    ):
        pytest.fail("nothing was moved")
    assert first.tolist() == [1.0]


@pytest.mark.parametrize("direction", [0.0, float("inf"), float("nan"), 3e38])
def test_without_a_direction_nothing_moves(direction: float) -> None:
    """3e38: each is finite and the norm of the two is not."""
    weights = _weights(1, 1)
    with moved(weights, [torch.full((1,), direction)] * 2, 1.0) as away:
        assert not away
    with moved([], [], 1.0) as away:
        assert not away


def test_no_value_is_read_back_from_a_device_other_than_the_cpu() -> None:
    """A tensor on `meta` has no value: reading one raises. A graphics card would have to be waited for."""
    weights = _weights(3, 4, device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        weights[0].sum().item()
    with moved(weights, [w.detach() for w in weights], 0.1) as away:
        assert away


def test_a_norm_of_zero_leaves_the_weights_where_they_are_also_where_it_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (weight,) = _weights(4)
    before = weight.detach().clone()
    monkeypatch.setattr(Tensor, "item", lambda self: 1.0)  # as on a graphics card, where nobody looks
    with moved([weight], [torch.zeros(4)], 0.1) as away:
        assert away
        assert torch.equal(weight, before)


def test_many_tensors_take_no_more_calls_than_few() -> None:
    """The operations that torch sees are those of whole lists (foreach), but for the swaps of memory."""

    class Counted(TorchDispatchMode):
        names: list[str]

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.append(func.name())
            return func(*args, **(kwargs or {}))

    counts = []
    for n in (2, 40):
        weights, room = _weights(*range(1, n + 1)), []
        directions = [w.detach().clone() for w in weights]
        with moved(weights, directions, 0.1, room):
            pass
        with Counted() as counted:
            counted.names = []
            with moved(weights, directions, 0.1, room):
                pass
        counts.append([name for name in counted.names if "detach" not in name and "alias" not in name])
    assert counts[0] == counts[1]
    assert any("_foreach_" in name for name in counts[0])


def test_the_layout_of_the_weights_is_kept_on_the_way() -> None:
    """Gradients have the layout of their weights, so what the network sees there has it too."""
    conv = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    conv(torch.rand(2, 4, 8, 8).to(memory_format=torch.channels_last)).sum().backward()
    parameters = list(conv.parameters())
    gradients = taken(parameters)
    with moved(parameters, gradients, 0.1):
        assert conv.weight.is_contiguous(memory_format=torch.channels_last)
        assert not conv.weight.is_contiguous()


def test_memory_is_found_anew_where_the_weights_have_changed_shape() -> None:
    room: list[Tensor] = []
    for sizes in ((3, 2), (2,), (3, 2, 4)):
        weights = _weights(*sizes)
        here = torch.cat([w.detach() for w in weights])
        with moved(weights, [torch.ones(size) for size in sizes], 0.2, room):
            there = torch.cat([w.detach() for w in weights])
        torch.testing.assert_close(there - here, torch.full((sum(sizes),), 0.2 / sum(sizes) ** 0.5))
        assert [len(kept) for kept in room] == list(sizes)


def test_gradients_that_are_taken_cannot_be_written_into_by_the_next_pass() -> None:
    with_gradient, without = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    with_gradient.grad = torch.tensor([1.0, 2.0])
    gradients = taken([with_gradient, without])
    assert with_gradient.grad is None
    assert [g.tolist() for g in gradients] == [[1.0, 2.0], [0.0, 0.0, 0.0]]


def test_gains_and_biases_of_normalisation_layers_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.LayerNorm(4),
        nn.RMSNorm(4),
        nn.BatchNorm2d(4, affine=False),
        nn.Linear(4, 2),
    )
    found = {id(parameter) for parameter in normalising(model)}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in found]
    assert names == [f"{i}.{kind}" for i in (1, 2, 3, 4) for kind in ("weight", "bias")] + ["5.weight"]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_every_gain_of_real_networks_is_found(name: str) -> None:
    """Of timm's networks all vectors named weight are gains; whatever else has one axis are biases and layer scales."""
    model = timm.create_model(name, num_classes=0)
    found = {id(parameter) for parameter in normalising(model)}
    names = {key for key, parameter in model.named_parameters() if id(parameter) in found}
    gains = {key for key, p in model.named_parameters() if p.dim() == 1 and key.endswith(".weight")}
    assert {key for key in names if key.endswith(".weight")} == gains != set()
    assert names - gains == {key.replace(".weight", ".bias") for key in gains}


def test_a_norm_of_another_make_is_known_by_its_name() -> None:
    from timm.layers import RmsNorm

    assert not isinstance(RmsNorm(4), nn.RMSNorm)
    assert [p.shape for p in normalising(nn.Sequential(nn.Linear(2, 4), RmsNorm(4)))] == [(4,)]


def test_trained_are_the_parameters_of_all_groups_that_require_a_gradient() -> None:
    one, frozen, two = _weights(1, 2, 3)
    frozen.requires_grad_(False)
    optimiser = torch.optim.SGD([{"params": [one, frozen]}, {"params": [two]}], lr=0.1)
    assert [id(p) for p in trained(optimiser)] == [id(one), id(two)]


def test_a_scope_is_a_set_of_objects() -> None:
    one, two, three = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    assert [id(p) for p in within([one, two, three], [three, one])] == [id(one), id(three)]
    assert within([one, two], []) == []
    assert len(within([one, two], None)) == 2


@pytest.mark.parametrize(
    ("scope", "found", "remedy"),
    [(None, "was not told the model", "start_epoch"), ([], "found no layer", "scope: all")],
)
def test_a_scope_without_a_model_or_a_layer_is_refused(scope: list[Tensor] | None, found: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match="RS-C35") as caught:
        told(scope, "msam")
    (problem,) = caught.value.problems
    assert found in problem.found
    assert remedy in problem.remedy
    assert "'msam'" in problem.found


def test_what_stands_within_a_container_called_norm_is_no_gain() -> None:
    class NormedHead(nn.Sequential):
        pass

    model = NormedHead(nn.Linear(2, 4), nn.LayerNorm(4))
    assert [id(p) for p in normalising(model)] == [id(p) for p in model[1].parameters()]
