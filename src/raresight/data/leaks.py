"""The leak proof: what lies on both sides of a cut by id, by pixels, or nearly by pixels (`data/leaks.json`)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.errors import Problem
from raresight.core.folds import Folds
from raresight.core.manifest import Manifest
from raresight.data.near_duplicates import near_duplicates
from raresight.data.units import PATIENT, crossings

MOST_LISTED = 1_000


def leaks(
    manifest: Manifest,
    folds: Folds,
    facts: pd.DataFrame | None,
    *,
    group_by: str,
    thumbnails: np.ndarray | None = None,
) -> dict[str, Any]:
    """What the parts (or folds) of a split share, as written to `data/leaks.json`.

    `patients_shared` counts ids of `group_by` (and of `patient_id`) in more than one part: 0, or the split is wrong.
    `identical_pairs_across` lists cases with equal `pixel_hash` in two parts, `identical_sets_within` counts pictures
    that occur several times inside one part under different ids. A near-duplicate pair lies in two parts, its 64-bit
    difference hashes differ in at most 4 bits, and its thumbnails correlate at 0.98 or more (constant pictures: are
    equal); without thumbnails it is a mere candidate, `verified` is false and `correlation` null. Near duplicates are
    reported for a human to judge, not joined into one unit: films of two healthy chests may look alike.

    `facts` has columns `case`, `pixel_hash`, `dhash` (16 hex digits; blank where the picture was not read);
    `thumbnails` is `(N, 16, 16)`, aligned with `manifest`. `n_compared` counts pictures, at most 1,000 pairs are
    listed (`n_near_duplicate_pairs` counts all). Without `facts` only ids are compared and the counts of pictures
    are 0; `method` says so.

    Source: the difference hash is N. Krawetz's (2013); 4 of 64 bits and 0.98 are our rule of thumb.
    """
    placed = folds.table.set_index("case").loc[list(manifest.cases)]
    fold = placed["fold"].to_numpy()
    place = np.where(fold >= 0, "fold-" + fold.astype(str).astype(object), placed["part"].to_numpy(dtype=object))
    shared = {name: crossings(manifest.column(name), place) for name in dict.fromkeys((group_by, PATIENT))}
    report: dict[str, Any] = {
        "patients_shared": len(shared[group_by] or shared[PATIENT]),
        "patients": [
            {"column": column, "id": name, "parts": list(parts)}
            for column, found in shared.items()
            for name, parts in found.items()
        ],
        "identical_pairs_across": [],
        "identical_sets_within": 0,
        "near_duplicate_pairs": [],
        "n_near_duplicate_pairs": 0,
        "verified": False,
        "n_compared": 0,
        "method": "ids only: no pictures were read, so copies under other ids were not looked for",
        "problems": [],
    }
    if facts is None:
        return report
    known = facts.set_index("case").reindex(list(manifest.cases))
    pixels = known["pixel_hash"].fillna("").to_numpy(dtype=object)
    within = _sets_within(pixels, place, manifest.column(group_by))
    near = near_duplicates(known["dhash"].fillna("").to_numpy(dtype=object), pixels, place, thumbnails)
    cases = manifest.cases

    def pair(a: int, b: int) -> dict[str, Any]:
        return {"case_a": cases[a], "case_b": cases[b], "part_a": place[a], "part_b": place[b]}

    return report | {
        "identical_pairs_across": [pair(a, b) for a, b in _identical_across(pixels, place)],
        "identical_sets_within": within,
        "near_duplicate_pairs": [
            pair(a, b) | {"distance": int(distance), "correlation": None if np.isnan(r) else round(float(r), 4)}
            for a, b, distance, r in zip(near.a, near.b, near.distance, near.correlation, strict=True)
        ][:MOST_LISTED],
        "n_near_duplicate_pairs": len(near.a),
        "verified": thumbnails is not None,
        "n_compared": int((known["dhash"].fillna("") != "").sum()),
        "method": near.method,
        "problems": [p.as_dict() for p in _problems(within, 0 if thumbnails is None else len(near.a), group_by)],
    }


def _identical_across(pixels: np.ndarray, place: np.ndarray) -> Iterator[tuple[int, int]]:
    found = crossings(pixels, place)
    rows = np.flatnonzero(np.isin(pixels, list(found)))
    for _, same in pd.Series(rows).groupby(pixels[rows], sort=False):
        yield from ((a, b) for a, b in combinations(same.tolist(), 2) if place[a] != place[b])


def _sets_within(pixels: np.ndarray, place: np.ndarray, groups: np.ndarray) -> int:
    """Pictures that stand under several ids inside one part (catalogue item 6)."""
    table = pd.DataFrame({"pixels": pixels, "place": place, "group": groups})
    distinct = table[table["pixels"] != ""].drop_duplicates().groupby(["pixels", "place"]).size()
    return int((distinct > 1).sum())


def _problems(within: int, n_pairs: int, group_by: str) -> list[Problem]:
    problems = []
    if within:
        problems.append(
            Problem(
                code="RS-M06",
                level="warning",
                file="manifest.csv",
                column=group_by,
                found=f"{within} pictures occur pixel for pixel under several ids of '{group_by}' inside one part",
                why="one picture counts as several patients: intervals come out too narrow, or an id is wrong",
                remedy="check those ids; remove the copies if they are the same examination",
            )
        )
    if n_pairs:
        problems.append(
            Problem(
                code="RS-M07",
                level="warning",
                file="leaks.json",
                column="near_duplicate_pairs",
                found=f"{n_pairs} pairs of nearly equal pictures lie in two parts",
                why="if they show the same examination under two ids, the test part is not independent",
                remedy="look at the pairs; give both pictures one id in the group column where they are the same",
            )
        )
    return problems
