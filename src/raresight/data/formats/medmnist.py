"""MedMNIST: one `.npz` with `{train,val,test}_images` and `{train,val,test}_labels`; no patient ids.

Source: Yang et al., "MedMNIST v2", Scientific Data 10:41 (2023); class names as in the package's INFO table, those of
DermaMNIST by their HAM10000 abbreviations.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from raresight.core.errors import DataError, Problem, listed
from raresight.core.manifest import LABEL_PREFIX
from raresight.data.labels import Labels, in_order
from raresight.data.read import Reading, ReadOptions, assemble, cases_of, patients_or_problem
from raresight.data.text import empty, missing

PARTS = ("train", "val", "test")
ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left"),
    *("lung-right", "pancreas", "spleen"),
)
NAMES: dict[str, Sequence[str]] = {  # in the order of the numbers that stand for them
    "bloodmnist": (
        *("basophil", "eosinophil", "erythroblast", "immature_granulocyte", "lymphocyte", "monocyte"),
        *("neutrophil", "platelet"),
    ),
    "breastmnist": ("malignant", "normal_or_benign"),
    "chestmnist": (
        *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
        *("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
    ),
    "dermamnist": ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"),
    "octmnist": ("choroidal_neovascularization", "diabetic_macular_edema", "drusen", "normal"),
    "organamnist": ORGANS,
    "organcmnist": ORGANS,
    "organsmnist": ORGANS,
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth_muscle", "normal_colon_mucosa"),
        *("cancer-associated_stroma", "colorectal_adenocarcinoma"),
    ),
    "pneumoniamnist": ("normal", "pneumonia"),
}
PRESETS = {"chestmnist": "chest", "pneumoniamnist": "chest", "dermamnist": "dermoscopy"}


def read(source: Path, options: ReadOptions) -> Reading:
    """Read an `.npz`, or the only one in a folder; only labels and array headers are read, no pixels.

    Labels `(N,)` or `(N, 1)` are exclusive, `(N, K)` independent. Unknown sets name their classes by number. `image` is
    `file.npz#train_images[7]`, `split` the source's own parts.

    Raises: `DataError` for a damaged archive (RS-M54), missing arrays (RS-M52), volumes (RS-I28).
    """
    path = _archive(source)
    shapes, labels = _arrays(path)
    channels = _channels(path, shapes)
    parts = list(labels)
    image = pd.Series([f"{path.name}#{part}_images[{i}]" for part in parts for i in range(len(labels[part]))])
    split = pd.Series([part for part in parts for _ in range(len(labels[part]))])
    set_name = path.stem.split("_")[0].lower()
    values = np.concatenate([labels[part] for part in parts])
    if not len(values):
        raise DataError(empty(path))
    read_labels = _labels(path, values, NAMES.get(set_name))
    waived = options.one_image_per_patient
    manifest = assemble(
        case=cases_of(image),
        image=image,
        patient=None,
        group=None,
        labels=read_labels,
        metadata=pd.DataFrame({"split": split}),
        waived=waived,
    )
    hint = "MedMNIST publishes no patient ids: state --one-image-per-patient to accept that patients may repeat"
    return Reading(
        manifest=manifest,
        kind=read_labels.kind,
        classes=read_labels.classes,
        group="case" if waived else "patient_id",
        root=path.parent.resolve(),
        preset=PRESETS.get(set_name, "none"),
        channels=channels,
        split_column="split" if len(parts) > 1 else None,
        problems=[*read_labels.problems, *patients_or_problem(manifest, str(path), [], options, hint)],
    )


def _archive(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(missing(source))
    archives = sorted(source.glob("*.npz"))
    if len(archives) == 1:
        return archives[0]
    found = f"{len(archives)} .npz files: {listed([path.name for path in archives])}" if archives else "no .npz file"
    raise DataError(_problem("RS-M50", source, found, "it is not clear what to read", "name the .npz itself as SOURCE"))


def _arrays(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, np.ndarray]]:
    """Shapes of the image arrays (from their headers) and the label arrays `(N, K)`, per part present."""
    try:
        with zipfile.ZipFile(path) as archive:
            held = {name.removesuffix(".npy") for name in archive.namelist()}
            parts = [part for part in PARTS if {f"{part}_images", f"{part}_labels"} & held]
            lacking = [f"{p}_{what}" for p in parts for what in ("images", "labels") if f"{p}_{what}" not in held]
            if lacking or not parts:
                found = (
                    f"no array {listed(lacking or ['train_images', 'train_labels'])}; it holds {listed(sorted(held))}"
                )
                remedy = "give a MedMNIST file: {train,val,test}_images and {train,val,test}_labels"
                raise DataError(_problem("RS-M52", path, found, "images and labels come in pairs", remedy))
            shapes = {part: _shape(archive, f"{part}_images.npy") for part in parts}
        with np.load(path, allow_pickle=False) as arrays:
            labels = {part: np.asarray(arrays[f"{part}_labels"]) for part in parts}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError, zlib.error, NotImplementedError) as cause:
        why = "labels or images in it cannot be trusted"
        raise DataError(_problem("RS-M54", path, f"not a readable .npz ({cause})", why, "download it again")) from None
    for part in parts:
        if labels[part].ndim == 1:
            labels[part] = labels[part][:, None]
        if labels[part].ndim != 2 or labels[part].dtype.kind not in "uibf" or len(labels[part]) != shapes[part][0]:
            found = f"{part}_labels is {labels[part].dtype} of shape {labels[part].shape}, images {shapes[part]}"
            raise DataError(_problem("RS-M54", path, found, "each image needs its labels", "download the file again"))
    if len({labels[part].shape[1] for part in parts}) > 1:
        raise DataError(
            _problem("RS-M54", path, "parts differ in their number of labels", "one task", "download again")
        )
    return shapes, labels


def _shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape = read_header(stream)[0]
    if len(shape) < 3:
        raise ValueError(f"{name} has shape {shape}, not (N, H, W) or (N, H, W, 3)")
    return shape


def _channels(path: Path, shapes: dict[str, tuple[int, ...]]) -> Literal[1, 3]:
    shape = next(iter(shapes.values()))
    if len(shape) == 3 or (len(shape) == 4 and shape[3] == 1):
        return 1
    if len(shape) == 4 and shape[3] == 3:
        return 3
    found = f"images of shape {shape[1:]}: volumes"
    remedy = "use a 2D MedMNIST set; 3D is not in this version"
    raise DataError(_problem("RS-I28", path, found, "a 2D study would take slices for colours", remedy))


def _labels(path: Path, values: np.ndarray, names: Sequence[str] | None) -> Labels:
    if values.shape[1] == 1:
        return _exclusive(path, values[:, 0], names)
    names = names if names and len(names) == values.shape[1] else [str(k) for k in range(values.shape[1])]
    problems = []
    if not np.isin(values, (0, 1)).all():
        row, k = np.argwhere(~np.isin(values, (0, 1)))[0]
        found = f"label {values[row, k]} of '{names[k]}', image {row}, is neither 0 nor 1"
        problems.append(_problem("RS-M09", path, found, "it would be taken as unknown", "write 0 or 1"))
    text = np.where(values == 1, "1", "0").astype(object)
    text[~np.isin(values, (0, 1))] = ""
    classes = in_order(names)
    columns = pd.DataFrame({LABEL_PREFIX + name: text[:, list(names).index(name)] for name in classes})
    return Labels(columns, "independent", classes, problems)


def _exclusive(path: Path, values: np.ndarray, names: Sequence[str] | None) -> Labels:
    whole = values.astype(np.int64)
    if names is None:
        text = pd.Series(whole).astype(str)
        return Labels(pd.DataFrame({"label": text}), "exclusive", in_order(list(pd.unique(text))), [])
    label = pd.Series(whole).map(dict(enumerate(names)))
    problems = []
    if label.isna().any():
        strange = sorted({int(value) for value in whole[label.isna().to_numpy()]})
        found = f"label {listed(strange)} where the set has {len(names)} classes, 0 to {len(names) - 1}"
        remedy = "download the file again, or rename it if it is another data set"
        problems.append(_problem("RS-M09", path, found, "it would silently become a class of its own", remedy))
    label = label.fillna("")
    return Labels(pd.DataFrame({"label": label}), "exclusive", in_order(names), problems)


def _problem(code: str, path: Path, found: str, why: str, remedy: str) -> Problem:
    return Problem(code=code, level="error", file=str(path), found=found, why=why, remedy=remedy)
