"""Every item of the catalogue of bad input: its code, its place, and one remedy."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raresight.core.config import DataSection
from raresight.core.errors import Problem
from raresight.core.manifest import Manifest
from raresight.core.task import Task
from raresight.data.check import check
from raresight.data.labels import settle

TWO = Task("exclusive", ("mel", "nv"))
FINDINGS = Task("independent", ("Hernia", "Mass"))


def manifest(n: int = 4, **columns: list[str]) -> Manifest:
    """`n` rows without a problem, with some columns replaced."""
    good = {
        "case": [f"c{i}" for i in range(n)],
        "image": [f"{i}.png" for i in range(n)],
        "patient_id": [f"p{i}" for i in range(n)],
        "group": [f"p{i}" for i in range(n)],
        "label": ["nv", "mel"] * (n // 2) + ["nv"] * (n % 2),
    }
    return Manifest(pd.DataFrame(good | columns, dtype=object))


def findings(hernia: list[str], mass: list[str], **columns: list[str]) -> Manifest:
    table = manifest(len(hernia)).table.drop(columns="label")
    return Manifest(table.assign(label_Hernia=hernia, label_Mass=mass, **columns))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study folder whose image root holds 0.png to 3.png."""
    for i in range(4):
        (tmp_path / "root" / f"{i}.png").parent.mkdir(exist_ok=True)
        (tmp_path / "root" / f"{i}.png").write_bytes(b"")
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


def problems(study: Path, given: Manifest, task: Task = TWO, **data: object) -> list[Problem]:
    found = check(given, task, DataSection(root="../root", **data), study)
    assert all(each.file and each.found and each.why and each.remedy for each in found)
    return found


def only(study: Path, given: Manifest, task: Task = TWO, **data: object) -> Problem:
    (found,) = problems(study, given, task, **data)
    assert found.file.endswith("data/manifest.csv")
    return found


def place(problem: Problem) -> tuple[str, str, int | None, str | None]:
    return problem.code, problem.level, problem.row, problem.column


def test_good_table_has_no_problem(study: Path) -> None:
    assert problems(study, manifest()) == []
    assert problems(study, findings(["0", "1", "0", "0"], ["1", "1", "0", "0"]), FINDINGS) == []


def test_item_1_no_patients(study: Path) -> None:
    without = Manifest(manifest().table.drop(columns="patient_id"))
    for given_ in (without, manifest(patient_id=["", "nan", "", "NA"])):
        found = only(study, given_)
        assert place(found) == ("RS-M01", "error", 1, "patient_id")
        assert "--patient-col" in found.remedy
        assert "--one-image-per-patient" in found.remedy
        assert problems(study, given_, one_image_per_patient=True) == []


def test_item_2_blank_patients_are_quarantined_row_by_row(study: Path) -> None:
    found = problems(study, manifest(patient_id=["p1", "", "NaN", "p2"]))
    assert [place(each) for each in found] == [
        ("RS-M02", "quarantine", 3, "patient_id"),
        ("RS-M02", "quarantine", 4, "patient_id"),
    ]
    assert "left out" in found[0].remedy


def test_item_3_look_alike_ids(study: Path) -> None:
    ids = ["007", "7", "P 1", "p1"]
    found = only(study, manifest(patient_id=ids, group=ids))
    assert place(found) == ("RS-M03", "warning", 3, "patient_id")
    assert "2 ids" in found.found
    assert "'007' = '7'" in found.found
    assert "'P 1' = 'p1'" in found.found
    assert "one id one way" in found.remedy
    assert problems(study, manifest(patient_id=["10", "100", "1", "2"])) == []


def test_item_4_same_image_twice_with_the_same_label(study: Path) -> None:
    found = only(
        study, manifest(image=["0.png", "1.png", "./0.png", "3.png"], patient_id=["p", "q", "p", "r"], label=["nv"] * 4)
    )
    assert place(found) == ("RS-M04", "quarantine", 4, "image")
    assert "row 2" in found.found
    assert "left out" in found.remedy


def test_images_of_one_array_file_are_not_repeats(study: Path) -> None:
    found = problems(study, manifest(image=[f"0.png#train_images[{i}]" for i in range(4)]))
    assert found == []


def test_item_5_same_image_with_two_labels(study: Path) -> None:
    found = only(study, manifest(image=["0.png", "0.png", "2.png", "3.png"], patient_id=["p", "p", "q", "r"]))
    assert place(found) == ("RS-M05", "error", 3, "label")
    assert "row 2: 'nv'" in found.found
    assert "row 3: 'mel'" in found.found
    assert "keep the row that is right" in found.remedy


def test_item_5_same_image_under_two_patients(study: Path) -> None:
    found = only(study, manifest(image=["0.png", "1.png", "0.png", "3.png"]))
    assert place(found) == ("RS-M05", "error", 4, "patient_id")


@pytest.mark.parametrize("wrong", ["melanoma", "Mel", "mel "])
def test_item_9_unknown_label(study: Path, wrong: str) -> None:
    found = only(study, manifest(label=["nv", "mel", wrong, "nv"]))
    assert place(found) == ("RS-M09", "error", 4, "label")
    assert repr(wrong) in found.found
    assert "'mel'" in found.remedy or wrong == "melanoma"


def test_item_9_in_a_column_of_its_own(study: Path) -> None:
    found = only(study, findings(["0", "2", "0", "0"], ["0", "0", "1", "0"]), FINDINGS)
    assert place(found) == ("RS-M09", "error", 3, "label_Hernia")


def test_item_11_no_finding_beside_a_disease(study: Path) -> None:
    both = findings(["0", "1", "0", "0"], ["0", "0", "1", "0"], **{"label_No Finding": ["1", "1", "0", "1"]})
    found = only(study, both, FINDINGS)
    assert place(found) == ("RS-M11", "warning", 3, "label_No Finding")
    assert "in 1 rows" in found.found
    assert "no_finding" in found.remedy


def test_item_11_no_finding_is_no_class_unless_kept(study: Path) -> None:
    kept = Task("independent", ("Hernia", "Mass", "No Finding"))
    table = findings(["0", "1", "0", "0"], ["0", "0", "1", "0"], **{"label_No Finding": ["1", "0", "0", "1"]})
    (found,) = problems(study, table, kept)
    assert (found.code, found.level, found.column) == ("RS-M11", "error", "task.classes")
    assert problems(study, table, kept, no_finding="keep") == []


def test_item_12_uncertain_and_empty_labels_need_a_policy(study: Path) -> None:
    table = findings(["0", "-1", "0", ""], ["0", "", "1", "0"])
    found = only(study, table, FINDINGS)
    assert place(found) == ("RS-M12", "error", 3, "label_Hernia")
    assert "1 uncertain (-1) and 2 empty labels" in found.found
    assert "data.uncertain" in found.remedy and "write 0 in each column, or 'No Finding'" in found.remedy
    for policy, value in (("ignore", ""), ("positive", "1"), ("negative", "0")):
        assert problems(study, table, FINDINGS, uncertain=policy) == []
        settled = settle(table, DataSection(uncertain=policy)).table
        assert settled["label_Hernia"].tolist() == ["0", value, "0", ""]
        assert settled["label_Mass"].tolist() == ["0", "", "1", "0"]  # empty stays unknown under every policy


def test_item_12_blank_exclusive_label(study: Path) -> None:
    found = only(study, manifest(label=["nv", "", "mel", "nv"]))
    assert place(found) == ("RS-M12", "error", 3, "label")
    assert problems(study, manifest(label=["nv", "", "mel", "nv"]), uncertain="ignore") == []


def test_item_15_path_gives_the_label_away(study: Path) -> None:
    root = study.parent / "root"
    for name in ("mel", "nv", "siteA", "siteB"):
        (root / name).mkdir()
        for i in range(4):
            (root / name / f"{i}.png").write_bytes(b"")
    named = only(study, manifest(image=["nv/0.png", "mel/1.png", "nv/2.png", "mel/3.png"]))
    assert place(named) == ("RS-M15", "warning", 3, "image")  # row 3 is the first of `mel`
    assert "mel/1.png" in named.found
    assert "same sources" in named.remedy
    split_by_folder = only(study, manifest(image=["siteA/0.png", "siteB/1.png", "siteA/2.png", "siteB/3.png"]))
    assert place(split_by_folder) == ("RS-M15", "warning", 2, "image")
    mixed = manifest(image=["siteA/0.png", "siteB/1.png", "siteB/2.png", "siteA/3.png"])
    assert problems(study, mixed) == []


@pytest.mark.parametrize(
    "path", ["/home/me/0.png", "C:\\pics\\0.png", "\\\\server\\0.png", "~/0.png", "https://h/0.png"]
)
def test_item_17_absolute_paths(study: Path, path: str) -> None:
    found = only(study, manifest(image=["0.png", path, "2.png", "3.png"]))
    assert place(found) == ("RS-M17", "error", 3, "image")
    assert "1 absolute paths" in found.found
    assert "--root" in found.remedy


def test_item_17_wrong_root(study: Path) -> None:
    found = only(study, manifest(image=["0.png", "1.png", "x/8.png", "x/9.png"]))
    assert place(found) == ("RS-M17", "error", 4, "image")
    assert "2 of 4 images" in found.found
    assert "--root" in found.remedy
    assert problems(study, manifest(image=["0.png", "1.png", "x/8.png", "x/9.png"]), images=False) == []


def test_item_18_path_out_of_the_root(study: Path) -> None:
    (study.parent / "secret.png").write_bytes(b"")
    found = problems(study, manifest(image=["0.png", "a/../../secret.png", "2.png", "3.png"]))
    assert ("RS-M18", "error", 3, "image") in [place(each) for each in found]
    masks = only(study, manifest(mask=["", "../secret.png", "", ""]))
    assert place(masks) == ("RS-M18", "error", 3, "mask")
    assert "--root" in masks.remedy


def test_item_18_links_out_of_the_root(study: Path) -> None:
    root, away = study.parent / "root", study.parent / "away"
    away.mkdir()
    (away / "x.png").write_bytes(b"")
    (root / "link.png").symlink_to(away / "x.png")
    (root / "folder").symlink_to(away)
    (root / "inside.png").symlink_to(root / "3.png")
    one = only(study, manifest(image=["0.png", "1.png", "inside.png", "link.png"]))
    assert place(one) == ("RS-M18", "error", 5, "image")
    deep = only(study, manifest(image=["0.png", "folder/x.png", "2.png", "3.png"]))
    assert place(deep) == ("RS-M18", "error", 3, "image")


def test_repeated_and_blank_cases(study: Path) -> None:
    found = only(study, manifest(case=["a", "b", "a", "a"]))
    assert place(found) == ("RS-M53", "error", 4, "case")
    assert "row 2" in found.found
    assert "1 more" in found.found
    assert place(only(study, manifest(case=["a", "", "b", "c"]))) == ("RS-M53", "error", 3, "case")


def test_row_without_image(study: Path) -> None:
    assert place(only(study, manifest(image=["0.png", "", "2.png", "3.png"]))) == ("RS-M55", "quarantine", 3, "image")


def test_missing_columns_name_the_nearest(study: Path) -> None:
    renamed = Manifest(manifest().table.rename(columns={"label": "Label"}))
    assert "'Label'" in only(study, renamed).remedy
    given_ = findings(["0"] * 4, ["1"] * 4)
    found = only(study, given_, Task("independent", ("Hernia", "Masses", "Mass")))
    assert place(found) == ("RS-M52", "error", 1, "label_Masses")
    assert "'label_Mass'" in found.remedy
    assert only(study, Manifest(manifest().table.drop(columns="case"))).column == "case"
    assert only(study, Manifest(manifest().table.drop(columns="image"))).column == "image"


def test_empty_manifest(study: Path) -> None:
    assert only(study, Manifest(manifest().table.iloc[:0])).code == "RS-M51"


def test_all_problems_come_at_once(study: Path) -> None:
    found = problems(
        study,
        manifest(image=["/a/0.png", "1.png", "1.png", "../x.png"], patient_id=["", "1", "01", "2"], case=["a"] * 4),
    )
    assert {each.code for each in found} == {"RS-M02", "RS-M03", "RS-M05", "RS-M17", "RS-M18", "RS-M53"}


WORD = st.text(st.sampled_from("ab01 -./\\#[]~\n\0é"), max_size=5)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(WORD, WORD, WORD, WORD), min_size=1, max_size=6))
def test_any_manifest_is_judged(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, str]]
) -> None:
    case, image, patient, label = (list(column) for column in zip(*rows, strict=True))
    given_ = Manifest(
        pd.DataFrame(
            {"case": case, "image": image, "patient_id": patient, "label": label, "label_a": label}, dtype=object
        )
    )
    for task in (Task("exclusive", ("a", "b")), Task("independent", ("a",))):
        for found in check(given_, task, DataSection(), tmp_path_factory.getbasetemp()):
            assert found.row is None or 1 <= found.row <= len(rows) + 1
            assert found.remedy


def test_a_hundred_thousand_wrong_rows_are_told_briefly(study: Path) -> None:
    n = 100_000
    ids = [str(i) for i in range(n)]
    found = problems(
        study, manifest(n, image=[f"{i // 2}.png" for i in range(n)], patient_id=ids, label=ids), images=True
    )
    assert len(found) < 60
    assert sum(each.code == "RS-M09" for each in found) == 21  # twenty, and how many more there are
    assert "99980 more unknown labels" in [each.found for each in found if each.code == "RS-M09"][-1]
    assert "one of 50000 such images" in next(each.found for each in found if each.code == "RS-M05")
