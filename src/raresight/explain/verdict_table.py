"""T1: score and look of every class and arm side by side, with the flag of `verdict` and whether maps beat chance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from raresight.explain.tables import KEYS, NOT_TRUSTED, Row, adjust, row
from raresight.explain.verdict import (
    ALIGNMENTS,
    ALPHA,
    LAST,
    LOOKS,
    SCORES,
    TOO_FEW,
    Second,
    chance_verdict,
    verdict,
)


def verdict_rows(
    scores: Sequence[Row],
    alignment: Sequence[Row],
    detectors: Sequence[Row] = (),
    *,
    measure: str = "mass",
    layer: str | None = None,
    last: str | None = None,
    method: str | None = None,
    second: str | None = None,
    greyed: Collection[str] = (),
    alpha: float = ALPHA,
) -> list[Row]:
    """T1: per class and arm the differences of `auroc auprc alignment alignment_last detectors d_prime`, and verdicts.

    `scores` from `arm_rows.score_rows`; of `alignment` (`alignment_rows`) the rows of `<measure>_corrected` and
    `method` at `layer` become `alignment`, and those at `last`, where that is another layer, `alignment_last`; those of
    `<measure>_skill` at `layer` are the skill over the anatomical prior. `detectors` from `detector_rows` (those at
    `layer`, or of all layers where none is named). Each row is there for the baseline too, without a difference. Then
    per class and arm: `verdict` (not for the baseline), `beyond_chance` and `beyond_prior`, whose `verdict` says what
    `chance_verdict` finds. Families: `score`, `look`, `chance`, `prior`; rows of all classes together (`class` None)
    count in none, those of `greyed` arms in `score` alone. `second`: the kind of map, also in `alignment`, that has to
    show the same; None where one alone was measured. `greyed`: arms whose maps at the chosen layer did not pass the
    gate. Where the maps of one class are not trusted, or those at the last layer, that alignment alone is not looked
    at.
    """
    places = {"alignment": layer} | ({} if last is None or last == layer else {LAST: last})
    corrected = f"{measure}_corrected"
    picked = _renamed(scores) + _renamed(_at(detectors, "detectors", layer, None))
    for metric, place in places.items():
        picked += _renamed(_at(alignment, corrected, place, method), metric)
    _settle_families(picked, greyed)
    _adjust_all(picked)
    others = {metric: _seconds(_at(alignment, corrected, place, second), second) for metric, place in places.items()}
    flags = []
    for (name, arm), rows in _by_class_and_arm(picked).items():
        theirs = {metric: of[name, arm] for metric, of in others.items() if (name, arm) in of}
        if second is not None:
            theirs = {metric: Second(second, None) for metric in places} | theirs
        first = next(iter(rows.values()))
        whose = [side for side, one in (("baseline", first["baseline"]), ("arm", arm)) if one in greyed]
        flag, reason = verdict(rows, alpha=alpha, untrusted=" and the ".join(whose), second=theirs)
        fewest = [one["diff_n_patients"] for one in rows.values() if one["diff_n_patients"] is not None]
        flags.append(
            row(
                table="verdict", arm=arm, baseline=first["baseline"], metric="verdict", band=first["band"],
                layer=layer, method=method, verdict=flag, reason=reason, greyed=arm in greyed,
                n_patients=min(fewest, default=None), n_seeds=first["diff_n_seeds"],
                status=NOT_TRUSTED if flag is None else "few" if flag == TOO_FEW else "ok", **{"class": name},
            )
        )  # fmt: skip
    said = picked + flags
    for metric, suffix, family in (("beyond_chance", "_corrected", "chance"), ("beyond_prior", "_skill", "prior")):
        said += _beyond(_at(alignment, measure + suffix, layer, method), metric, family, alpha)
    return said


def _settle_families(rows: Sequence[Row], greyed: Collection[str]) -> None:
    """Say of each row which family its p is in; alignment that is not trusted on either side has no p."""
    for one in rows:
        compared = one["class"] is not None and one["arm"] != one["baseline"]
        looked = compared and one["metric"] in LOOKS and not {one["arm"], one["baseline"]} & set(greyed)
        one["family"] = "score" if compared and one["metric"] in SCORES else "look" if looked else ""
        one["p_adjusted"] = None
        if one["metric"] in ALIGNMENTS and not _trusted(one):
            one["p"] = None


def _trusted(one: Row) -> bool:
    """Whether the maps that a row of alignment rests on are, the baseline's too where it has a difference."""
    return not one["greyed"] and one["diff_status"] != NOT_TRUSTED


def _seconds(rows: Sequence[Row], method: str | None) -> dict[tuple[str, str], Second]:
    """What the second kind of map says at one layer: (class, arm) -> its row, and whether it can be trusted."""
    if method is None:
        return {}
    return {(one["class"], one["arm"]): Second(method, one, _trusted(one)) for one in rows}


def _by_class_and_arm(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, Row]]:
    """(class, arm) -> metric -> row, of the arms that are compared with the baseline."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for one in rows:
        if one["class"] is not None and one["arm"] != one["baseline"]:
            found.setdefault((one["class"], one["arm"]), {})[one["metric"]] = one
    return found


def _beyond(rows: Iterable[Row], metric: str, family: str, alpha: float) -> list[Row]:
    """Every arm's own corrected alignment against 0, the baseline's too; the difference is not this row's matter."""
    said = []
    for one in rows:
        if one["class"] is None:
            continue
        own: dict[str, Any] = {key: empty for key, empty in KEYS.items() if key.startswith("diff")} | {
            "p_adjusted": None
        }
        said.append(one | own | {"table": "verdict", "metric": metric, "family": family, "p": one["p_level"]})
    adjust(said)
    for one in said:
        one["verdict"], one["reason"] = chance_verdict(one, alpha=alpha)
        one["p"] = None
    return said


def _adjust_all(rows: Sequence[Row]) -> None:
    """Holm within the families; a greyed arm's scores stay in theirs, as they do not rest on maps."""
    marks = [one["greyed"] for one in rows]
    for one in rows:
        one["greyed"] = False
    adjust(rows)
    for one, greyed in zip(rows, marks, strict=True):
        one["greyed"] = greyed


def _at(rows: Iterable[Row], metric: str, layer: str | None, method: str | None) -> list[Row]:
    return [
        one
        for one in rows
        if one["metric"] == metric
        and one["cases"] == "all"
        and (layer is None or one["layer"] in (None, layer))
        and (method is None or one["method"] in (None, method))
    ]


def _renamed(rows: Iterable[Row], metric: str | None = None) -> list[Row]:
    """Copies for T1, under another metric's name where one is given."""
    return [one | {"table": "verdict", "metric": metric or one["metric"]} for one in rows]
