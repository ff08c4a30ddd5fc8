"""The tables T1 to T6: rows with the same keys everywhere, and how they are kept."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from raresight.core.files import write_json, write_text
from raresight.evaluate.permutation import holm
from raresight.explain.paired import Inferred, few_patients, over_seeds_alone

Row = dict[str, Any]
Greyed = Mapping[Any, str]  # arm, or (arm, class) -> why its maps are not trusted
NOT_TRUSTED = "not_trusted"  # of a difference: the maps of one side at least are not

# table -> the name of its files
TABLES = {
    "verdict": "T1_verdict",
    "alignment": "T2_alignment",
    "dissection": "T3_dissection",
    "geometry": "T4_geometry",
    "gate": "T5_gate",
    "between": "T6_between",
}
KEYS: Row = {
    "table": "",
    "arm": None,
    "baseline": None,
    "seed": None,
    "class": None,
    "band": None,
    "layer": None,
    "method": None,
    "metric": "",
    "cases": "all",
    "other": None,
    "other_layer": None,
    "value": None,
    "low": None,
    "high": None,
    "p_level": None,
    "difference": None,
    "diff_low": None,
    "diff_high": None,
    "p": None,
    "p_adjusted": None,
    "diff_n_images": None,
    "diff_n_patients": None,
    "diff_n_seeds": None,
    "diff_status": None,
    "diff_reason": "",
    "family": "",
    "spread": None,
    "n_images": None,
    "n_patients": None,
    "n_seeds": None,
    "status": "ok",
    "verdict": None,
    "reason": "",
    "greyed": False,
}
RESTS_ON = ("n_images", "n_patients", "n_seeds", "status", "reason")
GROUPED = ("class", "band", "layer", "method", "other", "other_layer")


def row(**given: Any) -> Row:
    """A row with every key of `KEYS`, those not given as they stand there.

    `value` is the mean over seeds of `arm` (`seed` None) with its 95% interval, `difference` that mean less the
    baseline's. `p_level` tests `value` against 0, `p` the difference, `p_adjusted` is Holm's over the rows of one
    `family`. `spread` is the standard deviation between the baseline's seeds.

    `n_images n_patients n_seeds status reason` speak of `value`: how many have the finding (and a region where the
    measure needs one), whether there is an interval, and what limits it; `diff_n_images diff_n_patients diff_n_seeds
    diff_status diff_reason` say the same of `difference`, and are empty where there is none. `status`: `ok`, `few`,
    `absent`, `same` (see `paired.Inferred`), `seeds`; a difference may also be `not_trusted` (`distrust`). Where there
    is no interval the reason says why. `greyed`: the arm's own maps are not trusted. `cases`: `all`, `found` or
    `missed` (a difference: by every network of both arms).

    Raises: `KeyError` for a key that no table has.
    """
    if strange := set(given) - set(KEYS):
        raise KeyError(f"no table has a column {sorted(strange)[0]}")
    return KEYS | {key: _plain(value) for key, value in given.items()}


# What a number can be: resamples that are stretched for few seeds, and Student's t, know nothing of it.
INFINITE = math.inf
SHARES = ("hit", "iou", "mass", "iobb", "rank", "pixel_ap", "ehr", "no_evidence", "auroc", "auprc")
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(SHARES, (0.0, 1.0)),
    **dict.fromkeys(("best_normalised", "best_unit_auroc", "probe_ap", "detecting", "dead"), (0.0, 1.0)),
    **dict.fromkeys(("cka", "map_spearman", "unit_match", "unit_match_unseen"), (-1.0, 1.0)),
    **dict.fromkeys(("minority_collapse", "minority_means"), (-1.0, 1.0)),
    **dict.fromkeys(("nc1", "nc2_norms", "nc2_angles", "nc3", "head_norm", "feature_norm"), (0.0, INFINITE)),
    **dict.fromkeys(("nc1_by_chance", "nc1_by_chance_low", "nc2_norms_by_chance"), (0.0, INFINITE)),
    **dict.fromkeys(("nc2_norms_by_chance_low", "nc2_angles_by_chance_low"), (0.0, INFINITE)),
    **dict.fromkeys(("nc2_angles_by_chance", "detectors", "detectors_04"), (0.0, INFINITE)),
    **dict.fromkeys(("detectors_beyond_chance", "units_for_class", "concepts"), (0.0, INFINITE)),
    "legacy_concept_count": (0.0, INFINITE),
}


def inferred_row(level: Inferred, change: Inferred | None = None, **given: Any) -> Row:
    """A row from an arm's own figure and, unless the arm is the baseline, from its difference to the baseline.

    The interval of the figure ends where the figure must (`RANGES`), and that of a difference where two such figures
    are as far apart as they can be.
    """
    least, most = RANGES.get(str(given.get("metric")), (-INFINITE, INFINITE))
    furthest = most - least
    said = row(
        value=level.value, low=None if level.low is None else max(level.low, least),
        high=None if level.high is None else min(level.high, most), p_level=level.p,
        spread=level.spread if change is None else change.spread, n_images=level.n_images,
        n_patients=level.n_patients, n_seeds=level.n_seeds, status=level.status, reason=level.reason, **given,
    )  # fmt: skip
    if change is not None:
        low = None if change.low is None else max(change.low, -furthest)
        high = None if change.high is None else min(change.high, furthest)
        of_change = {"difference": change.value, "diff_low": low, "diff_high": high, "p": change.p}
        of_change |= {f"diff_{key}": getattr(change, key) for key in RESTS_ON}
        said |= {key: _plain(value) for key, value in of_change.items()}
    return said


def why_greyed(greyed: Greyed, arm: str, name: str | None) -> str:
    """Why an arm's maps are not trusted, all of them or those of class `name`; empty where they are."""
    return greyed.get(arm, "") or ("" if name is None else greyed.get((arm, name), ""))


def distrust(said: Row, ours: str, theirs: str) -> None:
    """Mark a row whose numbers rest on maps; `ours`, `theirs`: why the arm's, the baseline's are not trusted, or empty.

    The value is greyed by the arm's own maps, the difference by either side's: its `diff_status` is `not_trusted`, it
    counts in no family (`adjust`), and `diff_reason` says whose maps and why. The numbers stand.
    """
    whose = {said["arm"]: ours, said["baseline"]: theirs}
    words = {arm: f"maps of {arm} are not trusted: {why}" for arm, why in whose.items() if why}
    if ours:
        said["greyed"] = True
        said["reason"] = "; ".join(filter(None, (words[said["arm"]], said["reason"])))
    if words and said["diff_status"] not in (None, "absent"):
        said["diff_status"] = NOT_TRUSTED
        said["diff_reason"] = "; ".join(filter(None, (*words.values(), said["diff_reason"])))


def adjust(rows: Sequence[Row]) -> None:
    """Holm over the rows of each `family` that have a p; fills `p_adjusted`.

    Left out are rows that are greyed, and those whose difference is, as by the baseline's maps.
    """
    families: dict[str, list[Row]] = {}
    for one in rows:
        trusted = not one["greyed"] and one["diff_status"] != NOT_TRUSTED
        if one["family"] and one["p"] is not None and trusted:
            families.setdefault(one["family"], []).append(one)
    for members in families.values():
        for one, adjusted in zip(members, holm([one["p"] for one in members]), strict=True):
            one["p_adjusted"] = adjusted


def fact_rows(
    table: str,
    facts: pd.DataFrame,
    *,
    baseline: str | None,
    bands: Mapping[str, str] | None = None,
    greyed: Greyed | None = None,
) -> list[Row]:
    """Rows of numbers that whole networks have: T3's shares, T4's slopes, T6's similarities.

    `facts` has `arm seed metric value` and, where they apply, `class band layer method other other_layer n_images
    n_patients reason`: one line a network and number, `value` NaN or None with a `reason` where there is none. Each row
    is the mean over seeds and, for every arm but the baseline, its difference to the baseline's, with Student's t over
    seeds alone (`paired.over_seeds_alone`): nothing is said there about other patients. A number that some seed lacks
    has no row with a value, and one of fewer than 10 patients with the finding no interval and no p (`few`).
    `p_adjusted` is Holm's over all rows of the table (family `seeds only: <table>`). Without `baseline` (T6) there are
    no differences.
    """
    known = facts.copy()
    for column in (*GROUPED, "reason"):
        if column not in known:
            known[column] = None
    for column in ("n_images", "n_patients"):
        if column not in known:
            known[column] = math.nan
    known["value"] = pd.to_numeric(known["value"], errors="coerce").astype(float)
    keys = ["metric", *GROUPED]
    known[keys] = known[keys].astype(object).where(known[keys].notna(), "")
    rows: list[Row] = []
    for group, lines in known.groupby(keys, sort=False):
        of = dict(zip(keys, (value or None for value in group), strict=True))
        if of["band"] is None and of["class"] is not None:
            of["band"] = (bands or {}).get(str(of["class"]))
        by_arm = {str(arm): part.sort_values("seed") for arm, part in lines.groupby("arm", sort=False)}
        for arm, mine in by_arm.items():
            theirs = by_arm.get(baseline) if baseline is not None and arm != baseline else None
            own, counts = _of_facts(mine)
            change, of_change = (None, {}) if theirs is None else _of_facts(mine, theirs)
            said = inferred_row(
                own, change, table=table, arm=arm, baseline=baseline, **of,
                family=f"seeds only: {table}" if theirs is not None else "",
            )  # fmt: skip
            said |= counts | {f"diff_{column}": n for column, n in of_change.items()}
            distrust(said, *(why_greyed(greyed or {}, side, said["class"]) for side in (arm, baseline or "")))
            rows.append(said)
    adjust(rows)
    return rows


def _of_facts(mine: pd.DataFrame, theirs: pd.DataFrame | None = None) -> tuple[Inferred, dict[str, int | None]]:
    """A number over an arm's seeds, or its difference to the baseline's, and the images and patients it rests on."""
    both = mine if theirs is None else pd.concat([mine, theirs])
    counts = {column: _least(both[column]) for column in ("n_images", "n_patients")}
    found = over_seeds_alone(mine["value"].tolist(), None if theirs is None else theirs["value"].tolist())
    if found.value is None:
        why = next((str(reason) for reason in both["reason"] if isinstance(reason, str) and reason), found.reason)
        found = replace(found, reason=why)
    elif few := few_patients(counts["n_patients"]):
        found = replace(found, low=None, high=None, p=None, status="few", reason=few)
    return found, counts


def _least(counts: pd.Series) -> int | None:
    return None if counts.isna().all() else int(counts.min())


def gate_rows(
    gates: Mapping[str, Mapping[int, tuple[bool, str]]], facts: Iterable[Mapping[str, Any]] = ()
) -> tuple[list[Row], dict[str, str]]:
    """T5, and the greyed arms with the reason: an arm is greyed where the maps of any of its seeds fail the gate.

    `gates`: arm -> seed -> (passed, reason). `facts`: further lines with `arm`, `seed`, `metric`, `value` and other
    keys of a row, listed as they are (Spearman and SSIM after randomising, share of empty maps).
    """
    rows: list[Row] = []
    greyed = {}
    for arm, seeds in gates.items():
        failed = {seed: reason for seed, (passed, reason) in seeds.items() if not passed}
        if failed:
            greyed[arm] = "; ".join(f"seed {seed}: {reason}" for seed, reason in failed.items())
        share = (len(seeds) - len(failed)) / len(seeds) if seeds else None
        verdict = "maps not trusted" if failed else "maps pass" if seeds else "not tried"
        passed = "a share of the networks that were tried: no interval" if seeds else ""
        rows.append(
            row(
                table="gate", arm=arm, metric="gate", value=share, n_seeds=len(seeds), verdict=verdict,
                greyed=bool(failed), status="ok" if seeds else "absent", reason=greyed.get(arm, passed),
            )
        )  # fmt: skip
    for fact in facts:
        said = row(**{"table": "gate", "greyed": fact.get("arm") in greyed} | dict(fact))
        if said["value"] is None:
            said["status"] = "absent"
        elif said["low"] is None and not said["reason"]:
            said["reason"] = "one network: no interval"
        rows.append(said)
    return rows, greyed


def save_tables(tables: Mapping[str, Sequence[Row]], folder: Path) -> list[Path]:
    """Each table as `<T1_verdict, ...>.csv` and `.json` in `folder`, each file whole or as it was before.

    In CSV an empty cell is what does not apply or could not be measured, never 0.

    Raises: `KeyError` for an unknown table; `ConfigError` RS-R45 where the disk is full.
    """
    written = []
    for table, rows in tables.items():
        path = folder / TABLES[table]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(KEYS), lineterminator="\n")
        writer.writeheader()
        for one in rows:
            writer.writerow({key: _cell(one[key]) for key in KEYS})
        written += [path.with_suffix(".csv"), path.with_suffix(".json")]
        write_text(written[-2], text.getvalue())
        write_json(written[-1], list(rows))
    return written


def _cell(value: object) -> object:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool) else value


def _plain(value: Any) -> Any:
    """Numbers that JSON knows, None for those it does not."""
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
