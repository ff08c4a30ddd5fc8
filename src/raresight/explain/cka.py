"""How alike two networks arrange the same images: centred kernel alignment without its small-sample bias.

The usual (biased) figure is useless for rare classes: with 512 features, two networks that have nothing in common
score .98 on 12 images. The debiased one scores 0 there on average, and may be negative; a negative value means "no
more alike than chance".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raresight.core.seeds import numpy_rng
from raresight.explain.measured import Measured

FEWEST = 4  # the unbiased estimate divides by n - 3
ROWS = 256  # rows of the similarity matrices that are held at a time
NO_SPREAD = 1e-12  # what rounding leaves of a squared norm, relative to the squared norm before it was taken away
CONSTANT = 1e-7  # features are float32: a spread below this share of their size is rounding
UNSTABLE = "the spread that is left to compare is too near to rounding"


@dataclass(frozen=True)
class _Centred:
    """Features about their mean and at unit size, `(n, F)`, and the squared length of each row, `(n,)`."""

    x: np.ndarray
    d: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> _Centred:
        x = np.asarray(features, dtype=np.float64).reshape(len(features), -1)
        before = np.sqrt(np.square(x).sum())
        x = x - x.mean(axis=0)
        size = np.sqrt(np.square(x).sum())
        x = x / size if size > CONSTANT * before else np.zeros_like(x)
        return cls(x, np.square(x).sum(axis=1))


def hsic(x: np.ndarray, y: np.ndarray) -> float:
    """How far the similarities among images agree between two networks, estimated without bias.

    With K = xxᵀ, L = yyᵀ, zeroed diagonals K̃ and L̃: [tr(K̃L̃) + ΣK̃ ΣL̃/((n-1)(n-2)) - 2·1ᵀK̃L̃1/(n-2)]/(n(n-3)).
    About the features' means, K̃'s rows add up to -d, d_i = |x_i|², so with e of y this is
    [‖xᵀy‖² - d·e + Σd Σe/((n-1)(n-2)) - 2 d·e/(n-2)]/(n(n-3)): no matrix of images by images is needed.

    Shapes: `x` `(n, F)`, `y` `(n, G)`, the same images in the same order. Any unit, squared twice; may be negative.
    Absent class: fewer than 4 images: NaN.
    Source: Song et al. 2012 (JMLR 13), eq. 5; the form above is derived here and tested against the sum over all
    quadruples of images.
    """
    n = len(x)
    if n < FEWEST:
        return float("nan")
    a, b = (np.asarray(z, dtype=np.float64).reshape(n, -1) for z in (x, y))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return _unbiased(_agreement(a, b), np.square(a).sum(axis=1), np.square(b).sum(axis=1))


def debiased(x: np.ndarray, y: np.ndarray) -> float:
    """Debiased CKA of two networks' features of the same images; `cka` adds what it rests on, and patients.

    HSIC₁(K, L)/√(HSIC₁(K, K) HSIC₁(L, L)). Shapes: `x` `(n, F)`, `y` `(n, G)`. In [-1, 1]: 1 for features that are
    equal up to rotation, scale and shift, 0 on average for unrelated ones at any n.
    Absent class: NaN for fewer than 4 images, and where HSIC₁ of one side with itself is not positive.
    Source: Kornblith et al. 2019 (CKA); Nguyen et al. 2021 (its unbiased form).
    """
    if len(x) < FEWEST:
        return float("nan")
    a, b = _Centred.of(x), _Centred.of(y)
    own = [_own(side) for side in (a, b)]
    if not all(value > 0 for value in own):
        return float("nan")
    return _within(_unbiased(_agreement(a.x, b.x), a.d, b.d) / np.sqrt(own[0] * own[1]))


def biased(x: np.ndarray, y: np.ndarray) -> float:
    """CKA as it is usually computed, ‖xᵀy‖²/(‖xᵀx‖ ‖yᵀy‖) about the means: shown beside `debiased`, never alone.

    Shapes: `x` `(n, F)`, `y` `(n, G)`. In [0, 1]; near 1 for unrelated features where n is well below F and G.
    Absent class: NaN where one side does not vary.
    Source: Kornblith et al. 2019.
    """
    a, b = _Centred.of(x), _Centred.of(y)
    size = np.sqrt(_agreement(a.x, a.x) * _agreement(b.x, b.x))
    return float(_agreement(a.x, b.x) / size) if size > 0 else float("nan")


def cka(
    x: np.ndarray,
    y: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    of: int | None = None,
    patients: np.ndarray | None = None,
    draws: int = 5,
    names: Sequence[object] = (),
) -> Measured:
    """Debiased CKA of two networks on the same images, or on the images with one finding.

    Equation: `debiased`; with `patients`, its mean over `draws` seeded draws of one image of each patient.

    Images of one patient are alike in any network, so with several of them in, unrelated networks agree, and the value
    no longer has 0 as its chance level. Give `patients` unless every patient has one image. Do not bootstrap the value
    by repeating images: a repeated image is a pair of images that agree perfectly.

    Shapes: `x` `(N, F)`, `y` `(N, G)`, `labels` `(N, K)` of 0, 1 or NaN with `of` the class whose positives are
    compared, `patients` `(N,)`. The draws depend on `names` alone, so all pairs of networks see the same images.
    Ranges: [-1, 1], 0 by chance.
    Absent class: None with a reason where fewer than 4 images (or patients) have the finding, where a network gives all
    of them the same features, and where features are not finite.
    Raises: `ValueError` where the two sides have different numbers of images.
    Source: Nguyen et al. 2021; one image a patient is ours.
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} images on one side and {len(y)} on the other")
    rows = np.arange(len(x)) if labels is None or of is None else np.flatnonzero(labels[:, of] == 1)
    matrix = cka_matrix([np.asarray(x)[rows], np.asarray(y)[rows]], **_drawn(rows, patients), draws=draws, names=names)
    return matrix.at(0, 1)


@dataclass(frozen=True)
class Alike:
    """CKA of every pair of A networks: `values` `(A, A)` symmetric, NaN where `reasons[a]` or `[b]` says why."""

    values: np.ndarray
    n_images: int
    n_patients: int | None
    reasons: tuple[str, ...]

    def at(self, a: int, b: int) -> Measured:
        """One pair."""
        value: float | None = float(self.values[a, b])
        reason = self.reasons[a] or self.reasons[b] or (UNSTABLE if np.isnan(self.values[a, b]) else "")
        value = None if reason else value
        return Measured(value, self.n_images, self.n_patients, reason)


def cka_matrix(
    features: Sequence[np.ndarray],
    *,
    patients: np.ndarray | None = None,
    draws: int = 5,
    names: Sequence[object] = (),
) -> Alike:
    """Debiased CKA of every pair of networks (or of layers) on the same images.

    As `cka`, for many: each network's image-by-image similarities are computed once, `ROWS` rows at a time.

    Shapes: `features` A arrays `(N, F_a)`, `patients` `(N,)`. Ranges: [-1, 1], the diagonal 1.
    Absent class: `reasons` of a network, and NaN in its row and column, as in `cka`.
    Raises: `ValueError` for different numbers of images. Source: see `debiased`.
    """
    if len({len(x) for x in features}) != 1:
        raise ValueError(f"networks were shown {sorted({len(x) for x in features})} images: compare the same ones")
    n = len(features[0])
    samples = [np.arange(n)] if patients is None else _samples(np.asarray(patients), draws, names)
    n_patients = None if patients is None else len(np.unique(np.asarray(patients)))
    reasons = [_unfit(x, len(samples[0]), patients is not None) for x in features]
    total = np.zeros((len(features), len(features)))
    for rows in samples:
        sides = [None if reasons[a] else _Centred.of(np.asarray(x)[rows]) for a, x in enumerate(features)]
        for a, side in enumerate(sides):
            if side is not None and not _own(side) > 0:
                reasons[a] = "a network arranges these images without any spread that could be compared"
                sides[a] = None
        total += _matrix(sides)
    values = total / len(samples)
    bad = np.array([bool(reason) for reason in reasons])
    values[bad], values[:, bad] = np.nan, np.nan
    return Alike(values, n, n_patients, tuple(reasons))


def one_per_patient(patients: np.ndarray, *names: object) -> np.ndarray:
    """Rows of one image of each patient, drawn with a seed from `names`; sorted, `(P,)` int64."""
    order = numpy_rng("one image a patient", *names).permutation(len(patients))
    _, first = np.unique(np.asarray(patients)[order], return_index=True)
    return np.sort(order[first]).astype(np.int64)


def _samples(patients: np.ndarray, draws: int, names: Sequence[object]) -> list[np.ndarray]:
    if len(np.unique(patients)) == len(patients):
        return [np.arange(len(patients))]
    return [one_per_patient(patients, *names, draw) for draw in range(draws)]


def _drawn(rows: np.ndarray, patients: np.ndarray | None) -> dict[str, np.ndarray]:
    return {} if patients is None else {"patients": np.asarray(patients)[rows]}


def _unfit(x: np.ndarray, n: int, by_patient: bool) -> str:
    if n < FEWEST:
        unit = "patients" if by_patient else "images"
        return f"{n} {unit}: alignment without bias needs {FEWEST}"
    return "" if np.isfinite(x).all() else "features of a network are not finite"


def _agreement(a: np.ndarray, b: np.ndarray) -> float:
    """‖aᵀb‖² = Σ_ij (aaᵀ)_ij (bbᵀ)_ij, whichever is less work."""
    n, smaller = len(a), min(a.shape[1], b.shape[1])
    if n < smaller:
        return float(np.vdot(a @ a.T, b @ b.T))
    return float(np.square(a.T @ b).sum())


def _unbiased(agreement: float, d: np.ndarray, e: np.ndarray) -> float:
    n = len(d)
    both = float(d @ e)
    total = agreement - both + d.sum() * e.sum() / ((n - 1) * (n - 2)) - 2 * both / (n - 2)
    return float(total / (n * (n - 3)))


def _own(side: _Centred) -> float:
    """HSIC₁ of one side with itself, 0 where only rounding is left of it.

    It is a squared norm, so it cannot be negative but by rounding; it is 0 for a side where at most one image differs
    from the rest, for all similarities are then sums of a term of each image.
    """
    agreement = _agreement(side.x, side.x)
    value = _unbiased(agreement, side.d, side.d)
    n = len(side.d)
    return value if value > NO_SPREAD * agreement / (n * (n - 3)) else 0.0


def _within(value: float) -> float:
    """Into [-1, 1] what rounding carried past it: Cauchy and Schwarz forbid more."""
    return float(np.clip(value, -1.0, 1.0)) if abs(value) < 1 + 1e-6 else float("nan")


def _matrix(sides: Sequence[_Centred | None]) -> np.ndarray:
    """`debiased` of every pair of the sides that are there; 0 for the others."""
    there = [a for a, side in enumerate(sides) if side is not None]
    kept = [side for side in sides if side is not None]
    out = np.zeros((len(sides), len(sides)))
    if not kept:
        return out
    n = len(kept[0].d)
    agreement = np.zeros((len(kept), len(kept)))
    for start in range(0, n, ROWS):
        # Similarities are symmetric: rows of a block meet their own columns once, and those to the right twice.
        stop = min(start + ROWS, n)
        flat = np.empty((len(kept), (stop - start) * (n - start)))
        for a, side in enumerate(kept):
            block = side.x[start:stop] @ side.x[start:].T
            block[:, stop - start :] *= np.sqrt(2.0)
            flat[a] = block.ravel()
        agreement += flat @ flat.T
    own = np.sqrt([_own(side) for side in kept])
    for i, one in enumerate(kept):
        for j, two in enumerate(kept):
            out[there[i], there[j]] = _within(_unbiased(agreement[i, j], one.d, two.d) / (own[i] * own[j]))
    return out
