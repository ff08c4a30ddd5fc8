"""`score` for anybody: units, subgroups, costs, floors, logits, priors and several models, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.flows.conftest import Answer, Cli

CLASSES = ("mel", "bkl", "nv")


def make(path: Path, *, n: int = 240, first: int = 0, seed: int = 0, skill: float = 2.0, logits: bool = False) -> Path:
    """Two photographs a lesion, one lesion a patient; a sex and an age each. `first` numbers the patients."""
    rng = np.random.default_rng(seed)
    lesion = np.repeat(np.arange(n // 2), 2)
    truth = np.random.default_rng(99 + first).choice(3, n // 2, p=[0.3, 0.2, 0.5])[lesion]
    z = rng.normal(size=(n, 3)) + skill * np.eye(3)[truth]
    prob = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            "case": [f"img{first + i}" for i in range(n)],
            "patient_id": [f"p{first + i}" for i in lesion],
            "lesion_id": [f"l{first + i}" for i in lesion],
            "sex": np.where(lesion % 2 == 0, "female", "male"),
            "age": 20 + lesion % 60,
            "label": np.array(CLASSES)[truth],
        }
    )
    for k, name in enumerate(CLASSES):
        table[f"prob_{name}"] = z[:, k] if logits else prob[:, k]
    table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return path


def scored(cli: Cli, out: Path, *args: object) -> tuple[Answer, list[dict[str, Any]]]:
    answer = cli("score", *args, "--resamples", 100, "--out", out)
    assert answer.code == 0, answer.err
    assert (out / "report.html").exists() and (out / "report.json").exists()
    return answer, json.loads((out / "estimates.json").read_text(encoding="utf-8"))["estimates"]


def row(rows: list[dict[str, Any]], metric: str, **wanted: object) -> dict[str, Any]:
    found = [r for r in rows if r["metric"] == metric and all(r[key] == value for key, value in wanted.items())]
    assert len(found) == 1, (metric, wanted, len(found))
    return found[0]


def test_without_validation_nothing_is_fitted_and_it_says_why(tmp_path: Path, cli: Cli) -> None:
    answer, rows = scored(cli, tmp_path / "out", make(tmp_path / "m.csv"))
    assert {r["operating_point"] for r in rows} == {None, "argmax"}
    assert "no threshold and no calibrator was fitted" in answer.err
    assert "no threshold and no calibrator was fitted" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_parquet_and_csv_and_logits_say_the_same(tmp_path: Path, cli: Cli) -> None:
    made = [make(tmp_path / "a.csv"), make(tmp_path / "b.parquet"), make(tmp_path / "c.csv", logits=True)]
    first, second, third = (
        scored(cli, tmp_path / path.stem, path, *(["--scores", "logits"] if path.stem == "c" else []))[1]
        for path in made
    )
    for a, b, c in zip(first, second, third, strict=True):
        assert (a["metric"], a["class"]) == (b["metric"], b["class"]) == (c["metric"], c["class"])
        for other in (b, c):  # slopes are found in steps, and logits give probabilities back but for rounding
            assert a["value"] == (None if other["value"] is None else pytest.approx(other["value"], abs=1e-6))


def test_decisions_count_lesions(tmp_path: Path, cli: Cli) -> None:
    path = make(tmp_path / "m.csv")
    _, rows = scored(cli, tmp_path / "out", path, "--unit", "lesion", "--unit-column", "lesion_id")
    found = row(rows, "recall", **{"class": "mel"})
    assert {r["unit"] for r in rows} == {"lesion"} and found["n_images"] == 120
    table = pd.read_csv(path)
    by = table.groupby("lesion_id", sort=False)[[f"prob_{name}" for name in CLASSES]].max()
    said = by.div(by.sum(axis=1), axis=0).to_numpy().argmax(axis=1)
    truth = table.groupby("lesion_id", sort=False)["label"].first().to_numpy()
    assert found["value"] == pytest.approx(np.mean(said[truth == "mel"] == 0))
    assert scored(cli, tmp_path / "two", path, "--unit-column", "lesion_id")[1] == rows
    _, by_patient = scored(cli, tmp_path / "three", path, "--unit", "patient", "--aggregate", "mean")
    mean = table.groupby("patient_id", sort=False)[[f"prob_{name}" for name in CLASSES]].mean().to_numpy()
    assert row(by_patient, "recall", **{"class": "mel"})["value"] == pytest.approx(
        np.mean(mean.argmax(axis=1)[truth == "mel"] == 0)
    )


def test_subgroups_by_several_columns(tmp_path: Path, cli: Cli) -> None:
    _, rows = scored(cli, tmp_path / "out", make(tmp_path / "m.csv"), "--subgroups", "sex, age")
    groups = {r["subgroup"] for r in rows if r["subgroup"]}
    assert {"sex=female", "sex=male"} <= groups and any(name.startswith("age=") for name in groups)
    assert row(rows, "recall", **{"class": "mel", "subgroup": "sex=female"})["n_positive_patients"] >= 10
    assert "exploratory" in next(r for r in rows if r["metric"] == "recall_difference")["reason"]
    answer = cli("score", tmp_path / "m.csv", "--subgroups", "sx", "--out", tmp_path / "no")
    assert answer.code == 2 and "RS-C34" in answer.err and "did you mean 'sex'?" in answer.err
    assert not (tmp_path / "no").exists()


def test_thresholds_fitted_on_validation_and_a_floor(tmp_path: Path, cli: Cli) -> None:
    test, val = make(tmp_path / "m.csv"), make(tmp_path / "v.csv", first=1000, seed=5)
    costs = tmp_path / "costs.yaml"
    costs.write_text(
        "missed: {mel: 20}\nmatrix: {mel: {nv: 30}}\nfloors: {bkl: {sensitivity: 1.0}}\n", encoding="utf-8"
    )
    out = tmp_path / "out"
    _, rows = scored(cli, out, test, "--val", val, "--costs", costs, "--critical", "mel")
    assert {r["operating_point"] for r in rows} == {None, "argmax", "tuned", "least_cost"}
    written = json.loads((out / "estimates.json").read_text(encoding="utf-8"))
    chosen = written["operating_points"]["m"]["thresholds"]["bkl"]
    assert chosen["recall"] == 1.0, "the floor is reached where it is chosen"
    assert row(rows, "recall", **{"class": "bkl", "operating_point": "tuned"})["threshold"] == chosen["threshold"]
    worst = written["confusions"]["m"][0]
    assert (worst["true"], worst["predicted"], worst["cost"]) == ("mel", "nv", 30.0)
    assert worst["harm_low"] <= worst["harm"] <= worst["harm_high"]


def test_frozen_thresholds_are_judged_as_they_are(tmp_path: Path, cli: Cli) -> None:
    path, frozen = make(tmp_path / "m.csv"), tmp_path / "t.yaml"
    frozen.write_text("mel: 0.3\n", encoding="utf-8")
    answer, rows = scored(cli, tmp_path / "out", path, "--thresholds", frozen)
    table = pd.read_csv(path)
    found = row(rows, "recall", **{"class": "mel", "operating_point": "frozen"})
    assert found["value"] == pytest.approx((table.loc[table["label"] == "mel", "prob_mel"] >= 0.3).mean())
    assert row(rows, "recall", **{"class": "nv", "operating_point": "frozen"})["value"] is None
    assert "no threshold and no calibrator" not in answer.err


def test_the_prior_of_training_is_taken_out(tmp_path: Path, cli: Cli) -> None:
    path, prior = make(tmp_path / "m.csv"), tmp_path / "prior.yaml"
    trained, natural = (0.5, 0.3, 0.2), (0.1, 0.2, 0.7)
    lines = [f"{c}: {{trained: {t}, natural: {q}}}" for c, t, q in zip(CLASSES, trained, natural, strict=True)]
    prior.write_text("\n".join(lines), encoding="utf-8")
    answer, rows = scored(cli, tmp_path / "out", path, "--train-prior", prior)
    assert "prior that training implied" in answer.err
    table = pd.read_csv(path)
    moved = table[[f"prob_{c}" for c in CLASSES]].to_numpy() * np.array(natural) / np.array(trained)
    said = moved.argmax(axis=1) == 0
    found = row(rows, "recall", **{"class": "mel"})["value"]
    assert found == pytest.approx(said[table["label"] == "mel"].mean())


def test_several_models_are_compared_in_pairs(tmp_path: Path, cli: Cli) -> None:
    good, bad = make(tmp_path / "good.csv", skill=3.0), make(tmp_path / "bad.csv", skill=0.5, seed=3)
    scored(cli, tmp_path / "out", good, bad, "--baseline", "bad", "--critical", "mel", "--unit", "lesion",
           "--unit-column", "lesion_id")  # fmt: skip
    compared = json.loads((tmp_path / "out/compare.json").read_text(encoding="utf-8"))
    assert compared["baseline"] == "bad" and compared["deploy"]["arm"] == "good"
    assert {r["arm"] for r in compared["comparisons"]} == {"good"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--val", "v.csv", "--thresholds", "t.yaml"), "both --val and --thresholds"),
        (("--thresholds", "t.yaml", "--train-prior", "t.yaml"), "both --thresholds and --train-prior"),
        (("--floors", "t.yaml"), "--floors without --val"),
        (("m.csv",), "given twice"),
        (("--val", "v.csv", "--val", "v.csv"), "1 test files and 2 validation files"),
        (("--unit", "image", "--unit-column", "sex"), "--unit image with --unit-column"),
        (("--baseline", "x"), "--baseline x"),
        (("--unit", "lesion"), "no column 'lesion'"),
        (("--group", "label"), "holds labels or scores"),
        (("--out", "t.yaml/deeper"), "t.yaml is a file"),
        (("--costs", "huge.yaml"), "is not a number"),
        (("--unit", "patient", "--unit-column", "sex"), "several values of patient_id"),
    ],
)
def test_options_that_do_not_fit(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("m.csv"), n=40), make(Path("v.csv"), n=40, first=1000)
    Path("huge.yaml").write_text(f"missed: {{mel: {'9' * 400}}}\n", encoding="utf-8")
    Path("t.yaml").write_text("mel: {sensitivity: 0.9}\n", encoding="utf-8")
    answer = cli("score", "m.csv", "--out", "out", *options)
    assert answer.code in (2, 3) and words in answer.err and "why:" in answer.err and "remedy:" in answer.err
    assert not Path("out").exists()


def test_patients_of_both_tables_are_said(tmp_path: Path, cli: Cli) -> None:
    test, val = make(tmp_path / "m.csv"), make(tmp_path / "v.csv", seed=5)
    table = pd.read_csv(val)
    table.assign(case="other" + table["case"]).to_csv(val, index=False)
    answer, _ = scored(cli, tmp_path / "out", test, "--val", val)
    assert "RS-R36" in answer.err and "120 patients of the test table" in answer.err


def test_36_the_same_rows_under_other_scores_are_still_the_same_rows(tmp_path: Path, cli: Cli) -> None:
    test, val = make(tmp_path / "m.csv"), make(tmp_path / "v.csv", seed=5)
    answer = cli("score", test, "--val", val, "--out", tmp_path / "out")
    assert answer.code == 4 and "RS-R36" in answer.err and "240 of its 240 rows" in answer.err
    for path in (test, val):  # numbered cases without patients may have one name and be two
        table = pd.read_csv(path).drop(columns=["patient_id"])
        table.to_csv(path, index=False)
    scored(cli, tmp_path / "out", test, "--val", val, "--one-image-per-patient")
