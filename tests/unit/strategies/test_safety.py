"""Where synthetic cases lie: by hand, against scikit-learn, and with more points than are asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from raresight.core.task import Kind, Task
from raresight.strategies import Stack
from raresight.strategies.features import safety as module
from raresight.strategies.features.safety import safety
from raresight.strategies.features.smote import SMOTE
from raresight.strategies.strategy import Facts, SyntheticRows


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def task(n: int, kind: Kind = "exclusive") -> Task:
    return Task(kind, tuple("abcdefgh"[:n]))


def recipes(base: list[int], neighbour: list[int], gap: list[float], target: Tensor) -> SyntheticRows:
    one, other = torch.tensor(base), torch.tensor(neighbour)
    return SyntheticRows(one, other, torch.tensor(gap), target, torch.ones_like(target))


def ask(z: Tensor, y: Tensor, rows: SyntheticRows, *, mask: Tensor | None = None, kind: Kind = "exclusive", **settings):
    mask = torch.ones_like(y) if mask is None else mask
    ids = settings.pop("ids", torch.arange(len(z)))
    return safety(task(y.shape[1], kind), z, y, mask, ids, rows, rng(), **settings)


def test_unsafe_points_are_those_among_other_classes() -> None:
    """Two pairs of class b: one far from everything but its own, one on both sides of a cloud of class a."""
    cloud = 0.1 * torch.randn(20, 2, generator=rng())
    own = torch.tensor([[50.0, 50.0], [51.0, 50.0], [50.0, 51.0], [51.0, 51.0], [-5.0, 0.0], [5.0, 0.0]])
    z = torch.cat((cloud, own))
    y = torch.eye(3)[[0] * 20 + [1] * 6]
    rows = recipes([20, 21, 20, 24], [21, 22, 23, 25], [0.5, 0.4, 0.5, 0.5], y[[20] * 4])
    # three points lie in the corner where the other two cases of b are nearest, one in the middle of the cloud
    (found,) = ask(z, y, rows, k=2)
    assert found == {
        "class": "b",
        "n_real": 6,
        "n_synthetic": 4,
        "unsafe_before": pytest.approx(2 / 6),  # the two beside the cloud
        "unsafe_synthetic": pytest.approx(1 / 4),
        "unsafe_after": pytest.approx(3 / 10),
        "k": 2,
        "standard_error": 0.0,
    }


def test_exactly_half_is_not_most() -> None:
    z = torch.tensor([[0.0], [0.1], [0.2], [-0.1], [-0.25], [9.0], [9.1]])
    y = torch.eye(2)[[1, 0, 0, 1, 1, 0, 0]]
    rows = recipes([0], [0], [0.0], y[:1])
    (found,) = ask(z, y, rows, k=4)
    assert found["unsafe_synthetic"] == 0  # 0.1 and 0.2 against -0.1 and -0.25
    (found,) = ask(z, y, rows, k=3)
    assert found["unsafe_synthetic"] == 1  # 0.1, 0.2 and -0.1


def test_parents_that_have_the_class_are_not_asked_and_one_that_lacks_it_is() -> None:
    z = torch.tensor([[0.0], [1.0], [0.4], [0.6], [40.0]])
    y = torch.eye(2)[[1, 1, 0, 0, 1]]
    (found,) = ask(z, y, recipes([0], [1], [0.5], y[:1]), k=2)
    assert found["unsafe_synthetic"] == 1
    y = torch.eye(2)[[1, 0, 1, 0, 1]]
    # towards 1.0, which lacks the class: 0.9 has 1.0 and 0.6 nearest, both of the other class
    (found,) = ask(z, y, recipes([0], [1], [0.9], y[:1]), k=2)
    assert found["unsafe_synthetic"] == 1
    # without 1.0 it would have 0.6 and 0.4, half of each: safe
    assert ask(z, torch.eye(2)[[1, 1, 1, 0, 1]], recipes([0], [1], [0.9], y[:1]), k=2)[0]["unsafe_synthetic"] == 0


def test_shares_are_those_of_scikit_learn() -> None:
    label = torch.tensor([0] * 80 + [1] * 25 + [2] * 12)
    z = torch.randn(117, 4, generator=rng(3)) + 0.9 * label.unsqueeze(1)
    y = torch.eye(3)[label]
    method = SMOTE()
    method.fit(Facts("exclusive", ("a", "b", "c"), y, torch.ones_like(y)))
    rows = method.fit_features(z, y, torch.ones_like(y), torch.arange(117), rng())
    assert rows is not None
    search = NearestNeighbors(n_neighbors=8).fit(z.numpy())
    for found, c in zip(ask(z, y, rows), (1, 2), strict=True):
        made = (rows.target[:, c] == 1).nonzero().squeeze(1)
        members = (label == c).nonzero().squeeze(1)
        point = torch.lerp(z[rows.base[made]], z[rows.neighbour[made]], rows.gap[made].unsqueeze(1))
        barred = [{int(a), int(b)} for a, b in zip(rows.base[made], rows.neighbour[made], strict=True)]
        synthetic = _share(search, point, barred, label, c)
        before = _share(search, z[members], [{int(i)} for i in members], label, c)
        assert 0.05 < synthetic < 0.95
        assert found["unsafe_synthetic"] == pytest.approx(synthetic)
        assert found["unsafe_before"] == pytest.approx(before)
        n, m = len(members), len(made)
        assert (found["n_real"], found["n_synthetic"]) == (n, m)
        assert found["unsafe_after"] == pytest.approx((n * before + m * synthetic) / (n + m))


def _share(search: NearestNeighbors, point: Tensor, barred: list[set[int]], label: Tensor, c: int) -> float:
    near = search.kneighbors(point.numpy(), return_distance=False)
    kept = [[j for j in js if j not in out][:5] for js, out in zip(near, barred, strict=True)]
    return float(np.mean([sum(int(label[j]) != c for j in js) > 2.5 for js in kept]))


def test_of_many_points_some_are_asked_and_the_error_is_said() -> None:
    label = torch.tensor([0] * 900 + [1] * 300)
    z = torch.randn(1200, 2, generator=rng(3)) + label.unsqueeze(1)
    y = torch.eye(2)[label]
    method = SMOTE()
    method.fit(Facts("exclusive", ("a", "b"), y, torch.ones_like(y)))
    rows = method.fit_features(z, y, torch.ones_like(y), torch.arange(1200), rng())
    assert rows is not None
    (whole,), (part,) = ask(z, y, rows), ask(z, y, rows, at_most=200)
    assert whole["standard_error"] == 0
    p, q = part["unsafe_before"], part["unsafe_synthetic"]
    assert p * 200 == pytest.approx(round(p * 200))
    errors = (p * (1 - p) / 200 * 100 / 299) ** 0.5, (q * (1 - q) / 200 * 400 / 599) ** 0.5
    assert part["standard_error"] == pytest.approx(max(errors))
    assert abs(p - whole["unsafe_before"]) < 4 * errors[0]
    assert abs(q - whole["unsafe_synthetic"]) < 4 * errors[1]
    assert part["n_synthetic"] == 600
    assert ask(z, y, rows, at_most=600)[0]["standard_error"] == 0


def test_as_many_as_may_be_asked_are_asked_in_their_order_without_a_draw() -> None:
    rows, one, other = torch.tensor([5, 3, 9]), rng(), rng()
    assert module._some(rows, 3, one) is rows
    assert torch.equal(one.get_state(), other.get_state())
    assert set(module._some(rows, 2, one).tolist()) < {3, 5, 9}


def test_a_synthetic_label_behind_its_mask_is_no_case() -> None:
    z = torch.arange(8.0).unsqueeze(1)
    y = torch.tensor([[1.0, 0], [1, 1], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]])
    rows = recipes([0, 1, 1], [1, 0, 2], [0.5, 0.25, 0.5], torch.tensor([[1.0, 1], [1, 0], [1, 1]]))
    rows.mask[0, 1] = rows.mask[2, 0] = 0
    asked = ask(z, y, rows, kind="independent", k=2)
    assert [(found["class"], found["n_synthetic"]) for found in asked] == [("a", 2), ("b", 1)]


def test_unknown_labels_are_no_evidence() -> None:
    z = torch.tensor([[0.0], [0.1], [0.2], [0.3], [0.7], [0.8], [5.0], [6.0]])
    y = torch.tensor([[1.0], [0], [0], [0], [1], [1], [0], [0]])
    rows = recipes([0], [0], [0.0], y[:1])
    assert ask(z, y, rows, kind="independent", k=3)[0]["unsafe_synthetic"] == 1
    mask = torch.ones_like(y)
    mask[1:4] = 0
    (found,) = ask(z, y, rows, mask=mask, kind="independent", k=3)
    assert found["unsafe_synthetic"] == 0  # 0.7 and 0.8 before 5.0
    assert found["n_real"] == 3


def test_other_views_of_the_images_are_not_asked() -> None:
    """Three views of each image, almost alike: alone in a crowd of others each would look safe among its own."""
    z = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    z = torch.cat((z, z + 0.01, z - 0.01))
    y = torch.eye(2)[[0, 1, 0, 0]].repeat(3, 1)
    rows = recipes([1], [1], [0.0], y[1:2])
    (found,) = ask(z, y, rows, ids=torch.arange(4).repeat(3), k=2)
    assert (found["unsafe_before"], found["unsafe_synthetic"]) == (1, 1)
    assert found["n_real"] == 3
    (found,) = ask(z, y, rows, k=2)
    assert found["unsafe_before"] == 0


def test_only_classes_with_synthetic_cases_have_a_row_and_the_stack_asks() -> None:
    y = torch.eye(3)[[0] * 6 + [1] * 3 + [2]]
    z = torch.randn(10, 2, generator=rng())
    stack = Stack([SMOTE()], task(3), "arm")
    stack.fit(Facts("exclusive", ("a", "b", "c"), y, torch.ones_like(y)))
    asked = z, y, torch.ones_like(y), torch.arange(10)
    rows = stack.fit_features(*asked, lambda name: rng())
    assert [row["class"] for row in stack.safety(*asked, rows, lambda name: rng())] == ["b"]
    assert stack.safety(*asked, None, lambda name: rng()) == []
