"""A report without pictures of patients: written over one with them, nothing of them is left."""

from __future__ import annotations

from pathlib import Path

from test_look import net, probe_of

import raresight


def test_nothing_of_the_pictures_is_left(tmp_path: Path) -> None:
    looked = raresight.look(arms={"plain": [net(0)]}, probe=probe_of(12)).run(["alignment"])

    def pictured() -> set[str]:
        drawn = {path.name for path in tmp_path.rglob("*.[sh][vt]*") if "<image" in path.read_text(encoding="utf-8")}
        return drawn | {path.name for path in tmp_path.rglob("*.npz")}

    assert looked.report(tmp_path)["pictures"] is True
    assert pictured() == {"look.html", "F2_cases_even.svg", "F2_cases_odd.svg", "cases.npz"}
    found = looked.report(tmp_path, pictures=False)
    assert found["pictures"] is False and found["cases"] and not pictured()
    page = (tmp_path / "look.html").read_text(encoding="utf-8")
    assert "without pictures of patients" in page and "holds pictures" not in page
