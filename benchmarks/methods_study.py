"""Many ways of handling imbalance on HAM10000: python benchmarks/methods_study.py DATA OUT [--table FILE]

DATA is the folder of `ham10000`; lesions stay in one part. Every technique trains a head on the features of the trained
baseline of the same seed, all heads in one pass; those named in END_TO_END train the whole network too. The test part
opens once, for all of them. Intervals are paired lesion bootstraps with the seeds as a second level.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from raresight import Study
from raresight.core.files import read_json, write_text
from raresight.core.progress import Terminal

FOCAL = {"focal": {"gamma": 2}}
FROZEN: dict[str, list[Any]] = {
    "plain": [],
    "class_weights": ["class_weights"],
    "sqrt_weights": [{"class_weights": {"scheme": "sqrt_inverse"}}],
    "focal": [FOCAL],
    "cb_focal": ["class_balanced_focal"],
    "balanced_softmax": ["balanced_softmax"],
    "ldam": ["ldam"],
    "vs": ["vs"],
    "balanced_sampling": ["class_balanced_sampling"],
    "sqrt_sampling": [{"class_balanced_sampling": {"power": 0.5}}],
    "smote": ["smote"],
    "borderline_smote": ["borderline_smote"],
    "adasyn": ["adasyn"],
    "augment": ["augment"],
    "heavy_augment": ["heavy_augment"],
    "moderate_hybrid": ["heavy_augment", FOCAL],
    "extreme_hybrid": ["heavy_augment", "borderline_smote", FOCAL],
    "mixup": ["mixup"],
    "logit_adjustment": ["logit_adjustment"],
}
END_TO_END = ("heavy_augment", "focal", "moderate_hybrid", "sqrt_weights")
COLUMNS = (
    ("macro_f1", None),
    ("balanced_accuracy", None),
    ("recall_at_specificity_90", "mel"),
    ("auprc", "df"),
    ("auprc", "vasc"),
)


def main() -> None:
    options = arguments()
    if not (options.out / "study.yaml").exists():
        init(options)
    study = Study.open(options.out, Terminal())
    for verb in (study.check, study.split, study.audit, study.train, study.tune, study.evaluate):
        verb()
    if not (options.out / "test" / "opening-1" / "predictions.parquet").exists():
        study.open_test()
    study.compare()
    study.report()
    text = table(options)
    print(text)
    if options.table:
        write_text(options.table, text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", type=Path)
    return parser.parse_args()


def init(options: argparse.Namespace) -> None:
    Study.init(options.out, "ham10000", options.data)
    path = options.out / "study.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["split"]["seed"] = 1  # seed 0 belongs to the study of the line, whose test part is spent
    config["task"]["critical"] = ["mel", "bcc", "akiec"]
    config["image"]["size"] = 64
    config["model"] = {"backbone": "resnet18", "pretrained": False}
    config["train"] = {"steps": options.steps, "batch": 64, "lr": 1e-3, "select": "macro_auprc", "precision": "bf16"}
    config["seeds"] = options.seeds
    whole = {name: FROZEN[name] for name in END_TO_END}
    frozen = {f"f_{name}": [{"frozen": "baseline"}, *how] for name, how in FROZEN.items()}
    config["arms"] = {"baseline": []} | whole | frozen
    write_text(path, yaml.safe_dump(config, sort_keys=False))


def table(options: argparse.Namespace) -> str:
    study = yaml.safe_load((options.out / "study.yaml").read_text(encoding="utf-8"))
    opened = read_json(options.out / "test" / "opening-1" / "estimates.json")["estimates"]
    compared = read_json(options.out / "compare" / "compare.json")["comparisons"]
    compared = [row for row in compared if row["part"] == "test"]
    names = [f"{metric}{f' of {cls}' if cls else ''}" for metric, cls in COLUMNS]
    lines = [
        f"# Ways of handling imbalance on HAM10000, {date.today().isoformat()}",
        "",
        f"`python benchmarks/methods_study.py DATA OUT --steps {study['train']['steps']}`: resnet18, 64 px,",
        f"lesions split 70/10/20, seeds {', '.join(map(str, study['seeds']))}, two CPU cores.",
        "The test part was opened once. Means over seeds of the value and of the ends of its 95% interval.",
        "",
        "An arm that begins with `f_` trains a head on the features of the baseline of its seed; the others train the",
        "whole network. Differences are arm less baseline on the same lesions, 95% intervals over lesions and seeds.",
        "",
        "| arm | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for arm in study["arms"]:
        cells = [mean_of(opened, arm, metric, cls) for metric, cls in COLUMNS]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    lines += ["", "Difference from the baseline:", "", lines[-len(study["arms"]) - 2], lines[-len(study["arms"]) - 1]]
    for arm in study["arms"]:
        if arm != "baseline":
            cells = [difference_of(compared, arm, metric, cls) for metric, cls in COLUMNS]
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def mean_of(estimates: list[dict[str, Any]], arm: str, metric: str, cls: str | None) -> str:
    found = [
        row
        for row in estimates
        if (row["arm"], row["metric"], row["class"]) == (arm, metric, cls)
        and row["operating_point"] in (None, "argmax")
        and row["subgroup"] is None
        and row["value"] is not None
    ]
    if not found:
        return "-"
    value, low, high = (sum(row[key] for row in found) / len(found) for key in ("value", "low", "high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def difference_of(rows: list[dict[str, Any]], arm: str, metric: str, cls: str | None) -> str:
    for row in rows:
        if (row["arm"], row["metric"], row["class"]) == (arm, metric, cls) and row["difference"] is not None:
            return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    return "-"


if __name__ == "__main__":
    main()
