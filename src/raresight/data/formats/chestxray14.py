"""ChestX-ray14 of the NIH Clinical Center: fourteen findings read from reports by text mining, with patient ids.

Source: Wang et al., "ChestX-ray8", CVPR 2017; headers of `Data_Entry_2017.csv` and `BBox_List_2017.csv` as released.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.errors import DataError
from raresight.data.finding import locate
from raresight.data.formats.csv_table import table_in
from raresight.data.labels import separated
from raresight.data.read import Reading, ReadOptions, assemble, cases_of, patients_or_problem, supplied_split
from raresight.data.tables import absent_column, open_table

CLASSES = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv", "manifest.csv", "labels.csv", "labels.csv.gz")
BOXES = ("BBox_List_2017.csv", "boxes.csv")
NAMES = {
    "Image Index": "image",
    "Finding Labels": "labels",
    "Follow-up #": "follow_up",
    "Patient ID": "patient_id",
    "Patient Age": "age",
    "Patient Gender": "sex",
    "Patient Sex": "sex",
    "View Position": "view",
    "OriginalImage[Width": "original_width",
    "Height]": "original_height",
    "OriginalImagePixelSpacing[x": "spacing_x",
    "y]": "spacing_y",
}
YEARS = {"Y": 1.0, "M": 1 / 12, "W": 1 / 52, "D": 1 / 365}  # ages of the first release: 058Y, 013M, 002D


def read(source: Path, options: ReadOptions) -> Reading:
    """Read the label table, or a folder with it; images lie in any folders below (`images_001/images`, ...).

    All fourteen findings are listed, present or not; `No Finding` means that all are absent and is no class. Expert
    boxes, where there is a list of them, become the text column `boxes`: `Label x y w h; ...` in the list's pixels.
    """
    table = open_table(table_in(source, TABLES))
    file = str(table.path)
    frame = table.frame.rename(columns=NAMES)
    root = (options.root or table.path.parent).resolve()
    official = {ours: theirs for theirs, ours in NAMES.items()}
    lacking = [name for name in ("image", "labels") if name not in frame]
    if lacking:
        columns = list(table.frame.columns)
        raise DataError(*(absent_column(file, official[name], columns, None) for name in lacking))
    written = frame["labels"].rename("Finding Labels" if "Finding Labels" in table.frame else "labels")
    labels = separated(written, table.rows, file, separator=options.label_sep or "|", known=CLASSES)
    name = frame["image"]
    image = name if options.no_images else locate(name, root)
    metadata = frame.drop(columns=["image", "patient_id", *CLASSES], errors="ignore")
    if "age" in metadata:
        metadata = metadata.assign(age=_years(metadata["age"]))
    boxes, box_problems = _boxes(table.path.parent, name)
    if boxes is not None:
        metadata = metadata.assign(boxes=boxes)
    waived = options.one_image_per_patient
    patient = frame.get("patient_id")
    manifest = assemble(
        case=cases_of(name), image=image, patient=patient, group=None, labels=labels, metadata=metadata, waived=waived
    )
    return Reading(
        manifest=manifest,
        kind="independent",
        classes=list(CLASSES),
        group="case" if waived and patient is None else "patient_id",
        root=root,
        preset="chest",
        channels=1,
        split_column=supplied_split(manifest.table, "split"),
        problems=[
            *table.problems,
            *labels.problems,
            *box_problems,
            *patients_or_problem(manifest, file, list(table.frame.columns), options),
        ],
    )


def _years(age: pd.Series) -> pd.Series:
    """Ages in whole years; what is not `058Y`, `013M` or a number stays as written."""
    parts = age.str.extract(r"^0*(\d+)([YMWD])$")
    years = pd.to_numeric(parts[0]) * parts[1].map(YEARS)
    return age.where(years.isna(), np.floor(years.fillna(0) + 1e-9).astype(int).astype(str))


def _boxes(folder: Path, image: pd.Series) -> tuple[pd.Series | None, list]:
    """Boxes of each image as text, from `BBox_List_2017.csv` (x, y, w, h) or a list with xmin ... ymax."""
    path = next((folder / name for name in BOXES if (folder / name).is_file()), None)
    if path is None:
        return None, []
    opened = open_table(path)
    table = opened.frame.rename(columns={"Image Index": "image", "Finding Label": "label"})
    corners = [name for name in ("xmin", "ymin", "xmax", "ymax") if name in table]
    if len(corners) == 4:
        low = table[["xmin", "ymin"]].apply(pd.to_numeric, errors="coerce").to_numpy()
        high = table[["xmax", "ymax"]].apply(pd.to_numeric, errors="coerce").to_numpy()
        numbers = np.hstack([low, high - low])
    else:
        place = list(table.columns).index("label") + 1 if "label" in table else 2
        numbers = table.iloc[:, place : place + 4].apply(pd.to_numeric, errors="coerce").to_numpy()
    if numbers.shape[1] != 4 or not {"image", "label"} <= set(table.columns):
        return None, [absent_column(str(path), "Bbox [x", list(opened.frame.columns), None)]
    label = table["label"].replace("Infiltrate", "Infiltration")
    text = [f"{name} {x:g} {y:g} {w:g} {h:g}" for name, (x, y, w, h) in zip(label, numbers, strict=True)]
    per_image = pd.Series(text, index=table["image"].to_numpy(dtype=object)).groupby(level=0).agg("; ".join)
    return image.map(per_image).fillna(""), opened.problems
