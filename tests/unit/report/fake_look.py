"""An explain.json as `raresight explain` writes it, made up: eight arms, seven classes, and an almost empty one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

COUNTS = {"nv": 4300, "mel": 720, "bkl": 700, "bcc": 330, "akiec": 210, "vasc": 92, "df": 74}
PATIENTS = {"nv": 600, "mel": 120, "bkl": 110, "bcc": 52, "akiec": 36, "vasc": 15, "df": 7}
BANDS = {"nv": "head", "mel": "head", "bkl": "head", "bcc": "middle", "akiec": "middle", "vasc": "tail", "df": "tail"}
ARMS = ("baseline", "focal", "class_balanced_focal", "class_weights", "resampling", "asymmetric", "uncertainty", "ldam")
LAYERS = ("layer1", "layer2", "layer3", "layer4")
GREY, WHY_GREY = "ldam", "maps hardly change when the weights are random"
FLAGS = ("same score, different model", "better score, worse look", "consistent", "too few to tell")


def made_up(arms: tuple[str, ...] = ARMS, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("verdict", "alignment", "dissection", "geometry", "gate", "between")
    }

    def add(table: str, metric: str, arm: str, class_: str | None = None, **more: Any) -> None:
        row = {"table": table, "arm": arm, "baseline": arms[0], "seed": None, "class": class_, "metric": metric,
               "status": "ok", "reason": "", "greyed": arm == GREY,
               "n_patients": PATIENTS.get(class_ or "nv")}  # fmt: skip
        if "difference" in more:
            row |= {"diff_status": "ok", "diff_reason": "", "diff_n_patients": row["n_patients"]}
        tables[table].append(row | more)

    pull = {arm: (0.0 if i == 0 else rng.normal(0, 0.06)) for i, arm in enumerate(arms)}
    for k, (name, n) in enumerate(COUNTS.items()):
        few = PATIENTS[name] < 10
        base = {
            "auroc": 0.97 - 0.02 * k,
            "auprc": 0.9 - 0.07 * k,
            "alignment": 0.42 - 0.04 * k,
            "alignment_last": 0.3 - 0.04 * k,
            "detectors": 22.0 - 2 * k,
            "d_prime": 2.4 - 0.15 * k,
        }
        scales = {
            "auroc": 0.15,
            "auprc": 0.4,
            "alignment": 1.0,
            "alignment_last": 1.0,
            "detectors": 40.0,
            "d_prime": 4.0,
        }
        for i, arm in enumerate(arms):
            for metric, value in base.items():
                scale = scales[metric]
                step = 0.0 if i == 0 else float(scale * (pull[arm] + rng.normal(0, 0.03)))
                now, half = value + step, scale * 0.25 / np.sqrt(PATIENTS[name])
                wide = metric in ("alignment", "alignment_last") and few
                row: dict[str, Any] = {"value": now, "low": now - half, "high": now + half}
                if i:
                    p = 0.01 if abs(step) > 2 * half else 0.4
                    row |= {"difference": step, "diff_low": step - half, "diff_high": step + half, "p": p,
                            "p_adjusted": p, "spread": scale * 0.02}  # fmt: skip
                if wide:
                    row |= {"low": None, "high": None, "diff_low": None, "diff_high": None, "p_adjusted": None,
                            "status": "not_estimable", "reason": "7 patients"}  # fmt: skip
                    if i:
                        row |= {"diff_status": "not_estimable", "diff_reason": "7 patients"}
                add("verdict", metric, arm, name, **row)
            if i:
                flag = FLAGS[3] if few else FLAGS[int(rng.integers(0, 3))]
                add("verdict", "verdict", arm, name, verdict=flag, reason="7 patients, ten are needed" if few else "")
            add("verdict", "beyond_chance", arm, name, value=base["alignment"] + pull[arm], low=0.1, high=0.5,
                verdict="too few to tell" if few else "beyond chance")  # fmt: skip
            for metric in ("hit", "mass", "rank", "pixel_ap", "mass_corrected", "no_evidence"):
                value = float(rng.uniform(0.1, 0.8))
                add("alignment", metric, arm, name, value=value, low=value - 0.05, high=value + 0.05, cases="all",
                    layer="layer4", method="grad_cam")  # fmt: skip
            for depth, layer in enumerate(LAYERS):
                found = float(rng.poisson(4 + 4 * depth))
                add("dissection", "detectors", arm, name, value=found, layer=layer)
                add("dissection", "null_detectors", arm, name, value=3.0, low=1.0, high=7.0, layer=layer)
                add("geometry", "probe_ap", arm, name, value=0.3 + 0.12 * depth - 0.02 * k + pull[arm], layer=layer,
                    band=BANDS[name])  # fmt: skip
            norm = float(np.exp(0.15 * np.log(n) * (1 - i / 8) + rng.normal(0, 0.05)))
            add("geometry", "head_norm", arm, name, value=norm)
            add("geometry", "feature_norm", arm, name, value=float(20 + 2 * np.log(n) + rng.normal(0, 0.4)))
    for i, arm in enumerate(arms):
        slope = 0.15 * (1 - i / 8)
        add("geometry", "head_norm_slope", arm, value=slope, low=slope - 0.03, high=slope + 0.03)
        add("gate", "gate", arm, value=0.2, reason=WHY_GREY if arm == GREY else "")
    for more in _likeness(arms):
        add("between", "cka", **more)
    return {
        "part": "test", "n_images": 1200, "n_patients": 940, "baseline": arms[0], "arms": list(arms),
        "seeds": [0, 1, 2],
        "classes": [{"name": name, "n_train": n, "n_images": PATIENTS[name] * 2, "n_patients": PATIENTS[name],
                     "n_regions": PATIENTS[name], "band": BANDS[name]} for name, n in COUNTS.items()],
        "layers": list(LAYERS), "dims": 2,
        "choices": {"layer": "layer4", "method": "grad_cam", "alignment": "mass", "q": 0.005},
        "tables": tables, "cases": [], "limits": ["Masks were drawn by one reader."],
    }  # fmt: skip


def _likeness(arms: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """CKA of features, of each layer between arms, and of the layers of each arm: the deeper the less alike."""
    for i, arm in enumerate(arms):
        for j, other in enumerate(arms):
            cka = 1.0 if i == j else float(0.9 - 0.06 * abs(i - j))
            pair = {"arm": arm, "other": other}
            yield pair | {"layer": "features", "value": cka, "low": cka - 0.02, "high": cka}
            for depth, layer in enumerate(LAYERS):
                alike = cka if i != j else 0.99 - 0.02 * depth
                yield pair | {"layer": layer, "other_layer": layer, "value": alike ** (0.2 + depth / 3)}
        for a, b in combinations(range(len(LAYERS)), 2):
            between = {"layer": LAYERS[a], "other_layer": LAYERS[b], "value": 0.8 ** (b - a) - 0.01 * i}
            yield {"arm": arm, "other": arm} | between


def almost_empty() -> dict[str, Any]:
    """One arm, one seed, nobody drew a region."""
    return {
        "part": "val", "n_images": 40, "n_patients": 31, "baseline": "plain", "arms": ["plain"], "seeds": [0],
        "classes": [{"name": "a", "n_train": 90, "n_images": 12, "n_patients": 9, "n_regions": 0, "band": "head"},
                    {"name": "b", "n_train": 11, "n_images": 3, "n_patients": 3, "n_regions": 0, "band": "tail"}],
        "layers": ["conv"], "dims": 2, "choices": {},
        "tables": {name: [] for name in ("verdict", "alignment", "dissection", "geometry", "gate", "between")},
        "cases": [], "limits": [],
    }  # fmt: skip


def with_pictures(explain: dict[str, Any], folder: Path, side: int = 64) -> dict[str, Any]:
    """Cases and units with their pictures in `folder`, as `look` writes them."""
    rng = np.random.default_rng(1)
    arms, cases, images, maps, masks = explain["arms"], [], [], [], []
    yy, xx = np.mgrid[0:side, 0:side] / side
    for name in ("mel", "df"):
        for rule in ("median", "largest gain", "missed"):
            cy, cx = rng.uniform(0.3, 0.7, 2)
            mask = (yy - cy) ** 2 + (xx - cx) ** 2 < 0.03
            image = np.stack([200 - 90 * mask, 150 - 80 * mask, 140 - 60 * mask], -1) + rng.normal(
                0, 9, (side, side, 3)
            )
            cell = np.arange(7) / 7 + 0.07
            peak = [np.exp(-((cell[:, None] - cy - a) ** 2 + (cell - cx + a) ** 2) / 0.03) * rng.uniform(0.3, 1)
                    for a in rng.normal(0, 0.15, len(arms))]  # fmt: skip
            images.append(np.clip(image, 0, 255).astype(np.uint8))
            maps.append(np.array(peak, dtype=np.float32))
            masks.append(mask)
            told = {arm: {"logit": float(rng.normal(0, 2)), "alignment": float(rng.uniform(0, 0.6)),
                          "found": bool(rng.integers(2))} for arm in arms}  # fmt: skip
            cases.append({"name": f"{name}-{len(cases) + 1}", "case": f"SECRET_{len(cases)}", "patient": "P1",
                          "class": name, "seed": 0, "rule": rule, "why": f"{rule} of the alignment", "slice": None,
                          "arms": told})  # fmt: skip
    np.savez_compressed(folder / "cases.npz", images=np.array(images), maps=np.array(maps), masks=np.array(masks))
    units = [
        {"class": name, "layer": "layer4", "arms": {arm: {"unit": 10 * i + u, "quality": 1 - 0.1 * (i + (i > 0))}
                                                    for i, arm in enumerate(arms)}}
        for u, name in enumerate(("mel", "df", "vasc"))
    ]  # fmt: skip
    patches = rng.integers(60, 200, (3, len(arms), 4, 24, 24, 3)).astype(np.uint8)
    np.savez_compressed(folder / "units.npz", patches=patches,
                        activation=rng.uniform(1, 4, (3, len(arms), 4)).astype(np.float32))  # fmt: skip
    return json.loads(json.dumps(explain | {"cases": cases, "units": units}))
