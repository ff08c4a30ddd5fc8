"""`advise` on the command line: arms shown and written, one's own kept; `run` asks for advice without arms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raresight.core.config import load_config
from raresight.data.phantom import make_phantom

from .conftest import TINY, Cli


@pytest.fixture
def study(tmp_path: Path, cli: Cli) -> Path:
    """A tiny study with comments of its own, as `init` wrote it."""
    source = make_phantom(tmp_path / "phantom", n_patients=120, size=32, seed=0)
    answer = cli("init", tmp_path / "study", source, "--from", "csv")
    assert answer.code == 0, answer.err
    path = tmp_path / "study" / "study.yaml"
    text = path.read_text(encoding="utf-8").replace("preset: none", "preset: dermoscopy")
    path.write_text(text, encoding="utf-8")
    return tmp_path / "study"


def written(study: Path) -> Any:
    return yaml.safe_load((study / "study.yaml").read_text(encoding="utf-8"))


def test_the_arms_are_written_and_everything_else_stays(study: Path, cli: Cli) -> None:
    before, text = written(study), (study / "study.yaml").read_text(encoding="utf-8")
    shown = cli("advise", study, "--no-write", "--json")
    assert shown.code == 0, shown.err
    assert (study / "study.yaml").read_text(encoding="utf-8") == text and not shown.json["written"]
    answer = cli("advise", study, "--label-noise", "none")
    assert answer.code == 0, answer.err
    assert "not to try" in answer.out and "evidence:" in answer.out
    after = written(study)
    assert {k: v for k, v in after.items() if k != "arms"} == {k: v for k, v in before.items() if k != "arms"}
    advice = {name: arm["strategies"] for name, arm in shown.json["arms"].items()}
    assert after["arms"] == advice and list(advice)[:2] == ["baseline", "threshold_moved"]
    load_config(study / "study.yaml")
    assert text[: text.index("\narms:")] in (study / "study.yaml").read_text(encoding="utf-8")
    assert cli("advise", study, "--label-noise", "much").code == 0, "its own arms may be replaced"


def test_arms_of_ones_own_are_kept_without_force(study: Path, cli: Cli) -> None:
    path = study / "study.yaml"
    config = written(study) | {"arms": {"baseline": [], "mine": [{"focal": {"gamma": 5}}]}}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    answer = cli("advise", study)
    assert answer.code == 2 and "mine" in answer.err and "--force" in answer.err
    assert written(study) == config
    assert cli("advise", study, "--no-write").code == 0
    assert cli("advise", study, "--force").code == 0 and "mine" not in written(study)["arms"]
    assert cli("advise", study, "--label-noise", "lots").code == 2


def test_run_takes_advice_where_the_arms_are_auto(study: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    path = study / "study.yaml"
    config = written(study) | TINY | {"arms": "auto", "seeds": [0]}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    assert load_config(path).arms == {}

    class ReachedError(Exception):
        pass

    def train(study: Any) -> None:
        seen.append([arm.name for arm in study.arms])
        raise ReachedError

    monkeypatch.setattr("raresight.verbs.run.train", train)
    from raresight import Study

    with pytest.raises(ReachedError):
        Study.open(study).run()
    assert seen[0][:2] == ["baseline", "threshold_moved"] and seen[0] == list(written(study)["arms"])


def test_the_ready_arms_are_listed(cli: Cli) -> None:
    rows = {row["name"]: row for row in cli("list", "arms", "--json").json["arms"]}
    assert rows["moderate_hybrid"]["strategies"] == ["heavy_augment", {"focal": {"gamma": 2}}]
    assert "hypothesis" in cli("list", "arms").out
