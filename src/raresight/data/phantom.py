"""The built-in data set: dermoscopy-like photographs of lesions that never were.

Patients have one to four lesions, lesions one to four photographs. Classes have a long tail (`SHARES`), masks are
exact, and a shortcut can be planted: a ruler that goes with one class, as in real collections, where doctors measure
what worries them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from raresight.core.errors import ConfigError, Problem
from raresight.core.files import write_text
from raresight.core.seeds import derive, numpy_rng
from raresight.data.disk import writing
from raresight.data.phantom_camera import View
from raresight.data.phantom_lesion import SHARES, Lesion, diagnosis, draw_lesion
from raresight.data.phantom_paint import FIELD_MM, paint
from raresight.data.phantom_texture import Texture

SHORTCUT_CLASS = "melanoma"
RULER_SHARE = 0.05
"""Share of photographs with a ruler where nothing is planted; the same for every class."""
SHORTCUT_SHARE = {True: 0.90, False: 0.02}
"""With the shortcut planted: share of photographs with a ruler in `SHORTCUT_CLASS`, and in all others."""


def make_phantom(
    out: Path,
    *,
    n_patients: int = 400,
    size: int = 96,
    seed: int = 0,
    shortcut: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw the phantom into `out` and return the path of its `manifest.csv`.

    Writes `images/*.png` `(size, size, 3)` uint8, `masks/*.png` (0 outside, 255 inside the lesion) and the manifest:
    `image, label, patient_id, lesion_id, mask`, then what was drawn: `asymmetry`, `border_irregularity` in [0, 1],
    `n_colours` 1 to 6, `diameter_mm`, `hair` (count), `vignette` in [0, 1], `ruler` 0 or 1, `skin_tone` in [0, 1].
    400 patients give about 1,450 photographs. The same arguments give the same bytes; patient 7 is the same among 10
    patients as among 1,000; `shortcut` changes rulers and nothing else. The manifest is written last, so a folder
    that has one is whole.

    A class is absent only from a very small phantom: 144 lesions (about 100 patients) hold every class
    at least once, whatever the seed.

    Raises: ConfigError where `n_patients` < 1 or `size` < 16, or where the disk is full or read-only (RS-R45).
    """
    if n_patients < 1 or size < 16:
        raise ConfigError(
            Problem(
                code="RS-C34",
                level="error",
                found=f"n_patients {n_patients} and size {size}",
                why="a phantom needs at least 1 patient and images of at least 16 px",
                remedy="leave both out for the defaults, 400 patients at 96 px",
            )
        )
    out = Path(out)
    texture = Texture(seed)
    photographs = list(_photographs(n_patients, seed, shortcut))
    rows = []
    with writing(out, needed_bytes=len(photographs) * size * size * 3):
        (out / "images").mkdir(parents=True, exist_ok=True)
        (out / "masks").mkdir(exist_ok=True)
        (out / "manifest.csv").unlink(missing_ok=True)
        for done, (name, patient, lesion_id, tone, lesion, view) in enumerate(photographs, start=1):
            image, mask = paint(lesion, tone, view, size, texture)
            Image.fromarray(image).save(out / "images" / f"{name}.png", compress_level=4)
            Image.fromarray(mask).save(out / "masks" / f"{name}.png")
            rows.append(_row(name, patient, lesion_id, tone, lesion, view))
            if progress is not None:
                progress(done, len(photographs))
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(out / "manifest.csv", table.getvalue())
    return out / "manifest.csv"


def _photographs(n_patients: int, seed: int, shortcut: bool) -> Iterator[tuple[str, str, str, float, Lesion, View]]:
    offset = float(numpy_rng(seed, "phantom classes").random())
    index = 0
    for number in range(1, n_patients + 1):
        patient = f"P{number:04d}"
        rng = numpy_rng(seed, "phantom patient", number)
        # light skin is most of every published collection; every tone occurs
        tone = round(float(rng.beta(1.3, 3.2)), 3)
        for place in range(1, 1 + int(rng.choice([1, 2, 3, 4], p=[0.65, 0.23, 0.09, 0.03]))):
            lesion = draw_lesion(diagnosis(index, offset), numpy_rng(seed, "phantom lesion", number, place))
            index += 1
            views = numpy_rng(seed, "phantom views", number, place)
            hairy = float(views.choice([0.0, 4.0, 16.0], p=[0.6, 0.3, 0.1]))
            for shot in range(1, 1 + int(views.choice([1, 2, 3, 4], p=[0.25, 0.35, 0.25, 0.15]))):
                name = f"{patient}_L{place}_V{shot}"
                view_seed = derive(seed, "phantom view", number, place, shot)
                yield name, patient, f"{patient}_L{place}", tone, lesion, _view(lesion, hairy, view_seed, shortcut)


def _view(lesion: Lesion, hairy: float, seed: int, shortcut: bool) -> View:
    rng = numpy_rng(seed, "view")
    # the photographer keeps the lesion in the frame: a large one is taken from further away
    zoom = float(min(rng.uniform(0.82, 1.35), FIELD_MM * 0.92 / lesion.diameter_mm))
    slack = max(0.0, (FIELD_MM / zoom - lesion.diameter_mm) / 2) * 0.35
    light = rng.uniform(0.86, 1.10)
    warmth, tint = rng.normal(0, 0.03), rng.normal(0, 0.015)
    dark_rim = bool(rng.random() < 0.22)
    drawn = View(
        rotation=float(rng.uniform(0, 2 * math.pi)),
        zoom=zoom,
        shift_mm=(float(rng.uniform(-slack, slack)), float(rng.uniform(-slack, slack))),
        gains=(light * (1 + warmth), light * (1 - tint), light * (1 - warmth)),
        slope=(float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05))),
        vignette=round(float(rng.uniform(0.6, 1.0)), 3) if dark_rim else 0.0,
        aperture=float(rng.uniform(0.92, 1.18)),
        hair=int(rng.poisson(hairy)),
        dark_hair=bool(rng.random() < 0.8),
        glare=float(max(0.0, rng.normal(0.1, 0.35))),
        focus_px=float(rng.uniform(0.25, 0.75)),
        noise=float(rng.uniform(0.006, 0.02)),
        ruler=False,
        seed=seed,
    )
    share = SHORTCUT_SHARE[lesion.label == SHORTCUT_CLASS] if shortcut else RULER_SHARE
    ruler = bool(numpy_rng(seed, "ruler").random() < share)
    return replace(drawn, ruler=ruler)


def _row(name: str, patient: str, lesion_id: str, tone: float, lesion: Lesion, view: View) -> dict[str, object]:
    return {
        "image": f"images/{name}.png",
        "label": lesion.label,
        "patient_id": patient,
        "lesion_id": lesion_id,
        "mask": f"masks/{name}.png",
        "asymmetry": lesion.asymmetry,
        "border_irregularity": lesion.border_irregularity,
        "n_colours": len(lesion.colours),
        "diameter_mm": lesion.diameter_mm,
        "hair": view.hair,
        "vignette": view.vignette,
        "ruler": int(view.ruler),
        "skin_tone": tone,
    }


__all__ = ["RULER_SHARE", "SHARES", "SHORTCUT_CLASS", "SHORTCUT_SHARE", "make_phantom"]
