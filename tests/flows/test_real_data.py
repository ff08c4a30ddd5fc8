"""The line's first steps on real tables and images; skipped, with the reason, where the data are absent."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.flows.conftest import Cli

# Table 1 of the study that the project began with: images per finding among 112,120.
NIH_COUNTS = {
    "Infiltration": 19_894,
    "Effusion": 13_317,
    "Atelectasis": 11_559,
    "Nodule": 6_331,
    "Mass": 5_782,
    "Pneumothorax": 5_302,
    "Consolidation": 4_667,
    "Pleural_Thickening": 3_385,
    "Cardiomegaly": 2_776,
    "Emphysema": 2_516,
    "Edema": 2_303,
    "Fibrosis": 1_686,
    "Pneumonia": 1_431,
    "Hernia": 227,
}


def test_audit_of_the_full_nih_table(data_root: Path, tmp_path: Path, cli: Cli) -> None:
    source = data_root / "nih_cxr14_tables" / "labels.csv.gz"
    study = tmp_path / "nih"
    assert cli("init", study, "--from", "chestxray14", "--no-images", source).code == 0
    answer = cli("audit", study, "--json")
    assert answer.code == 0, answer.err
    audit = answer.json
    assert (audit["n_images"], audit["n_patients"], audit["group_by"]) == (112_120, 30_805, "patient_id")
    by_name = {row["name"]: row for row in audit["classes"]}
    assert {name: row["n_images"] for name, row in by_name.items()} == NIH_COUNTS
    for name, count in NIH_COUNTS.items():
        assert by_name[name]["prevalence"] == pytest.approx(count / 112_120)
    assert by_name["Hernia"]["severity"] == "extreme"
    assert by_name["Pneumothorax"]["severity"] == "moderate"


def test_the_split_that_ships_with_nih_64_is_refused(data_root: Path, tmp_path: Path, cli: Cli) -> None:
    source = data_root / "nih_cxr14_64"
    study = tmp_path / "nih"
    assert cli("init", study, "--from", "chestxray14", source).code == 0
    config = yaml.safe_load((study / "study.yaml").read_text(encoding="utf-8"))
    assert config["split"] == {"column": "split", "group": "patient_id"}
    config["image"]["size"] = 16
    (study / "study.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    answer = cli("run", study)
    assert answer.code == 4
    table = pd.read_csv(source / "manifest.csv", dtype=str)
    parts = table.groupby("patient_id")["split"].nunique()
    leaking = list(parts[parts > 1].index)
    assert len(leaking) == 30 and "30 patients" in answer.err
    assert all(patient in answer.err for patient in leaking)
    assert "column" in answer.err  # the remedy: take `column` out for a fresh split
    assert not (study / "data/split.csv").exists() and not (study / "arms").exists()


def test_the_split_of_pneumoniamnist_repeats_pictures_and_is_refused(data_root: Path, tmp_path: Path, cli: Cli) -> None:
    source = data_root / "pneumoniamnist" / "pneumoniamnist_28.npz"
    study = tmp_path / "pneumonia"
    refused = cli("init", study, "--from", "medmnist", source)
    assert refused.code == 3 and "--one-image-per-patient" in refused.err
    assert cli("init", study, "--from", "medmnist", source, "--one-image-per-patient").code == 0
    config = yaml.safe_load((study / "study.yaml").read_text(encoding="utf-8"))
    config["image"]["size"] = 28
    (study / "study.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert cli("check", study).code == 0
    answer = cli("split", study)
    assert answer.code == 4 and "identical" in answer.err
    config["split"] = {"group": config["split"]["group"]}
    (study / "study.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    answer = cli("split", study, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["identical_pairs_across"] == []


def test_ham10000_reads_with_lesions_as_groups(data_root: Path, tmp_path: Path, cli: Cli) -> None:
    study = tmp_path / "ham"
    answer = cli("init", study, "--from", "ham10000", data_root / "ham10000")
    assert answer.code == 0, answer.err
    manifest = pd.read_csv(study / "data/manifest.csv", dtype=str, keep_default_na=False)
    assert len(manifest) == 7_508 and manifest["group"].nunique() == 5_602
    assert manifest["label"].value_counts().to_dict() == {
        "nv": 5035, "mel": 835, "bkl": 819, "bcc": 378, "akiec": 240, "vasc": 110, "df": 91,
    }  # fmt: skip
