"""The audit: how many patients stand behind each class, and what the planned parts will be able to show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.config import SplitSection
from raresight.core.errors import Problem
from raresight.core.folds import PARTS, Folds
from raresight.core.manifest import Manifest
from raresight.core.severity import severity
from raresight.core.task import Task
from raresight.data.forecast import forecast
from raresight.data.units import group_ids

FEW_VALIDATION_PATIENTS = 30


def audit(
    manifest: Manifest, task: Task, *, group_by: str, split: SplitSection, folds: Folds | None = None
) -> dict[str, Any]:
    """Counts, severity and precision forecast of every class, as written to `audit/audit.json`.

    `n_patients` counts distinct ids of `group_by`. `prevalence` is positives / images whose label for the class is
    known. `imbalance_ratio` is the commonest class's images per image of this one (exclusive), or known negatives per
    positive (independent); None for a class without images. `parts` counts images and patients per part once `folds`
    is known; before that, `forecast` rests on the planned shares. With cross-fitting `val` is the pooled
    out-of-fold part. `recall_interval_halfwidth` is that of the test part. A class without patients in a part has
    None for every forecast figure of it. `problems` holds items 13 and 14 of the catalogue; `findings` says in words
    what follows.

    Raises: `DataError` RS-M01, RS-M02 (no or blank group ids).
    """
    target = manifest.targets(task)
    known, positive = ~np.isnan(target), np.nan_to_num(target) > 0
    group, names = pd.factorize(group_ids(manifest, group_by))
    in_part = _parts(manifest, folds)
    n_images = positive.sum(axis=0)
    n_patients = _patients(group, positive)
    classes = []
    for k, name in enumerate(task.classes):
        parts = {part: _counts(group, inside, positive[:, k]) for part, inside in in_part.items()}
        precision = {part: forecast(n) for part, n in _positive_patients(int(n_patients[k]), parts, split).items()}
        prevalence = float(n_images[k] / max(known[:, k].sum(), 1))
        classes.append(
            {
                "name": name,
                "critical": name in task.critical,
                "n_images": int(n_images[k]),
                "n_patients": int(n_patients[k]),
                "n_unknown": int((~known[:, k]).sum()),
                "prevalence": prevalence,
                "severity": severity(prevalence),
                "imbalance_ratio": _ratio(task, k, n_images, known),
                "recall_interval_halfwidth": precision["test"]["halfwidth"],
                "parts": parts,
                "forecast": precision,
            }
        )
    crossfit = bool(split.folds or (folds is not None and folds.n_folds))
    thin = [] if crossfit else _thin(classes, task)
    return {
        "n_images": len(manifest),
        "n_patients": len(names),
        "group_by": group_by,
        "kind": task.kind,
        "n_without_label": int((~known).all(axis=1).sum()),
        "n_without_any_class": int((known.all(axis=1) & ~positive.any(axis=1)).sum()),
        "parts": {part: _counts(group, inside) for part, inside in in_part.items()},
        "classes": classes,
        "long_tail": _long_tail(task, n_images),
        "cooccurrence": _cooccurrence(task, positive),
        "cross_fitted": crossfit,
        "folds_recommended": bool(thin),
        "findings": _findings(thin, classes),
        "problems": [p.as_dict() for p in _problems(classes, crossfit)],
    }


def _parts(manifest: Manifest, folds: Folds | None) -> dict[str, np.ndarray]:
    """Which rows lie in each part, `(N,)` bool; cross-fitted rows count as validation, for each is held out once."""
    if folds is None:
        return {}
    inside: dict[str, np.ndarray] = {}
    for part in PARTS:
        rows = np.zeros(len(manifest), dtype=bool)
        rows[folds.rows(manifest, part)] = True
        inside[part] = rows
    return inside


def _patients(group: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Distinct groups with at least one positive image, `(K,)`."""
    return np.array([(np.bincount(group, weights=column) > 0).sum() for column in positive.T], dtype=int)


def _counts(group: np.ndarray, inside: np.ndarray, positive: np.ndarray | None = None) -> dict[str, int]:
    rows = inside if positive is None else inside & positive
    return {"n_images": int(rows.sum()), "n_patients": len(np.unique(group[rows]))}


def _positive_patients(n: int, parts: dict[str, dict[str, int]], split: SplitSection) -> dict[str, float]:
    """Positive patients of validation and test: counted, or planned by the rules by which the split seats them."""
    if parts:
        return {part: float(parts[part]["n_patients"]) for part in ("val", "test")}
    test = split.test * n if n >= 2 else 0.0
    if split.test > 0 and n >= 2:
        test = max(test, 1.0)
    if split.folds:
        return {"val": n - test, "test": test}
    val = split.val * n if n >= 3 else 0.0
    if split.val > 0 and n >= 3:
        val = max(val, 1.0)
    return {"val": val, "test": test}


def _ratio(task: Task, k: int, n_images: np.ndarray, known: np.ndarray) -> float | None:
    if not n_images[k]:
        return None
    other = n_images.max() if task.kind == "exclusive" else known[:, k].sum() - n_images[k]
    return round(float(other / n_images[k]), 3)


def _long_tail(task: Task, n_images: np.ndarray) -> dict[str, Any]:
    """How long the tail is: exp of the entropy of the classes' shares (K when balanced), and largest over smallest."""
    present = n_images[n_images > 0]
    shares = present / max(present.sum(), 1)
    order = np.argsort(-n_images, kind="stable")
    return {
        "n_classes": task.n_classes,
        "n_absent": int((n_images == 0).sum()),
        "effective_classes": round(math.exp(-float((shares * np.log(shares)).sum())), 3) if len(present) else 0.0,
        "imbalance_ratio": round(float(present.max() / present.min()), 3) if len(present) else None,
        "commonest_to_rarest": [task.classes[k] for k in order],
    }


def _cooccurrence(task: Task, positive: np.ndarray) -> dict[str, Any] | None:
    """Images with both classes, `(K, K)`; the diagonal counts each class. Exclusive labels never occur together."""
    if task.kind == "exclusive":
        return None
    ones = positive.astype(np.float64)
    return {"classes": list(task.classes), "n_images": (ones.T @ ones).astype(int).tolist()}


def _thin(classes: list[dict[str, Any]], task: Task) -> list[dict[str, Any]]:
    """Critical classes (every class, where none is named critical) with too few validation patients."""
    watched = [row for row in classes if row["critical"] or not task.critical]
    few = [row for row in watched if row["forecast"]["val"]["n_positive_patients"] < FEW_VALIDATION_PATIENTS]
    return [row for row in few if row["n_patients"] > 0]


def _findings(thin: list[dict[str, Any]], classes: list[dict[str, Any]]) -> list[str]:
    findings = []
    if thin:
        named = ", ".join(f"{row['name']} ({row['forecast']['val']['n_positive_patients']:.3g})" for row in thin)
        findings.append(
            f"Fewer than {FEW_VALIDATION_PATIENTS} validation patients for {named}: thresholds and the choice of arms "
            "would rest on chance. Set `split: {folds: 5}`, which holds out every training patient once."
        )
    mute = [row["name"] for row in classes if row["n_patients"] and row["forecast"]["test"]["smallest_gain"] is None]
    if mute:
        findings.append(f"The test part cannot show any gain in recall, however large, for {', '.join(mute)}.")
    return findings


def _problems(classes: list[dict[str, Any]], crossfit: bool) -> list[Problem]:
    """Items 13 (a class without patients, or too few for three parts) and 14 (a class absent from a part)."""
    problems = []
    for row in classes:
        n, name, parts = row["n_patients"], row["name"], row["parts"]
        if n == 0:
            problems.append(
                Problem(
                    code="RS-M13",
                    level="error",
                    file="manifest.csv",
                    column=name,
                    found=f"no image of class '{name}'",
                    why="it can neither be learned nor tested, and would only take probability from the others",
                    remedy=f"remove '{name}' from task.classes, or check its spelling in the labels",
                )
            )
        elif n <= 2:
            problems.append(
                Problem(
                    code="RS-M13",
                    level="warning",
                    file="manifest.csv",
                    column=name,
                    found=f"class '{name}' has {n} patient{'s' * (n > 1)}",
                    why="it cannot reach three parts: "
                    + ("training has it" if n == 1 else "training and test have it, validation has not"),
                    remedy=f"merge '{name}' with a related class, or keep it and claim nothing about it",
                )
            )
        if parts and n and not parts["val"]["n_patients"]:
            problems.append(_absent(name, "validation", "its threshold cannot be tuned and stays at the default"))
        elif crossfit and parts and parts["val"]["n_patients"] == 1:
            problems.append(_absent(name, "training whenever it is held out", "it has one patient among the folds"))
        if parts and n and not parts["test"]["n_patients"]:
            problems.append(_absent(name, "test", "its recall there is not estimable"))
    return problems


def _absent(name: str, where: str, why: str) -> Problem:
    return Problem(
        code="RS-M14",
        level="warning",
        file="split.csv",
        column=name,
        found=f"class '{name}' is absent from {where}",
        why=why,
        remedy="add patients with it, use `folds: 5`, or take it out of the classes you draw conclusions about",
    )
