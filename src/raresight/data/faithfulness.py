"""The faithfulness audit: how far a transform moves what a diagnosis rests on, against what a photographer moves.

Two photographs of one lesion differ by angle, distance, light and camera, and a doctor still reads the same lesion in
them. A transform that moves a feature no further than that is a photograph the lesion could have had; one that moves it
further makes another lesion and keeps the old label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raresight.core.seeds import numpy_rng
from raresight.data.abcd import ABOUT, FEATURES, SHAPE, colour, describe, difference, shape

Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

THRESHOLD = 1.0
CONTROL_MARGIN = 2.0
FEWEST = 20
RULE = (
    "A transform destroys a feature where the median over lesions of its |change|, divided by the standard deviation "
    f"among photographs of one lesion, has a 95% interval wholly above {THRESHOLD:g}, and the median is more than "
    f"{CONTROL_MARGIN:g} times that of resampling alone (a shift by half a pixel). At {THRESHOLD:g} a typical change "
    "is what typically lies between two photographs (for a normal spread, 0.95 of the standard deviation)."
)


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One picture: `load()` gives image `(H, W, C)` in [0, 1] and soft mask `(H, W)`. Ids are text."""

    lesion: str
    patient: str
    load: Callable[[], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A transform at its bound; `ways` are its extremes (left and right, say), whose changes are averaged.

    `allowed` tells whether the preset does it; `bound` and `reason` are words for the reader. A way that leaves the
    mask alone returns the very array it was given.
    """

    name: str
    bound: str
    allowed: bool
    reason: str
    ways: tuple[Change, ...]


def audit(
    photographs: Sequence[Photograph],
    candidates: Sequence[Candidate],
    control: Candidate,
    *,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure every feature before and after every candidate, on the first photograph of each lesion.

    Equations: c_i = mean over ways of |d(t(x_i)) - d(x_i)|; `to_between` = median_i c_i / s_b with s_b the standard
    deviation of the lesions' mean features; `to_within` = median_i c_i / s_w with s_w^2 the pooled variance of
    photographs about their lesion's mean. Intervals: percentiles of a bootstrap over patients, medians and both spreads
    drawn together.

    Returns `n_images`, `n_lesions`, `n_lesions_repeated`, `n_patients`, `rule`, `features` (with their spreads),
    `control` and `transforms`, each with `name, bound, allowed, reason, features, destroys, share_cut`; `share_cut` is
    the share of lesions that touch the picture's edge after the transform and did not before. Fewer than 20 lesions
    with two photographs: `to_within` is None and nothing is named. Lesions whose mask is empty are left out.
    """
    measured = _measure(photographs, [control, *candidates], progress)
    weights = _multiplicities(measured.patient_of_lesion, resamples, seed)
    spread = _spreads(measured, weights)
    rows = [_judge(c, measured, k, spread, weights) for k, c in enumerate([control, *candidates])]
    control_row, transforms = rows[0], rows[1:]
    enough = measured.n_repeated >= FEWEST
    for row in transforms:
        for feature, still in zip(row["features"], control_row["features"], strict=True):
            feature["destroyed"] = enough and _destroyed(feature, still)
        row["destroys"] = [feature["feature"] for feature in row["features"] if feature["destroyed"]]
    return {
        "n_images": len(photographs),
        "n_lesions": len(measured.patient_of_lesion),
        "n_lesions_repeated": measured.n_repeated,
        "n_patients": int(measured.patient_of_lesion.max(initial=-1)) + 1,
        "rule": RULE,
        "threshold": THRESHOLD,
        "resamples": resamples,
        "seed": seed,
        "not_judged": "" if enough else _too_few(measured.n_repeated),
        "features": [
            {
                "feature": name,
                "about": ABOUT[name],
                "median": _number(np.nanmedian(measured.first[:, k])) if len(measured.first) else None,
                "between_sd": _number(spread.between[k]),
                "within_sd": _number(spread.within[k]),
            }
            for k, name in enumerate(FEATURES)
        ],
        "control": control_row,
        "transforms": transforms,
    }


@dataclass(frozen=True)
class _Measured:
    """For L lesions, D features, T candidates: `first` `(L, D)` of the first photograph; over all photographs `mean`
    `(L, D)`, `square` `(L, D)` squared deviations from it, `freedom` `(L,)` one less than their number; `change`
    `(T, L, D)`; `cut` `(T,)`."""

    patient_of_lesion: np.ndarray
    first: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    freedom: np.ndarray
    change: np.ndarray
    cut: np.ndarray

    @property
    def n_repeated(self) -> int:
        return int((self.freedom > 0).sum())


def _measure(
    photographs: Sequence[Photograph], candidates: Sequence[Candidate], progress: Callable[[int, int], None] | None
) -> _Measured:
    by_lesion: dict[str, list[np.ndarray]] = {}
    patient: dict[str, str] = {}
    changes: dict[str, np.ndarray] = {}
    cuts: dict[str, np.ndarray] = {}
    for done, photograph in enumerate(photographs, start=1):
        image, mask = photograph.load()
        if mask.sum() > 0:
            before = describe(image, mask)
            if photograph.lesion not in by_lesion:
                moved = [_moved(image, mask, before, candidate) for candidate in candidates]
                changes[photograph.lesion] = np.stack([change for change, _ in moved])
                cuts[photograph.lesion] = np.array([cut for _, cut in moved])
                patient[photograph.lesion] = photograph.patient
            by_lesion.setdefault(photograph.lesion, []).append(before)
        if progress is not None:
            progress(done, len(photographs))
    names = list(by_lesion)
    first = np.array([by_lesion[name][0] for name in names]).reshape(-1, len(FEATURES))
    # deviations from the first photograph, so that hue is averaged on the shorter way round
    off = [difference(np.array(by_lesion[name]), by_lesion[name][0]) for name in names]
    mean = np.array([rows.mean(0) for rows in off]).reshape(first.shape)
    return _Measured(
        patient_of_lesion=np.unique([patient[name] for name in names], return_inverse=True)[1],
        first=first,
        mean=first + mean,
        square=np.array([((rows - rows.mean(0)) ** 2).sum(0) for rows in off]).reshape(first.shape),
        freedom=np.array([len(rows) - 1 for rows in off], dtype=np.float64),
        change=np.stack([changes[name] for name in names], axis=1)
        if names
        else np.zeros((len(candidates), 0, len(FEATURES))),
        cut=np.mean([cuts[name] for name in names], axis=0) if names else np.zeros(len(candidates)),
    )


def _moved(image: np.ndarray, mask: np.ndarray, before: np.ndarray, candidate: Candidate) -> tuple[np.ndarray, bool]:
    """Mean |change| of every feature over the candidate's ways, and whether one of them cut the lesion."""
    changes, cut = [], False
    for way in candidate.ways:
        new_image, new_mask = way(image, mask)
        outline = before[: len(SHAPE)] if new_mask is mask else shape(new_mask)
        after = np.concatenate([outline, colour(new_image, new_mask)])
        changes.append(np.abs(difference(after, before)))
        cut = cut or (_touches(new_mask) and not _touches(mask))
    return np.mean(changes, axis=0), cut


def _touches(mask: np.ndarray) -> bool:
    return bool(max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) > 0.5)


def _multiplicities(patient: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How often each lesion is drawn, `(L, 1 + B)`, with its patient; column 0 is the data themselves."""
    n = int(patient.max(initial=-1)) + 1
    rng = numpy_rng(seed, "faithfulness bootstrap")
    drawn = [np.bincount(rng.integers(0, n, size=n), minlength=n) for _ in range(resamples)] if n else []
    return np.stack([np.ones(n), *drawn], axis=1)[patient] if n else np.zeros((0, 1))


@dataclass(frozen=True)
class _Spread:
    """Standard deviations of the D features, `(D, 1 + B)`: in the data, then in all resamples."""

    between_all: np.ndarray
    within_all: np.ndarray

    @property
    def between(self) -> np.ndarray:
        return self.between_all[:, 0]

    @property
    def within(self) -> np.ndarray:
        return self.within_all[:, 0]


def _spreads(measured: _Measured, weights: np.ndarray) -> _Spread:
    between, within = [], []
    freedom = measured.freedom @ weights
    for k in range(len(FEATURES)):
        known = ~np.isnan(measured.mean[:, k])
        values, w = measured.mean[known, k], weights[known]
        total = w.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = values @ w / total
            between.append(np.sqrt(np.maximum(values**2 @ w / total - mean**2, 0) * total / (total - 1)))
            within.append(np.sqrt(np.nan_to_num(measured.square[:, k]) @ weights / freedom))
    return _Spread(np.array(between), np.array(within))


def _judge(
    candidate: Candidate, measured: _Measured, index: int, spread: _Spread, weights: np.ndarray
) -> dict[str, Any]:
    features = []
    for k, name in enumerate(FEATURES):
        median = _weighted_median(measured.change[index, :, k], weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            to_between, to_within = median / spread.between_all[k], median / spread.within_all[k]
        features.append(
            {
                "feature": name,
                "median_change": _number(median[0]),
                "to_between": _interval(to_between),
                "to_within": _interval(to_within) if measured.n_repeated >= FEWEST else None,
                "destroyed": False,
            }
        )
    return {
        "name": candidate.name,
        "bound": candidate.bound,
        "allowed": candidate.allowed,
        "reason": candidate.reason,
        "features": features,
        "destroys": [],
        "share_cut": _number(measured.cut[index]),
    }


def _destroyed(feature: dict[str, Any], still: dict[str, Any]) -> bool:
    within, change, resampled = feature["to_within"], feature["median_change"], still["median_change"]
    if within is None or within["low"] is None:
        return False
    return bool(within["low"] > THRESHOLD and change > CONTROL_MARGIN * (resampled or 0.0))


def _too_few(n: int) -> str:
    return f"only {n} lesions have two photographs; {FEWEST} are needed to know how far a photographer moves a feature"


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The median of `values` `(L,)`, NaN left out, for each column of `weights` `(L, R)`."""
    known = ~np.isnan(values)
    values, weights = values[known], weights[known]
    if not len(values):
        return np.full(weights.shape[1], np.nan)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order], axis=0)
    half = reached[-1] / 2
    above = values[order][np.minimum((reached <= half).sum(0), len(values) - 1)]
    at = values[order][np.minimum((reached < half).sum(0), len(values) - 1)]
    return (at + above) / 2  # the mean of the two middle values where the count is even


def _interval(values: np.ndarray) -> dict[str, float | None]:
    defined = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(defined, [0.025, 0.975]) if len(defined) else (np.nan, np.nan)
    return {"value": _number(values[0]), "low": _number(low), "high": _number(high)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
