"""Which files `mutants.py` changes, and which tests judge each.

A method is judged by the tests that speak of it, then by the contract of all methods. A file of `explain` is judged by
the modules of tests named after it; without any, by those that import from it, or those of its users. Whole looks,
which take minutes, judge what no other does.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from mutations import METHODS

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
UNIT = TESTS / "unit" / "strategies"
PRIORS, CONTRACTS = UNIT / "test_prior_shift.py", TESTS / "contracts"
EXPLAIN, LOOKS = ROOT / "src" / "raresight" / "explain", TESTS / "unit" / "explain"
WHOLE = tuple(
    f"test_{name}" for name in ("look", "look_joins", "no_pictures", "shortcut", "two_layers", "unlike_networks")
)


def files_of(room: str) -> list[Path]:
    files = EXPLAIN.glob("*.py") if room == "explain" else METHODS.glob("*/*.py")
    found = [path for path in sorted(files) if path.name != "__init__.py"]
    return found if room == "explain" else [*found, METHODS / "prior.py"]


@functools.cache
def tests_of(file: Path) -> list[Path]:
    """The files of tests that speak of a file, its own first; for shared code also those of its users."""
    if file.parent == EXPLAIN:
        return _tests_of_explain(file)
    named = sorted(path for path in UNIT.glob("test_*.py") if _speaks_of(path, file))
    named.sort(key=lambda path: path.stem != f"test_{file.stem}")
    if not _name_in(file):
        named += [test for user in _users(file) for test in tests_of(user)]
    return list(dict.fromkeys(named))


def promises_of(file: Path) -> list[Path]:
    """The files of tests of what every method promises; none for a file that holds no method."""
    return [] if file.parent == EXPLAIN else [PRIORS, *sorted(CONTRACTS.glob("*.py"))]


# explain


def _tests_of_explain(file: Path) -> list[Path]:
    named = sorted(LOOKS.glob(f"test_{file.stem}.py")) + sorted(LOOKS.glob(f"test_{file.stem}_*.py"))
    if not named:
        named = [path for path in sorted(LOOKS.glob("test_*.py")) if file.stem in _imported(path)]
    if not named:
        users = [user for user in files_of("explain") if user != file and file.stem in _imported(user)]
        named = list(dict.fromkeys(test for user in users for test in tests_of(user)))
    return [path for path in named if path.stem not in WHOLE] or named


@functools.cache
def _imported(path: Path) -> set[str]:
    """The files of `explain` that a file imports from."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "raresight.explain":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("raresight.explain."):
            found.add(str(node.module).split(".")[2])
    return found


# methods


def _speaks_of(test: Path, file: Path) -> bool:
    text = test.read_text(encoding="utf-8")
    classes = [line.split()[1].split("(")[0] for line in file.read_text().splitlines() if line.startswith("class ")]
    named = test.stem == f"test_{file.stem}" or any(f"import {name}" in text for name in classes)
    return named or _imports(test, file)


def _imports(path: Path, file: Path) -> bool:
    text, parts = path.read_text(encoding="utf-8"), file.relative_to(METHODS).with_suffix("").parts
    above = "".join(f".{part}" for part in parts[:-1])
    return f"strategies.{'.'.join(parts)} import" in text or f"strategies{above} import {parts[-1]}" in text


@functools.cache
def _users(file: Path) -> list[Path]:
    """Methods that import from a file, those of its own place first."""
    users = [path for path in sorted(METHODS.glob("*/*.py")) if path != file and _imports(path, file)]
    return sorted(users, key=lambda path: path.parent != file.parent)


def _name_in(file: Path) -> str:
    """The name of a file's method; empty where it holds none."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if "name: ClassVar[str] =" in line]
    return lines[0].split('"')[1] if lines else ""


@functools.cache
def method_of(file: Path) -> str:
    """The name of a file's method; of shared code, the first method that uses it."""
    if file.parent == EXPLAIN:
        return ""
    return _name_in(file) or next((name for user in _users(file) if (name := method_of(user))), "")
