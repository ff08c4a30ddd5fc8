"""In which layer a class can be told apart by a straight line, with as many positives for a common class as a rare one.

A linear probe of frozen features says what a layer holds, whatever the network's own head makes of it. Probes of
common classes usually get more examples and so look better; here every class has the same number of positives and of
negatives, each of another patient, and is judged on patients that the probe has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raresight.core.seeds import numpy_rng
from raresight.evaluate.bootstrap import blocks
from raresight.evaluate.ranked import Ranked
from raresight.evaluate.ranking import auprc
from raresight.explain.collapse import NO_TAIL
from raresight.explain.measured import Measured

FEWEST = 10  # patients with a finding, and without it
FOLDS = 5
DEAD = 1e-6  # a feature whose spread is below this share of its size does not vary


@dataclass(frozen=True)
class Drawn:
    """Which images each class's probe is fitted and judged on: of labels, patients and names alone, so the same for
    every network and layer.

    For class k, `rows[k]` `(n,)` images (one of each patient), `target[k]` `(n,)` 0 or 1, `fold[k]` `(n,)`; empty where
    `reasons[k]` says why the class is not estimable. Each estimable class has `n_positives` and `n_negatives`, each of
    another patient. `n_with` `(K,)` are all patients who have the finding.
    """

    rows: tuple[np.ndarray, ...]
    target: tuple[np.ndarray, ...]
    fold: tuple[np.ndarray, ...]
    n_positives: int
    n_negatives: int
    reasons: tuple[str, ...]
    n_with: tuple[int, ...] = ()

    def positives(self, k: int) -> int:
        """Patients with the finding among those drawn; of a class that is not estimable, all who have it."""
        return self.n_with[k] if self.reasons[k] else self.n_positives

    @property
    def chance(self) -> float:
        """The mean AP of a ranking by lot, NaN without an estimable class.

        With m positives of n and H = Σ1/i: H/n + (m-1)(n-H)/(n(n-1)), a little above the prevalence m/n.
        """
        m, n = self.n_positives, self.n_positives + self.n_negatives
        if not n:
            return float("nan")
        harmonic = float(np.sum(1 / np.arange(1, n + 1)))
        return harmonic / n + (m - 1) * (n - harmonic) / (n * (n - 1))


@dataclass(frozen=True)
class Separability:
    """How well each layer separates each class.

    `ap` and `se` `(L, K)`: average precision on unseen patients and its bootstrap standard error, NaN where
    `drawn.reasons[k]` says why. `scores[l][k]` `(n,)` are the probe's scores of `drawn.rows[k]`, each from a probe that
    has not seen the patient: resample their patients for an interval. `tail_ap` `(L,)` is the mean AP of the
    estimable rare classes, `tail_se` its standard error, and `saturates` the first layer, in the order given, that
    comes within one standard error of the best; None with `reason` where no class is rare, or no rare one estimable, or
    where even the best layer is within one standard error of chance. A class that a layer separates entirely has AP 1
    and a standard error of 0: its resamples cannot tell how far that is luck. `unfit` `(L,)` says why a layer has no
    number, or "".
    """

    layers: tuple[str, ...]
    drawn: Drawn
    ap: np.ndarray
    se: np.ndarray
    scores: tuple[tuple[np.ndarray, ...], ...]
    tail_ap: np.ndarray
    tail_se: np.ndarray
    saturates: str | None
    reason: str = ""
    unfit: tuple[str, ...] = ()

    def at(self, layer: int, k: int) -> Measured:
        """One layer and class; it rests on the patients with the finding, not on those without it beside them."""
        n = self.drawn.positives(k)
        reason = self.drawn.reasons[k] or self.unfit[layer]
        return Measured(None if reason else float(self.ap[layer, k]), n, n, reason)


def draw(
    labels: np.ndarray,
    patients: np.ndarray,
    *,
    fewest: int = FEWEST,
    most: int = 60,
    negatives: int = 4,
    names: Sequence[object] = (),
) -> Drawn:
    """Images with equal positives per class, one of each patient, in folds.

    Every estimable class gets m positives, the fewest positive (or negative) patients of any of them, `most` at most,
    and r·m negatives of patients who have the finding in no image, r the most that every class has, up to `negatives`:
    so AP has one chance level for all. Positives and negatives are dealt to `FOLDS` folds in turn.
    Shapes: `labels` `(N, K)` of 0, 1 or NaN (left out), `patients` `(N,)`. `names` seed the draw.
    Absent class: not estimable, with the reason, under `fewest` patients with it, or without it; it does not lower m.
    """
    labels, patients = np.asarray(labels), np.unique(np.asarray(patients), return_inverse=True)[1]
    n_classes = labels.shape[1]
    with_it = [np.unique(patients[labels[:, k] == 1]) for k in range(n_classes)]
    without = [np.setdiff1d(patients[labels[:, k] == 0], with_it[k]) for k in range(n_classes)]
    reasons = tuple(_few(len(with_it[k]), len(without[k]), fewest) for k in range(n_classes))
    usable = [k for k in range(n_classes) if not reasons[k]]
    m = min([most, *(min(len(with_it[k]), len(without[k])) for k in usable)]) if usable else 0
    ratio = min([negatives, *(len(without[k]) // m for k in usable)]) if usable else 0
    rows, target, fold = ([_NOTHING] * n_classes for _ in range(3))
    for k in usable:
        rng = numpy_rng("separability", *names, k)
        sides = []
        for value, who, size in ((1, with_it[k], m), (0, without[k], ratio * m)):
            chosen = rng.permutation(who)[:size]
            images = rng.permutation(np.flatnonzero(labels[:, k] == value))
            one = {int(patients[image]): int(image) for image in images}
            sides.append(np.array([one[int(patient)] for patient in chosen], dtype=np.int64))
        rows[k] = np.concatenate(sides)
        target[k] = np.repeat([1, 0], [m, ratio * m])
        fold[k] = np.concatenate([np.arange(len(side)) % FOLDS for side in sides])
    n_with = tuple(len(who) for who in with_it)
    return Drawn(tuple(rows), tuple(target), tuple(fold), m, ratio * m, reasons, n_with)


def ridge_scores(x: np.ndarray, target: np.ndarray, fold: np.ndarray, *, strength: float = 1.0) -> np.ndarray:
    """Scores of a ridge probe for images of the fold that it has not seen, `(n,)`.

    With Z the other folds' features about their mean and over their standard deviation, y = ±1 (its mean drops out),
    and λ = `strength` x the mean squared length of Z's rows: score(x) = z(x)ᵀ Zᵀ (ZZᵀ + λ)⁻¹ y. Nothing is chosen on
    the images; the constant is left out, for it differs between folds and would count against positives.
    Shapes: `x` `(n, C)`, `target` and `fold` `(n,)`. Features that do not vary in the other folds count for nothing;
    where none varies all scores are 0.
    Source: ridge regression in its dual form.
    """
    x = np.asarray(x, dtype=np.float64)
    out = np.zeros(len(x))
    for f in np.unique(fold):
        unseen, seen = fold == f, fold != f
        mean, spread = x[seen].mean(axis=0), x[seen].std(axis=0)
        live = spread > DEAD * np.sqrt(np.square(x[seen]).mean(axis=0))
        if not live.any():
            continue
        z = (x[:, live] - mean[live]) / spread[live]
        y = np.where(target[seen] == 1, 1.0, -1.0)
        gram = z[seen] @ z[seen].T
        gram[np.diag_indices_from(gram)] += strength * np.trace(gram) / len(gram)
        out[unseen] = z[unseen] @ (z[seen].T @ np.linalg.solve(gram, y))
    return out


def separability(
    pooled: Mapping[str, np.ndarray],
    labels: np.ndarray,
    patients: np.ndarray,
    *,
    tail: np.ndarray | None = None,
    drawn: Drawn | None = None,
    resamples: int = 192,
    names: Sequence[object] = (),
) -> Separability:
    """What each layer of one network holds of each class, by cross-fitted ridge probes.

    Equation: `ridge_scores`, then AP of the pooled scores of unseen patients (`evaluate.ranking.auprc`); standard
    errors are the standard deviation over `resamples` of patients. One standard error is the rule for saturation
    because the best of several layers is best by luck too.

    Shapes: `pooled` layer -> `(N, C)` features averaged over space, shallow to deep, `labels` `(N, K)` of 0, 1 or NaN,
    `patients` `(N,)`, `tail` `(K,)` bool. Give `drawn` to save drawing anew for every network. `names` seed the draw,
    and must be the same for networks that are compared.
    Ranges: AP in (0, 1], `drawn.chance` for features that hold nothing.
    Absent class: see `draw`; NaN in `ap` and `se`, an empty array in `scores`, never 0. The same for a layer whose
    features are not finite.
    Raises: `ValueError` for a layer with another number of images.
    Source: linear probes: Alain and Bengio 2017; equal positives, patients and the saturation layer are ours.
    """
    for name, x in pooled.items():
        if len(x) != len(labels):
            raise ValueError(f"layer {name} has features of {len(x)} images, and labels are of {len(labels)}")
    unfit = tuple("" if np.isfinite(x).all() else "features are not finite" for x in pooled.values())
    drawn = drawn if drawn is not None else draw(labels, patients, names=names)
    n_layers, n_classes = len(pooled), labels.shape[1]
    usable = [k for k in range(n_classes) if not drawn.reasons[k]]
    who = np.unique(np.asarray(patients), return_inverse=True)[1]
    met = np.unique(np.concatenate([_NOTHING, *(who[drawn.rows[k]] for k in usable)]))
    ap = np.full((n_layers, n_classes), np.nan)
    resampled = np.full((n_layers, n_classes, resamples), np.nan)
    scores, judged = [], []
    for layer, x in enumerate(pooled.values()):
        of_layer = [_NOTHING.astype(float)] * n_classes
        for k in usable if not unfit[layer] else ():
            of_layer[k] = ridge_scores(np.asarray(x)[drawn.rows[k]], drawn.target[k], drawn.fold[k])
            target = drawn.target[k].astype(float)
            ap[layer, k] = auprc(target, of_layer[k])
            place = np.searchsorted(met, who[drawn.rows[k]])
            judged.append((layer, k, Ranked(target, of_layer[k], place, len(met))))
        scores.append(tuple(of_layer))
    start = 0
    for weight in blocks(np.zeros(len(met)), resamples, "separability", *names) if judged else ():
        for layer, k, ranked in judged:
            resampled[layer, k, start : start + weight.shape[1]] = ranked.metrics(weight)[1]
        start += weight.shape[1]
    se = np.full((n_layers, n_classes), np.nan)
    for layer, k, _ in judged:
        se[layer, k] = np.nanstd(resampled[layer, k], ddof=1)
    rare = [k for k in usable if tail is not None and tail[k]]
    tail_ap, tail_se = np.full(n_layers, np.nan), np.full(n_layers, np.nan)
    if rare:
        fit = np.array([not why for why in unfit], dtype=bool)  # none: a network without places
        tail_ap[fit] = ap[fit][:, rare].mean(axis=1)
        tail_se[fit] = np.nanstd(resampled[fit][:, rare].mean(axis=1), axis=1, ddof=1)
    saturates, reason = _saturation(tuple(pooled), tail_ap, tail_se, tail, drawn.chance, estimable=bool(rare))
    return Separability(tuple(pooled), drawn, ap, se, tuple(scores), tail_ap, tail_se, saturates, reason, unfit)


_NOTHING = np.zeros(0, dtype=np.int64)


def _few(n_with: int, n_without: int, fewest: int) -> str:
    if n_with < fewest:
        return f"{n_with} patients with the finding: a probe needs {fewest}"
    return f"{n_without} patients without the finding: a probe needs {fewest}" if n_without < fewest else ""


def _saturation(
    layers: tuple[str, ...],
    tail_ap: np.ndarray,
    tail_se: np.ndarray,
    tail: np.ndarray | None,
    chance: float,
    *,
    estimable: bool = True,
) -> tuple[str | None, str]:
    if tail is None:
        return None, "which classes are rare was not said"
    if not np.any(tail):
        return None, NO_TAIL
    if not estimable:
        return None, f"no rare class has {FEWEST} patients with the finding and {FEWEST} without it"
    if np.isnan(tail_ap).all():
        return None, "no layer can be probed"
    best = int(np.nanargmax(tail_ap))
    enough = tail_ap[best] - tail_se[best]
    if enough <= chance:
        return None, "no layer tells the rare classes apart better than by lot"
    return layers[int(np.flatnonzero(tail_ap >= enough)[0])], ""
