"""What chance gives a layer's count of detectors. Oracles: by hand, and the real masks' rule put to each dealing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from statsmodels.stats.multitest import multipletests

import raresight
from raresight.explain import dissected, dissection_table
from raresight.explain import unit_null as module
from raresight.explain.dissect import dissect
from raresight.explain.null_counts import band, null_counts, passing
from raresight.explain.probe import ProbeSet, Regions
from raresight.explain.unit_null import UnitNull, unit_null
from tests.unit.explain.test_look import net, probe_of


def boxes(rng: np.random.Generator, n: int, classes: int, side: int = 16) -> ProbeSet:
    """Each image has one of the classes, in a box anywhere, or none."""
    labels = np.eye(classes + 1)[rng.integers(0, classes + 1, n)][:, :classes]
    row, label = np.nonzero(labels)
    height, width = rng.integers(3, 8, (2, len(row)))
    y, x = rng.integers(0, side - height), rng.integers(0, side - width)
    regions = Regions.of_boxes(
        row.tolist(), label.tolist(), np.stack([y, x, y + height, x + width], axis=1), (side, side)
    )
    return ProbeSet(np.zeros((n, 1, 1), dtype=np.float32), labels, np.arange(n), regions=regions)


def noise(rng: np.random.Generator, n: int, units: int, alike: float, side: int = 4) -> np.ndarray:
    """Rectified noise, the share `alike` of it the same in all units, which then fire in the same images."""
    own, same = (gaussian_filter(rng.normal(size=(n, u, side, side)), (0, 0, 0.8, 0.8)) for u in (units, 1))
    strength, loud = rng.gamma(2.0, 1.0, (n, units, 1, 1)), 2 * rng.gamma(1.0, 1.0, (n, 1, 1, 1))
    return np.maximum((1 - alike) * own * strength + alike * same * loud, 0).astype(np.float16)


# One concept


def test_a_dealing_is_a_detector_by_the_rule_of_the_real_masks() -> None:
    """Twenty dealings: the highest alone has p = 1/20; one of two units then has p̃ = .1, both at once .05."""
    rising = np.arange(20.0)
    everyone = np.ones(2, dtype=bool)

    def passed(shared: np.ndarray, family: np.ndarray, high: float = 0.0) -> list[tuple[int, ...]]:
        found = passing(shared, shared / 100, np.full(shared.shape[1], high), family, level=0.05)
        return [tuple(map(int, pair)) for pair in np.argwhere(found)]

    together, apart = np.stack([rising, rising], axis=1), np.stack([rising, rising[::-1]], axis=1)
    assert passed(together, everyone) == [(19, 0), (19, 1)]
    assert passed(apart, everyone) == []
    assert passed(apart, np.array([True, False])) == [(19, 0)]  # a unit outside the family is not counted in it
    assert passed(together, everyone, high=0.19) == []  # no higher than the 95th percentile
    tied = np.minimum(together, 18.0)
    assert passed(tied, everyone) == []  # two of twenty have as much: p = .1


def test_a_unit_that_passes_for_several_classes_is_counted_for_one() -> None:
    """Unit 0 passes for both classes, unit 1 for the second; the union, concept 3, takes all that pass for it."""
    none = -np.inf
    scores = {
        0: np.array([[0.2, none], [none, none]]),
        1: np.array([[0.5, 0.1], [none, none]]),
        3: np.array([[0.4, 0.3], [none, 0.1]]),
    }
    counts = null_counts(scores, np.array([True, True, True, False]))
    np.testing.assert_array_equal(counts, [[0, 2, np.nan, 2], [0, 0, np.nan, 1]])
    assert null_counts({}, np.ones(3, dtype=bool)).shape == (0, 3)
    assert null_counts({0: np.array([[0.2, 0.1]])}, np.array([True])).tolist() == [[2]]  # all units of a network


def test_counts_are_those_of_each_dealing_taken_for_the_real_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    given, a = boxes(rng, 40, 2), noise(rng, 40, 15, alike=0.6)
    a[:, 3] = 0.0
    seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def listening(shared: np.ndarray, iou: np.ndarray, high: np.ndarray, family: np.ndarray, **more: Any) -> np.ndarray:
        seen.append((shared, iou, family))
        return passing(shared, iou, high, family, **more)

    monkeypatch.setattr(module, "passing", listening)
    null = unit_null(a, given, dissect(a, given, 0.05))
    assert len(seen) == 3 and null.counts.shape == (200, 3)
    assert (null.counts[:, :2] > 0).any(axis=0).all() and (null.counts == 0).any()
    living = np.arange(15) != 3
    for c, (_, iou, _) in enumerate(seen):
        np.testing.assert_allclose(null.top_excess[:, c], (iou - iou.mean(axis=0)).max(axis=1))
        np.testing.assert_allclose(null.top_normalised[:, c], (iou[:, living] / null.ceiling[living, c]).max(axis=1))
    for d, counted in enumerate(null.counts):
        iou = np.stack([of[1][d] for of in seen], axis=1)
        adjusted = np.full(iou.shape, np.nan)
        for c, (shared, _, family) in enumerate(seen):
            p = np.array(
                [sum(other >= mine for other in column) for mine, column in zip(shared[d], shared.T, strict=True)]
            )
            adjusted[family, c] = multipletests(p[family] / 200, method="fdr_bh")[1].round(12)
        one = replace(null, iou=iou, p_adjusted=adjusted)
        assert one.detectors.count.tolist() == counted.tolist(), d


def test_a_dealing_gives_a_unit_to_the_class_it_is_furthest_beyond_chance_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every p small, units often pass for both classes at once, which the rule of the rates seldom lets happen."""
    rng = np.random.default_rng(5)
    given, a = boxes(rng, 40, 2), noise(rng, 40, 15, alike=0.6)
    seen: list[np.ndarray] = []

    def generous(shared: np.ndarray, iou: np.ndarray, high: np.ndarray, family: np.ndarray, **more: Any) -> np.ndarray:
        seen.append(iou)
        return iou > high

    monkeypatch.setattr(module, "passing", generous)
    null = unit_null(a, given, dissect(a, given, 0.05))
    both = 0
    for d, counted in enumerate(null.counts):
        one = replace(null, iou=np.stack([iou[d] for iou in seen], axis=1), p_adjusted=np.zeros_like(null.p))
        both += int(one.detector[:, :2].all(axis=1).sum())
        assert one.detectors.count.tolist() == counted.tolist(), d
    assert both > 3


# The band


def test_the_mean_over_networks_is_taken_within_each_dealing() -> None:
    """Each of three has 6 units in two dealings of 100, never the same: their own ends are 0, that of the mean 2."""
    each = np.zeros((3, 100, 1))
    for network in range(3):
        each[network, 2 * network : 2 * network + 2] = 6
    assert [band([one]).high[0] for one in each] == [0, 0, 0]
    found = band(list(each))
    assert (found.mean[0], found.low[0], found.high[0]) == (pytest.approx(0.12), 0, 2)
    assert band([each[0]] * 3).high[0] == 0


def test_the_ends_are_counts_that_occur() -> None:
    counts = np.arange(200.0)[:, None]
    found = band([counts])
    assert (found.mean[0], found.low[0], found.high[0]) == (99.5, 4, 194)  # 4 below 4, 5 above 194
    gap = np.concatenate([counts, np.full((200, 1), np.nan)], axis=1)
    assert np.isnan([band([gap]).mean[1], band([gap]).high[1]]).all()
    assert np.isnan(band([counts, np.zeros((0, 1))]).mean).all()


@pytest.mark.parametrize(("alike", "most"), [(0.0, 0.0), (0.3, 3.0), (0.6, 12.0)])
def test_features_without_meaning_lie_within_the_band(alike: float, most: float) -> None:
    """The real count is in the band in 95 of 100 networks; units of their own (none alike) have a band of 0."""
    runs, inside, high, mean = 50, [], [], []
    for run in range(runs):
        rng = np.random.default_rng([2, run])
        given, a = boxes(rng, 30, 2), noise(rng, 30, 20, alike)
        null = unit_null(a, given, dissect(a, given, 0.05), names=(run,))
        found, count = null.by_chance, null.detectors.count
        inside.append(((count >= found.low) & (count <= found.high))[:2])
        high.append(found.high[:2])
        mean.append(found.mean[:2])
    assert np.mean(inside) >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / (2 * runs))
    assert np.mean(high) <= most
    assert np.mean(mean) <= 0.05 * 20  # a dealing has a detector in at most 5 of 100


@pytest.mark.parametrize("alike", [0.0, 0.3])
def test_planted_detectors_lie_above_the_band(alike: float) -> None:
    rng = np.random.default_rng(3)
    given = boxes(rng, 80, 2)
    a = noise(rng, 80, 60, alike)
    assert given.regions is not None
    inside = np.zeros((80, 4, 4))
    inside[given.regions.row] = given.regions.masks().reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4))
    a[:, :5] += (6 * inside * given.labels[:, :1, None])[:, None].astype(np.float16)
    null = unit_null(a, given, dissect(a, given, 0.05))
    found, count = null.by_chance, null.detectors.count
    assert (null.detectors.concept[:5] == 0).all() and count[0] <= 8
    assert count[0] > found.high[0] and found.high[0] <= 3
    assert count[1] <= max(found.high[1], 1)


# Rows


def test_counts_are_kept_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    given, a = boxes(rng, 30, 2), noise(rng, 30, 10, 0.6)
    found = dissect(a, given, 0.05)

    class Seen:
        names, key, kept, activations = ("l",), "k", np.arange(30), {"l": a}

    first: UnitNull = dissected.beyond_chance(Seen, given, "l", found, tmp_path)  # type: ignore[arg-type]
    monkeypatch.setattr(dissected, "unit_null", None)
    again: UnitNull = dissected.beyond_chance(Seen, given, "l", found, tmp_path)  # type: ignore[arg-type]
    assert first.counts.shape == (200, 3) and first.counts.any()
    np.testing.assert_array_equal(first.counts, again.counts)
    monkeypatch.setattr(dissected, "NULL_VERSION", 1)  # what was made before there were counts is not read
    with pytest.raises(TypeError):
        dissected.beyond_chance(Seen, given, "l", found, tmp_path)  # type: ignore[arg-type]


def test_a_row_an_arm_and_class_and_in_no_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds with 4 units of class `even` in dealings 0 to 9 and 5 to 14: their own ends are 4, the mean's is 2."""
    made = dissected.beyond_chance
    turn = iter(range(3))

    def counted(seen: Any, *more: Any) -> UnitNull:
        null = made(seen, *more)
        counts = np.zeros_like(null.counts)
        start = (0, 5, 100)[next(turn)]
        counts[start : start + 10, 0] = 4
        return replace(null, counts=counts)

    monkeypatch.setattr(dissection_table, "beyond_chance", counted)
    arms = {"plain": [net(0), net(1)], "other": [net(2)]}
    look = raresight.look(arms=arms, probe=probe_of(40), counts={"even": 100, "odd": 10}).run(["dissect"])
    rows = look.tables()["dissection"]
    mine = {(one["arm"], one["class"]): one for one in rows if one["metric"] == "null_detectors"}
    assert list(mine) == [(arm, name) for arm in arms for name in ("even", "odd")]
    told = {key: (one["value"], one["low"], one["high"], one["n_seeds"]) for key, one in mine.items()}
    assert told["plain", "even"] == (pytest.approx(0.2), 0, 2, 2)  # 4 in five of 200 dealings: not more than 2.5 of 100
    assert told["other", "even"] == (pytest.approx(0.2), 0, 4, 1)
    assert told["plain", "odd"] == (0, 0, 0, 2)
    for one in mine.values():
        assert one["layer"] == look.layer and one["seed"] is None and "dealing the masks anew" in one["reason"]
        assert one["family"] == "" and one["p"] is one["p_level"] is one["p_adjusted"] is one["difference"] is None
        beside = next(each for each in rows if each["metric"] == "detectors" and each["class"] == one["class"])
        same = ("n_images", "n_patients", "band", "layer")
        assert [one[key] for key in same] == [beside[key] for key in same]


def test_without_dealings_a_row_says_why() -> None:
    probe = replace(probe_of(12), patients=np.zeros(12))
    look = raresight.look(arms={"plain": [net(0)]}, probe=probe, counts={"even": 9, "odd": 3}).run(["dissect"])
    ours = [one for one in look.tables()["dissection"] if one["metric"] == "null_detectors"]
    assert len(ours) == 2
    for one in ours:
        assert one["value"] is one["low"] is one["high"] is None and one["status"] == "absent"
        assert "nothing to deal the masks among" in one["reason"]
