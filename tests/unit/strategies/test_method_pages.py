"""The pages of docs/methods say what the docstrings say, and every method says when it helps and when it hurts."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from raresight.strategies import ALL, Strategy
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_method_pages", ROOT / "docs/make_method_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_pages_are_those_of_the_docstrings(maker: ModuleType) -> None:
    expected = maker.pages()
    found = {path.name: path.read_text(encoding="utf-8") for path in maker.OUT.glob("*.md")}
    assert sorted(found) == sorted(expected), "run `make docs`"
    stale = [name for name, text in expected.items() if found[name] != text]
    assert not stale, "run `make docs`"


def test_the_table_names_every_method_once(maker: ModuleType) -> None:
    table = maker.pages()["README.md"]
    for method in ALL:
        assert table.count(f"]({method.name}.md)") == 1


@pytest.mark.parametrize("paragraph", ["Helps", "Hurts", "Evidence", "Equation", "Absent class", "Source"])
def test_a_method_without_the_paragraph_has_no_page(maker: ModuleType, paragraph: str) -> None:
    class Bare(Strategy):
        name = "bare"
        place = "losses"
        source = "a test"

    lines = [f"{heading}: something." for heading in maker.NEEDED]
    Bare.__doc__ = "\n".join(["Do nothing.", "", *lines, "", ">>> 1", "1"])
    assert "## When it hurts\n\nSomething." in maker.page(Bare)
    Bare.__doc__ = "\n".join(["Do nothing.", "", *(line for line in lines if not line.startswith(paragraph))])
    with pytest.raises(ValueError, match=f"bare: its docstring lacks {paragraph}"):
        maker.page(Bare)


def test_the_implied_prior_is_asked_of_the_method(maker: ModuleType) -> None:
    methods = {method.name: method for method in ALL}
    assert "implies none" in maker.page(methods["augment"])
    assert "by a known amount" in maker.page(methods["balanced_softmax"])
    assert "no formula gives" in maker.page(methods["focal"])


def test_the_readme_counts_right() -> None:
    assert f"**{len(ALL)} methods**" in (ROOT / "README.md").read_text(encoding="utf-8")
