"""`raresight audit --augment` on the phantom, whose truth is known: a shear or a bend is caught, a flip is not."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raresight.api import Study
from raresight.core.files import read_json
from raresight.core.run import StudyFolder
from raresight.data.phantom import make_phantom
from raresight.report.gather import from_study
from raresight.report.page import render
from tests.flows.conftest import Cli, write_study


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> tuple[Path, dict[str, Any]]:
    study = write_study(tmp_path_factory.mktemp("faithfulness") / "study", phantom)
    return study, Study.open(study).augment_audit()


def destroyed(result: dict[str, Any], name: str, allowed: bool) -> list[str]:
    return next(row["destroys"] for row in result["transforms"] if row["name"] == name and row["allowed"] == allowed)


def test_shear_and_bend_are_caught_and_flips_are_not(audited: tuple[Path, dict[str, Any]]) -> None:
    result = audited[1]
    assert result["not_judged"] == ""
    assert "elongation" in destroyed(result, "shear", False)
    assert {"asymmetry", "elongation"} <= set(destroyed(result, "elastic", False))
    assert "hue" in destroyed(result, "hue", False)
    assert {"asymmetry", "size"} <= set(destroyed(result, "zoom", False))
    for name in ("flip, horizontal", "flip, vertical", "quarter turn", "rotation", "translation", "brightness"):
        assert destroyed(result, name, True) == [], name


def test_the_pictures_and_the_report_show_it(audited: tuple[Path, dict[str, Any]]) -> None:
    study, result = audited
    page = (study / "audit" / "augment.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert "<b>shear</b>, 15 deg" in page
    assert html.escape(result["rule"]) in page
    report = render(from_study(StudyFolder(study)))
    assert "Does augmentation keep what the diagnosis rests on" in report
    (study / "audit" / "augment.json").rename(study / "audit" / "away.json")
    assert "Does augmentation keep" not in render(from_study(StudyFolder(study)))
    (study / "audit" / "away.json").rename(study / "audit" / "augment.json")


def test_it_is_not_measured_twice_and_is_a_table_off_json(audited: tuple[Path, dict[str, Any]], cli: Cli) -> None:
    study, first = audited
    before = (study / "audit" / "augment.json").stat().st_mtime_ns
    answer = cli("audit", study, "--augment")
    assert answer.code == 0
    assert (study / "audit" / "augment.json").stat().st_mtime_ns == before
    line = next(line for line in answer.out.splitlines() if line.startswith("elastic"))
    assert "asymmetry" in line
    assert "augment.html" in answer.err
    assert first["n_lesions"] > first["n_patients"] > 20
    assert cli("audit", study, "--augment", "--json").json == read_json(study / "audit" / "augment.json")


def test_without_masks_it_says_how_to_bring_them_in(tmp_path: Path, cli: Cli) -> None:
    manifest = make_phantom(tmp_path / "phantom", n_patients=25, size=16, seed=1)
    pd.read_csv(manifest).drop(columns="mask").to_csv(manifest, index=False)
    assert cli("init", tmp_path / "s", manifest, "--from", "csv", "--group-col", "lesion_id").code == 0
    answer = cli("audit", tmp_path / "s", "--augment")
    assert answer.code == 2
    assert "RS-C48" in answer.err
    assert "--mask-col" in answer.err
