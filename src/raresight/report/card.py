"""The model card: what the model is for, how it was made, how well it does, and what it must not be used for.

Everything is read from a `Content`; what that does not hold says that a human must fill it in. Nothing is invented.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raresight.core.estimate import Estimate
from raresight.report.answers import acceptance, alarm_rates, opening_status, positives
from raresight.report.content import ArmResult, Content
from raresight.report.limitations import limitations
from raresight.report.tables import remark
from raresight.report.words import (
    POINTS,
    class_name,
    figure,
    listing,
    many,
    metric_name,
    part_name,
    plural,
    sentence,
    share,
    unit_of,
)

ASK = "**A human must fill this in**"
PERFORMANCE = ("recall", "specificity", "precision", "auroc", "auprc")
CALIBRATION = ("expected_observed_ratio", "calibration_intercept", "calibration_slope", "ici", "ece")
SUBGROUP = ("recall", "specificity", "auroc")
NOT_FOR = (
    "Decisions about patients without a qualified human who sees the image.",
    "Classes other than those listed: the model has no way to say that it sees something else.",
    "Images of another kind, device, body site or age group than those described under Data.",
    "A claim of benefit to patients: no clinical evaluation was done.",
)


def card(content: Content) -> str:
    """The model card as Markdown, of the arm that the report speaks of. Equal contents give equal text."""
    arm = content.chosen
    name = arm.name if arm is not None else "no arm yet"
    parts = [
        f"# Model card: {content.title}, arm {name}",
        _status(content),
        _section("Intended use", _use(content)),
        _section("Data", _data(content)),
        _section("Training", _training(content, arm)),
        _section("Performance", _performance(content, arm)),
        _section("By subgroup", _subgroups(content, arm)),
        _section("Where alarms are raised", _operating(content, arm)),
        _section("Calibration", _calibration(content, arm)),
        _section("Asked for, and shown", _accepted(content)),
        _section("Limitations", _limitations(content)),
        _section("Must not be used for", _not_for(content)),
        _section("Provenance", _provenance(content)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, lines: Iterable[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines)


def _status(content: Content) -> str:
    short, meaning = opening_status(content)
    said = f"{short}. {meaning} No clinical evaluation was done."
    return f"**QUICK: not for conclusions.** {said}" if content.quick else said


def _use(content: Content) -> list[str]:
    written = content.config.intended_use.strip() if content.config is not None else ""
    return [
        f"- Purpose: {sentence(written) if written else ASK + ' (`intended_use:` in study.yaml).'}",
        f"- For whom, at which step of care, read by whom: {ASK}.",
        f"- Classes: {listing([class_name(n) for n in content.task.classes])}.",
        "- Must not be missed: "
        + (listing([class_name(n) for n in content.task.critical]) + "." if content.task.critical else f"{ASK}."),
        f"- One decision for each {content.unit}.",
    ]


def _data(content: Content) -> list[str]:
    who = unit_of(content.group_by)
    lines = [f"- Source, dates, centres, devices, and how labels were made: {ASK}."]
    for part in (content.flow or {}).get("parts", []):
        here = f"{many(part['images'], 'image')} of {many(part['patients'], who)}"
        lines.append(f"- {part_name(part['part']).capitalize()}: {here}.")
    if content.ledger is None and not (content.flow or {}).get("parts"):
        lines.append(f"- Training data: {ASK}; only predictions were given.")
    rows = []
    for name in content.rarest_first:
        known = next((r for r in (content.audit or {}).get("classes", []) if r["name"] == name), None)
        prevalence = content.share(name)
        rows.append((
            class_name(name),
            "not known" if known is None else f"{known['n_images']:,}",
            "not known" if known is None else f"{known['n_patients']:,}",
            "not known" if prevalence is None else share(prevalence),
            f"{100 * content.prevalence[name]:g}%" if name in content.prevalence else "not stated",
        ))  # fmt: skip
    head = ("class", "images", plural(who), "prevalence in these data", "expected in use")
    return [*lines, "", *_table(head, rows)]


def _training(content: Content, arm: ArmResult | None) -> list[str]:
    config = content.config
    if arm is None:
        return [f"- {content.why_missing('arms').capitalize()}."]
    if arm.outside or config is None:
        return [f"- The model was made elsewhere: {ASK}."]
    steps = f"{config.train.steps:,} steps" if config.train.steps else f"{config.train.epochs} epochs"
    start = "pretrained weights" if config.model.pretrained else "random weights"
    return [
        f"- Network: {config.model.backbone}, from {start}, images of {config.image.size} pixels.",
        f"- Methods: {', '.join(arm.methods) or 'plain training, nothing changed'}.",
        f"- Length: {steps}, batch {config.train.batch}, {config.train.optimiser}; "
        f"checkpoint by {metric_name(config.train.select)} on the validation part.",
        f"- Seeds: {', '.join(map(str, config.seeds))}.",
    ]


def _performance(content: Content, arm: ArmResult | None) -> list[str]:
    if arm is None:
        return ["Not computed: there is no arm."]
    who = unit_of(content.group_by)
    rows = []
    for name in content.rarest_first:
        found = [arm.find(metric, name) for metric in PERFORMANCE]
        known = next((e for e in found if e is not None), None)
        n = "not known" if known is None else many(positives(known), who)
        notes = "; ".join(dict.fromkeys(text for e in found if e is not None and (text := remark(e))))
        rows.append((class_name(name), n, *(figure(e) for e in found), notes))
    head = ("class", "with it", *(metric_name(m) for m in PERFORMANCE), "remark")
    lead = f"On the {part_name(content.part)}, with 95% intervals; one row counts {plural(content.unit)}."
    return [lead, "", *_table(head, rows)]


def _subgroups(content: Content, arm: ArmResult | None) -> list[str]:
    rows: dict[tuple[str, str], dict[str, Estimate]] = {}
    for e in () if arm is None else arm.estimates:
        if e.subgroup and e.class_ in content.watched and e.metric in SUBGROUP and e.seed == arm.shown_seed:  # type: ignore[union-attr]
            rows.setdefault((str(e.subgroup), str(e.class_)), {}).setdefault(e.metric, e)
    if not rows:
        return ["Not computed: it is not known whether the model serves all groups of patients alike."]
    cells = [
        (group, class_name(name), *(figure(found.get(metric)) for metric in SUBGROUP))
        for (group, name), found in sorted(rows.items())
    ]
    return _table(("group", "class", *(metric_name(m) for m in SUBGROUP)), cells)


def _operating(content: Content, arm: ArmResult | None) -> list[str]:
    if arm is None:
        return ["Not computed: there is no arm."]
    recall = next((e for n in content.task.classes if (e := arm.find("recall", n)) is not None), None)
    point = POINTS.get(str(recall.operating_point), "") if recall is not None else ""
    rows = []
    for name in content.task.classes:
        record = arm.operating.get("thresholds", {}).get(name)
        rule = str(record.get("rule", "")) if isinstance(record, dict) else ""
        alarms = alarm_rates(content, arm, name)[0]
        threshold = f"{arm.thresholds[name]:.4g}" if name in arm.thresholds else "none"
        rows.append((class_name(name), threshold, rule, "not estimable" if alarms is None else alarms.text()))
    lead = f"Alarms at {point}." if point else "No operating point is on record."
    return [lead, "", *_table(("class", "threshold", "rule", "alarms per 1,000"), rows)]


def _calibration(content: Content, arm: ArmResult | None) -> list[str]:
    if arm is None:
        return ["Not computed: there is no arm."]
    shown = [m for m in CALIBRATION if any(arm.find(m, name) is not None for name in content.task.classes)]
    method = str(arm.calibrator.get("method", "")) if arm.calibrator else ""
    lead = f"Calibrator: {method}, fitted on the validation part." if method else "No calibrator was fitted."
    if not shown:
        return [lead, "", "Not computed: no figure of calibration was made."]
    rows = [(class_name(n), *(figure(arm.find(m, n)) for m in shown)) for n in content.rarest_first]
    return [lead, "", *_table(("class", *(metric_name(m) for m in shown)), rows)]


def _accepted(content: Content) -> list[str]:
    found = acceptance(content)
    if not found:
        return ["No acceptance criteria were set beforehand, so nothing was passed or failed."]
    return [f"- {one.verdict}: {one.criterion} ({one.evidence})." for one in found]


def _limitations(content: Content) -> list[str]:
    return [f"- {one.short} {one.text}" for one in limitations(content)]


def _not_for(content: Content) -> list[str]:
    arm = content.chosen
    blank = [n for n in content.task.classes if arm is None or (e := arm.find("recall", n)) is None or e.value is None]
    lines = [f"- {line}" for line in NOT_FOR]
    if blank:
        lines.append(f"- Anything about {listing([class_name(n) for n in blank])}: it could not be measured.")
    return [*lines, f"- Further uses to exclude: {ASK}."]


def _provenance(content: Content) -> list[str]:
    from raresight import __version__

    lines = [f"- raresight {__version__} wrote this card."]
    if content.lock is None:
        lines.append(f"- Machine and versions of the training: {content.why_missing('lock')}.")
    for line in content.ledger or ():
        lines.append(f"- Test opening {line['opening']} at {line['time']}: plan {line['plan_sha256']}.")
    lines += [
        f"- `{name}`: {digest}" for name, digest in sorted(content.files.items()) if not name.startswith("sweep/")
    ]
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    made = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return made + [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
