"""Who is where: every case in exactly one part, and in one fold where train and validation are cross-fitted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from raresight.core.files import replacing
from raresight.core.manifest import Manifest

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Folds:
    """Columns `case`, `unit` (what was kept together: patients or groups joined with identical images), `part`, `fold`.

    `fold` is -1 without cross-fitting. With folds, `part` is `train` or `test`, and fold k's cases are validation in
    run `fold-k` and training in the others.
    """

    table: pd.DataFrame

    @classmethod
    def load(cls, path: Path) -> Folds:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return cls(table.assign(fold=table["fold"].astype(int)))

    def save(self, path: Path) -> None:
        with replacing(path) as temporary:
            self.table.to_csv(temporary, index=False)

    @property
    def n_folds(self) -> int:
        """Number of folds, 0 without cross-fitting."""
        return int(self.table["fold"].max()) + 1 if len(self.table) else 0

    def rows(self, manifest: Manifest, part: Part, fold: int | None = None) -> np.ndarray:
        """Row numbers of `manifest` in `part`, ascending. With folds, `fold` says which one is validation."""
        aligned = self.table.set_index("case").loc[list(manifest.cases)]
        where = aligned["part"].to_numpy(dtype=object)
        if fold is None or part == "test":
            if self.n_folds and part == "val":
                return np.flatnonzero(aligned["fold"].to_numpy() >= 0)
            return np.flatnonzero(where == part)
        held = aligned["fold"].to_numpy() == fold
        inside = aligned["fold"].to_numpy() >= 0
        return np.flatnonzero(inside & (held if part == "val" else ~held))
