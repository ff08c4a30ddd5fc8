import numpy as np
import pytest

from raresight.core.errors import ConfigError
from raresight.explain import thresholds as module
from raresight.explain.thresholds import BINS, chunks, histogram_thresholds, thresholds


def activations(seed: int = 0, shape: tuple[int, ...] = (40, 6, 5, 4)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_unit(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(a, 1, 0).reshape(a.shape[1], -1)


def test_the_fifth_of_ten_is_the_threshold_when_four_may_be_above() -> None:
    a = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    found = thresholds(a, 0.4)
    assert found.value.tolist() == [5.0]
    assert found.share.tolist() == [0.4]
    assert (found.q, found.n_positions) == (0.4, 10)


def test_equals_sorting_everything_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a = activations()
    expected = np.sort(by_unit(a), axis=1)[:, ::-1][:, 40]  # 800 positions, q = 0.05: 40 may be above
    for size in (1, 120, 1000, 1 << 23):
        monkeypatch.setattr(module, "chunks", lambda given, size=size: chunks(given, size))
        found = thresholds(a, 0.05)
        assert found.value.tolist() == expected.tolist()
        assert found.share.tolist() == [0.05] * 6


def test_half_precision_is_compared_as_float32() -> None:
    a = activations().astype(np.float16)
    found = thresholds(a, 0.05)
    assert found.value.dtype == np.float32
    assert found.value.tolist() == thresholds(a.astype(np.float32), 0.05).value.tolist()


def test_a_share_that_floats_cannot_say_is_not_cut() -> None:
    a = np.arange(100, dtype=np.float32).reshape(100, 1, 1)  # 0.29 x 100 is 28.999999999999996
    assert thresholds(a, 0.29).share.tolist() == [0.29]


def test_too_few_positions_leave_one_above() -> None:
    a = np.arange(10, dtype=np.float32).reshape(10, 1, 1)
    found = thresholds(a, 0.005)
    assert found.value.tolist() == [8.0]
    assert found.share.tolist() == [0.1]
    assert thresholds(a[:1], 0.005).dead.tolist() == [True]


def test_ties_at_the_threshold_do_not_fire() -> None:
    a = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2], dtype=np.float32).reshape(10, 1, 1)
    found = thresholds(a, 0.3)
    assert found.value.tolist() == [1.0]
    assert found.share.tolist() == [0.1]
    assert not found.dead[0]


def test_dead_units_and_units_at_zero_are_told_apart() -> None:
    a = np.zeros((100, 4, 1), dtype=np.float32)
    a[:2, 1, 0] = 3.0  # rarely active: fires wherever it is active at all
    a[:, 2, 0] = -1.0  # constant
    a[:20, 3, 0] = 5.0  # its largest value tied beyond q
    found = thresholds(a, 0.05)
    assert found.value.tolist() == [0.0, 0.0, -1.0, 5.0]
    assert found.dead.tolist() == [True, False, True, True]
    assert found.at_zero.tolist() == [True, True, False, False]
    assert found.share.tolist() == [0.0, 0.02, 0.0, 0.0]


def test_negative_units_have_negative_thresholds() -> None:
    a = -1 - np.arange(100, dtype=np.float32).reshape(100, 1, 1)
    found = thresholds(a, 0.05)
    assert found.value.tolist() == [-6.0]
    assert found.share.tolist() == [0.05]


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1])
def test_a_share_outside_0_and_1_is_refused(q: float) -> None:
    with pytest.raises(ConfigError, match="RS-C47"):
        thresholds(activations(), q)
    with pytest.raises(ConfigError, match="RS-C47"):
        histogram_thresholds(lambda: [activations()], q)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    a = activations()
    a[3, 2, 1, 1] = value
    with pytest.raises(ConfigError, match="RS-R49"):
        thresholds(a)
    with pytest.raises(ConfigError, match="RS-R49"):
        histogram_thresholds(lambda: [a])
    with pytest.raises(ConfigError, match="RS-R49"):
        histogram_thresholds(lambda: [])


def test_histogram_lies_within_a_bin_above_the_exact_one() -> None:
    a = np.random.default_rng(1).gamma(0.5, size=(60, 8, 7, 7)).astype(np.float32) - 2.0
    exact = thresholds(a, 0.01)
    found = histogram_thresholds(lambda: (a[i : i + 7] for i in range(0, 60, 7)), 0.01)
    bin_width = np.ptp(by_unit(a), axis=1) / BINS
    assert (found.value >= exact.value).all()
    assert (found.value <= exact.value + bin_width * 1.001).all()
    assert (found.share <= 0.01).all()
    assert found.share == pytest.approx((by_unit(a) > found.value[:, None]).mean(axis=1))
    assert found.n_positions == exact.n_positions == 60 * 49


def test_histogram_with_few_bins_shows_its_rule() -> None:
    a = np.arange(10, dtype=np.float32).reshape(10, 1, 1)  # bins [0, 3), [3, 6), [6, 9] hold 3, 3 and 4
    assert histogram_thresholds(lambda: [a], 0.5, bins=3).value.tolist() == [6.0]
    assert histogram_thresholds(lambda: [a], 0.4, bins=3).value.tolist() == [6.0]
    assert histogram_thresholds(lambda: [a], 0.3, bins=3).value.tolist() == [9.0]  # nothing is above: said by share
    assert histogram_thresholds(lambda: [a], 0.3, bins=3).share.tolist() == [0.0]


def test_histogram_is_exact_for_rarely_active_and_dead_units() -> None:
    a = np.zeros((100, 4, 1), dtype=np.float32)
    a[:2, 1, 0] = [1e-6, 3.0]
    a[:, 2, 0] = 7.0
    a[:5, 3, 0] = [1.0, 2.0, 3.0, 4.0, 5.0]  # as many as may be above
    found, exact = histogram_thresholds(lambda: [a[:50], a[50:]], 0.05), thresholds(a, 0.05)
    assert found.value.tolist() == exact.value.tolist() == [0.0, 0.0, 7.0, 0.0]
    assert found.share.tolist() == exact.share.tolist() == [0.0, 0.02, 0.0, 0.05]


def test_histogram_knows_the_range_of_all_batches() -> None:
    a = np.arange(10, dtype=np.float32).reshape(10, 1, 1)
    for batches in ([a[:5], a[5:]], [a[5:], a[:5]], [a[3:7], a[:3], a[7:]]):
        assert histogram_thresholds(lambda given=batches: given, 0.5, bins=3).value.tolist() == [6.0]


def test_histogram_gives_the_largest_value_itself_where_it_is_tied_beyond_q() -> None:
    a = np.ones((10, 1, 1), dtype=np.float32)
    a[0] = -np.float32(2e12)  # eleven times an eleventh of the range, added to it, give 0.9998
    found = histogram_thresholds(lambda: [a], 0.5, bins=11)
    assert (found.value.tolist(), found.share.tolist()) == ([1.0], [0.0])


def test_chunks_hold_as_many_images_as_fit() -> None:
    a = np.arange(30, dtype=np.float16).reshape(5, 2, 3)
    for values, sizes in ((5, [1] * 5), (6, [1] * 5), (12, [2, 2, 1]), (100, [5])):
        found = list(chunks(a, values))
        assert [len(chunk) for chunk in found] == sizes
        assert np.concatenate(found).tolist() == a.tolist()
