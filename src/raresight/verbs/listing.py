"""`raresight list`: what there is, with its source."""

from __future__ import annotations

from typing import Any

from raresight.core.extras import need
from raresight.core.presets import PRESETS

DATASETS = {
    "csv": "any table of images and labels; map its columns with --image-col, --label-col, --patient-col, ...",
    "folder": "one folder of images per class",
    "ham10000": "HAM10000 dermoscopy, 7 classes, grouped by lesion (Tschandl 2018)",
    "chestxray14": "NIH ChestX-ray14, 14 findings, patients, boxes (Wang 2017)",
    "medmnist": "a MedMNIST .npz file (Yang 2023)",
}

METRICS = {
    "recall": "of the cases with the class, the share that is found (sensitivity)",
    "precision": "of the alarms for the class, the share that is right (PPV)",
    "specificity": "of the cases without the class, the share without an alarm",
    "npv": "of the cases without an alarm, the share without the class",
    "f1": "harmonic mean of recall and precision",
    "auroc": "chance that a case with the class scores above one without",
    "auprc": "average precision; read beside the prevalence, its value for a random score",
    "recall_at_specificity_90": "recall where 90% of the cases without the class stay silent; no threshold is chosen",
    "accuracy": "share of right answers; shown only beside the trivial classifier",
    "balanced_accuracy": "mean recall over classes",
    "macro_f1": "mean F1 over classes",
    "macro_auroc": "mean AUROC over classes",
    "macro_auprc": "mean AUPRC over classes",
    "expected_cost": "mean cost of a case under the stated costs, in false alarms; read beside the best trivial rule",
    "ece": "equal-mass calibration error; small for a model that never raises an alarm",
    "ece_null": "the range of that error by chance alone, were the model right",
    "ici": "mean distance between a smooth calibration curve and the probabilities given",
    "calibration_intercept": "log-odds that probabilities are too low (above 0) or too high (below 0)",
    "calibration_slope": "1 is right; below 1 probabilities are too extreme, above 1 too timid",
    "expected_observed_ratio": "sum of predicted probabilities over observed cases; 1 is right in the large",
}


def listing(what: str) -> dict[str, Any]:
    """`strategies`, `arms`, `datasets`, `metrics` or `presets` as rows of name and description."""
    if what == "datasets":
        return {"datasets": [{"name": name, "about": about} for name, about in DATASETS.items()]}
    if what == "metrics":
        return {"metrics": [{"name": name, "about": about} for name, about in METRICS.items()]}
    if what == "presets":
        return {
            "presets": [
                {
                    "name": preset.name,
                    "transform": transform,
                    "bound": getattr(preset, transform, None),
                    "about": reason,
                }
                for preset in PRESETS.values()
                for transform, reason in preset.reasons.items()
            ]
        }
    if what == "arms":
        from raresight.advise.ready import READY

        return {"arms": [arm.as_row() for arm in READY]}
    need("torch", extra="train", feature="listing the strategies")
    from raresight.strategies import describe

    return {"strategies": describe()}
