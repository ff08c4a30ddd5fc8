"""Floors, sets, referral and a cost matrix, from `study.yaml` to `thresholds.json` and the estimates."""

from __future__ import annotations

from pathlib import Path

from raresight.core.estimate import load_estimates
from raresight.core.files import read_json
from tests.flows.conftest import Cli
from tests.flows.test_bad_input import said
from tests.flows.test_gates import edit

RUN = "arms/baseline/seed-0"


def test_what_is_asked_of_decisions_is_fitted_on_validation_and_judged(copied: Path, cli: Cli) -> None:
    before = read_json(copied / RUN / "thresholds.json")
    assert before["conformal"]["miscoverage"] == 0.1 and before["refer"] is None
    edit(copied, decision={"floors": {"melanoma": {"sensitivity": 0.8}}, "miscoverage": 0.2, "refer": 0.2})
    edit(copied, costs={"missed": {"melanoma": 20}, "matrix": {"melanoma": {"nevus": 20}}, "referral": 0.5})
    stale = cli("evaluate", copied, "--part", "val")
    assert stale.code == 2 and said(stale, "RS-C03", "out of date", "raresight tune")
    assert cli("tune", copied).code == 0
    written = read_json(copied / RUN / "thresholds.json")
    record = written["thresholds"]["melanoma"]
    assert record["recall"] >= 0.8 and record["floor_reached"] and record["recall_low"] <= record["recall"]
    assert written["conformal"]["miscoverage"] == 0.2 and written["refer"]["share_validation"] <= 0.2
    assert cli("evaluate", copied, "--part", "val").code == 0
    metrics = {row.metric for row in load_estimates(copied / RUN / "val/estimates.json")}
    assert metrics >= {"conformal_coverage", "share_referred", "expected_cost_matrix", "net_benefit"}


def test_37_a_matrix_with_a_gain_in_the_study(copied: Path, cli: Cli) -> None:
    edit(copied, costs={"matrix": {"melanoma": {"nevus": -1}}})
    answer = cli("tune", copied)
    assert answer.code == 2
    assert said(answer, "RS-C37", "costs.matrix.melanoma.nevus", "cheaper than the correct answer")


def test_37_an_error_cheaper_than_the_correct_answer_in_the_study(copied: Path, cli: Cli) -> None:
    edit(copied, costs={"matrix": {"melanoma": {"melanoma": 3, "nevus": 2}}})
    answer = cli("tune", copied)
    assert answer.code == 2
    assert said(answer, "RS-C37", "costs.matrix.melanoma", "the error is cheaper")
