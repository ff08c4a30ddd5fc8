"""The bootstrap's lanes: compiled against plain to the last bit, both against scikit-learn on the same resamples."""

from __future__ import annotations

import builtins
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn import metrics

from raresight.core.seeds import numpy_rng
from raresight.evaluate import bootstrap, lanes_plain, ranking
from raresight.evaluate.bootstrap import Block, Strata, as_lanes, blocks, drawn
from raresight.evaluate.ranked import Ranked

lanes = pytest.importorskip("raresight.evaluate.lanes", reason="numba is not installed")
KINDS = [lanes, lanes_plain]


@pytest.fixture(params=KINDS, ids=["compiled", "plain"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(bootstrap, "kernels", lambda: request.param)
    monkeypatch.setattr("raresight.evaluate.ranked.kernels", lambda: request.param)
    return request.param


def case(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """400 images of 120 patients, a tenth positive, some labels unknown."""
    rng = np.random.default_rng(seed)
    target = (rng.random(400) < 0.1).astype(float)
    target[rng.random(400) < 0.05] = np.nan
    score = rng.random(400) + 0.3 * np.nan_to_num(target)
    return target, np.round(score, 1) if ties else score, rng.integers(0, 120, 400)


@pytest.mark.parametrize("ties", [False, True])
def test_areas_are_those_of_scikit_learn_on_the_materialised_resample(kernels: ModuleType, ties: bool) -> None:
    target, score, patient = case(1, ties)
    ranked = Ranked(target, score, patient, 120)
    for weight in blocks(np.arange(120) % 3, 100, "areas"):
        areas, aps, (recalls,) = ranked.metrics(weight, (0.9,))
        for b in range(weight.shape[1]):
            rows = np.repeat(np.arange(400), weight[patient, b].astype(int))
            y, s = target[rows], score[rows]
            known = ~np.isnan(y)
            assert abs(areas[b] - metrics.roc_auc_score(y[known], s[known])) < 1e-12
            assert abs(aps[b] - metrics.average_precision_score(y[known], s[known])) < 1e-12
            assert recalls[b] == pytest.approx(ranking.sensitivity_at_specificity(y, s, 0.9)[0], abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_compiled_and_plain_agree_to_the_last_bit(monkeypatch: pytest.MonkeyPatch, ties: bool) -> None:
    target, score, patient = case(2, ties)
    found = []
    for one in KINDS:
        monkeypatch.setattr(bootstrap, "kernels", lambda one=one: one)
        monkeypatch.setattr("raresight.evaluate.ranked.kernels", lambda one=one: one)
        weight = np.concatenate(list(blocks(np.arange(120) % 7, 150, "equal")), axis=1)
        areas, aps, recalls = Ranked(target, score, patient, 120).metrics(weight, (0.5, 0.9, 1.0))
        found.append([weight, areas, aps, *recalls])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_areas_by_hand(kernels: ModuleType) -> None:
    # Scores 4 3 3 2 1 of patients 0 1 2 3 4, positives 0 and 1; the resample draws them 1, 2, 3, 0 and 4 times.
    # Pairs: patient 0 wins over 7 negatives, patient 1 twice over 4 and half of 3: 7 + 2 (4 + 1.5) = 18 of 21.
    # AP: 1 positive at precision 1/1, then 2 at 3/6: (1 + 1)/3. One false alarm is allowed: only patient 0 is found.
    ranked = Ranked(np.array([1.0, 1, 0, 0, 0]), np.array([4.0, 3, 3, 2, 1]), np.arange(5), 5)
    areas, aps, (recall,) = ranked.metrics(np.array([[1], [2], [3], [0], [4]]), (1 - 1 / 7,))
    assert (areas[0], aps[0], recall[0]) == (18 / 21, 2 / 3, 1 / 3)


def test_totals_are_whole_and_never_wrap(kernels: ModuleType) -> None:
    # 255 x (2^31 - 1) and more go beyond 32 bits; the sums are worked in Python's integers.
    cells = np.array([[2**31 - 1, 2**23, 0], [1, 2, 3]], dtype=np.int64)
    weight = np.array([[255, 1], [255, 2], [255, 3]], dtype=np.uint8)
    expected = [[255 * (2**31 - 1 + 2**23), 2**31 - 1 + 2 * 2**23], [255 * 6, 1 + 4 + 9]]
    assert kernels.totals(cells, weight).tolist() == expected


def test_many_narrow_sums_do_not_wrap(kernels: ModuleType) -> None:
    weight = np.full((300, 1), 255, dtype=np.uint8)
    assert kernels.totals(np.full((1, 300), 100_000, dtype=np.int64), weight)[0, 0] == 300 * 255 * 100_000


def test_multiplicities_count_and_refuse_what_a_byte_cannot_hold(kernels: ModuleType) -> None:
    given = np.array([[0, 2, 2, 1], [1, 1, 1, 1]], dtype=np.int32)
    assert kernels.multiplicities(given, 3).tolist() == [[1, 0], [1, 4], [2, 0]]
    assert kernels.multiplicities(np.zeros((1, 255), dtype=np.int32), 1).tolist() == [[255]]
    with pytest.raises(OverflowError, match="255"):
        kernels.multiplicities(np.zeros((1, 256), dtype=np.int32), 1)


def test_settling_takes_the_last_draws_of_a_stratum(kernels: ModuleType) -> None:
    # Patients 0 1 | 2 3; the first resample drew 0 1 0 2, so its third draw goes and one of 2, 3 comes: here 3.
    given = np.array([[0, 1, 0, 2], [3, 0, 2, 1]], dtype=np.int32)
    weight = kernels.multiplicities(given, 4)
    stratum, excess = np.array([0, 0, 1, 1], dtype=np.int32), np.array([[1, 0], [0, 0]], dtype=np.int32)
    settled = kernels.settled(weight, given, stratum, excess, np.array([3]), np.array([0]))
    assert settled.tolist() == [[1, 1], [1, 1], [1, 1], [1, 1]]
    assert weight[:, 0].tolist() == [2, 1, 1, 0]  # the draws themselves are left as they are


def test_every_stratum_is_drawn_as_often_as_it_has_patients(kernels: ModuleType) -> None:
    strata = np.repeat(["a", "b", "c"], [1, 30, 400])
    for block in drawn(431, 130, "strata"):
        weight = block.within(Strata(strata))
        assert weight.dtype == np.uint8
        for name, size in (("a", 1), ("b", 30), ("c", 400)):
            assert (weight[strata == name].sum(axis=0) == size).all()


def test_settled_draws_are_multinomial_in_each_stratum() -> None:
    """Moments of the multinomial of 20 among 20 patients beside 60 others: variance 1 - 1/20, covariance -1/20."""
    strata = np.arange(80) < 20
    weight = np.concatenate(list(blocks(strata, 20_000, "moments")), axis=1)
    few, many = weight[:20], weight[20:]
    cov = np.cov(few)
    off = cov[~np.eye(20, dtype=bool)]
    # standard error of a variance near 1 in 20,000 resamples: about 0.012 a patient, over 20 patients 0.003
    assert np.diag(cov).mean() == pytest.approx(1 - 1 / 20, abs=0.012)
    assert off.mean() == pytest.approx(-1 / 20, abs=0.003)
    assert few.mean(axis=1) == pytest.approx(np.ones(20), abs=0.04)
    assert many.var(axis=1).mean() == pytest.approx(1 - 1 / 60, abs=0.012)
    # P(a patient of 20 is left out) = (19/20)^20 = 0.358
    assert (few == 0).mean() == pytest.approx(0.358, abs=0.005)
    # What one stratum draws tells nothing of the other.
    assert abs(np.corrcoef(few[0], many[0])[0, 1]) < 0.03


@pytest.mark.parametrize("asked", [1, 63, 64, 65, 200])
def test_the_first_resamples_do_not_depend_on_how_many_are_asked(kernels: ModuleType, asked: int) -> None:
    strata = np.arange(90) % 9 == 0
    many = np.concatenate(list(blocks(strata, 300, "prefix", 3)), axis=1)
    few = np.concatenate(list(blocks(strata, asked, "prefix", 3)), axis=1)
    np.testing.assert_array_equal(many[:, :asked], few)
    other = np.concatenate(list(blocks(strata, asked, "prefix", 4)), axis=1)
    assert not np.array_equal(few, other)


def test_other_strata_of_equal_names_change_only_what_they_must() -> None:
    one, other = np.arange(2000) < 100, np.arange(2000) % 10 == 0
    block = Block(2000, 64, "shared")
    first, second = block.within(Strata(one)), block.within(Strata(other))
    # of 2,000 draws some sqrt(100 x 0.95) x 0.8 = 8 are exchanged in each
    moved = np.abs(first.astype(int) - second.astype(int)).sum(axis=0)
    assert 0 < moved.mean() < 60
    np.testing.assert_array_equal(block.within(Strata(one)), first)


def test_without_patients_or_with_one_there_is_nothing_to_draw(kernels: ModuleType) -> None:
    assert [w.shape for w in blocks(np.zeros(0), 3, "none")] == [(0, 3)]
    assert [w.tolist() for w in blocks(np.zeros(1), 3, "one")] == [[[1.0, 1.0, 1.0]]]


def test_absent_class_and_absent_negatives_have_no_area(kernels: ModuleType) -> None:
    weight = np.ones((3, 2))
    absent = Ranked(np.zeros(3), np.arange(3.0), np.arange(3), 3).metrics(weight, (0.9,))
    assert np.isnan([absent[0], absent[1], absent[2][0]]).all()
    areas, aps, (recall,) = Ranked(np.ones(3), np.arange(3.0), np.arange(3), 3).metrics(weight, (0.9,))
    assert np.isnan(areas).all() and np.isnan(recall).all() and (aps == 1).all()
    unknown = Ranked(np.full(3, np.nan), np.arange(3.0), np.arange(3), 3).metrics(weight)
    assert np.isnan(unknown[0]).all() and np.isnan(unknown[1]).all()


def test_all_tied_scores_are_worth_nothing(kernels: ModuleType) -> None:
    ranked = Ranked(np.array([1.0, 0, 0, 1]), np.full(4, 0.5), np.arange(4), 4)
    areas, aps, _ = ranked.metrics(np.array([[1], [2], [0], [3]]))
    assert areas[0] == 0.5 and aps[0] == pytest.approx(4 / 6, abs=1e-15)


def test_multiplicities_must_be_whole_and_fit_a_byte() -> None:
    assert as_lanes(np.array([[0.0, 255.0]])).dtype == np.uint8
    for wrong in ([[0.5]], [[256]], [[-1]]):
        with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
            as_lanes(np.array(wrong))


@pytest.fixture()
def choosing() -> Iterator[None]:
    bootstrap.kernels.cache_clear()
    yield
    bootstrap.kernels.cache_clear()


def test_compiled_lanes_are_chosen_where_numba_is(choosing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RARESIGHT_LANES", raising=False)
    assert bootstrap.kernels() is lanes
    monkeypatch.setenv("RARESIGHT_LANES", "plain")
    assert bootstrap.kernels() is lanes  # chosen once a process
    bootstrap.kernels.cache_clear()
    assert bootstrap.kernels() is lanes_plain


def test_without_numba_the_plain_lanes_are_taken(choosing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RARESIGHT_LANES", raising=False)
    monkeypatch.delitem(sys.modules, "raresight.evaluate.lanes")
    monkeypatch.delattr("raresight.evaluate.lanes")
    real = builtins.__import__

    def absent(name: str, *rest: object, **more: object) -> ModuleType:
        if name == "numba":
            raise ModuleNotFoundError("No module named 'numba'", name="numba")
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    assert bootstrap.kernels() is lanes_plain


def test_a_broken_numba_is_named_and_not_fatal(choosing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RARESIGHT_LANES", raising=False)

    def broken(*_: object) -> None:
        raise SystemError("no such instruction")

    monkeypatch.setattr(lanes, "totals", broken)
    with pytest.warns(UserWarning, match="numba cannot be used.*no such instruction"):
        assert bootstrap.kernels() is lanes_plain


def test_a_read_only_installation_without_a_home_still_compiles(tmp_path: Path) -> None:
    """A copy of the two files that cannot be written beside, and no cache folder of the user either."""
    package = tmp_path / "installed"
    package.mkdir()
    shutil.copy(lanes.__file__, package / "lanes.py")
    (package / "__pycache__").write_text("a file where the folder would be")  # nobody can write there, not even root
    (tmp_path / "home").write_text("nor here")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA", "XDG"))}
    environment |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    program = "import numpy as np, lanes; print(lanes.totals(np.array([[3]]), np.array([[2]], dtype=np.uint8))[0, 0])"
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "6"), ran.stderr


def test_streams_are_named() -> None:
    """The draws are those of the stream that the names give: 64 rows of the first block."""
    expected = numpy_rng("bootstrap", "named", 0).integers(0, 50, size=(64, 50), dtype=np.int32)
    first = next(iter(drawn(50, 100, "named")))
    np.testing.assert_array_equal(first.drawn, expected)
    np.testing.assert_array_equal(first.plain[:, 5], np.bincount(expected[5], minlength=50))
