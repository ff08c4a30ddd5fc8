"""What in a `Content` answers an item of a reporting checklist: one function a kind of evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raresight.report.content import Content
from raresight.report.words import listing, many, unit_of


@dataclass(frozen=True)
class Found:
    """`text` with the place in the report (`#anchor`); `part_only` where a human must add to it, `exempt` where the
    item does not apply."""

    text: str
    link: str = ""
    part_only: bool = False
    exempt: bool = False


Look = Callable[[Content], Found | None]


def _own(content: Content) -> bool:
    """Whether the arms were trained here, so that what was done is on record."""
    return content.config is not None and any(not arm.outside for arm in content.arms)


def _flow(content: Content) -> Found | None:
    parts = (content.flow or {}).get("parts")
    if not parts:
        return None
    return Found("Counts of all that was read, set aside, and in each part, by class.", "#flow")


def _people(content: Content) -> Found | None:
    if not content.people:
        return None
    names = [column["name"].replace("_", " ") for column in content.people["columns"]]
    return Found(f"The report shows {listing(names)} for each part; anything else must be added.", "#people", True)


def _forecast(content: Content) -> Found | None:
    if content.audit is None or not any(row.get("forecast") for row in content.audit["classes"]):
        return None
    return Found("The report shows how precisely each class could be measured with so many.", "#forecast", True)


def _prepared(content: Content) -> Found | None:
    config = content.config
    if config is None or content.issues is None or not config.data.images:
        return None
    return Found(
        f"Images were checked, brought to {config.image.size} pixels and normalised alike for all patients; what was "
        "done before they were handed over is not on record.", "#provenance", True,
    )  # fmt: skip


def _set_aside(content: Content) -> Found | None:
    if content.issues is None or not (content.flow or {}).get("parts"):
        return None
    aside = (content.flow or {}).get("aside", 0)
    return Found(
        f"{many(aside, 'image')} set aside by the check, each with its reason in data/issues.jsonl; unknown labels are "
        "left out of training and of figures. What was missing before the data were handed over is not on record.",
        "#flow", True,
    )  # fmt: skip


def _split(content: Content) -> Found | None:
    if content.config is None or not (content.flow or {}).get("parts"):
        return None
    split = content.config.split
    how = f"as supplied in the column {split.column}" if split.column else f"at random, seed {split.seed}"
    return Found(f"Divided by {unit_of(split.group)} into training, validation and test, {how}.", "#flow")


def _disjoint(content: Content) -> Found | None:
    if content.leaks is None or content.leaks.get("patients_shared") != 0:
        return None
    unit = unit_of(content.group_by)
    if unit != "patient":
        return Found(f"No {unit} is in two parts; that no patient is, must be shown otherwise.", "#leaks", True)
    return Found("No patient is in two parts; copies of images were looked for where images were read.", "#leaks")


def _training(content: Content) -> Found | None:
    if not _own(content) or not any(arm.facts for arm in content.arms):
        return None
    return Found("Network, methods, settings, seeds, steps and histories of every arm.", "#arms")


def _architecture(content: Content) -> Found | None:
    if not _own(content) or content.config is None:
        return None
    return Found(f"{content.config.model.backbone} with one output for each class.", "#provenance")


def _initialised(content: Content) -> Found | None:
    if not _own(content) or content.config is None:
        return None
    if content.config.model.pretrained:
        return Found("Pretrained weights were used; the data they were trained on must be named.", "#provenance", True)
    return Found("Weights were drawn at random; the seeds are on record.", "#provenance")


def _selection(content: Content) -> Found | None:
    if not _own(content) or content.config is None:
        return None
    rule = content.config.train.select
    return Found(f"Checkpoints by {rule}, arms in pairs, both on the validation part.", "#recommendation")


def _software(content: Content) -> Found | None:
    if content.lock is None:
        return None
    return Found("Versions and machine of the training are on record; devices that took the images are not.",
                 "#provenance", True)  # fmt: skip


def _measures(content: Content) -> Found | None:
    metrics = {e.metric for arm in content.arms for e in arm.estimates if e.value is not None}
    if not {"recall", "auroc"} <= metrics:
        return None
    return Found(f"{len(metrics)} measures of finding, ranking, calibration and use, each defined in the report.",
                 "#classes")  # fmt: skip


def _intervals(content: Content) -> Found | None:
    arm = content.chosen
    known = (
        [] if arm is None else [e for n in content.task.classes if (e := arm.find("recall", n)) and e.value is not None]
    )
    if not known or any(e.low is None for e in known):
        return None
    return Found("Every figure has a 95% interval that allows for several images of one patient.", "#classes")


def _subgroup_figures(content: Content) -> Found | None:
    groups = {str(e.subgroup).split("=")[0] for arm in content.arms for e in arm.estimates if e.subgroup}
    if not groups:
        return None
    names = listing(sorted(name.replace("_", " ") for name in groups))
    return Found(f"Figures with intervals by {names}; small groups hidden.", "#subgroups")


def _clusters(content: Content) -> Found | None:
    groups = {str(e.subgroup).split("=")[0] for arm in content.arms for e in arm.estimates if e.subgroup}
    if not groups & {"site", "hospital", "centre", "center", "country"}:
        return None
    return Found("Figures with intervals for each site.", "#subgroups")


def _imbalance(content: Content) -> Found | None:
    if not _own(content) or content.reference is None or not content.reference.calibrator:
        return None
    return Found("Methods of each arm, the baseline without any, and the correction of probabilities that followed.",
                 "#arms")  # fmt: skip


def _thresholds(content: Content) -> Found | None:
    arm = content.chosen
    if arm is None or not arm.operating.get("thresholds") or content.ledger is None or "ledger" in content.missing:
        return None
    return Found("Rule and value for each class, chosen on the validation part; others are marked exploratory.",
                 "#decisions")  # fmt: skip


def _computed(content: Content) -> Found | None:
    if not _own(content) or content.lock is None:
        return None
    return Found("By the stored weights of each arm and seed; code version and hashes are on record.", "#provenance")


def _decided(content: Content) -> Found | None:
    if not _own(content):
        return None
    refer = content.config is not None and content.config.decision.refer > 0
    told = (
        "Cases near a threshold are referred, and counted." if refer else "Every image was decided; none was left open."
    )
    return Found(told + " How unclear reference labels were handled must be added.", "#decisions", True)


def _variability(content: Content) -> Found | None:
    if any(len(arm.seeds) > 1 for arm in content.arms):
        return Found("Over repeated trainings.", "#seeds")
    return _subgroup_figures(content)


def _other_diagnoses(content: Content) -> Found | None:
    if content.task.kind != "exclusive" or content.audit is None:
        return None
    return Found("Counts of every class, which are the other diagnoses of one another.", "#rarity")


def _confusion(content: Content) -> Found | None:
    if content.chosen is None or not content.chosen.predictions:
        return None
    return Found("Counts of what is taken for what, ranked by harm.", "#confusions")


def _internal_test(content: Content) -> Found | None:
    if content.part != "test" or not content.ledger or len(content.ledger) != 1 or "ledger" in content.missing:
        return None
    return Found("On a test part that was opened once, after the plan was frozen.", "#provenance")


def _external(content: Content) -> Found | None:
    if content.site:
        return Found(f"The frozen model, unchanged, on data of {content.site}; how they differ must be described.",
                     "#flow", True)  # fmt: skip
    return Found("No external data were used, and the report says so.", "#limitations", True) if _own(content) else None


def _robust(content: Content) -> Found | None:
    if not content.sweeps:
        return None
    return Found("Results over growing rarity of a class; other changes were not tried.", "#severity", True)


def _kept(content: Content) -> Found | None:
    if not any("predictions" in name for name in content.files):
        return None
    return Found("Predictions are kept beside the report, their hashes in it.", "#provenance")


def _limitations(content: Content) -> Found:
    return Found("The report lists those that the files show.", "#limitations", True)


def _intended_use(content: Content) -> Found | None:
    written = content.config.intended_use.strip() if content.config is not None else ""
    return Found(f"Written in study.yaml: {written}", "", True) if written else None


def _image_only(content: Content) -> Found | None:
    if not _own(content) or content.config is None or not content.config.data.images:
        return None
    return Found("The image is the only input, read by software that knows nothing else of the patient.", exempt=True)


def _image_reader(content: Content) -> Found | None:
    exempt = _image_only(content)
    return None if exempt is None else Found(exempt.text, "#provenance")


def _no_updating(content: Content) -> Found | None:
    if not _own(content):
        return None
    return Found("No model was updated on the evaluation data; calibration belongs to development.", exempt=True)


def _no_ensemble(content: Content) -> Found | None:
    if not _own(content) or (content.frozen is not None and len(content.frozen.seeds) > 1):
        return None
    return Found("No ensemble: each figure belongs to single networks.", exempt=True)


def _no_explanations(content: Content) -> Found | None:
    return Found("No method of explanation was used.", exempt=True) if _own(content) else None


EVIDENCE: dict[str, Look] = {
    "architecture": _architecture,
    "clusters": _clusters,
    "computed": _computed,
    "confusion": _confusion,
    "decided": _decided,
    "disjoint": _disjoint,
    "external": _external,
    "flow": _flow,
    "forecast": _forecast,
    "image_only": _image_only,
    "image_reader": _image_reader,
    "imbalance": _imbalance,
    "initialised": _initialised,
    "intended_use": _intended_use,
    "internal_test": _internal_test,
    "intervals": _intervals,
    "kept": _kept,
    "limitations": _limitations,
    "measures": _measures,
    "no_ensemble": _no_ensemble,
    "no_explanations": _no_explanations,
    "no_updating": _no_updating,
    "other_diagnoses": _other_diagnoses,
    "people": _people,
    "prepared": _prepared,
    "robust": _robust,
    "selection": _selection,
    "set_aside": _set_aside,
    "software": _software,
    "split": _split,
    "subgroup_figures": _subgroup_figures,
    "thresholds": _thresholds,
    "training": _training,
    "variability": _variability,
}
