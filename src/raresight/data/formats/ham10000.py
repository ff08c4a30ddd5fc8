"""HAM10000: seven classes of pigmented skin lesions, one to six photographs a lesion, patients not identified.

Source: Tschandl, Rosendahl, Kittler, "The HAM10000 dataset", Scientific Data 5:180161 (2018), Table 1 and the header of
`HAM10000_metadata.csv`: lesion_id, image_id, dx, dx_type, age, sex, localization.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from raresight.core.errors import DataError
from raresight.data.finding import images_under, locate
from raresight.data.formats.csv_table import stands_in, table_in
from raresight.data.ids import is_blank
from raresight.data.labels import exclusive
from raresight.data.read import Reading, ReadOptions, assemble, cases_of, supplied_split
from raresight.data.tables import absent_column, open_table

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
TABLES = ("HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata", "manifest.csv")
MASKS = "segmentation"


def read(source: Path, options: ReadOptions) -> Reading:
    """Read the metadata table, or a folder with it; images lie in any folders below (`HAM10000_images_part_1`, ...).

    `lesion_id` is the column to split by: it becomes `group`, and stands in for the patient, which a warning says.
    Masks `<image_id>_segmentation.png` found below become `mask`. All seven classes are listed, present or not.
    """
    table = open_table(table_in(source, TABLES))
    frame, file = table.frame, str(table.path)
    root = (options.root or table.path.parent).resolve()
    image_column = table.first("image", "image_id")
    label_column = table.first("dx", "label")
    lesion_column = table.first("lesion_id")
    columns = list(frame.columns)
    wanted = (("image_id", image_column), ("dx", label_column), ("lesion_id", lesion_column))
    lacking = [name for name, found in wanted if found is None]
    if image_column is None or label_column is None or lesion_column is None:
        raise DataError(*(absent_column(file, name, columns, None) for name in lacking))
    labels = exclusive(frame[label_column], table.rows, file, known=CLASSES)
    name = frame[image_column]
    image = name if options.no_images else locate(name, root, exclude=MASKS)
    metadata = frame.drop(columns=[image_column, label_column])
    if "mask" not in metadata and not options.no_images:
        metadata = _with_masks(metadata, cases_of(name), root)
    lesion = frame[lesion_column]
    patient = frame[options.patient_col] if options.patient_col and table.require(options.patient_col) else lesion
    manifest = assemble(
        case=cases_of(name), image=image, patient=patient, group=lesion, labels=labels, metadata=metadata, waived=False
    )
    problems = [*table.problems, *labels.problems]
    if patient is lesion and not is_blank(lesion).all():
        problems.append(stands_in(file, "lesion_id"))
    return Reading(
        manifest=manifest,
        kind="exclusive",
        classes=list(CLASSES),
        group="patient_id" if options.patient_col else "lesion_id",
        root=root,
        preset="dermoscopy",
        channels=3,
        split_column=supplied_split(manifest.table, "split"),
        problems=problems,
    )


def _with_masks(metadata: pd.DataFrame, case: pd.Series, root: Path) -> pd.DataFrame:
    """A `mask` column where lesion masks lie below the root, named after their image."""
    found = pd.Series([path for path in images_under(root) if MASKS in path.rpartition("/")[2]], dtype=object)
    if not len(found):
        return metadata
    stem = found.str.rpartition("/")[2].str.replace(r"_segmentation\..*$", "", regex=True)
    by_case = dict(zip(stem, found, strict=True))
    return metadata.assign(mask=case.map(by_case).fillna(""))
