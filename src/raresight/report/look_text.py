"""The verdict of `raresight explain` in plain words, and how each figure is read and what it cannot say."""

from __future__ import annotations

from dataclasses import dataclass

from raresight.report.look_reasons import TOO_FEW, told_flag
from raresight.report.look_rows import Entry, Look, layer_name, signs, told_value
from raresight.report.tables import Row, Table, table
from raresight.report.words import class_name, listing, many, part_name

WORSE_LOOK, SAME_SCORE = "better score, worse look", "same score, different model"
CONSISTENT, NOT_TRUSTED = "consistent", "maps not trusted"
ORDER = (WORSE_LOOK, SAME_SCORE, CONSISTENT, TOO_FEW, NOT_TRUSTED)
MEANS = {
    WORSE_LOOK: "AUROC or average precision rose, and the maps lie on the findings less than before, at the layer "
    "that is shown or at the last one before the score.",
    SAME_SCORE: "No difference in score was shown, and yet where it looks, or what its units detect, differs.",
    CONSISTENT: "No look was shown to differ, or the score moved with it. That does not make two models equal.",
    TOO_FEW: "Fewer than ten patients, fewer than three seeds an arm, no drawn regions, regions of one patient alone, "
    "no maps, or maps that are mostly empty, as each field says: nothing can be said either way.",
    NOT_TRUSTED: "The maps did not pass the check with random weights: they hardly depend on what the network learnt, "
    "or there are too few of them to judge. No look is read.",
}
MOST_TOLD = 12


@dataclass(frozen=True)
class Reading:
    """A figure's title, how it is read, and what it cannot say."""

    title: str
    how: str
    cannot: str


READINGS = {
    "F1": Reading(
        "Score against look",
        "Follow an arrow from the baseline to the arm. Right is a better score, up is a better look; an arrow that "
        "goes right and down gained score from somewhere else than the finding.",
        "That a model looks at the right place does not make it right, and a map off the region may lie on context "
        "that is truly informative. Arrows carry no intervals; the next figure does.",
    ),
    "F7": Reading(
        "Every difference with its interval",
        "Read a bar against the line at 0 first, then against the grey band, where there is one: a difference inside "
        "the band is no larger than what another seed of the baseline alone would do. Alignment says how much of the "
        "map lies in the drawn region, beyond chance. It is measured twice: at the layer that is shown (chosen "
        "because the baseline's maps lie best on the findings there, unless layers were named) and at the last layer "
        "before the score. A network can look at the finding in the one and still lean on something else, such as a "
        "ruler, in the other; so a loss in either column counts. Detectors are units that answer to the class; d′ "
        "says how far apart, in standard deviations, the scores of images with and without the class lie; it comes "
        "from the score's own numbers, so it raises no flag by itself.",
        "A bar over 0 does not show that two arms are equal. The measures are corrected together, so a single bar that "
        "clears 0 may still have a hollow dot: it is not clear once all bars are counted.",
    ),
    "F2": Reading(
        "Single cases",
        "Compare the same image across arms. Bright colour is strong evidence on a scale that all arms of the row "
        "share, so a pale map is a weak one; the dotted line shows where a map has its own highest part.",
        "Single cases show what the figures mean, they prove nothing: each was picked by the rule above it. Maps are "
        "coarse, often 7 x 7 cells stretched over the picture, so their edges are no outlines.",
    ),
    "F3": Reading(
        "What follows frequency",
        "A rising line means that common classes get longer weights, longer features or a better look than rare ones. "
        "Compare the slope of an arm with that of the baseline.",
        "A flat line is not better by itself: the figures of score say whether rare classes are found.",
    ),
    "F4": Reading(
        "Units that detect a class",
        "A unit is one channel of the layer: a small detector whose answer can be drawn over the image. A filled dot: "
        "so many units answer to the class, and more than the grey bar, which is what chance gives. Compare it across "
        "arms. The open square is a count by a simpler rule, which chance alone can fill.",
        "More detectors are not a better model, and a unit that answers to a class need not be used for it. With few "
        "drawn regions hardly any unit can be told from chance.",
    ),
    "F5": Reading(
        "Inside: how alike, and where classes come apart",
        "CKA (centred kernel alignment) says how alike two networks arrange the same images, from 0 to 1. Two arms are "
        "alike inside where it is near the value between two seeds of one arm. The curves: a simple model, the probe, "
        "learns the classes from each layer's features; a line that stops rising early says that the later layers add "
        "nothing for those classes.",
        "CKA near 1 does not make two models agree on a patient. A probe that can read a class does not mean that the "
        "network uses it.",
    ),
    "F6": Reading(
        "The same unit in every arm",
        "Read along a row: does the matched unit of each arm answer to the same thing in the images?",
        "Matching looks for the most correlated unit; a low r means that there is none. What a unit stands for is a "
        "human's guess.",
    ),
}


def flags(look: Look) -> list[tuple[str, Entry]]:
    """The verdict of every arm and class but the baseline's, the gravest first; without a flag: maps not trusted."""
    found = []
    for row in look.rows("verdict"):
        if row.get("metric") == "verdict" and row.get("class") and row.get("arm") != look.baseline:
            found.append((str(row.get("verdict") or NOT_TRUSTED), row))
    place = {name: i for i, name in enumerate(ORDER)}
    rank = {name: i for i, name in enumerate(look.classes)}
    return sorted(found, key=lambda one: (place.get(one[0], len(ORDER)), rank.get(str(one[1]["class"]), 0)))


def counted(look: Look) -> dict[str, int]:
    """Flag -> in how many comparisons of an arm and a class, the gravest first, those that came out."""
    given = [flag for flag, _ in flags(look)]
    return {flag: given.count(flag) for flag in dict.fromkeys([*ORDER, *given]) if flag in given}


def headline(look: Look) -> str:
    """The verdict in a sentence."""
    if not look.others:
        return f"Only {look.baseline} was looked into, so nothing is compared."
    found = counted(look)
    total = sum(found.values())
    told = {
        WORSE_LOOK: "In {n} of {total} comparisons a better score came with a worse look. Do not trust it yet.",
        SAME_SCORE: "In {n} of {total} comparisons no difference in score was shown, but one in look.",
        CONSISTENT: "In {n} of {total} comparisons there was enough to judge by, and none of them showed an arm that "
        "looks elsewhere than its score suggests. That does not make the arms equal.",
        TOO_FEW: "Too few patients, regions or seeds to tell whether any arm looks elsewhere.",
        NOT_TRUSTED: "The maps did not pass the check, so nothing is said about where the models look.",
    }
    if look.placeless and set(found) == {TOO_FEW}:
        return f"{_sentence(look.without_places)} Whether any arm looks elsewhere was not measured."
    first = next((flag for flag in ORDER if found.get(flag)), None)
    if first is None:
        return "No arm could be compared with the baseline."
    return told[first].format(n=found[first], total=total)


def in_numbers(look: Look) -> str:
    """How many comparisons came to which verdict."""
    found = counted(look)
    if not found:
        return ""
    arms = len({row["arm"] for _, row in flags(look)})
    classes = len({row["class"] for _, row in flags(look)})
    told = listing([f"{n} {flag}" for flag, n in found.items()])
    return (
        f"{many(arms, 'arm')} against {look.baseline}, {_classes(classes)}: {told}. "
        "The rule keeps the chance of any false flag of a changed look at 5% over the whole study."
    )


def noteworthy(look: Look) -> list[str]:
    """The comparisons in which score and look part, a line each with the figures behind it."""
    lines = []
    for flag, row in flags(look):
        if flag in (WORSE_LOOK, SAME_SCORE):
            why = f": {signs(str(row['reason']))}" if row.get("reason") else ""
            lines.append(f"{row['arm']}, {class_name(str(row['class']))}: {flag}{why}.")
    if len(lines) > MOST_TOLD:
        lines = [*lines[:MOST_TOLD], f"and {len(lines) - MOST_TOLD} more, in the table below."]
    return lines


def beyond_chance(look: Look) -> str:
    """Whether the baseline's maps lie on findings more than other patients' regions explain."""
    by: dict[str, list[str]] = {}
    for name in look.classes:
        row = look.find("verdict", "beyond_chance", look.baseline, name)
        if row is not None:
            by.setdefault(str(row.get("verdict") or TOO_FEW), []).append(class_name(name))
    if not by:
        why = "nobody drew where they are" if not look.n_regions else "raresight explain was not asked for it"
        why = look.without_places if look.placeless else why
        return f"Whether the maps lie on findings at all was not measured, since {why}."
    told = [f"{verdict} for {listing(names)}" for verdict, names in by.items()]
    return (
        f"Does {look.baseline} look at the findings at all, more than other patients' regions of the same class would "
        f"explain? {_sentence('; '.join(told))}"
    )


def verdict_grid(look: Look) -> Table | None:
    """Classes down, arms across: the flag of each."""
    given = {(str(row["arm"]), str(row["class"])): told_flag(look, flag, row) for flag, row in flags(look)}
    if not given:
        return None
    arms = [arm for arm in look.others if any(arm == one for one, _ in given)]
    rows = [
        Row((look.called(name), *(given.get((arm, name), "not compared") for arm in arms)))
        for name in look.classes
        if any((arm, name) in given for arm in arms)
    ]
    notes = " ".join(f"{flag.capitalize()}: {MEANS[flag]}" for flag in counted(look) if flag in MEANS)
    return table((f"Class (training images), against {look.baseline}", *arms), rows, (), notes)


def chance_table(look: Look) -> Table | None:
    """Every arm and class: alignment beyond chance with its interval, and what that shows."""
    rows = []
    for name in look.classes:
        for arm in look.arms:
            row = look.find("verdict", "beyond_chance", arm, name)
            prior = look.find("verdict", "beyond_prior", arm, name)
            if row is None:
                continue
            said = str(row.get("verdict") or TOO_FEW)
            over = "not computed" if prior is None else str(prior.get("verdict") or TOO_FEW)
            n = row.get("n_patients")
            why = look.greyed.get(arm) or str(row.get("reason") or "")
            cells = (class_name(name), arm, told_value(row), said, over, "–" if n is None else str(n), why)
            mark = "wide" if arm in look.greyed or said == TOO_FEW else "strong" if said == "beyond chance" else ""
            rows.append(Row(cells, mark))
    if not rows:
        return None
    head = ("Class", "Arm", "Beyond chance", "Verdict", "Over the usual place", "Patients", "Remark")
    note = (
        f"Beyond chance is of the {look.measure}. 0: no better than the regions of other patients with the same class; "
        "1: all of the map inside. Over the usual place: better than a map of where such findings lie on average in "
        "training."
    )
    if look.last_layer:
        shown, last = layer_name(look.layer), layer_name(look.last_layer)
        note += f" Maps of {shown}; those of {last}, the last layer, stand in tables/T2_alignment.csv."
    return table(head, rows, (2, 5), note)


def rests_on(look: Look) -> list[str]:
    """What was looked at, in short facts."""
    data = look.data
    facts = [f"{part_name(str(data.get('part') or ''))}, {many(int(data.get('n_images') or 0), 'image')} of "
             f"{many(int(data.get('n_patients') or 0), 'patient')}"]  # fmt: skip
    facts.append(f"{many(len(look.arms), 'arm')}, {many(len(look.seeds), 'seed')}")
    drawn = f"{many(look.n_regions, 'drawn region')} of {_classes(_with_regions(look))}" if look.n_regions else ""
    facts.append(drawn or "no drawn regions")
    return facts


def what_it_cannot_say(look: Look) -> list[str]:
    """What no figure here can show, with what is peculiar to this study first."""
    said = [f"{arm}: {why}. Nothing that rests on its maps may be read." for arm, why in look.greyed.items()]
    few = [class_name(name) for name in look.classes if 0 < int(look.per_class[name].get("n_regions") or 0) < 10]
    none = [name for name in look.classes if not look.per_class[name].get("n_regions")]
    if look.n_regions and not look.placeless:
        absent = [name for name in none if look.per_class[name].get("n_images") == 0]
        undrawn = [name for name in none if name not in absent]
        missing = (
            f"There is no patient with {_named(absent)} in the {part_name(str(look.data.get('part') or ''))}",
            absent,
        )
        for what, names in ((f"Nobody drew regions of {_named(undrawn)}", undrawn), missing):
            said += [f"{what}: where models look for them is not measured."] if names else []
    if few:
        said.append(f"Fewer than ten regions of {listing(few)}: shown, but without an interval.")
    if len(look.seeds) < 2:
        said.append("One seed: how much of a difference is chance in training is not known.")
    said += [_sentence(str(one)) for one in look.data.get("limits") or []]
    said += [
        "A map tells where evidence for a score lies, not why, and not whether the reasoning is sound.",
        "Alignment is with what readers drew. Findings can show outside it, and drawings can be wrong.",
        "What is seen on these images need not hold at another hospital or camera.",
    ]
    return said


def _named(classes: list[str]) -> str:
    return listing([class_name(name) for name in classes])


def _with_regions(look: Look) -> int:
    return sum(bool(entry.get("n_regions")) for entry in look.per_class.values())


def _sentence(text: str) -> str:
    return text if not text else text[0].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def _classes(n: int) -> str:
    return f"{n} class" if n == 1 else f"{n} classes"
