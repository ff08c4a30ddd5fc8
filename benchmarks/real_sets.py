"""Two tables of real images that no reader of ours knows as they come: red-cell crops, and chest films of two sources.

Each function writes pictures and a CSV under `out` and returns the CSV's path; nothing is done where it stands already.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

FINDINGS = ("Pneumothorax", "Hernia", "Effusion", "Cardiomegaly")
CROP = 40  # pixels; a red cell of chula_rbc12 measures 20 to 35


def cells(data: Path, out: Path) -> Path:
    """Crops around the marked red cells of `chula_rbc12`, without the class "uncategorised"; grouped by `block`."""
    table = out / "cells.csv"
    if table.exists():
        return table
    (out / "crops").mkdir(parents=True, exist_ok=True)
    points = pd.read_csv(data / "points.csv")
    points = points[points["label"] != "uncategorised"].reset_index(drop=True)
    blocks = pd.read_csv(data / "manifest.csv").set_index("image")["block"]
    rows = []
    for smear, marked in points.groupby("image", sort=True):
        picture = np.asarray(Image.open(data / str(smear)).convert("RGB"))
        half = CROP // 2
        padded = np.pad(picture, ((half, half), (half, half), (0, 0)), mode="reflect")
        for number, cell in marked.iterrows():
            x, y = round(cell["x"]), round(cell["y"])
            name = f"crops/{Path(str(smear)).stem}_{number:05d}.png"
            Image.fromarray(padded[y : y + CROP, x : x + CROP]).save(out / name)
            rows.append({"image": name, "label": cell["label"], "block": f"b{blocks[smear]:03d}"})
    pd.DataFrame(rows).to_csv(table, index=False)
    return table


def chest_films(small: Path, large: Path, out: Path) -> Path:
    """The films of `nih_cxr14_64` and `nih_cxr14_256`, all at 64 px, each once; with the four findings above.

    Both sources number patients as ChestX-ray14 does, so a patient of both is one patient.
    """
    table = out / "films.csv"
    if table.exists():
        return table
    (out / "films").mkdir(parents=True, exist_ok=True)
    rows, seen = [], set()
    for source in (small, large):
        for _, film in pd.read_csv(source / "manifest.csv").iterrows():
            stem = Path(film["image"]).stem
            if stem in seen:
                continue
            seen.add(stem)
            picture = Image.open(source / film["image"]).convert("L").resize((64, 64), Image.Resampling.BOX)
            picture.save(out / "films" / f"{stem}.png")
            findings = [name for name in FINDINGS if film[name] == 1]
            patient = f"p{int(film['patient_id']):05d}"
            rows.append(
                {"image": f"films/{stem}.png", "label": "|".join(findings) or "No Finding", "patient_id": patient}
            )
    pd.DataFrame(rows).to_csv(table, index=False)
    return table
