"""Looking into networks, arms and seeds side by side: anybody's modules, in two dimensions or three, or a study's runs.

Every step is kept on disk by the hash of what it was made from, so a call that was stopped goes on where it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from raresight.core.errors import ConfigError, Problem, listed
from raresight.core.files import sha256_of
from raresight.core.progress import Silent
from raresight.explain.aligned import aligned
from raresight.explain.choices import MOST_REGIONS, Cuts, few_regions, rows_kept
from raresight.explain.dissection_table import dissection_table
from raresight.explain.fitting import fitted, fitting, folder_for, known, labelled, undefined, unlike, wrong
from raresight.explain.kept import kept_json, kept_table
from raresight.explain.network_facts import BETWEEN, between_facts, geometry_facts, geometry_rows
from raresight.explain.network_facts import VERSION as GEOMETRY
from raresight.explain.on_image import aligned_on_image, cuts_on_image, limit_on_image, maps_on_image
from raresight.explain.pictures import cases
from raresight.explain.pixel_maps import PIXEL_METHODS, PLACE, require_captum
from raresight.explain.probe import ProbeSet
from raresight.explain.separability import Drawn
from raresight.explain.separability import draw as draw_probes
from raresight.explain.settled import settle_cuts, settle_places
from raresight.explain.store import MOST_STAGES, Asked, Network, Seen, hash_of_probe, see
from raresight.explain.tables import Row, fact_rows
from raresight.explain.told import (
    NULL_METHOD,
    alignment_table,
    all_rows,
    classes_of,
    draw,
    faithful_table,
    gate_table,
    grey,
    overlapping,
    save_rows,
    score_lines,
    score_table,
    sides_of,
    ungated_table,
    write,
)
from raresight.explain.tried import faithful, gates
from raresight.explain.units_shown import units_shown
from raresight.explain.verdict_table import verdict_rows

TASKS = ("alignment", "dissect", "geometry", "sanity", "faithfulness")
METHODS = ("grad_cam", "hires_cam")
METHODS_KNOWN = (*METHODS, "cam", *PIXEL_METHODS)
PLACELESS = (
    "the baseline does not keep the places of the image apart (a vision transformer, say): no maps of a layer and no "
    "units are compared; scores and the geometry of the features are"
)
SAME_IMAGES = "the same images: the layer on all of them, cuts by halves of the patients"
MEASURE = "mass"  # what "alignment" is: the share of the map inside the finding, beyond other patients' masks
Q = 0.005  # the share of positions at which a unit fires
VERSION = 1  # of the rows: counts up when what they mean changes


def look(
    *,
    arms: Mapping[str, Sequence[nn.Module | Callable[[], nn.Module]]],
    probe: ProbeSet,
    choose: ProbeSet | None = None,
    layers: str | Sequence[str] = "auto",
    methods: Sequence[str] = METHODS,
    counts: Mapping[str, int] | None = None,
    baseline: str | None = None,
    prior: np.ndarray | None = None,
    kind: str = "independent",
    cache: str | Path | None = None,
    batch: int = 32,
    progress: Silent | None = None,
) -> Look:
    """A `Look` into anybody's networks.

    `arms` name -> its seeds' networks, modules or functions without arguments that make one (so that one at a time is
    in memory); their logits are `(B, K)` for images `(B, C, *S)` in [0, 1]. `probe` is what they are shown; `choose`
    another probe (a validation part) on which layer and cuts are chosen: without it they are chosen on `probe`, cuts by
    halves of its patients. `counts` class -> training images, for bands and slopes. `baseline`: the arm that others are
    compared with, the first where none is named. `prior` `(K, *S)`: mean training masks. `cache`: a folder that
    outlives the call, so that a stopped one goes on. `methods`: `grad_cam`, `hires_cam`,
    `cam`, and on the image itself, for annotated findings alone, `integrated_gradients` and `occlusion` (extra
    `explain`; some hundred passes a map). The verdict rests on the first kind of layer map, at the chosen layer and at
    the last one, and a second kind has to show the same by itself; maps on the image are measured beside them and not
    put to the gate. `layers`: the names of those to look at, in any order, or `auto`, the deepest stages. Regions on
    images without their label are left out, and `limits` say so.

    Raises: `ConfigError` RS-X01 without Captum where it is needed, RS-C34 for a name that there is not or a setting
    that cannot be, RS-R48 where there is nothing to look into, RS-R49 for a network that cannot be looked into, alone
    or beside the others.
    """
    fitting(arms, probe, choose, kind=kind, counts=counts or {}, prior=prior)
    choose = None if choose is probe else choose
    probe, limits = labelled(probe)
    if choose is not None:
        choose, told = labelled(choose)
        limits += told
    networks = [
        Network(arm, seed, partial(fitted, model, probe))
        for arm, models in arms.items()
        for seed, model in enumerate(models)
    ]
    given = [layers] if isinstance(layers, str) else list(layers)
    named = [] if given == ["auto"] else given
    return Look(
        networks,
        probe,
        choose=choose,
        layers=named,
        methods=[methods] if isinstance(methods, str) else methods,
        counts=counts,
        baseline=baseline,
        prior=prior,
        kind=kind,
        folder=None if cache is None else folder_for("cache", cache),
        limits=limits,
        batch=batch,
        progress=progress,
    )


@dataclass
class Looked:
    """What is known of one network: what it said of both probes, and its rows.

    `layers`: its own names for the layers whose maps are measured, the chosen one first and the last where that is
    another (twice the same where it has no other); `gates` layer -> kind of map -> how the gate went.
    """

    network: Network
    chosen_on: Seen
    seen: Seen
    layers: tuple[str, ...] = ()
    pixels: Seen | None = None
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    gates: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    faithful: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def layer(self) -> str:
        """The chosen layer; empty where the network keeps no places apart."""
        return next(iter(self.layers), "")


class Look:
    """Networks, a probe, and everything that is found: `Look(...).run([...]).report("out/")`.

    `networks` in the order of their arms, `hashes` the probes' content where it is known (else their pixels are read
    through once more).
    """

    def __init__(
        self,
        networks: Sequence[Network],
        probe: ProbeSet,
        *,
        choose: ProbeSet | None = None,
        layers: Sequence[str] = (),
        methods: Sequence[str] = METHODS,
        counts: Mapping[str, int] | None = None,
        baseline: str | None = None,
        prior: np.ndarray | None = None,
        kind: str = "independent",
        folder: Path | None = None,
        hashes: tuple[str, str] | None = None,
        limits: Sequence[str] = (),
        batch: int = 32,
        progress: Silent | None = None,
    ) -> None:
        if not networks or not len(probe):
            raise _nothing("no network was given" if not networks else "the probe has no image")
        if not (probe.labels == 1).any():
            raise _nothing("no image of the probe has a finding: no label is 1")
        self.networks = list(networks)
        self.arms = list(dict.fromkeys(network.arm for network in networks))
        self.baseline = self.arms[0] if baseline is None else baseline
        if self.baseline not in self.arms:
            raise _nothing(f"the baseline '{baseline}' is none of {listed(self.arms)}")
        self.networks.sort(key=lambda network: (network.arm != self.baseline, self.arms.index(network.arm)))
        self.arms.sort(key=lambda arm: arm != self.baseline)
        self.probe, self.choose = probe, probe if choose is None else choose
        self.crossed = self.choose is self.probe
        self.layers = tuple(dict.fromkeys(layers))
        self._names: dict[str, tuple[str, ...]] = {}
        known("methods", methods, METHODS_KNOWN)
        methods = list(dict.fromkeys(methods))
        self.pixel_methods = tuple(method for method in methods if method in PIXEL_METHODS)
        self.methods = tuple(method for method in methods if method not in PIXEL_METHODS) or METHODS
        require_captum(self.pixel_methods)
        self.counts = dict(counts or {})
        self.prior, self.kind, self.batch = prior, kind, batch
        self._temporary = tempfile.TemporaryDirectory() if folder is None else None
        self.folder = Path(self._temporary.name) if self._temporary else Path(str(folder))
        self._hashes = hashes
        self._given_limits = list(limits)
        self.limits: list[str] = []
        self.progress = progress or Silent()
        self.tasks: tuple[str, ...] = ()
        self.choices: dict[str, Any] = {}
        self.places: tuple[int, ...] = (-1,)
        self.cuts: list[Cuts] = []
        self.pixel_cuts = Cuts()
        self.looked: list[Looked] = []
        self.rows = pd.DataFrame()
        self.faithful = pd.DataFrame()
        self.greyed: dict[str, str] = {}
        self.which = few_regions(probe)

    @cached_property
    def drawn(self) -> Drawn:
        """The images that linear probes are fitted and judged on, the same for every network and layer."""
        return draw_probes(self.probe.labels, self.probe.patients, names=("explain",))

    @property
    def part(self) -> str:
        return self.probe.part or "probe"

    @property
    def hashes(self) -> tuple[str, str]:
        """Of the probe and of what is chosen on."""
        if self._hashes is None:
            first = hash_of_probe(self.probe)
            self._hashes = (first, first if self.crossed else hash_of_probe(self.choose))
        return self._hashes

    def run(self, tasks: Sequence[str] = TASKS) -> Look:
        """Look into every network; what lies in the cache is not done again.

        Tasks: `alignment`, `dissect`, `geometry`, `sanity`, `faithfulness`. Those that the probe or the networks do not
        allow are left out, and `limits` say why. `sanity` comes along with `alignment`: where maps lie counts only
        where they pass that check.
        """
        asked = [tasks] if isinstance(tasks, str) else list(tasks)
        known("tasks", asked, TASKS)
        if "alignment" in asked:
            asked.append("sanity")
        self.tasks = tuple(task for task in TASKS if task in asked)
        self.looked, self.limits = [], list(self._given_limits)
        self._tell_limits()
        self.places, self.choices = settle_places(self)
        with self.progress.bar("looking into networks") as advance:
            for done, network in enumerate(self.networks):
                self.progress.say(f"looking into {network.arm}, seed {network.seed}")
                self.looked.append(self._visit(network))
                advance(done + 1, len(self.networks))
        if not self.measured:
            self.limits.append(PLACELESS)
        self.cuts, self.pixel_cuts = settle_cuts(self), cuts_on_image(self)
        if "alignment" in self.tasks and self.probe.regions is not None:
            for one in self.looked:
                one.rows = pd.concat([self._aligned(one), aligned_on_image(self, one)], ignore_index=True)
        self.rows = all_rows(self)
        self.faithful = pd.concat([one.faithful for one in self.looked], ignore_index=True)
        self.choices |= {
            "layer": self.layer or None,
            "last_layer": self.measured[-1] if self.measured else None,
            "alignment": MEASURE,
            "method": self.methods[0],
            "tau": [
                row | {"layer": layer}
                for layer, cuts in zip((*self.measured, PLACE), (*self.cuts, self.pixel_cuts), strict=True)
                for row in cuts.as_rows()
            ],
            "q": Q,
            "chosen_on": SAME_IMAGES if self.crossed else self.choose.part or "choose",
            "most_regions_of_a_class": MOST_REGIONS,
        }
        return self

    def _tell_limits(self) -> None:
        """In words, what the probe does not allow of what was asked."""
        drawn = 0 if self.probe.regions is None else len(self.probe.regions)
        if not drawn:
            self.limits.append(
                "nobody drew where the findings lie: maps are compared with each other, units are judged by labels"
            )
        elif len(self.which) < drawn:
            self.limits.append(
                f"maps are measured on {len(self.which):,} of {drawn:,} annotated findings: at most {MOST_REGIONS} of "
                "a class, drawn by name, the same for every network"
            )
        if self.pixel_methods:
            self.limits.append(limit_on_image(self))
        if self.crossed:
            self.limits.append(
                "there is one set of images: the layer is chosen on the images that it is judged on, and each half of "
                "the patients is cut by what the other half showed"
            )

    def _asked(self, mapped: Sequence[int], kept: bool) -> Asked:
        rows = rows_kept(self.probe) if kept and "dissect" in self.tasks else np.empty(0, dtype=np.int64)
        return Asked(self.layers, MOST_STAGES, tuple(mapped), (*self.methods, "random"), rows)

    @property
    def _everywhere(self) -> tuple[int, ...]:
        """All layers that are looked at, counted from the deepest, so that arms of other networks can be told alike."""
        return tuple(range(-(len(self.layers) or MOST_STAGES), 0))

    def home(self, network: Network) -> Path:
        """Where a network's part of the cache lies."""
        return self.folder / "cache" / network.arm / f"seed-{network.seed}"

    def see(self, network: Network, what: str, model: Callable[[], nn.Module] | None = None) -> Seen:
        """What a network says of the probe, or of that on which is chosen; both at once where they are one."""
        of_baseline = network.arm == self.baseline
        choosing = what == "choose" or self.crossed
        mapped = self._everywhere if of_baseline and choosing else self.places
        probe, sha = (self.choose, self.hashes[1]) if what == "choose" else (self.probe, self.hashes[0])
        asked = self._asked(mapped, kept=what == "probe" or self.crossed)
        folder = self.home(network) / ((probe.part or what) if not self.crossed else self.part)
        with self.progress.bar(f"{network.arm} seed {network.seed}, {probe.part or what}") as advance:
            seen = see(network, probe, asked, folder, probe_sha256=sha, model=model, batch=self.batch, advance=advance)
        if self._names.setdefault(network.arm, seen.names) != seen.names:
            raise unlike(network.arm, network.seed, seen.names, self._names[network.arm])
        return seen

    def _visit(self, network: Network) -> Looked:
        """Everything that needs the network itself, with the network in memory once."""
        made: list[nn.Module] = []

        def model() -> nn.Module:
            if not made:
                made.append(network.make())
            return made[0]

        on_choice = self.see(network, "choose", model)
        seen = on_choice if self.crossed else self.see(network, "probe", model)
        one = Looked(network, on_choice, seen)
        if seen.layers and (self.measured or not self.looked):  # the baseline comes first; without its maps none count
            one.layers = tuple(seen.names[max(place, -len(seen.names))] for place in self.places)
            if (one.layer, self.methods[0]) not in seen.maps:
                raise undefined(self.methods[0], one.layer, network.arm)
            if "faithfulness" in self.tasks:
                table = faithful(seen, self.probe, one.layer, self.methods[0], model, self.home(network))
                one.faithful = table.assign(arm=network.arm, seed=network.seed)
            if "sanity" in self.tasks:
                real = [method for method in self.methods if any(method == kind for _, kind in seen.maps)]
                one.gates = gates(seen, self.probe, one.layers, real, model, self.home(network))
        one.pixels = maps_on_image(self, one, model)
        return one

    def kinds(self, one: Looked, turn: int = 0, *, null: bool = True) -> tuple[str, ...]:
        """The kinds of maps that are measured of a network at one of its layers, random ones at the first alone."""
        kinds = [method for layer, method in one.seen.maps if layer == one.layers[turn]]
        return tuple(method for method in kinds if method != NULL_METHOD or (null and not turn))

    def report(
        self, out: str | Path, facts: Mapping[str, Any] | None = None, *, pictures: bool = True
    ) -> dict[str, Any]:
        """Write tables, rows, figures, page and `explain.json` (the last) into `out`; returns what the latter says.

        The page, `cases.npz`, `units.npz` and some figures hold pictures of patients; without `pictures` nothing does.

        Raises: `ConfigError` RS-R48 before `run`, RS-C34 where `out` is a file; what `run` found is kept.
        """
        if not self.looked:
            raise wrong("report was called before run", "look(...).run().report(folder)")
        out = folder_for("out", out)
        self.progress.say("comparing the arms")
        tables = self.tables()
        shown = cases(self, self.greyed, out, pictures=pictures)
        save_rows({"alignment": self.rows, "scores": score_lines(self), "faithfulness": self.faithful}, out / "rows")
        found = dict(facts or {}) | {
            "version": VERSION,
            "part": self.part,
            "n_images": len(self.probe),
            "n_patients": len(np.unique(self.probe.patients.astype(str))),
            "classes": classes_of(self),
            "arms": self.arms,
            "seeds": sorted({network.seed for network in self.networks}),
            "baseline": self.baseline,
            "layers": [asdict(layer) for layer in self.looked[0].seen.layers],
            "choices": self.choices,
            "tables": tables,
            "dims": len(self.looked[0].seen.layers[0].grid) if self.looked[0].seen.layers else None,
            "cases": shown,
            "units": units_shown(self, Q, out, pictures=pictures),
            "pictures": pictures,
            "limits": self.limits,
        }
        draw(found, out)
        return write(found, out)

    def tables(self) -> dict[str, list[Row]]:
        """T1 to T6."""
        gate, self.greyed = gate_table(self, self.methods[0])
        faithfulness = faithful_table(self.faithful, self.layer)
        gate += faithfulness
        others = [(method, layer) for layer in self.measured for method in self.methods][1:]
        gate += [row for method, layer in others for row in gate_table(self, method, layer)[0]]
        gate += ungated_table(self)
        sides = sides_of(self, self.greyed)
        scored = score_table(self, sides)
        alignment = alignment_table(self, sides)
        detectors, dissection = dissection_table(self, sides, Q)
        geometry: list[Row] = []
        between: list[Row] = []
        if "geometry" in self.tasks:
            lines = [line for one in self.looked for line in self._geometry(one)]
            geometry = geometry_rows(lines, baseline=self.baseline, bands=sides.bands)
            seen = [one.seen.key for one in self.looked]
            key = [VERSION, BETWEEN, seen, self.layer, self.methods, self.which.tolist()]
            alike = kept_table(self.folder / "cache", "between", key, partial(between_facts, self))
            between = fact_rows("between", alike, baseline=None, bands=sides.bands) if len(alike) else []
            overlapping(between)
        for rows in (faithfulness, dissection, geometry, between):
            grey(rows, self.greyed)
        joined = verdict_rows(
            scored,
            alignment,
            detectors,
            measure=MEASURE,
            layer=self.layer or None,
            last=self.choices["last_layer"],
            method=self.methods[0],
            second=next(iter(self.methods[1:]), None),
            greyed=self.greyed,
        )
        return {
            "verdict": joined,
            "alignment": alignment,
            "dissection": dissection,
            "geometry": geometry,
            "gate": gate,
            "between": between,
        }

    def _aligned(self, one: Looked) -> pd.DataFrame:
        if not one.layers or not self.measured:
            return pd.DataFrame()
        null = one is self.looked[0]  # maps that know nothing are the same for every network
        kinds = [self.kinds(one, turn, null=null) for turn in range(len(one.layers))]
        cuts = [row for of_layer in self.cuts for row in of_layer.as_rows() if row["arm"] == one.network.arm]
        key = [VERSION, one.seen.key, self.which.tolist(), one.layers, kinds, cuts, self.prior_sha256]

        def make() -> pd.DataFrame:
            tables = [
                aligned(one.seen, self.probe, self.which, [mine], kind, cut, self.prior).assign(layer=name)
                for name, mine, kind, cut in zip(self.measured, one.layers, kinds, self.cuts, strict=True)
            ]
            return pd.concat(tables, ignore_index=True)

        self.progress.say(f"maps against findings: {one.network.arm}, seed {one.network.seed}")
        return kept_table(self.home(one.network), "alignment", key, make)

    def _geometry(self, one: Looked) -> list[dict[str, Any]]:
        key = [VERSION, GEOMETRY, one.seen.key, self.kind, self.counts, self.looked[0].seen.names]
        found: list[dict[str, Any]] = kept_json(
            self.home(one.network), "geometry", key, partial(geometry_facts, self, one)
        )
        return found

    @property
    def measured(self) -> tuple[str, ...]:
        """The layers whose maps are measured by the baseline's names for them, the chosen one first."""
        return self.looked[0].layers if self.looked else ()

    @property
    def layer(self) -> str:
        """The chosen layer by the baseline's name for it."""
        return self.looked[0].layer if self.looked else ""

    @cached_property
    def prior_sha256(self) -> str:
        return "" if self.prior is None else sha256_of([self.prior.shape, sha256(self.prior.tobytes()).hexdigest()])


def _nothing(found: str) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-R48",
            level="error",
            found=found,
            why="there is nothing to look into",
            remedy="give a mapping of arm -> networks, and a ProbeSet of images, some with findings, that none of them "
            "was trained on",
        )
    )
