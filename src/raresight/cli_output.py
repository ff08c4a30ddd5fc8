"""Where a command's words go: artefacts to stdout, prose and progress to stderr."""

from __future__ import annotations

import json
import sys
from typing import Any


def progress() -> Any:
    """Bars and sentences on stderr; none of the bars off a terminal."""
    from raresight.core.progress import Terminal

    return Terminal()


def say(text: str) -> None:
    """A sentence on stderr."""
    print(text, file=sys.stderr)


def answer(value: Any, as_json: bool, text: str) -> None:
    """What a command found, on stdout: `value` as JSON, or `text` for people."""
    print(json.dumps(value, indent=1, ensure_ascii=False) if as_json else text)
