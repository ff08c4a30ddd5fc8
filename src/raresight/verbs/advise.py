"""`raresight advise`: the arms that suit these data, with reasons, written into `study.yaml`."""

from __future__ import annotations

from typing import Any

import yaml

from raresight.core.errors import ConfigError, Problem, listed
from raresight.core.files import read_json, write_json, write_text
from raresight.verbs.audit import audit
from raresight.verbs.opened import OpenStudy

MINED = "study of chestxray14 data"  # what `init` writes at the top of such a study


def advise(
    study: OpenStudy, *, label_noise: str | None = None, write: bool = True, force: bool = False
) -> dict[str, Any]:
    """Write and return `advise/advise.json`; with `write` put its arms into `study.yaml`, where nothing else changes.

    The audit is made where missing. Unless `force`, only arms that `init` or an earlier advice wrote are replaced.
    The result's keys: see `advise.before.advise`; `written` says whether `study.yaml` holds its arms.

    Raises: `ConfigError` RS-C34 for an unknown level of label noise, RS-C04 where arms of your own stand there.
    """
    from raresight.advise.before import NOISES
    from raresight.advise.before import advise as from_audit
    from raresight.advise.writing import with_arms

    if label_noise is not None and label_noise not in NOISES:
        raise _wrong("RS-C34", "label_noise", f"'{label_noise}'", "it is a level", f"write one of {listed(NOISES)}")
    text = study.folder.config.read_bytes().decode("utf-8")
    noise, told = (label_noise, "as you said") if label_noise else known_noise(text)
    result = from_audit(audit(study), study.task, study.config.image.preset, noise=noise, noise_from=told)
    proposed = {name: arm["strategies"] for name, arm in result["arms"].items()}
    if write and proposed != study.config.arms:
        if not (force or _replaceable(study)):
            raise _yours(study)
        write_text(study.folder.config, with_arms(text, result["arms"]))
    result["written"] = write or proposed == study.config.arms
    write_json(study.folder.path / "advise" / "advise.json", result)
    return result


def known_noise(text: str) -> tuple[str, str]:
    """What is known of the label noise of a study, and where from."""
    first = text.split("\n", 1)[0]
    if MINED in first:
        return "some", "ChestX-ray14's labels were mined from reports by a program (Wang et al. 2017)"
    return "unknown", "say --label-noise none, some or much"


def _replaceable(study: OpenStudy) -> bool:
    """Whether the arms are none, the plain default, those of `init`'s template or those of an earlier advice."""
    from raresight.verbs.init import TEMPLATE

    arms = study.config.arms
    block = TEMPLATE[TEMPLATE.index("\narms:") : TEMPLATE.index("{quick}")]
    templates = [
        yaml.safe_load(block.format(augmented=line, hybrid=first))["arms"]
        for line, first in (("", ""), ("  heavy_augment: [heavy_augment]\n", "heavy_augment, "))
    ]
    earlier = study.folder.path / "advise" / "advise.json"
    ours = [{}, {"baseline": []}, *templates]
    if earlier.exists():
        ours.append({name: arm["strategies"] for name, arm in read_json(earlier)["arms"].items()})
    return arms in ours


def _yours(study: OpenStudy) -> ConfigError:
    here = study.folder.typed
    found = f"arms of your own stand there: {', '.join(study.config.arms)}"
    remedy = f"raresight advise {here} --force replaces them; --no-write only shows the advice"
    return _wrong("RS-C04", "arms", found, "they would be lost", remedy)


def _wrong(code: str, column: str, found: str, why: str, remedy: str) -> ConfigError:
    problem = Problem(code=code, level="error", file="study.yaml", column=column, found=found, why=why, remedy=remedy)
    return ConfigError(problem)
