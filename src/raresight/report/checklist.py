"""A reporting checklist, filled in as far as the files themselves answer, and never further.

An item is `answered` only where the report holds what it asks for, with a link to the place; `needs a human` with what
to write otherwise, even where the report holds a part of it (a link then says where); `not applicable` where the study
cannot have it, with the reason. What is not known counts as not answered. The items are paraphrased in
`checklist_items`, which says which numbers were verified.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from raresight.report.checklist_evidence import EVIDENCE, Found
from raresight.report.checklist_items import GUIDELINES, Item
from raresight.report.content import Content

Status = Literal["answered", "needs a human", "not applicable"]


@dataclass(frozen=True)
class Answer:
    """One item of one guideline: its status, what the report says or a human must write, and the place (`#anchor`)."""

    guideline: str
    number: str
    topic: str
    status: Status
    text: str
    link: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "guideline": self.guideline,
            "item": self.number or None,
            "topic": self.topic,
            "status": self.status,
            "text": self.text,
            "link": self.link or None,
        }


def checklist(content: Content) -> list[Answer]:
    """All items of TRIPOD+AI, CLAIM 2024 and STARD-AI, in that order."""
    return [_answer(content, guideline, item) for guideline, items in GUIDELINES for item in items]


def _answer(content: Content, guideline: str, item: Item) -> Answer:
    look: Callable[[Content], Found | None] | None = EVIDENCE[item.evidence] if item.evidence else None
    found = None if look is None else look(content)
    if found is None:
        return Answer(guideline, item.number, item.topic, "needs a human", item.ask)
    if found.exempt:
        return Answer(guideline, item.number, item.topic, "not applicable", found.text)
    if found.part_only:
        return Answer(guideline, item.number, item.topic, "needs a human", f"{item.ask} {found.text}", found.link)
    return Answer(guideline, item.number, item.topic, "answered", found.text, found.link)


def tally(answers: list[Answer]) -> dict[str, dict[str, int]]:
    """How many items of each guideline have each status."""
    made: dict[str, Counter[str]] = {}
    for one in answers:
        made.setdefault(one.guideline, Counter())[one.status] += 1
    return {
        name: {s: found[s] for s in ("answered", "needs a human", "not applicable")} for name, found in made.items()
    }


def checklist_text(content: Content, page: str = "report.html") -> str:
    """The checklist as Markdown; links lead into `page`."""
    answers = checklist(content)
    lines = [
        f"# Reporting checklist: {content.title}",
        "",
        "Filled in from the files of the study. The items are given in our own words; numbers of CLAIM 2024 were not "
        "verified and are left out. For a submission, fill in the official forms. An item that is not answered here "
        "needs a human: nothing was guessed.",
        "",
        "| guideline | answered | needs a human | not applicable |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {' | '.join(str(n) for n in counts.values())} |" for name, counts in tally(answers).items()]
    for guideline, _ in GUIDELINES:
        lines += [
            "",
            f"## {guideline}",
            "",
            "| item | topic | status | answer, or what to write |",
            "|---|---|---|---|",
        ]
        for one in answers:
            if one.guideline == guideline:
                place = f" [see]({page}{one.link})" if one.link else ""
                lines.append(f"| {one.number} | {_cell(one.topic)} | {one.status} | {_cell(one.text)}{place} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
