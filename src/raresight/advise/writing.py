"""Arms written into `study.yaml`: the block of `arms:` is replaced, every other character stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from raresight.core.errors import ConfigError, Problem


def with_arms(text: str, arms: Mapping[str, Mapping[str, Any]]) -> str:
    """`text` of a `study.yaml` with `arms` in place of those it had, or at its end where it had none.

    `arms` maps a name to its `strategies` and `why`, whose first entry becomes the arm's comment. Blank lines and
    comments at the margin before the next key stay, and so does a comment beside `arms:`.

    Raises: `ConfigError` RS-C02 where the block cannot be replaced without touching anything else.
    """
    before = yaml.safe_load(text) or {}
    start, end = _block(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    beside = re.match(r"arms\s*:\s*(?:\w+|\{\s*\})?[ \t]*(#[^\r\n]*)?(?=\r|\n|$)", text[start:end])
    comment = (beside[1] if beside else None) or "# proposed by `raresight advise`, which gives the evidence"
    lines = [f"arms:                              {comment}"]
    for name, arm in arms.items():
        lines += [f"  # {arm['why'][0]}", f"  {_flow(name)}: {_flow(arm['strategies'])}"]
    head = text[:start] if text[:start].endswith("\n") or not start else text[:start] + newline
    written = head + newline.join(lines) + newline + text[end:]
    wanted = {**before, "arms": {name: arm["strategies"] for name, arm in arms.items()}}
    try:
        kept = yaml.safe_load(written) == wanted
    except yaml.YAMLError:
        kept = False
    if not kept:
        raise _tangled()
    return written


def _block(text: str) -> tuple[int, int]:
    """Where the entry `arms` begins and ends, in characters; both are the end of the text where it has none."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise _tangled()
    keys = [key for key, _ in root.value]
    place = next((i for i, key in enumerate(keys) if key.value == "arms"), None)
    if place is None:
        return len(text), len(text)
    start = keys[place].start_mark.index
    end = keys[place + 1].start_mark.index if place + 1 < len(keys) else len(text)
    lines = text[start:end].splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].startswith("#")):
        end -= len(lines.pop())
    return start, end


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("...\n").strip()


def _tangled() -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-C02",
            level="error",
            file="study.yaml",
            column="arms",
            found="the arms cannot be replaced without touching another entry",
            why="what you wrote is kept to the letter",
            remedy="put `arms:` at the margin, without anchors; or copy them from `raresight advise STUDY --no-write`",
        )
    )
