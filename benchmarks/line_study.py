"""The line on real images, test part opened, as a dated table: python benchmarks/line_study.py DATASET DATA OUT [...]

DATASET is ham10000, nih_cxr14_64 or pneumoniamnist; DATA the folder of that data set; OUT a folder for the study. The
study resumes where it was left. `--table FILE` writes the table as Markdown.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from raresight import Study
from raresight.core.files import read_json, write_text
from raresight.core.progress import Terminal
from raresight.data.read import ReadOptions

AUGMENTED = {
    "baseline": [],
    "cost_sensitive": ["class_weights"],
    "focal": [{"focal": {"gamma": 2}}],
    "heavy_augment": ["heavy_augment"],
    "smote": ["smote"],
    "hybrid": ["heavy_augment", "smote", {"focal": {"gamma": 2}}],
}
PLAIN = {"baseline": [], "cost_sensitive": ["class_weights"], "focal": [{"focal": {"gamma": 2}}], "smote": ["smote"]}
DATASETS: dict[str, dict[str, Any]] = {
    "ham10000": {"kind": "ham10000", "arms": AUGMENTED, "critical": ["mel", "bcc", "akiec"], "size": 64},
    "nih_cxr14_64": {"kind": "chestxray14", "arms": AUGMENTED, "critical": ["Pneumothorax", "Hernia"], "size": 64},
    "pneumoniamnist": {"kind": "medmnist", "arms": PLAIN, "critical": ["normal"], "size": 28, "waived": True},
}
METRICS = ("macro_f1", "balanced_accuracy", "macro_auroc", "macro_auprc")


def main() -> None:
    options = arguments()
    dataset = DATASETS[options.dataset]
    set_up(options, dataset)
    study = Study.open(options.out, Terminal())
    started = time.perf_counter()
    study.check()
    study.split()
    study.audit()
    study.train()
    trained = time.perf_counter()
    study.tune()
    study.evaluate()
    study.open_test()
    study.compare()
    study.report()
    evaluated = time.perf_counter()
    seconds = {"training": trained - started, "evaluation": evaluated - trained}
    times = options.out / "benchmark_seconds.json"
    if not times.exists():
        times.write_text(json.dumps(seconds), encoding="utf-8")
    text = table(options, json.loads(times.read_text(encoding="utf-8")))
    print(text)
    if options.table:
        write_text(options.table, text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--table", type=Path)
    return parser.parse_args()


def set_up(options: argparse.Namespace, dataset: dict[str, Any]) -> None:
    """The study as `raresight init` writes it, with this benchmark's budget and arms, and a fresh split."""
    path = options.out / "study.yaml"
    if path.exists():
        return
    waived = ReadOptions(one_image_per_patient=bool(dataset.get("waived")))
    Study.init(options.out, dataset["kind"], options.data, waived)
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["split"] = {"train": 0.7, "val": 0.1, "test": 0.2, "group": config["split"]["group"], "seed": 0}
    config["task"]["critical"] = dataset["critical"]
    config["image"]["size"] = dataset["size"]
    config["model"] = {"backbone": options.backbone, "pretrained": False}
    config["train"] = {"steps": options.steps, "batch": 64, "lr": 1e-3, "select": "macro_auprc"}
    config["train"]["precision"] = options.precision
    config["seeds"] = options.seeds
    config["arms"] = dataset["arms"]
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def table(options: argparse.Namespace, seconds: dict[str, float]) -> str:
    folder = options.out
    config = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    audit = read_json(folder / "audit/audit.json")
    lock = read_json(folder / "lock.json")["runtime"]
    rows = read_json(folder / "test/opening-1/estimates.json")["estimates"]
    compared = read_json(folder / "compare/compare.json")
    shown = [
        *config["task"]["critical"],
        *(c["name"] for c in sorted(audit["classes"], key=lambda c: c["prevalence"])[:2]),
    ]
    shown = list(dict.fromkeys(shown))
    share = seconds["evaluation"] / seconds["training"]
    seeds = " ".join(map(str, options.seeds))
    lines = [
        f"# {options.dataset}: the line, test part opened once",
        "",
        f"{date.today().isoformat()} - `python benchmarks/line_study.py {options.dataset} DATA OUT"
        f" --steps {options.steps} --precision {options.precision} --seeds {seeds}`",
        "",
        f"{audit['n_images']:,} images, {audit['n_patients']:,} groups by {audit['group_by']};"
        f" {config['image']['size']} px,"
        f" {config['model']['backbone']} from scratch, {options.steps} steps of {config['train']['batch']},"
        f" seeds {seeds};"
        f" {lock['device']}, {lock['dtype']}, {lock.get('threads')} threads, torch {lock.get('torch', '')}.",
        f"Evaluation, intervals, comparison and report of all arms took {share:.1%} of the training time.",
        "",
        "Test part, default operating point, 95% intervals over patients. `-` = not estimable.",
        "",
        f"| arm | seed | {' | '.join(METRICS)} |",
        "|---|---|" + "---|" * len(METRICS),
    ]
    runs = list(dict.fromkeys((row["arm"], row["seed"]) for row in rows))
    lines += [
        f"| {arm} | {seed} | {' | '.join(cell(rows, arm, seed, metric, None) for metric in METRICS)} |"
        for arm, seed in runs
    ]
    for metric in ("recall", "auprc"):
        lines += ["", f"## {metric} per class", "", f"| arm | seed | {' | '.join(heads(rows, shown))} |"]
        lines += ["|---|---|" + "---|" * len(shown)]
        lines += [f"| {a} | {s} | {' | '.join(cell(rows, a, s, metric, c) for c in shown)} |" for a, s in runs]
    lines += [
        "",
        "## Against the baseline, test part",
        "",
        "| arm | metric | class | difference | p (Holm) | family |",
        "|" + "---|" * 6,
    ]
    for row in compared["comparisons"]:
        if row["part"] == "test" and row["difference"] is not None and (row["class"] is None or row["class"] in shown):
            p = row["p_adjusted"] if row["p_adjusted"] is not None else row["p"]
            shown_p = "" if p is None else f"{p:.3f}"
            lines.append(
                f"| {row['arm']} | {row['metric']} | {row['class'] or ''} | {row['difference']:+.3f}"
                f" [{row['low']:+.3f}, {row['high']:+.3f}] | {shown_p} | {row['family']} |"
            )
    lines += ["", "## Recommendation (chosen on validation)", ""]
    lines += [f"- {row['class']}: **{row['arm']}** - {row['reason']}" for row in compared["recommendation"]]
    lines += [f"- to deploy: **{compared['deploy']['arm']}** - {compared['deploy']['reason']}", ""]
    return "\n".join(lines)


def heads(rows: list[dict[str, Any]], classes: list[str]) -> list[str]:
    """Class names with the patients that carry them in the test part."""
    patients = {row["class"]: row["n_positive_patients"] for row in rows if row["metric"] == "auprc" and row["class"]}
    return [f"{name} ({patients.get(name, 0)})" for name in classes]


def cell(rows: list[dict[str, Any]], arm: str, seed: int, metric: str, name: str | None) -> str:
    for row in rows:
        default = row["operating_point"] in (None, "argmax", "0.5")
        if (row["arm"], row["seed"], row["metric"], row["class"]) == (arm, seed, metric, name) and default:
            if row["value"] is None:
                return "-"
            return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    return "-"


if __name__ == "__main__":
    main()
