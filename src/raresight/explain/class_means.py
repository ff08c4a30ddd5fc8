"""The means of classes' features: how they lie about their own centre, and which of them can be told from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Features are float32: means that differ by less than this share of the features' size do not differ.
SAME = 1e-6


@dataclass(frozen=True)
class ClassMeans:
    """K classes' means, and N images about them.

    `n` `(K,)` images of each class, `mean` `(K, F)` (NaN for a class without one), `of` `(N,)` the class of each image,
    `left` `(N, F)` its features less that class's mean, `spread` `(K,)` the trace of each class's covariance, over
    n - 1 (NaN under 2 images), `size` the root mean square length of the features.
    """

    n: np.ndarray
    mean: np.ndarray
    of: np.ndarray
    left: np.ndarray
    spread: np.ndarray
    size: float

    @classmethod
    def of_images(cls, x: np.ndarray, of: np.ndarray, n_classes: int) -> ClassMeans:
        """Of features `x` `(N, F)` float64 and each image's class `of` `(N,)`, from 0 to K - 1."""
        n = np.bincount(of, minlength=n_classes)
        member = (of[None, :] == np.arange(n_classes)[:, None]).astype(np.float64)
        sums = member @ x
        mean = np.full_like(sums, np.nan)
        np.divide(sums, n[:, None], out=mean, where=n[:, None] > 0)
        left = x - mean[of]
        spread = np.full(n_classes, np.nan)
        np.divide(member @ np.square(left).sum(axis=1), n - 1, out=spread, where=n > 1)
        size = float(np.sqrt(np.square(x).sum(axis=1).mean())) if len(x) else 0.0
        return cls(n, mean, of, left, spread, size)

    @property
    def present(self) -> np.ndarray:
        """The classes that have an image, `(K',)`."""
        return np.flatnonzero(self.n > 0)

    @property
    def about_centre(self) -> np.ndarray:
        """μ_k - μ of the classes present, `(K', F)`; μ is the mean of their means."""
        there = self.mean[self.present]
        return there - there.mean(axis=0)

    @property
    def length(self) -> np.ndarray:
        """‖μ_k - μ‖ of the classes present, `(K',)`."""
        return np.sqrt(np.square(self.about_centre).sum(axis=1))

    @property
    def least(self) -> float:
        """The distance that two means must exceed to differ."""
        return SAME * self.size

    @property
    def differ(self) -> bool:
        """Whether any mean differs from the centre of all."""
        return bool(self.length.max() > self.least)

    @property
    def corners(self) -> np.ndarray:
        """μ_k - μ of every class, `(K, F)`: NaN for a class without an image, 0 for a mean that is the centre."""
        out = np.full_like(self.mean, np.nan)
        out[self.present] = self.about_centre * (self.length > self.least)[:, None]
        return out
