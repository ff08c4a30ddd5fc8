"""Deletion and insertion: a detector made by hand, whose logit is known; maps, anti-maps, random orders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import grad_cam as written_out
from planted import network, plant
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from raresight.explain.alignment import resized
from raresight.explain.faithfulness import blurred, deletion_insertion, sensitivity_n

EVEN = 4  # names three draws that take each of three cells once


class Region(nn.Module):
    """Two logits: ten times the mean of a region, and minus that."""

    def __init__(self, inside: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("inside", torch.from_numpy(inside))
        self.norm = nn.BatchNorm2d(1) if inside.ndim == 2 else nn.BatchNorm3d(1)

    def forward(self, x: Tensor) -> Tensor:
        z = 10 * self.norm(x)[:, 0][:, self.inside].mean(1)
        return torch.stack([z, -z], dim=1)


def scene(shape: tuple[int, ...]) -> tuple[Region, Tensor, np.ndarray]:
    """Bright images of a lesion that the network looks at, in a dark surround."""
    inside = np.zeros(shape, dtype=bool)
    inside[tuple(slice(n // 4, n // 2) for n in shape)] = True
    rng = np.random.default_rng(0)
    images = (0.2 + 0.7 * inside + 0.05 * rng.random((6, *shape))).astype(np.float32)
    return Region(inside), torch.from_numpy(images)[:, None], inside


@pytest.mark.parametrize("shape", [(24, 24), (12, 12, 12)])
def test_a_planted_detector(shape):
    net, x, inside = scene(shape)
    maps = np.repeat(inside[None].astype(np.float32), 6, axis=0)
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = deletion_insertion(net, x, [0] * 6, maps, names=("a",))
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (found["deletion_gain"] > 0.5).all() and (found["insertion_gain"] > 0.5).all()
    against = deletion_insertion(net, x, [0] * 6, 1 - maps, names=("a",))
    assert (against["deletion_gain"] < -0.3).all() and (against["insertion_gain"] < -0.3).all()
    other = deletion_insertion(net, x, [1] * 6, maps, names=("a",))  # the class that the region speaks against
    np.testing.assert_allclose(other["deletion"], -found["deletion"], rtol=1e-4)
    np.testing.assert_allclose(against["deletion_random"], found["deletion_random"])  # the same random orders
    empty = deletion_insertion(net, x, [0] * 6, 0 * maps, names=("a",))
    full = deletion_insertion(net, x, [0] * 6, 0 * maps + 3, names=("a",))
    assert abs(empty["deletion_gain"].mean()) < 0.4 * found["deletion_gain"].mean() and empty.equals(full)


def test_areas_by_hand():
    """Four pixels in a row; the logit is ten times the first one; the map brings them in the order 1, 0, 3, 2."""
    inside = np.array([[True, False, False, False]])
    net = Region(inside)
    net.norm = nn.Identity()
    x = torch.tensor([[[[0.8, 0.1, 0.1, 0.1]]]])
    soft = float(blurred(x)[0, 0, 0, 0])
    maps = np.array([[[3.0, 4.0, 1.0, 2.0]]])
    row = deletion_insertion(net, x, [0], maps, steps=4, draws=0).iloc[0]
    assert row["logit"] == pytest.approx(8) and row["logit_blurred"] == pytest.approx(10 * soft)
    # z(f) at f = 0, .25, .5, .75, 1: 8, 8, then the first pixel is gone. Trapezoid of the losses 0 0 1 1 1: 2.5 / 4
    assert row["deletion"] == pytest.approx((8 - 10 * soft) * 2.5 / 4, rel=1e-5)
    assert row["insertion"] == pytest.approx((8 - 10 * soft) * 2.5 / 4, rel=1e-5)
    assert np.isnan(row["deletion_gain"])


def test_ties_are_not_taken_in_reading_order():
    _, x, _ = scene((24, 24))
    top = np.zeros((24, 24), dtype=bool)
    top[:6] = True  # the first pixels in reading order
    net = Region(top)
    found = deletion_insertion(net, x, [0] * 6, np.zeros((6, 24, 24)), draws=1, names=("t",))
    again = deletion_insertion(net, x, [0] * 6, np.zeros((6, 24, 24)), draws=1, names=("u",))
    assert found["deletion"].std() > 0 and not found.equals(again)


def test_grad_cam_is_faithful_to_a_trained_network():
    data = plant(60, 6, shortcut=False)
    rows = np.flatnonzero(data.labels[:, 1] == 1)[:16]
    x = torch.from_numpy(data.images[rows])
    maps = resized(written_out(network(0), x)[:, 1].numpy(), (32, 32))
    found = deletion_insertion(network(0), x, [1] * len(rows), maps)
    turned = deletion_insertion(network(0), x, [1] * len(rows), maps.max() - maps)
    for name in ("deletion_gain", "insertion_gain"):
        assert found[name].mean() > 3 * found[name].std() / len(rows) ** 0.5 and turned[name].mean() < 0


def test_blurred_against_scipy():
    for shape in ((11, 16), (6, 7, 8)):
        x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1))
        sigma = max(shape) / 8
        expected = gaussian_filter(
            x.double().numpy(),
            (0, 0) + (sigma,) * len(shape),
            mode="nearest",
            radius=(0, 0) + (int(np.ceil(3 * sigma)),) * len(shape),
        )
        np.testing.assert_allclose(blurred(x).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(21, 21), (14, 14, 14)])
def test_sensitivity_n(shape):
    net, x, inside = scene(shape)
    lost = (x - blurred(x))[:, 0].numpy() * inside  # what each pixel's blurring takes from the logit, up to a factor
    for n in (3, 20):
        found = sensitivity_n(net, x, [0] * 6, lost, n)
        assert found.shape == (6,) and (found > 0.99).all()
        assert (sensitivity_n(net, x, [1] * 6, lost, n) < -0.99).all()
    elsewhere = sensitivity_n(net, x, [0] * 6, np.random.default_rng(0).random((6, *shape)), 10, names=("b",))
    assert np.abs(elsewhere).mean() < 0.6
    assert np.isnan(sensitivity_n(net, x, [0] * 6, 0 * lost, 5)).all()
    with pytest.raises(ValueError, match="cells"):
        sensitivity_n(net, x, [0] * 6, lost, 7 ** len(shape))
    with pytest.raises(ValueError, match="cells"):
        sensitivity_n(net, x, [0] * 6, lost, 0)


def test_sensitivity_of_three_cells_by_hand():
    """Each cell is taken once, the middle one's mass and loss are the means; a loss of rounding alone tells nothing."""
    x = torch.tensor([[[[0.9, 0.2, 0.7]]]])
    maps = torch.tensor([[[0.0, 1.0, 2.0]]])
    weight = maps[0, 0] / (x - blurred(x))[0, 0, 0]  # so that taking a cell takes its mass from the logit

    def found(size: float, offset: float) -> float:
        net = nn.Sequential(nn.Flatten(), nn.Linear(3, 1))
        net[1].weight.data, net[1].bias.data = size * weight[None], torch.tensor([offset])
        return float(sensitivity_n(net, x, [0], maps, 1, draws=3, cells=3, names=(EVEN,))[0])

    assert found(1.0, 0.0) == pytest.approx(1) and found(-1.0, 0.0) == pytest.approx(-1)
    assert np.isnan(found(0.02, 1e5))


def test_grids_and_no_images():
    net, x, _ = scene((24, 24))
    with pytest.raises(ValueError, match="images' own grid"):
        deletion_insertion(net, x, [0] * 6, np.zeros((6, 7, 7)))
    none = deletion_insertion(net, x[:0], [], np.zeros((0, 24, 24)))
    assert len(none) == 0 and "insertion_gain" in none
