"""The pages of docs/methods, written from the docstrings: python docs/make_method_pages.py

A page says nothing that the method does not say of itself; change the docstring, then run this (`make docs`).
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import torch

from raresight.strategies import ALL, Facts, Strategy
from raresight.strategies.strategy import PLACES, implements

OUT = Path(__file__).resolve().parent / "methods"
HEADING = re.compile(
    r"^(Equation|Shapes|Ranges|Log-prior shift|Absent class|Helps|Hurts|Evidence|Raises|Source)( and units)?:\s*", re.M
)
NEEDED = ("Equation", "Shapes", "Ranges", "Absent class", "Helps", "Hurts", "Evidence", "Raises", "Source")
ACTS = {
    "sampling": "decides which training rows come up, and how often",
    "inputs": "changes the pictures of a batch, or mixes two of them",
    "features": "adds synthetic feature rows in the head phase, when the network stands still and the head is trained",
    "losses": "changes what an error costs in training",
    "steps": "changes how the optimiser steps",
    "schedules": "changes what happens when in training, and which weights are kept",
    "decisions": "changes the scores after training; nothing is trained again",
}
KINDS = {
    "exclusive": "exclusive labels (one class a case)",
    "independent": "independent labels (any number of findings)",
}
SPACES = {0: "whole images", 1: "anchors of a detector", 2: "pixels", 3: "voxels"}
GUIDE = """\
# Methods

One page per method, written from its docstring by `make docs`. `raresight list` prints the same list in a terminal.

## Which one first

`raresight advise STUDY` looks at your data (how rare the classes are, how many patients have them, how clean the labels
are said to be) and writes arms that fit into `study.yaml`, each with its reason, and what not to try. Without a look at
the data:

1. **None.** Train `baseline: []` and let `raresight tune` choose the threshold on validation patients. Much of what is
   published as a gain of a method is a moved threshold, which costs nothing.
2. **`augment`**, with the preset of your modality. It touches no label, so probabilities keep their meaning; most arms
   are better on top of it than without.
3. **One method that raises the rare class, one only**: `balanced_softmax` where probabilities must stay correctable,
   `class_weights` (`scheme: effective`) as the common comparison, or `logit_adjustment` where a trained model is at
   hand. Two of them together compensate twice.
4. **With some dozens of rare cases**, `heavy_augment`; or `classifier_retraining`, alone or with `smote` on the
   features. With a handful, none of them can be told from another: the audit says how many patients an answer needs.
5. **Where training is unstable** between evaluations, `ema`. It is nearly free.

After a run, `raresight compare STUDY` says what won for which class, and `raresight sweep STUDY` thins one class in
training and shows which arm suits which severity.

A page's **Evidence** names published figures, or ours; "none found by us" means that we looked and found none that we
trust, not that the method does not work.
"""


def sections(method: type[Strategy]) -> dict[str, str]:
    """The docstring in its paragraphs: `summary`, those of `HEADING`, and `example`.

    Raises: `ValueError` naming the method where a paragraph of `NEEDED` is missing or empty.
    """
    text = inspect.getdoc(method) or ""
    prose, _, example = text.partition("\n>>>")
    summary, _, rest = prose.partition("\n")
    found = {"summary": summary.strip(), "example": f">>>{example}".strip() if example else ""}
    marks = list(HEADING.finditer(rest))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        found[mark[1]] = rest[mark.end() : following.start() if following else None].strip("\n").rstrip()
    missing = [name for name in NEEDED if not found.get(name, "").strip()]
    if missing:
        raise ValueError(f"{method.name}: its docstring lacks {', '.join(missing)}")
    return found


def page(method: type[Strategy]) -> str:
    """The whole page of a method."""
    said = sections(method)
    blocks = [
        f"# {method.name}",
        said["summary"],
        f"**Place on the line:** `{method.place}`: it {ACTS[method.place]}.  \n"
        f"**Labels:** {'; '.join(KINDS[kind] for kind in method.kinds)}.  \n"
        f"**Spaces:** {', '.join(SPACES[space] for space in method.spaces)}.  \n"
        f"**Class:** [`{method.__name__}`](../../src/{method.__module__.replace('.', '/')}.py)"
        + ("; needs a head phase (`train.head_steps`)." if method.head_phase else ".")
        + ("  \n**Experimental:** it does what it says; nothing yet says that it is worth it." * method.experimental),
        "## Equation",
        f"```text\n{said['Equation']}\n```",
        "## Shapes",
        said["Shapes"],
        "## Ranges",
        said["Ranges"],
        "## Settings",
        _settings_table(method),
        "## In study.yaml",
        f"```yaml\n{_arms(method)}\n```",
        "## Implied prior",
        _prior(method),
        *([said["Log-prior shift"]] if "Log-prior shift" in said else []),
        "## When it helps",
        said["Helps"],
        "## When it hurts",
        said["Hurts"],
        "## Evidence",
        said["Evidence"],
        "## Absent class",
        said["Absent class"],
        "## Errors",
        said["Raises"],
        "## Source",
        said["Source"],
        "## Example",
        f"```python\n{said['example']}\n```",
    ]
    return "\n\n".join(_sentence(block) for block in blocks) + "\n"


def pages() -> dict[str, str]:
    """File name -> text, the table of contents included."""
    tables = []
    for place in PLACES:
        rows = [
            f"| [{method.name}]({method.name}.md) | {sections(method)['summary'].replace('|', chr(92) + '|')} |"
            for method in ALL
            if method.place == place
        ]
        head = [f"## {place}", "", f"Each one {ACTS[place]}.", "", "| method | in one sentence |", "|---|---|"]
        tables.append("\n".join(head + rows))
    return {"README.md": "\n\n".join([GUIDE.rstrip(), *tables]) + "\n"} | {
        f"{method.name}.md": page(method) for method in ALL
    }


def _settings_of(method: type[Strategy]) -> dict[str, Any]:
    return {key: parameter.default for key, parameter in inspect.signature(method).parameters.items()}


def _settings_table(method: type[Strategy]) -> str:
    settings = _settings_of(method)
    neutral = method.neutral()
    plain = "Nothing turns it into plain training." if neutral is None else f"Plain training at `{_yaml(neutral)}`."
    if not settings:
        return f"None. {plain}"
    rows = [f"| `{key}` | `{_yaml(default)}` |" for key, default in settings.items()]
    return "\n".join(["| setting | default |", "|---|---|", *rows]) + f"\n\n{plain}"


def _arms(method: type[Strategy]) -> str:
    settings = {key: value for key, value in _settings_of(method).items() if value is not None}
    before = "class_weights, " if implements(method(), "correct") else ""  # it acts upon what others do
    lines = ["arms:", "  baseline: []", f"  mine: [{before}{method.name}]"]
    if settings:
        lines.append(f"  spelt_out: [{before}{{{method.name}: {_yaml(settings)}}}]")
    return "\n".join(lines)


def _prior(method: type[Strategy]) -> str:
    """Asked of the method itself, with its default settings, on six common cases and two rare ones."""
    target = torch.eye(2)[[0, 0, 0, 0, 0, 0, 1, 1]]
    strategy = method()
    strategy.fit(Facts(method.kinds[0], ("common", "rare"), target, torch.ones_like(target), preset="histology"))
    shift = strategy.log_prior_shift()
    if shift is None:
        return (
            "With its default settings it moves probabilities by an amount that no formula gives: they cannot be"
            " corrected for prevalence. Thresholds and calibration come from the validation part."
        )
    if not shift.abs().max() > 0:
        return "With its default settings it implies none: probabilities stay those of the training prevalence."
    return (
        "With its default settings it shifts probabilities by a known amount; `raresight tune` takes it out before"
        " calibration is judged, and `prior_correction` takes it out of the predictions themselves."
    )


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _sentence(block: str) -> str:
    """A paragraph that followed a heading begins with a capital, unless it begins with code, a symbol or a number."""
    first = re.match(r"[a-z]{2,}\b(?! *[=~<])", block)
    return block[0].upper() + block[1:] if first and first[0] not in ("alpha", "lambda", "sum") else block


def main() -> None:
    OUT.mkdir(exist_ok=True)
    written = pages()
    for path in OUT.glob("*.md"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (OUT / name).write_text(text, encoding="utf-8")
    print(f"{len(written) - 1} methods in {OUT}")


if __name__ == "__main__":
    main()
