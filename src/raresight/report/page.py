"""From a `Content` to one HTML file that opens anywhere, and `report.json` beside it for programs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from raresight.advise.recommend import TO_CONFIRM
from raresight.core.estimate import Estimate
from raresight.core.files import sha256_of, write_json, write_text
from raresight.report.answers import (
    ClassAnswer,
    acceptance,
    acceptance_note,
    class_answers,
    may_conclude,
    may_not_conclude,
    opening_status,
)
from raresight.report.card import card
from raresight.report.checklist import checklist, checklist_text, tally
from raresight.report.content import Content
from raresight.report.explorer_view import explorer_view, script_hash
from raresight.report.figures.icons import icon_array
from raresight.report.glossary import GLOSSARY
from raresight.report.limitation import Limitation
from raresight.report.limitations import limitations
from raresight.report.provenance import provenance
from raresight.report.sections import Section, flow_boxes, sections
from raresight.report.sweep_tables import shown_part
from raresight.report.words import (
    POINTS,
    class_name,
    figure,
    listing,
    many,
    metric_name,
    part_name,
    plural,
    points,
    sentence,
    share,
    unit_of,
)

FOLDER = Path(__file__).parent
STYLES = ("page.css", "explorer.css")
MOST_DRAWN = 3
MOST_CRITERIA = 4
MOST_TOLD = 3
KEY_METRICS = ("recall", "precision", "specificity", "auroc", "auprc", "alarms_per_1000")


def render(content: Content) -> str:
    """The page as text: equal contents give equal bytes. Names from the data are escaped, nothing is fetched."""
    answers = class_answers(content)
    parts, explorer = sections(content), explorer_view(content)
    found, answered = limitations(content), checklist(content)
    return _template().render(
        content=content,
        title=content.title,
        facts=_facts(content),
        status=opening_status(content),
        part=part_name(content.part),
        unit=content.unit,
        units=plural(content.unit),
        who=unit_of(content.group_by),
        answers=[(one, Markup(icon_array(one, plural(content.unit)))) for one in answers[:MOST_DRAWN]],
        further=answers[MOST_DRAWN:],
        watched_are_critical=bool(content.task.critical),
        acceptance=sorted(acceptance(content), key=lambda one: one.verdict == "met"),
        most_criteria=MOST_CRITERIA,
        acceptance_note=acceptance_note(content),
        may=may_conclude(content),
        may_not=may_not_conclude(content),
        unknown=_unknown(content, found),
        worst=found[:3],
        limitations=found,
        point=_operating_point(content),
        recommended=_recommended(content),
        flow=flow_boxes(content),
        sections=[_plain(section) for section in parts],
        not_here=_not_here(content, parts, explorer is not None),
        kind="model" if content.outside else "arm",
        provenance=provenance(content),
        glossary=GLOSSARY,
        checklist=answered,
        tally=tally(answered),
        sentence=sentence,
        share=share,
        right=_right,
        explorer=explorer,
        script_hash=script_hash(),
        style=Markup("".join((FOLDER / name).read_text(encoding="utf-8") for name in STYLES)),
    )


def write(content: Content, out: Path) -> None:
    """Write `report.html`, `report.json`, `model_card.md` and `checklist.md` into `out`, which is made if need be."""
    page = render(content)
    write_json(out / "report.json", summary(content))
    write_text(out / "model_card.md", card(content))
    write_text(out / "checklist.md", checklist_text(content))
    write_text(out / "report.html", page)


def summary(content: Content) -> dict[str, Any]:
    """What a program wants of the report: key figures, answers, recommendation, limitations, hashes of what it read."""
    arm = content.chosen
    return {
        "title": content.title,
        "part": content.part or None,
        "quick": content.quick,
        "test_openings": None if content.ledger is None else len(content.ledger),
        "status": opening_status(content)[0],
        "arm": None if arm is None else arm.name,
        "unit": content.unit,
        "group_by": content.group_by,
        "critical": list(content.task.critical),
        "key_figures": [e.as_dict() for e in _key_figures(content)],
        "acceptance": [
            {"criterion": one.criterion, "verdict": one.verdict, "evidence": one.evidence}
            for one in acceptance(content)
        ],
        "bundle": None if content.frozen is None else content.frozen.sha256,
        "acceptance_note": acceptance_note(content),
        "deploy": dict(content.deploy),
        "recommendation": list(content.recommendation),
        "sweeps": [
            {"class": one["class"], "part": shown_part(one)["part"], "verdicts": shown_part(one)["verdicts"]}
            for one in content.sweeps
        ],
        "limitations": [{"key": one.key, "text": f"{one.short} {one.text}"} for one in limitations(content)],
        "checklist": [one.as_dict() for one in checklist(content)],
        "missing": dict(content.missing),
        "unfinished": list(content.unfinished),
        "files": dict(content.files),
        "content_sha256": sha256_of(sorted(content.files.items())),
    }


@cache
def _template() -> Any:
    loader = FileSystemLoader(FOLDER)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")


def _key_figures(content: Content) -> list[Estimate]:
    arm = content.chosen
    if arm is None:
        return []
    per_class = [arm.find(metric, name) for name in content.watched for metric in KEY_METRICS]
    macro = [arm.find(metric) for metric in ("balanced_accuracy", "macro_f1", "macro_auroc", "macro_auprc")]
    return [estimate for estimate in [*per_class, *macro] if estimate is not None]


def _facts(content: Content) -> list[str]:
    """One line under the title: what was looked at, and how much of it."""
    who = unit_of(content.group_by)
    facts = []
    if content.audit is not None and content.ledger is not None:
        n, groups = content.audit["n_images"], content.audit["n_patients"]
        facts.append(many(n, "image") + (f" of {many(groups, who)}" if who != "image" else ""))
    facts.append(many(content.task.n_classes, "class").replace("classs", "classes"))
    arm = content.chosen
    estimate = next((e for e in arm.estimates if e.class_ is None), arm.estimates[0]) if arm and arm.estimates else None
    if estimate is not None:
        n = many(estimate.n_images, content.unit)
        n += f" of {many(estimate.n_patients, who)}" if who not in (content.unit, "image") else ""
        facts.append(f"shown here: {part_name(content.part)}, {n}")
    if arm is not None:
        facts.append(f"{'model' if content.outside else 'arm'} {arm.name}")
    return facts


def _operating_point(content: Content) -> str:
    arm = content.chosen
    found = [] if arm is None else [arm.find("recall", name) for name in content.watched]
    used = next((e.operating_point for e in found if e is not None and e.operating_point), None)
    return POINTS.get(str(used), "")


def _recommended(content: Content) -> dict[str, Any]:
    """The arm to deploy, why, and what speaks against it."""
    name = content.deploy.get("arm")
    if not name:
        why = "there is only one arm" if len(content.arms) == 1 else None
        reason = content.deploy.get("reason") or (
            f"not computed, because {why}" if why else content.why_missing("compare")
        )
        return {"arm": "", "reason": str(reason), "dissent": [], "classes": [], "confirm": ""}
    rows = []
    for row in content.recommendation:
        label = class_name(str(row["class"])) if row.get("class") else "all classes"
        told = {key: _told(row.get(key)) for key in ("arm", "reason", "evidence", "dissent")}
        rows.append(told | {"class": label, "reason": told["reason"].removesuffix(TO_CONFIRM)})
    dissent = [str(content.deploy["dissent"])] if content.deploy.get("dissent") else []
    for row in content.recommendation:
        label, against = class_name(str(row.get("class"))), row.get("dissent")
        if row.get("arm") not in (None, name):
            better = f"{row['arm']} is better supported" if row["arm"] != content.baseline else "it shows no clear gain"
            dissent.append(f"for {label} alone, {better}")
        elif against and row.get("class") in content.watched:
            dissent.append(_told(against[0] if isinstance(against, list) else against))
    reason = _told(content.deploy.get("reason"))
    confirm = sentence(TO_CONFIRM.removeprefix("; ")) if reason.endswith(TO_CONFIRM) else ""
    reason = reason.removesuffix(TO_CONFIRM)
    return {"arm": str(name), "reason": reason, "dissent": dissent, "classes": rows, "confirm": confirm}


def _told(value: Any) -> str:
    """A recommendation's entry in words, whether it was given as text, as a list or as figures by name."""
    if value is None:
        return ""
    if isinstance(value, dict) and {"arm", "metric", "difference"} <= value.keys():
        return _difference(value)
    if isinstance(value, dict) and "text" in value:
        return str(value["text"])
    if isinstance(value, dict):
        return "; ".join(
            f"{str(key).replace('_', ' ')} {_told(inner)}" for key, inner in value.items() if inner not in (None, "")
        )
    if isinstance(value, list | tuple):
        more = f"; and {len(value) - MOST_TOLD} more" if len(value) > MOST_TOLD else ""
        return "; ".join(_told(inner) for inner in value[:MOST_TOLD]) + more
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _difference(row: dict[str, Any]) -> str:
    """`focal: average precision for melanoma +0.03 (-0.01 to +0.07), 12 with it`."""
    of = f" for {class_name(str(row['class']))}" if row.get("class") else ""
    head = f"{row['arm']}: {metric_name(str(row['metric']))}{of}"
    if row["difference"] is None:
        return f"{head} not estimable"
    in_points = metric_name(str(row["metric"])).startswith("sensitivity")
    write = points if in_points else "{:+.2f}".format
    figures = f" {write(row['difference'])}"
    if row.get("low") is not None and row.get("high") is not None:
        figures += f" ({write(row['low'])} to {write(row['high'])})"
    figures += " points" if in_points else ""
    n = row.get("n_positive_patients")
    return head + figures + (f", {n} with it" if n is not None else "")


def _unknown(content: Content, found: list[Limitation]) -> list[str]:
    """What page one says is not known, in a line each."""
    said = ["how it does at other hospitals, cameras and in other people"]
    keys = {one.key for one in found}
    arm = content.chosen
    if "subgroups" in keys:
        said.append("whether it serves all groups of patients alike")
    if "one_seed" in keys:
        said.append("how much the figures owe to chance in training")
    if arm is not None:
        blank = [n for n in content.task.classes if (e := arm.find("recall", n)) is not None and e.value is None]
        if blank:
            said.append(f"anything about {listing([class_name(n) for n in blank])}")
    return said


def _right(answer: ClassAnswer) -> str:
    """`1 in 4 alarms is right (precision 26%, 20–33%)`, or why that is not known."""
    if answer.right is None or answer.right.value is None:
        return "How many alarms are right is not estimable."
    if answer.right.value <= 0:
        return f"No alarm was right: {figure(answer.right)}."
    return f"{figure(answer.right)} of its alarms are right."


def _plain(section: Section) -> dict[str, Any]:
    items = [
        {
            "title": item.title,
            "absent": item.absent,
            "svg": Markup(item.figure.svg) if item.figure else "",
            "alt": item.figure.alt if item.figure else "",
            "caption": item.figure.caption if item.figure else "",
            "table": item.figure.table if item.figure else item.table,
            "folded": item.figure is not None,
        }
        for item in section.items
    ]
    return {
        "key": section.key,
        "title": section.title,
        "lead": section.lead,
        "entries": items,
        "absent": section.absent,
    }


def _not_here(content: Content, parts: Sequence[Section], explorer: bool) -> dict[str, list[tuple[str, str]]]:
    """The sections that hold nothing, as anchor and title, by the reason: told together where they shout at nobody."""
    empty = [] if content.flow else [("flow", "Who is in the study", content.why_missing("flow"))]
    empty += [(section.key, section.title, section.absent) for section in parts if section.absent]
    if not explorer:
        empty.append(("explorer", "Try other operating points", content.why_missing("arms")))
    reasons: dict[str, list[tuple[str, str]]] = {}
    for key, title, reason in empty:
        reasons.setdefault(reason, []).append((key, title))
    return reasons
