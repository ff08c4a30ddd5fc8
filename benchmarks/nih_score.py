"""`raresight score` over the whole ChestX-ray14 label table: 112,120 films of 30,805 patients, 14 findings.

Labels, their co-occurrence and the patients are the real ones; the scores are made up, since the table has no images:
for each finding, normal scores of unit variance whose positives lie higher by sqrt(2) Φ⁻¹(AUROC), with the AUROC that
is stated for it, turned into probabilities of the finding's prevalence by Bayes' rule. Three patients in ten are the
validation part, on which thresholds and calibrators are fitted; with `--all`, every film is judged and none is fitted.
Nothing of the table is kept: it is written into a temporary folder and only figures are printed.

    python benchmarks/nih_score.py ../shared/data --table nih.md
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import norm
from score_speed import run

# Stated, not measured: about what published networks reach on these labels, as whole steps of 0.05.
AUROC = {
    "Atelectasis": 0.80,
    "Cardiomegaly": 0.90,
    "Consolidation": 0.75,
    "Edema": 0.85,
    "Effusion": 0.85,
    "Emphysema": 0.90,
    "Fibrosis": 0.80,
    "Hernia": 0.90,
    "Infiltration": 0.70,
    "Mass": 0.80,
    "Nodule": 0.75,
    "Pleural_Thickening": 0.75,
    "Pneumonia": 0.75,
    "Pneumothorax": 0.85,
}


def predicted(labels: pd.DataFrame) -> pd.DataFrame:
    """A predictions table: `case`, `patient_id`, `sex`, `view`, and `label_*` and `prob_*` of the fourteen findings."""
    rng = np.random.default_rng(0)
    held = labels["labels"].str.split("|")
    columns = {
        "case": labels["image"],
        "patient_id": labels["patient_id"],
        "sex": labels["sex"],
        "view": labels["view"],
    }
    for name, area in AUROC.items():
        has = held.map(lambda found, name=name: name in found).to_numpy()
        apart = np.sqrt(2) * norm.ppf(area)
        score = rng.normal(size=len(has)) + apart * has
        # log odds of N(apart, 1) against N(0, 1), and of the prevalence
        probability = expit(apart * score - apart**2 / 2 + logit(has.mean()))
        columns |= {f"label_{name}": pd.Series(has.astype(int)), f"prob_{name}": pd.Series(probability.round(6))}
    return pd.DataFrame(columns)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("data", type=Path, help="the folder that holds nih_cxr14_tables/")
    ask.add_argument("--resamples", type=int, default=2000)
    ask.add_argument("--images", type=int, help="the first films only, to try it out")
    ask.add_argument("--all", action="store_true", help="judge every film, and fit nothing")
    ask.add_argument("--table", type=Path)
    given = ask.parse_args()
    labels = pd.read_csv(given.data / "nih_cxr14_tables" / "labels.csv.gz", dtype=str).head(given.images or 10**9)
    films = predicted(labels)
    patients = np.unique(films["patient_id"])
    apart = np.random.default_rng(1).permutation(patients)[: len(patients) * 3 // 10]
    of_val = films["patient_id"].isin(apart) if not given.all else pd.Series(False, index=films.index)
    with tempfile.TemporaryDirectory() as folder:
        tests, val, out = (Path(folder) / name for name in ("simulated.csv", "val.csv", "out"))
        films[~of_val].to_csv(tests, index=False)
        if not given.all:
            films[of_val].to_csv(val, index=False)
        wall, cpu, memory, torch = run(tests, None if given.all else val, out, given.resamples)
        size = (out / "report.html").stat().st_size / 1e6
        rows = json.loads((out / "estimates.json").read_text(encoding="utf-8"))["estimates"]
    assert not torch, "score imported torch"
    judged = films[~of_val]
    lines = [
        f"{len(judged):,} films of {judged['patient_id'].nunique():,} patients judged"
        + ("" if given.all else f", {int(of_val.sum()):,} of {len(apart):,} other patients to fit on")
        + f"; {given.resamples:,} resamples; figures and report ({size:.1f} MB) included: {wall:.1f} s wall, "
        f"{cpu:.1f} s CPU, {memory:.2f} GiB at the peak.",
        "",
        "| finding | positive patients | AUROC stated | AUROC | average precision | recall | threshold from |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, stated in AUROC.items():
        of = {(row["metric"], row["operating_point"]): row for row in rows if row["class"] == name}
        point = "0.5" if given.all else "tuned"
        cells = [_text(of[metric, at]) for metric, at in (("auroc", None), ("auprc", None), ("recall", point))]
        n = of["auroc", None]["n_positive_patients"]
        lines.append(
            f"| {name} | {n:,} | {stated:.2f} | {' | '.join(cells)} | {'0.5' if given.all else 'validation'} |"
        )
    print("\n".join(lines))
    if given.table:
        given.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(row: dict[str, object]) -> str:
    if row["value"] is None:
        return "not estimable"
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


if __name__ == "__main__":
    main()
