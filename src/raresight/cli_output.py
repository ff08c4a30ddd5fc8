"""Where a command's words go: artefacts to stdout, prose and progress to stderr."""

from __future__ import annotations

import json
import sys
from typing import Any


def progress() -> Any:
    from raresight.core.progress import Terminal

    return Terminal()


def say(text: str) -> None:
    print(text, file=sys.stderr)


def answer(value: Any, as_json: bool, text: str) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False) if as_json else text)
