"""Maps on the image itself, network by network, measured as those of a layer are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
from torch import nn

from raresight.core.errors import listed
from raresight.explain.aligned import aligned
from raresight.explain.choices import Cuts, choose_cuts
from raresight.explain.kept import kept_table
from raresight.explain.pixel_maps import PLACE, pixel_maps, with_maps
from raresight.explain.store import Seen

if TYPE_CHECKING:
    from raresight.explain.look import Look, Looked

VERSION = 1


def limit_on_image(look: Look) -> str:
    return (
        f"{listed(look.pixel_methods)}: measured beside {look.methods[0]}, on annotated findings alone, cut by halves "
        "of the patients; not put to the gate, so no verdict rests on them"
    )


def maps_on_image(look: Look, one: Looked, model: Callable[[], nn.Module]) -> Seen | None:
    """Those of the findings that are measured, where such maps are asked for; this is what takes long."""
    if "alignment" not in look.tasks or not len(look.which) or not look.pixel_methods:
        return None
    maps = {}
    for method in look.pixel_methods:
        with look.progress.bar(f"{one.network.arm} seed {one.network.seed}, {method}") as advance:
            maps[method] = pixel_maps(
                one.seen, look.probe, look.which, method, model, look.home(one.network),
                probe_sha256=look.hashes[0], advance=advance,
            )  # fmt: skip
    return with_maps(one.seen, maps)


def cuts_on_image(look: Look) -> Cuts:
    """By halves of the patients that are measured: maps of a second probe would cost as much again."""
    by_arm: dict[str, list[Seen]] = {}
    for one in look.looked:
        if one.pixels is not None:
            by_arm.setdefault(one.network.arm, []).append(one.pixels)
    return choose_cuts(by_arm, look.probe, PLACE, look.pixel_methods, crossed=True) if by_arm else Cuts()


def aligned_on_image(look: Look, one: Looked) -> pd.DataFrame:
    """As `aligned`, for the kinds of maps on the image; no rows where none were asked for."""
    if one.pixels is None:
        return pd.DataFrame()
    methods, cuts = look.pixel_methods, look.pixel_cuts
    mine = [row for row in cuts.as_rows() if row["arm"] == one.network.arm]
    key = [VERSION, one.seen.weights_sha256, look.hashes[0], look.which.tolist(), methods, mine, look.prior_sha256]
    make = partial(aligned, one.pixels, look.probe, look.which, [PLACE], methods, cuts, look.prior)
    return kept_table(look.home(one.network), "on_image", key, make)
