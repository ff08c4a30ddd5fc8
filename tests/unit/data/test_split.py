"""The split: nothing crosses, everything is assigned once, rare classes arrive, and leaks are refused."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raresight.core.config import SplitSection
from raresight.core.errors import ConfigError, DataError, GateError
from raresight.core.folds import Folds
from raresight.core.manifest import Manifest
from raresight.core.task import Task
from raresight.data.split import split, supplied
from raresight.data.stratify import seat
from raresight.data.units import crossings, units

ABC = Task("exclusive", ("a", "b", "c"))


def exclusive(labels: list[str], patients: list[str], **more: list[str]) -> Manifest:
    cases = [f"c{i:04d}" for i in range(len(labels))]
    return Manifest(pd.DataFrame({"case": cases, "patient_id": patients, "label": labels} | more))


def places(folds: Folds) -> np.ndarray:
    return np.where(folds.table["fold"] >= 0, "fold-" + folds.table["fold"].astype(str), folds.table["part"])


def reached(manifest: Manifest, task: Task, folds: Folds) -> set[tuple[str, str]]:
    target = np.nan_to_num(manifest.targets(task))
    where = places(folds)
    return {(name, where[row]) for k, name in enumerate(task.classes) for row in np.flatnonzero(target[:, k])}


@st.composite
def studies(draw: st.DrawFn) -> tuple[Manifest, dict[str, str]]:
    """A few patients with lesions below them, exclusive labels per patient, and some identical pictures."""
    n_patients = draw(st.integers(7, 30))  # 7 of 3 classes: one class at least can fill three parts
    labels, patients, groups, hashes = [], [], [], []
    for patient in range(n_patients):
        label = draw(st.sampled_from("aaaabbc"))
        for image in range(draw(st.integers(1, 5))):
            labels.append(label)
            patients.append(f"p{patient}")
            groups.append(f"p{patient}-l{image % 2}")
            hashes.append(draw(st.sampled_from(["", "", "", "", "same1", "same2"])) or f"unique{len(hashes)}")
    manifest = exclusive(labels, patients, group=groups)
    return manifest, dict(zip(manifest.cases, hashes, strict=True))


@settings(max_examples=60, deadline=None)
@given(studies(), st.sampled_from(["patient_id", "group"]), st.sampled_from([0, 2, 3]), st.integers(0, 3))
def test_no_patient_lesion_or_picture_crosses(study: tuple[Manifest, dict], group: str, k: int, seed: int) -> None:
    manifest, identical = study
    wanted = SplitSection(group=group, folds=k, seed=seed)
    try:
        folds = split(manifest, ABC, wanted, identical=identical)
    except DataError as error:  # joined pictures may leave fewer units than parts
        assert [p.code for p in error.problems] == ["RS-M13"]
        assert len(set(units(manifest, group, identical=identical))) < (k + 1 if k else 3)
        return
    assert list(folds.table["case"]) == list(manifest.cases)  # all of them, once
    where = places(folds)
    expected = {"train", "val", "test"} if not k else {"test", *(f"fold-{i}" for i in range(k))}
    assert set(where) == expected  # no part is empty
    for ids in (manifest.column("patient_id"), manifest.column("group"), [identical[c] for c in manifest.cases]):
        assert crossings(np.array(ids, dtype=object), where) == {}
    assert crossings(folds.table["unit"].to_numpy(dtype=object), where) == {}


@settings(max_examples=40, deadline=None)
@given(studies(), st.randoms(use_true_random=False), st.integers(0, 5))
def test_order_of_rows_does_not_matter(study: tuple[Manifest, dict], random, seed: int) -> None:
    manifest, _ = study
    order = list(range(len(manifest)))
    random.shuffle(order)
    wanted = SplitSection(seed=seed)
    first = split(manifest, ABC, wanted).table.sort_values("case", ignore_index=True)
    second = split(manifest.take(order), ABC, wanted).table.sort_values("case", ignore_index=True)
    pd.testing.assert_frame_equal(first, second)


@settings(max_examples=60, deadline=None)
@given(studies(), st.integers(0, 5))
def test_a_class_with_three_patients_reaches_three_parts(study: tuple[Manifest, dict], seed: int) -> None:
    """Each patient has one label, so the documented rule must hold exactly."""
    manifest, _ = study
    got = reached(manifest, ABC, split(manifest, ABC, SplitSection(seed=seed)))
    patients = manifest.table.groupby("label")["patient_id"].nunique()
    owed = {0: set(), 1: {"train"}, 2: {"train", "test"}}
    for name in ABC.classes:
        n = int(patients.get(name, 0))
        assert {part for label, part in got if label == name} == owed.get(n, {"train", "val", "test"})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=3, max_size=7), st.integers(0, 3))
def test_labels_that_occur_together_reach_what_brute_force_reaches(holds: list[list[bool]], seed: int) -> None:
    """Against all 3^U seatings of up to 7 units: none fills more bins, and then meets more claims, than ours does."""
    has = np.array(holds, dtype=bool)
    n_units = len(has)
    claims = np.column_stack([has, np.ones(n_units, dtype=bool)])
    owed = [(k, b) for k, n in enumerate(claims.sum(axis=0)) for b in range(min(n, 3))]

    def met(bins: np.ndarray) -> tuple[int, int]:
        return len(set(bins)), sum(bool((claims[:, k] & (bins == b)).any()) for k, b in owed)

    ours = seat(
        np.ones(n_units),
        has,
        np.array([0.7, 0.2, 0.1]),
        np.tile(np.arange(3), (4, 1)),
        filler=None,
        rng=np.random.default_rng(seed),
    )
    best = max(met(np.array(bins)) for bins in itertools.product(range(3), repeat=n_units))
    assert met(ours) == best


def test_greedy_seating_alone_would_leave_a_debt() -> None:
    """Classes a {0,1,2}, b {3,4,5}, c {0,3,6}: 0 and 3 may not both be in training. Fails if `_settle` does nothing."""
    has = np.zeros((7, 3), dtype=bool)
    has[[0, 1, 2], 0] = has[[3, 4, 5], 1] = has[[0, 3, 6], 2] = True
    for seed in range(20):
        bins = seat(
            np.ones(7),
            has,
            np.array([0.7, 0.2, 0.1]),
            np.tile(np.arange(3), (4, 1)),
            filler=None,
            rng=np.random.default_rng(seed),
        )
        assert [len(set(bins[has[:, k]])) for k in range(3)] == [3, 3, 3]


def test_seed_decides_and_shares_hold() -> None:
    """600 patients of 1 to 6 images: parts within one point of 70/10/20, for images, patients and the rare class."""
    rng = np.random.default_rng(0)
    labels, patients = [], []
    for patient in range(600):
        label = "c" if patient < 30 else "b" if patient < 150 else "a"
        for _ in range(int(rng.integers(1, 7))):
            labels.append(label)
            patients.append(str(patient))
    manifest = exclusive(labels, patients)
    first, again, other = (split(manifest, ABC, SplitSection(seed=s)).table for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert (first["part"] != other["part"]).mean() > 0.2
    for table in (first, other):
        for counted in (table["part"], table.drop_duplicates("unit")["part"]):
            share = counted.value_counts(normalize=True)
            assert share["train"] == pytest.approx(0.7, abs=0.01)
            assert share["val"] == pytest.approx(0.1, abs=0.01)
        rare = table[np.array(labels) == "c"].drop_duplicates("unit")["part"].value_counts()
        assert rare.to_dict() == {"train": 21, "test": 6, "val": 3}


def test_three_huge_patients_do_not_swell_the_small_parts() -> None:
    """Three patients of 60 images, one to each part, and 180 of one image.

    Seating by patients alone would give validation 18 of 183 patients and so 77 images; by images alone none beyond
    the huge one. Both weigh alike, so validation gets a few single images and training makes up for the rest.
    """
    manifest = exclusive(
        ["a"] * 360, [str(i) for i in range(3) for _ in range(60)] + [f"single{i}" for i in range(180)]
    )
    parts = split(manifest, ABC, SplitSection()).table["part"].value_counts()
    assert 60 < parts["val"] < 70
    assert 200 < parts["train"] < 252


def test_exclusive_labels_need_no_integer_programme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims are met at the first seating where each unit has one label; `_settle` then has nothing to solve."""
    monkeypatch.setattr("raresight.data.stratify.milp", None)
    manifest = exclusive(["a"] * 50 + ["b"] * 3 + ["c"] * 2, [str(i) for i in range(55)])
    for n_folds in (0, 5):
        got = reached(manifest, ABC, split(manifest, ABC, SplitSection(folds=n_folds)))
        assert [sum(label == name for label, _ in got) for name in "bc"] == [3, 2]


def test_folds_spread_the_rare_class_and_keep_test_apart() -> None:
    labels = ["c"] * 12 + ["a"] * 188
    manifest = exclusive(labels, [str(i) for i in range(200)])
    folds = split(manifest, ABC, SplitSection(folds=5))
    assert folds.n_folds == 5
    table = folds.table
    assert set(table.loc[table["fold"] < 0, "part"]) == {"test"}
    assert set(table.loc[table["fold"] >= 0, "part"]) == {"train"}
    assert table["fold"].value_counts().to_dict() == {-1: 40, 0: 32, 1: 32, 2: 32, 3: 32, 4: 32}
    rare = table["fold"][:12].value_counts()
    assert rare.sum() == 12
    assert rare[-1] in (2, 3)
    assert set(rare[[0, 1, 2, 3, 4]]) <= {1, 2, 3}
    held_out = np.concatenate([folds.rows(manifest, "val", fold) for fold in range(5)])
    assert sorted(held_out) == sorted(folds.rows(manifest, "val"))  # each out of fold exactly once


def test_two_patients_of_a_class_fall_to_a_fold_and_the_test_part() -> None:
    manifest = exclusive(["c", "c"] + ["a"] * 40, [str(i) for i in range(42)])
    used = set()
    for seed in range(12):
        got = {part for label, part in reached(manifest, ABC, split(manifest, ABC, SplitSection(folds=4, seed=seed)))
               if label == "c"}  # fmt: skip
        assert "test" in got
        assert len(got) == 2
        used |= got
    assert len(used) > 2  # the fold takes turns with the seed


def test_a_share_of_nothing_leaves_the_part_out() -> None:
    manifest = exclusive(["a"] * 10 + ["b"] * 10, [str(i) for i in range(20)])
    folds = split(manifest, ABC, SplitSection(train=0.8, val=0.0, test=0.2))
    assert folds.table["part"].value_counts().to_dict() == {"train": 16, "test": 4}


def test_units_are_named_by_their_smallest_group_and_blanks_join_nobody() -> None:
    manifest = exclusive(["a"] * 6, ["p1", "p1", "", "", "p2", "p3"], group=["l2", "l1", "l3", "l4", "l5", "l6"])
    identical = {"c0002": "x", "c0003": "", "c0004": "x", "c0005": ""}
    assert list(units(manifest, "group", identical=identical)) == ["l1", "l1", "l3", "l4", "l3", "l6"]


def test_a_blank_or_missing_group_is_refused() -> None:
    manifest = exclusive(["a"] * 4, ["1", "", "3", " "])
    with pytest.raises(DataError) as blank:
        split(manifest, ABC, SplitSection())
    assert blank.value.problems[0].code == "RS-M02"
    assert blank.value.problems[0].row == 3
    assert "rows 3, 5" in blank.value.problems[0].found
    with pytest.raises(DataError) as missing:
        split(manifest, ABC, SplitSection(group="patient"))
    assert missing.value.problems[0].code == "RS-M01"
    assert "patient_id" in missing.value.problems[0].remedy


def test_fewer_units_than_parts_is_refused() -> None:
    with pytest.raises(DataError, match="2 units") as error:
        split(exclusive(["a"] * 9, ["1"] * 5 + ["2"] * 4), ABC, SplitSection())
    assert error.value.problems[0].code == "RS-M13"


# --- supplied splits ------------------------------------------------------------------------------------------------


def test_a_supplied_split_that_holds_is_taken_as_it_is() -> None:
    manifest = exclusive(["a"] * 5, list("11234"), part=["Train", "training", "valid", "test ", "TEST"])
    folds = supplied(manifest, SplitSection(column="part"))
    assert list(folds.table["part"]) == ["train", "train", "val", "test", "test"]
    assert set(folds.table["fold"]) == {-1}


def test_a_supplied_split_can_be_cross_fitted() -> None:
    manifest = exclusive(["a"] * 20, [str(i) for i in range(20)], part=["train"] * 15 + ["test"] * 5)
    with pytest.raises(DataError, match="no val part") as error:
        supplied(manifest, SplitSection(column="part"))
    assert "folds: 5" in error.value.problems[0].remedy
    folds = supplied(manifest, SplitSection(column="part", folds=5), task=ABC)
    assert folds.table["fold"].value_counts().to_dict() == {-1: 5, 0: 3, 1: 3, 2: 3, 3: 3, 4: 3}
    assert list(folds.table["part"]) == ["train"] * 15 + ["test"] * 5


def test_unknown_parts_and_columns_name_the_nearest() -> None:
    manifest = exclusive(["a"] * 4, list("1234"), part=["train", "vall", "unassigned", ""])
    with pytest.raises(DataError) as error:
        supplied(manifest, SplitSection(column="part"))
    by_value = {p.found: p for p in error.value.problems}
    assert by_value["1 rows with part 'vall'"].row == 3
    assert "'val'" in by_value["1 rows with part 'vall'"].remedy
    assert "remove `column:`" in by_value["1 rows with part 'unassigned'"].remedy
    assert by_value["1 rows with no part"].row == 5
    with pytest.raises(ConfigError, match="did you mean 'part'"):
        supplied(manifest, SplitSection(column="parts"))


def test_a_leaking_patient_below_disjoint_lesions_is_found() -> None:
    manifest = exclusive(["a"] * 4, list("1123"), group=list("wxyz"), part=["train", "test", "val", "test"])
    with pytest.raises(GateError) as error:
        supplied(manifest, SplitSection(column="part", group="group"))
    assert error.value.exit_code == 4
    (problem,) = error.value.problems
    assert "1 patient in more than one part: train + test: 1" in problem.found


def test_identical_pictures_across_parts_are_refused_and_listed() -> None:
    manifest = exclusive(["a"] * 5, list("12345"), part=["train", "test", "val", "train", "train"])
    identical = dict(zip(manifest.cases, ["x", "x", "y", "z", "z"], strict=True))
    with pytest.raises(GateError) as error:
        supplied(manifest, SplitSection(column="part"), identical=identical)
    (problem,) = error.value.problems
    assert problem.code == "RS-M06"
    assert "c0000 (train) = c0001 (test)" in problem.found
    assert "c0003" not in problem.found  # a repeat within one part leaks nothing


def chest64(data_root: Path) -> Manifest:
    table = pd.read_csv(data_root / "nih_cxr14_64" / "manifest.csv", dtype=str, keep_default_na=False)
    return Manifest(table.assign(case=table["image"]))


def test_the_split_that_ships_with_the_chest_films_leaks_thirty_patients(data_root: Path) -> None:
    manifest = chest64(data_root)
    with pytest.raises(GateError) as error:
        supplied(manifest, SplitSection(column="split"))
    (problem,) = error.value.problems
    assert (problem.code, problem.column) == ("RS-M08", "split")
    assert "30 patients" in problem.found
    parts = manifest.table.groupby("patient_id")["split"].nunique()
    listed_ids = set(problem.found.replace(";", ",").replace(":", ",").replace(" ", "").split(","))
    assert {i for i in listed_ids if i.isdecimal()} == set(parts[parts > 1].index)
    assert "train + val + test: 165" in problem.found
    assert "remove `column: split`" in problem.remedy
    assert "Traceback" not in str(error.value)


def test_pneumoniamnist_repeats_pictures_across_its_parts(data_root: Path) -> None:
    """Its README: 29 pictures are pixel repeats, some across the supplied parts. A fresh split keeps them together."""
    folder = data_root / "pneumoniamnist"
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    arrays = np.load(folder / "pneumoniamnist_28.npz")
    pixels = {name: arrays[name] for name in set(table["array"])}
    hashes = [
        hashlib.sha256(pixels[a][int(i)].tobytes()).hexdigest()
        for a, i in zip(table["array"], table["index"], strict=True)
    ]
    manifest = Manifest(table.assign(case=table["array"] + table["index"], label=table["label_name"]))
    identical = dict(zip(manifest.cases, hashes, strict=True))
    with pytest.raises(GateError) as error:
        supplied(manifest, SplitSection(column="split", group="case"), identical=identical)
    assert [p.code for p in error.value.problems] == ["RS-M06"]
    sets = pd.DataFrame({"hash": hashes, "part": table["split"]}).groupby("hash")["part"].nunique()
    assert f"{(sets > 1).sum()} pictures occur pixel for pixel" in error.value.problems[0].found
    task = Task("exclusive", ("normal", "pneumonia"))
    folds = split(manifest, task, SplitSection(group="case"), identical=identical)
    assert crossings(np.array(hashes, dtype=object), places(folds)) == {}


def test_dermoscopy_keeps_lesions_whole_and_shares_true(data_root: Path) -> None:
    """5,602 lesions of 7,508 images, 7 classes: each class's images within 3 points of its share of test."""
    table = pd.read_csv(data_root / "ham10000" / "manifest.csv", dtype=str, keep_default_na=False)
    manifest = Manifest(table.assign(case=table["image"]))
    task = Task("exclusive", tuple(sorted(set(table["label"]))))
    part = split(manifest, task, SplitSection(group="lesion_id")).table["part"]
    assert crossings(manifest.column("lesion_id"), part.to_numpy(dtype=object)) == {}
    shares = part.groupby(table["label"]).value_counts(normalize=True).unstack()
    assert shares["test"].to_dict() == pytest.approx(dict.fromkeys(task.classes, 0.2), abs=0.03)
    assert part.value_counts(normalize=True)["test"] == pytest.approx(0.2, abs=0.005)


def test_real_size_split_reaches_its_shares(data_root: Path) -> None:
    """112,120 rows of 30,805 patients: every class within one patient of its share."""
    table = pd.read_csv(data_root / "nih_cxr14_tables" / "labels.csv.gz", dtype=str, keep_default_na=False)
    flags = table["labels"].str.get_dummies("|").drop(columns="No Finding")
    task = Task("independent", tuple(flags.columns))
    columns = {f"label_{name}": flags[name].astype(str) for name in flags}
    manifest = Manifest(pd.DataFrame({"case": table["image"], "patient_id": table["patient_id"]} | columns))
    folds = split(manifest, task, SplitSection())
    part = folds.table["part"]
    assert crossings(manifest.column("patient_id"), part.to_numpy(dtype=object)) == {}
    assert part.value_counts(normalize=True)["test"] == pytest.approx(0.2, abs=0.005)
    hernia = folds.table[flags["Hernia"] == 1].drop_duplicates("unit")["part"].value_counts()
    assert hernia["test"] == pytest.approx(0.2 * 134, abs=1)
    assert hernia["val"] == pytest.approx(0.1 * 134, abs=1)
