"""The eight arms of arXiv 2204.01729, looked into: python benchmarks/look_study.py {ham10000,nih_cxr14_256} DATA STUDY

DATA is the folder of the data set. The arms are those of the paper's released code; they differ in nothing else. All
outputs are independent, as in the paper, also on HAM10000, where each image has exactly one label. Each arm trains with
three seeds, thresholds are tuned on validation, the test part opens once, and then `raresight explain` looks into all
networks: on HAM10000 the lesion masks say where the pathology lies, on the chest films 34 expert boxes.

Every step resumes. `--table FILE` writes the dated table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from look_tables import look_table

from raresight import Study
from raresight.core.files import write_text
from raresight.core.progress import Terminal
from raresight.data.read import ReadOptions

AUGMENT = "augment"
ARMS: dict[str, list[Any]] = {
    "bce": [AUGMENT],
    "focal": [AUGMENT, {"focal": {"gamma": 2.0, "alpha": 0.25}}],
    "class_balanced_focal": [AUGMENT, {"class_balanced_focal": {"gamma": 2.0, "beta": 0.9999}}],
    "within_class_bce": [AUGMENT, {"within_class_bce": {"power": 1.0}}],
    "between_class_bce": [AUGMENT, {"between_class_bce": {"power": 0.5, "as_published": False}}],
    "uncertainty": [AUGMENT, {"uncertainty": {"lr": 0.01}}],
    "asymmetric": [AUGMENT, {"asymmetric": {"gamma_plus": 1.0, "gamma_minus": 4.0, "clip": 0.05}}],
    "resampling": [AUGMENT, {"class_balanced_sampling": {"power": 1.0, "clip": 75.0}}],
}

# Findings of the chest films with at least four images to learn from: hernia has three in all, fibrosis none to test.
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)

SETS: dict[str, dict[str, Any]] = {
    "ham10000": {
        "image": {"size": 96, "preset": "dermoscopy", "channels": 3},
        "critical": ["mel", "bcc", "akiec"],
        "split": {"train": 0.6, "val": 0.1, "test": 0.3, "group": "group", "seed": 2},
        "train": {"steps": 420, "batch": 48, "select": "macro_auprc"},
    },
    "nih_cxr14_256": {
        "image": {"size": 128, "preset": "chest", "channels": 1},
        "critical": ["Pneumothorax", "Mass", "Nodule"],
        "split": {"column": "split", "group": "patient_id"},
        "train": {"steps": 200, "batch": 32, "select": "macro_auroc"},
    },
}


def main() -> None:
    given = arguments()
    study = opened(given)
    study.train()
    study.tune()
    study.evaluate()
    if not (given.study / "test" / "opening-1" / "predictions.parquet").exists():
        study.open_test()
    study.compare()
    found = study.explain()
    study.report()
    if given.table:
        title = f"The eight arms of 2204.01729 on {given.set}, looked into"
        write_text(given.table, look_table(found, title, about(given)))


def about(given: argparse.Namespace) -> list[str]:
    chosen = SETS[given.set]
    train, image = chosen["train"], chosen["image"]
    return [
        f"`python benchmarks/look_study.py {given.set} DATA STUDY`: resnet10t from random weights, {image['size']} px, "
        f"ordinary augmentation, AdamW, {train['steps']} steps of {train['batch']} for every arm, bf16 on one CPU "
        "thread, looked into in float32; the test part opened once.",
    ]


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("set", choices=SETS)
    asked.add_argument("data", type=Path)
    asked.add_argument("study", type=Path)
    asked.add_argument("--table", type=Path)
    return asked.parse_args()


def opened(given: argparse.Namespace) -> Study:
    """The study, made where it is not there yet, checked and split."""
    path = given.study / "study.yaml"
    if not path.exists():
        if given.set == "ham10000":
            columns = {"image_col": "image", "label_col": "label", "group_col": "lesion_id", "mask_col": "mask"}
            source = given.data / "manifest.csv"
        else:
            columns = {"image_col": "image", "label_col": "labels", "patient_col": "patient_id"}
            source = films(given.data, given.study)
        Study.init(given.study, "csv", source, ReadOptions(**columns, label_sep="|", root=given.data))
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        chosen = SETS[given.set]
        config["task"]["critical"] = chosen["critical"]
        config["split"] = chosen["split"]
        config["image"] = chosen["image"]
        config["model"] = {"backbone": "resnet10t", "pretrained": False}
        config["train"] = chosen["train"] | {"lr": 1e-3, "precision": "bf16", "threads": 1}
        config["arms"] = ARMS
        if given.set == "nih_cxr14_256":
            config["data"]["boxes"] = str((given.data / "boxes.csv").resolve())
        write_text(path, yaml.safe_dump(config, sort_keys=False))
    study = Study.open(given.study, Terminal())
    study.check()
    study.split()
    return study


def films(data: Path, study: Path) -> Path:
    """The chest films' table with the findings that can be learned, and parts drawn by patient.

    Every patient with an expert's box is tested, so that no box is spent on training; of the others a fifth is tested
    too, and three in twenty validate.
    """
    table = pd.read_csv(data / "manifest.csv", dtype={"patient_id": str})
    boxed = set(table.loc[table["has_box"] == 1, "patient_id"])
    others = np.array(sorted(set(table["patient_id"]) - boxed))
    np.random.default_rng(6).shuffle(others)
    n = len(others)
    test = boxed | set(others[: n // 5])
    val = set(others[n // 5 : n // 5 + int(n * 0.15)])
    table["split"] = ["test" if p in test else "val" if p in val else "train" for p in table["patient_id"]]
    named = [[name for name in cell.split("|") if name in FINDINGS] for cell in table["labels"]]
    table["labels"] = ["|".join(names) or "No Finding" for names in named]
    path = study.parent / f"{study.name}-films.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    return path


if __name__ == "__main__":
    main()
