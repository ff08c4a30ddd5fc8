"""A shortcut is found out: a bright corner gives the label away, scores rise, and the maps leave the lesions.

Six small networks, three seeds an arm: `clean` learned to see faint discs, `shortcut` learned from images where a patch
in the corner tells which have one. Both are scored on images of their own kind (a shortcut is in all data of the
hospital that it comes from), which are otherwise the same.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from planted import SIDE, network, plant
from sklearn.metrics import roc_auc_score

from raresight.explain.alignment import measure, resized
from raresight.explain.arm_rows import Sides, alignment_rows, score_rows
from raresight.explain.chance import against_others, corrected
from raresight.explain.draws import Draws
from raresight.explain.faithfulness import deletion_insertion
from raresight.explain.saliency import class_maps
from raresight.explain.verdict import WORSE_LOOK
from raresight.explain.verdict_table import verdict_rows

SEEDS = (0, 1, 2)
CLASSES = ("disc", "bar")
METHODS = ("grad_cam", "hires_cam", "random")


@cache
def looked() -> tuple[dict[str, dict[int, np.ndarray]], np.ndarray, pd.DataFrame]:
    """Logits of every network, the labels that the arms share, and a line of scores for every map of a finding."""
    logits: dict[str, dict[int, np.ndarray]] = {}
    lines = []
    for arm in ("clean", "shortcut"):
        data = plant(300, 1, shortcut=arm == "shortcut")
        for seed in SEEDS:
            said = class_maps(
                network(seed, shortcut=arm == "shortcut"), torch.from_numpy(data.images), ["three"], METHODS
            )
            logits.setdefault(arm, {})[seed] = said.logits.numpy()
            for method in METHODS:
                for k, name in enumerate(CLASSES):
                    rows = np.flatnonzero(data.labels[:, k] == 1)
                    maps = resized(said.maps["three", method][rows, k].numpy(), (SIDE, SIDE))
                    masks = data.masks[rows, k]
                    facts = {"arm": arm, "seed": seed, "class": name, "layer": "three", "method": method}
                    about = pd.DataFrame({"case": rows.astype(str), "patient": rows.astype(str)}).assign(**facts)
                    lines.append(
                        pd.concat([about, measure(maps, masks), against_others(maps, masks, rows, draws=5)], axis=1)
                    )
    return logits, data.labels, pd.concat(lines, ignore_index=True)


def skill(arm: str, name: str, metric: str, method: str = "grad_cam") -> float:
    """Chance-corrected alignment of an arm and class, mean over seeds and images."""
    lines = looked()[2].query("arm == @arm and `class` == @name and method == @method")
    return float(np.nanmean(corrected(lines[metric], lines[f"{metric}_0"])))


def test_scores_rise_and_the_look_falls():
    logits, labels, _ = looked()
    auroc = {arm: [roc_auc_score(labels[:, 0], z[:, 0]) for z in seeds.values()] for arm, seeds in logits.items()}
    assert min(auroc["shortcut"]) > 0.99 and 0.7 < min(auroc["clean"]) <= max(auroc["clean"]) < 0.95
    for metric in ("hit", "mass", "rank", "pixel_ap", "iou"):
        assert skill("clean", "disc", metric) > 4 * max(skill("shortcut", "disc", metric), 0.01), metric
    assert skill("clean", "disc", "hit") > 0.3 and skill("shortcut", "disc", "hit") < 0.1
    # the other finding has no shortcut, and is looked at by both
    assert skill("shortcut", "bar", "mass") > 0.03 and skill("clean", "bar", "mass") > 0.03


@pytest.mark.parametrize("method", ["grad_cam", "hires_cam"])
def test_the_verdict_says_so(method):
    logits, labels, lines = looked()
    patients = np.arange(len(labels)).astype(str)
    sides = Sides("clean", Draws(patients, resamples=400, names=("shortcut",)))
    scores = score_rows(logits, labels, patients, CLASSES, sides)
    alignment = alignment_rows(lines, sides, measures=("mass", "hit"))
    said = verdict_rows(scores, alignment, layer="three", method=method)
    flags = {one["class"]: one for one in said if one["metric"] == "verdict"}
    assert flags["disc"]["verdict"] == WORSE_LOOK, flags["disc"]["reason"]
    assert flags["bar"]["verdict"] != WORSE_LOOK
    beyond = {(one["arm"], one["class"]): one["verdict"] for one in said if one["metric"] == "beyond_chance"}
    assert beyond["clean", "disc"] == "beyond chance" and beyond["clean", "bar"] == "beyond chance"


def test_random_maps_are_beyond_nothing():
    for arm in ("clean", "shortcut"):
        for metric in ("hit", "mass", "pixel_ap"):
            assert abs(skill(arm, "disc", metric, "random")) < 0.03, (arm, metric)


def test_taking_the_corner_away_takes_the_logit_away():
    """What the shortcut's network depends on is the corner, and its maps say so: they are faithful, and not aligned."""
    data = plant(60, 3, shortcut=True)
    rows = np.flatnonzero(data.labels[:, 0] == 1)[:16]
    x = torch.from_numpy(data.images[rows])
    corner = np.zeros((len(rows), SIDE, SIDE), dtype=np.float32)
    corner[:, :6, :6] = 1
    gains = {
        name: deletion_insertion(network(0, shortcut=True), x, [0] * len(rows), maps, steps=10)["deletion_gain"].mean()
        for name, maps in {"corner": corner, "lesion": data.masks[rows, 0].astype(np.float32)}.items()
    }
    maps = class_maps(network(0, shortcut=True), x, ["three"], ["grad_cam"]).maps["three", "grad_cam"][:, 0].numpy()
    said = deletion_insertion(network(0, shortcut=True), x, [0] * len(rows), resized(maps, (SIDE, SIDE)))
    assert gains["corner"] > 0.5 and gains["corner"] > 2 * gains["lesion"] and said["deletion_gain"].mean() > 0.5
