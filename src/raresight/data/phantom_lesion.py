"""What is drawn for a phantom lesion, in the words of a dermatologist, before a pixel is set.

Five diagnoses with a long tail. Their parameters overlap, and some lesions mimic another diagnosis, so that the task
can be learnt but not solved: a dysplastic nevus borrows from melanoma, an early melanoma from nevus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHARES: dict[str, float] = {
    "nevus": 0.70,
    "keratosis": 0.15,
    "bcc": 0.09,
    "melanoma": 0.05,
    "dermatofibroma": 0.01,
}
"""Share of lesions per diagnosis; the order is from common to rare."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one diagnosis looks. Pairs are (low, high) of a uniform draw, `structures` are probabilities of presence.

    `asymmetry`, `border`, `pigment` are shares of 1, `diameter_mm` is the 10th and 90th percentile, `edge` the width
    of the rim as a share of the radius (small = sharp, "stuck on"), `colours` the order in which colours appear.
    """

    asymmetry: tuple[float, float]
    border: tuple[float, float]
    n_colours: tuple[int, int]
    diameter_mm: tuple[float, float]
    edge: tuple[float, float]
    pigment: tuple[float, float]
    colours: tuple[tuple[str, ...], ...]
    structures: dict[str, float]


LOOKS: dict[str, Look] = {
    "nevus": Look(
        asymmetry=(0.0, 0.40),
        border=(0.0, 0.35),
        n_colours=(1, 3),
        diameter_mm=(2.8, 7.5),
        edge=(0.15, 0.55),
        pigment=(0.65, 1.3),
        colours=(
            ("light brown", "dark brown", "pink"),
            ("dark brown", "light brown", "black"),
            ("light brown", "dark brown", "tan"),
        ),
        structures={"network": 0.65, "globules": 0.40, "dots": 0.10, "veil": 0.02, "regression": 0.03, "vessels": 0.02},
    ),
    "keratosis": Look(
        asymmetry=(0.1, 0.65),
        border=(0.1, 0.60),
        n_colours=(1, 4),
        diameter_mm=(4.5, 11.5),
        edge=(0.05, 0.25),
        pigment=(0.7, 1.3),
        colours=(("tan", "light brown", "dark brown", "blue-grey"), ("tan", "dark brown", "pink", "black")),
        structures={"cysts": 0.80, "openings": 0.60, "ridges": 0.75, "network": 0.10, "vessels": 0.05, "veil": 0.06},
    ),
    "bcc": Look(
        asymmetry=(0.1, 0.75),
        border=(0.1, 0.65),
        n_colours=(1, 4),
        diameter_mm=(3.5, 10.0),
        edge=(0.25, 0.75),
        pigment=(0.7, 1.3),
        colours=(("pink", "red", "blue-grey", "white"), ("pink", "white", "light brown", "red")),
        structures={"vessels": 0.90, "nests": 0.60, "ulcer": 0.30, "cysts": 0.10, "network": 0.04, "veil": 0.08},
    ),
    "melanoma": Look(
        asymmetry=(0.3, 1.0),
        border=(0.3, 1.0),
        n_colours=(3, 6),
        diameter_mm=(4.5, 13.0),
        edge=(0.08, 0.45),
        pigment=(0.9, 1.6),
        colours=(
            ("dark brown", "black", "light brown", "blue-grey", "red", "white"),
            ("dark brown", "blue-grey", "light brown", "pink", "black", "white"),
        ),
        structures={"network": 0.60, "dots": 0.60, "globules": 0.30, "veil": 0.60, "regression": 0.40, "vessels": 0.08},
    ),
    "dermatofibroma": Look(
        asymmetry=(0.0, 0.40),
        border=(0.0, 0.40),
        n_colours=(1, 3),
        diameter_mm=(3.5, 8.0),
        edge=(0.45, 0.90),
        pigment=(0.6, 1.1),
        colours=(("light brown", "pink", "tan"), ("pink", "light brown", "red")),
        structures={"scar": 0.95, "network": 0.60, "globules": 0.10, "vessels": 0.04},
    ),
}

MIMICS: dict[str, dict[str, float]] = {
    "nevus": {"melanoma": 0.020, "keratosis": 0.015, "bcc": 0.010, "dermatofibroma": 0.003},
    "keratosis": {"nevus": 0.06, "melanoma": 0.03, "bcc": 0.02},
    "bcc": {"nevus": 0.05, "keratosis": 0.04, "melanoma": 0.02},
    "melanoma": {"nevus": 0.10, "keratosis": 0.04, "bcc": 0.02},
    "dermatofibroma": {"nevus": 0.10, "bcc": 0.03},
}
"""Probability that a lesion of the first diagnosis looks like the second: the errors no classifier can avoid."""


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion: what is true of it in every photograph. Strengths of `structures` lie in (0, 1]; absent = 0."""

    label: str
    asymmetry: float
    border_irregularity: float
    diameter_mm: float
    edge: float
    pigment: float
    colours: tuple[str, ...]
    structures: dict[str, float]
    seed: int

    def strength(self, structure: str) -> float:
        return self.structures.get(structure, 0.0)


def diagnosis(index: int, offset: float) -> str:
    """The diagnosis of the `index`-th lesion of the population.

    A golden-ratio sequence instead of independent draws: every stretch of lesions holds the classes in their shares,
    so that a small phantom has its rare class too, and more patients never change the diagnoses of the first ones.
    """
    position = (offset + index * 0.6180339887498949) % 1.0
    for label, edge in zip(SHARES, np.cumsum(list(SHARES.values())), strict=True):
        if position < edge:
            return label
    return list(SHARES)[-1]


def draw_lesion(label: str, rng: np.random.Generator) -> Lesion:
    """Draw one lesion of diagnosis `label`, now and then with the look of another one."""
    look = LOOKS[_look_of(label, rng)]
    low, high = look.diameter_mm
    # log-normal, because sizes are skewed; 1.2816 standard deviations hold the 10th to the 90th percentile
    spread = np.log(high / low) / (2 * 1.2816)
    diameter = float(np.clip(np.exp(np.log(low * high) / 2 + spread * rng.standard_normal()), 2.0, 15.0))
    order = look.colours[rng.integers(len(look.colours))]
    n_colours = min(int(rng.integers(look.n_colours[0], look.n_colours[1] + 1)), len(order))
    return Lesion(
        label=label,
        asymmetry=round(float(rng.uniform(*look.asymmetry)), 3),
        border_irregularity=round(float(rng.uniform(*look.border)), 3),
        diameter_mm=round(diameter, 2),
        edge=float(rng.uniform(*look.edge)),
        pigment=float(rng.uniform(*look.pigment)),
        colours=order[:n_colours],
        structures={
            name: float(rng.uniform(0.4, 1.0)) for name, share in look.structures.items() if rng.random() < share
        },
        seed=int(rng.integers(2**62)),
    )


def _look_of(label: str, rng: np.random.Generator) -> str:
    position = rng.random()
    for other, share in MIMICS[label].items():
        if position < share:
            return other
        position -= share
    return label
