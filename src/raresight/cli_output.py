"""Where a command's words go: artefacts to stdout, prose and progress to stderr."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from raresight.core.launched import launched, silent

SECONDS_TO_SPEAK = 30.0  # a process of a busy machine takes seconds to leave


def progress() -> Any:
    """Bars and sentences on stderr; none of the bars off a terminal."""
    from raresight.core.progress import Silent, Terminal

    return Silent() if silent() else Terminal()


def say(text: str) -> None:
    """A sentence on stderr."""
    print(text, file=sys.stderr)


def answer(value: Any, as_json: bool, text: str) -> None:
    """What a command found, on stdout: `value` as JSON, or `text` for people."""
    if not silent():
        print(json.dumps(value, indent=1, ensure_ascii=False) if as_json else text)


def trouble(*texts: str) -> None:
    """Why the command ends, on stderr. Of several processes the first one tells what befalls all of them.

    The others wait: torchrun stops them as soon as the first has left. Who is still there then met something alone.
    """
    if silent():
        time.sleep(SECONDS_TO_SPEAK)
        texts = tuple(f"process {launched().rank}: {text}" for text in texts)  # type: ignore[union-attr]
    for text in texts:
        say(text)


def refuse_several(arguments: list[str]) -> None:
    """Raise a `ConfigError` RS-C34 where torchrun started several processes for what only one should do."""
    place = launched()
    alone = [option for option in ("--dry-run", "--on") if option in arguments]
    if place is None or (arguments[:1] == ["train"] and not alone):
        return
    from raresight.core.errors import ConfigError, Problem

    what = " ".join([*arguments[:1], *alone])
    raise ConfigError(
        Problem(
            code="RS-C34",
            level="error",
            found=f"torchrun started {place.world} processes for `raresight {what}`",
            why="several processes train one arm together; anything else each of them would do over again",
            remedy=f"give this command without torchrun: raresight {what} ...",
        )
    )
