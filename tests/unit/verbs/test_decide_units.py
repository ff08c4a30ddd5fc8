"""From pictures to one row a decision unit: figures by hand, the network replaced by a table of logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raresight.core.bundle import CALIBRATOR, THRESHOLDS, Bundle, seal
from raresight.core.files import write_json
from raresight.core.predictions import Predictions
from raresight.core.task import Task
from raresight.verbs import predict as verb
from raresight.verbs.bundled import Seen, mean_logits
from raresight.verbs.freeze import pooled

ILL = {"P1.png": 2.0, "P2.png": -2.0, "P3.png": 0.0, "P4.png": -3.0, "bad.png": np.nan}


def bundle(tmp_path: Path, unit: str = "lesion", refer: dict[str, Any] | None = None) -> Bundle:
    facts = {
        "frozen": "2026-01-01",
        "task": {"kind": "independent", "classes": ["ill", "odd"], "critical": []},
        "arm": {"name": "baseline"},
        "seeds": [0],
        "study": {"quick": False},
        "decision": {"unit": unit, "column": "lesion_id" if unit == "lesion" else None, "aggregate": "max"},
    }

    def fill(folder: Path) -> None:
        write_json(folder / CALIBRATOR, {"method": "none", "shift": None, "temperature": 1.0})
        records = {"ill": {"threshold": 0.4}, "odd": {"threshold": None}}
        write_json(folder / THRESHOLDS, {"thresholds": records, "conformal": None, "refer": refer})

    return seal(tmp_path / "bundle", facts, fill)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def see(loaded: Bundle, images: list[str], root: Path, progress: Any) -> Seen:
        z = np.array([ILL[Path(image).name] for image in images])
        usable = ~np.isnan(z)
        logits = np.stack([z[usable], np.zeros(usable.sum())], axis=1).astype(np.float32)
        reason = np.where(usable, "", "the image is damaged").astype(object)
        return Seen(logits, usable, reason, np.full(len(z), "", dtype=object))

    monkeypatch.setattr(verb, "see", see)


def table(tmp_path: Path, lesions: list[str]) -> Path:
    path = tmp_path / "list.csv"
    rows = {"image": list(ILL), "lesion_id": lesions, "patient_id": ["a", "a", "b", "b", "b"]}
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.mark.usefixtures("seen")
def test_a_lesion_takes_its_highest_picture(tmp_path: Path) -> None:
    """Lesion x has logits 2 and -2: 0.88, an alarm. Lesion y has 0 and a damaged picture: a human must look."""
    made = bundle(tmp_path)
    rows = verb.predict(made.folder, [table(tmp_path, ["x", "x", "y", "z", "y"])])
    assert list(rows["case"]) == ["x", "y", "z"] and list(rows["n_images"]) == [2, 2, 1]
    assert rows["prob_ill"].round(3).tolist() == [0.881, 0.5, 0.047]
    assert list(rows["status"]) == ["decided", "refer", "decided"]
    assert rows["decision_ill"].tolist() == [1, pd.NA, 0] or rows["decision_ill"].isna().tolist() == [
        False,
        True,
        False,
    ]
    assert rows["decision_ill"].iloc[0] == 1 and rows["decision_ill"].iloc[2] == 0
    assert rows["decision_odd"].isna().all()  # no threshold, no decision
    assert rows["reason"].iloc[1] == "1 of 2 pictures cannot be used: the image is damaged"
    assert list(rows["patient_id"]) == ["a", "b", "b"]


@pytest.mark.usefixtures("seen")
def test_a_lesion_without_any_usable_picture_is_invalid(tmp_path: Path) -> None:
    rows = verb.predict(bundle(tmp_path).folder, [table(tmp_path, ["x", "x", "y", "z", "w"])])
    last = rows.iloc[3]
    assert last["case"] == "w" and last["status"] == "invalid_input" and last["reason"] == "the image is damaged"
    assert np.isnan(last["prob_ill"]) and last["decision_ill"] is pd.NA


@pytest.mark.usefixtures("seen")
def test_pictures_without_a_lesion_stand_alone(tmp_path: Path) -> None:
    rows = verb.predict(bundle(tmp_path).folder, [tmp_path / name for name in ILL])
    assert len(rows) == 5 and rows["n_images"].eq(1).all() and rows["case"].is_unique


@pytest.mark.usefixtures("seen")
def test_what_lies_near_the_threshold_is_referred(tmp_path: Path) -> None:
    """logit(0.4) = -0.405: the picture at 0 is 0.405 away, the one at -2 is 1.6 away; a band of 0.5 refers the one."""
    refer = {"width": 0.5, "thresholds": {"ill": 0.4}, "watched": ["ill"]}
    made = bundle(tmp_path, unit="image", refer=refer)
    rows = verb.predict(made.folder, [tmp_path / name for name in ILL])
    assert list(rows["status"]) == ["decided", "decided", "refer", "decided", "invalid_input"]
    assert "too close" in rows["reason"].iloc[2] and rows["decision_ill"].iloc[2] is pd.NA
    assert rows["prob_ill"].iloc[2] == pytest.approx(0.5)


def test_several_networks_are_their_mean_probability(tmp_path: Path) -> None:
    """Probabilities 0.8 and 0.4: mean 0.6, whose log-odds are ln 1.5."""
    two = [np.log(np.array([[4.0, 1.0]])), np.log(np.array([[2 / 3, 1.0]]))]
    assert mean_logits(bundle(tmp_path), two)[0] == pytest.approx([np.log(1.5), 0.0])
    assert mean_logits(bundle(tmp_path), two[:1]) is two[0]


def test_seeds_are_joined_case_by_case() -> None:
    """The second seed lists its cases in another order."""
    task = Task("exclusive", ("ill", "well"))
    rows = pd.DataFrame({"case": ["1", "2"], "patient_id": ["p", "q"], "prob_ill": [0.8, 0.1], "label": ["ill", ""]})
    first = rows.assign(prob_well=1 - rows["prob_ill"])
    second = first.assign(prob_ill=[0.4, 0.3], prob_well=[0.6, 0.7]).iloc[::-1].reset_index(drop=True)
    both = pooled([Predictions(one, task, "a", seed, "val") for seed, one in enumerate((first, second))])
    assert list(both.cases) == ["1", "2"] and both.prob[:, 0] == pytest.approx([0.6, 0.2])
    assert both.seed is None and both.part == "val" and list(both.table["label"]) == ["ill", ""]
    assert pooled([both]) is both
