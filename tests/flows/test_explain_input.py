"""What `explain` is given and cannot use: told before hours are lost, with remedies that bring it back."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from raresight.core.files import read_json, read_jsonl
from tests.flows.conftest import TINY, Cli, trained_study


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    folder = tmp_path_factory.mktemp("input") / "Stuedie 1"
    return trained_study(
        folder, phantom, arms={"baseline": []}, seeds=[0], train={**TINY["train"], "steps": 4, "head_steps": 2}
    )


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "Stuedie 1"))


def test_lost_weights_come_back_by_what_the_error_says(own: Path, cli: Cli) -> None:
    run = own / "arms/baseline/seed-0"
    (run / "best.safetensors").unlink()
    refused = cli("explain", own, "--tasks", "geometry")
    assert refused.code == 2 and "RS-R44b" in refused.err and str(run / "best.safetensors") in refused.err
    assert "Looked at on" not in refused.err
    assert f"remove the folder {run} and" in refused.err and f"`raresight train '{own}'`" in refused.err
    shutil.rmtree(run)
    assert cli("train", own).code == 0
    assert cli("explain", own, "--tasks", "geometry").code == 0


def test_a_damaged_cache_is_made_anew(own: Path, cli: Cli) -> None:
    assert cli("explain", own, "--tasks", "geometry").code == 0
    whole = read_json(own / "explain/explain.json")
    kept = [path for path in (own / "explain/cache").rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} >= {".npy", ".npz", ".json"}
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    (own / "explain/explain.json").unlink()
    assert cli("explain", own, "--tasks", "geometry").code == 0
    assert read_json(own / "explain/explain.json") == whole


def test_check_looks_at_the_boxes_and_explain_tells_what_it_drops(own: Path, cli: Cli) -> None:
    text = (own / "study.yaml").read_text(encoding="utf-8")
    (own / "study.yaml").write_text(text.replace("data:\n", "data:\n  boxes: boxes.csv\n"), encoding="utf-8")
    for command in ("check", "run"):
        missing = cli(command, own)
        assert missing.code != 0 and "the file of boxes is missing" in missing.err
    assert read_jsonl(own / "data/issues.jsonl")[-1]["code"] == "RS-C03"
    (own / "boxes.csv").write_text("case,class,x,y\n", encoding="utf-8")
    lacking = cli("check", own)
    assert lacking.code == 3 and "RS-M47" in lacking.err and "has no column" in lacking.err
    from raresight.verbs.opened import OpenStudy

    study = OpenStudy.open(own)
    table = study.manifest.take(study.folds.rows(study.manifest, "val")).table
    other = {name: next(c for c in study.task.classes if c != name) for name in study.task.classes}
    lines = [f"{case},{label},12,0,36,48" for case, label in zip(table["case"], table["label"], strict=True)]
    lines.append(f"{table['case'].iloc[0]},{other[table['label'].iloc[0]]},0,0,48,48")
    (own / "boxes.csv").write_text("\n".join(["case,class,xmin,ymin,xmax,ymax", *lines]), encoding="utf-8")
    checked = cli("check", own)
    dropped = "boxes on images that do not have that label are left out: 1"
    assert checked.code == 0 and dropped in checked.out
    explained = cli("explain", own, "--tasks", "geometry")
    assert explained.code == 0
    assert [line for line in explained.err.splitlines() if re.search("where findings lie: ", line)] == [
        f"where findings lie: {dropped}"
    ]
