"""Ready-made arms as data: what they are for, what they need and cost, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raresight.core.severity import Severity
from raresight.core.task import Kind

BOTH: tuple[Kind, ...] = ("exclusive", "independent")
RARE: tuple[Severity, ...] = ("moderate", "severe", "extreme")
UNEVEN: tuple[Severity, ...] = ("mild", *RARE)
ALWAYS: tuple[Severity, ...] = ("balanced", *UNEVEN)

HYPOTHESIS = "our working hypothesis; no figure found by us"
CXR_STUDY = "an arm of the explainability study on ChestX-ray14 (arXiv 2204.01729); no figure was available to us"
MONICA = "DermaMNIST (MONICA's result files, ResNet-50, one seed), balanced accuracy"
LONG_TAIL_CXR = "NIH-CXR-LT (LongTailCXR, 90 tail test images), accuracy of the tail"
HAM_ARMS = "HAM10000 by lesion, 3 seeds (a small published study), macro-F1 / balanced accuracy"
HAM_OURS = "measured by us: docs/results/2026-11-21-ham10000.md (one seed, 64 px, from scratch)"
NO_FIGURE = "none found by us on medical images"


@dataclass(frozen=True, kw_only=True)
class Ready:
    """An arm ready to be written into `study.yaml`.

    `severities` and `kinds` are those that `advise` proposes it for; none means that it is there to be asked for.
    `min_groups` is the least number of training patients (or lesions) with the class that decides; `preset` whether it
    needs a modality with bounds for augmentation; `parts` names the arms that show what each part does alone;
    `noise` the label noise under which it is left out.
    """

    name: str
    strategies: tuple[Any, ...]
    severities: tuple[Severity, ...]
    why: str
    evidence: tuple[str, ...]
    cost: str
    kinds: tuple[Kind, ...] = BOTH
    min_groups: int = 0
    preset: bool = False
    parts: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()

    @property
    def needs(self) -> str:
        """What the data must have, in words."""
        wanted = ["a preset with bounds"] if self.preset else []
        wanted += [f"{self.min_groups} training patients or lesions with the class"] if self.min_groups else []
        return " and ".join(wanted) or "nothing"

    def as_row(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "strategies": list(self.strategies),
            "severities": list(self.severities),
            "kinds": list(self.kinds),
            "needs": self.needs,
            "about": self.why,
            "evidence": list(self.evidence),
            "cost": self.cost,
        }


FOCAL: dict[str, Any] = {"focal": {"gamma": 2}}
ONE = "one training"
HEAD = "seconds to minutes: the head alone is trained, on the baseline's features"

READY: tuple[Ready, ...] = (
    Ready(
        name="baseline",
        strategies=(),
        severities=ALWAYS,
        why="plain training, which all are compared with; at its own tuned threshold it is the default answer",
        evidence=("ChestX-ray14, a released CheXNet: pneumothorax AUROC 0.878, recall 0.177 at 0.5",),
        cost=ONE,
    ),
    Ready(
        name="threshold_moved",
        strategies=("logit_adjustment",),
        severities=ALWAYS,
        why="the default answer: the baseline's scores, moved for the prevalence of training; no case is invented",
        evidence=(f"{MONICA}: logit adjustment after training 0.677, plain 0.616",),
        cost="one training, equal to the baseline's; nothing afterwards",
    ),
    Ready(
        name="heavy_augment",
        strategies=("heavy_augment",),
        severities=UNEVEN,
        preset=True,
        why="more varied pictures of rare cases, within the bounds of the modality: the least risky change",
        evidence=(
            f"{HAM_OURS}: macro AUPRC +0.051 [+0.016, +0.087]",
            f"{HAM_ARMS}: augmentation 0.578 / 0.554, none 0.436 / 0.436",
        ),
        cost="one training, with augmentation in every batch",
    ),
    Ready(
        name="cost_sensitive",
        strategies=("class_weights",),
        severities=("mild", "moderate", "severe"),
        min_groups=10,
        noise=("much",),
        why="errors on rare classes weigh more; suits clean labels, as every wrong rare label weighs more too",
        evidence=(
            f"{MONICA}: re-weighting 0.696, plain 0.616",
            f"{HAM_ARMS}: with class weights 0.510 / 0.629, without 0.578 / 0.554",
        ),
        cost=ONE,
    ),
    Ready(
        name="focal",
        strategies=(FOCAL,),
        severities=RARE,
        why="easy cases weigh less; shown alone, so that a hybrid with it can be judged",
        evidence=(f"{MONICA}: focal 0.649, plain 0.616", f"{LONG_TAIL_CXR}: focal 0.042, plain 0.017"),
        cost=ONE,
    ),
    Ready(
        name="smote",
        strategies=("smote",),
        severities=("moderate",),
        min_groups=10,
        noise=("much",),
        why="new features between neighbours of a rare class; enough cases make the space between them a safe place",
        evidence=(f"{NO_FIGURE} that compares it fairly with weighting", f"{HAM_OURS}: macro AUPRC 0.508, plain 0.512"),
        cost="one training and a short one of the head",
    ),
    Ready(
        name="borderline_smote",
        strategies=("borderline_smote",),
        severities=("severe", "extreme"),
        min_groups=10,
        noise=("much",),
        why="new features at the border of a rare class alone; few cases may not span a space, so look at the share of "
        "unsafe points in the report",
        evidence=(f"{NO_FIGURE}", f"high risk, high reward under extreme imbalance: {HYPOTHESIS}"),
        cost="one training and a short one of the head",
    ),
    Ready(
        name="moderate_hybrid",
        strategies=("heavy_augment", FOCAL),
        severities=("moderate",),
        preset=True,
        parts=("heavy_augment", "focal"),
        why="more varied rare cases and a loss that attends to hard ones: is it more than the sum of its parts?",
        evidence=(HYPOTHESIS,),
        cost="one training, with augmentation in every batch",
    ),
    Ready(
        name="extreme_hybrid",
        strategies=("heavy_augment", "borderline_smote", FOCAL),
        severities=("severe", "extreme"),
        preset=True,
        min_groups=10,
        noise=("much",),
        parts=("heavy_augment", "borderline_smote", "focal"),
        why="augmentation, then new features at the border, then a loss that attends to hard cases; the riskiest arm",
        evidence=(HYPOTHESIS,),
        cost="one training with augmentation and a short one of the head",
    ),
    Ready(
        name="balanced_softmax",
        strategies=("balanced_softmax",),
        severities=RARE,
        min_groups=10,
        kinds=("exclusive",),
        why="the prior stands in the loss: the balanced classifier is learned, not patched",
        evidence=(f"{MONICA}: 0.731, plain 0.616", "BloodMNIST (MONICA), average 0.951, plain 0.921"),
        cost=ONE,
    ),
    Ready(
        name="classifier_retraining",
        strategies=("classifier_retraining",),
        severities=("severe", "extreme"),
        min_groups=10,
        why="features from all cases, the head from balanced batches",
        evidence=(f"{MONICA}: 0.746, plain 0.616", f"{LONG_TAIL_CXR}: 0.300, plain 0.017"),
        cost="one training and a short one of the head",
    ),
    Ready(
        name="class_balanced_focal",
        strategies=({"class_balanced_focal": {"gamma": 2.0, "beta": 0.9999}},),
        severities=(),
        why="focal with weights by the effective number of cases",
        evidence=(f"{LONG_TAIL_CXR}: 0.117, plain 0.017; focal alone 0.042", CXR_STUDY),
        cost=ONE,
    ),
    Ready(
        name="focal_alpha",
        strategies=({"focal": {"gamma": 2.0, "alpha": 0.25}},),
        severities=(),
        kinds=("independent",),
        why="focal as the explainability study on ChestX-ray14 set it; alpha 0.25 lowers the weight of rare findings",
        evidence=(CXR_STUDY,),
        cost=ONE,
    ),
    Ready(
        name="within_class_bce",
        strategies=({"within_class_bce": {"power": 1.0}},),
        severities=(),
        kinds=("independent",),
        why="positives of each finding weigh as much as its negatives",
        evidence=(CXR_STUDY,),
        cost=ONE,
    ),
    Ready(
        name="between_class_bce",
        strategies=({"between_class_bce": {"power": 0.5, "as_published": False}},),
        severities=(),
        kinds=("independent",),
        why="rare findings weigh more than common ones",
        evidence=(CXR_STUDY,),
        cost=ONE,
    ),
    Ready(
        name="uncertainty",
        strategies=({"uncertainty": {"lr": 0.01}},),
        severities=(),
        kinds=("independent",),
        why="each finding's weight is learned",
        evidence=(CXR_STUDY,),
        cost=ONE,
    ),
    Ready(
        name="asymmetric",
        strategies=({"asymmetric": {"gamma_plus": 1.0, "gamma_minus": 4.0, "clip": 0.05}},),
        severities=(),
        kinds=("independent",),
        why="easy negatives weigh far less than easy positives",
        evidence=(CXR_STUDY,),
        cost=ONE,
    ),
    Ready(
        name="resampling",
        strategies=({"class_balanced_sampling": {"power": 1.0, "clip": 75.0}},),
        severities=(),
        why="rare cases are drawn more often",
        evidence=(f"{MONICA}: re-sampling 0.678, plain 0.616", CXR_STUDY),
        cost=ONE,
    ),
)

BY_NAME: dict[str, Ready] = {arm.name: arm for arm in READY}
