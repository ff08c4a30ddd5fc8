"""SMOTE against imbalanced-learn and scikit-learn: same neighbours, same counts, every point on a line."""

from __future__ import annotations

import doctest
import math

import imblearn.over_sampling as imblearn  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies.features import smote
from raresight.strategies.features.neighbours import neighbours_within
from raresight.strategies.features.smote import SMOTE
from raresight.strategies.strategy import Facts, SyntheticRows

COUNTS = (60, 25, 9)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exclusive(counts: tuple[int, ...] = COUNTS, width: int = 7) -> tuple[Tensor, Tensor]:
    """Features and one-hot labels, classes shuffled together."""
    n = sum(counts)
    label = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))[
        torch.randperm(n, generator=rng(1))
    ]
    return torch.randn(n, width, generator=rng(2)) + label.unsqueeze(1), torch.eye(len(counts))[label]


def run(
    method: SMOTE, z: Tensor, y: Tensor, mask: Tensor | None = None, kind: str = "exclusive", seed: int = 0
) -> SyntheticRows | None:
    mask = torch.ones_like(y) if mask is None else mask
    method.fit(Facts(kind, tuple("abcdefgh"[: y.shape[1]]), y, mask))  # type: ignore[arg-type]
    return method.fit_features(z, y, mask, torch.arange(len(z)), rng(seed))


def shift(method: SMOTE) -> Tensor:
    answer = method.log_prior_shift()
    assert answer is not None
    return answer


def points(z: Tensor, rows: SyntheticRows) -> Tensor:
    return z[rows.base] + rows.gap.view(-1, 1) * (z[rows.neighbour] - z[rows.base])


# exclusive labels


def test_counts_are_those_of_imbalanced_learn() -> None:
    z, y = exclusive()
    rows = run(SMOTE(), z, y)
    assert rows is not None
    _, theirs = imblearn.SMOTE(random_state=0).fit_resample(z.numpy(), y.argmax(1).numpy())
    ours = (y.sum(0) + rows.target.sum(0)).long()
    assert ours.tolist() == np.bincount(theirs).tolist() == [60, 60, 60]
    assert (rows.mask == 1).all()


def test_a_ratio_is_that_of_imbalanced_learn() -> None:
    z, y = exclusive((40, 9))
    rows = run(SMOTE(target=0.3), z, y)
    assert rows is not None
    _, theirs = imblearn.SMOTE(random_state=0, sampling_strategy=0.3).fit_resample(z.numpy(), y.argmax(1).numpy())
    assert (y.sum(0) + rows.target.sum(0)).tolist() == np.bincount(theirs).tolist() == [40, 12]


def test_every_point_lies_between_a_case_and_one_of_its_nearest_of_the_class() -> None:
    z, y = exclusive()
    label = y.argmax(1)
    rows = run(SMOTE(k=3), z, y)
    assert rows is not None
    new = points(z, rows)
    for c in (1, 2):
        members = (label == c).nonzero().squeeze(1)
        near = NearestNeighbors(n_neighbors=3).fit(z[members].numpy()).kneighbors(return_distance=False)
        allowed = {(int(members[i]), int(members[j])) for i, js in enumerate(near) for j in js}
        made = rows.target[:, c] == 1
        pairs = set(zip(rows.base[made].tolist(), rows.neighbour[made].tolist(), strict=True))
        assert pairs <= allowed
        assert len({a for a, _ in pairs}) > 0.5 * len(members)  # 35 even draws among 25 reach 19 in the mean, sd 1.7
        a, b, p = z[rows.base[made]], z[rows.neighbour[made]], new[made]
        # on the segment: the two parts of the way are as long as the whole
        torch.testing.assert_close((p - a).norm(dim=1) + (p - b).norm(dim=1), (a - b).norm(dim=1))
    assert rows.gap.min() >= 0
    assert rows.gap.max() < 1
    assert rows.gap.mean().item() == pytest.approx(0.5, abs=0.12)  # 86 even draws: sd of the mean 0.03


def test_points_of_imbalanced_learn_lie_on_our_segments() -> None:
    z, y = exclusive((30, 8))
    members = y[:, 1].nonzero().squeeze(1)
    near = neighbours_within(z, members, 5)
    theirs = torch.from_numpy(imblearn.SMOTE(random_state=3).fit_resample(z.numpy(), y.argmax(1).numpy())[0])[38:]
    a = z[members].repeat_interleave(5, 0)
    b = z[near.flatten()]
    way = torch.cdist(theirs, a) + torch.cdist(theirs, b) - (a - b).norm(dim=1)
    assert len(theirs) == 22
    assert way.min(1).values.max() < 1e-4


def test_small_classes() -> None:
    z, y = exclusive((10, 2, 1))
    rows = run(SMOTE(k=5), z, y)
    assert rows is not None
    # two cases have one neighbour each (k is capped at 1); a single case has no line and gets nothing
    assert rows.target.sum(0).tolist() == [0, 8, 0]
    pair = set(y[:, 1].nonzero().squeeze(1).tolist())
    assert set(rows.base.tolist()) | set(rows.neighbour.tolist()) == pair
    assert (rows.base != rows.neighbour).all()


def test_nothing_to_do_is_none() -> None:
    z, y = exclusive((6, 6))
    assert run(SMOTE(), z, y) is None
    z, y = exclusive((6, 1))
    assert run(SMOTE(), z, y) is None


def test_unknown_exclusive_labels_are_no_parents() -> None:
    z, y = exclusive((20, 8))
    mask = torch.ones_like(y)
    unknown = y[:, 1].nonzero().squeeze(1)[:3]
    mask[unknown] = 0
    rows = run(SMOTE(), z, y, mask)
    assert rows is not None
    assert not set(unknown.tolist()) & set(torch.cat((rows.base, rows.neighbour)).tolist())
    assert rows.target.sum(0).tolist() == [0, 15]  # five known cases are filled up to twenty


def test_shift_is_the_log_of_the_growth() -> None:
    z, y = exclusive((40, 10, 1, 0))
    method = SMOTE(target=0.5)
    run(method, z, y)
    # 40 stays, 10 becomes 20, a single case and an absent class stay
    assert shift(method).tolist() == pytest.approx([0, math.log(2), 0, 0])


# independent labels


def independent() -> tuple[Tensor, Tensor, Tensor]:
    """Three labels, some together, some unknown: 8 positives of the first, 30 of the second, 20 of the third."""
    n = 100
    y = torch.zeros(n, 3)
    y[:8, 0] = 1
    y[4:34, 1] = 1
    y[:5, 2] = 1
    y[50:65, 2] = 1
    mask = torch.ones(n, 3)
    mask[6, 2] = 0
    mask[90:, 1] = 0
    return torch.randn(n, 6, generator=rng(4)), y, mask


def test_independent_labels_are_filled_one_at_a_time_and_kept_where_parents_agree() -> None:
    z, y, mask = independent()
    rows = run(SMOTE(), z, y, mask, "independent")
    assert rows is not None
    # no finding at all and all labels known: rows 34-49 and 65-89, 41 cases; so 41 - 8 + 41 - 30 + 41 - 20
    assert len(rows.base) == 33 + 11 + 21
    own = [0] * 33 + [1] * 11 + [2] * 21
    for i, c in enumerate(own):
        a, b = int(rows.base[i]), int(rows.neighbour[i])
        assert y[a, c] == y[b, c] == 1
        for k in range(3):
            known = bool(mask[a, k] == 1 and mask[b, k] == 1 and y[a, k] == y[b, k])
            assert bool(rows.mask[i, k]) is known
            assert rows.target[i, k] == (y[a, k] if known else 0)
        assert rows.mask[i, c] == 1


def test_independent_shift_is_the_change_of_log_odds() -> None:
    z, y, mask = independent()
    method = SMOTE()
    rows = run(method, z, y, mask, "independent")
    assert rows is not None
    for k in range(3):
        has, known = float((y * mask)[:, k].sum()), float(mask[:, k].sum())
        more, more_known = float((rows.target * rows.mask)[:, k].sum()), float(rows.mask[:, k].sum())
        after = math.log((has + more) / (known + more_known - has - more))
        assert shift(method)[k].item() == pytest.approx(after - math.log(has / (known - has)))


def test_one_independent_class_is_balanced_against_its_negatives() -> None:
    z = torch.randn(30, 4, generator=rng())
    y = torch.zeros(30, 1)
    y[:6] = 1
    method = SMOTE()
    rows = run(method, z, y, kind="independent")
    assert rows is not None
    assert len(rows.base) == 18  # 6 become 24
    assert shift(method).tolist() == pytest.approx([math.log(4)])


# the rest of the contract


def test_the_given_generator_alone_decides() -> None:
    z, y = exclusive()
    torch.manual_seed(1)
    first = run(SMOTE(), z, y, seed=5)
    torch.manual_seed(2)
    again, other = run(SMOTE(), z, y, seed=5), run(SMOTE(), z, y, seed=6)
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(points(z, first), points(z, again))
    assert not torch.equal(points(z, first), points(z, other))


@pytest.mark.parametrize("settings", [{"k": 0}, {"k": 2.5}, {"target": 0}, {"target": 1.2}, {"target": "auto"}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SMOTE(**settings)  # type: ignore[arg-type]


def test_the_example_runs() -> None:
    result = doctest.testmod(smote)
    assert result.attempted > 0
    assert result.failed == 0
