"""The sections behind page one, in reading order: each a heading, a sentence or two, and figures with their tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from raresight.report.content import Content
from raresight.report.effort import effort, pace
from raresight.report.figures.conformal import conformal
from raresight.report.figures.confusion import confusion
from raresight.report.figures.cooccurrence import cooccurrence
from raresight.report.figures.cost_curves import cost_curves
from raresight.report.figures.decision_curve import decision_curve
from raresight.report.figures.differences import declared, differences, winners
from raresight.report.figures.faithfulness import faithfulness
from raresight.report.figures.forecast import forecast
from raresight.report.figures.forest import forest
from raresight.report.figures.gallery import TITLES, gallery, named_failures
from raresight.report.figures.long_tail import long_tail
from raresight.report.figures.mistaken import mistaken
from raresight.report.figures.paradox import paradox
from raresight.report.figures.people import people
from raresight.report.figures.precision_recall import precision_recall
from raresight.report.figures.prevalence import prevalence
from raresight.report.figures.price import price
from raresight.report.figures.recalibrated import recalibrated
from raresight.report.figures.reliability import reliability
from raresight.report.figures.roc import roc
from raresight.report.figures.seeds import seeds
from raresight.report.figures.severity import severity
from raresight.report.figures.style import Absent, Figure
from raresight.report.figures.subgroups import subgroup_differences, subgroups
from raresight.report.figures.threshold_cost import threshold_cost
from raresight.report.figures.training import training
from raresight.report.look_section import look_lead, look_parts
from raresight.report.sweep_tables import interactions, shown_part, verdicts
from raresight.report.sweep_text import judged_on
from raresight.report.sweep_text import lead as lead_of
from raresight.report.synthetic import synthetic_cases
from raresight.report.tables import Row, Table, comparisons, macro, table
from raresight.report.tuned import about_tuning, tuned_arms, tuning
from raresight.report.words import DASH, class_name, many, part_name, plural, unit_of

MOST_PAIRS = 20

Drawing = Callable[[Content], Figure | Absent]


@dataclass(frozen=True)
class Item:
    """A figure with its table, a table alone, or the reason why there is neither."""

    title: str = ""
    figure: Figure | None = None
    table: Table | None = None
    absent: str = ""


@dataclass(frozen=True)
class Section:
    key: str
    title: str
    lead: str = ""
    items: tuple[Item, ...] = field(default=())

    @property
    def absent(self) -> str:
        """Why the section holds nothing at all; empty where it holds something."""
        return "" if any(not item.absent for item in self.items) else self.items[0].absent


def sections(content: Content) -> list[Section]:
    """Everything after page one, limitations, provenance and glossary aside."""
    who = plural(unit_of(content.group_by))
    part = part_name(content.part)
    on = f"On the {part}" + (": choices were made on these patients." if content.part == "val" else ".")
    return [
        Section("rarity", "How rare is what", "The rarer a class, the less any study of this size can say about it.",
                (_drawn(long_tail, content), _drawn(cooccurrence, content, "Which come together"))),
        Section("people", "Who is in which part", "Parts that differ in age, sex or site can differ in results too.",
                (_drawn(people, content),)),
        Section("forecast", "What these data can show at all",
                f"Known before any training: how precisely sensitivity can be measured with so many {who}.",
                (_drawn(forecast, content),)),
        Section("leaks", "Are the parts apart", "A model tested on what it was trained on looks better than it is.",
                (_leaks(content), *_near_duplicates(content))),
        Section("paradox", "Why accuracy is not enough", on, (_drawn(paradox, content),)),
        Section("classes", "What is found, and how many alarms are right", _at_prevalence(on, content),
                (_drawn(forest, content),)),
        Section("confusions", "What is taken for what", on,
                (_drawn(confusion, content), _drawn(mistaken, content, "Confusions that matter most"))),
        Section("subgroups", "Does it serve all groups alike", on,
                (_drawn(subgroups, content), _drawn(subgroup_differences, content, "Differences between groups"))),
        Section("failures", "Cases to look at", _about_cases(on, content), _failures(content)),
        Section("curves", "At other thresholds", f"{on} How the figures move if alarms are raised sooner or later.",
                (_drawn(precision_recall, content, "Alarms that are right"),
                 _drawn(roc, content, "Found, against false alarms (ROC)"))),
        Section("reliability", "Do the probabilities mean what they say", on,
                (_drawn(reliability, content),
                 _drawn(recalibrated, content, "Before and after correction and calibration"))),
        Section("decisions", "Where to raise an alarm, and what that is worth", on,
                (_drawn(threshold_cost, content, "Cost against threshold"),
                 _drawn(decision_curve, content, "Decision curves"),
                 _drawn(cost_curves, content, "Whatever a miss costs"),
                 _drawn(prevalence, content, "Where the class is rarer or commoner"))),
        Section("conformal", "Classes that cannot be ruled out", "Sets that hold the true class as often as promised.",
                (_drawn(conformal, content),)),
        Section("arms", "The models, side by side" if content.outside else "The ways of training, side by side",
                _about_arms(content),
                (_drawn(differences, content), _drawn(winners, content, "Who finds most of which class"),
                 *_methods(content), _macro(content), _exploratory(content))),
        Section("price", "What finding more costs", "",
                (_drawn(price, content, "Extra alarms for each extra case"), _effort(content), *_pace(content))),
        *_tuned(content),
        Section("safety", "Are the synthetic cases safe?",
                "Points between real cases stand for their class only where nothing else lives between them.",
                (_synthetic(content),)),
        *_faithfulness(content),
        *_severity(content),
        Section("seeds", "Chance in training", "", (_drawn(seeds, content),)),
        Section("training", "How training went", "", (_drawn(training, content),)),
        Section("saliency", "Where the model looks", look_lead(content.explain), _look(content)),
    ]  # fmt: skip


def _at_prevalence(on: str, content: Content) -> str:
    """A word to who compares these figures with page one, where a prevalence in use was stated."""
    if not content.prevalence:
        return on
    return f"{on} Precision is that among these images; page one gives it at the prevalence expected in use."


def _drawn(draw: Drawing, content: Content, title: str = "") -> Item:
    made = draw(content)
    return Item(title, absent=made.why) if isinstance(made, Absent) else Item(title, figure=made)


def _about_cases(on: str, content: Content) -> str:
    told = f"{on} Cases stand here under pseudonyms; gallery_key.csv beside this page names them."
    if content.pictures or content.outside:
        return told
    return f"{told} Pictures are embedded only on request: raresight report --thumbnails."


def _failures(content: Content) -> tuple[Item, ...]:
    named = named_failures(content)
    return tuple(_drawn(partial(gallery, kind=kind, named=named), content, title) for kind, title in TITLES.items())


def _leaks(content: Content) -> Item:
    leaks = content.leaks
    if leaks is None:
        return Item(absent=content.why_missing("leaks"))
    who = unit_of(content.group_by)
    near = leaks.get("n_near_duplicate_pairs", len(leaks.get("near_duplicate_pairs", [])))
    read = leaks.get("n_compared", 0)
    unread = "not computed, because no pictures were read"
    rows = [
        (f"{plural(who).capitalize()} in more than one part", str(leaks.get("patients_shared", "not computed"))),
        ("Identical pictures in two parts", str(len(leaks.get("identical_pairs_across", []))) if read else unread),
        ("Nearly identical pictures in two parts", f"{many(near, 'pair')}" if read else unread),
        ("Pictures compared", f"{read:,}"),
        ("How", str(leaks.get("method", ""))),
    ]
    marked = [Row(row, "blank" if row[1] == unread else "") for row in rows]
    return Item(table=table(("Looked for", "Found"), marked))


def _near_duplicates(content: Content) -> list[Item]:
    """The pairs of nearly identical pictures by their place in `data/leaks.json`: names and pictures stay there."""
    pairs = (content.leaks or {}).get("near_duplicate_pairs") or []
    if not pairs:
        return []
    rows = [
        (f"Pair {number}", f"{pair['part_a']} and {pair['part_b']}", f"{pair['distance']} of 64 bits",
         DASH if pair.get("correlation") is None else f"{pair['correlation']:.3f}")
        for number, pair in enumerate(pairs[:MOST_PAIRS], start=1)
    ]  # fmt: skip
    total = (content.leaks or {}).get("n_near_duplicate_pairs", len(pairs))
    note = (
        f"{len(rows)} of {many(total, 'pair')}, in the order of data/leaks.json, which names them. Look at them there."
    )
    head = ("Pair", "Parts", "They differ in", "Correlation")
    return [Item("Pairs of nearly identical pictures", table=table(head, rows, (2, 3), note))]


def _effort(content: Content) -> Item:
    made = effort(content)
    title = "Time and machine"
    if made is None:
        return Item(title, absent="not computed, because no arm shown here was trained by raresight")
    return Item(title, table=made)


def _pace(content: Content) -> list[Item]:
    made = pace(content)
    return [] if made is None else [Item("How fast training ran", table=made)]


def _faithfulness(content: Content) -> list[Section]:
    """What augmentation does to the diagnosis; a section only where that was measured."""
    if content.faithfulness is None:
        return []
    lead = "A transform may move a feature as far as two photographs of one lesion differ, and no further."
    item = Item(figure=faithfulness(content.faithfulness))
    return [Section("faithfulness", "Does augmentation keep what the diagnosis rests on", lead, (item,))]


def _look(content: Content) -> tuple[Item, ...]:
    if content.explain is None:
        return (Item(absent=content.why_missing("explain")),)
    items = []
    for title, made in look_parts(content.explain):
        if isinstance(made, Absent):
            items.append(Item(title, absent=made.why))
        else:
            items.append(Item(title, table=made) if isinstance(made, Table) else Item(title, figure=made))
    return tuple(items)


def _severity(content: Content) -> list[Section]:
    """The severity curves; a section only where a class was thinned."""
    items = []
    for result in content.sweeps:
        part, name = shown_part(result), class_name(result["class"]).capitalize()
        made = severity(result)
        curve = Item(name, absent=made.why) if isinstance(made, Absent) else Item(name, figure=made)
        items += [curve, Item(judged_on(result, part), table=verdicts(result, part))]
        if part["interactions"]:
            items.append(Item("More than the sum of its parts?", table=interactions(result, part)))
    lead = lead_of(content.sweeps[0]) if len(content.sweeps) == 1 else "One class at a time was thinned in training."
    return [Section("severity", "Which arm for which severity", lead, tuple(items))] if items else []


def _about_arms(content: Content) -> str:
    if content.outside:
        return "Models made elsewhere, judged on the same images."
    return "Each arm is one way of handling the imbalance, trained on the same images for equally many steps."


def _methods(content: Content) -> tuple[Item, ...]:
    if not content.arms:
        return (Item("What the arms are", absent=content.why_missing("arms")),)
    if content.outside:
        return ()  # nothing is known of how they were made
    rows = []
    for arm in content.arms:
        made = (
            "predictions made elsewhere" if arm.outside else ", ".join(arm.methods) or "plain training, nothing changed"
        )
        findings = "; ".join(str(f) for f in arm.facts.get("findings", []) or [])
        prior = arm.facts.get("implied_prior", "absent")
        known = (
            {"absent": "not known"}.get(prior)
            if isinstance(prior, str)
            else "not correctable"
            if prior is None
            else "corrected"
        )
        rows.append((arm.name, made, ", ".join(map(str, arm.seeds)) or "pooled", str(known), findings))
    head = ("Arm", "Methods, in the order a batch meets them", "Seeds", "Shift of class balance", "Remarks")
    return (Item("What the arms are", table=table(head, rows)),)


def _tuned(content: Content) -> list[Section]:
    """Only where values were chosen."""
    if not tuned_arms(content):
        return []
    return [Section("tuned", "What was tuned", about_tuning(content), (Item(table=tuning(content)),))]


def _macro(content: Content) -> Item:
    if not content.arms:
        return Item("All classes together", absent=content.why_missing("arms"))
    return Item("All classes together", table=macro(content))


def _synthetic(content: Content) -> Item:
    made = synthetic_cases(content)
    if made is None:
        return Item(absent="not computed, because no arm shown here recorded synthetic cases")
    return Item(table=made)


def _exploratory(content: Content) -> Item:
    """The comparisons that were not declared beforehand, shut away under their name."""
    title = "Exploratory comparisons"
    main = declared(content)
    # Each part tells its own story: rows of another part beside these would read as the same comparison made twice.
    here = [row for row in content.comparisons if row.get("part") == content.part] or list(content.comparisons)
    rest = [row for row in here if row not in main and row.get("p_adjusted") is None]
    if not rest:
        why = content.why_missing("compare") if not content.comparisons else "not computed, because none were asked for"
        return Item(title, absent=why)
    macros = [row for row in rest if not row.get("class") or row["class"] in content.watched]
    caption = f"Not declared beforehand, not corrected: {len(macros)} differences to form ideas with, not conclusions."
    return Item(title, figure=Figure("", "", caption, comparisons(content, macros)))


def flow_boxes(content: Content) -> list[dict[str, object]]:
    """The participant flow as boxes: read, set aside, and the parts with their critical classes."""
    if content.flow is None:
        return []
    who = unit_of(content.group_by)
    counted = lambda n: many(n["images"], "image") + (f" of {many(n['patients'], who)}" if who != "image" else "")  # noqa: E731
    boxes: list[dict[str, object]] = [
        {"title": "Read", "text": counted(content.flow["read"]), "lines": [], "all": True}
    ]
    if content.flow.get("aside"):
        boxes.append({"title": "Set aside", "text": many(content.flow["aside"], "image"),
                      "lines": ["could not be used; see data/issues.jsonl"], "all": False})  # fmt: skip
    folds = content.flow.get("folds", 0)
    for part in content.flow["parts"]:
        lines = [
            f"{class_name(name)}: {many(part['classes'][name]['patients'], who)}"
            for name in content.watched
            if name in part["classes"]
        ]
        title = part_name(part["part"]).capitalize()
        if folds and part["part"] == "train":
            title = f"Training and validation, in {folds} folds"
        if part["part"] == content.part:
            title += " (shown here)"
        boxes.append({"title": title, "text": counted(part), "lines": lines, "all": False})
    return boxes
