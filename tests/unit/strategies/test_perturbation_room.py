"""Memory that `moved` keeps from step to step changes no bit of where the weights stand."""

from __future__ import annotations

import torch
from torch import Tensor

from raresight.strategies.steps.perturbation import moved


def _weights() -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    image = torch.randn(4, 3, 5, 5, generator=rng).to(memory_format=torch.channels_last)
    return [torch.nn.Parameter(image), torch.nn.Parameter(torch.randn(7, generator=rng))]


def test_kept_memory_changes_no_bit() -> None:
    """Reference: -0.3 v / ||v|| in fresh memory, rounded once for the product and once for the sum."""
    weights, room = _weights(), []
    for step in range(3):
        rng = torch.Generator().manual_seed(step + 1)
        directions = [torch.randn(w.shape, generator=rng) for w in weights]
        norm = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(directions))))
        expected = [w.detach() + v * (-0.3 / norm) for w, v in zip(weights, directions, strict=True)]
        before = [(w.data_ptr(), w.detach().clone()) for w in weights]
        with moved(weights, directions, -0.3, room) as away:
            assert away
            assert all(torch.equal(w, there) for w, there in zip(weights, expected, strict=True))
        for w, (address, value) in zip(weights, before, strict=True):
            assert w.data_ptr() == address
            assert torch.equal(w, value)


def test_memory_is_kept_while_it_fits() -> None:
    weights, room = _weights(), []
    directions = [torch.ones_like(w) for w in weights]
    with moved(weights, directions, 1.0, room):
        assert [w.data_ptr() for w in weights] == [kept.data_ptr() for kept in room]
    first = list(room)
    with moved(weights, directions, 2.0, room):
        pass
    assert all(kept is same for kept, same in zip(room, first, strict=True))
    with moved(weights[1:], directions[1:], 1.0, room):  # another scope: another shape
        assert len(room) == 1 and room[0].shape == (7,)
    with moved(weights[1:], [v.double() for v in directions[1:]], 1.0, room):
        assert room[0].dtype == torch.float64
