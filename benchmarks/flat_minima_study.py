"""Do flat minima help where classes are rare? python benchmarks/flat_minima_study.py DATA OUT

DATA is the folder of `ham10000`; lesions stay in one part. First the radius rho of every method is chosen from a stated
grid, on the validation part, with a seed of its own (`OUT/rho`). Then eight arms that differ in nothing else train on
the same seeds (`OUT/main`), the test part opens once, and differences are paired over lesions and seeds.

Both studies resume; `--only-train` leaves the test part closed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from raresight import Study
from raresight.core.files import read_jsonl, write_json, write_text
from raresight.core.progress import Terminal

EMA = "ema"
GRID: dict[str, tuple[float, ...]] = {
    "sam": (0.02, 0.05, 0.2),
    "msam": (0.03, 0.1, 0.3, 1.0),
    "msam_norm": (0.1, 0.5, 2.0),
    "imbsam": (0.05, 0.2),
}
RHO_SEED = 100


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


if __name__ == "__main__":
    main()
