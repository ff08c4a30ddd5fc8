"""Thinning: whole groups, only the class asked for, nested, and never more than was asked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raresight.core.errors import ConfigError
from raresight.core.manifest import Manifest
from raresight.core.task import Task
from raresight.data.thin import thin

AB = Task("exclusive", ("a", "b", "c"))
FINDINGS = Task("independent", ("edema", "nodule"))


def exclusive(labels: str, patients: list[str]) -> Manifest:
    cases = [f"c{i:03d}" for i in range(len(labels))]
    return Manifest(pd.DataFrame({"case": cases, "patient_id": patients, "label": list(labels)}))


def twenty() -> Manifest:
    """Twelve `a` of twelve patients, eight `b`: two of patient x (who has an `a` too), and of y, z, each three."""
    return exclusive("a" * 12 + "bb" + "bbb" + "bbb", [*(f"p{i}" for i in range(11)), "x", *"xxyyyzzz"])


def test_whole_groups_go_and_only_their_cases_of_the_class() -> None:
    manifest = twenty()
    everything = np.arange(20)
    # 6 of 18 is 0.333, 5 of 17 is 0.294, 3 of 15 is 0.2, 2 of 14 is 0.143
    for seed in range(20):
        left = thin(manifest, everything, AB, "b", 0.34, group="patient_id", seed=seed)
        labels, patients = manifest.table["label"][left.rows], manifest.table["patient_id"][left.rows]
        assert (labels == "a").sum() == 12, "no case of another class may go"
        of_b = patients[labels == "b"].value_counts().to_dict()
        assert of_b in ({"x": 2, "y": 3}, {"x": 2, "z": 3}, {"y": 3, "z": 3})
        assert left.n_positive == sum(of_b.values()) == (labels == "b").sum()
        assert left.n_groups == 2
        assert left.prevalence == pytest.approx(left.n_positive / (12 + left.n_positive))
        assert left.natural == pytest.approx(8 / 20)
        assert left.others == {"a": {"before": 12, "after": 12}, "c": {"before": 0, "after": 0}}
        assert not left.problems


def test_the_order_comes_from_the_seed() -> None:
    manifest = twenty()
    kept = {tuple(thin(manifest, np.arange(20), AB, "b", 0.2, group="patient_id", seed=s).rows) for s in range(20)}
    assert len(kept) == 3, "each of the three patients is sometimes the one that stays"
    again = [thin(manifest, np.arange(20), AB, "b", 0.2, group="patient_id", seed=5).rows.tolist() for _ in range(2)]
    assert again[0] == again[1]


def test_the_boundary_belongs_to_the_prevalence() -> None:
    singles = exclusive("a" * 95 + "b" * 10, [f"p{i}" for i in range(105)])
    at = thin(singles, np.arange(105), AB, "b", 0.05, group="patient_id", seed=0)
    assert (at.n_positive, at.prevalence) == (5, 0.05)  # 5 of 100 is 5% exactly, 6 of 101 is more
    below = thin(singles, np.arange(105), AB, "b", 0.0499, group="patient_id", seed=0)
    assert below.n_positive == 4
    whole = thin(singles, np.arange(105), AB, "b", 10 / 105, group="patient_id", seed=0)
    assert whole.rows.tolist() == list(range(105))


def test_only_rows_of_the_training_part_count() -> None:
    singles = exclusive("a" * 95 + "b" * 10, [f"p{i}" for i in range(105)])
    rows = np.r_[0:19, 95:101]  # 19 negatives, 6 positives
    left = thin(singles, rows, AB, "b", 0.05, group="patient_id", seed=0)
    assert left.n_positive == 1 and set(left.rows) <= set(rows) and left.natural == pytest.approx(6 / 25)


def test_at_least_one_group_stays_and_says_that_nothing_can_be_concluded() -> None:
    left = thin(twenty(), np.arange(20), AB, "b", 0.01, group="patient_id", seed=0)
    assert left.n_groups == 1 and left.n_positive in (2, 3)
    (problem,) = left.problems
    assert problem.level == "warning" and "nothing can be concluded" in problem.why
    assert "0.01 was asked" in problem.found


def test_two_groups_are_not_called_too_few() -> None:
    singles = exclusive("a" * 98 + "b" * 10, [f"p{i}" for i in range(108)])
    assert not thin(singles, np.arange(108), AB, "b", 0.02, group="patient_id", seed=0).problems
    assert thin(singles, np.arange(108), AB, "b", 0.0199, group="patient_id", seed=0).problems


def test_a_finding_goes_with_what_occurs_beside_it() -> None:
    table = pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(8)],
            "patient_id": [*"ssttuvww"],
            "label_edema": ["1", "0", "1", "1", "0", "0", "", "0"],
            "label_nodule": ["1", "1", "1", "0", "1", "0", "1", "0"],
        }
    )
    # edema: 3 of 7 known. At 0.34 one group of two stays: s (1 of 5) or t (2 of 6).
    for seed in range(8):
        left = thin(Manifest(table), np.arange(8), FINDINGS, "edema", 0.34, group="patient_id", seed=seed)
        kept_s = 0 in left.rows
        assert left.rows.tolist() == ([0, 1, 4, 5, 6, 7] if kept_s else [1, 2, 3, 4, 5, 6, 7])
        assert left.others == {"nodule": {"before": 5, "after": 4}}
        assert left.prevalence == pytest.approx(1 / 5 if kept_s else 2 / 6)


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.41, "at most 0.4"), (5, "0.05 (5%)"), (0.0, "between 0 and 1"), (-0.1, "between 0 and 1"), (250, "between")],
)
def test_impossible_prevalences_are_refused(share: float, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        thin(twenty(), np.arange(20), AB, "b", share, group="patient_id", seed=0)
    assert refusal.value.problems[0].code == "RS-C39" and said in refusal.value.problems[0].remedy


def test_an_absent_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="no training case has 'c'"):
        thin(twenty(), np.arange(20), AB, "c", 0.1, group="patient_id", seed=0)


def test_a_misspelt_class_is_refused_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'nodule'"):
        thin(Manifest(pd.DataFrame({"case": ["c"], "patient_id": ["p"], "label_edema": ["1"], "label_nodule": ["0"]})),
             np.arange(1), FINDINGS, "noduel", 0.1, group="patient_id", seed=0)  # fmt: skip


@st.composite
def parts(draw: st.DrawFn) -> tuple[Manifest, np.ndarray]:
    labels, patients = [], []
    for patient in range(draw(st.integers(3, 25))):
        for _ in range(draw(st.integers(1, 4))):
            labels.append(draw(st.sampled_from("aab")))
            patients.append(f"p{patient}")
    labels += ["a", "b"]
    patients += ["first", "last"]
    manifest = exclusive("".join(labels), patients)
    inside = draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)))
    rows = np.flatnonzero(np.array(inside) | np.isin(patients, ["first", "last"]))
    return manifest, rows


@settings(max_examples=100, deadline=None)
@given(parts(), st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.integers(0, 5))
def test_nested_maximal_and_whole(made: tuple[Manifest, np.ndarray], one: float, other: float, seed: int) -> None:
    manifest, rows = made
    label = manifest.table["label"].to_numpy()
    natural = float(np.mean(label[rows] == "b"))
    low, high = sorted(min(share, natural) for share in (one, other))
    few, many = (thin(manifest, rows, AB, "b", share, group="patient_id", seed=seed) for share in (low, high))
    assert set(few.rows) <= set(many.rows) <= set(rows)
    patient = manifest.table["patient_id"].to_numpy()
    for left, share in ((few, low), (many, high)):
        gone = np.setdiff1d(rows, left.rows)
        assert (label[gone] == "b").all()
        kept = {p for p, name in zip(patient[left.rows], label[left.rows], strict=True) if name == "b"}
        assert not kept & set(patient[gone]), "a patient's cases of the class stay or go together"
        assert left.n_groups == len(kept) >= 1
        assert left.n_groups == 1 or left.prevalence <= share + 1e-9
