"""Before a run: the arms that fit the data's severity, noise, size, kind and modality, and what not to try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from raresight.advise.ready import BY_NAME, HEAD, HYPOTHESIS, LONG_TAIL_CXR, MONICA, READY, Ready
from raresight.core.presets import PRESETS, Preset
from raresight.core.severity import BANDS
from raresight.core.task import Task

Noise = Literal["none", "some", "much", "unknown"]
NOISES: tuple[str, ...] = get_args(Noise)
FEW = 10  # training patients with a class below which no method can be judged
SCARCE = 30  # below which arms are first tried as heads, which cost minutes
ALWAYS = ("baseline", "threshold_moved")
AS_HEAD = ("cost_sensitive", "smote", "borderline_smote", "balanced_softmax")
ORDER = [name for _, name in BANDS]
TRAIN_SHARE = 0.7  # of the groups, where no split tells how many are trained on


def advise(
    audit: Mapping[str, Any], task: Task, preset: str, *, noise: str = "unknown", noise_from: str = "nothing was said"
) -> dict[str, Any]:
    """`{"decides", "classes", "noise", "arms": {name: {strategies, why, evidence, cost}}, "avoid", "notes"}`.

    `audit` is `audit/audit.json`. Of the critical classes (all, where none is critical) with at least 10 training
    groups the most severe decides; of several the one with the fewest groups. `classes` says for each class how severe
    it is and which arms suit it. Without a class that can be judged only the baseline and its moved threshold are
    proposed. Nothing is proposed that the task's kind or the preset does not allow. Every hybrid comes with its parts.
    """
    bounds = PRESETS[preset]
    classes = [_about(row, task, bounds, noise) for row in audit["classes"]]
    decides = _decides(classes)
    arms = {name: _written(BY_NAME[name], ["always there"]) for name in ALWAYS}
    if decides is not None:
        arms |= _suited(decides, task, bounds, noise)
    return {
        "decides": decides["class"] if decides else None,
        "noise": {"level": noise, "from": noise_from},
        "classes": classes,
        "arms": arms,
        "avoid": _avoid(decides, bounds, noise),
        "notes": _notes(classes, decides, bounds, noise, noise_from, str(audit.get("group_by", "patient_id"))),
    }


def _about(row: Mapping[str, Any], task: Task, preset: Preset, noise: str) -> dict[str, Any]:
    trained = (row.get("parts") or {}).get("train")
    groups = int(trained["n_patients"]) if trained else int(TRAIN_SHARE * row["n_patients"])
    judged = groups >= FEW and row["severity"] != "absent"
    suits = [arm.name for arm in READY if judged and _fits(arm, row["severity"], groups, task, preset, noise)]
    return {
        "class": row["name"],
        "critical": row["name"] in task.critical,
        "prevalence": row["prevalence"],
        "severity": row["severity"],
        "n_training_groups": groups,
        "counted": bool(trained),
        "judged": judged,
        "watched": row["name"] in (task.critical or task.classes),
        "suits": suits or list(ALWAYS),
    }


def _decides(classes: list[dict[str, Any]]) -> dict[str, Any] | None:
    able = [row for row in classes if row["judged"] and row["watched"]]
    return max(able, key=lambda row: (ORDER.index(row["severity"]), -row["n_training_groups"]), default=None)


def _fits(arm: Ready, severity: str, groups: int, task: Task, preset: Preset, noise: str) -> bool:
    return (
        severity in arm.severities
        and task.kind in arm.kinds
        and groups >= arm.min_groups
        and noise not in arm.noise
        and (preset.name != "none" or not arm.preset)
    )


def _suited(decides: Mapping[str, Any], task: Task, preset: Preset, noise: str) -> dict[str, Any]:
    """The arms for the class that decides; heads before whole networks where cases are scarce."""
    severity, groups = decides["severity"], decides["n_training_groups"]
    fitting = [arm for arm in READY if _fits(arm, severity, groups, task, preset, noise) and arm.name not in ALWAYS]
    parts = {part for arm in fitting for part in arm.parts}
    said = f"'{decides['class']}' is {severity} ({decides['prevalence']:.2%}, {groups} training groups)"
    heads: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    scarce = groups < SCARCE or severity in ("severe", "extreme")
    for arm in fitting:
        if scarce and arm.name in AS_HEAD:
            cheap = f"few cases: a head on the baseline's features is tried first; it costs {HEAD}"
            entry = _written(arm, [said, cheap], frozen=True)
            heads[f"head_{arm.name}"] = entry
        if not scarce or arm.name not in AS_HEAD or arm.name in parts:
            hybrids = [other.name for other in fitting if arm.name in other.parts]
            alone = [f"alone, so that {name} can be judged against its parts" for name in hybrids]
            whole[arm.name] = _written(arm, [said, *alone])
    return heads | whole


def _written(arm: Ready, reasons: list[str], *, frozen: bool = False) -> dict[str, Any]:
    source: list[Any] = [{"frozen": "baseline"}] if frozen else []
    return {
        "strategies": source + list(arm.strategies),
        "why": [arm.why, *reasons],
        "evidence": list(arm.evidence),
        "cost": HEAD if frozen else arm.cost,
    }


def _avoid(decides: Mapping[str, Any] | None, preset: Preset, noise: str) -> list[dict[str, str]]:
    """What not to try on these data: what, why, evidence."""
    rows = []
    if decides is not None and decides["severity"] in ("severe", "extreme"):
        found = f"{LONG_TAIL_CXR}: focal 0.042, plain 0.017; mean over groups 0.153, plain 0.164"
        rows.append(("focal alone, as the answer", "it does next to nothing for the rarest classes", found))
        rows.append(
            (
                "plain SMOTE",
                "few cases span no space that new ones could fill; borderline_smote stays at the border",
                HYPOTHESIS,
            )
        )
    if noise == "much":
        rows.append(
            (
                "class weights, SMOTE and its kin",
                "a wrong rare label weighs more, or is multiplied",
                f"a head learns noisy rare cases by heart: {HYPOTHESIS}",
            )
        )
    rows += [
        (
            "pictures from a GAN",
            "they cost much and lowered the result",
            "HAM10000 by lesion, 3 seeds (a small published study, GAN at 64 px): macro-F1 0.358, augmentation 0.578",
        ),
        (
            "class weights and balanced sampling together",
            "rarity is made good twice: too many alarms for rare classes",
            "the prior that the arm implies, the product of both; `raresight train` warns of it",
        ),
        (
            "SMOTE in pixel space",
            "the mean of two pictures is a double exposure, not a patient",
            f"new cases belong in feature space: {HYPOTHESIS}",
        ),
        (
            "an AUC loss from the first step",
            "it learns the order of pairs alone, and may not get off the ground; begin from a trained network",
            "LibAUC issues 4 and 10: does not train on the NIH films, or goes negative",
        ),
        (
            "plain SAM for the tail",
            "it flattens what the common classes do, at twice the cost of a step",
            f"{MONICA}: LDAM with it 0.587, LDAM alone 0.648",
        ),
    ]
    if preset.name != "none" and not preset.flip_horizontal:
        rows.append(("horizontal flips", preset.reasons["flip_horizontal"], f"bounds of the preset {preset.name}"))
    if preset.name != "none" and not preset.cutmix:
        rows.append(("CutMix", preset.reasons["cutmix"], f"bounds of the preset {preset.name}"))
    return [dict(zip(("what", "why", "evidence"), row, strict=True)) for row in rows]


def _notes(
    classes: list[dict[str, Any]],
    decides: Mapping[str, Any] | None,
    preset: Preset,
    noise: str,
    noise_from: str,
    group_by: str,
) -> list[str]:
    notes = []
    if decides is None:
        notes.append("no class that matters can be judged: keep the baseline and move its threshold")
    else:
        notes.append(
            f"'{decides['class']}' decides: {decides['severity']}, {decides['n_training_groups']} training groups by "
            f"{group_by}"
        )
    few = [row for row in classes if row["watched"] and not row["judged"]]
    notes += [
        f"no method can be judged for '{row['class']}' ({row['n_training_groups']} training groups by {group_by}, "
        f"fewer than {FEW}); move the threshold"
        for row in few
    ]
    notes.append(f"label noise: {noise} ({noise_from})")
    if noise in ("some", "much"):
        notes.append(f"noisy labels: focal may be the more robust loss ({HYPOTHESIS})")
    if preset.name == "none":
        notes.append("preset none: no augmentation is proposed, as no transform is known to be safe; name a modality")
    if decides is not None and decides["severity"] in ("balanced", "mild"):
        notes.append("the imbalance is mild: expect little of any method beyond the moved threshold")
    return notes
