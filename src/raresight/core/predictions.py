"""Predictions, the waist of the line: whatever comes after reads this table and never a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.files import replacing
from raresight.core.manifest import LABEL_PREFIX
from raresight.core.task import Task

PROB_PREFIX = "prob_"
LOGIT_PREFIX = "logit_"


@dataclass(frozen=True)
class Predictions:
    """One row per case: `case`, `patient_id`, optional `group` and metadata, `prob_<class>`, `logit_<class>`, labels.

    `prob` is `(N, K)` in [0, 1], rows summing to 1 for exclusive labels; `target` is `(N, K)` with NaN where unknown;
    `patient` is `(N,)`, the independent unit that intervals cluster by. Logits, where known, come after the decision
    strategies' `adjust` and before any calibration.
    """

    table: pd.DataFrame
    task: Task
    arm: str = ""
    seed: int | None = None
    part: str = ""
    cluster: str = "patient_id"

    @property
    def cases(self) -> np.ndarray:
        return self.table["case"].to_numpy(dtype=object)

    @property
    def patient(self) -> np.ndarray:
        return self.table[self.cluster].to_numpy(dtype=object)

    @property
    def prob(self) -> np.ndarray:
        return self.table[[PROB_PREFIX + name for name in self.task.classes]].to_numpy(dtype=np.float64)

    @property
    def logits(self) -> np.ndarray | None:
        columns = [LOGIT_PREFIX + name for name in self.task.classes]
        if not set(columns) <= set(self.table.columns):
            return None
        return self.table[columns].to_numpy(dtype=np.float64)

    @property
    def target(self) -> np.ndarray:
        if self.task.kind == "exclusive":
            names = np.array(self.task.classes, dtype=object)
            label = self.table["label"].to_numpy(dtype=object)
            target = (label[:, None] == names[None, :]).astype(np.float64)
            target[~np.isin(label, names)] = np.nan
            return target
        return self.table[[LABEL_PREFIX + name for name in self.task.classes]].to_numpy(dtype=np.float64)

    def save(self, path: Path) -> None:
        with replacing(path) as temporary:
            if path.suffix == ".parquet":
                self.table.to_parquet(temporary, index=False)
            else:
                self.table.to_csv(temporary, index=False)

    @classmethod
    def load(
        cls,
        path: Path,
        task: Task,
        *,
        arm: str = "",
        seed: int | None = None,
        part: str = "",
        cluster: str = "patient_id",
    ) -> Predictions:
        """Read a table that we wrote; one from elsewhere goes through `evaluate.read` first, which checks it."""
        table = pd.read_parquet(path)
        return cls(table, task, arm, seed, part, cluster)


def tabulate(
    task: Task, cases: np.ndarray, logits: np.ndarray, target: np.ndarray, metadata: pd.DataFrame
) -> pd.DataFrame:
    """The predictions table from `(N, K)` logits and targets (NaN = unknown) and the rows' metadata.

    Probabilities are softmax (exclusive) or logistic (independent) of the logits, in float64.
    """
    z = logits.astype(np.float64)
    if task.kind == "exclusive":
        exp = np.exp(z - z.max(axis=1, keepdims=True))
        prob = exp / exp.sum(axis=1, keepdims=True)
        known = ~np.isnan(target).any(axis=1)
        best = np.where(known, np.nan_to_num(target).argmax(axis=1), -1)
        names = np.array([*task.classes, ""], dtype=object)
        labels: dict[str, np.ndarray] = {"label": names[best]}
    else:
        prob = np.where(z >= 0, 1 / (1 + np.exp(-np.abs(z))), 1 - 1 / (1 + np.exp(-np.abs(z))))
        labels = {LABEL_PREFIX + name: target[:, k] for k, name in enumerate(task.classes)}
    columns: dict[str, np.ndarray] = {"case": cases}
    columns |= {name: metadata[name].to_numpy(dtype=object) for name in metadata.columns if name != "case"}
    columns |= {PROB_PREFIX + name: prob[:, k] for k, name in enumerate(task.classes)}
    columns |= {LOGIT_PREFIX + name: z[:, k] for k, name in enumerate(task.classes)}
    return pd.DataFrame(columns | labels)
