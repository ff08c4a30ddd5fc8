"""Arms whose head alone is trained on another arm's features, arms with a network of their own, and grids."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from raresight.api import Study
from raresight.core.files import read_json, read_jsonl, sha256
from raresight.core.seeds import derive
from tests.flows.conftest import TINY, Cli, write_study
from tests.flows.test_variants import finish

SHORT = {**TINY["train"], "steps": 6, "head_steps": 6}
ARMS = {
    "head_focal": [{"frozen": "baseline"}, {"focal": {"gamma": 2}}],
    "baseline": [],
    "head_smote": ["smote", {"frozen": "baseline"}, "logit_adjustment"],
    "head_views": [{"frozen": "baseline"}, "heavy_augment", "mixup"],
    "weighted": ["class_weights"],
    "head_weighted": [{"frozen": "weighted"}, "class_weights"],
}
HEADS = [name for name in ARMS if name.startswith("head_")]


@pytest.fixture(scope="module")
def frozen_study(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    """Trained with two seeds; tests that write take a copy."""
    folder = write_study(tmp_path_factory.mktemp("frozen") / "study", phantom, arms=ARMS, train=SHORT, seeds=[0, 1])
    study = Study.open(folder)
    study.check()
    study.split()
    study.train()
    return folder


def test_a_frozen_arm_leaves_the_folder_of_a_run(frozen_study: Path) -> None:
    for arm in HEADS:
        for seed in (0, 1):
            run = frozen_study / "arms" / arm / f"seed-{seed}"
            written = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
            assert written == {
                "arm.json", "env.json", "events.jsonl", "labels.safetensors", "best.safetensors", "resume.pt",
                "val/predictions.parquet", "DONE",
            }  # fmt: skip
            told = read_json(run / "arm.json")
            source = "weighted" if arm == "head_weighted" else "baseline"
            assert told["frozen"] == source and told["views"] == (4 if arm == "head_views" else 1)
            assert told["frozen_sha256"] == sha256(frozen_study / f"arms/{source}/seed-{seed}/best.safetensors")
            assert set(load_file(run / "best.safetensors")) == {"head.weight", "head.bias"}
            (event,) = read_jsonl(run / "events.jsonl")
            assert event["best"] and 0 < event["step"] <= event["steps"] == 6 and event["score"] is not None
            val = pd.read_parquet(run / "val/predictions.parquet")
            whole = pd.read_parquet(frozen_study / f"arms/{source}/seed-{seed}/val/predictions.parquet")
            assert list(val["case"]) == list(whole["case"])
            assert not np.allclose(val["prob_melanoma"], whole["prob_melanoma"])


def test_the_heads_predict_from_their_sources_features(frozen_study: Path) -> None:
    """W z + b with z from the source's network, written out; then the arm's adjustment by the training prior."""
    from raresight.verbs.opened import OpenStudy
    from raresight.verbs.training import cases, locked_runtime

    study = OpenStudy.open(frozen_study)
    held = cases(study, study.folds.rows(study.manifest, "val"))
    images = np.asarray(held.pixels)[held.rows]
    from raresight.train.predict import new_model

    model = new_model(study.config, locked_runtime(study), rng_seed=0)
    model.load_state_dict(load_file(frozen_study / "arms/baseline/seed-1/best.safetensors"))
    with torch.no_grad():
        z = model.eval().features(model.normalise(torch.from_numpy(images).permute(0, 3, 1, 2) / 255))
    head = load_file(frozen_study / "arms/head_smote/seed-1/best.safetensors")
    logits = (z @ head["head.weight"].T + head["head.bias"]).double()
    training = study.manifest.take(study.folds.rows(study.manifest, "train")).targets(study.task)
    prior = torch.from_numpy(np.nanmean(training, axis=0).astype(np.float64))
    # SMOTE's shift is already in the head: logit adjustment subtracts the log prior of the training part alone
    expected = (logits - prior.log()).softmax(1).numpy()
    val = pd.read_parquet(frozen_study / "arms/head_smote/seed-1/val/predictions.parquet")
    found = val[[f"prob_{name}" for name in study.task.classes]].to_numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_the_report_asks_whether_a_frozen_arms_synthetic_cases_are_safe(frozen_study: Path) -> None:
    from raresight.core.run import StudyFolder
    from raresight.report.gather import from_study
    from raresight.report.sections import sections

    told = read_json(frozen_study / "arms/head_smote/seed-0/arm.json")["safety"]
    assert told and all(row["n_synthetic"] > 0 and 0 <= row["unsafe_synthetic"] <= 1 for row in told)
    assert "safety" not in read_json(frozen_study / "arms/head_focal/seed-0/arm.json")
    content = from_study(StudyFolder(frozen_study))
    (section,) = [section for section in sections(content) if section.key == "safety"]
    assert "head_smote" in str(section)


def copy_of(study: Path, folder: Path) -> Path:
    """A copy to write in; weights are linked, as whoever writes them puts a new file in their place."""

    def copy(source: str, target: str) -> None:
        (os.link if Path(source).suffix in (".safetensors", ".pt") else shutil.copy2)(source, target)

    return Path(shutil.copytree(study, folder, copy_function=copy))


def predictions(study: Path, arm: str, seed: int = 0) -> pd.DataFrame:
    return pd.read_parquet(study / f"arms/{arm}/seed-{seed}/val/predictions.parquet")


def edit(folder: Path, **sections: object) -> None:
    path = folder / "study.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) | sections
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def test_a_batch_that_was_killed_trains_the_missing_heads_to_the_same_end(frozen_study: Path, tmp_path: Path) -> None:
    folder = copy_of(frozen_study, tmp_path / "study")
    (folder / "arms/head_focal/seed-0/DONE").unlink()  # killed after its weights
    shutil.rmtree(folder / "arms/head_views")  # killed before
    untouched = (folder / "arms/head_smote/seed-0/val/predictions.parquet").stat().st_mtime_ns
    Study.open(folder).train()
    for arm, seed in [("head_focal", 0), ("head_views", 0), ("head_views", 1)]:
        pd.testing.assert_frame_equal(predictions(folder, arm, seed), predictions(frozen_study, arm, seed), atol=1e-5)
    assert (folder / "arms/head_smote/seed-0/val/predictions.parquet").stat().st_mtime_ns == untouched


def test_a_head_alone_trains_its_source_first(frozen_study: Path, tmp_path: Path, cli: Cli) -> None:
    folder = copy_of(frozen_study, tmp_path / "study")
    shutil.rmtree(folder / "arms")
    answer = cli("train", folder, "--arm", "head_weighted", "--seed", "1", "--json")
    assert answer.code == 0, answer.err
    assert [row["arm"] for row in answer.json] == ["head_weighted"]
    assert "stands on the features of weighted, which is trained first" in answer.err
    assert {path.parent.relative_to(folder / "arms").as_posix() for path in folder.glob("arms/*/*/DONE")} == {
        "weighted/seed-1", "head_weighted/seed-1",
    }  # fmt: skip
    pd.testing.assert_frame_equal(
        predictions(folder, "head_weighted", 1), predictions(frozen_study, "head_weighted", 1), atol=1e-5
    )


def test_a_retrained_source_makes_its_heads_stale(frozen_study: Path, tmp_path: Path, cli: Cli) -> None:
    folder = copy_of(frozen_study, tmp_path / "study")
    best = folder / "arms/weighted/seed-1/best.safetensors"
    changed = {name: value * 1.01 if value.is_floating_point() else value for name, value in load_file(best).items()}
    best.unlink()
    save_file(changed, best)
    states = {step["name"]: step for step in cli("status", folder, "--json").json["steps"]}
    assert states["train"]["state"] == "stale" and "head_weighted seed 1" in states["train"]["why"]
    for command in ("train", "tune"):
        answer = cli(command, folder)
        assert answer.code == 2, command
        assert "RS-R44" in answer.err and "head_weighted" in answer.err and "remedy: remove" in answer.err
    shutil.rmtree(folder / "arms/head_weighted")
    assert cli("train", folder).code == 0
    assert not predictions(folder, "head_weighted", 1).equals(predictions(frozen_study, "head_weighted", 1))
    assert cli("tune", folder).code == 0


def test_the_test_part_opens_upon_the_sources_weights_too(
    frozen_study: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raresight.train import predict

    folder = copy_of(frozen_study, tmp_path / "study")
    seen: list[int] = []
    extract = predict.extract

    def counting(*args: Any) -> torch.Tensor:
        seen.append(len(args[1]))
        return extract(*args)

    monkeypatch.setattr(predict, "extract", counting)
    finish(folder, cli)
    # two whole arms and their two sources of heads, two seeds each: no pass for each head
    assert len(seen) == 2 * 2 + 2 * 2 and len(set(seen)) == 1
    plan = read_json(folder / "test/opening-1/plan.json")
    source = "arms/baseline/seed-0/best.safetensors"
    assert plan["arms"]["head_focal"]["weights"][source] == sha256(folder / source)
    test = pd.read_parquet(folder / "test/opening-1/predictions.parquet")
    n_cases = test["case"].nunique()
    assert test.groupby(["arm", "seed"]).size().to_dict() == {(arm, seed): n_cases for arm in ARMS for seed in (0, 1)}
    page = (folder / "report/report.html").read_text(encoding="utf-8")
    assert "head alone, on the features of baseline" in page and "What was tuned" not in page
    assert read_json(folder / "compare/compare.json")["inert"] == []


def test_a_dry_run_tells_what_heads_take(frozen_study: Path, cli: Cli) -> None:
    rows = {row["arm"]: row for row in cli("train", frozen_study, "--dry-run", "--json").json}
    assert set(rows) == set(ARMS)
    assert rows["head_focal"]["hours"] < rows["head_views"]["hours"]
    n_train, n_val = (read_json(frozen_study / "arms/baseline/seed-0/env.json")[key] for key in ("n_train", "n_val"))
    assert rows["head_views"]["steps"] == -(-(4 * n_train + n_val) // 16)


@pytest.mark.parametrize(
    ("arm", "code", "words"),
    [
        ([{"frozen": "baselin"}], "RS-C33", "did you mean 'baseline'?"),
        ([{"frozen": "head_focal"}], "RS-C35", "write {frozen: baseline}"),
        ([{"frozen": "baseline"}, "ema"], "RS-C35", "'ema'"),
        ([{"backbone": "test_vit+se"}], "RS-R45b", "ResNet family"),
        ([{"sam": {"rho": [0.02, 0.05]}}], "RS-C34", "write one arm per value: new_1: [{sam: {rho: 0.02}}]"),
        ([{"focal": {"gamma": [0.5, -1]}}], "RS-C34", "[0, 20]"),
    ],
)
def test_what_cannot_be_is_said(frozen_study: Path, tmp_path: Path, cli: Cli, arm: list, code: str, words: str) -> None:
    folder = copy_of(frozen_study, tmp_path / "study")
    edit(folder, arms=ARMS | {"new": arm})
    answer = cli("train", folder, "--arm", "new")
    assert answer.code == 2
    assert code in answer.err and words in answer.err
    assert "arms.new" in answer.err or "test_vit+se" in answer.err
    assert not list(folder.glob("arms/new/**/DONE"))


def test_folds_and_a_network_of_its_own(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    """Each fold's head stands on the fold's own network; the heads of a whole arm have that arm's network."""
    arms = {
        "baseline": [],
        "gated": [{"backbone": "test_resnet+se"}],
        "head": [{"frozen": "gated"}, "class_weights"],
        "focal": [{"focal": {"gamma": [1, 3]}}],
    }
    short = {**SHORT, "steps": 4, "head_steps": 3}
    folder = write_study(tmp_path / "study", phantom, arms=arms, train=short, split={**TINY["split"], "folds": 2})
    finish(folder, cli)
    gates = [name for name in load_file(folder / "arms/gated/seed-0/fold-1/best.safetensors") if ".se." in name]
    assert gates and not [n for n in load_file(folder / "arms/baseline/seed-0/fold-1/best.safetensors") if ".se." in n]
    for fold in (0, 1):
        told = read_json(folder / f"arms/head/seed-0/fold-{fold}/arm.json")
        assert told["frozen_sha256"] == sha256(folder / f"arms/gated/seed-0/fold-{fold}/best.safetensors")
    assert read_json(folder / "arms/head/seed-0/arm.json")["folds"] == 2
    assert sorted(predictions(folder, "head")["case"]) == sorted(predictions(folder, "baseline")["case"])
    weights = read_json(folder / "test/opening-1/plan.json")["arms"]["head"]["weights"]
    assert len(weights) == 4  # two heads, two networks
    (choice,) = read_json(folder / "choices.json")["arms"].values()
    assert [len(row["seeds"]) for row in choice["tried"]] == [1, 1]
    assert "network test_resnet+se" in (folder / "report/report.html").read_text(encoding="utf-8")


GRIDS = {
    "baseline": [],
    "focal": ["ema", {"focal": {"gamma": [0.5, 1, 5]}}],
    "weighted": [{"class_weights": {"scheme": ["inverse", "sqrt_inverse"]}}],
    "plain_focal": [{"frozen": "baseline"}, {"focal": {"gamma": 1}}],
}


@pytest.fixture(scope="module")
def tuned_study(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    folder = write_study(tmp_path_factory.mktemp("tuned") / "study", phantom, arms=GRIDS, train=SHORT, seeds=[0, 1])
    Study.open(folder).run()
    return folder


def test_values_are_chosen_with_one_budget_and_trained(tuned_study: Path) -> None:
    made = read_json(tuned_study / "choices.json")
    assert (made["budget"], made["baseline"], made["seeds"]) == (6, "baseline", [0, 1])
    assert list(made["arms"]) == ["focal", "weighted"]
    tried = {arm: entry["tried"] for arm, entry in made["arms"].items()}
    assert [row["settings"] for row in tried["focal"]] == [{"focal": {"gamma": g}} for g in (0.5, 1, 5)]
    assert [row["settings"] for row in tried["weighted"]] == [
        {"class_weights": {"scheme": name}} for name in ("inverse", "sqrt_inverse")
    ]
    assert [row["seeds"] for row in tried["focal"]] == [[0, 1]] * 3
    further = derive(0, "choosing", 2)
    assert [row["seeds"] for row in tried["weighted"]] == [[0, 1, further]] * 2
    assert all(sum(len(row["seeds"]) for row in rows) == 6 for rows in tried.values())
    for arm, entry in made["arms"].items():
        best = max(row["score"] for row in entry["tried"])
        assert entry["chosen"] == next(row["settings"] for row in entry["tried"] if row["score"] == best)
        for seed in (0, 1):
            told = read_json(tuned_study / f"arms/{arm}/seed-{seed}/arm.json")["strategies"]
            ((method, settings),) = entry["chosen"].items()
            assert settings.items() <= next(one["settings"] for one in told if one["name"] == method).items()


def test_a_candidates_score_is_that_of_the_frozen_arm(tuned_study: Path) -> None:
    """`plain_focal` is the candidate gamma 1, trained as an arm: its scores, mean over seeds, are the ones tried."""
    events = [read_jsonl(tuned_study / f"arms/plain_focal/seed-{seed}/events.jsonl")[-1] for seed in (0, 1)]
    tried = read_json(tuned_study / "choices.json")["arms"]["focal"]["tried"][1]
    assert tried["settings"] == {"focal": {"gamma": 1}}
    assert tried["score"] == pytest.approx(np.mean([event["score"] for event in events]), abs=1e-6)


def test_the_report_shows_what_was_tried(tuned_study: Path) -> None:
    page = (tuned_study / "report/report.html").read_text(encoding="utf-8")
    assert "What was tuned" in page and "chosen on validation data" in page
    assert "focal had 3 tries and weighted had 2 tries, where baseline had one" in page
    assert "choices.json" in read_json(tuned_study / "report/report.json")["files"]
    chosen = read_json(tuned_study / "choices.json")["arms"]["focal"]["chosen"]["focal"]["gamma"]
    assert f"focal (gamma {chosen})" in page and "[0.5, 1, 5]" not in page


def test_a_choice_stands_until_its_lists_change(tuned_study: Path, tmp_path: Path, cli: Cli) -> None:
    folder = copy_of(tuned_study, tmp_path / "study")
    before = (folder / "choices.json").read_bytes()
    edit(folder, seeds=[0, 1, 2])  # one more seed does not choose anew
    assert cli("train", folder, "--arm", "weighted").code == 0
    assert (folder / "choices.json").read_bytes() == before
    edit(folder, seeds=[0, 1], arms=GRIDS | {"focal": ["ema", {"focal": {"gamma": [2, 3, 4]}}]})
    step = next(step for step in cli("status", folder, "--json").json["steps"] if step["name"] == "train")
    assert step["state"] == "stale" and "lists of focal changed" in step["why"]
    answer = cli("train", folder)
    assert answer.code == 2 and "RS-R44" in answer.err and "'gamma', " in answer.err  # trained with another value
    shutil.rmtree(folder / "arms/focal")
    answer = cli("train", folder)
    assert answer.code == 0, answer.err
    made = read_json(folder / "choices.json")
    assert made["arms"]["focal"]["chosen"]["focal"]["gamma"] in (2, 3, 4)
    assert made["arms"]["weighted"] == json.loads(before)["arms"]["weighted"]  # the same heads, the same choice


def test_a_dry_run_of_a_grid_takes_its_first_candidate(tuned_study: Path, tmp_path: Path, cli: Cli) -> None:
    folder = copy_of(tuned_study, tmp_path / "study")
    (folder / "choices.json").unlink()
    rows = cli("train", folder, "--dry-run", "--arm", "focal", "--json").json
    assert [row["arm"] for row in rows] == ["focal"] and rows[0]["hours"] > 0
    assert not (folder / "choices.json").exists()
