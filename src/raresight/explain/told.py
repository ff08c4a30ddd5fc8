"""From what is known of every network to the tables, the rows behind them, and explain.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raresight.core.files import read_json, replacing, write_json, write_text
from raresight.explain.arm_rows import MEASURES, Sides, alignment_rows, score_rows
from raresight.explain.called import cut_at, scores
from raresight.explain.choices import halves
from raresight.explain.draws import Draws, Figure, mean_figures
from raresight.explain.paired import Noise, level
from raresight.explain.pixel_maps import NOT_GATED, PIXEL_METHODS, PLACE
from raresight.explain.probe import bands
from raresight.explain.tables import Row, gate_rows, inferred_row, row, save_tables

if TYPE_CHECKING:
    from raresight.explain.look import Look, Looked

GAINS = ("deletion_gain", "insertion_gain")
LAST_MEASURES = ("mass",)
NULL_METHOD = "random"  # maps that know nothing of the image
MOSTLY = 0.5  # of a class's maps: with more of them empty, where the others lie says little of the class


def sides_of(look: Look, greyed: Mapping[str, str]) -> Sides:
    draws = Draws(look.probe.patients, names=("explain",))
    return Sides(look.baseline, draws, bands(look.probe.classes, look.counts), greyed)


def scores_of(look: Look) -> dict[str, dict[int, np.ndarray]]:
    """Arm -> seed -> `(N, K)`: what ranks the images, after the arms' decision strategies."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for one in look.looked:
        found.setdefault(one.network.arm, {})[one.network.seed] = scores(one.seen.scores, look.kind)
    return found


def called(look: Look, one: Looked) -> np.ndarray:
    """Whether the network calls each class on each image, `(N, K)` of 0, 1 or NaN: its score against the cut."""
    cut = cuts(look, one)
    return np.where(np.isnan(cut), np.nan, scores(one.seen.scores, look.kind) >= cut)


def cuts(look: Look, one: Looked) -> np.ndarray:
    """The score from which on the network calls each class, for each image, `(N, K)`; cut on validation (Youden).

    Where validation is what is looked at, each half of the patients is cut by the other half's scores. NaN where the
    class, or its absence, is absent there.
    """
    there = scores(one.chosen_on.scores, look.kind)
    found = np.full_like(scores(one.seen.scores, look.kind), np.nan)
    side = halves(look.probe.patients) if look.crossed else np.zeros(len(found))
    for half in np.unique(side):
        mine, shown = side == half, (side != half) if look.crossed else slice(None)
        for k in range(found.shape[1]):
            found[mine, k] = cut_at(look.choose.labels[shown, k], there[shown, k])
    return found


def calls(look: Look, one: Looked, row: np.ndarray, label: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the images `row` and classes `label`: the score that is cut, its cut, and whether it was `found`."""
    ranked, cut = scores(one.seen.scores, look.kind), cuts(look, one)
    return {"ranked": ranked[row, label], "cut": cut[row, label], "found": called(look, one)[row, label]}


def all_rows(look: Look) -> pd.DataFrame:
    """A line for every network, region and kind of map, with whether the network found the finding (`calls`)."""
    tables = []
    for one in look.looked:
        if len(one.rows):
            label = [look.probe.classes.index(name) for name in one.rows["class"]]
            tables.append(one.rows.assign(**calls(look, one, one.rows["row"].to_numpy(), label)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def gate_table(look: Look, method: str, layer: str = "") -> tuple[list[Row], dict[str, str]]:
    """T5 of one kind of map, and the arms whose maps of this kind are not trusted, with the reason.

    `layer` by the baseline's name for it; the chosen one where none is named.
    """
    layer = layer or look.layer
    turn = look.measured.index(layer) if layer else 0
    tried: dict[str, dict[int, tuple[bool, str]]] = {}
    facts = []
    for one in look.looked:
        if one.gates and method in one.gates[one.layers[turn]]:
            said = one.gates[one.layers[turn]][method]
            network = {"arm": one.network.arm, "seed": one.network.seed}
            tried.setdefault(one.network.arm, {})[one.network.seed] = (said["passed"], said["reason"])
            facts += [network | fact | {"layer": layer} for fact in said["facts"]]
            facts.append(network | {"layer": layer} | _empty_maps(look, one, one.layers[turn], method))
    rows, greyed = gate_rows(tried, facts)
    return [one | {"method": one["method"] or method, "layer": one["layer"] or layer} for one in rows], greyed


def _empty_maps(look: Look, one: Looked, layer: str, method: str) -> dict[str, Any]:
    """A line of T5: the share of a class's images whose map for it is 0 everywhere, mean of classes."""
    maps, has = np.asarray(one.seen.maps[layer, method]), look.probe.labels == 1
    empty = ~np.any(maps.reshape(*maps.shape[:2], -1), axis=2)
    shares = [empty[has[:, k], k].mean() for k in range(has.shape[1]) if has[:, k].any()]
    return {
        "metric": "empty_maps",
        "method": method,
        "value": float(np.mean(shares)) if shares else None,
        "n_images": int(has.any(axis=1).sum()),
        "n_patients": len(np.unique(look.probe.patients[has.any(axis=1)].astype(str))),
        "reason": "share of the images of a finding where nothing speaks for it, mean of classes",
    }


def mostly_empty(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(arm, class) -> why, where more than half of the maps of one kind and layer are empty, over images and seeds.

    Nothing in such an image spoke for the class there. That is a result of its own (`no_evidence`) and leaves too
    little to ask where maps lie; the arm's other classes are judged as ever. `rows`: columns `arm class empty`.
    """
    shares = rows.groupby(["arm", "class"], sort=False, as_index=False)["empty"].mean()
    return {
        (arm, name): f"{share:.0%} of the maps of this class are empty, so where they lie says little"
        for arm, name, share in shares.itertuples(index=False)
        if share > MOSTLY
    }


def ungated_table(look: Look) -> list[Row]:
    """T5 of the kinds of maps that are not put to the gate: a row an arm that says so."""
    about = {"table": "gate", "metric": "gate", "status": "absent", "verdict": "not gated", "reason": NOT_GATED}
    return [row(arm=arm, method=method, layer=PLACE, **about) for method in look.pixel_methods for arm in look.arms]


def faithful_table(rows: pd.DataFrame, layer: str) -> list[Row]:
    """T5's mean gain by taking away, and by bringing back, what the maps show: of each arm, then of each network.

    An arm's is the mean over its seeds, with its interval over patients and seeds.
    """
    reason = "logits, beyond a random order; above 0 the network depends on what the map shows"
    if not len(rows):
        return []
    about = {"table": "gate", "layer": layer, "method": rows["method"].iloc[0]}
    draws = Draws(rows["patient"].to_numpy(), names=("explain", "faithful"))
    networks: list[Row] = []
    figures: dict[str, dict[str, dict[int, Figure]]] = {metric: {} for metric in GAINS}
    for (arm, seed), some in rows.groupby(["arm", "seed"], sort=False):
        made = mean_figures(some[list(GAINS)].to_numpy(), some["patient"].to_numpy(), draws)
        rests = {"arm": arm, "seed": int(str(seed)), "n_images": len(some), "n_patients": some["patient"].nunique()}
        for metric, figure in zip(GAINS, made, strict=True):
            figures[metric].setdefault(str(arm), {})[int(str(seed))] = figure
            networks.append(row(metric=metric, value=figure.value, reason=reason, **about, **rests))
    said: list[Row] = []
    for metric, arms in figures.items():
        values = {arm: {seed: one.value for seed, one in seeds.items()} for arm, seeds in arms.items()}
        noise = Noise.of(values, shared=False)
        for arm, seeds in arms.items():
            found = level(list(seeds.values()), noise=noise, names=("faithful", arm, metric))
            one = inferred_row(found, arm=arm, metric=metric, **about)
            said.append(one | {"reason": "; ".join(filter(None, (reason, one["reason"])))})
    return said + networks


def alignment_table(look: Look, sides: Sides) -> list[Row]:
    """T2, each kind of map greyed by its own gate, a class by maps that are mostly empty; random maps for the baseline.

    At the last layer, where it is not the chosen one, the share inside and maps without evidence alone are told.
    """
    rows, found = look.rows, []
    if not len(rows):
        return []
    for (layer, method), some in rows.groupby(["layer", "method"], sort=False):
        if method == NULL_METHOD:
            of_baseline = some.drop(columns="found")
            found += alignment_rows(of_baseline, replace(sides, greyed={}))
        elif method in PIXEL_METHODS:
            ungated = alignment_rows(some, replace(sides, greyed={}))
            for one in ungated:
                for key in ("reason", "diff_reason") if one["difference"] is not None else ("reason",):
                    one[key] = "; ".join(filter(None, (NOT_GATED, one[key])))
            found += ungated
        else:
            greyed = gate_table(look, str(method), str(layer))[1] | mostly_empty(some)
            measures = MEASURES if layer == look.layer else LAST_MEASURES
            found += alignment_rows(some, replace(sides, greyed=greyed), measures=measures)
    return found


def grey(rows: Sequence[Row], greyed: Mapping[str, str]) -> None:
    """Mark every row of an arm, or about it, whose maps are not trusted; numbers that rest on no map stay adjusted."""
    for one in rows:
        one["greyed"] = one["greyed"] or one["arm"] in greyed or one["other"] in greyed


def overlapping(rows: Sequence[Row]) -> None:
    """Take the intervals off T6's rows within an arm: its pairs of seeds share networks and are no sample.

    Two layers of one network are no such pair: there every seed stands for itself.
    """
    for one in rows:
        of_seeds = one["other_layer"] in (None, one["layer"])
        if one["arm"] == one["other"] and of_seeds and one["low"] is not None:
            reason = "all pairs of the arm's seeds, which share networks: no interval"
            one.update(low=None, high=None, p_level=None, status="seeds", reason=reason)


def score_table(look: Look, sides: Sides) -> list[Row]:
    return score_rows(scores_of(look), look.probe.labels, look.probe.patients, look.probe.classes, sides)


def classes_of(look: Look) -> list[dict[str, Any]]:
    """What every class rests on."""
    probe, of_band = look.probe, bands(look.probe.classes, look.counts)
    regions = probe.regions
    drawn = (
        np.zeros(probe.n_classes, dtype=int)
        if regions is None
        else np.bincount(regions.label, minlength=probe.n_classes)
    )
    return [
        {
            "name": name,
            "n_train": look.counts.get(name),
            "n_images": int((probe.labels[:, k] == 1).sum()),
            "n_patients": int(probe.n_positive_patients[k]),
            "n_regions": int(drawn[k]),
            "n_measured": 0 if regions is None else int((regions.label[look.which] == k).sum()),
            "band": of_band.get(name),
        }
        for k, name in enumerate(probe.classes)
    ]


def save_rows(rows: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """The rows behind the tables, one file a kind; kinds without any have none."""
    for name, table in rows.items():
        path = folder / f"{name}.parquet"
        path.unlink(missing_ok=True)
        if len(table):
            with replacing(path) as temporary:
                table.to_parquet(temporary, index=False)


def score_lines(look: Look) -> pd.DataFrame:
    """Logit and score of every network, image and class, with the label: what AUROC, AP and d' are made from."""
    probe, tables = look.probe, []
    assert probe.cases is not None
    n, k = probe.labels.shape
    for one in look.looked:
        tables.append(
            pd.DataFrame(
                {
                    "arm": one.network.arm,
                    "seed": one.network.seed,
                    "case": np.repeat(probe.cases.astype(str), k),
                    "patient": np.repeat(probe.patients.astype(str), k),
                    "class": np.tile(np.array(probe.classes), n),
                    "label": probe.labels.reshape(-1),
                    "logit": one.seen.logits.reshape(-1),
                    "score": scores(one.seen.scores, look.kind).reshape(-1),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def draw(found: dict[str, Any], out: Path) -> None:
    """Figures F1 to F7, and the page that holds them."""
    from raresight.report.figures.look_figures import look_figures
    from raresight.report.look_page import write_look_page

    drawn = look_figures(found, out)
    for path in (out / "figures").glob("F*.svg"):
        if path.stem not in drawn:
            path.unlink()
    for name, svg in drawn.items():
        write_text(out / "figures" / f"{name}.svg", svg)
    write_look_page(found, out)


def write(found: dict[str, Any], out: Path) -> dict[str, Any]:
    """Tables first and explain.json last: where it lies, everything else does. Returns what it holds.

    Cases go by their pseudonyms there: their names and patients stay in cases_key.csv, which `draw` wrote.
    """
    save_tables(found["tables"], out / "tables")
    unnamed = [{key: value for key, value in case.items() if key not in ("case", "patient")} for case in found["cases"]]
    write_json(out / "explain.json", found | {"cases": unnamed})
    written: dict[str, Any] = read_json(out / "explain.json")
    return written
