"""`raresight init`: a commented `study.yaml` and a normalised manifest from any of five sources."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from raresight.core.errors import ConfigError, DataError, Problem
from raresight.core.files import write_jsonl, write_text
from raresight.core.manifest import Manifest
from raresight.core.progress import Silent
from raresight.core.run import StudyFolder
from raresight.core.severity import severity
from raresight.core.task import Task

if TYPE_CHECKING:
    from raresight.data.read import Reading, ReadOptions

# Names of having nothing: never the class whose miss is the example.
HEALTHY = ("normal", "healthy", "negative", "benign", "none", "no finding", "no_finding", "nevus", "nv", "common", "0")

# What clinicians of the field would not want missed; elsewhere the rare classes are proposed.
CRITICAL = {"ham10000": ("mel", "bcc", "akiec"), "chestxray14": ("Pneumothorax", "Hernia")}

TEMPLATE = """\
# {title}
# Every key is checked: a misspelt one is an error that names the nearest known key.

data:
  manifest: data/manifest.csv      # one row a case: case, image, patient_id, group, label or label_<class>
  root: {root}
  images: {images}                 # false: label tables only (audit and split)
  uncertain: {uncertain}           # labels written as uncertain: ignore (unknown), positive, negative, or refuse
  no_finding: drop                 # a "No Finding" beside a disease: drop the No Finding
  one_image_per_patient: {waived}  # true states that no two images show one patient

task:
  kind: {kind}                     # exclusive = one class a case; independent = any number of them
  classes: {classes}
  critical: {critical}             # {about_critical}

split: {split}   # {about_split}

decision: {{unit: image}}          # what rates and alarms count: image, or e.g. {{unit: lesion, column: lesion_id}}

image: {{size: {size}, preset: {preset}, channels: {channels}}}   # size: pixels; preset: what augmentation may do

model: {{backbone: {backbone}, pretrained: {pretrained}}}   # true (from the hub), false, or a local weights file

train: {{{budget}, batch: 64, lr: 1.0e-3, precision: auto, select: macro_auprc}}   # the same steps for every arm

seeds: {seeds}                     # one seed cannot tell a method's effect from luck; three or more can

arms:                              # ways of handling rare classes; `raresight list` describes each method
  baseline: []                     # plain training: what the others are compared with
  cost_sensitive: [class_weights]  # errors on rare classes weigh more
  focal: [{{focal: {{gamma: 2}}}}]   # easy cases weigh less; gamma: [0.5, 1, 2, 5] chooses on validation
{augmented}  smote: [smote]                   # the last layer is retrained with rare cases added in between
  hybrid: [{hybrid}smote, {{focal: {{gamma: 2}}}}]
  threshold_moved: [logit_adjustment]   # plain training, scores corrected for prevalence
{quick}
# Yours to say; uncomment and change the figures, which are only examples:
# costs: {{missed: {{{first}: 20}}, prevalence: {{{first}: 0.02}}}}  # a miss = 20 false alarms; 2% have it
# accept: {{{first}: {{sensitivity_low: 0.85, alarms_per_1000_max: 150}}}}  # page one answers
"""


def init(
    path: Path,
    source_kind: str,
    source: Path,
    options: ReadOptions,
    *,
    quick: bool = False,
    progress: Silent | None = None,
) -> StudyFolder:
    """Read `source`, write `data/manifest.csv` and `study.yaml` into the new study folder `path`.

    `quick` asks for 64 px from scratch and few epochs, marked "not for conclusions". An existing `study.yaml` is never
    overwritten.

    Raises: `ConfigError` where a study exists already; `DataError` with every problem of the source at once.
    """
    from raresight.data.read import read

    folder = StudyFolder(path)
    if folder.config.exists():
        raise ConfigError(
            Problem(
                code="RS-C04",
                level="error",
                file=str(folder.config),
                found="a study stands here already",
                why="its settings would be lost",
                remedy="choose another folder, or remove study.yaml to start anew",
            )
        )
    reading = read(source_kind, source, options)
    errors = [problem for problem in reading.problems if problem.level == "error"]
    if errors:
        raise DataError(*errors)
    reading.manifest.save(folder.manifest)
    if reading.problems:
        write_jsonl(folder.path / "data" / "reading.jsonl", [problem.as_dict() for problem in reading.problems])
    write_text(folder.config, study_yaml(reading, folder, source_kind, options, quick=quick))
    say = (progress or Silent()).say
    say(f"{len(reading.manifest):,} cases, {len(reading.classes)} classes, split by {reading.group}")
    for problem in reading.problems:
        say(str(problem))
    if reading.preset == "none" and not options.no_images:
        say("augmentation and the faithfulness audit need `image.preset`: see raresight list presets")
    here = folder.typed
    say(f"wrote {folder.config} - look at `critical`, then: raresight advise {here}, raresight run {here}")
    return folder


def study_yaml(reading: Reading, folder: StudyFolder, source_kind: str, options: ReadOptions, *, quick: bool) -> str:
    """The commented settings that fit what was read."""
    task = Task(reading.kind, tuple(reading.classes))
    critical = [name for name in CRITICAL.get(source_kind, ()) if name in reading.classes]
    critical = critical or _rare(reading.manifest, task)
    first = critical[0] if critical else _rarest(reading.manifest, task)
    about_critical = "a proposal: put here what must not be missed"
    if not critical:
        about_critical = f"put here what must not be missed, e.g. [{_scalar(first)}]"
    augmented = (
        "" if reading.preset == "none" else "  heavy_augment: [heavy_augment]   # more varied pictures of rare ones\n"
    )
    split = {"train": 0.7, "val": 0.1, "test": 0.2, "group": reading.group, "seed": 0}
    about_split = f"no {reading.group} is in two parts"
    if reading.split_column:
        fresh = "{" + ", ".join(f"{key}: {value}" for key, value in split.items()) + "}"
        about_split = f"the data's own, refused if it leaks; a fresh one: {fresh}"
        split = {"column": reading.split_column, "group": reading.group}
    text = TEMPLATE.format(
        title=f"raresight study of {source_kind} data" + (" - QUICK: not for conclusions" if quick else ""),
        root=json.dumps(os.path.relpath(reading.root.resolve(), folder.path.resolve())),
        images=json.dumps(not options.no_images),
        uncertain="refuse",
        waived=json.dumps(options.one_image_per_patient),
        kind=reading.kind,
        classes=_flow(reading.classes),
        critical=_flow(critical),
        about_critical=about_critical,
        about_split=about_split,
        split="{" + ", ".join(f"{key}: {value}" for key, value in split.items()) + "}",
        size=64 if quick else 224,
        preset=reading.preset,
        channels=reading.channels,
        backbone="resnet18",
        pretrained=json.dumps(not quick),
        budget="epochs: 10" if quick else "epochs: 30",
        seeds="[0]" if quick else "[0, 1, 2]",
        augmented=augmented,
        hybrid="heavy_augment, " if augmented else "",
        quick="\nquick: true                        # the report says: not for conclusions\n" if quick else "",
        first=_scalar(first),
    )
    return _aligned(text)


def _flow(names: list[str]) -> str:
    """Names as a YAML list on one line."""
    return "[" + ", ".join(map(_scalar, names)) + "]"


def _scalar(name: str) -> str:
    """A name as YAML reads it back: quoted only where it must be, as `no` and `1` must to stay text."""
    plain = re.fullmatch(r"[A-Za-z][\w .-]*", name) and yaml.safe_load(name) == name
    return name if plain else json.dumps(name, ensure_ascii=False)


def _aligned(text: str) -> str:
    """Comments after a setting begin in one column where the setting leaves room."""
    lines = (re.match(r"(\s*[^#\s][^#]*?)\s{2,}(#.*)", line) or line for line in text.splitlines())
    return "".join((line if isinstance(line, str) else f"{line[1] + '  ':<45}{line[2]}") + "\n" for line in lines)


def _rare(manifest: Manifest, task: Task) -> list[str]:
    """Classes below 10% prevalence, the rarest first, at most five."""
    prevalence = np.nanmean(manifest.targets(task), axis=0)
    rare = [
        k
        for k in np.argsort(prevalence, kind="stable")
        if severity(prevalence[k]) not in ("balanced", "mild", "absent")
    ]
    return [task.classes[k] for k in rare[:5]]


def _rarest(manifest: Manifest, task: Task) -> str:
    """The rarest class that is there and does not stand for health: an example of what could be critical."""
    prevalence = np.nan_to_num(np.nanmean(manifest.targets(task), axis=0))
    ill = [k for k, name in enumerate(task.classes) if name.casefold() not in HEALTHY] or range(len(task.classes))
    return task.classes[min(ill, key=lambda k: (prevalence[k] == 0, prevalence[k]))]
