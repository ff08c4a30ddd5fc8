"""The worked example of `docs/decisions.md`: its code is run, and every number on the page is what comes out."""

from __future__ import annotations

import doctest
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "decisions.md"


def test_the_code_of_the_guide_gives_its_numbers() -> None:
    text = GUIDE.read_text(encoding="utf-8").replace("```python\n", "").replace("```\n", "")
    example = doctest.DocTestParser().get_doctest(text, {}, "decisions.md", str(GUIDE), 0)
    told: list[str] = []
    runner = doctest.DocTestRunner()
    runner.run(example, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
    assert len(example.examples) > 15
