"""Mechanical mutation of the numeric code: python benchmarks/mutants.py [FILE ...] [--room explain] [--table FILE]

In the file of each method, or of `explain`, each sign, comparison and operand order is flipped and each mask and prior
dropped, one at a time (`mutations.py`); the file's own tests, then those of the contract, must notice
(`mutant_tests.py`). What survives needs a reason in `mutants.yaml` or `mutants_explain.yaml`, written by hand: the
mutant computes the same, or differs where nothing is promised. Exit 1 where one has none.

A mutant never touches the disk: pytest collects all tests once, then each mutant is a forked child in which the
functions of the mutated source take the place of the module's own; the tests must pass in a child without a mutant.
`.mutants.json` keeps what was found, each mutant with the text of the test that noticed it and of what its file holds
beside other tests (or of all tests that did not), so that only what changed since is run again; remove it to start
afresh.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import functools
import gc
import hashlib
import importlib
import json
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from types import FunctionType
from typing import Any

import yaml
from mutant_tests import ROOT, TESTS, files_of, method_of, promises_of, tests_of
from mutations import Mutant, mutants_of, short

REASONS = sorted(Path(__file__).parent.glob("mutants*.yaml"))
KEPT = ROOT / ".mutants.json"
SECONDS = 120  # of the processor: a mutant whose tests take longer has made something endless, and is noticed


# running


def put(mutant: Mutant) -> None:
    """The functions of the mutated source in place of the module's own, wherever they were imported to."""
    name = ".".join(mutant.file.relative_to(ROOT / "src").with_suffix("").parts)
    module = importlib.import_module(name)
    mutated: dict[str, Any] = {"__name__": name, "__file__": str(mutant.file)}
    exec(compile(mutant.source, str(mutant.file), "exec"), mutated)
    for key, value in list(vars(module).items()):
        setattr(module, key, getattr(value, "py_func", value))  # what numba compiled knows no other code
    _replace(vars(module), mutated, name)
    if mutant.inside:
        return
    for key, value in mutated.items():  # a module's constant: whoever imported it gets the other
        if not isinstance(value, type | FunctionType) and key in vars(module) and not key.startswith("__"):
            for other in [m for m in sys.modules.values() if vars(m).get(key) is vars(module)[key]]:
                setattr(other, key, value)


def _replace(olds: Mapping[str, Any], news: Mapping[str, Any], module: str) -> None:
    for key, new in news.items():
        old = olds.get(key)
        if isinstance(new, type) and isinstance(old, type) and new.__module__ == module:
            _replace(vars(old), vars(new), module)
        for one, other in zip(_functions(old), _functions(new), strict=False):
            if other.__module__ == module and one.__module__ == module:
                one.__code__, one.__defaults__, one.__kwdefaults__ = (
                    other.__code__,
                    other.__defaults__,
                    other.__kwdefaults__,
                )


def _functions(value: Any) -> list[FunctionType]:
    """The function behind a method, a property or a decorator."""
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", value)
    while hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    return [value] if isinstance(value, FunctionType) else []


class Judge:
    """A plugin of pytest that, instead of running what was collected once, runs it for each mutant in a child."""

    def __init__(self, mutants: list[Mutant], workers: int, found: dict[str, str]) -> None:
        self.mutants, self.workers, self.found = mutants, workers, found
        self.kept, self.often = Kept(), Counter[str]()
        for key, (noticed, _) in self.kept.found.items():
            self._count(key, noticed)
        self.items: list[Any] = []
        self.seconds: dict[str, float] = {}
        self.failed = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid.removeprefix("tests/")

    def pytest_runtestloop(self, session: Any) -> bool:
        if session.testsfailed:
            raise SystemExit("tests cannot be collected: run pytest on them")
        gc.collect()
        gc.freeze()
        self.items = session.items
        self.seconds = self._without_a_mutant({path for one in self.mutants for path in tests_of(one.file)})
        survivors = []
        for mutant, noticed in self._children(self.mutants, self._named):
            if noticed:
                self._note(mutant, noticed)
            else:
                survivors.append(mutant)
        for mutant, noticed in self._children(survivors, self._contracts):
            self._note(mutant, noticed)
            if not noticed:
                print(f"survives: line {mutant.line} of {mutant.key}", flush=True)
        return True

    def _note(self, mutant: Mutant, noticed: str) -> None:
        self.found[mutant.key] = self.kept[mutant] = noticed
        self._count(mutant.key, noticed)

    def _count(self, key: str, noticed: str) -> None:
        """How often a test noticed something in a file, and a function of tests anything at all."""
        self.often[key.partition(":")[0] + noticed] += 1
        self.often[noticed.partition("[")[0]] += 1

    def _named(self, file: Path) -> list[Any]:
        """The tests of a file: what noticed most other mutants of it comes first, then what takes least time."""
        tests = [item for path in tests_of(file) for item in self.items if item.path == path]
        place = short(file)
        often = {item: self.often[place + item.nodeid.removeprefix("tests/")] for item in tests}
        return sorted(tests, key=lambda item: (-often[item], self.seconds.get(item.nodeid, 0.0)))

    def _contracts(self, file: Path) -> list[Any]:
        """What every method promises, of this method; what noticed most mutants of any comes first."""
        named, method = tests_of(file), method_of(file)
        tests = [item for item in self.items if method and item.path not in named and method in item.name]
        return sorted(tests, key=lambda item: -self.often[item.nodeid.removeprefix("tests/").partition("[")[0]])

    def _without_a_mutant(self, paths: set[Path]) -> dict[str, float]:
        """How long each test of these files takes, in a child in which all must pass."""
        reading, writing = os.pipe()
        if os.fork() == 0:
            seconds: dict[str, float] = {}
            _silence()
            for item in [item for item in self.items if item.path in paths]:
                began = time.process_time()
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                seconds[item.nodeid] = time.process_time() - began
            os.write(writing, json.dumps([self.failed, seconds]).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            failed, seconds = json.loads(answer.read())
        os.wait()
        if failed:
            raise SystemExit(f"{failed} fails without a mutant")
        return seconds

    def _children(self, mutants: list[Mutant], tests_of: Callable[[Path], list[Any]]) -> Iterator[tuple[Mutant, str]]:
        """(mutant, what noticed it) in the order in which they end."""
        waiting = list(reversed(mutants))
        running: dict[int, tuple[Mutant, int]] = {}
        began, ended = time.monotonic(), 0
        while waiting or running:
            while waiting and len(running) < self.workers:
                mutant = waiting.pop()
                reading, writing = os.pipe()
                child = os.fork()
                if child == 0:
                    os.close(reading)
                    signal.setitimer(signal.ITIMER_PROF, SECONDS)
                    answer = self._judged(mutant, tests_of(mutant.file))
                    os.write(writing, answer.encode()[:4000] or b"-")
                    os._exit(0)
                os.close(writing)
                running[reading] = (mutant, child)
            for reading in select.select(list(running), [], [])[0]:
                mutant, child = running.pop(reading)
                answer = os.read(reading, 4096).decode()
                os.close(reading)
                os.waitpid(child, 0)
                ended += 1
                if ended % 50 == 0:
                    print(f"{ended} of {len(mutants)}, {time.monotonic() - began:.0f} s", flush=True)
                # A child that dies without a word ran out of time or crashed: the tests noticed.
                yield mutant, {"-": "", "": "ended without an answer"}.get(answer, answer)

    def _judged(self, mutant: Mutant, tests: list[Any]) -> str:
        """In a child: the first test that fails, or an empty string."""
        _silence()
        try:
            put(mutant)
        except Exception as problem:
            return f"import ({type(problem).__name__})"
        for item in tests:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if self.failed:
                return self.failed
        return ""


def _silence() -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)


@functools.cache
def _code(text: str) -> bytes:
    """What a file computes: without comments and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree).encode()


@functools.cache
def _bytes(test: Path) -> bytes:
    """A test as it was when this run began: it may be edited meanwhile."""
    return test.read_bytes()


@functools.cache
def _one_test(test: Path, name: str) -> bytes:
    """What a file of tests computes for one test: without the others."""
    tree = ast.parse(_bytes(test))
    tree.body = [node for node in tree.body if getattr(node, "name", name) == name or not _is_test(node)]
    return ast.dump(tree).encode()


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


class Kept:
    """What earlier runs found, as long as the mutant and the tests that judged it read the same."""

    def __init__(self) -> None:
        self.found = self._read()

    @staticmethod
    def _read() -> dict[str, list[str]]:
        return json.loads(KEPT.read_text()) if KEPT.exists() else {}

    def __getitem__(self, mutant: Mutant) -> str | None:
        noticed, stamp = self.found.get(mutant.key, ("", ""))
        return noticed if stamp == self._stamp(mutant, noticed) else None

    def __setitem__(self, mutant: Mutant, noticed: str) -> None:
        stamp, folder = self._stamp(mutant, noticed), os.open(ROOT, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)  # others may run beside
        self.found = self._read() | {mutant.key: [noticed, stamp]}
        KEPT.with_suffix(".new").write_text(json.dumps(self.found, indent=0))
        KEPT.with_suffix(".new").replace(KEPT)
        os.close(folder)

    def _stamp(self, mutant: Mutant, noticed: str) -> str:
        path, _, name = noticed.partition("::")
        if (TESTS / path).is_file():
            judges = [_one_test(TESTS / path, name.partition("[")[0])]
        else:
            judges = [_bytes(test) for test in (*tests_of(mutant.file), *promises_of(mutant.file))]
        return hashlib.sha256(b"".join([_code(mutant.text), *judges])).hexdigest()[:16]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="files to change (all of the room, by default)")
    parser.add_argument("--room", choices=["methods", "explain"], default="methods")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--kept", action="store_true", help="run nothing: what earlier runs found, and what is left")
    options = parser.parse_args()
    files = [path.resolve() for path in options.files] or files_of(options.room)
    tests = list(dict.fromkeys(path for find in (tests_of, promises_of) for file in files for path in find(file)))
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.chdir(ROOT)
    kept = Kept()
    for test in tests:
        _bytes(test)
    mutants = [mutant for file in files for mutant in mutants_of(file)]
    found = {mutant.key: noticed for mutant in mutants if (noticed := kept[mutant]) is not None}
    left = [mutant for mutant in mutants if mutant.key not in found]
    print(f"{len(mutants)} mutants, {len(left)} to run", flush=True)
    for mutant in mutants:
        if found.get(mutant.key) == "":
            print(f"survives: line {mutant.line} of {mutant.key}", flush=True)
    if left and not options.kept:
        import pytest
        import torch

        torch.set_num_threads(1)
        quiet = ["-s", "-o", "addopts=", *(f"-pno:{name}" for name in ("cacheprovider", "terminal"))]
        pytest.main([*quiet, *map(str, tests)], plugins=[Judge(left, options.workers, found)])
    reasons: dict[str, str] = {}
    for path in REASONS:
        reasons |= yaml.safe_load(path.read_text(encoding="utf-8"))
    if options.table:
        options.table.write_text(table(mutants, found, reasons), encoding="utf-8")
    survivors = [mutant.key for mutant in mutants if found.get(mutant.key) == ""]
    unexplained = [key for key in survivors if key not in reasons]
    noticed = sum(bool(by) for by in found.values())
    print(
        f"{len(mutants)} mutants: {noticed} noticed, {len(survivors)} survive, {len(unexplained)} of them unexplained"
    )
    if len(found) < len(mutants):
        print(f"{len(mutants) - len(found)} were not run")
    return 1 if unexplained or len(found) < len(mutants) else 0


def table(mutants: list[Mutant], found: dict[str, str], reasons: dict[str, str]) -> str:
    noticed = sum(bool(found.get(mutant.key)) for mutant in mutants)
    survivors = [mutant for mutant in mutants if found.get(mutant.key) == ""]
    unrun = len(mutants) - noticed - len(survivors)
    files = list(dict.fromkeys(mutant.file for mutant in mutants))
    looks = all(short(file).startswith("explain/") for file in files)
    lines = [
        f"# Mechanical mutation of {'`explain`' if looks else 'the methods'}, {date.today().isoformat()}",
        "",
        f"`make mutants{'-look' if looks else ''}`: {len(mutants)} mutants in {len(files)} files; {noticed} "
        f"noticed by a named test, {len(survivors)} survive, each listed below with its reason"
        + (f"; {unrun} were not run." if unrun else "."),
        "",
        "| file | mutants | noticed | survive | not run | test that noticed most |",
        "|---|---|---|---|---|---|",
    ]
    for file in files:
        of = [found.get(mutant.key) for mutant in mutants if mutant.file == file]
        by = [test.partition("[")[0] for test in of if test]
        most = max(sorted(set(by)), key=by.count) if by else "-"
        numbers = f"{len(of)} | {len(by)} | {of.count('')} | {of.count(None)}"
        lines.append(f"| {short(file)} | {numbers} | {most} |")
    lines += ["", "## Survivors", "", "| file, line | change | reason |", "|---|---|---|"]
    for mutant in survivors:
        change = f"`{mutant.change}`".replace("|", "\\|").replace("\n", " ")
        reason = reasons.get(mutant.key, "**none given**")
        lines.append(f"| {short(mutant.file)}, {mutant.line} | {change} | {reason} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
