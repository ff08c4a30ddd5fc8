"""A sweep as `raresight sweep` would have judged it, of scores that were drawn: no training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from raresight.core.manifest import LABEL_PREFIX
from raresight.core.predictions import PROB_PREFIX, Predictions
from raresight.core.task import Task
from raresight.evaluate.sweep import Column, Judged
from raresight.evaluate.sweep_differences import across, differences, interactions
from raresight.evaluate.sweep_points import cross_fitted, halves
from raresight.evaluate.sweep_verdict import verdicts

# Skill in units of logit with all cases, and how much of it an arm keeps a decade further down.
ARMS = {
    "baseline": (2.2, 0.75),
    "focal": (2.25, 0.75),
    "class_weights": (2.3, 0.8),
    "borderline_smote": (2.3, 0.9),
    "heavy_augment": (2.6, 0.95),
    "balanced_softmax": (2.3, 0.85),
    "ldam": (2.2, 0.8),
    "cutmix": (2.0, 0.7),
    "hybrid": (2.9, 1.0),
}
SHARES = (0.005, 0.02, 0.08)


def sweep_result(n: int = 1200, n_positive: int = 110, resamples: int = 200, names: int = len(ARMS)) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    y = np.r_[np.ones(n_positive), np.zeros(n - n_positive)]
    task = Task("independent", ("mel",), ("mel",))
    arms = [*list(ARMS)[: names - 1], "hybrid"]

    def drawn(skill: float) -> Predictions:
        prob = 1 / (1 + np.exp(-(skill * y + rng.normal(size=n) - 3)))
        columns = {"case": np.arange(n).astype(str), "patient_id": np.arange(n).astype(str)}
        table = pd.DataFrame(columns | {PROB_PREFIX + "mel": prob, LABEL_PREFIX + "mel": y})
        return Predictions(table, task, part="val")

    truth = drawn(1.0)
    half = halves(truth, "mel", 0)
    columns = []
    for name, share in zip(("0.005", "0.02", "all"), SHARES, strict=True):
        decades = np.log10(SHARES[-1] / share)
        runs = {}
        for arm in arms:
            whole, kept = ARMS[arm]
            skills = whole * kept**decades + 0.1 * rng.normal(size=3)
            runs[arm] = [cross_fitted(drawn(s), "mel", half, missed=20, deployed=None, prior=None) for s in skills]
        columns.append(Column(name, share, runs))
    at = Judged(columns, truth, "mel", missed=20.0, unit="image", resamples=resamples)
    rows = differences(at, "baseline")
    groups = {"0.005": [19, 20, 18], "0.02": [75, 77, 74], "all": [430, 430, 430]}
    about = [
        {
            "name": c.name,
            "prevalence": c.prevalence,
            "natural": c.name == "all",
            "achieved": [c.prevalence] * 3,
            "n_images": [5200] * 3,
            "n_positive": [n + 5 for n in groups[c.name]],
            "n_positive_groups": groups[c.name],
            "others": [{"nv": {"before": 4000, "after": 4000 - i}} for i in range(3)],
            "problems": [[], [], [{"found": "1 lesion_id with 'mel' left", "why": "nothing can be concluded"}]],
        }
        for c in columns
    ]
    part = {
        "part": "val",
        "opening": None,
        "prevalence": at.common.prevalence,
        "n_patients": at.common.n_patients,
        "n_positive_patients": at.n_positive,
        "estimates": at.estimates(),
        "comparisons": rows,
        "interactions": interactions(at, {"hybrid": ("baseline", ["heavy_augment", "borderline_smote", "focal"])})
        if names >= 6
        else [],
        "across": across(at, "baseline"),
        "verdicts": verdicts(about, rows, n_positive=at.n_positive, baseline="baseline", cls="mel"),
    }
    return {
        "class": "mel",
        "group_by": "lesion_id",
        "unit": "image",
        "baseline": "baseline",
        "seeds": [0, 1, 2],
        "natural_prevalence": SHARES[-1],
        "arms": [{"name": arm, "methods": []} for arm in arms],
        "cost": {"missed": 20.0, "assumed": False, "prevalence": None},
        "columns": about,
        "val": part,
        "test": None,
    }
