"""Whether what `raresight.look` is given fits together: said at once, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path

import numpy as np
import torch
from torch import nn

from raresight.core.errors import ConfigError, DataError, Problem, listed, nearest
from raresight.explain.probe import ProbeSet
from raresight.explain.undisturbed import cannot_look, logits_of, undisturbed

KINDS = ("independent", "exclusive")
SLACK = 0.01  # over 1 and under 0: what resizing may leave


def fitting(
    arms: object,
    probe: ProbeSet,
    choose: ProbeSet | None,
    *,
    kind: str,
    counts: Mapping[str, int],
    prior: np.ndarray | None,
) -> None:
    """Raises: `ConfigError` RS-R48 for arms that are no networks, RS-C34 for a setting that there is not; `DataError`
    RS-M47 for a probe whose images, regions or mean masks do not fit each other."""
    if not isinstance(arms, Mapping):
        raise wrong(f"arms is a {type(arms).__name__}", 'give a mapping of arm -> networks: arms={"mine": [network]}')
    for arm, models in arms.items():
        if not isinstance(models, Sequence) or isinstance(models, str) or not len(models):
            found = "no network" if isinstance(models, Sequence) else f"a {type(models).__name__}"
            raise wrong(f"the arm '{arm}' is {found}", "give a list of networks, one a seed; of one seed: [network]")
        for model in models:
            if not callable(model):
                raise wrong(
                    f"the arm '{arm}' holds a {type(model).__name__}", "give modules, or functions that make one"
                )
    known("kind", [kind], KINDS)
    known("counts", list(counts), probe.classes)
    for name, count in counts.items():
        if not isinstance(count, Real) or not count >= 0 or count == float("inf"):
            raise _no_setting(
                "counts",
                f"{count!r} training images of '{name}'",
                "classes are ordered and slopes are fitted by how often they were seen",
                "give a number of images, 0 or more",
            )
    for one in (probe, choose):
        if one is not None:
            _probe_fits(one)
    if choose is not None and choose.classes != probe.classes:
        raise _misfit(
            f"the classes of choose are {listed(choose.classes)}, those of probe {listed(probe.classes)}",
            "give both probes the same classes in the same order",
        )
    if prior is not None and probe.regions is not None:
        wanted = (probe.n_classes, *probe.regions.shape)
        if prior.shape != wanted:
            raise _misfit(f"the mean masks `prior` are {prior.shape}", f"give one mask a class: {wanted}")


def fitted(given: nn.Module | Callable[[], nn.Module], probe: ProbeSet) -> nn.Module:
    """The network, once it has told K logits for two of the probe's images.

    Raises: `ConfigError` RS-R49 where it takes no such images, or tells of another number of classes.
    """
    model = given if isinstance(given, nn.Module) else given()
    if not isinstance(model, nn.Module):
        raise cannot_look(
            f"a function of arms gave a {type(model).__name__}", "networks are torch modules", "return the module"
        )
    device = next(iter(model.parameters()), torch.empty(0)).device
    x = torch.from_numpy(np.ascontiguousarray(probe.pixels(np.arange(min(2, len(probe)))))).to(device)
    name = type(model).__name__
    try:
        with undisturbed(model), torch.no_grad():
            logits = logits_of(model, x)
    except (RuntimeError, ValueError, TypeError, IndexError) as cause:
        raise cannot_look(
            f"{name} takes no images {tuple(x.shape)} ({str(cause).splitlines()[0]})",
            "the network is shown the probe's images, (images, channels, *size) in [0, 1]",
            "give the images in the shape that it was trained on, channels first, or wrap the network",
        ) from cause
    if logits.shape[1] != probe.n_classes:
        raise cannot_look(
            f"{name} gives {logits.shape[1]} logits, and the probe has {probe.n_classes} classes",
            "logit k is explained as class k",
            "give labels for every output, in the order of the outputs (NaN where unknown)",
        )
    return model


def labelled(probe: ProbeSet) -> tuple[ProbeSet, list[str]]:
    """The probe with the regions of classes that their images are labelled with, and in words what was left out."""
    regions = probe.regions
    if regions is None:
        return probe, []
    if not len(regions):
        return replace(probe, regions=None), []
    fits = probe.labels[regions.row, regions.label] == 1
    if fits.all():
        return probe, []
    kept = np.flatnonzero(fits)
    some = replace(regions, row=regions.row[kept], label=regions.label[kept], packed=regions.packed[kept])
    of = f" of {probe.part}" if probe.part else ""
    told = f"regions{of} on images that do not have that label, left out: {int((~fits).sum()):,} of {len(fits):,}"
    return replace(probe, regions=some if len(some) else None), [told]


def folder_for(what: str, path: str | Path) -> Path:
    """The path, where a folder stands there or can be made.

    Raises: `ConfigError` RS-C34 where it or what it would lie in is a file.
    """
    path = Path(path)
    there = next((place for place in (path, *path.parents) if place.exists()), None)
    if there is not None and not there.is_dir():
        raise _no_setting(
            what,
            f"{there} is a file",
            "several files are written into a folder",
            "name a folder that is there, or a path where nothing is yet; what was computed is kept",
        )
    return path


def known(what: str, given: Sequence[str], options: Sequence[str]) -> None:
    """Raises: `ConfigError` RS-C34 for a name that there is not."""
    for name in given:
        if name not in options:
            close = nearest(str(name), options)
            remedy = f"did you mean '{close}'?" if close else f"one or several of {listed(options)}"
            raise _no_setting(what, f"there is no '{name}'", "only what is named is measured", remedy)


def _no_setting(what: str, found: str, why: str, remedy: str) -> ConfigError:
    return ConfigError(Problem(code="RS-C34", level="error", column=what, found=found, why=why, remedy=remedy))


def wrong(found: str, remedy: str) -> ConfigError:
    """RS-R48: there is nothing to look into."""
    why = "there is nothing to look into"
    return ConfigError(Problem(code="RS-R48", level="error", found=found, why=why, remedy=remedy))


def undefined(method: str, layer: str, arm: str) -> ConfigError:
    """RS-R49: the kind of map that the look rests on is not defined at the layer."""
    return cannot_look(
        f"{method} is not defined at '{layer}' of '{arm}'",
        "class activation maps need a layer whose mean over space goes straight into a linear layer, and the first "
        "kind of map is compared across all networks",
        "name grad_cam or hires_cam first: where cam is defined they show the same",
    )


def unlike(arm: str, seed: int, layers: Sequence[str], others: Sequence[str]) -> ConfigError:
    """RS-R49: the networks of an arm are not of one architecture."""
    return cannot_look(
        f"seed {seed} of the arm '{arm}' keeps places at {listed(layers) or 'no layer'}, the one before it at "
        f"{listed(others) or 'no layer'}",
        "an arm's networks differ by their seed alone: their maps of one layer are averaged",
        "give networks of another architecture as another arm",
    )


def _probe_fits(probe: ProbeSet) -> None:
    if not len(probe):
        return  # told by whoever looks
    block = probe.pixels(np.arange(min(8, len(probe))))
    if block.ndim not in (4, 5):
        raise _misfit(
            f"images of shape {block.shape}",
            "give (images, channels, height, width), or (images, channels, depth, height, width)",
        )
    low, high = float(block.min()), float(block.max())
    if low < -SLACK or high > 1 + SLACK:
        raise _misfit(
            f"images from {low:g} to {high:g}, expected 0 to 1",
            "divide by the largest value, or give integers; what else the network wants of them goes into the network: "
            "torch.nn.Sequential(your_normalisation, network)",
        )
    if probe.regions is not None and len(probe.regions) and tuple(probe.regions.shape) != block.shape[2:]:
        raise _misfit(
            f"regions on a grid of {tuple(probe.regions.shape)} and images of {block.shape[2:]}",
            "give images as (images, channels, *size), and masks on their own pixels",
        )


def _misfit(found: str, remedy: str) -> DataError:
    why = "maps and masks would be compared across different images"
    return DataError(Problem(code="RS-M47", level="error", file="the probe", found=found, why=why, remedy=remedy))
