"""What arrives at a bundle: prepared as at training, or refused with a reason, one at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raresight.data.cache_row import Row, Sources, prepare
from raresight.data.incoming import Rules, bring_in, in_stretches, pictures_below

RULES = Rules(size=16, channels=3, dtype="uint8", smallest_side=16)


def noise(height: int = 24, width: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    good = noise()
    Image.fromarray(good).save(tmp_path / "good.png")
    Image.fromarray(good).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(good[:10, :10]).save(tmp_path / "small.png")
    Image.fromarray(np.full((24, 24, 3), 7, np.uint8)).save(tmp_path / "blank.png")
    Image.fromarray(good[..., 0].astype(np.uint16) * 200).save(tmp_path / "deep.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:400])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("small.png", "RS-B10"),
        ("blank.png", "RS-B11"),
        ("deep.png", "RS-I23"),
        ("cut.png", "RS-I21"),
        ("empty.png", "RS-I21"),
        ("page.jpg", "RS-I22"),
        ("none.png", "RS-I21"),
        ("notes.txt", "RS-I2"),
    ],
)
def test_each_reason_by_its_code(folder: Path, name: str, code: str) -> None:
    found = bring_in(name, Sources(folder), RULES)
    assert found.pixels is None and found.code.startswith(code) and found.reason


def test_pixels_are_those_of_training_and_conversions_are_named(folder: Path) -> None:
    row = prepare(
        Row("good.png", 0, 0), (folder / "good.png").read_bytes(), size=16, channels=3, dtype=np.dtype("uint8")
    )
    good, alpha = (bring_in(name, Sources(folder), RULES) for name in ("good.png", "alpha.png"))
    assert good.pixels is not None and np.array_equal(good.pixels, row.pixels) and good.converted == ""
    assert alpha.converted == "alpha"


def test_small_pictures_pass_where_training_had_such(folder: Path) -> None:
    """10 pixels where training had 10, though the network takes 16; a deep picture where training was deep."""
    assert bring_in("small.png", Sources(folder), Rules(16, 3, "uint8", 10)).pixels is not None
    assert bring_in("small.png", Sources(folder), Rules(16, 3, "uint8", 11)).pixels is None
    deep = bring_in("deep.png", Sources(folder), Rules(16, 1, "uint16", 16)).pixels
    assert deep is not None and deep.dtype == np.uint16 and deep.max() > 255


def test_an_array_member_may_be_blank_or_out_of_reach(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.stack([noise(16, 16), np.zeros((16, 16, 3), np.uint8)]))
    found = [bring_in(f"a.npz#x[{i}]", Sources(tmp_path), RULES).code for i in range(3)]
    assert found == ["", "RS-B11", "RS-I21"]


def test_order_is_kept_over_stretches_and_folders_are_searched(folder: Path) -> None:
    names = ["good.png", "cut.png"] * 70
    codes = [one.code for stretch in in_stretches(names, folder, RULES, threads=2) for one in stretch]
    assert codes == ["", "RS-I21"] * 70
    said: list[str] = []
    assert [path.name for path in pictures_below(folder, said.append)][:2] == ["alpha.png", "blank.png"]
    assert "no pictures by their names: 1" in said[0]
