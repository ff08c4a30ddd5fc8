"""Units: what a split must never cut through, and which ids lie on both sides of a cut."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from raresight.core.errors import DataError, Problem, listed, nearest
from raresight.core.manifest import Manifest

PATIENT = "patient_id"


def group_ids(manifest: Manifest, group_by: str) -> np.ndarray:
    """The column that names each row's patient, lesion or other group, `(N,)` text, none of it blank.

    Raises: `DataError` RS-M01 where the manifest has no such column, RS-M02 where an id is blank: blank ids are never
    taken for one patient.
    """
    if group_by not in manifest.table:
        close = nearest(group_by, manifest.table.columns)
        raise DataError(
            Problem(
                code="RS-M01",
                level="error",
                file="manifest.csv",
                column=group_by,
                found=f"no column '{group_by}' to split by",
                why="images of one patient in training and in test make every figure too good",
                remedy=f"set split.group to '{close}'"
                if close
                else "set split.group to the column of patient ids, or "
                "to `case` where every image is another patient (--one-image-per-patient)",
            )
        )
    ids = manifest.column(group_by)
    blank = _blank(ids)
    if blank.any():
        rows = np.flatnonzero(blank) + 2
        raise DataError(
            Problem(
                code="RS-M02",
                level="error",
                file="manifest.csv",
                row=int(rows[0]),
                column=group_by,
                found=f"{len(rows)} blank ids (rows {listed(rows.tolist())})",
                why="blank ids name nobody: merging them would make one giant patient, parting them could leak",
                remedy="fill in the ids or remove those rows (`raresight check` quarantines them)",
            )
        )
    return ids


def units(manifest: Manifest, group_by: str, *, identical: Mapping[str, str] | None = None) -> np.ndarray:
    """The unit of each row, `(N,)` text: groups joined with patients and with pixel-identical images.

    Two rows share a unit where a chain of equal `group_by` ids, equal `patient_id`s (where given) or equal pixel
    hashes (`identical`: case -> hash) links them. A unit is named by the smallest group id in it, so that its name
    depends on neither row order nor seed. A blank patient id or hash links nothing.

    Raises: as `group_ids`.
    """
    groups = group_ids(manifest, group_by)
    links = [groups]
    if group_by != PATIENT:
        links.append(manifest.column(PATIENT))
    if identical:
        links.append(np.array([identical.get(case, "") for case in manifest.cases], dtype=object))
    n = len(manifest)
    rows, nodes, n_nodes = [], [], n
    for ids in links:
        linked = np.flatnonzero(~_blank(ids))
        codes, distinct = pd.factorize(ids[linked])
        rows.append(linked)
        nodes.append(codes + n_nodes)
        n_nodes += len(distinct)
    row, node = np.concatenate(rows), np.concatenate(nodes)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, node)), shape=(n_nodes, n_nodes))
    component = connected_components(graph, directed=False)[1][:n]
    codes, names = pd.factorize(groups, sort=True)
    smallest = np.full(n_nodes, len(names))
    np.minimum.at(smallest, component, codes)
    return np.asarray(names, dtype=object)[smallest[component]]


def crossings(ids: np.ndarray, place: np.ndarray) -> dict[str, tuple[str, ...]]:
    """Ids that lie in more than one place, each with its places in order; blank ids name nobody and are left out."""
    known = ~_blank(ids)
    pairs = pd.DataFrame({"id": ids[known], "place": place[known]}).drop_duplicates()
    pairs = pairs[pairs.duplicated("id", keep=False)].sort_values(["id", "place"], kind="stable")
    found: dict[str, tuple[str, ...]] = {}
    for name, where in zip(pairs["id"], pairs["place"], strict=True):
        found[name] = (*found.get(name, ()), str(where))
    return found


def _blank(ids: np.ndarray) -> np.ndarray:
    text = pd.Series(ids, dtype=object)
    return (text.isna() | (text.astype(str).str.strip() == "")).to_numpy()
