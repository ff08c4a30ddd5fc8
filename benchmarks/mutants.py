"""Mechanical mutation of every method: python benchmarks/mutants.py [FILE ...] [--table FILE]

In each method's file each sign, comparison and operand order is flipped and each mask and prior dropped, one at a time;
the method's own tests, then those of the contract, must notice. What survives needs a reason in `mutants.yaml`,
written by hand: the mutant computes the same, or differs where nothing is promised. Exit 1 where one has none.

A mutant never touches the disk: a child process imports the mutated source instead of the file.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import importlib.abc
import importlib.util
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
METHODS = ROOT / "src" / "raresight" / "strategies"
TESTS = ROOT / "tests"
REASONS = Path(__file__).with_name("mutants.yaml")
# No plugin that a test does not need, and no collecting of garbage twice a run: most of a child's time otherwise.
QUIET = ["-x", "-q", "-o", "addopts=", *(f"-pno:{name}" for name in ("cacheprovider", "unraisableexception"))]
SECONDS = 240  # a mutant whose tests run longer than this has made something endless, and is noticed
SWAPPED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
COMPARED = {
    ast.Lt: (ast.GtE, ast.LtE),
    ast.LtE: (ast.Gt, ast.Lt),
    ast.Gt: (ast.LtE, ast.GtE),
    ast.GtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
EXTREMES = {"amax": "amin", "amin": "amax", "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum"}
FACTS = ("mask", "known", "prior", "weight")  # what is dropped where it multiplies, divides, adds or subtracts


@dataclass(frozen=True)
class Mutant:
    """One change of one file: where it stands, what stood there, and what stands there now."""

    file: Path
    line: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> str:
        return f"{self.file.relative_to(METHODS)}: {self.before} -> {self.after}"


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Every mutant of one file, each differing from it in one place."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    places = [node for node in ast.walk(tree) if isinstance(node, ast.expr) and not getattr(node, "quiet", False)]
    silent = {id(inner) for node in ast.walk(tree) for spoken in _annotations(node) for inner in ast.walk(spoken)}
    seen = set()
    for number, node in enumerate(places):
        if id(node) in silent:
            continue
        for change in _changes(node):
            copied = copy.deepcopy(tree)
            target = [n for n in ast.walk(copied) if isinstance(n, ast.expr) and not getattr(n, "quiet", False)][number]
            source = ast.unparse(_Replace(target, change).visit(copied))
            if source not in seen:
                seen.add(source)
                yield Mutant(file, node.lineno, ast.unparse(node), ast.unparse(change), source)


def _annotations(node: ast.AST) -> list[ast.AST]:
    spoken = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    if isinstance(node, ast.JoinedStr | ast.Raise):  # words of a message
        spoken.append(node)
    return [item for item in spoken if item is not None]


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, change: ast.AST) -> None:
        self.target, self.change = target, change

    def visit(self, node: ast.AST) -> Any:
        return self.change if node is self.target else super().generic_visit(node)


def _changes(node: ast.expr) -> Iterator[ast.expr]:
    """What may stand in place of an expression."""
    if isinstance(node, ast.UnaryOp):
        # -1 as a literal is an index, an axis or a sentinel more often than a sign
        if not (isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)):
            yield node.operand
    elif isinstance(node, ast.BinOp):
        yield from _arithmetic(node)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in COMPARED.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _arithmetic(node: ast.BinOp) -> Iterator[ast.expr]:
    kind = type(node.op)
    if kind in SWAPPED:
        yield ast.BinOp(node.left, SWAPPED[kind](), node.right)
    if isinstance(node.op, ORDERED):
        yield ast.BinOp(node.right, node.op, node.left)
    if kind in SWAPPED or isinstance(node.op, ast.BitAnd):
        for kept, dropped in ((node.left, node.right), (node.right, node.left)):
            if any(fact in ast.unparse(dropped).lower() for fact in FACTS):
                yield ast.UnaryOp(ast.USub(), kept) if isinstance(node.op, ast.Sub) and kept is node.right else kept


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in EXTREMES and isinstance(node.func, ast.Attribute):
        yield ast.Call(ast.Attribute(node.func.value, EXTREMES[name], ast.Load()), node.args, node.keywords)
    if name in EXTREMES and isinstance(node.func, ast.Name):
        yield ast.Call(ast.Name(EXTREMES[name], ast.Load()), node.args, node.keywords)
    if name == "where" and len(node.args) == 3:
        condition, yes, no = node.args
        yield ast.Call(node.func, [condition, no, yes], node.keywords)
        if any(fact in ast.unparse(condition).lower() for fact in FACTS):
            yield yes
    if name == "lerp" and len(node.args) == 3:
        yield ast.Call(node.func, [node.args[1], node.args[0], node.args[2]], node.keywords)
    if name in ("masked_fill", "nan_to_num") and isinstance(node.func, ast.Attribute):
        yield node.func.value


# running


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Gives one module another source than its file."""

    def __init__(self, mutant: Mutant) -> None:
        parts = mutant.file.relative_to(ROOT / "src").with_suffix("").parts
        self.module, self.mutant = ".".join(parts), mutant

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, self) if name == self.module else None

    def get_filename(self, fullname: str) -> str:
        return str(self.mutant.file)

    def get_data(self, path: Any) -> bytes:
        return self.mutant.source.encode()

    def path_stats(self, path: Any) -> Any:
        raise OSError  # no cached bytecode


class _First:
    """A pytest plugin that remembers the first test that failed."""

    failed = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid} (import)"


def tests_of(file: Path) -> list[list[str]]:
    """The tests that speak of a method, those that answer soonest first."""
    unit = TESTS / "unit" / "strategies"
    named = sorted(path for path in unit.glob("test_*.py") if _speaks_of(path, file))
    own = [path for path in named if path.stem == f"test_{file.stem}"] or named[:1]
    others = [path for path in named if path not in own]
    name = next((line.split('"')[1] for line in file.read_text().splitlines() if "name: ClassVar[str] =" in line), "")
    stages = [[str(path) for path in own], [str(path) for path in others], [str(unit / "test_prior_shift.py")]]
    contracts = [str(TESTS / "contracts"), *(["-k", name] if name else [])]
    return [*(stage for stage in stages if stage), contracts]


def _speaks_of(test: Path, file: Path) -> bool:
    text = test.read_text(encoding="utf-8")
    module = ".".join(file.relative_to(METHODS).with_suffix("").parts)
    classes = [line.split()[1].split("(")[0] for line in file.read_text().splitlines() if line.startswith("class ")]
    imported = f"strategies.{module} import" in text
    return imported or test.stem == f"test_{file.stem}" or any(f"import {name}" in text for name in classes)


def run(mutant: Mutant, stages: list[list[str]]) -> str:
    """In this process: the first test that fails, or an empty string."""
    import pytest

    sys.meta_path.insert(0, _Mutated(mutant))
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    for stage in stages:
        first = _First()
        code = pytest.main([*QUIET, *stage], plugins=[first])
        if first.failed:
            return first.failed.removeprefix("tests/")
        if code not in (0, 5):  # 5: nothing collected
            return f"pytest ended with {code}"
    return ""


def each(mutants: list[Mutant], workers: int) -> Iterator[tuple[Mutant, str]]:
    """(mutant, what noticed it) in the order in which they end; children of one warm process."""
    waiting, running = list(reversed(mutants)), {}
    while waiting or running:
        while waiting and len(running) < workers:
            mutant = waiting.pop()
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(reading)
                signal.alarm(SECONDS)
                answer = run(mutant, tests_of(mutant.file))
                os.write(writing, answer.encode()[:4000] or b"-")
                os._exit(0)
            os.close(writing)
            running[reading] = (mutant, child)
        for reading in select.select(list(running), [], [])[0]:
            mutant, child = running.pop(reading)
            answer = os.read(reading, 4096).decode()
            os.close(reading)
            os.waitpid(child, 0)
            # A child that dies without a word ran into the alarm or crashed: the tests noticed.
            yield mutant, {"-": "", "": "ended without an answer"}.get(answer, answer)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="method files (all, by default)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    files = [path.resolve() for path in options.files] or [*sorted(METHODS.glob("*/*.py")), METHODS / "prior.py"]
    files = [path for path in files if path.name != "__init__.py"]
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.chdir(ROOT)
    import pytest  # noqa: F401  (imported once, before the children are born)
    import torch

    torch.set_num_threads(1)
    for warm in ("sklearn.neighbors", "imblearn.over_sampling", "timm", "pandas", "hypothesis"):
        importlib.import_module(warm)
    gc.freeze()
    began = time.monotonic()
    mutants = [mutant for file in files for mutant in mutants_of(file)]
    results: dict[Path, list[tuple[Mutant, str]]] = {file: [] for file in files}
    for number, (mutant, noticed) in enumerate(each(mutants, options.workers), 1):
        results[mutant.file].append((mutant, noticed))
        if not noticed:
            print(f"survives: line {mutant.line} of {mutant.key}", flush=True)
        if number % 25 == 0:
            print(f"{number} of {len(mutants)}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    reasons = yaml.safe_load(REASONS.read_text(encoding="utf-8")) if REASONS.exists() else {}
    if options.table:
        options.table.write_text(table(results, reasons or {}), encoding="utf-8")
    survivors = [mutant.key for of in results.values() for mutant, noticed in of if not noticed]
    unexplained = [key for key in survivors if key not in (reasons or {})]
    print(f"{len(mutants)} mutants, {len(mutants) - len(survivors)} noticed, {len(unexplained)} survive unexplained")
    return 1 if unexplained else 0


def table(results: dict[Path, list[tuple[Mutant, str]]], reasons: dict[str, str]) -> str:
    total = sum(map(len, results.values()))
    noticed = sum(bool(by) for of in results.values() for _, by in of)
    lines = [
        f"# Mechanical mutation of the methods, {date.today().isoformat()}",
        "",
        f"`make mutants`: {total} mutants in {len(results)} files, {noticed} noticed by a named test, "
        f"{total - noticed} survive, each with its reason below.",
        "",
        "| file | mutants | noticed | by (test that noticed most) |",
        "|---|---|---|---|",
    ]
    for file, of in results.items():
        by = [noticed.split("[")[0] for _, noticed in of if noticed]
        most = max(set(by), key=by.count) if by else "-"
        lines.append(f"| {file.relative_to(METHODS)} | {len(of)} | {len(by)} | {most} |")
    lines += ["", "## Survivors", "", "| file, line | change | reason |", "|---|---|---|"]
    for file, of in results.items():
        for mutant, by in sorted(of, key=lambda pair: pair[0].line):
            if not by:
                change = f"`{mutant.before}` -> `{mutant.after}`".replace("|", "\\|").replace("\n", " ")
                reason = reasons.get(mutant.key, "**none given**")
                lines.append(f"| {file.relative_to(METHODS)}, {mutant.line} | {change} | {reason} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
