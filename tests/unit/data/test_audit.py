"""The audit's counts against hand-made tables and the published ones; the forecast against the research's table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raresight.core.binomial import n_for_gain
from raresight.core.config import SplitSection
from raresight.core.errors import DataError
from raresight.core.folds import Folds
from raresight.core.manifest import Manifest
from raresight.core.task import Task
from raresight.data.audit import audit
from raresight.data.forecast import forecast, smallest_gain
from raresight.data.split import split

# Table 1 of Li et al. for all 112,120 images of ChestX-ray14: count, prevalence in percent as printed.
PUBLISHED = {
    "Infiltration": (19894, 17.7),
    "Effusion": (13317, 11.9),
    "Atelectasis": (11559, 10.3),
    "Nodule": (6331, 5.6),
    "Mass": (5782, 5.2),
    "Pneumothorax": (5302, 4.7),
    "Consolidation": (4667, 4.2),
    "Pleural_Thickening": (3385, 3.0),
    "Cardiomegaly": (2776, 2.5),
    "Emphysema": (2516, 2.2),
    "Edema": (2303, 2.1),
    "Fibrosis": (1686, 1.5),
    "Pneumonia": (1431, 1.3),
    "Hernia": (227, 0.2),
}


def by_name(report: dict) -> dict[str, dict]:
    return {row["name"]: row for row in report["classes"]}


def test_independent_labels_by_hand() -> None:
    """Six images of four patients; `x` is known in five of them and present in two, of one patient."""
    manifest = Manifest(
        pd.DataFrame(
            {
                "case": list("abcdef"),
                "patient_id": ["1", "1", "2", "3", "3", "4"],
                "label_x": ["1", "1", "0", "0", "", "0"],
                "label_y": ["1", "0", "1", "1", "", "0"],
            }
        )
    )
    task = Task("independent", ("x", "y"))
    report = audit(manifest, task, group_by="patient_id", split=SplitSection())
    assert (report["n_images"], report["n_patients"], report["group_by"]) == (6, 4, "patient_id")
    x, y = by_name(report)["x"], by_name(report)["y"]
    assert (x["n_images"], x["n_patients"], x["n_unknown"]) == (2, 1, 1)
    assert x["prevalence"] == pytest.approx(2 / 5)
    assert x["imbalance_ratio"] == pytest.approx(1.5)  # 3 known negatives to 2 positives
    assert (y["n_images"], y["n_patients"]) == (3, 3)
    assert report["cooccurrence"] == {"classes": ["x", "y"], "n_images": [[2, 1], [1, 3]]}
    assert (report["n_without_label"], report["n_without_any_class"]) == (1, 1)  # e; f
    assert report["long_tail"]["imbalance_ratio"] == pytest.approx(1.5)
    # shares 0.4 and 0.6: exp(-(0.4 ln 0.4 + 0.6 ln 0.6)) = exp(0.67301) = 1.9601
    assert report["long_tail"]["effective_classes"] == pytest.approx(1.960, abs=5e-4)
    assert report["long_tail"]["commonest_to_rarest"] == ["y", "x"]


def exclusive(counts: dict[str, int], critical: tuple[str, ...] = ()) -> tuple[Manifest, Task]:
    """One image a patient."""
    labels = [name for name, n in counts.items() for _ in range(n)]
    ids = [f"{i}" for i in range(len(labels))]
    manifest = Manifest(pd.DataFrame({"case": ids, "patient_id": ids, "label": labels}))
    return manifest, Task("exclusive", tuple(counts), critical)


def test_exclusive_labels_by_hand() -> None:
    manifest, task = exclusive({"nv": 150, "mel": 40, "df": 8, "vasc": 2})
    report = audit(manifest, task, group_by="patient_id", split=SplitSection())
    rows = by_name(report)
    assert [rows[n]["severity"] for n in task.classes] == ["balanced", "balanced", "moderate", "severe"]
    assert [rows[n]["imbalance_ratio"] for n in task.classes] == [1.0, 3.75, 18.75, 75.0]
    assert report["cooccurrence"] is None
    assert rows["mel"]["forecast"]["test"]["n_positive_patients"] == pytest.approx(8)
    assert rows["mel"]["forecast"]["val"]["n_positive_patients"] == pytest.approx(4)
    assert rows["df"]["forecast"]["val"]["n_positive_patients"] == 1  # 0.8 of a patient, and the split owes it one
    assert rows["vasc"]["forecast"]["val"]["halfwidth"] is None  # two patients go to train and test
    assert rows["vasc"]["recall_interval_halfwidth"] == rows["vasc"]["forecast"]["test"]["halfwidth"] > 0.3
    assert json.dumps(report, allow_nan=False)


def test_the_forecast_with_folds_pools_train_and_validation() -> None:
    manifest, task = exclusive({"a": 100, "b": 100})
    report = audit(manifest, task, group_by="patient_id", split=SplitSection(folds=5))
    assert by_name(report)["a"]["forecast"]["val"]["n_positive_patients"] == pytest.approx(80)
    assert by_name(report)["a"]["forecast"]["test"]["n_positive_patients"] == pytest.approx(20)


@pytest.mark.parametrize("counts", [{"a": 200, "b": 50, "c": 3}, {"a": 200, "b": 50, "c": 2}, {"a": 30, "b": 1}])
@pytest.mark.parametrize("n_folds", [0, 4])
def test_the_plan_is_what_the_split_then_does(counts: dict[str, int], n_folds: int) -> None:
    manifest, task = exclusive(counts)
    wanted = SplitSection(folds=n_folds)
    planned = audit(manifest, task, group_by="patient_id", split=wanted)
    done = audit(manifest, task, group_by="patient_id", split=wanted, folds=split(manifest, task, wanted))
    for name in counts:
        for part in ("val", "test"):
            before, after = (by_name(r)[name]["forecast"][part]["n_positive_patients"] for r in (planned, done))
            assert after == pytest.approx(before, abs=1)
            assert (before == 0) == (after == 0)


def test_counts_per_part_when_the_split_is_known() -> None:
    manifest, task = exclusive({"a": 6, "b": 2})
    parts = ["train", "train", "train", "val", "test", "test", "train", "test"]
    folds = Folds(pd.DataFrame({"case": manifest.cases, "unit": manifest.cases, "part": parts, "fold": -1}))
    report = audit(manifest, task, group_by="patient_id", split=SplitSection(), folds=folds)
    assert report["parts"]["train"] == {"n_images": 4, "n_patients": 4}
    b = by_name(report)["b"]
    assert [b["parts"][p]["n_patients"] for p in ("train", "val", "test")] == [1, 0, 1]
    absent = [p for p in report["problems"] if p["code"] == "RS-M14"]
    assert [(p["column"], p["level"]) for p in absent] == [("b", "warning")]
    assert "absent from validation" in absent[0]["found"]


def test_classes_with_no_one_or_two_patients_are_named() -> None:
    manifest, task = exclusive({"a": 40, "b": 3, "two": 2, "one": 1})
    task = Task("exclusive", (*task.classes, "none"))
    report = audit(manifest, task, group_by="patient_id", split=SplitSection())
    found = {p["column"]: p for p in report["problems"] if p["code"] == "RS-M13"}
    assert {name: p["level"] for name, p in found.items()} == {"two": "warning", "one": "warning", "none": "error"}
    assert "merge" in found["one"]["remedy"]
    none = by_name(report)["none"]
    assert (none["severity"], none["imbalance_ratio"], none["recall_interval_halfwidth"]) == ("absent", None, None)
    assert report["long_tail"]["n_absent"] == 1


def test_folds_are_recommended_below_thirty_validation_patients_of_a_critical_class() -> None:
    manifest, task = exclusive({"nv": 1000, "mel": 299, "df": 20}, critical=("mel",))
    report = audit(manifest, task, group_by="patient_id", split=SplitSection())  # 29.9 planned
    assert report["folds_recommended"] is True
    assert "mel (29.9)" in report["findings"][0]
    assert "df" not in report["findings"][0]  # not critical
    enough, task = exclusive({"nv": 1000, "mel": 300, "df": 20}, critical=("mel",))
    assert audit(enough, task, group_by="patient_id", split=SplitSection())["folds_recommended"] is False
    crossed = audit(manifest, task, group_by="patient_id", split=SplitSection(folds=5))
    assert crossed["folds_recommended"] is False


def test_a_blank_patient_is_not_counted_as_one() -> None:
    manifest = Manifest(pd.DataFrame({"case": ["a", "b"], "patient_id": ["1", ""], "label": ["x", "y"]}))
    with pytest.raises(DataError) as error:
        audit(manifest, Task("exclusive", ("x", "y")), group_by="patient_id", split=SplitSection())
    assert (error.value.problems[0].code, error.value.problems[0].row) == ("RS-M02", 3)


# --- forecast -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "low", "high", "none_missed"),
    # Wilson at observed recall 0.8 (4 of 5, 32 of 40, 80 of 100), and its lower bound at 1, published to two places.
    [(5, 0.38, 0.96, 0.57), (40, 0.65, 0.90, 0.91), (100, 0.71, 0.87, 0.96)],
)
def test_forecast_equals_the_published_warnings(n: int, low: float, high: float, none_missed: float) -> None:
    figures = forecast(n)
    assert figures["recall_low"] == pytest.approx(low, abs=0.006)
    assert figures["recall_high"] == pytest.approx(high, abs=0.006)
    assert figures["lower_bound_if_none_missed"] == pytest.approx(none_missed, abs=0.006)
    assert figures["halfwidth"] == pytest.approx((figures["recall_high"] - figures["recall_low"]) / 2, abs=1e-4)


@pytest.mark.parametrize(("n", "gain"), [(233, 0.10), (120, 0.15), (76, 0.20)])
def test_smallest_gain_inverts_the_published_sizes(n: int, gain: float) -> None:
    """10 points with 30% discordance need 233 positives, 15 (35%) 120, 20 (40%) 76."""
    assert smallest_gain(n) == pytest.approx(gain, abs=0.001)


def test_smallest_gain_is_the_exact_inverse_and_falls_with_n() -> None:
    gains = [smallest_gain(n) for n in (10, 30, 100, 1000, 1e6)]
    assert all(g is not None for g in gains)
    assert gains == sorted(gains, reverse=True)
    assert n_for_gain(gains[1], gains[1] + 0.2) == pytest.approx(30)
    assert smallest_gain(9) is None  # even 80 points would need ten
    assert smallest_gain(0) is None


def test_no_patient_no_figure() -> None:
    figures = forecast(0)
    assert {v for k, v in figures.items() if k not in ("n_positive_patients", "at_recall")} == {None}


# --- the real table -------------------------------------------------------------------------------------------------


def test_chest_xray14_equals_its_published_table(data_root: Path) -> None:
    table = pd.read_csv(data_root / "nih_cxr14_tables" / "labels.csv.gz", dtype=str, keep_default_na=False)
    labels = "|" + table["labels"] + "|"
    flags = {f"label_{n}": np.where(labels.str.contains(f"|{n}|", regex=False), "1", "0") for n in PUBLISHED}
    manifest = Manifest(pd.DataFrame({"case": table["image"], "patient_id": table["patient_id"]} | flags))
    task = Task("independent", tuple(PUBLISHED))
    report = audit(manifest, task, group_by="patient_id", split=SplitSection())
    assert (report["n_images"], report["n_patients"]) == (112_120, 30_805)
    for row in report["classes"]:
        count, percent = PUBLISHED[row["name"]]
        assert row["n_images"] == count
        assert round(100 * row["prevalence"], 1) == percent
    severities = {name: row["severity"] for name, row in by_name(report).items()}
    assert (severities["Hernia"], severities["Pneumothorax"]) == ("extreme", "moderate")
    assert report["n_without_any_class"] == 60_361  # "No Finding" in the folder's README
    assert report["long_tail"]["commonest_to_rarest"] == list(PUBLISHED)
    assert report["folds_recommended"] is True  # Hernia: 134 patients, 13 of them in validation
