"""`raresight audit --augment`: does augmentation keep what a diagnosis rests on? Measured on the study's lesions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raresight.core.errors import ConfigError, Problem
from raresight.core.files import read_json, write_json, write_text
from raresight.core.manifest import Manifest
from raresight.core.presets import PRESETS
from raresight.core.seeds import numpy_rng
from raresight.data.faithfulness import Candidate, Photograph
from raresight.report.figures.faithfulness import Panel
from raresight.verbs.opened import OpenStudy, stamp, stamped

MOST_LESIONS = 1000
MOST_PIXELS = 256  # the shorter side; larger pictures are measured at this size
VERSION = 1  # of the measurements: counts up when what they mean changes


def augment_audit(study: OpenStudy) -> dict[str, Any]:
    """Write and return `audit/augment.json`, with its pictures in `audit/augment.html`.

    Up to 1,000 lesions are drawn by the study's split seed, from the training part where there is a split, each with
    all its photographs, in the square that training cuts from the middle, at the files' resolution (the shorter side
    at most 256 pixels).

    Raises: `ConfigError` RS-C48 where the manifest names no lesion masks.
    """
    from raresight.core.extras import need
    from raresight.data.faithfulness import audit
    from raresight.report.faithfulness import page as picture_page

    need("torch", extra="train", feature="the faithfulness audit, which runs the transforms of training")
    from raresight.verbs.augment_candidates import candidates, control

    rows = _rows(study)
    path = study.folder.augment_audit
    page = path.with_suffix(".html")
    split = [study.folder.split] if study.folder.split.exists() else []
    current = stamp(study.manifest_path, study.folder.issues, *split, study.config.image.model_dump(), VERSION)
    if stamped(path, current) and page.exists():
        return read_json(path)
    preset = PRESETS[study.config.image.preset]
    channels = study.config.image.channels
    chosen = candidates(preset, grey=channels == 1)
    photos = photographs(rows, study.root, channels=channels, seed=study.config.split.seed)
    study.progress.say(
        f"measuring {len(photos):,} photographs; the first of each lesion under {len(chosen)} transforms"
    )
    with study.progress.bar("measuring lesions") as advance:
        result = audit(photos, chosen, control(), seed=study.config.split.seed, progress=advance)
    result = {"preset": preset.name, "part": "training part" if split else "all cases", **result}
    write_text(page, picture_page(result, panels(result, chosen, photos)))
    write_json(path, result | {"inputs": current})
    return result


def photographs(rows: Manifest, root: Path, *, channels: int, seed: int, most: int = MOST_LESIONS) -> list[Photograph]:
    """All photographs of up to `most` lesions drawn by `seed`; rows without a group are lesions of their own."""
    group = np.where(rows.column("group") == "", rows.cases, rows.column("group"))
    patient = np.where(rows.column("patient_id") == "", group, rows.column("patient_id"))
    lesions = np.unique(group.astype(str))
    drawn = set(numpy_rng(seed, "faithfulness lesions").permutation(lesions)[:most])
    image, mask = rows.column("image"), rows.column("mask")
    return [
        Photograph(lesion=str(g), patient=str(p), load=partial(_load, root / i, root / m, channels))
        for g, p, i, m in zip(group, patient, image, mask, strict=True)
        if str(g) in drawn
    ]


def panels(result: dict[str, Any], chosen: Sequence[Candidate], photos: Sequence[Photograph]) -> list[Panel]:
    """One typical lesion before and after every candidate, with what the audit found each to destroy."""
    image, mask = _typical(photos)
    found = [Panel("as it is", image, mask, ())]
    for candidate, row in zip(chosen, result["transforms"], strict=True):
        after, moved = candidate.ways[0](image, mask)
        found.append(Panel(f"{candidate.name}\n{candidate.bound}", after, moved, tuple(row["destroys"])))
    return found


def _rows(study: OpenStudy) -> Manifest:
    """The cases with a mask, of the training part where there is a split."""
    manifest = study.manifest
    if study.folder.split.exists():
        part = dict(zip(study.folds.table["case"], study.folds.table["part"], strict=True))
        manifest = manifest.take([row for row, case in enumerate(manifest.cases) if part.get(case) == "train"])
    masked = manifest.take(np.flatnonzero(manifest.column("mask") != ""))
    if not len(masked):
        raise ConfigError(
            Problem(
                code="RS-C48",
                level="error",
                file=str(study.manifest_path),
                column="mask",
                found="the manifest names no lesion masks",
                why="asymmetry, border, colour and size are measured within the lesion's outline",
                remedy="raresight init STUDY --from csv TABLE --mask-col COLUMN (0 outside, all else inside)",
            )
        )
    return masked


def _load(image: Path, mask: Path, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """The middle square of a picture and of its mask, as training cuts it; an unreadable file gives an empty mask."""
    from raresight.data.transforms import UndecodableError, centre_square, decode

    try:
        pixels = decode(image, channels=channels, at_least=MOST_PIXELS).pixels
        inside = decode(mask, channels=1).pixels[..., 0] > 0
    except UndecodableError:
        return np.zeros((8, 8, channels), dtype=np.float32), np.zeros((8, 8), dtype=np.float32)
    scaled = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    side = min(*pixels.shape[:2], MOST_PIXELS)

    def square(plane: np.ndarray) -> np.ndarray:
        box = centre_square(plane.shape[1], plane.shape[0])
        return np.asarray(Image.fromarray(plane).resize((side, side), Image.Resampling.BOX, box=box))

    planes = [square(plane) for plane in np.moveaxis(scaled, 2, 0)]
    return np.clip(np.stack(planes, axis=2), 0, 1), np.clip(square(inside.astype(np.float32)), 0, 1)


def _typical(photos: Sequence[Photograph], most: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Among the first photographs, the one whose lesion fills nearest to a quarter of the picture."""
    best, least = photos[0].load(), np.inf
    for photo in photos[:most]:
        image, mask = photo.load()
        if abs(mask.mean() - 0.25) < least:
            best, least = (image, mask), abs(mask.mean() - 0.25)
    return best
