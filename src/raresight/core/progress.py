"""Telling the user what goes on: prose and bars on stderr, silence for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int, int], None]  # (done, total)


class Silent:
    """Says nothing: what the Python API uses unless told otherwise."""

    def say(self, text: str) -> None:
        """One line of prose."""

    @contextmanager
    def bar(self, label: str) -> Iterator[Advance]:
        """A bar for long work; call what it yields with (done, total)."""
        yield lambda done, total: None


class Terminal(Silent):
    """Prose and bars on stderr; off a terminal no bars and no colour, only lines."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    @contextmanager
    def bar(self, label: str) -> Iterator[Advance]:
        if not self._console.is_terminal:
            yield lambda done, total: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(label, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
