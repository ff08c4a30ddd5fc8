"""What is settled for all networks before anything is measured: the layers of the maps, and where maps are cut."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from raresight.explain.aligned import aligned
from raresight.explain.choices import Cuts, choose_cuts, choose_layer, few_regions
from raresight.explain.kept import kept_table

if TYPE_CHECKING:
    from raresight.explain.look import Look

VERSION = 1
ON_VALIDATION, ON_THE_SAME = "on validation", "on the images that are looked at"


def settle_places(look: Look) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Positions, counted from the deepest layer (-1), of those whose maps are measured, and how they were come by.

    The first is the one that lies best on the findings by the baseline's networks on validation; the deepest follows
    where it is another. Positions rather than names, so that arms of other networks can be told alike.
    """
    which, where = few_regions(look.choose), ON_THE_SAME if look.crossed else ON_VALIDATION
    if len(look.layers) == 1:
        return (-1,), {"layer_from": "the only one named", "layer_scores": {}}
    if not len(which):
        return (-1,), {"layer_from": f"the deepest: nothing is annotated {where}", "layer_scores": {}}
    tables: list[pd.DataFrame] = []
    names: Sequence[str] = ()
    for network in look.networks:
        if network.arm != look.baseline:
            continue
        look.progress.say(f"choosing the layer: {network.arm}, seed {network.seed}")
        seen = look.see(network, "choose")
        if seen.layers:
            names = seen.names
            key = [VERSION, seen.key, which.tolist(), look.methods[0]]
            make = partial(aligned, seen, look.choose, which, names, look.methods[:1], None)
            tables.append(kept_table(look.home(network), "layers", key, make))
    if not any(map(len, tables)):
        return (-1,), {"layer_from": "the baseline keeps no places apart", "layer_scores": {}}
    best, figures = choose_layer(pd.concat(tables, ignore_index=True))
    place = names.index(best) - len(names) if best else -1
    what = f"{look.methods[0]} of {look.baseline}, share of the map inside beyond chance, mean of classes"
    said = {"layer_from": f"highest {where}: {what}", "layer_scores": figures}
    return tuple(dict.fromkeys((place, -1))), said


def settle_cuts(look: Look) -> list[Cuts]:
    """Where the maps of each measured layer are cut, arm by arm."""
    found = []
    for turn in range(len(look.measured)):
        cuts = Cuts(crossed=look.crossed)
        for arm in look.arms:
            some = [one for one in look.looked if one.network.arm == arm]
            if some[0].layers:
                seen = {arm: [one.chosen_on for one in some]}
                kinds = look.kinds(some[0], turn)
                of_arm = choose_cuts(seen, look.choose, some[0].layers[turn], kinds, crossed=look.crossed)
                cuts.share.update(of_arm.share)
                cuts.origin.update(of_arm.origin)
        found.append(cuts)
    return found
