"""What `raresight.look` is given and does not fit together ends in one error that says what, and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raresight.core.errors import RaresightError
from raresight.explain.fitting import fitted
from raresight.explain.look import look
from raresight.explain.probe import ProbeSet, Regions

N, SIDE = 6, 8


class Net(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, classes)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.body(x).mean((2, 3)))


class Several(Net):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x), x


def probe(**changed: Any) -> ProbeSet:
    given = {
        "images": np.random.default_rng(0).random((N, 3, SIDE, SIDE)).astype(np.float32),
        "labels": np.array([[1, 0], [0, 1]] * 3),
        "patients": np.arange(N),
        "classes": ("common", "rare"),
    }
    return ProbeSet(**(given | changed))


IMAGES = probe().images


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ({}, "no network was given"),
        ([Net()], "arms is a list"),
        ({"a": Net()}, "give a list of networks"),
        ({"a": [Net()], "b": []}, "the arm 'b' is no network"),
        ({"a": ["weights.pt"]}, "the arm 'a' holds a str"),
    ],
)
def test_arms_that_are_no_networks(arms: Any, words: str) -> None:
    with pytest.raises(RaresightError, match=words) as raised:
        look(arms=arms, probe=probe())
    assert raised.value.exit_code == 2 and raised.value.problems[0].code == "RS-R48"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"labels": np.full((N, 2), 2)}, "a label of 2"),
        ({"labels": np.zeros((N, 2, 2))}, r"labels of shape \(6, 2, 2\)"),
        ({"labels": np.array([["a", "b"]] * N)}, "labels are no numbers"),
        ({"patients": np.arange(N - 1)}, "6 labels, 5 patients"),
        ({"images": IMAGES[:, 0]}, r"images of shape \(6, 8, 8\)"),  # type: ignore[index]
        ({"images": IMAGES * 255}, "expected 0 to 1"),  # type: ignore[operator]
        ({"images": IMAGES * 3 - 1}, "expected 0 to 1"),  # type: ignore[operator]
    ],
)
def test_a_probe_that_does_not_fit(changed: Any, words: str) -> None:
    with pytest.raises(RaresightError, match=words) as raised:
        look(arms={"a": [Net()]}, probe=probe(**changed))
    assert raised.value.exit_code == 3 and raised.value.problems[0].code == "RS-M47"


def test_regions_that_do_not_fit() -> None:
    mask = np.ones((1, SIDE, SIDE))
    with pytest.raises(RaresightError, match=r"regions on a grid of \(4, 4\)"):
        look(arms={"a": [Net()]}, probe=probe(regions=Regions.of([0], [0], np.ones((1, 4, 4)))))
    for row, label, said in (([-1], [0], "image -1"), ([N], [0], "image 6"), ([0], [2], "class 2"), ([0], [-1], "-1")):
        with pytest.raises(RaresightError, match=said):
            probe(regions=Regions.of(row, label, mask))
    with pytest.raises(RaresightError, match="2 rows, 1 labels and 1 masks"):
        Regions.of([0, 1], [0], mask)
    with pytest.raises(RaresightError, match=r"boxes of shape \(1, 3\)"):
        Regions.of_boxes([0], [0], np.ones((1, 3)), (SIDE, SIDE))
    with pytest.raises(RaresightError, match=r"one mask a class: \(2, 8, 8\)"):
        look(arms={"a": [Net()]}, probe=probe(regions=Regions.of([0], [0], mask)), prior=np.ones((2, 4, 4)))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Several(), "gives a tuple"),
        (Net(5), "gives 5 logits, and the probe has 2 classes"),
        (nn.Sequential(nn.Conv3d(3, 2, 3), nn.Flatten()), "takes no images"),
        (lambda: "weights.pt", "gave a str"),
    ],
)
def test_networks_that_do_not_fit(network: Any, words: str) -> None:
    with pytest.raises(RaresightError, match=words) as raised:
        fitted(network, probe())
    assert raised.value.exit_code == 2


def test_settings_that_there_are_not() -> None:
    with pytest.raises(RaresightError, match="did you mean 'exclusive'"):
        look(arms={"a": [Net()]}, probe=probe(), kind="exlusive")
    with pytest.raises(RaresightError, match=r"there is no 'comon'.*\n.*\n.*did you mean 'common'"):
        look(arms={"a": [Net()]}, probe=probe(), counts={"comon": 3})
    ours = look(arms={"a": [Net()]}, probe=probe())
    with pytest.raises(RaresightError, match="did you mean 'geometry'"):
        ours.run(["geometri"])
    with pytest.raises(RaresightError, match="report was called before run"):
        ours.report("nowhere")


def test_what_fits_is_left_as_it_was() -> None:
    net = Net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert fitted(net, probe()) is net and fitted(lambda: net, probe()) is net
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    look(arms={"a": [net]}, probe=probe(images=(np.asarray(IMAGES) * 255).astype(np.uint8)))
