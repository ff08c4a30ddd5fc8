"""Each source is read by its official headers, and by those of the project's own copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raresight.core.errors import ConfigError, DataError
from raresight.core.manifest import Manifest
from raresight.core.task import Task
from raresight.data.read import Reading, ReadOptions, read

CHEST = [
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
]
ENTRY = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
)


def picture(path: Path, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (4, 4)).save(path)


def table(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problem(reading: Reading, code: str):
    (found,) = [each for each in reading.problems if each.code == code]
    return found


def test_unknown_kind_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'ham10000'"):
        read("ham1000", tmp_path)


# ---- HAM10000


def ham(folder: Path, rows: str = "") -> Path:
    text = "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
    text += "HAM_1,ISIC_1,bkl,histo,80.0,male,scalp\nHAM_1,ISIC_2,bkl,histo,,male,scalp\n" + rows
    picture(folder / "HAM10000_images_part_1" / "ISIC_1.jpg")
    picture(folder / "HAM10000_images_part_2" / "ISIC_2.jpg")
    picture(folder / "HAM10000_segmentations_lesion_tschandl" / "ISIC_2_segmentation.png", "L")
    return table(folder / "HAM10000_metadata.csv", text)


@pytest.mark.parametrize("whole", [True, False])
def test_ham10000_official(tmp_path: Path, whole: bool) -> None:
    path = ham(tmp_path)
    reading = read("ham10000", tmp_path if whole else path)
    assert (reading.kind, reading.group, reading.preset, reading.channels) == (
        "exclusive",
        "lesion_id",
        "dermoscopy",
        3,
    )
    assert reading.classes == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    assert reading.root == tmp_path.resolve()
    assert reading.split_column is None
    first, second = reading.manifest.table.to_dict("records")
    assert first["case"] == "ISIC_1"
    assert first["image"] == "HAM10000_images_part_1/ISIC_1.jpg"
    assert second["image"] == "HAM10000_images_part_2/ISIC_2.jpg"
    assert (first["mask"], second["mask"]) == ("", "HAM10000_segmentations_lesion_tschandl/ISIC_2_segmentation.png")
    assert {first["patient_id"], first["group"], first["lesion_id"]} == {"HAM_1"}
    assert (second["age"], second["dx_type"], second["localization"]) == ("", "histo", "scalp")
    stand_in = problem(reading, "RS-M01")
    assert (stand_in.level, stand_in.column) == ("warning", "lesion_id")


def test_ham10000_unknown_diagnosis_is_not_a_new_class(tmp_path: Path) -> None:
    wrong = problem(read("ham10000", ham(tmp_path, "HAM_3,ISIC_2,Mel ,histo,1,male,scalp\n")), "RS-M09")
    assert (wrong.level, wrong.row, wrong.column) == ("error", 4, "dx")
    assert "'mel'" in wrong.remedy


def test_ham10000_shared_copy(data_root: Path) -> None:
    reading = read("ham10000", data_root / "ham10000")
    # counts of the copy's README
    counts = reading.manifest.table["label"].value_counts().to_dict()
    assert counts == {"nv": 5035, "mel": 835, "bkl": 819, "bcc": 378, "akiec": 240, "vasc": 110, "df": 91}
    assert reading.manifest.table["lesion_id"].nunique() == 5602
    assert reading.split_column is None  # every row is `unassigned`
    assert (reading.root / reading.manifest.table["mask"].iloc[0]).is_file()


# ---- ChestX-ray14


def test_chestxray14_official(tmp_path: Path) -> None:
    rows = "00000001_000.png,Cardiomegaly|Effusion,0,1,058Y,M,PA,2682,2749,0.143,0.143,\n"
    rows += "00000002_000.png,No Finding,0,002,013M,F,AP,2500,2048,0.168,0.168,\n"
    table(tmp_path / "Data_Entry_2017.csv", ENTRY + rows)
    table(
        tmp_path / "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Effusion,225.5,547,86.75,79,,,\n",
    )
    picture(tmp_path / "images_001" / "images" / "00000001_000.png", "L")
    picture(tmp_path / "images_002" / "images" / "00000002_000.png", "L")
    reading = read("chestxray14", tmp_path)
    assert (reading.kind, reading.classes, reading.group) == ("independent", CHEST, "patient_id")
    assert (reading.preset, reading.channels) == ("chest", 1)
    assert reading.problems == []
    first, second = reading.manifest.table.to_dict("records")
    assert first["image"] == "images_001/images/00000001_000.png"
    assert (first["case"], first["patient_id"], second["patient_id"]) == ("00000001_000", "1", "002")
    assert (first["age"], second["age"], second["sex"], first["view"]) == ("58", "1", "F", "PA")
    assert (first["boxes"], second["boxes"]) == ("Effusion 225.5 547 86.75 79", "")
    targets = reading.manifest.targets(Task("independent", tuple(reading.classes)))
    assert [CHEST[k] for k in np.flatnonzero(targets[0])] == ["Cardiomegaly", "Effusion"]
    assert targets[1].tolist() == [0.0] * 14  # No Finding says absent, not unknown
    assert second["label_No Finding"] == "1"


def test_chestxray14_empty_cell_is_unknown_not_absent(tmp_path: Path) -> None:
    path = table(tmp_path / "labels.csv", "image,labels,patient_id\na.png,,1\nb.png,No Finding,2\n")
    reading = read("chestxray14", path, ReadOptions(no_images=True))
    targets = reading.manifest.targets(Task("independent", tuple(CHEST)))
    assert np.isnan(targets[0]).all()
    assert (targets[1] == 0).all()


def test_chestxray14_no_finding_beside_a_disease(tmp_path: Path) -> None:
    rows = "a.png,Mass,1\nb.png,Hernia|No Finding,2\n"
    path = table(tmp_path / "labels.csv", "image,labels,patient_id\n" + rows)
    reading = read("chestxray14", path, ReadOptions(no_images=True))
    both = problem(reading, "RS-M11")
    assert (both.level, both.row, both.column, both.file) == ("warning", 3, "labels", str(path))
    assert "1 rows" in both.found
    assert "no_finding: drop" in both.remedy
    assert reading.manifest.table["label_Hernia"].tolist() == ["0", "1"]


def test_chestxray14_misspelt_and_mixed_labels(tmp_path: Path) -> None:
    rows = "a.png,Efusion,1\nb.png,Mass;Hernia,2\nc.png,Hernia,3\n"
    path = table(tmp_path / "labels.csv", "image,labels,patient_id\n" + rows)
    reading = read("chestxray14", path, ReadOptions(no_images=True))
    misspelt = next(each for each in reading.problems if each.code == "RS-M09" and "Efusion" in each.found)
    assert (misspelt.row, misspelt.column, misspelt.level) == (2, "labels", "error")
    assert "'Effusion'" in misspelt.remedy
    mixed = problem(reading, "RS-M10")
    assert (mixed.row, mixed.level) == (3, "error")
    assert "Mass;Hernia" in mixed.found


def test_full_nih_table(data_root: Path) -> None:
    reading = read("chestxray14", data_root / "nih_cxr14_tables", ReadOptions(no_images=True))
    assert len(reading.manifest) == 112_120
    assert reading.manifest.table["patient_id"].nunique() == 30_805
    targets = reading.manifest.targets(Task("independent", tuple(CHEST)))
    # counts of the table's README
    assert dict(zip(CHEST, targets.sum(axis=0).astype(int).tolist(), strict=True)) == {
        "Infiltration": 19894, "Effusion": 13317, "Atelectasis": 11559, "Nodule": 6331, "Mass": 5782,
        "Pneumothorax": 5302, "Consolidation": 4667, "Pleural_Thickening": 3385, "Cardiomegaly": 2776,
        "Emphysema": 2516, "Edema": 2303, "Fibrosis": 1686, "Pneumonia": 1431, "Hernia": 227,
    }  # fmt: skip
    assert (reading.manifest.table["label_No Finding"] == "1").sum() == 60_361
    assert (reading.manifest.table["boxes"] != "").sum() == 880


def test_shared_thumbnails_bring_a_split_along(data_root: Path) -> None:
    reading = read("chestxray14", data_root / "nih_cxr14_64")
    assert reading.split_column == "split"
    assert reading.manifest.table["split"].value_counts().to_dict() == {"train": 600, "val": 200, "test": 200}
    assert (reading.manifest.table["label_Hernia"] == "1").sum() == 9
    assert reading.problems == []


# ---- MedMNIST


def npz(path: Path, labels: np.ndarray, shape: tuple[int, ...] = (8, 8), **more: np.ndarray) -> Path:
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = np.zeros((len(labels), *shape), np.uint8)
        arrays[f"{part}_labels"] = labels
    np.savez(path, **(arrays | more))
    return path


def test_medmnist_exclusive(tmp_path: Path) -> None:
    path = npz(tmp_path / "dermamnist_28.npz", np.array([[5], [4]], np.uint8), (8, 8, 3))
    reading = read("medmnist", tmp_path, ReadOptions(one_image_per_patient=True))
    assert (reading.kind, reading.channels, reading.preset) == ("exclusive", 3, "dermoscopy")
    assert (reading.group, reading.split_column, reading.problems) == ("case", "split", [])
    assert reading.manifest.table["label"].tolist() == ["nv", "mel"] * 3
    assert reading.manifest.table["image"].iloc[3] == f"{path.name}#val_images[1]"
    assert reading.manifest.table["case"].tolist() == ["train_0", "train_1", "val_0", "val_1", "test_0", "test_1"]
    assert reading.manifest.table["patient_id"].is_unique


def test_medmnist_multilabel(tmp_path: Path) -> None:
    labels = np.zeros((2, 14), np.uint8)
    labels[1, 13] = 1  # hernia is the last of chestmnist's fourteen
    reading = read("medmnist", npz(tmp_path / "chestmnist.npz", labels), ReadOptions(one_image_per_patient=True))
    assert (reading.kind, reading.classes, reading.channels) == ("independent", CHEST, 1)
    assert reading.manifest.table["label_Hernia"].tolist() == ["0", "1"] * 3
    assert (reading.manifest.table["label_Pneumothorax"] == "0").all()


def test_medmnist_has_no_patients(tmp_path: Path) -> None:
    reading = read("medmnist", npz(tmp_path / "other.npz", np.array([0, 10, 2])))
    assert reading.classes == ["0", "2", "10"]
    ids = problem(reading, "RS-M01")
    assert ids.level == "error"
    assert "--one-image-per-patient" in ids.remedy


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"train_images": np.zeros((2, 8, 8, 8), np.uint8), "train_labels": np.zeros((2, 1))}, "RS-I28"),
        ({"train_images": np.zeros((3, 8, 8), np.uint8), "train_labels": np.zeros((2, 1))}, "RS-M54"),
        ({"train_images": np.zeros((2, 8, 8), np.uint8)}, "RS-M52"),
        ({"x": np.zeros(3)}, "RS-M52"),
        ({"train_images": np.zeros((1, 8, 8)), "train_labels": np.array([{}], dtype=object)}, "RS-M54"),
        ({"train_images": np.zeros((0, 8, 8)), "train_labels": np.zeros((0, 1))}, "RS-M51"),
    ],
)
def test_medmnist_refusals(tmp_path: Path, arrays: dict, code: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError) as caught:
        read("medmnist", tmp_path / "a.npz")
    assert [each.code for each in caught.value.problems] == [code]
    assert caught.value.problems[0].remedy


def test_medmnist_shared_copy(data_root: Path) -> None:
    reading = read("medmnist", data_root / "pneumoniamnist", ReadOptions(one_image_per_patient=True))
    counts = reading.manifest.table.groupby(["split", "label"]).size().to_dict()
    assert counts == {
        ("train", "normal"): 1214, ("train", "pneumonia"): 3494, ("val", "normal"): 135,
        ("val", "pneumonia"): 389, ("test", "normal"): 234, ("test", "pneumonia"): 390,
    }  # fmt: skip


# ---- class folders


def test_folder_of_classes(tmp_path: Path) -> None:
    for path in ("nv/b.png", "nv/a.png", "mel/c.png"):
        picture(tmp_path / path, "L")
    table(tmp_path / "notes.txt", "no image")
    reading = read("folder", tmp_path, ReadOptions(one_image_per_patient=True))
    assert reading.manifest.table["image"].tolist() == ["mel/c.png", "nv/a.png", "nv/b.png"]
    assert (reading.classes, reading.channels, reading.group) == (["mel", "nv"], 1, "case")
    assert problem(read("folder", tmp_path), "RS-M01").level == "error"


def test_folder_with_split_and_patients(tmp_path: Path) -> None:
    for path in ("train/nv/p1/a.png", "train/mel/p2/a.png", "test/nv/p3/a.png"):
        picture(tmp_path / path)
    reading = read("folder", tmp_path)
    assert reading.split_column == "split"
    assert reading.manifest.table["split"].tolist() == ["test", "train", "train"]
    assert reading.manifest.table["patient_id"].tolist() == ["p3", "p2", "p1"]
    assert reading.manifest.table["case"].is_unique
    assert problem(reading, "RS-M01").level == "warning"


def test_folder_without_classes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(DataError) as caught:
        read("folder", tmp_path)
    assert caught.value.problems[0].code == "RS-M51"


# ---- any table


def test_csv_with_mapped_columns(tmp_path: Path) -> None:
    text = "pic;what;who;lump;outline;site\nx/a.png;mel;007;L1;m/a.png;A\nx/b.png;nv;7;L2;;B\n"
    path = table(tmp_path / "t.csv", text)
    for name in ("x/a.png", "x/b.png", "m/a.png"):
        picture(tmp_path / name)
    options = ReadOptions(image_col="pic", label_col="what", patient_col="who", group_col="lump", mask_col="outline")
    reading = read("csv", path, options)
    assert (reading.kind, reading.classes, reading.group) == ("exclusive", ["mel", "nv"], "patient_id")
    assert list(reading.manifest.table.columns) == [
        "case",
        "image",
        "patient_id",
        "group",
        "label",
        "mask",
        "lump",
        "site",
    ]
    assert reading.manifest.table.iloc[0].tolist() == ["a", "x/a.png", "007", "L1", "mel", "m/a.png", "L1", "A"]
    assert [each.code for each in reading.problems] == ["RS-M16"]  # semicolons, said


def test_csv_missing_mapped_column_names_the_nearest(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "image,diagnosis,patient_id\na.png,mel,1\n")
    with pytest.raises(DataError) as caught:
        read("csv", path, ReadOptions(label_col="diagnosys", no_images=True))
    (found,) = caught.value.problems
    assert (found.code, found.column, found.row) == ("RS-M52", "diagnosys", 1)
    assert "did you mean 'diagnosis'" in found.remedy
    assert "--label-col" in found.remedy


def test_csv_indicator_columns_keep_unknown_and_uncertain(tmp_path: Path) -> None:
    text = "image,patient_id,A,B\na.png,1,1.0,\nb.png,2,-1,0\nc.png,3,NO,YES\n"
    path = table(tmp_path / "t.csv", text)
    reading = read("csv", path, ReadOptions(label_col="B,A", no_images=True))
    assert (reading.kind, reading.classes) == ("independent", ["A", "B"])
    assert reading.manifest.table["label_A"].tolist() == ["1", "-1", "0"]
    assert reading.manifest.table["label_B"].tolist() == ["", "0", "1"]


def test_csv_indicator_that_is_none(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "image,patient_id,A,B\na.png,1,1,0\nb.png,2,maybe,0\n")
    wrong = problem(read("csv", path, ReadOptions(label_col="A,B", no_images=True)), "RS-M09")
    assert (wrong.row, wrong.column, wrong.level) == (3, "A", "error")
    assert "'maybe'" in wrong.found


def test_csv_without_labels_offers_the_indicator_columns(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "image,patient_id,A,B\na.png,p1,1,0\n")
    with pytest.raises(DataError, match="--label-col A,B"):
        read("csv", path, ReadOptions(no_images=True))


def test_csv_two_spellings_of_one_class(tmp_path: Path) -> None:
    rows = "a.png,melanoma,1\nb.png,melanoma,2\nc.png,Melanoma,3\nd.png,melanoma ,4\n"
    path = table(tmp_path / "t.csv", "image,label,patient_id\n" + rows)
    wrong = [each for each in read("csv", path, ReadOptions(no_images=True)).problems if each.code == "RS-M09"]
    assert [(each.row, each.column, each.level) for each in wrong] == [(4, "label", "error"), (5, "label", "error")]
    assert all("'melanoma'" in each.remedy for each in wrong)


def test_csv_without_patients(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "image,label,lesion_id\na.png,x,L1\nb.png,y,L2\n")
    ids = problem(read("csv", path, ReadOptions(no_images=True)), "RS-M01")
    assert (ids.level, ids.column, ids.file) == ("error", "patient_id", str(path))
    assert "--group-col lesion_id" in ids.remedy
    waived = read("csv", path, ReadOptions(no_images=True, one_image_per_patient=True))
    assert (waived.problems, waived.group) == ([], "case")
    assert waived.manifest.table["patient_id"].tolist() == ["a", "b"]
    grouped = read("csv", path, ReadOptions(no_images=True, group_col="lesion_id"))
    assert (grouped.group, problem(grouped, "RS-M01").level) == ("group", "warning")


def test_csv_paths_of_another_computer(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "image,label,patient_id\nC:\\data\\pics\\a.png,x,1\nC:\\data\\pics\\b.png,y,2\n")
    foreign = problem(read("csv", path), "RS-M17")
    assert (foreign.level, foreign.row, foreign.column) == ("error", 2, "image")
    assert "2 absolute paths" in foreign.found
    assert "--root" in foreign.remedy
    picture(tmp_path / "here" / "pics" / "a.png")
    picture(tmp_path / "here" / "pics" / "b.png")
    mended = read("csv", path, ReadOptions(root=tmp_path / "here"))
    assert mended.problems == []
    assert mended.manifest.table["image"].tolist() == ["pics/a.png", "pics/b.png"]


def test_a_manifest_of_our_own_comes_back_unchanged(tmp_path: Path) -> None:
    ours = pd.DataFrame(
        {
            "case": ["c1", "c2"], "image": ["a.png", "b.png"], "patient_id": ["01", "1"], "group": ["g", "h"],
            "label_A": ["1", ""], "label_B": ["-1", "0"], "site": ["x", ""],
        },
        dtype=object,
    )  # fmt: skip
    Manifest(ours).save(tmp_path / "manifest.csv")
    reading = read("csv", tmp_path, ReadOptions(no_images=True))
    pd.testing.assert_frame_equal(reading.manifest.table, ours, check_dtype=False, check_column_type=False)


def test_csv_free_text_is_no_label(tmp_path: Path) -> None:
    rows = "".join(f"{i}.png,{mark}finding {i},{i}\n" for i in range(1001) for mark in ("", "a|"))
    path = table(tmp_path / "t.csv", "image,label,patient_id\n" + rows)
    for separator in (None, "#"):
        with pytest.raises(DataError) as caught:
            read("csv", path, ReadOptions(no_images=True, label_sep=separator))
        (found,) = caught.value.problems
        assert (found.code, found.column) == ("RS-M09", "label")
        assert "different labels" in found.found
        assert "--label-col" in found.remedy
