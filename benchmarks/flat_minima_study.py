"""Do flat minima help where classes are rare? python benchmarks/flat_minima_study.py DATA OUT [--table FILE]

DATA is the folder of `ham10000`; lesions stay in one part. First the radius rho of every method is chosen from a stated
grid, on the validation part, with a seed of its own (`OUT/rho`). Then eight arms that differ in nothing else train on
the same seeds (`OUT/main`), the test part opens once, and differences are paired over lesions and seeds.

Both studies resume; `--only-train` leaves the test part closed.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from methods_study import difference_of, mean_of

from raresight import Study
from raresight.core.files import read_json, read_jsonl, write_json, write_text
from raresight.core.predictions import Predictions
from raresight.core.progress import Terminal
from raresight.evaluate.compare import compare
from raresight.verbs.compare import last_opening, opened_predictions

EMA = "ema"
GRID: dict[str, tuple[float, ...]] = {
    "sam": (0.02, 0.05, 0.2),
    "msam": (0.03, 0.1, 0.3, 1.0),
    "msam_norm": (0.1, 0.5, 2.0),
    "imbsam": (0.05, 0.2),
}
RHO_SEED = 100
FIGURES = (
    ("macro_f1", None),
    ("macro_auprc", None),
    ("recall", "mel"),
    ("recall_at_specificity_90", "mel"),
    ("auprc", "akiec"),
    ("auprc", "bcc"),
    ("auprc", "df"),
    ("auprc", "vasc"),
)
DRAWN = {
    ("macro_f1", None): "macro-F1",
    ("macro_auprc", None): "macro AUPRC",
    ("recall", "mel"): "recall of melanoma",
    ("recall_at_specificity_90", "mel"): "... at 90% specificity",
}
# Beside the baseline: what else each question compares with what.
QUESTIONS = (
    ("plain training of the same cost as SAM", "plain_twice", ("sam", "sam_ema", "msam_ema")),
    ("exact SAM with the mean of its weights", "sam_ema", ("msam_ema", "msam_norm_ema", "imbsam_ema")),
)


def with_rho(method: str, rho: float) -> dict[str, Any]:
    name, _, scope = method.partition("_")
    return {name: {"rho": rho} | ({"scope": scope} if scope else {})}


def grid_arms() -> dict[str, list[Any]]:
    pairs = [(method, rho) for method, rhos in GRID.items() for rho in rhos]
    return {f"{method}_{rho:g}": ["augment", with_rho(method, rho), EMA] for method, rho in pairs}


def main_arms(rho: dict[str, float]) -> dict[str, list[Any]]:
    return {
        "baseline": ["augment"],
        "ema": ["augment", EMA],
        "sam": ["augment", with_rho("sam", rho["sam"])],
        "sam_ema": ["augment", with_rho("sam", rho["sam"]), EMA],
        "msam_ema": ["augment", with_rho("msam", rho["msam"]), EMA],
        "msam_norm_ema": ["augment", with_rho("msam_norm", rho["msam_norm"]), EMA],
        "imbsam_ema": ["augment", with_rho("imbsam", rho["imbsam"]), EMA],
        "plain_twice": ["augment", {"budget": 2}],
    }


def main() -> None:
    options = arguments()
    search = opened(options, "rho", {"baseline": ["augment"]} | grid_arms(), [RHO_SEED])
    search.train(arms=list(grid_arms()))
    rho = chosen(options.out / "rho")
    write_json(options.out / "rho.json", rho)
    study = opened(options, "main", main_arms({method: found["rho"] for method, found in rho.items()}), options.seeds)
    study.train()
    if options.only_train:
        return
    study.tune()
    study.evaluate()
    if not (options.out / "main" / "test" / "opening-1" / "predictions.parquet").exists():
        study.open_test()
    study.compare()
    study.report()
    text = table(options, study, rho)
    print(text)
    if options.table:
        write_text(options.table, text)
    if options.figure:
        draw(study, options.figure)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--backbone", default="resnet10t")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only-train", action="store_true")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--figure", type=Path, help="an SVG of the differences from plain training")
    return parser.parse_args()


def opened(options: argparse.Namespace, name: str, arms: dict[str, Any], seeds: list[int]) -> Study:
    """The study in `OUT/name`, made where it is not there yet, checked and split."""
    folder = options.out / name
    if not (folder / "study.yaml").exists():
        Study.init(folder, "ham10000", options.data)
        path = folder / "study.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config["split"]["seed"] = 2  # seeds 0 and 1 belong to studies whose test parts are spent
        config["task"]["critical"] = ["mel", "bcc", "akiec"]
        config["image"]["size"] = options.size
        config["model"] = {"backbone": options.backbone, "pretrained": False}
        config["train"] = {
            "steps": options.steps,
            "batch": options.batch,
            "lr": 1e-3,
            "select": "macro_auprc",
            "precision": "bf16",
            "threads": options.threads,
        }
        config["seeds"] = seeds
        config["arms"] = arms
        write_text(path, yaml.safe_dump(config, sort_keys=False))
    study = Study.open(folder, Terminal())
    study.check()
    study.split()
    return study


def chosen(folder: Path) -> dict[str, dict[str, Any]]:
    """Per method the radius with the highest validation score, and the scores of all."""
    found = {}
    for method, rhos in GRID.items():
        scores = {rho: best_score(folder / "arms" / f"{method}_{rho:g}" / f"seed-{RHO_SEED}") for rho in rhos}
        rho = max(scores, key=lambda value: scores[value])
        found[method] = {"rho": rho, "scores": {f"{key:g}": value for key, value in scores.items()}}
    return found


def best_score(run: Path) -> float:
    return max(event["score"] for event in read_jsonl(run / "events.jsonl") if event["score"] is not None)


def table(options: argparse.Namespace, study: Study, rho: dict[str, dict[str, Any]]) -> str:
    folder = options.out / "main"
    config = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    train = config["train"]
    arms = opened_arms(study)
    first = next(iter(arms.values()))[0]
    images, lesions = len(first.table), first.table["patient_id"].nunique()
    names = [f"{metric}{f' of {cls}' if cls else ''}" for metric, cls in FIGURES]
    head = ["| arm | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    estimates = read_json(folder / "test" / "opening-1" / "estimates.json")["estimates"]
    lines = [
        f"# Flat minima on HAM10000, {date.today().isoformat()}",
        "",
        f"`python benchmarks/flat_minima_study.py DATA OUT --steps {train['steps']} --batch {train['batch']} "
        f"--size {config['image']['size']}`: {config['model']['backbone']} from random weights,",
        f"{config['image']['size']} px, ordinary augmentation, cross-entropy, AdamW; seeds "
        f"{', '.join(map(str, config['seeds']))}; lesions split 70/10/20; test part {images:,} cases of {lesions:,} "
        "groups, opened once.",
        "",
        "## The radius, chosen on validation",
        "",
        f"Macro AUPRC of the validation part, one seed ({RHO_SEED}) that the study itself does not use. All candidates "
        "average their weights (EMA).",
        "",
        "| method | rho: score | chosen |",
        "|---|---|---|",
    ]
    for method, found in rho.items():
        scores = ", ".join(f"{value}: {score:.3f}" for value, score in found["scores"].items())
        lines.append(f"| {method} | {scores} | {found['rho']:g} |")
    lines += ["", "## Values", "", "Means over seeds of the value and of the ends of its 95% interval.", "", *head]
    for arm in arms:
        lines.append(f"| {arm} | " + " | ".join(mean_of(estimates, arm, *figure) for figure in FIGURES) + " |")
    lines += ["", "## Differences from plain training", "", PAIRED, "", *head]
    lines += differences(arms, "baseline", [arm for arm in arms if arm != "baseline"])
    for words, reference, others in QUESTIONS:
        lines += ["", f"## Differences from {words} (`{reference}`)", "", *head]
        lines += differences(arms, reference, others)
    return "\n".join([*lines, ""])


PAIRED = "Arm less baseline on the same lesions, 95% intervals over lesions and seeds. Not adjusted for their number."


def opened_arms(study: Study) -> dict[str, list[Predictions]]:
    inner = study._opened()
    opening = last_opening(inner)
    assert opening is not None
    return opened_predictions(inner, opening)


def draw(study: Study, path: Path) -> None:
    """Every arm's difference from plain training with its 95% interval, in four figures side by side."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    arms = opened_arms(study)
    rows = compare(arms, baseline="baseline", part="test", resamples=2000)
    names = [arm for arm in arms if arm != "baseline"]
    with mpl.rc_context({"svg.hashsalt": "raresight", "font.size": 9}):
        canvas = Figure(figsize=(11, 0.36 * len(names) + 1.2), layout="constrained")
        for axes, (metric, cls) in zip(canvas.subplots(1, len(DRAWN), sharey=True), DRAWN, strict=True):
            for place, arm in enumerate(names):
                row = row_of(rows, arm, metric, cls)
                axes.plot([row["low"], row["high"]], [place, place], color="0.45", lw=1.5)
                axes.plot(row["difference"], place, "o", color="C0", ms=4)
            axes.axvline(0, color="0.7", lw=0.8, zorder=0)
            axes.set_yticks(range(len(names)), names)
            axes.set_title(DRAWN[metric, cls])
            axes.set_xlabel("arm less plain training")
            axes.spines[["top", "right"]].set_visible(False)
        axes.invert_yaxis()
        canvas.savefig(path, format="svg", metadata={"Date": None})


def row_of(rows: list[dict[str, Any]], arm: str, metric: str, cls: str | None) -> dict[str, Any]:
    return next(row for row in rows if (row["arm"], row["metric"], row["class"]) == (arm, metric, cls))


def differences(arms: dict[str, list[Predictions]], reference: str, others: Any) -> list[str]:
    chosen = {name: arms[name] for name in (reference, *others)}
    rows = compare(chosen, baseline=reference, part="test", resamples=2000)
    cells = {arm: [difference_of(rows, arm, *figure) for figure in FIGURES] for arm in others}
    return [f"| {arm} | " + " | ".join(row) + " |" for arm, row in cells.items()]


if __name__ == "__main__":
    main()
