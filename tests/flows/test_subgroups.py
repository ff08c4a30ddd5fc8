"""Subgroups in a study and in `score`: asked for by column, refused where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.flows.conftest import Cli
from tests.flows.test_gates import edit


def test_figures_by_subgroup_of_a_study(copied: Path, cli: Cli) -> None:
    edit(copied, decision={"subgroups": ["n_colours", "diameter_mm"]})
    for command in (("tune", copied), ("evaluate", copied, "--part", "val")):
        answer = cli(*command)
        assert answer.code == 0, answer.err
    rows = json.loads((copied / "arms/baseline/seed-0/val/estimates.json").read_text(encoding="utf-8"))["estimates"]
    groups = {row["subgroup"].partition("=")[0] for row in rows if row["subgroup"]}
    assert groups == {"n_colours", "diameter_mm"}
    for row in rows:
        if row["subgroup"] and (row["n_positive_patients"] or 0) < 10:
            assert row["value"] is None and row["reason"]


@pytest.mark.parametrize("command", [("check",), ("train",), ("run",)])
def test_34_subgroups_by_a_column_that_is_not_there(copied: Path, cli: Cli, command: tuple[str, ...]) -> None:
    edit(copied, decision={"subgroups": ["diamter_mm"]})
    answer = cli(command[0], copied)
    assert answer.code == 2
    for word in ("RS-C34", "study.yaml", "decision.subgroups", "no column 'diamter_mm'", "did you mean 'diameter_mm'?"):
        assert word in answer.err
    assert "why:" in answer.err and "remedy:" in answer.err


def test_the_gallery_has_pictures_only_on_request(copied: Path, cli: Cli) -> None:
    cases = [str(case) for case in pd.read_csv(copied / "data/manifest.csv", dtype=str)["case"]]
    page = copied / "report/report.html"
    assert cli("report", copied).code == 0
    plain = page.read_text(encoding="utf-8")
    assert "Cases to look at" in plain and "data:image/jpeg" not in plain
    answer = cli("report", copied, "--thumbnails")
    assert answer.code == 0, answer.err
    pictured = page.read_text(encoding="utf-8")
    key = pd.read_csv(copied / "report/gallery_key.csv", dtype=str)
    assert 0 < pictured.count("data:image/jpeg;base64,") <= len(key)
    assert set(key["case"]) <= set(cases) and key["pseudonym"].is_unique
    for section in (plain, pictured):
        shown = section[section.index('id="failures"') :].partition("</section>")[0]
        assert not [case for case in cases if case in shown], "no id of a case stands in the gallery"
