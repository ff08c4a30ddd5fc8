"""`raresight explain` from the command line: its files, skipped when done, resumed when killed, shut where test is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raresight.core.files import read_json, sha256
from tests.flows.conftest import TINY, Cli, trained_study

TABLES = {"verdict", "alignment", "dissection", "geometry", "gate", "between"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    """Two arms, two seeds."""
    folder = tmp_path_factory.mktemp("explained") / "study"
    return trained_study(folder, phantom, arms={"baseline": [], "weighted": ["class_weights"]}, seeds=[0, 1])


@pytest.fixture(scope="module")
def explained(trained: Path) -> Path:
    from raresight.api import Study

    Study.open(trained).explain()
    return trained


@pytest.fixture
def own(explained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(explained, tmp_path / "study"))


def test_every_file_is_there_and_says_what_it_rests_on(explained: Path) -> None:
    found = read_json(explained / "explain/explain.json")
    assert set(found["tables"]) == TABLES
    assert found["part"] == "val" and found["arms"] == ["baseline", "weighted"] and found["seeds"] == [0, 1]
    assert found["limits"][0].startswith("Looked at on the validation part, because the test part was not opened yet")
    assert found["choices"]["layer"] in {layer["name"] for layer in found["layers"]}
    assert all(0.2 <= row["tau"] <= 0.8 for row in found["choices"]["tau"])
    for entry in found["classes"]:
        assert entry["n_train"] > 0 and entry["n_regions"] == entry["n_images"] >= entry["n_patients"]
    for name in ("T1_verdict", "T2_alignment", "T3_dissection", "T4_geometry", "T5_gate", "T6_between"):
        assert json.loads((explained / f"explain/tables/{name}.json").read_text(encoding="utf-8")) is not None
    for path in ("look.html", "figures/F1_score_and_alignment.svg", "cases.npz", "rows/alignment.parquet"):
        assert (explained / "explain" / path).stat().st_size > 0, path


def test_a_number_of_the_table_can_be_made_from_its_rows(explained: Path) -> None:
    found = read_json(explained / "explain/explain.json")
    rows = pd.read_parquet(explained / "explain/rows/alignment.parquet")
    name, method = max(found["classes"], key=lambda entry: entry["n_images"])["name"], found["choices"]["method"]
    layer = found["choices"]["layer"]  # the last layer has rows of its own
    mine = rows[(rows["arm"] == "weighted") & (rows["class"] == name) & (rows["method"] == method)]
    mine = mine[mine["layer"] == layer]
    said = [
        row
        for row in found["tables"]["alignment"]
        if (row["arm"], row["class"], row["method"], row["cases"], row["layer"])
        == ("weighted", name, method, "all", layer)
    ]
    value = {row["metric"]: row["value"] for row in said}
    assert value["hit"] == pytest.approx(mine.groupby("seed")["hit"].mean().mean())
    each = mine.groupby("seed")[["mass", "mass_0"]].mean()
    corrected = ((each["mass"] - each["mass_0"]) / (1 - each["mass_0"])).mean()
    assert value["mass_corrected"] == pytest.approx(corrected)


def test_scores_are_those_of_the_study(explained: Path) -> None:
    """The probe's rows, the weights and the decision strategies are the ones that `train` predicted with."""
    ours = pd.read_parquet(explained / "explain/rows/scores.parquet")
    theirs = pd.read_parquet(explained / "arms/weighted/seed-1/val/predictions.parquet").set_index("case")
    mine = ours[(ours["arm"] == "weighted") & (ours["seed"] == 1)]
    for name, part in mine.groupby("class"):
        prob = theirs.loc[part["case"], f"prob_{name}"].to_numpy()
        np.testing.assert_allclose(1 / (1 + np.exp(-part["score"])), prob, atol=2e-5)


def test_a_second_call_does_nothing(own: Path, cli: Cli) -> None:
    watched = {path: sha256(path) for path in own.rglob("*") if path.is_file()}
    answer = cli("explain", own)
    assert answer.code == 0 and "looked into already" in answer.err
    assert {path: sha256(path) for path in own.rglob("*") if path.is_file()} == watched
    states = {step["name"]: step["state"] for step in cli("status", own, "--json").json["steps"]}
    assert states["explain"] == "done"


def test_nothing_of_the_runs_is_touched(explained: Path, trained: Path, cli: Cli) -> None:
    names = ["best.safetensors", "last.safetensors", "arm.json", "events.jsonl"]
    before = {path: sha256(path) for name in names for path in trained.glob(f"arms/*/*/{name}")}
    (explained / "explain/explain.json").unlink()
    assert cli("explain", explained).code == 0
    assert {path: sha256(path) for path in before} == before and len(before) == 16


def test_killed_and_resumed_is_the_same_file(
    own: Path, explained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raresight.explain import store

    whole = (explained / "explain/explain.json").read_bytes()
    shutil.rmtree(own / "explain")
    real, calls = store.class_maps, []

    def dies(*args: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 5:  # within the second network, after its first batch
            raise KeyboardInterrupt
        return real(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "class_maps", dies)
    assert cli("explain", own).code == 130
    assert not (own / "explain/explain.json").exists()
    kept = list((own / "explain/cache").glob("*/*/val/seen.json"))
    assert 0 < len(kept) < 4
    states = {step["name"]: step["state"] for step in cli("status", own, "--json").json["steps"]}
    assert "explain" not in states  # nobody's next step until it was asked for
    monkeypatch.setattr(store, "class_maps", real)
    written = {path: path.stat().st_mtime_ns for path in kept}
    assert cli("explain", own).code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == written
    assert (own / "explain/explain.json").read_bytes() == whole
    assert not list((own / "explain/cache").rglob(".*.tmp"))


def test_test_part_stays_shut_until_it_was_opened(own: Path, cli: Cli) -> None:
    answer = cli("explain", own, "--part", "test")
    assert answer.code == 4 and "raresight evaluate" in answer.err and "--part test" in answer.err
    for command in (("tune", own), ("evaluate", own, "--part", "test", "--yes")):
        assert cli(*command).code == 0
    states = {step["name"]: step["state"] for step in cli("status", own, "--json").json["steps"]}
    assert states["explain"] == "stale"
    found = cli("explain", own, "--json").json
    assert found["part"] == "test" and "opened for these networks" in found["limits"][0]
    assert found["choices"]["chosen_on"] == "val"
    assert len(list((own / "test").glob("opening-*"))) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--arm", "wieghted"), 2, "did you mean 'weighted'?"),
        (("--seed", "7"), 2, "the study's seeds are 0, 1"),
        (("--tasks", "alignement"), 2, "did you mean 'alignment'?"),
        (("--method", "gradcam"), 2, "did you mean 'grad_cam'?"),
        (("--layers", "backbone.layer9"), 2, "backbone.layer9"),
    ],
)
def test_wrong_options_are_told(explained: Path, cli: Cli, arguments: tuple[str, ...], code: int, words: str) -> None:
    answer = cli("explain", explained, *arguments)
    assert answer.code == code and words in answer.err, answer.err


def test_nothing_trained_and_no_images(trained: Path, phantom: Path, tmp_path: Path, cli: Cli) -> None:
    bare = Path(shutil.copytree(trained, tmp_path / "bare", ignore=shutil.ignore_patterns("arms", "explain")))
    answer = cli("explain", bare)
    assert answer.code == 2 and "RS-R48" in answer.err
    text = (bare / "study.yaml").read_text(encoding="utf-8")
    (bare / "study.yaml").write_text(text.replace("data:\n", "data:\n  images: false\n"), encoding="utf-8")
    answer = cli("explain", bare)
    assert answer.code == 2 and "no images" in answer.err


def test_boxes_in_the_pixels_of_the_file(trained: Path, tmp_path: Path) -> None:
    """48 px files at 32 px: a box from 12 to 36 covers a quarter of the image, from 8 to 24."""
    from raresight.verbs.explain_probe import probe_of
    from raresight.verbs.opened import OpenStudy

    folder = Path(shutil.copytree(trained, tmp_path / "boxed", ignore=shutil.ignore_patterns("explain")))
    study = OpenStudy.open(folder)
    rows = study.manifest.take(study.folds.rows(study.manifest, "val")).table
    first, second = rows.iloc[0], rows.iloc[1]
    other = next(name for name in study.task.classes if name != second["label"])
    lines = [
        f"{first['case']},{first['label'].upper()},12,0,36,48",
        f"{second['case']},{other},0,0,48,48",
        f"{second['case']},unheard,0,0,48,48",
    ]
    (folder / "boxes.csv").write_text("case,class,xmin,ymin,xmax,ymax\n" + "\n".join(lines), encoding="utf-8")
    text = (folder / "study.yaml").read_text(encoding="utf-8")
    (folder / "study.yaml").write_text(text.replace("data:\n", "data:\n  boxes: boxes.csv\n"), encoding="utf-8")
    probe, limits = probe_of(OpenStudy.open(folder), "val")
    assert probe.regions is not None and len(probe.regions) == 1 and probe.regions.kind == "box"
    mask = probe.regions.masks()[0]
    assert mask[:, 8:24].all() and mask.sum() == 16 * 32
    assert any("do not have that label" in limit for limit in limits)
    assert any("unheard" in limit for limit in limits)


def test_with_folds_the_images_are_not_those_the_network_was_trained_on(
    tmp_path: Path, phantom: Path, cli: Cli
) -> None:
    """Fold 0's network is shown fold 0, which it was held apart from; counts and the prior are of what it saw."""
    from raresight.verbs.explain_probe import probe_of, rows_of, training_counts
    from raresight.verbs.explain_runs import chosen_runs
    from raresight.verbs.opened import OpenStudy

    short = {**TINY["train"], "steps": 4, "head_steps": 2}
    folder = trained_study(
        tmp_path / "study", phantom, arms={"baseline": []}, train=short, split={**TINY["split"], "folds": 3}
    )
    assert cli("explain", folder, "--tasks", "geometry").code == 0
    study = OpenStudy.open(folder)
    split = pd.read_csv(folder / "data/split.csv", dtype=str).set_index("case")
    probe, _ = probe_of(study, "val")
    assert probe.cases is not None and set(split.loc[list(probe.cases), "fold"]) == {"0"}
    runs = chosen_runs(study)["baseline"]
    assert [run.path.name for run in runs] == ["fold-0"]
    seen = pd.read_parquet(runs[0].path / "val/predictions.parquet")["case"]
    assert sorted(seen) == sorted(map(str, probe.cases))  # what it was validated on, and so not trained on
    trained_on = study.manifest.take(rows_of(study, "train"))
    assert set(split.loc[list(trained_on.cases), "fold"]) == {"1", "2"}
    units = split.loc[list(probe.cases), "unit"]
    assert not set(units) & set(split.loc[list(trained_on.cases), "unit"])
    target = trained_on.targets(study.task)
    assert list(training_counts(study).values()) == [int(n) for n in (target == 1).sum(0)]
    limits = read_json(folder / "explain/explain.json")["limits"]
    assert any("the one of fold 0 is looked into, on images that it was not trained on" in limit for limit in limits)


def test_a_mask_that_was_drawn_anew_is_noticed_at_the_same_size(trained: Path) -> None:
    from raresight.verbs.explain_probe import regions_stamp
    from raresight.verbs.opened import OpenStudy

    study = OpenStudy.open(trained)
    before = regions_stamp(study, ["val"])
    names = study.manifest.take(study.folds.rows(study.manifest, "val")).column("mask")
    path = study.root / next(name for name in names if name)
    kept, facts = path.read_bytes(), path.stat()
    try:
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert path.stat().st_size == facts.st_size and regions_stamp(study, ["val"]) != before
    finally:
        path.write_bytes(kept)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert regions_stamp(study, ["val"]) == before


def test_a_layer_named_twice_is_asked_once() -> None:
    from raresight.verbs.explain import METHODS, TASKS, _asked

    def layers(*names: str) -> list[str]:
        return list(_asked([], [], None, TASKS, METHODS, names)["layers"])

    assert layers("backbone.layer3", "backbone.layer2", "backbone.layer3") == ["backbone.layer3", "backbone.layer2"]
    assert layers("auto", "auto") == layers() == []
