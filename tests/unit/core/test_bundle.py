"""A bundle is whole or it is refused; a killed freeze leaves what was there before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raresight.core.bundle import CALIBRATOR, FACTS, SEAL, THRESHOLDS, Bundle, frozen_before, seal
from raresight.core.errors import DataError, GateError
from raresight.core.files import read_json, sha256, write_json

FROZEN: dict[str, Any] = {
    "frozen": "2026-01-01T00:00:00+00:00",
    "inputs": "abc",
    "task": {"kind": "exclusive", "classes": ["ill", "well"], "critical": ["ill"]},
    "arm": {"name": "baseline"},
    "seeds": [0],
    "decision": {"unit": "lesion", "column": "lesion_id", "aggregate": "max"},
}


def fill(folder: Path) -> None:
    write_json(folder / CALIBRATOR, {"method": "none"})
    write_json(folder / THRESHOLDS, {"thresholds": {"ill": {"threshold": 0.2}, "well": {"threshold": None}}})


@pytest.fixture
def made(tmp_path: Path) -> Bundle:
    return seal(tmp_path / "bundle" / "baseline", FROZEN, fill)


def test_what_was_sealed_is_read_again(made: Bundle) -> None:
    again = Bundle.load(made.folder)
    assert again.sha256 == made.sha256 == sha256(made.folder / FACTS)
    assert (again.name, again.task.classes, again.task.critical) == ("baseline", ("ill", "well"), ("ill",))
    assert again.thresholds == {"ill": 0.2}  # a class without a threshold is left out, not put at 0
    assert again.unit_column == "lesion_id" and again.calibrator == {"method": "none"}
    assert set(again.facts["files"]) == {CALIBRATOR, THRESHOLDS}


@pytest.mark.parametrize("name", [CALIBRATOR, THRESHOLDS, FACTS])
def test_a_changed_byte_is_refused_by_the_files_name(made: Bundle, name: str) -> None:
    path = made.folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataError) as refused:
        Bundle.load(made.folder)
    assert [(p.code, Path(p.file).name) for p in refused.value.problems] == [("RS-B02", name)]


def test_every_missing_file_is_named(made: Bundle) -> None:
    (made.folder / CALIBRATOR).unlink()
    (made.folder / THRESHOLDS).unlink()
    with pytest.raises(DataError) as refused:
        Bundle.load(made.folder)
    assert [Path(p.file).name for p in refused.value.problems] == [CALIBRATOR, THRESHOLDS]
    assert all("is missing" in p.found for p in refused.value.problems)


def test_hashes_edited_to_match_still_break_the_seal(made: Bundle) -> None:
    write_json(made.folder / THRESHOLDS, {"thresholds": {"ill": {"threshold": 0.9}}})
    facts = read_json(made.folder / FACTS)
    facts["files"][THRESHOLDS] = sha256(made.folder / THRESHOLDS)
    write_json(made.folder / FACTS, facts)
    with pytest.raises(DataError, match="RS-B02"):
        Bundle.load(made.folder)


def test_no_bundle_a_newer_one_and_no_json(made: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="RS-B01"):
        Bundle.load(tmp_path)
    for text, code in ((json.dumps(dict(made.facts) | {"format": 99}), "RS-B03"), ("{", "RS-B01"), ("[]", "RS-B01")):
        (made.folder / FACTS).write_text(text)
        (made.folder / SEAL).write_text(sha256(made.folder / FACTS))
        with pytest.raises(DataError, match=code):
            Bundle.load(made.folder)


def test_a_killed_freeze_leaves_the_old_bundle_and_nothing_else(made: Bundle) -> None:
    def dies(folder: Path) -> None:
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seal(made.folder, FROZEN | {"inputs": "other"}, dies)
    assert Bundle.load(made.folder).sha256 == made.sha256
    assert [path.name for path in made.folder.parent.iterdir()] == ["baseline"]
    with pytest.raises(KeyboardInterrupt):
        seal(made.folder.parent / "new", FROZEN, dies)
    assert not (made.folder.parent / "new").exists()


def test_another_bundle_is_not_written_over_unasked(made: Bundle) -> None:
    assert frozen_before(made.folder, "abc", force=False) is not None
    with pytest.raises(GateError, match="RS-B05"):
        frozen_before(made.folder, "xyz", force=False)
    assert frozen_before(made.folder, "xyz", force=True) is None
    assert frozen_before(made.folder.parent / "none", "abc", force=False) is None
    other = seal(made.folder, FROZEN | {"inputs": "xyz"}, fill)
    assert other.sha256 != made.sha256 and Bundle.load(made.folder).facts["inputs"] == "xyz"
