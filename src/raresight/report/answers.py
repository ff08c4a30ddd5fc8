"""What page one answers, class by class: what is found, what is missed, and at what price in alarms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions
from raresight.report.content import ArmResult, Content
from raresight.report.words import class_name, listing, many, part_name, plural, unit_of


@dataclass(frozen=True)
class Bounds:
    """A figure with its interval."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        return f"{_few(self.value)} ({self.low:,.0f}–{self.high:,.0f})"


@dataclass(frozen=True)
class ClassAnswer:
    """One critical class in plain words. `found` is None where recall is not estimable; `why` then says so.

    `alarms`, `false_alarms` and `right` stand at one prevalence: the one expected in use where it was stated
    (`assumed`), else that of the data.
    """

    name: str
    label: str
    found: Bounds | None
    why: str
    alarms: Bounds | None
    false_alarms: Bounds | None
    right: Estimate | None
    prevalence: float | None
    assumed: bool
    mistaken: str
    n_patients: int
    n_images: int
    wide: bool

    @property
    def missed(self) -> int | None:
        return None if self.found is None else 100 - round(self.found.value)


@dataclass(frozen=True)
class Acceptance:
    """One criterion of `accept:`, and whether it was met: `met`, `not met` or `cannot be shown`."""

    criterion: str
    verdict: str
    evidence: str


def class_answers(content: Content) -> list[ClassAnswer]:
    """One answer for every watched class, from the arm that the report speaks of."""
    arm = content.chosen
    return [] if arm is None else [_answer(content, arm, name) for name in content.watched]


def _answer(content: Content, arm: ArmResult, name: str) -> ClassAnswer:
    recall = arm.find("recall", name)
    known = recall is not None and recall.value is not None
    alarms, false_alarms, prevalence, assumed = alarm_rates(content, arm, name)
    return ClassAnswer(
        name=name,
        label=class_name(name),
        found=_bounds(recall, 100),
        why="" if known else "not computed" if recall is None else recall.reason,
        alarms=alarms,
        false_alarms=false_alarms,
        right=arm.find("ppv_at_prevalence" if assumed else "precision", name),
        prevalence=prevalence,
        assumed=assumed,
        mistaken=_mistaken(content, arm, name),
        n_patients=0 if recall is None else positives(recall),
        n_images=0 if recall is None else recall.n_images,
        wide=recall is not None and recall.status == "wide",
    )


def positives(estimate: Estimate) -> int:
    """Independent units with the class behind a figure."""
    return estimate.n_patients if estimate.n_positive_patients is None else estimate.n_positive_patients


def alarm_rates(content: Content, arm: ArmResult, name: str) -> tuple[Bounds | None, Bounds | None, float | None, bool]:
    """All alarms and false alarms per 1,000 examined, the prevalence behind them, and whether it was assumed.

    False alarms are 1000 (1 - Sp)(1 - π). Where the evaluation gave no `alarms_per_1000`, all alarms are these plus
    1000 Se π, and the bounds put both intervals at their ends together, which is wider than 95%. None where a rate is
    not estimable.
    """
    recall, specificity = arm.find("recall", name), arm.find("specificity", name)
    given = arm.find("alarms_per_1000", name)
    assumed = name in content.prevalence
    pi = content.prevalence.get(name, None if recall is None else recall.prevalence)
    pi = content.share(name) if pi is None else pi
    total, false = _bounds(given, 1), None
    se, sp = _bounds(recall, 1), _bounds(specificity, 1)
    if sp is not None and pi is not None:
        false = Bounds(*(1000 * (1 - share) * (1 - pi) for share in (sp.value, sp.high, sp.low)))
    if total is None and false is not None and se is not None and pi is not None:
        true = [1000 * share * pi for share in (se.value, se.low, se.high)]
        total = Bounds(false.value + true[0], false.low + true[1], false.high + true[2])
    return total, false, pi, assumed


def _bounds(estimate: Estimate | None, scale: float) -> Bounds | None:
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    return Bounds(scale * estimate.value, scale * estimate.low, scale * estimate.high)


def _few(value: float) -> str:
    return f"{value:.1f}" if 0 < abs(value) < 0.95 else f"{value:,.0f}"


def missed_rows(predictions: Predictions, name: str, threshold: float | None) -> np.ndarray:
    """Which rows have the class and raise no alarm for it, `(N,)` bool: below the threshold, or not the largest."""
    k = predictions.task.index(name)
    prob = predictions.prob
    if threshold is not None:
        alarm = prob[:, k] >= threshold
    elif predictions.task.kind == "exclusive":
        alarm = prob.argmax(axis=1) == k
    else:
        alarm = prob[:, k] >= 0.5
    return (predictions.target[:, k] == 1) & ~alarm


def _mistaken(content: Content, arm: ArmResult, name: str) -> str:
    """`Of the 41 missed, 30 look most like nevus and 6 like benign keratosis.` for exclusive labels, else nothing."""
    shown = shown_predictions(arm)
    if shown is None or content.task.kind != "exclusive":
        return ""
    predictions, threshold = shown[0], shown[1].get(name)
    recall = arm.find("recall", name)
    if threshold is None and recall is not None and recall.operating_point in ("tuned", "frozen"):
        return ""  # these are not the probabilities that the threshold was applied to
    missed = missed_rows(predictions, name, threshold)
    if not missed.any():
        return ""
    prob = predictions.prob[missed].copy()
    prob[:, content.task.index(name)] = -1.0
    counts = np.bincount(prob.argmax(axis=1), minlength=content.task.n_classes)
    order = np.argsort(-counts, kind="stable")[:2]
    parts = [f"{counts[k]} for {class_name(content.task.classes[k])}" for k in order if counts[k]]
    return f"Of the {many(int(missed.sum()), content.unit)} missed, it takes {listing(parts)}."


def shown_predictions(arm: ArmResult) -> tuple[Predictions, dict[str, float]] | None:
    """The first seed's predictions and the thresholds that belong to them; calibrated ones where there are any.

    Where the figures shown stand at the default operating point, no thresholds are returned.
    """
    thresholded = any(e.operating_point in ("tuned", "frozen") for e in arm.estimates)
    if arm.calibrated:
        return arm.calibrated[0], dict(arm.thresholds) if thresholded else {}
    return (arm.predictions[0], {}) if arm.predictions else None


def acceptance(content: Content) -> list[Acceptance]:
    """Every criterion of `accept:` held against the interval: met only where the whole interval meets it.

    Asked of the frozen bundle where there is one, else of the arm that the report speaks of.
    """
    frozen, arm = content.frozen, content.chosen
    if frozen is not None:
        arm = ArmResult(frozen.name, estimates=frozen.estimates) if frozen.estimates else None
    answers = []
    for name, wanted in content.accept.items():
        recall = None if arm is None else arm.find("recall", name)
        specificity = None if arm is None else arm.find("specificity", name)
        for key, rate in (("sensitivity_low", recall), ("specificity_low", specificity)):
            if key in wanted:
                what = f"{class_name(name)}: {key.removesuffix('_low')} at least {100 * wanted[key]:g}%"
                answers.append(_judged(what, _bounds(rate, 100), 100 * wanted[key], True, rate))
        if "alarms_per_1000_max" in wanted:
            most = wanted["alarms_per_1000_max"]
            alarms = None if arm is None else alarm_rates(content, arm, name)[0]
            what = f"{class_name(name)}: at most {most:g} alarms per 1,000"
            answers.append(_judged(what, alarms, most, False, recall))
    return answers


def acceptance_note(content: Content) -> str:
    """What the criteria were asked of, and whether it was frozen before the test part was opened."""
    frozen = content.frozen
    if content.site:
        return f"Asked of the frozen bundle, unchanged, at {content.site}."
    if frozen is None:
        return (
            ""
            if content.ledger is None or not content.arms
            else "No bundle is frozen: asked of an arm that may still change."
        )
    seeds = "seed" if len(frozen.seeds) == 1 else "mean of seeds"
    what = f"Asked of the frozen bundle {frozen.name} ({seeds} {', '.join(map(str, frozen.seeds))}; "
    what += f"{frozen.sha256[:12]}), frozen on {frozen.frozen[:10]}"
    if not content.ledger or not frozen.openings_before:
        return f"{what} before the test part was opened."
    times = "once" if frozen.openings_before == 1 else f"{frozen.openings_before} times"
    told = f"{what} after the test part had been opened {times}: second-stage validation"
    return f"{told}; {frozen.reason}." if frozen.reason else f"{told}."


def _judged(what: str, bounds: Bounds | None, limit: float, at_least: bool, behind: Estimate | None) -> Acceptance:
    if bounds is None:
        reason = behind.reason if behind is not None and behind.reason else "the figure was not computed"
        return Acceptance(what, "cannot be shown", reason)
    met = bounds.low >= limit if at_least else bounds.high <= limit
    failed = bounds.high < limit if at_least else bounds.low > limit
    seen = f"{bounds.value:.0f}% ({bounds.low:.0f}–{bounds.high:.0f}%)" if at_least else f"{bounds.text()}"
    if behind is not None and behind.metric == "recall":
        seen += f", {positives(behind)} with it"
    return Acceptance(what, "met" if met else "not met" if failed else "cannot be shown with so few patients", seen)


def may_conclude(content: Content) -> list[str]:
    if content.quick:
        return ["That the software runs on these data. Nothing else: this was a quick trial."]
    if not content.arms:
        return ["Nothing yet: no arm is trained and evaluated."]
    if content.site:
        return [
            f"How often the frozen model, unchanged, finds each class in the patients of {content.site} that were "
            "given, within the intervals.",
            "Whether it keeps its criteria there. Nothing was fitted on these patients.",
        ]
    patients = plural(unit_of(content.group_by))
    if content.part == "test" and content.ledger:
        return [
            f"How often the model finds each class in {patients} of this data set that no choice was made on, "
            "within the intervals given.",
            f"Which errors it makes on them, and how often; the intervals allow for several images of one "
            f"{unit_of(content.group_by)}.",
        ]
    if content.part == "val":
        return [
            "Which arm looks best on these data, as the ground for opening the test part.",
            f"About how often each class is found; the true figures are probably somewhat lower, "
            f"because choices were made on these {patients}.",
        ]
    return [f"How well these predictions agree with these labels, on these {patients}, within the intervals given."]


def may_not_conclude(content: Content) -> list[str]:
    used = "no external data were used"
    if content.ledger is None:
        used = "predictions alone do not tell where the images come from"
    said = [f"That it works at another hospital, with another camera or in other patients: {used}."]
    if content.site:
        said = [f"That it works at any site but {content.site}, or there with another camera or in other years."]
    said.append("That it helps doctors or patients: no clinical evaluation was done.")
    arm = content.chosen
    if arm is not None:
        blank = [n for n in content.task.classes if (e := arm.find("recall", n)) is None or e.value is None]
        wide = [n for n in content.task.classes if (e := arm.find("recall", n)) is not None and e.status == "wide"]
        if blank:
            said.append(f"Anything about {listing([class_name(n) for n in blank])}: it could not be measured here.")
        if wide:
            said.append(f"Much about {listing([class_name(n) for n in wide])}: too few patients for a firm figure.")
    return said


def opening_status(content: Content) -> tuple[str, str]:
    """A short status of the test part, and what it means."""
    if content.ledger is None:
        return _elsewhere(content)
    if "ledger" in content.missing:
        return "Ledger broken", content.missing["ledger"].capitalize() + "."
    who = plural(unit_of(content.group_by))
    times = [str(line["time"])[:10] for line in content.ledger]
    if not times:
        return (
            "Test part not opened",
            f"All figures are from the validation part: choices were made on these {who}.",
        )
    if content.part == "val":
        return "Test part opened, not yet estimated", f"Opened on {times[-1]}; figures are from the {part_name('val')}."
    if len(times) == 1:
        return (
            "Test part opened once",
            f"On {times[0]}, after the plan was frozen; no choice was made on these {who}.",
        )
    reason = str(content.ledger[-1].get("reason", ""))
    return (
        "Second-stage validation",
        f"The test part was opened {len(times)} times ({listing(times)}); reason given: {reason}. "
        "Whatever was changed after the first look was chosen with knowledge of it.",
    )


def _elsewhere(content: Content) -> tuple[str, str]:
    if content.site:
        return (
            "External validation",
            f"The frozen model, unchanged, on data of {content.site}: nothing was fitted or chosen on them. Whether "
            "its patients were in training is not known from these files.",
        )
    return (
        "Predictions from elsewhere",
        "It is not known which choices were made on these patients, or how often they were looked at.",
    )
