"""The compiled inner loops of the map scores and the plain ones: the same bits, and the means that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from raresight.core.seeds import numpy_rng
from raresight.explain import alignment_compiled, alignment_plain
from raresight.explain.alignment import METRICS, loops, measure, measure_one, positive
from raresight.explain.chance import against_others, against_prior, prior_of

KINDS = [alignment_compiled, alignment_plain]


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A function that makes one kind of loops the one in use."""

    def chosen(kind: ModuleType) -> None:
        loops.cache_clear()
        monkeypatch.setenv("RARESIGHT_LANES", "plain" if kind is alignment_plain else "")
        assert loops() is kind

    yield chosen
    loops.cache_clear()


def some(shape: tuple[int, ...], n: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps with and without ties, empty, constant, negative and broken ones; masks and patients."""
    rng = np.random.default_rng(11)
    maps = rng.normal(size=(n, *shape)).astype(np.float32)
    maps[::2] = np.maximum(maps[::2], 0)
    maps[1::4] = np.round(maps[1::4] * 2)
    maps[2], maps[3], maps[4] = 0, 3, -1
    maps[5].flat[0], maps[6].flat[1], maps[7].flat[2] = np.nan, np.inf, 1e-40  # not finite, and hardly above 0
    masks = rng.random((n, *shape)) < rng.uniform(0.01, 0.9, size=(n,) + (1,) * len(shape))
    masks[:, (0,) * len(shape)] = True
    masks[8], masks[9] = False, True
    return maps, masks, rng.integers(0, 20, size=n)


@pytest.mark.parametrize("shape", [(9, 7), (8, 8), (13, 5), (4, 6, 7), (40, 40)])
def test_compiled_and_plain_give_the_same_bits(shape, choose):
    maps, masks, patients = some(shape)
    tau = np.where(np.arange(len(maps)) == 10, np.nan, np.linspace(0.2, 1, len(maps)))
    found: list[list[pd.DataFrame]] = []
    for kind in KINDS:
        choose(kind)
        others = against_others(maps, masks, patients, tau=tau, draws=6, names=("x",))
        found.append([measure(maps, masks, tau=tau), others, against_prior(prior_of(masks), masks, tau=tau)])
    for compiled, plain in zip(*found, strict=True):
        pd.testing.assert_frame_equal(compiled, plain, check_exact=True)
        assert compiled.notna().mean().min() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_in_descending_order(kind):
    rng = np.random.default_rng(0)
    for drawn in (rng.gamma(0.1, size=5000), rng.integers(0, 9, size=700), np.zeros(65), np.array([3e38, 0, 1e-42])):
        values = positive(drawn.astype(np.float32))
        ranked, order = kind.descending(values)
        assert order.tolist() == np.argsort(-values, kind="stable").tolist()
        assert ranked.tolist() == values[order].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_means_over_the_masks_that_were_drawn(kind, choose):
    """Drawn here again by name, and scored pair by pair, as `measure` scores a map against its own mask."""
    choose(kind)
    maps, masks, patients = some((10, 11))
    got = against_others(maps, masks, patients, tau=0.45, draws=5, names=("a class",))
    for i in np.flatnonzero(got["mass_0"].notna()):
        others = np.flatnonzero((patients != patients[i]) & masks.any(axis=(1, 2)))
        few = np.sort(numpy_rng("other patients' masks", "a class", int(i)).choice(others, 5, replace=False))
        for name in METRICS:
            drawn = few if name in ("iou", "rank", "pixel_ap") else others
            pairs = measure(np.repeat(maps[i : i + 1], len(drawn), axis=0), masks[drawn], tau=0.45)
            assert got.loc[i, f"{name}_0"] == pytest.approx(pairs[name].mean(), abs=1e-12), (i, name)
    assert got["mass_0"].isna().sum() == 3  # two maps that are not finite, and a mask without a pixel


def test_one_map_against_many_masks_is_put_in_order_once():
    maps, masks, _ = some((12, 12))
    for values in maps[:8]:
        pd.testing.assert_frame_equal(
            measure_one(values, masks, tau=0.3),
            measure(np.repeat(values[None], len(masks), axis=0), masks, tau=0.3),
            check_exact=True,
        )
