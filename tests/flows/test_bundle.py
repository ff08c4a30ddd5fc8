"""freeze, predict, validate, monitor on the small study; what is tampered with, killed or unreadable on the way."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raresight.api import Study
from raresight.core.files import read_json, read_jsonl
from raresight.evaluate.recalibrate import calibrate
from tests.flows.conftest import Cli


@pytest.fixture(scope="module")
def bundle(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle outside the study, so that the shared study stays as it was."""
    return Study.open(finished).freeze(arm="moved", out=tmp_path_factory.mktemp("bundles") / "moved").folder


def validation_images(finished: Path, phantom: Path) -> list[Path]:
    joined = pd.read_csv(finished / "data/manifest.csv", dtype=str).merge(
        pd.read_csv(finished / "data/split.csv", dtype=str), on="case"
    )
    return [phantom / name for name in joined.loc[joined["part"] == "val", "image"]]


def test_probabilities_are_those_of_the_study(finished: Path, phantom: Path, bundle: Path, cli: Cli) -> None:
    """An arm with a decision strategy: its shift of the logits is part of the bundle."""
    answer = cli("predict", bundle, *validation_images(finished, phantom), "--json")
    assert answer.code == 0 and "decided" in answer.err
    rows = pd.DataFrame(answer.json)
    opened = Study.open(finished)._opened()
    run = opened.folder.run("moved", 0)
    calibrated = calibrate(opened.predictions(run), read_json(run.calibrator))
    expected = calibrated.table.set_index("case").loc[rows["case"]]
    columns = [f"prob_{name}" for name in opened.task.classes]
    assert np.abs(expected[columns].to_numpy() - rows[columns].to_numpy(dtype=float)).max() < 1e-5
    thresholds = {name: row["threshold"] for name, row in read_json(run.thresholds)["thresholds"].items()}
    for name, threshold in thresholds.items():
        said = rows.loc[rows["status"] == "decided", f"decision_{name}"]
        if threshold is None:
            assert said.isna().all()
        else:
            alarm = rows.loc[said.index, f"prob_{name}"].astype(float) >= threshold
            assert (said.astype(int) == alarm.astype(int)).all()
    offset = read_json(bundle / "bundle.json")["network"]["members"][0]["offset"]
    assert max(offset) > 0  # logit adjustment moved something


def test_one_bad_file_never_loses_the_rest(phantom: Path, bundle: Path, tmp_path: Path, cli: Cli) -> None:
    good = sorted((phantom / "images").iterdir())[:2]
    shutil.copy(good[0], tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(good[1].read_bytes()[:200])
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "c.png")
    Image.open(good[1]).convert("RGBA").save(tmp_path / "d.png")
    (tmp_path / "list.csv").write_text("image,patient_id\na.png,007\nb.png,007\nmissing.png,8\n")
    answer = cli("predict", bundle, tmp_path, tmp_path / "list.csv", "--out", tmp_path / "out.csv")
    assert answer.code == 0 and "no pictures by their names: 1" in answer.err, answer.err
    rows = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert list(rows["case"]) == ["a", "b", "c", "d", "a~2", "b~2", "missing"]
    invalid = rows[rows["status"] == "invalid_input"]
    assert list(invalid["case"]) == ["b", "c", "b~2", "missing"] and invalid["reason"].str.len().gt(0).all()
    assert (invalid["prob_melanoma"] == "").all() and (invalid["decision_melanoma"] == "").all()
    assert set(rows["patient_id"]) == {"", "007", "8"}
    assert "converted: alpha" in rows.set_index("case").loc["d", "reason"]
    assert rows["bundle_sha256"].nunique() == 1
    (tmp_path / "nothing").mkdir()
    nothing = cli("predict", bundle, tmp_path / "nothing")
    assert nothing.code == 3 and "RS-B08" in nothing.err


def test_tampered_weights_are_refused_by_every_command(bundle: Path, phantom: Path, tmp_path: Path, cli: Cli) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    weights = copy / "weights-seed-0.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    table = phantom / "manifest.csv"
    for words in (("predict", copy, table), ("validate", copy, table, "--site", "x"), ("monitor", copy, table)):
        answer = cli(*words)
        assert answer.code == 3 and "RS-B02" in answer.err and "weights-seed-0" in answer.err


def test_validate_and_monitor(bundle: Path, phantom: Path, tmp_path: Path, cli: Cli) -> None:
    """The phantom itself plays the other site; then every label is turned into one class, which is another world."""
    answer = cli("validate", bundle, phantom / "manifest.csv", "--site", "Vienna A", "--out", tmp_path / "v", "--json")
    assert answer.code == 0, answer.err
    result = answer.json
    assert {row["operating_point"] for row in result["estimates"]} <= {None, "argmax", "frozen"}
    assert [row["criterion"] for row in result["acceptance"]] == ["melanoma: sensitivity at least 85%"]
    written = {path.name for path in (tmp_path / "v").iterdir()}
    assert written >= {"predictions.parquet", "estimates.json", "report.html", "report.json"}
    page = (tmp_path / "v" / "report.html").read_text(encoding="utf-8")
    assert "External validation" in page and "Vienna A" in page

    moved = pd.read_csv(phantom / "manifest.csv", dtype=str).assign(label="melanoma")
    moved.head(60).to_csv(tmp_path / "moved.csv", index=False)
    shifted = cli("validate", bundle, tmp_path / "moved.csv", "--site", "x", "--root", phantom, "--out", tmp_path / "w")
    assert shifted.code == 0 and "melanoma is more common here" in shifted.err, shifted.err
    wrong = tmp_path / "wrong.csv"
    moved.assign(label="Melanoma ").to_csv(wrong, index=False)
    refused = cli("validate", bundle, wrong, "--site", "x", "--root", phantom)
    assert refused.code == 3 and "RS-M09" in refused.err

    cli("predict", bundle, phantom / "manifest.csv", "--out", tmp_path / "pred.csv")
    watched = cli("monitor", bundle, tmp_path / "pred.csv", "--out", tmp_path / "m", "--json").json
    assert watched["batches"][0]["n_patients"] == 60 and not watched["notes"]
    assert read_json(tmp_path / "m" / "monitor.json")["batches"] == watched["batches"]
    rows = pd.read_csv(tmp_path / "pred.csv", dtype=str)
    rows["time"] = np.where(np.arange(len(rows)) % 2, "2026-01-05", "2026-02-07")
    rows["prob_melanoma"] = "0.999"
    rows.drop(columns="patient_id").to_csv(tmp_path / "drift.csv", index=False)
    drifted = cli("monitor", bundle, tmp_path / "drift.csv", "--out", tmp_path / "m", "--json").json
    assert [batch["batch"] for batch in drifted["batches"]] == ["all", "2026-01", "2026-02"]
    assert drifted["batches"][0]["classes"]["melanoma"]["scores"]["verdict"] == "look"
    assert "name no patient" in drifted["notes"][0]
    rows.assign(bundle_sha256="0" * 64).to_csv(tmp_path / "other.csv", index=False)
    assert "RS-B07" in cli("monitor", bundle, tmp_path / "other.csv").err


def test_frozen_before_the_opening_is_in_the_plan_and_on_page_one(copied: Path, cli: Cli) -> None:
    """The test part of the copy is shut again; then frozen, opened, reported, and changed."""
    shutil.rmtree(copied / "test")
    assert cli("freeze", copied, "--arm", "baseline").code == 0
    again = cli("freeze", copied, "--arm", "baseline")
    assert again.code == 0 and "frozen already" in again.err
    sha256 = read_json(copied / "bundle/baseline/bundle.json")
    assert sha256["openings_before"] == 0
    assert cli("evaluate", copied, "--part", "test", "--yes").code == 0
    row = read_json(copied / "test/opening-1/bundles.json")["bundles"][0]
    assert read_json(copied / "test/opening-1/plan.json")["bundles"] == {"baseline": row["sha256"]}
    rates = {
        (one["metric"], one["class"]): one["value"]
        for one in read_json(copied / "test/opening-1/estimates.json")["estimates"]
        if one["arm"] == "baseline" and one["operating_point"] == "frozen"
    }
    own = [one for one in row["estimates"] if one["operating_point"] == "frozen"]
    assert own and all(rates[one["metric"], one["class"]] == one["value"] for one in own)
    cli("report", copied)
    told = read_json(copied / "report/report.json")
    assert told["bundle"] == row["sha256"] and "before the test part was opened" in told["acceptance_note"]
    assert told["acceptance"][0]["verdict"] in ("met", "not met", "cannot be shown with so few patients")
    # a bundle that comes later changes nothing about the last opening
    assert cli("freeze", copied, "--arm", "weighted").code == 0
    assert cli("evaluate", copied, "--part", "test", "--yes").code == 0
    assert len(read_jsonl(copied / "test/ledger.jsonl")) == 1
    # another bundle in place of the planned one does: a second look needs a reason, and page one says so
    text = (copied / "study.yaml").read_text(encoding="utf-8")
    (copied / "study.yaml").write_text(text + "intended_use: triage\n", encoding="utf-8")
    assert "RS-B05" in cli("freeze", copied, "--arm", "baseline").err
    assert cli("freeze", copied, "--arm", "baseline", "--force").code == 0
    spent = cli("evaluate", copied, "--part", "test", "--yes")
    assert spent.code == 4 and "bundles" in spent.err and "--reuse-test" in spent.err
    assert cli("evaluate", copied, "--part", "test", "--yes", "--reuse-test", "--reason", "use was named").code == 0
    assert len(read_jsonl(copied / "test/ledger.jsonl")) == 2
    cli("report", copied)
    told = read_json(copied / "report/report.json")
    assert told["status"] == "Second-stage validation" and "second-stage validation" in told["acceptance_note"]


def test_a_bundle_frozen_late_is_said_to_be(copied: Path, cli: Cli) -> None:
    answer = cli("freeze", copied, "--arm", "moved")
    assert answer.code == 0 and "opened once before" in answer.err
    cli("report", copied)
    told = read_json(copied / "report/report.json")
    assert "after the test part had been opened once" in told["acceptance_note"]
    assert told["acceptance"][0]["verdict"] != "cannot be shown"  # the very run that was judged


def test_what_cannot_be_frozen_is_refused(copied: Path, cli: Cli) -> None:
    unknown = cli("freeze", copied, "--arm", "basline")
    assert unknown.code == 2 and "did you mean 'baseline'" in unknown.err
    seed = cli("freeze", copied, "--arm", "baseline", "--seed", "7")
    assert seed.code == 2 and "no finished seed 7" in seed.err
    assert not (copied / "bundle").exists()
