"""Arms side by side: from what every network's images measured to rows with differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from raresight.explain.draws import Draws, Figure, corrected_figures, mean_figures, mean_of_figures, pairwise
from raresight.explain.paired import NOTHING, Noise, difference, level
from raresight.explain.ranked_pairs import score_figures
from raresight.explain.tables import Greyed, Row, adjust, distrust, inferred_row, why_greyed

MEASURES = ("hit", "iou", "mass", "iobb", "rank", "pixel_ap", "ehr")
ALONE = "all regions are of one patient: no other's to compare with"
NO_EVIDENCE = {"empty": "no_evidence"}  # column -> metric
# What is taken off a measure: the suffix of its column -> the suffix of the metric.
BEYOND = {"_0": "_corrected", "_prior": "_skill"}
SUBSETS = {"found": 1.0, "missed": 0.0}

Networks = Mapping[str, Mapping[int, Figure]]  # arm -> seed -> figure


@dataclass(frozen=True)
class Sides:
    """Which arm the others are compared with, on which resamples, and what every row says of classes and arms.

    `bands` class -> head, middle or tail; `greyed` arm -> why its maps are not trusted, and (arm, class) -> why those
    of that class are not (most of them are empty).
    """

    baseline: str
    draws: Draws
    bands: Mapping[str, str] = field(default_factory=dict)
    greyed: Greyed = field(default_factory=dict)

    def why_greyed(self, arm: str, name: str | None) -> str:
        """Why the maps of an arm are not trusted for class `name` (None: of all classes together); else empty."""
        return why_greyed(self.greyed, arm, name)

    def row(
        self,
        arm: str,
        name: str | None,
        levels: Networks,
        changes: Networks | None = None,
        *,
        of_maps: bool = True,
        **given: Any,
    ) -> Row:
        """One arm's row: its own figures in `levels`, its and the baseline's for the difference in `changes`.

        Its value is greyed by the arm's own maps, its difference by those of either side (`tables.distrust`). That most
        maps of a class are empty is itself what `no_evidence` says, so no row of it is greyed by that. Numbers that are
        not `of_maps` are greyed with their arm, and their differences stand.
        """
        names = (self.draws.names, arm, name, given.get("metric"), given.get("layer"), given.get("method"))
        mine = levels[arm]
        values = {each: {seed: one.value for seed, one in seeds.items()} for each, seeds in levels.items()}
        change = None
        if arm != self.baseline:
            pair = levels if changes is None else changes
            ours, theirs = pair[arm], pair[self.baseline]
            seeds = (list(ours), list(theirs))
            noise = Noise.of(values)
            change = difference(list(ours.values()), list(theirs.values()), seeds=seeds, noise=noise, names=names)
        own = level(list(mine.values()), noise=Noise.of(values, shared=False), names=names)
        said = inferred_row(
            own, change, arm=arm, baseline=self.baseline,
            **{"class": name}, band=None if name is None else self.bands.get(name), **given,
        )  # fmt: skip
        if of_maps:
            judged = None if said["metric"] in NO_EVIDENCE.values() else name
            distrust(said, self.why_greyed(arm, judged), self.why_greyed(self.baseline, judged))
        else:
            said["greyed"] = bool(self.why_greyed(arm, None))
        return said


def score_rows(
    logits: Mapping[str, Mapping[int, np.ndarray]],
    labels: np.ndarray,
    patients: Sequence[object] | np.ndarray,
    classes: Sequence[str],
    sides: Sides,
    *,
    table: str = "verdict",
) -> list[Row]:
    """`auroc`, `auprc` and `d_prime` of every arm and class, and their means over classes (`class` None).

    `logits`: arm -> seed -> `(N, K)`; `labels` `(N, K)` of 0, 1, NaN (unknown). A class without a positive: `absent`,
    and not in the means.
    """
    made: dict[str, dict[str, dict[str, dict[int, Figure]]]] = {}  # metric -> class -> arm -> seed
    for k, name in enumerate(classes):
        for arm, seeds in logits.items():
            for seed, z in seeds.items():
                for metric, figure in score_figures(labels[:, k], z[:, k], patients, sides.draws).items():
                    made.setdefault(metric, {}).setdefault(name, {}).setdefault(arm, {})[seed] = figure
    family = {"auroc": "score", "auprc": "score", "d_prime": "look"}
    rows = []
    for metric, of_class in made.items():
        for name, networks in of_class.items():
            rows += [
                sides.row(
                    arm, name, networks, of_maps=False, table=table, metric=metric,
                    family=_if(family[metric], arm, sides),
                )
                for arm in networks
            ]  # fmt: skip
        rows += macro_rows(of_class, sides, of_maps=False, table=table, metric=metric)
    return rows


def macro_rows(of_class: Mapping[str, Networks], sides: Sides, **given: Any) -> list[Row]:
    """The mean over classes of every arm, of the classes that all networks can be measured on."""
    arms = list(next(iter(of_class.values())))
    fit = [
        networks
        for networks in of_class.values()
        if all(not np.isnan(figure.value) for seeds in networks.values() for figure in seeds.values())
    ]
    if not fit:
        return []
    macro: Networks = {
        arm: {seed: mean_of_figures([networks[arm][seed] for networks in fit]) for seed in fit[0][arm]} for arm in arms
    }
    return [sides.row(arm, None, macro, **given) for arm in arms]


def alignment_rows(
    rows: pd.DataFrame, sides: Sides, *, measures: Sequence[str] = MEASURES, table: str = "alignment"
) -> list[Row]:
    """T2 from one line a network, class and annotated image.

    `rows` has `arm seed class case patient`, measures, and where they apply `layer method empty found`, and what chance
    (`<measure>_0`) and the anatomical prior (`<measure>_prior`) score. Rows are means over images; `_corrected` and
    `_skill` are the corrections of the means (`draws.corrected_figures`). A difference is taken over the images that
    all networks of both arms have; with `found` (1: the class was called) everything is also said of images found and
    of images missed. Rows of all images also have means over classes. `p_adjusted` is Holm's over this table.
    """
    measured = [name for name in (*measures, *NO_EVIDENCE) if name in rows]
    said: list[Row] = []
    of = [column for column in ("layer", "method") if column in rows]
    for place, lines in rows.groupby(of, sort=False) if of else [((), rows)]:
        given: dict[str, Any] = dict(zip(of, place, strict=True)) | {"table": table}
        by_class: dict[str, dict[str, Networks]] = {}  # metric -> class -> networks
        for name, part in lines.groupby("class", sort=False):
            block = _Block(part, measured, sides.draws)
            for cases in ("all", *(SUBSETS if "found" in rows else ())):
                for metric, levels, changes in block.metrics(cases, sides.baseline):
                    family = f"exploratory: alignment, {cases}"
                    said += [
                        sides.row(
                            arm, str(name), levels, changes.get(arm, levels), metric=metric, cases=cases,
                            family=_if(family, arm, sides), **given,
                        )
                        for arm in levels
                    ]  # fmt: skip
                    if cases == "all":
                        by_class.setdefault(metric, {})[str(name)] = levels
        for metric, of_class in by_class.items():
            said += macro_rows(of_class, sides, metric=metric, **given)
    _tell_alone(said)
    adjust(said)
    return said


def _tell_alone(rows: Sequence[Row]) -> None:
    """Say of a class whose regions are all of one patient that there is nobody else's to compare its maps with."""

    def place(one: Row, metric: str) -> tuple[Any, ...]:
        return (metric, *(one[key] for key in ("arm", "class", "layer", "method", "cases")))

    measured = {place(one, one["metric"]): one for one in rows if one["value"] is not None}
    for one in rows:
        plain = measured.get(place(one, one["metric"].removesuffix("_corrected")))
        if one["value"] is None and plain is not None:
            one.update(n_images=plain["n_images"], n_patients=plain["n_patients"])
            for key in ("reason", "diff_reason"):
                one[key] = one[key].replace(NOTHING, ALONE)


def detector_rows(
    figures: Mapping[str, Mapping[int, Sequence[Figure]]],
    concepts: Sequence[str],
    sides: Sides,
    *,
    layer: str | None = None,
    metric: str = "detectors",
    caution: str = "",
) -> list[Row]:
    """T3's counts of detectors with differences: `figures` arm -> seed -> K of `ranked_pairs.detector_figures`.

    `caution`, where it is given, is added to the reason of every value, and difference, with an interval.
    """
    said = []
    for c, name in enumerate(concepts):
        networks = {arm: {seed: each[c] for seed, each in seeds.items()} for arm, seeds in figures.items()}
        for arm in networks:
            family = _if("exploratory: detectors", arm, sides)
            about: dict[str, Any] = {"table": "dissection", "metric": metric, "layer": layer, "family": family}
            one = sides.row(arm, name, networks, of_maps=False, **about)
            for end, reason in (("low", "reason"), ("diff_low", "diff_reason")):
                if caution and one[end] is not None:
                    one[reason] = "; ".join(filter(None, (one[reason], caution)))
            said.append(one)
    adjust(said)
    return said


class _Block:
    """The rows of one class, layer and method as arrays `(S, R, M)` per arm, images in the same order everywhere."""

    def __init__(self, part: pd.DataFrame, measured: Sequence[str], draws: Draws) -> None:
        self.draws, self.measured = draws, list(measured)
        first = part.drop_duplicates("case").sort_values("case", kind="stable")
        cases = pd.Index(first["case"])
        self.patient = first["patient"].to_numpy()
        wanted = [*measured, *(n + s for s in BEYOND for n in measured if n + s in part), *_there(part, "found")]
        self.seeds: dict[str, list[int]] = {}
        self.arrays: dict[str, dict[str, np.ndarray]] = {}
        for arm, mine in part.groupby("arm", sort=False):
            frames = {seed: one.set_index("case").reindex(cases) for seed, one in mine.groupby("seed", sort=True)}
            self.seeds[str(arm)] = [int(str(seed)) for seed in frames]
            self.arrays[str(arm)] = {
                column: np.stack([frame[column].to_numpy(dtype=np.float64) for frame in frames.values()])
                for column in wanted
            }

    def metrics(self, cases: str, baseline: str) -> list[tuple[str, Networks, dict[str, Networks]]]:
        """`(metric, own figures of every arm, arm -> figures of arm and baseline on common images)`."""
        made: list[tuple[str, Networks, dict[str, Networks]]] = []
        for suffix in ("", *BEYOND):
            names = [n for n in self.measured if not suffix or n + suffix in self.arrays[baseline]]
            if not names:
                continue
            blocks = {arm: self._stacked(arm, names, suffix, cases) for arm in self.arrays}
            own = {arm: self._figures(arm, block, names, suffix) for arm, block in blocks.items()}
            pairs = {}
            for arm, block in blocks.items():
                if arm == baseline:
                    continue
                ours, theirs = pairwise(block, blocks[baseline])
                kept = {}
                for which, held, whole in ((arm, ours, block), (baseline, theirs, blocks[baseline])):
                    same = np.array_equal(np.isnan(held), np.isnan(whole))
                    kept[which] = own[which] if same else self._figures(which, held, names, suffix)
                pairs[arm] = kept
            for i, name in enumerate(names):
                metric = NO_EVIDENCE.get(name, name) + BEYOND.get(suffix, "")
                levels: Networks = {arm: {seed: each[i] for seed, each in seeds.items()} for arm, seeds in own.items()}
                changes: dict[str, Networks] = {
                    arm: {which: {seed: each[i] for seed, each in seeds.items()} for which, seeds in pair.items()}
                    for arm, pair in pairs.items()
                }
                made.append((metric, levels, changes))
        return made

    def _stacked(self, arm: str, names: Sequence[str], suffix: str, cases: str) -> np.ndarray:
        """`(S, R, M)`, or `(S, R, 2 M)` with what is taken off behind; NaN outside the subset."""
        columns = [*names, *(n + suffix for n in names)] if suffix else list(names)
        block = np.stack([self.arrays[arm][column] for column in columns], axis=2)
        if suffix:  # a measure and what is taken off it are there together or not at all
            m = len(names)
            lacking = np.isnan(block[:, :, :m]) | np.isnan(block[:, :, m:])
            block = np.where(np.concatenate([lacking, lacking], axis=2), np.nan, block)
        if cases in SUBSETS:
            block = np.where((self.arrays[arm]["found"] == SUBSETS[cases])[:, :, None], block, np.nan)
        return block

    def _figures(self, arm: str, block: np.ndarray, names: Sequence[str], suffix: str) -> dict[int, list[Figure]]:
        made = {}
        for seed, values in zip(self.seeds[arm], block, strict=True):
            m = len(names)
            if suffix:
                made[seed] = corrected_figures(values[:, :m], values[:, m:], self.patient, self.draws)
            else:
                made[seed] = mean_figures(values, self.patient, self.draws)
        return made


def _there(part: pd.DataFrame, *columns: str) -> list[str]:
    return [column for column in columns if column in part]


def _if(family: str, arm: str, sides: Sides) -> str:
    return "" if arm == sides.baseline else family
