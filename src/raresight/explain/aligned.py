"""One network's maps against the findings: a row for every region and kind of map, from which all else is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from raresight.explain.alignment import cells, measure
from raresight.explain.chance import against_others, against_prior
from raresight.explain.choices import Cuts, halves, maps_of
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Seen


def aligned(
    seen: Seen,
    probe: ProbeSet,
    which: np.ndarray,
    layers: Sequence[str],
    methods: Sequence[str],
    cuts: Cuts | None,
    prior: np.ndarray | None = None,
) -> pd.DataFrame:
    """Every score of `measure` for each region in `which`, and what chance (`_0`) and place alone (`_prior`) score.

    Columns beside them: `arm seed class case patient row layer method tau`, `logit` and `score` of the class on the
    image, `cells` (how many cells of the map the finding fills). `prior` `(K, *S)` are the mean training masks, NaN
    where there is none. A kind of map that is not defined at a layer (`cam`) has no rows there. Without `cuts` maps are
    cut at half of their largest value.
    """
    assert probe.regions is not None and probe.cases is not None
    row, label = probe.regions.row[which], probe.regions.label[which]
    side = halves(probe.patients)[row]
    tables = []
    for layer in layers:
        for method in (method for method in methods if (layer, method) in seen.maps):
            for k in np.unique(label):
                mine = np.flatnonzero(label == k)
                name, masks = probe.classes[k], probe.regions.masks(which[mine])
                maps = maps_of(seen, probe, which[mine], layer, method)
                tau = np.full(len(mine), 0.5) if cuts is None else cuts.of(seen.arm, method, name, side[mine])
                table = measure(maps, masks, tau=tau)
                others = against_others(maps, masks, probe.patients[row[mine]], tau=tau, names=(name,))
                place = [] if prior is None else [against_prior(prior[k], masks, tau=tau)]
                facts = pd.DataFrame(
                    {
                        "arm": seen.arm,
                        "seed": seen.seed,
                        "class": name,
                        "case": probe.cases[row[mine]].astype(str),
                        "patient": probe.patients[row[mine]].astype(str),
                        "row": row[mine],
                        "layer": layer,
                        "method": method,
                        "tau": tau,
                        "logit": seen.logits[row[mine], k].astype(np.float64),
                        "score": seen.scores[row[mine], k].astype(np.float64),
                        "cells": cells(masks, seen.maps[(layer, method)].shape[2:]),
                    }
                )
                tables.append(pd.concat([facts, table, others, *place], axis=1))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
