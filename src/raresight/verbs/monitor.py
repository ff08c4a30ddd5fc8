"""`raresight monitor`: what a bundle's predictions say, without labels, about whether the world has moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.binomial import wilson
from raresight.core.bundle import Bundle
from raresight.core.errors import DataError, Problem, listed
from raresight.core.files import write_json, write_text
from raresight.core.predictions import PROB_PREFIX
from raresight.core.seeds import numpy_rng
from raresight.verbs.predict import DECIDED, INVALID, REFER, TIMES

FAMILY = 0.05  # chance of one false "look" over all classes and figures of a batch, at most
FIGURES = 3  # scores, alarms, prevalence
WHOLE = "all"


def monitor(bundle: Path, predictions: Path, *, time: str | None = None, out: Path | None = None) -> dict[str, Any]:
    """Compare predictions of a bundle with its validation part; write `monitor.json` and `monitor.txt` into `out`.

    Per class: drift of scores (`evaluate/drift.py`), alarms per 1,000, and the prevalence that the scores imply
    (`evaluate/label_shift.py`), each with `verdict`: `steady`, `look` or `cannot be said with so few`. Where rows carry
    `patient_id`, several of one patient count for less; without it they count as independent, and a note says so.
    `time` names a column of dates: then every month is a batch of its own beside the whole.

    Raises: `DataError` RS-B07 for predictions of another bundle, RS-B09 for a table that lacks columns or holds
    scores that are no probabilities.
    """
    loaded = Bundle.load(bundle)
    table, notes = _read(loaded, predictions)
    batches = [_batch(loaded, name, rows) for name, rows in _batches(table, time, predictions, notes)]
    result: dict[str, Any] = {
        "bundle_sha256": loaded.sha256,
        "arm": loaded.name,
        "predictions": predictions.name,
        "notes": notes,
        "batches": batches,
    }
    result["text"] = _text(loaded, result)
    if out is not None:
        write_json(out / "monitor.json", result)
        write_text(out / "monitor.txt", result["text"] + "\n")
    return result


def _read(bundle: Bundle, path: Path) -> tuple[pd.DataFrame, list[str]]:
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as cause:
        raise DataError(_unreadable(path, f"cannot be read ({type(cause).__name__})")) from cause
    columns = [PROB_PREFIX + name for name in bundle.task.classes]
    lacking = [name for name in [*columns, "status"] if name not in table]
    if lacking:
        raise DataError(_unreadable(path, f"has no column {listed(lacking)}"))
    others = set(table.get("bundle_sha256", pd.Series(dtype=str)).dropna()) - {bundle.sha256}
    if others:
        raise DataError(_other_bundle(path, sorted(map(str, others))[0], bundle.sha256))
    unknown = sorted(set(table["status"].astype(str)) - {DECIDED, REFER, INVALID})
    if unknown:
        raise DataError(_unreadable(path, f"status holds {listed(unknown)}"))
    table = table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in columns})
    scored = table["status"] != INVALID
    prob = table.loc[scored, columns].to_numpy(dtype=np.float64)
    missing = np.isnan(prob).all(axis=1) & (table.loc[scored, "status"] == REFER).to_numpy()
    bad = np.flatnonzero(~((prob >= 0) & (prob <= 1)).all(axis=1) & ~missing)
    if len(bad):
        row = int(np.flatnonzero(scored)[bad[0]]) + 2
        raise DataError(_unreadable(path, f"{len(bad)} rows hold no probabilities", row=row))
    notes = [] if "bundle_sha256" in table else ["the table does not name the bundle that made it: taken on trust"]
    ids = table["patient_id"].fillna("").astype(str) if "patient_id" in table else pd.Series("", index=table.index)
    if (ids == "").any():
        notes.append(
            f"{int((ids == '').sum())} of {len(table)} rows name no patient and count as independent: where they show "
            "the same patients, chance moves more than the bands allow for"
        )
        ids = ids.where(ids != "", "row " + pd.Series(range(len(table)), index=table.index).astype(str))
    return table.assign(patient_id=ids), notes


def _batches(table: pd.DataFrame, time: str | None, path: Path, notes: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    yield WHOLE, table
    column = time or next((name for name in TIMES if name in table), None)
    if column is None:
        return
    if column not in table:
        raise DataError(_unreadable(path, f"has no column '{column}'"))
    when = pd.to_datetime(table[column].astype(str), errors="coerce", format="mixed", utc=True)
    if when.isna().any():
        notes.append(f"{int(when.isna().sum())} rows have no readable {column} and are in no month")
    month = when.dt.strftime("%Y-%m")
    for name in sorted(month.dropna().unique()):
        yield str(name), table[month == name]


def _batch(bundle: Bundle, name: str, table: pd.DataFrame) -> dict[str, Any]:
    from raresight.evaluate.counts import decide, threshold_array
    from raresight.evaluate.drift import alarm_drift, score_drift

    task, reference = bundle.task, bundle.facts["reference"]["classes"]
    columns = [PROB_PREFIX + one for one in task.classes]
    scored = table[table[columns].notna().all(axis=1).to_numpy()]
    prob, patient = scored[columns].to_numpy(dtype=np.float64), scored["patient_id"].to_numpy(dtype=object).astype(str)
    alarm = decide(prob, task.kind, threshold_array(bundle.thresholds, task.classes))
    level = FAMILY / (FIGURES * task.n_classes)
    common = _prevalence(bundle, prob, patient, level)
    classes = {}
    for k, label in enumerate(task.classes):
        was, draw = reference[label], numpy_rng("monitor", bundle.sha256, name, label)
        scores = score_drift(prob[:, k], patient, was, draw, level=level)
        alarms: dict[str, Any] = {"verdict": None, "reason": "the class has no threshold"}
        if label in bundle.thresholds:
            alarms = alarm_drift(alarm[:, k], patient, was, draw, level=level)
        classes[label] = {"scores": scores, "alarms": alarms, "prevalence": common[label]}
    status = table["status"].value_counts()
    return {
        "batch": name,
        "n": len(table),
        "n_patients": table["patient_id"].nunique(),
        **{key: int(status.get(key, 0)) for key in (DECIDED, REFER, INVALID)},
        "verdict": _worst([one["verdict"] for row in classes.values() for one in row.values()]),
        "classes": classes,
    }


def _prevalence(bundle: Bundle, prob: np.ndarray, patient: np.ndarray, level: float) -> dict[str, dict[str, Any]]:
    """What the scores say about how common each class is, beside validation's share; refused where they cannot tell."""
    from raresight.evaluate.label_shift import prevalence

    task, reference = bundle.task, bundle.facts["reference"]["classes"]
    prior = np.array([reference[name]["prevalence"]["value"] for name in task.classes])

    def asked(prob: np.ndarray, prior: np.ndarray, means: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
        return prevalence(prob, prior, means, patient), prevalence(prob, prior, means, patient, level=1 - level)

    if task.kind == "exclusive":
        blank = [np.nan] * task.n_classes
        means = np.array([reference[name]["mean_score"] or blank for name in task.classes], dtype=np.float64)
        together = asked(prob, prior, means)
    rows: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(task.classes):
        was, at = reference[name]["prevalence"], k
        if task.kind == "exclusive":
            found, strict = together
        else:
            both, at = reference[name]["mean_score"], 0
            means = np.array([[np.nan if m is None else m, np.nan if m is None else 1 - m] for m in both])
            pair, share = np.stack([prob[:, k], 1 - prob[:, k]], axis=1), np.array([prior[k], 1 - prior[k]])
            found, strict = asked(pair, share, means)
        row, wider = ({key: _at(one[key], at) for key in ("value", "low", "high")} for one in (found, strict))
        reason = found["reason"] or ("" if row["value"] is not None else "no case of it was seen at validation")
        rows[name] = row | {"then": {key: was[key] for key in ("value", "low", "high")}, "reason": reason}
        rows[name]["verdict"] = _moved(row, wider, was, level)
    return rows


def _at(values: list[float] | None, k: int) -> float | None:
    return None if values is None else values[k]


def _moved(now: dict[str, Any], wider: dict[str, Any], was: dict[str, float], level: float) -> str | None:
    """None where the question is refused; `look` where the intervals of now and then, both at 1 - `level`, do not meet.

    `now` has the interval of 95% that is shown, `wider` that of 1 - `level`.
    """
    if now["value"] is None:
        return None
    low, high = wilson(was["value"], was["effective_n"], level=1 - level)
    if wider["low"] > high or wider["high"] < low:
        return "look"
    wide = now["high"] - now["low"] > max(2 * was["value"], 0.02) and now["high"] > 2 * was["value"]
    return "cannot be said with so few" if wide else "steady"


def _worst(verdicts: list[str | None]) -> str:
    for verdict in ("look", "cannot be said with so few"):
        if verdict in verdicts:
            return verdict
    return "steady"


def _text(bundle: Bundle, result: dict[str, Any]) -> str:
    """A screenful: a line a batch, and of the whole a line a class."""
    head = f"bundle {bundle.name}, frozen {bundle.facts['frozen'][:10]}; compared with its validation part"
    lines = [head, *(f"note: {note}" for note in result["notes"])]
    for batch in result["batches"]:
        counts = f"{batch['n']:,} rows of {batch['n_patients']:,} patients"
        counts += f", {batch[REFER]} referred, {batch[INVALID]} invalid"
        lines.append(f"{batch['batch']}: {batch['verdict']} ({counts})")
        if batch["batch"] != WHOLE and batch["verdict"] == "steady":
            continue
        for name, row in batch["classes"].items():
            told = [f"scores {_scores(row['scores'])}", _alarms(row["alarms"]), _share(row["prevalence"])]
            lines.append(f"  {name:<20} {'; '.join(told)}")
    return "\n".join(lines)


def _scores(row: dict[str, Any]) -> str:
    if "psi" not in row:
        return f"{row['verdict']} ({row['reason']})"
    return f"{row['verdict']} (index {row['psi']:.2f}, by chance up to {row['psi_band']:.2f})"


def _alarms(row: dict[str, Any]) -> str:
    if "per_1000_now" not in row:
        return f"alarms: {row['reason']}"
    now, then = row["per_1000_now"], row["per_1000_then"]
    told = f"{now['value']:.0f} ({now['low']:.0f}–{now['high']:.0f}) a 1,000, were {then['value']:.0f}"
    return f"alarms {row['verdict']}: {told}"


def _share(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return f"prevalence not estimated: {row['reason']}"
    told = f"{row['value']:.1%} ({row['low']:.1%}–{row['high']:.1%}), was {row['then']['value']:.1%}"
    return f"prevalence {row['verdict']}: {told}"


def _other_bundle(path: Path, theirs: str, ours: str) -> Problem:
    return Problem(
        code="RS-B07",
        level="error",
        file=str(path),
        column="bundle_sha256",
        found=f"predictions of bundle {theirs[:12]}, not of {ours[:12]}",
        why="another bundle has other scores and thresholds; the difference would pass for drift",
        remedy="name the bundle that made them, or predict again",
    )


def _unreadable(path: Path, found: str, row: int | None = None) -> Problem:
    return Problem(
        code="RS-B09",
        level="error",
        file=str(path),
        row=row,
        found=found,
        why="drift is told from the probabilities of every class and the status of every row",
        remedy="give the table that `raresight predict --out` wrote",
    )
