"""`raresight explain`: looking into the networks of a study, arms and seeds side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raresight.core.errors import ConfigError, GateError, Problem, listed, nearest
from raresight.core.extras import need
from raresight.core.files import read_json, sha256_of
from raresight.core.folds import Part
from raresight.core.ledger import openings
from raresight.core.run import RunFolder
from raresight.verbs.opened import OpenStudy, weights_sha256

TASKS = ("alignment", "dissect", "geometry", "sanity", "faithfulness")
METHODS = ("grad_cam", "hires_cam")
KINDS = (*METHODS, "cam", "integrated_gradients", "occlusion")  # the last two on the image itself, by Captum
PICTURED = "the page holds pictures of patients: pass it on as you would pass on the pictures (or --no-pictures)"
VERSION = 6  # of the measurements: counts up when what they mean changes


def explain(
    study: OpenStudy,
    *,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    part: Part | None = None,
    tasks: Sequence[str] = TASKS,
    methods: Sequence[str] = METHODS,
    layers: Sequence[str] = (),
    pictures: bool = True,
) -> dict[str, Any]:
    """Write `explain/` and return `explain.json`; what is there and current is only read.

    All finished arms and seeds where none are named. `part`: the test part where it was opened for these networks, else
    validation; layer and thresholds are chosen on validation either way. `layers` empty: chosen. `methods` on the image
    itself (`integrated_gradients`, `occlusion`) are measured beside those of a layer, Grad-CAM and HiResCAM where none
    is named. Without `pictures` no file holds an image of a patient. A killed call goes on with the network where it
    was killed and ends with the same files.

    Raises: `GateError` RS-R36 for a test part that was not opened for these networks; `ConfigError` RS-R48 where there
    is nothing to look into, RS-R44b where a run's weights are gone, RS-C34 for a task or method that there is not,
    RS-X01 without torch, or without Captum where a kind of map needs it.
    """
    need("torch", extra="train", feature="looking into networks")
    asked = _asked(arms, seeds, part, tasks, methods, layers) | {"pictures": pictures}
    from raresight.explain.pixel_maps import require_captum

    require_captum(asked["methods"])
    _require_images(study)
    from raresight.verbs.explain_runs import chosen_runs, left_out

    runs = chosen_runs(study, arms, seeds)
    from raresight.verbs.explain_networks import require_weights

    require_weights(study, runs)
    chosen, why = part_of(study, runs, part)
    current = explain_stamp(study, asked, runs, chosen)
    before = written_before(study)
    if before.get("inputs") == current:
        study.progress.say(f"looked into already, and nothing has changed since: {study.folder.explain}")
        return before
    study.progress.say(why)
    limits = [why, *left_out(study, runs, arms, seeds)]
    from raresight.data.disk import writing

    with writing(study.folder.explain):
        return _look(study, runs, chosen, asked, current, limits)


def part_of(study: OpenStudy, runs: Mapping[str, Sequence[RunFolder]], part: Part | None) -> tuple[Part, str]:
    """The part that is looked at, and why in a sentence.

    Raises: `GateError` RS-R36 where the test part is asked for and was not opened for these very networks.
    """
    closed = shut(study, runs)
    if part == "test" and closed:
        evaluate = f"raresight evaluate {study.folder.typed} --part test"
        again = ' --reuse-test --reason "..."' if openings(study.folder.ledger) else ""
        raise GateError(
            Problem(
                code="RS-R36",
                level="error",
                file=str(study.folder.ledger),
                found=f"the test part stays shut: {closed}",
                why="looking into networks on the test part is looking at the test part",
                remedy=f"`{evaluate}{again}` first, or explain on validation (--part val)",
            )
        )
    if part == "val":
        return "val", "Looked at on the validation part, as asked: choices of training were made on these patients."
    if closed:
        return "val", f"Looked at on the validation part, because {closed}; choices of training were made on it."
    return "test", "Looked at on the test part, which was opened for these networks."


def shut(study: OpenStudy, runs: Mapping[str, Sequence[RunFolder]]) -> str:
    """Why the test part is shut to these networks; empty where it was opened for each of them."""
    past = openings(study.folder.ledger)
    if not past:
        return "the test part was not opened yet"
    from raresight.verbs.predicting import weights_sha256 as weights_of

    known: set[tuple[str, str]] = set()
    for line in past:
        plan = study.folder.opening(line["opening"]) / "plan.json"
        written = read_json(plan)["arms"] if plan.exists() else {}
        known |= {pair for arm in written.values() for pair in arm["weights"].items()}
    arms = {arm.name: arm for arm in study.arms}
    new = []
    for name, some in runs.items():
        for run in some:
            whole = study.folder.run(name, run.seed)
            if not run.best.exists() or not set(weights_of(study, arms[name], [whole]).items()) <= known:
                new.append(f"{name} seed {run.seed}")
    return f"it was opened before {listed(new, 4)} had today's weights" if new else ""


def explain_stamp(
    study: OpenStudy, asked: Mapping[str, Any], runs: Mapping[str, Sequence[RunFolder]], part: Part
) -> str:
    """One hash over the networks, the data, where findings lie, and what was asked."""
    from raresight.verbs.explain_probe import regions_stamp

    arms = {arm.name: arm for arm in study.arms}
    weights = {}
    for name, some in runs.items():
        for run in some:
            source = study.folder.run(str(arms[name].frozen), run.seed, run.fold) if arms[name].frozen else None
            files = [one.best for one in (run, source) if one is not None and one.best.exists()]
            weights[f"{name}/{run.seed}"] = [weights_sha256(path) for path in files]
    regions = regions_stamp(study, sorted({"train", "val", part}))  # type: ignore[arg-type]
    return sha256_of([VERSION, study.evidence_sha256, study.baseline, dict(asked), weights, regions, part])


def is_explained(study: OpenStudy) -> tuple[bool, str]:
    """Whether `explain.json` is what the same call would write today, and what changed where it is not."""
    written = written_before(study)
    if not written:
        return False, "explain.json cannot be read"
    asked = written["asked"]
    from raresight.verbs.explain_runs import chosen_runs

    try:
        runs = chosen_runs(study, asked["arms"], asked["seeds"])
        part, _ = part_of(study, runs, asked["part"])
        fresh = written["inputs"] == explain_stamp(study, asked, runs, part)
    except (ConfigError, GateError) as error:
        return False, error.problems[0].found
    return fresh, "networks, data, masks, boxes or the measurements changed, or the test part was opened"


def written_before(study: OpenStudy) -> dict[str, Any]:
    """explain.json as it lies there; empty where there is none, or where it was damaged and is made anew."""
    try:
        found = read_json(study.folder.explained)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and {"inputs", "asked", "tables"} <= set(found) else {}


def _look(
    study: OpenStudy,
    runs: dict[str, list[RunFolder]],
    part: Part,
    asked: dict[str, Any],
    current: str,
    limits: list[str],
) -> dict[str, Any]:
    from raresight.explain.look import Look
    from raresight.explain.store import hash_of_labels
    from raresight.verbs.explain_networks import networks
    from raresight.verbs.explain_probe import prior_of, probe_of, training_counts

    runtime = runtime_of(study)
    probe, told = probe_of(study, part)
    if told:
        study.progress.say(f"where findings lie: {'; '.join(told)}")
    limits += told
    val = probe
    if part != "val":
        val, _ = probe_of(study, "val")
    with runtime.settled():
        looked = Look(
            networks(study, runs, runtime),
            probe,
            choose=val,
            counts=training_counts(study),
            baseline=study.baseline if study.baseline in runs else next(iter(runs)),
            prior=prior_of(study) if probe.regions is not None and "alignment" in asked["tasks"] else None,
            folder=study.folder.explain,
            hashes=(
                sha256_of([study.evidence_sha256, hash_of_labels(probe)]),
                sha256_of([study.evidence_sha256, hash_of_labels(val)]),
            ),
            layers=asked["layers"],
            methods=asked["methods"],
            kind=study.task.kind,
            limits=limits,
            progress=study.progress,
        )
        facts = {"inputs": current, "asked": asked}
        result = looked.run(asked["tasks"]).report(study.folder.explain, facts, pictures=asked["pictures"])
    if asked["pictures"]:
        study.progress.say(PICTURED)
    return result


def runtime_of(study: OpenStudy) -> Any:
    """The study's device and threads in float32: gradients of maps are not rounded as training may be."""
    import torch

    from raresight.train.runtime import Runtime

    written = read_json(study.folder.lock)["runtime"] if study.folder.lock.exists() else {}
    device = torch.device("cpu")
    if written.get("device") == "cuda" and torch.cuda.is_available():
        device = torch.device("cuda")
    return Runtime(device, threads=int(written.get("threads", 1)))


def _asked(
    arms: Sequence[str],
    seeds: Sequence[int],
    part: Part | None,
    tasks: Sequence[str],
    methods: Sequence[str],
    layers: Sequence[str],
) -> dict[str, Any]:
    known: dict[str, tuple[Sequence[str], Sequence[str]]] = {
        "tasks": (tasks, TASKS),
        "method": (methods, KINDS),
    }
    for option, (given, options) in known.items():
        for name in given:
            if name not in options:
                close = nearest(name, options)
                raise ConfigError(
                    Problem(
                        code="RS-C34",
                        level="error",
                        column=f"--{option}",
                        found=f"there is no '{name}'",
                        why="only what is named is measured",
                        remedy=f"did you mean '{close}'?" if close else f"one or several of {', '.join(options)}",
                    )
                )
    named = list(dict.fromkeys(layers))
    return {
        "arms": sorted(set(arms)),
        "seeds": sorted(set(seeds)),
        "part": part,
        "tasks": [task for task in TASKS if task in tasks] or list(TASKS),
        "methods": list(dict.fromkeys(methods)) or list(METHODS),
        "layers": [] if named == ["auto"] else named,
    }


def _require_images(study: OpenStudy) -> None:
    if not study.config.data.images:
        raise ConfigError(
            Problem(
                code="RS-R48",
                level="error",
                file=str(study.folder.config),
                column="data.images",
                found="this study has label tables and no images",
                why="networks are looked into by what they say of images",
                remedy="make a study with images, or judge predictions with `raresight score`",
            )
        )
