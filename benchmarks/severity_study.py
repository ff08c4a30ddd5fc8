"""Which technique helps at which severity? One sweep on real images: python benchmarks/severity_study.py SET DATA OUT

SET is ham10000 (melanoma), cells (schistocytes among red-cell crops) or films (pneumothorax, hernia on chest films at
64 px); DATA the folder that holds the data sets. For every prevalence and seed the network is trained anew on the
thinned training part; each technique then trains a head on that network's features, all heads in one pass. Figures come
from the test part, opened once. The study resumes where it was left.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from real_sets import cells, chest_films

from raresight import Study
from raresight.core.files import write_text
from raresight.core.progress import Terminal
from raresight.data.read import ReadOptions

FOCAL = {"focal": {"gamma": 2}}
TECHNIQUES: dict[str, list[Any]] = {
    "head_only": [],
    "class_weights": ["class_weights"],
    "focal": [FOCAL],
    "balanced_sampling": ["class_balanced_sampling"],
    "smote": ["smote"],
    "borderline_smote": ["borderline_smote"],
    "logit_adjusted": ["balanced_softmax"],
}
AUGMENTED: dict[str, list[Any]] = {
    "heavy_augment": ["heavy_augment"],
    "moderate_hybrid": ["heavy_augment", FOCAL],
    "extreme_hybrid": ["heavy_augment", "borderline_smote", FOCAL],
}
SMOTE_HYBRID: dict[str, list[Any]] = {"extreme_hybrid": ["borderline_smote", FOCAL]}
SETS: dict[str, dict[str, Any]] = {
    "ham10000": {
        "size": 48,
        "preset": "dermoscopy",
        "steps": 250,
        "split": {"train": 0.5, "val": 0.2, "test": 0.3, "group": "lesion_id", "seed": 2},
        "sweeps": {"mel": "0.08,0.02,0.005"},
        "arms": TECHNIQUES | AUGMENTED,
    },
    "cells": {
        "size": 40,
        "preset": "none",
        "steps": 200,
        "split": {"train": 0.3, "val": 0.2, "test": 0.5, "group": "patient_id", "seed": 0},
        "sweeps": {"schistocyte": "0.01,0.0025"},
        "arms": TECHNIQUES | SMOTE_HYBRID,  # no preset knows how red cells may be changed
    },
    "films": {
        "size": 48,
        "preset": "chest",
        "channels": 1,
        "steps": 150,
        "split": {"train": 0.5, "val": 0.2, "test": 0.3, "group": "patient_id", "seed": 0},
        "sweeps": {"Pneumothorax": "0.01", "Hernia": "0.003"},
        "arms": TECHNIQUES | AUGMENTED,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    chosen = SETS[options.set]
    if not (options.out / "study.yaml").exists():
        init(options, chosen)
    study = Study.open(options.out, Terminal())
    study.check()
    study.split()
    for number, (cls, prevalences) in enumerate(chosen["sweeps"].items()):
        again = {"reuse": True, "reason": "the second class of a study that declares both"} if number else {}
        study.sweep(cls, prevalences.split(","), open_test=True, **again)


def init(options: argparse.Namespace, chosen: dict[str, Any]) -> None:
    out, data = options.out, options.data
    if options.set == "ham10000":
        Study.init(out, "ham10000", data / "ham10000")
    elif options.set == "cells":
        table = cells(data / "chula_rbc12", out.with_name(f"{out.name}_images"))
        Study.init(out, "csv", table, ReadOptions(image_col="image", label_col="label", patient_col="block"))
    else:
        table = chest_films(data / "nih_cxr14_64", data / "nih_cxr14_256", out.with_name(f"{out.name}_images"))
        columns = ReadOptions(image_col="image", label_col="label", label_sep="|", patient_col="patient_id")
        Study.init(out, "csv", table, columns)
    config = yaml.safe_load((out / "study.yaml").read_text(encoding="utf-8"))
    config["split"] = chosen["split"]
    config["image"] |= {
        "size": chosen["size"],
        "preset": {"cells": "none", "films": "chest"}.get(options.set, "dermoscopy"),
    }
    config["image"]["channels"] = 1 if options.set == "films" else 3
    config["model"] = {"backbone": "resnet18", "pretrained": False}
    steps = options.steps or chosen["steps"]
    config["train"] = {"steps": steps, "head_steps": 300, "batch": 64, "lr": 1e-3, "precision": "bf16", "threads": 1}
    config["train"]["views"] = 2
    config["task"]["critical"] = list(chosen["sweeps"])
    config["costs"] = {"missed": dict.fromkeys(chosen["sweeps"], 20)}
    config["seeds"] = options.seeds
    config["arms"] = {"baseline": []} | {name: [{"frozen": "baseline"}, *how] for name, how in chosen["arms"].items()}
    write_text(out / "study.yaml", yaml.safe_dump(config, sort_keys=False))


if __name__ == "__main__":
    main()
