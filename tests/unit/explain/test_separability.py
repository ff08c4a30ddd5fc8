"""Linear probes of layers: equal positives, unseen patients, scikit-learn's ridge, and chance for features of noise."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from raresight.explain.separability import FOLDS, Drawn, _saturation, draw, ridge_scores, separability

TAIL = np.array([False, False, True, True])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def probe(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four exclusive classes of 120, 60, 14 and 6 patients, two images each."""
    of = np.repeat(np.arange(4), [120, 60, 14, 6])
    order = rng(seed).permutation(len(of))
    return np.repeat(np.eye(4)[of[order]], 2, axis=0), np.repeat(np.array([f"p{i}" for i in range(200)]), 2)


def test_every_class_has_the_same_number_of_patients() -> None:
    labels, patients = probe()
    drawn = draw(labels, patients, names=("a study",))
    assert drawn.n_positives == 14 and drawn.n_negatives == 56
    assert drawn.reasons[:3] == ("", "", "") and drawn.reasons[3] == "6 patients with the finding: a probe needs 10"
    assert all(len(part[3]) == 0 for part in (drawn.rows, drawn.target, drawn.fold))
    for k in range(3):
        assert len(drawn.rows[k]) == 70 and drawn.target[k].sum() == 14
        assert np.array_equal(labels[drawn.rows[k], k], drawn.target[k])
        assert len(set(patients[drawn.rows[k]])) == 70  # one image of each patient: folds share none
        for f in range(FOLDS):
            here = drawn.fold[k] == f
            assert drawn.target[k][here].sum() in (2, 3) and here.sum() in (13, 14, 15)
    again = draw(labels, patients, names=("a study",))
    other = draw(labels, patients, names=("another",))
    assert all(np.array_equal(a, b) for a, b in zip(drawn.rows, again.rows, strict=True))
    assert not np.array_equal(drawn.rows[0], other.rows[0])


def test_negatives_are_of_patients_who_never_have_the_finding() -> None:
    patients = np.repeat(np.arange(40), 2)
    labels = np.zeros((80, 1))
    labels[np.arange(0, 40, 2), 0] = 1  # patients 0..19 have it in the first of two images
    labels[-1, 0] = np.nan
    drawn = draw(labels, patients)
    negative = drawn.rows[0][drawn.target[0] == 0]
    assert drawn.n_positives == 20 and drawn.n_negatives == 20
    assert set(patients[negative]) <= set(range(20, 40)) and 79 not in negative
    images = {int(r) % 2 for i in range(20) for r in draw(labels, patients, names=(i,)).rows[0][20:]}
    assert images == {0, 1}  # any image of a patient can be drawn


def test_bounds_of_the_draw() -> None:
    labels, patients = probe()
    assert draw(labels, patients, fewest=6).n_positives == 6
    assert draw(labels, patients, fewest=7).n_positives == 14
    assert draw(labels, patients, most=11).n_positives == 11
    assert draw(labels, patients, negatives=2).n_negatives == 28
    common = np.repeat(np.arange(30) < 19, 1).astype(float)[:, None]
    assert (draw(common, np.arange(30)).n_positives, draw(common, np.arange(30)).n_negatives) == (11, 11)
    assert draw((np.arange(30) < 20).astype(float)[:, None], np.arange(30)).n_positives == 10
    most = draw((np.arange(30) < 21).astype(float)[:, None], np.arange(30))
    assert most.reasons == ("9 patients without the finding: a probe needs 10",)
    assert most.n_positives == 0 and np.isnan(most.chance)


def test_scores_are_those_of_scikit_learns_ridge() -> None:
    x = rng(0).normal(3.0, 2.0, (40, 12)) * np.arange(1, 13)
    x[:, 5], x[:, 7] = 7.0, 0.0
    target, fold = (np.arange(40) % 4 == 0).astype(int), np.arange(40) // 4 % FOLDS
    for strength in (1.0, 0.1):
        found = ridge_scores(x, target, fold, strength=strength)
        for f in range(FOLDS):
            seen = fold != f
            scaler = StandardScaler().fit(x[seen])
            ridge = Ridge(alpha=strength * 10).fit(scaler.transform(x[seen]), 2 * target[seen] - 1)  # 10 features vary
            expected = scaler.transform(x[~seen]) @ ridge.coef_
            assert np.allclose(found[~seen], expected, atol=1e-9)


def test_features_that_do_not_vary_score_0() -> None:
    assert ridge_scores(np.zeros((20, 3)), np.arange(20) % 2, np.arange(20) // 4).tolist() == [0.0] * 20
    assert ridge_scores(np.full((20, 3), 0.1), np.arange(20) % 2, np.arange(20) // 4).tolist() == [0.0] * 20


def layers_of(labels: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Noise; a layer that holds the classes; one that holds them as well."""
    at = 0.5 * rng(seed).normal(size=(4, 16))
    noise = [rng(seed + i).normal(size=(len(labels), 16)) for i in (1, 2, 3)]
    return {"one": noise[0], "two": noise[1] + 1.5 * labels @ at, "three": noise[2] + 1.5 * labels @ at}


def test_a_layer_that_holds_the_class_is_found() -> None:
    labels, patients = probe()
    found = separability(layers_of(labels), labels, patients, tail=TAIL)
    assert found.layers == ("one", "two", "three")
    assert (found.ap[1:, :3] > 0.6).all() and (found.ap[0, :3] < 0.45).all()
    assert np.isnan(found.ap[:, 3]).all() and np.isnan(found.se[:, 3]).all() and len(found.scores[1][3]) == 0
    assert (found.se[:, :3] > 0).all()
    assert found.saturates == "two" and found.reason == ""
    assert np.allclose(found.tail_ap, found.ap[:, 2]) and np.allclose(found.tail_se, found.se[:, 2])
    for layer in range(3):
        for k in range(3):
            expected = average_precision_score(found.drawn.target[k], found.scores[layer][k])
            assert found.ap[layer, k] == pytest.approx(expected)
            at = found.at(layer, k)
            # 14 of the 70 patients have the finding: the 56 beside them are what it is told from.
            assert at.value == found.ap[layer, k] and (at.n_images, at.n_patients) == (14, 14)
    assert found.at(0, 3).value is None and "6 patients" in found.at(0, 3).reason
    assert (found.at(0, 3).n_images, found.at(0, 3).n_patients) == (6, 6)


def test_noise_is_at_chance() -> None:
    found, chance = [], []
    for seed in range(25):
        labels, patients = probe(seed)
        result = separability(
            {"noise": rng(seed + 50).normal(size=(400, 64))}, labels, patients, resamples=2, names=(seed,)
        )
        found.append(result.ap[0, :3].mean())
        chance.append(result.drawn.chance)
    assert abs(np.mean(found) - chance[0]) < 3 * np.std(found, ddof=1) / 5
    assert set(chance) == {chance[0]}


@pytest.mark.parametrize(("m", "rest"), [(1, 3), (2, 3), (3, 2), (2, 6)])
def test_chance_is_the_mean_over_all_rankings(m: int, rest: int) -> None:
    places = list(combinations(range(m + rest), m))
    targets = [np.isin(np.arange(m + rest), place) for place in places]
    expected = np.mean([average_precision_score(target, -np.arange(m + rest)) for target in targets])
    nothing: tuple[np.ndarray, ...] = ()
    assert Drawn(nothing, nothing, nothing, m, rest, ()).chance == pytest.approx(expected)


def test_a_patient_seen_in_training_lends_nothing() -> None:
    """Features that name the patient and nothing else are at chance: no patient is on both sides of a fold."""
    labels, patients = probe()
    name = np.repeat(rng(8).normal(size=(200, 200)), 2, axis=0)
    found = separability({"name": name}, labels, patients, resamples=2)
    assert (found.ap[0, :3] < 0.45).all()


def test_standard_errors_are_of_the_right_size() -> None:
    """The bootstrap's standard error against the spread of AP over fresh images (draws of 80 data sets)."""
    aps, ses = [], []
    for seed in range(80):
        labels, patients = probe(seed)
        layer = rng(seed + 500).normal(size=(400, 3)) + 0.8 * labels[:, :3]
        found = separability({"x": layer}, labels, patients, names=(seed,))
        aps.append(found.ap[0, 2])
        ses.append(found.se[0, 2])
    assert 0.7 < np.mean(ses) / np.std(aps, ddof=1) < 1.5


def test_the_first_layer_within_one_standard_error_of_the_best() -> None:
    ap, se = np.array([0.2, 0.5, 0.58, 0.6, 0.59]), np.array([0.9, 0.9, 0.9, 0.05, 0.9])
    layers = ("a", "b", "c", "d", "e")
    assert _saturation(layers, ap, se, TAIL, 0.2) == ("c", "")
    se[3] = 0.1 + 1e-9
    assert _saturation(layers, ap, se, TAIL, 0.2) == ("b", "")
    assert _saturation(layers, ap, np.zeros(5), TAIL, 0.2) == ("d", "")


def test_noise_saturates_nowhere() -> None:
    ap, se = np.array([0.2, 0.3]), np.array([0.05, 0.05])
    assert _saturation(("a", "b"), ap, se, TAIL, 0.25)[0] is None
    assert "by lot" in _saturation(("a", "b"), ap, se, TAIL, 0.25 + 1e-9)[1]
    assert _saturation(("a", "b"), ap, se, TAIL, 0.24) == ("b", "")


def test_no_rare_class_is_said() -> None:
    labels, patients = probe()
    only = separability(layers_of(labels), labels, patients, tail=np.arange(4) == 3, resamples=2)
    assert only.saturates is None
    assert only.reason == "no rare class has 10 patients with the finding and 10 without it"
    assert np.isnan(only.tail_ap).all() and np.isnan(only.tail_se).all()
    assert "not said" in separability(layers_of(labels), labels, patients, resamples=2).reason
    no_tail = separability(layers_of(labels), labels, patients, tail=np.zeros(4, dtype=bool), resamples=2)
    assert no_tail.saturates is None and no_tail.reason == "no class of this task is in the tail"
    placeless = separability({}, labels, patients, tail=TAIL, resamples=2)
    assert placeless.saturates is None and placeless.reason == "no layer can be probed"
    none = separability(layers_of(labels[:8]), labels[:8], patients[:8], tail=TAIL)
    assert np.isnan(none.ap).all() and none.saturates is None


def test_the_same_images_for_every_network_and_no_draw_twice() -> None:
    labels, patients = probe()
    first = separability(layers_of(labels, 1), labels, patients, tail=TAIL, resamples=64)
    second = separability(layers_of(labels, 1), labels, patients, tail=TAIL, resamples=64, drawn=first.drawn)
    assert np.array_equal(first.ap, second.ap, equal_nan=True) and np.array_equal(first.se, second.se, equal_nan=True)


def test_findings_that_occur_together() -> None:
    labels = (rng(3).random((300, 3)) < [0.5, 0.3, 0.06]).astype(float)
    labels[rng(4).random((300, 3)) < 0.1] = np.nan
    found = separability({"x": np.nan_to_num(labels) + 0.3 * rng(5).normal(size=(300, 3))}, labels, np.arange(300))
    assert (found.ap > 0.9).all()
    for k in range(3):
        assert not np.isnan(labels[found.drawn.rows[k], k]).any()


def test_what_does_not_fit_is_refused() -> None:
    labels, patients = probe()
    with pytest.raises(ValueError, match="layer x has features of 3 images"):
        separability({"x": np.ones((3, 2))}, labels, patients)


def test_a_layer_that_is_not_finite_is_said_and_the_others_stand() -> None:
    labels, patients = probe()
    layers = layers_of(labels)
    whole = separability(layers, labels, patients, tail=TAIL)
    layers["one"][3, 2] = np.nan
    found = separability(layers, labels, patients, tail=TAIL)
    assert np.isnan(found.ap[0]).all() and np.isnan(found.se[0]).all() and len(found.scores[0][0]) == 0
    assert found.at(0, 0).reason == "features are not finite" and "6 patients" in found.at(0, 3).reason
    assert np.array_equal(found.ap[1:], whole.ap[1:], equal_nan=True) and found.saturates == whole.saturates
    assert np.array_equal(found.tail_se[1:], whole.tail_se[1:]) and np.isnan(found.tail_ap[0])
