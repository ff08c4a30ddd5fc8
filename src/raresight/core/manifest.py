"""The manifest: one table that describes any data set, one row per case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.files import replacing
from raresight.core.task import Task

LABEL_PREFIX = "label_"


@dataclass(frozen=True)
class Manifest:
    """Columns: `case` (unique), `image`, `patient_id`, `group`, then `label` or `label_<class>`, and any metadata.

    Everything is text, so that the id `007` stays `007`; an empty cell is empty text. `label_<class>` is `0`, `1` or
    empty (unknown, which is not the same as absent). `image` is a path relative to the study's image root, or
    `file.npz#array[index]` for images kept in an array file. `group` names the unit (a lesion, say) below the patient.
    """

    table: pd.DataFrame

    @classmethod
    def load(cls, path: Path) -> Manifest:
        return cls(pd.read_csv(path, dtype=str, keep_default_na=False))

    def save(self, path: Path) -> None:
        with replacing(path) as temporary:
            self.table.to_csv(temporary, index=False)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def cases(self) -> np.ndarray:
        return self.table["case"].to_numpy(dtype=object)

    def column(self, name: str) -> np.ndarray:
        """One column as text, `(N,)`; a column that the manifest lacks is all empty."""
        if name not in self.table:
            return np.full(len(self.table), "", dtype=object)
        return self.table[name].to_numpy(dtype=object)

    def targets(self, task: Task) -> np.ndarray:
        """Labels as `(N, K)` float32: 0, 1, or NaN where unknown. Exclusive labels are one-hot."""
        if task.kind == "exclusive":
            position = {name: k for k, name in enumerate(task.classes)}
            index = self.table["label"].map(position)
            targets = np.full((len(self), task.n_classes), np.nan, dtype=np.float32)
            known = index.notna().to_numpy()
            targets[known] = np.eye(task.n_classes, dtype=np.float32)[index[known].to_numpy(dtype=int)]
            return targets
        columns = [pd.to_numeric(self.column(LABEL_PREFIX + name), errors="coerce") for name in task.classes]
        return np.stack(columns, axis=1).astype(np.float32)

    def take(self, rows: Sequence[int] | np.ndarray) -> Manifest:
        return Manifest(self.table.iloc[np.asarray(rows, dtype=int)].reset_index(drop=True))
