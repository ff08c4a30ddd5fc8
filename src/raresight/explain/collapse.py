"""How far a network's features have collapsed onto one point a class, and whether rare classes share theirs.

Neural collapse is a theory of exclusive labels: late in training, images of a class meet at their mean, the K means
stand at equal angles (a simplex), and the head's rows point along them. Under imbalance the rarest classes' rows
merge (minority collapse). Nothing of this transfers to labels that occur together under imbalance, so for those there
is no figure here, with that reason; `dprime.py` has what can be said of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from raresight.core.seeds import numpy_rng
from raresight.explain.cka import one_per_patient
from raresight.explain.class_means import SAME, ClassMeans
from raresight.explain.measured import Measured, listed

OCCURRING_TOGETHER = (
    "labels can occur together: neural collapse is a theory of exclusive labels and does not transfer to these under "
    "imbalance"
)
NO_TAIL = "no class of this task is in the tail"
TWO_CLASSES = "two classes: always 0"  # their means lie opposite each other about their centre, whatever they are
EXCLUSIVE_IN_FACT = "outputs are independent, but every image has exactly one finding, so labels are exclusive in fact"


@dataclass(frozen=True)
class Collapse:
    """What `collapse` found; each figure with what it rests on, or why there is none.

    `nc1` variation within classes against that between them, 0 when collapsed. `nc2_norms` how much the means' lengths
    vary, `nc2_angles` how far the cosines of their angles are from a simplex's, `nc3` how far the head's rows are from
    the means: 0 for a simplex. `minority_rows` and `minority_means`: the mean cosine over pairs of the rare classes'
    rows, and means: -1/(K-1) for a simplex, 1 when they have merged. `variability` and `variability_debiased` `(K, K)`:
    within-class spread against the squared distance of two means; NaN on the diagonal, where a class has under 2
    images, and where means coincide or the debiased distance is not positive. `reasons` `(K,)`: why a class is left out
    of these two, or "".
    """

    nc1: Measured
    nc2_norms: Measured
    nc2_angles: Measured
    nc3: Measured
    minority_rows: Measured
    minority_means: Measured
    variability: np.ndarray
    variability_debiased: np.ndarray
    reasons: tuple[str, ...]

    FIGURES = ("nc1", "nc2_norms", "nc2_angles", "nc3", "minority_rows", "minority_means")

    def figures(self) -> dict[str, Measured]:
        """The six figures by name."""
        return {name: getattr(self, name) for name in self.FIGURES}


def exclusive_in_fact(labels: np.ndarray) -> bool:
    """Whether every image has exactly one finding and is known not to have the others: `labels` `(N, K)`, K > 1.

    Labels are 0, 1 or NaN. Images of which nothing is known are left out; with none left, or one class, False.
    """
    known = labels[~np.isnan(labels).all(axis=1)]
    return bool(len(known) and labels.shape[1] > 1 and not np.isnan(known).any() and (known.sum(axis=1) == 1).all())


def collapse(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    kind: str,
    rows: np.ndarray | None = None,
    tail: np.ndarray | None = None,
    patients: np.ndarray | None = None,
    names: Sequence[object] = (),
) -> Collapse:
    """Neural and minority collapse of one network on one probe.

    Equation: with μ_k the mean of class k's features, μ = Σμ_k/K, S_k the class's covariance (over n_k - 1), Σ_W the
    mean of S_k over the classes with two images or more, Σ_B = Σ(μ_k-μ)(μ_k-μ)ᵀ/K, M's columns μ_k - μ and the head W:
    NC1 = tr(Σ_W Σ_B⁺)/K; NC2 = std/mean of ‖μ_k-μ‖, and mean |cos(μ_k-μ, μ_l-μ) + 1/(K-1)| over pairs;
    NC3 = ‖W/‖W‖ - Mᵀ/‖M‖‖ (Frobenius); minority collapse, mean cos(w_k, w_l) and mean cos(μ_k-μ, μ_l-μ) over pairs of
    the tail; pairwise variability (σ_k²+σ_l²)/(2‖μ_k-μ_l‖²), σ_k² = tr S_k, and debiased, where the squared distance
    loses what the means' own noise adds to it, σ_k²/n_k + σ_l²/n_l.
    Classes count alike, whatever their share of the probe, so a probe's prevalence moves nothing but noise.

    Noise looks like a simplex too: means of few images in many dimensions stand at nearly equal angles by chance. Read
    NC1 and NC2 beside `by_chance`, and compare networks on the same images alone.

    Shapes: `features` `(N, F)` what the head is given, `labels` `(N, K)` of 0, 1 or NaN (unknown), `kind` `exclusive`
    or `independent`, `rows` the head's weights `(K, F)`, `tail` `(K,)` bool, the rare classes, `patients` `(N,)`: with
    these, one image of each patient and class counts, drawn with a seed from `names`, for images of one patient are
    alike and would look collapsed. Images without a 1 are left out.
    Ranges: NC1, NC3, spreads >= 0; cosines in [-1, 1]; no units.
    Absent class: named in `reasons`, NaN in the pairs. K is then the number of classes present (a simplex without some
    corners is a simplex about its own centre), and the figures say so; NC2 needs three of them (of two it is always 0),
    NC3 every class. Labels that occur together: no figure, with the reason; but where every image has exactly one
    finding they are exclusive in fact, and the figures stand with that note.
    Raises: `ValueError` for another `kind`, and for a head that does not fit.
    Source: Papyan, Han and Donoho 2020 (NC1-NC3); Fang et al. 2021 (minority collapse); Xu and Liu 2023, Galanti et
    al. 2022 (pairwise variability; its debiasing is ours).
    """
    if kind not in ("exclusive", "independent"):
        raise ValueError(f"labels of kind {kind!r}: exclusive or independent")
    labels = np.asarray(labels, dtype=np.float64)
    n_classes = labels.shape[1]
    note = EXCLUSIVE_IN_FACT if kind == "independent" else ""
    if rows is not None and np.shape(rows) != (n_classes, features.shape[1]):
        raise ValueError(f"a head of {np.shape(rows)} for {n_classes} classes and {features.shape[1]} features")
    reason = _inapplicable(features, labels, kind)
    if reason:
        none = Measured(None, len(features), reason=reason)
        blank = np.full((n_classes, n_classes), np.nan)
        return Collapse(none, none, none, none, none, none, blank, blank.copy(), (reason,) * n_classes)
    where = np.flatnonzero((labels == 1).any(axis=1))
    of = np.argmax(labels[where] == 1, axis=1)
    n_patients = None
    if patients is not None:
        who = np.unique(np.asarray(patients)[where], return_inverse=True)[1]
        n_patients = int(who.max()) + 1 if len(who) else 0
        kept = one_per_patient(who * n_classes + of, "collapse", *names)
        where, of = where[kept], of[kept]
    means = ClassMeans.of_images(np.asarray(features, dtype=np.float64)[where], of, n_classes)
    absent = np.flatnonzero(means.n == 0)
    if len(absent):
        left_out = f"without class {listed(int(k) for k in absent)} (counted from 0), of which there is no image"
        note = f"{note}; {left_out}" if note else left_out
    say = _Say(len(where), n_patients, note)
    pairs, debiased = _variability(means)
    reasons = tuple("" if n > 1 else "no image of this class" if n == 0 else "one image: no spread" for n in means.n)
    return Collapse(
        _nc1(means, say),
        *_nc2(means, say),
        _nc3(means, rows, say),
        _merged(rows, tail, say, "row"),
        _merged(means.corners, tail, say, "mean"),
        pairs,
        debiased,
        reasons,
    )


def by_chance(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    kind: str,
    draws: int = 20,
    names: Sequence[object] = (),
    **given: object,
) -> dict[str, tuple[float, float, float]]:
    """What `collapse` says of the same features when labels are shuffled among images: the yardstick of its figures.

    Shapes, ranges and `given` as in `collapse`; `rows` need not be given, as no shuffle moves the head. Returns name of
    a figure -> its 5th percentile, mean and 95th percentile over `draws` shuffles, drawn with seeds from `names`, those
    in which it has no value left out; a figure that never has one is not named.
    Absent class, Raises: as in `collapse`. Source: ours.
    """
    found: dict[str, list[float]] = {}
    for draw in range(draws):
        order = numpy_rng("collapse by chance", *names, draw).permutation(len(labels))
        shuffled = collapse(features, labels[order], kind=kind, names=(*names, draw), **given)  # type: ignore[arg-type]
        for name, figure in shuffled.figures().items():
            if figure.value is not None:
                found.setdefault(name, []).append(figure.value)
    return {
        name: (float(np.quantile(values, 0.05)), float(np.mean(values)), float(np.quantile(values, 0.95)))
        for name, values in found.items()
    }


@dataclass(frozen=True)
class _Say:
    n_images: int
    n_patients: int | None
    note: str

    def value(self, value: float) -> Measured:
        return Measured(float(value), self.n_images, self.n_patients, note=self.note)

    def none(self, reason: str) -> Measured:
        return Measured(None, self.n_images, self.n_patients, reason)


def _inapplicable(features: np.ndarray, labels: np.ndarray, kind: str) -> str:
    if kind == "independent" and not exclusive_in_fact(labels):
        return OCCURRING_TOGETHER
    if (np.nansum(labels, axis=1) > 1).any():
        return "an image has several findings, though labels were said to exclude each other"
    if not np.isfinite(features).all():
        return "features are not finite"
    n_present = int((labels == 1).any(axis=0).sum())
    return "" if n_present > 1 else f"{n_present} of the classes has images: collapse compares at least two"


def _nc1(means: ClassMeans, say: _Say) -> Measured:
    if not means.differ:
        return say.none("the classes' means coincide: there is nothing that classes could collapse onto")
    varied = means.n > 1
    if not varied.any():
        return say.none("no class has two images: there is no spread within classes")
    n_present = len(means.present)
    _, size, turned = np.linalg.svd(means.about_centre / np.sqrt(n_present), full_matrices=False)
    kept = size > SAME * size[0]
    within = np.square(means.left @ turned[kept].T / size[kept]).sum(axis=1)
    share = np.where(varied, 1 / np.maximum(means.n - 1, 1), 0.0)[means.of]
    return say.value((within @ share) / varied.sum() / n_present)


def _nc2(means: ClassMeans, say: _Say) -> tuple[Measured, Measured]:
    about, norm = means.about_centre, means.length
    if not (norm > means.least).all():
        none = say.none("a class's mean is the centre of all means: it has no direction")
        return none, none
    if len(about) == 2:
        none = say.none(TWO_CLASSES)
        return none, none
    cosine = (about / norm[:, None]) @ (about / norm[:, None]).T
    upper = np.triu_indices(len(about), 1)
    return say.value(norm.std() / norm.mean()), say.value(np.abs(cosine[upper] + 1 / (len(about) - 1)).mean())


def _nc3(means: ClassMeans, rows: np.ndarray | None, say: _Say) -> Measured:
    if rows is None:
        return say.none("no linear head was given")
    if len(means.present) < len(means.n):
        return say.none("a class has no image: its row of the head cannot be compared with its mean")
    if not means.differ or not np.any(rows):
        return say.none("the head's rows, or the classes' means, are all the same point")
    rows = np.asarray(rows, dtype=np.float64)
    about = means.about_centre
    return say.value(float(np.linalg.norm(rows / np.linalg.norm(rows) - about / np.linalg.norm(about))))


def _merged(rows: np.ndarray | None, tail: np.ndarray | None, say: _Say, what: str) -> Measured:
    """The mean cosine over pairs of the tail."""
    if rows is None:
        return say.none("no linear head was given")
    if tail is None:
        return say.none("which classes are rare was not said")
    if not np.any(tail):
        return say.none(NO_TAIL)
    vectors = np.asarray(rows, dtype=np.float64)[np.asarray(tail, dtype=bool)]
    norm = np.sqrt(np.square(vectors).sum(axis=1))
    vectors = vectors[norm > 0] / norm[norm > 0][:, None]  # NaN > 0 is false: absent classes go too
    if len(vectors) < 2:
        return say.none(f"{len(vectors)} rare classes have a {what} with a direction: a pair is needed")
    cosines = [float(vectors[i] @ vectors[j]) for i, j in combinations(range(len(vectors)), 2)]
    return say.value(np.clip(np.mean(cosines), -1.0, 1.0))


def _variability(means: ClassMeans) -> tuple[np.ndarray, np.ndarray]:
    n_classes = len(means.n)
    plain, debiased = np.full((2, n_classes, n_classes), np.nan)
    usable = np.flatnonzero(means.n > 1)
    for k, m in combinations(usable, 2):
        distance = float(np.square(means.mean[k] - means.mean[m]).sum())
        spread = means.spread[k] + means.spread[m]
        honest = distance - means.spread[k] / means.n[k] - means.spread[m] / means.n[m]
        if distance > means.least**2:
            plain[k, m] = plain[m, k] = spread / (2 * distance)
        if honest > means.least**2:
            debiased[k, m] = debiased[m, k] = spread / (2 * honest)
    return plain, debiased
