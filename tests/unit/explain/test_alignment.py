"""Scores of maps against masks: hand-worked grids, scikit-learn, slow loops over the definitions, directions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from raresight.explain.alignment import METRICS, cells, measure, resized
from raresight.explain.tau import choose_tau, otsu

GRID = np.array([[4, 2, 2], [0, 1, 0], [0, 0, 1]], dtype=np.float32)  # values 4, 2, 2, 1, 1 and four 0; they sum to 10


def mask(*pixels: tuple[int, int], shape: tuple[int, int] = (3, 3)) -> np.ndarray:
    grid = np.zeros(shape, dtype=bool)
    for pixel in pixels:
        grid[pixel] = True
    return grid


def one(values: np.ndarray, inside: np.ndarray, tau: float = 0.5) -> dict[str, float]:
    return measure(values[None], inside[None], tau=tau).iloc[0].to_dict()


def test_by_hand():
    got = one(GRID, mask((0, 1), (1, 1), (2, 0)))  # values 2, 1 and 0 of three pixels
    assert got["hit"] == 0.0 and not got["empty"]
    assert got["mass"] == pytest.approx(3 / 10)
    assert got["iobb"] == pytest.approx((2 / 4 + 1 / 4 + 0) / 3)
    assert (got["inter"], got["union"]) == (1, 5)  # A = {4, 2, 2}
    assert got["iou"] == pytest.approx(1 / 5)
    assert got["rank"] == pytest.approx(1 / 3)  # the three largest are 4, 2 and 2; one is inside
    # entering in groups: 4 (0 of 1), 2 2 (1 of 3), 1 1 (2 of 5), 0 0 0 0 (3 of 9)
    assert got["pixel_ap"] == pytest.approx((1 / 3 + 2 / 5 + 3 / 9) / 3)
    assert got["lift"] == pytest.approx(1 / 3 + 2 / 5 + 3 / 9)
    assert got["area"] == pytest.approx(1 / 3)
    # kept S/m: 1, .5, .5, .25, .25 ; quantiles 0 .. 1 of five values: position 4 q from the smallest.
    # q 0-.2 (positions 0, .4, .8 -> values .25): r = (.5 + .25) / 5 ; .3-.7 (1.2 .. 2.8 -> .5): r = .5 / 3 ;
    # q = .25 would be the border; at q = .8 .. 1 the threshold is above .5: r = 0 / 1
    low, middle = 0.75 / 5, 0.5 / 3
    points = [low, low, low, middle, middle, middle, middle, middle, 0, 0, 0]
    assert got["ehr"] == pytest.approx((sum(points) - points[0] / 2) / 10)


def test_perfect_map_scores_one_everywhere():
    inside = mask((0, 0), (0, 1))
    got = one(inside.astype(np.float32) * 7, inside, tau=1.0)
    assert [got[name] for name in METRICS] == [1.0] * 7


def test_map_elsewhere_scores_nothing_but_its_prevalence():
    got = one((~mask((0, 0), (0, 1))).astype(np.float32), mask((0, 0), (0, 1)))
    assert [got[name] for name in ("hit", "iou", "mass", "iobb", "rank", "ehr")] == [0.0] * 6
    assert got["pixel_ap"] == pytest.approx(2 / 9)  # both mask pixels enter last, 2 of 9


@pytest.mark.parametrize("level", [0.0, -3.0, 5.0])
def test_constant_map(level):
    got = one(np.full((3, 3), level, dtype=np.float32), mask((0, 0), (2, 2)))
    empty = level <= 0
    assert got["empty"] == empty
    assert got["hit"] == pytest.approx(0 if empty else 2 / 9)  # every pixel is a largest one: 2 of 9 lie inside
    assert got["mass"] == pytest.approx(0 if empty else 2 / 9)
    assert got["iou"] == pytest.approx(0 if empty else 2 / 9)
    assert got["iobb"] == pytest.approx(0 if empty else 1)
    assert got["ehr"] == pytest.approx(0 if empty else 2 / 9)
    assert got["rank"] == pytest.approx(2 / 9)  # two pixels drawn of nine tied ones
    assert got["pixel_ap"] == pytest.approx(2 / 9) and got["lift"] == pytest.approx(1)


def test_hit_shares_out_ties_between_largest_pixels():
    values = np.array([[3, 3, 0], [3, 1, 0], [0, 0, 0]], dtype=np.float32)
    assert one(values, mask((0, 0), (1, 1)))["hit"] == pytest.approx(1 / 3)


def test_rank_shares_out_ties_at_its_border():
    got = one(GRID, mask((0, 0), (0, 1)))  # the two largest: the 4, and one of two 2s, of which one is inside
    assert got["rank"] == pytest.approx((1 + 1 / 2) / 2)


def test_tau_reaches_its_own_border_and_is_given_per_row():
    twice = np.stack([GRID, GRID, GRID])
    inside = np.stack([mask((0, 1), (1, 1))] * 3)
    got = measure(twice, inside, tau=np.array([0.25, 0.26, np.nan]))
    assert list(got["inter"][:2]) == [2, 1] and list(got["union"][:2]) == [5, 4]
    assert got.loc[2, ["iou", "inter", "union"]].isna().all() and got.loc[2, "mass"] == pytest.approx(0.3)
    tenths = np.array([[0.7, 1.0, 0.6]], dtype=np.float32)  # .7 in float32 is a little below .7
    assert one(tenths, np.ones((1, 3), bool), tau=0.7)["inter"] == 2


def test_rows_that_cannot_be_measured_are_nan():
    maps = np.stack([GRID, GRID, GRID])
    maps[1, 0, 0] = np.nan
    masks = np.stack([mask((0, 0)), mask((0, 0)), mask()])
    got = measure(maps, masks)
    assert got[[*METRICS, "lift"]].isna().all(axis=1).tolist() == [False, True, True]
    assert got["area"].tolist() == pytest.approx([1 / 9, 1 / 9, 0])
    assert measure(maps[:0], masks[:0]).shape == (0, 12)
    with pytest.raises(ValueError, match="resize the maps"):
        measure(maps, masks[:, :2])


def slow_ehr(values: np.ndarray, inside: np.ndarray) -> float:
    """The definition, with numpy's own quantile."""
    heat = values.ravel() / values.max()
    kept = heat[heat >= np.float32(0.1)]
    ratio = []
    for q in np.linspace(0, 1, 11):
        chosen = heat >= np.quantile(kept, q) - 1e-12
        ratio.append((heat * chosen * inside.ravel()).sum() / chosen.sum())
    return float(np.trapezoid(ratio, dx=0.1))


def slow_rank(values: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> float:
    """Mean over many random orders of the ties."""
    n, v, m = int(inside.sum()), values.ravel(), inside.ravel()
    shares = [m[np.lexsort((rng.random(len(v)), -v))[:n]].mean() for _ in range(4000)]
    return float(np.mean(shares))


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 3)])
def test_against_definitions_and_scikit_learn(shape):
    rng = np.random.default_rng(5)
    maps = np.maximum(rng.normal(size=(7, *shape)), 0).astype(np.float32)
    maps[::2] = np.round(maps[::2] * 2)  # many ties
    masks = rng.random((7, *shape)) < 0.3
    got = measure(maps, masks, tau=0.4)
    for i, (values, inside) in enumerate(zip(maps, masks, strict=True)):
        row = got.loc[i]
        assert row["pixel_ap"] == pytest.approx(average_precision_score(inside.ravel(), values.ravel()))
        assert row["ehr"] == pytest.approx(slow_ehr(values.astype(np.float64), inside), abs=1e-6)
        assert row["mass"] == pytest.approx(values[inside].sum() / values.sum(), rel=1e-6)
        cut = values >= 0.4 * values.max()
        assert row["iou"] == pytest.approx((cut & inside).sum() / (cut | inside).sum())
        assert row["hit"] == pytest.approx(inside[values == values.max()].mean())
        assert row["rank"] == pytest.approx(slow_rank(values, inside, rng), abs=0.02)
    assert got[list(METRICS)].min().min() >= 0 and got[list(METRICS)].max().max() <= 1
    scaled = measure(maps * np.float32(1e-3), masks, tau=0.4)  # an arm with smaller logits
    np.testing.assert_allclose(scaled[list(METRICS)], got[list(METRICS)], atol=1e-6)


def test_moving_mass_into_the_mask_raises_every_score():
    rng = np.random.default_rng(0)
    inside = np.zeros((12, 12), dtype=bool)
    inside[3:7, 4:9] = True
    noise = rng.random((12, 12)).astype(np.float32)
    shares = (0.0, 0.3, 0.6, 1.5)
    maps = np.stack([noise * (1 - min(share, 1) / 2) + share * inside * (0.5 + noise) for share in shares])
    got = measure(maps.astype(np.float32), np.stack([inside] * 4), tau=0.6)
    for name in ("iou", "mass", "iobb", "rank", "pixel_ap", "ehr"):
        assert (np.diff(got[name]) > 0).all(), name
    assert got["hit"].iloc[0] <= got["hit"].iloc[-1] == 1


def test_resized_by_hand():
    line = np.array([[[0.0, 4.0]]], dtype=np.float32)  # centres of 2 cells over 4 pixels: at pixels .5 and 2.5
    assert resized(line, (1, 4)).tolist() == [[[0.0, 1.0, 3.0, 4.0]]]
    assert resized(np.array([[[1.0, 3, 5, 9]]]), (1, 2)).tolist() == [[[2.0, 7.0]]]  # shrinking takes means
    assert resized(np.array([[[1.0, 3, 5, 9]]]), (1, 1)).tolist() == [[[4.5]]]  # of all, not of the two in the middle
    cube = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    assert resized(cube, (4, 4, 4)).shape == (1, 4, 4, 4)
    assert resized(cube, (4, 4, 4))[0, :, 0, 0].tolist() == [0.0, 1.0, 3.0, 4.0]
    assert resized(cube, (2, 2, 2)).tolist() == cube.tolist()
    assert resized(np.zeros((0, 7, 7)), (14, 14)).shape == (0, 14, 14)


def test_cells():
    inside = np.zeros((2, 224, 224), dtype=bool)
    inside[0, :32, :48] = True  # one and a half cells of 32 x 32 pixels
    inside[1, 0, :16] = True
    assert cells(inside, (7, 7)).tolist() == pytest.approx([1.5, 16 / 1024])


def test_choose_tau():
    values = np.array([[1.0, 0.72, 0.5, 0.3]], dtype=np.float32)
    inside = np.array([[True, True, False, False]])
    assert choose_tau(values, inside) == 0.55  # the smallest share that leaves .5 out
    assert choose_tau(values, np.array([[True, True, True, True]])) == 0.2
    assert choose_tau(values, np.array([[True, False, False, False]])) == 0.75
    assert np.isnan(choose_tau(values[:0], inside[:0]))


def test_choose_tau_takes_the_best_mean_overlap():
    rng = np.random.default_rng(3)
    masks = rng.random((30, 8, 8)) < 0.3
    maps = (rng.random((30, 8, 8)) + 0.6 * masks).astype(np.float32)
    maps[4] = 0
    chosen = choose_tau(maps, masks)
    means = {tau: measure(maps, masks, tau=tau)["iou"].mean() for tau in np.round(np.arange(0.2, 0.81, 0.05), 2)}
    assert chosen == max(means, key=lambda tau: means[tau])
    assert means[chosen] > means[0.2]


def test_otsu():
    values = np.array(
        [[0, 0, 1, 1, 9, 10], [3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 2]], dtype=np.float32
    )
    assert otsu(values).tolist() == pytest.approx([0.9, 1.0, 1.0, 1.0])
    assert measure(values[:1], np.array([[0, 0, 0, 0, 1, 1]]) > 0, tau=otsu(values[:1]))["iou"][0] == 1.0


def test_otsu_against_all_cuts():
    rng = np.random.default_rng(1)
    for values in rng.gamma(1.0, size=(5, 40)).astype(np.float32):
        within = {
            t: (values < t).sum() * values[values < t].var() + (values >= t).sum() * values[values >= t].var()
            for t in np.unique(values)[1:]
        }
        best = min(within, key=lambda t: within[t])
        assert otsu(values[None])[0] == pytest.approx(best / values.max())
