"""Which loss stands label noise? Red-cell crops, 0, 5 and 10% of the training labels planted wrong.

    python benchmarks/label_noise.py DATA OUT [--table FILE]

DATA is the folder of `chula_rbc12`. A wrong label is one of the other classes, all alike likely; the wrong labels of 5%
are among those of 10%. The held-out part keeps its labels and chooses nothing: a run is judged with its last weights
at the default operating point. Beside the figures stands what each loss loses from 0 to 10%, less what cross-entropy
loses: below 0 it is the less robust one.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from real_sets import cells

from raresight import Study
from raresight.core.files import write_text
from raresight.core.predictions import Predictions
from raresight.core.progress import Terminal
from raresight.core.run import StudyFolder
from raresight.core.seeds import numpy_rng
from raresight.core.task import Task
from raresight.data.read import ReadOptions
from raresight.evaluate.counts import count, decide
from raresight.evaluate.resampled import Resampled, macro_areas, macro_of

LEVELS = (0.0, 0.05, 0.10)
ARMS = {"cross_entropy": [], "weighted": ["class_weights"], "focal": [{"focal": {"gamma": 2}}]}
FIGURES = ("macro_f1", "balanced_accuracy", "macro_auprc")
RESAMPLES = 1000


def main() -> None:
    options = arguments()
    clean = cells(options.data, options.out)
    drawn: dict[tuple[float, str], dict[str, np.ndarray]] = {}
    value: dict[tuple[float, str], dict[str, float]] = {}
    for level in LEVELS:
        study = prepared(options, clean, level)
        study.train()
        for arm in ARMS:
            value[level, arm], drawn[level, arm] = judged(study.path, arm, options.seeds)
    text = table(options, value, drawn)
    print(text)
    if options.table:
        write_text(options.table, text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--table", type=Path)
    return parser.parse_args()


def prepared(options: argparse.Namespace, clean: Path, level: float) -> Study:
    """The study of one level, checked and split; all levels share the split of the clean one."""
    out = options.out / f"noise-{level:.2f}"
    if not (out / "study.yaml").exists():
        source = clean if level == 0 else noisy(options.out, clean, level)
        Study.init(out, "csv", source, ReadOptions(image_col="image", label_col="label", patient_col="block"))
        config = yaml.safe_load((out / "study.yaml").read_text(encoding="utf-8"))
        shares = {"train": 0.25, "val": 0.75, "test": 0.0, "group": "patient_id", "seed": 0}
        config["split"] = shares if level == 0 else {"column": "split", "group": "patient_id"}
        config["task"] |= {"critical": ["schistocyte", "teardrop"]}
        config["image"] = {"size": 40, "preset": "none", "channels": 3}
        config["model"] = {"backbone": "resnet18", "pretrained": False}
        budget = {"steps": options.steps, "evaluate_every": options.steps, "batch": 64, "lr": 1e-3}
        config["train"] = budget | {"precision": options.precision, "threads": 1}
        config |= {"seeds": options.seeds, "arms": ARMS}
        write_text(out / "study.yaml", yaml.safe_dump(config, sort_keys=False))
    study = Study.open(out, Terminal())
    study.check()
    study.split()
    return study


def noisy(out: Path, clean: Path, level: float) -> Path:
    """The clean table with `level` of its training labels replaced, and the clean study's split as a column."""
    table = pd.read_csv(clean)
    manifest = pd.read_csv(out / "noise-0.00" / "data" / "manifest.csv", dtype=str)
    part = pd.read_csv(out / "noise-0.00" / "data" / "split.csv", dtype=str).set_index("case")["part"]
    table["split"] = table["image"].map(manifest.set_index("image")["case"].map(part))
    table = table[table["split"].notna()].reset_index(drop=True)
    rng = numpy_rng("label noise")
    classes = sorted(table["label"].unique())
    training = np.flatnonzero(table["split"] == "train")
    order = rng.permutation(training)
    others = rng.integers(1, len(classes), len(training))
    chosen = slice(0, round(level * len(training)))
    codes = table["label"].map(classes.index).to_numpy().copy()
    codes[order[chosen]] = (codes[order[chosen]] + others[chosen]) % len(classes)
    table["label"] = [classes[code] for code in codes]
    path = out / f"cells_noise_{level:.2f}.csv"
    table.to_csv(path, index=False)
    return path


def judged(study: Path, arm: str, seeds: list[int]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Figures on the held-out part: means over seeds, and the same on resamples of blocks and seeds."""
    config = yaml.safe_load((study / "study.yaml").read_text(encoding="utf-8"))
    task = Task(config["task"]["kind"], tuple(config["task"]["classes"]), tuple(config["task"]["critical"]))
    values, draws = [], []
    for seed in seeds:
        held = StudyFolder(study).run(arm, seed).val_predictions
        predictions = Predictions.load(held, task, arm=arm, seed=seed, part="val")
        resampled = Resampled(predictions)
        alarm = decide(predictions.prob, task.kind)
        points = {"argmax": resampled.counts(alarm)}
        # The names seed the resamples: the same blocks for every level, arm and seed.
        macro = resampled.macro(points, RESAMPLES, 0, "label noise")[0]
        draws.append({name.removesuffix("@argmax"): column for name, column in macro.items()})
        figures = {name: float(v) for name, v in macro_of(count(predictions.target, alarm), task.kind).items()}
        values.append(figures | macro_areas(predictions.target, predictions.prob))
    which = numpy_rng("label noise seeds").integers(0, len(seeds), (len(seeds), RESAMPLES))
    columns = np.arange(RESAMPLES)[None, :]
    pooled = {name: np.stack([draw[name] for draw in draws])[which, columns].mean(axis=0) for name in FIGURES}
    return {name: float(np.mean([v[name] for v in values])) for name in FIGURES}, pooled


def table(
    options: argparse.Namespace,
    value: dict[tuple[float, str], dict[str, float]],
    drawn: dict[tuple[float, str], dict[str, np.ndarray]],
) -> str:
    lines = [
        f"# Label noise on red-cell crops, {date.today().isoformat()}",
        "",
        f"`python benchmarks/label_noise.py DATA OUT --steps {options.steps}`, two CPU cores.",
        f"resnet18 from scratch, 40 px, 12 classes, seeds {', '.join(map(str, options.seeds))}.",
        "Figures on the held-out part (three quarters of the smears), means over seeds; 95% intervals by bootstrap of",
        "blocks of smears and of seeds.",
        "",
        "| planted noise | loss | " + " | ".join(FIGURES) + " |",
        "|---|---|" + "---|" * len(FIGURES),
    ]
    for level in LEVELS:
        for arm in ARMS:
            cell = [written(value[level, arm][name], drawn[level, arm][name]) for name in FIGURES]
            lines.append(f"| {level:.0%} | {arm} | " + " | ".join(cell) + " |")
    lines += [
        "",
        "What a loss loses from 0 to 10%, less what cross-entropy loses (above 0: it stands noise better):",
        "",
    ]
    lines += ["| loss | " + " | ".join(FIGURES) + " |", "|---|" + "---|" * len(FIGURES)]
    for arm in list(ARMS)[1:]:
        cell = []
        for name in FIGURES:

            def kept(of: dict, arm: str = arm, name: str = name) -> float | np.ndarray:
                change = of[LEVELS[-1], arm][name] - of[LEVELS[0], arm][name]
                return change - (of[LEVELS[-1], "cross_entropy"][name] - of[LEVELS[0], "cross_entropy"][name])

            cell.append(written(kept(value), kept(drawn), sign=True))
        lines.append(f"| {arm} | " + " | ".join(cell) + " |")
    return "\n".join([*lines, ""])


def written(value: float, draws: np.ndarray, *, sign: bool = False) -> str:
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    mark = "+" if sign else ""
    return f"{value:{mark}.3f} [{low:{mark}.3f}, {high:{mark}.3f}]"


if __name__ == "__main__":
    main()
