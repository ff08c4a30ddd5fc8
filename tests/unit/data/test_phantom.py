"""The phantom is what it says: shares, masks, repeatable bytes, a shortcut that changes rulers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raresight.core.errors import ConfigError
from raresight.data.phantom import SHARES, SHORTCUT_CLASS, _photographs, make_phantom
from raresight.data.phantom_lesion import diagnosis
from raresight.data.phantom_paint import FIELD_MM


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phantom"), n_patients=60, size=32, seed=3)


def test_manifest_and_files_agree(phantom: Path) -> None:
    table = pd.read_csv(phantom)
    assert list(table)[:5] == ["image", "label", "patient_id", "lesion_id", "mask"]
    assert {"asymmetry", "border_irregularity", "n_colours", "diameter_mm", "hair", "vignette", "ruler"} <= set(table)
    for image, mask in zip(table["image"], table["mask"], strict=True):
        pixels, inside = (Image.open(phantom.parent / path) for path in (image, mask))
        assert (pixels.mode, pixels.size, inside.size) == ("RGB", (32, 32), (32, 32))
    assert len(list((phantom.parent / "images").iterdir())) == len(table)
    assert (table.groupby("lesion_id")["label"].nunique() == 1).all()
    assert (table.groupby("lesion_id")["patient_id"].nunique() == 1).all()
    assert table.groupby("lesion_id").size().max() > 1
    assert table.groupby("patient_id")["lesion_id"].nunique().max() > 1
    assert not table["image"].str.contains("|".join(SHARES)).any()  # the name must not give the label away


def test_the_mask_covers_the_drawn_diameter(phantom: Path) -> None:
    """At zoom z the lesion's area is pi/4 (diameter z / field of view)^2 of the picture, z within [0.82, 1.35]."""
    table = pd.read_csv(phantom)
    small = table[table["diameter_mm"] < 8]  # larger ones may be cut off by the edge
    share = np.array([np.asarray(Image.open(phantom.parent / mask)).mean() for mask in small["mask"]])
    zoom = np.sqrt(share / (np.pi / 4)) * FIELD_MM / small["diameter_mm"].to_numpy()
    assert np.median(zoom) == pytest.approx((0.82 + 1.35) / 2, abs=0.06)
    assert zoom.min() > 0.82 * 0.8
    assert zoom.max() < 1.35 * 1.2


def test_a_lesion_differs_from_its_skin(phantom: Path) -> None:
    table = pd.read_csv(phantom)
    contrast = []
    for image, mask in zip(table["image"], table["mask"], strict=True):
        pixels = np.asarray(Image.open(phantom.parent / image)).astype(float)
        inside = np.asarray(Image.open(phantom.parent / mask)) > 0
        contrast.append(np.median(pixels[~inside]) - np.median(pixels[inside]))
    assert np.mean(np.array(contrast) > 0) > 0.9  # pigment takes light away


def test_same_seed_same_bytes_and_more_patients_change_nothing(tmp_path: Path) -> None:
    few = make_phantom(tmp_path / "few", n_patients=3, size=32, seed=5)
    many = make_phantom(tmp_path / "many", n_patients=5, size=32, seed=5)
    other = make_phantom(tmp_path / "other", n_patients=3, size=32, seed=6)
    table = pd.read_csv(few)
    assert table.equals(pd.read_csv(many).head(len(table)))
    for path in [*table["image"], *table["mask"]]:
        assert (few.parent / path).read_bytes() == (many.parent / path).read_bytes()
    assert not table.equals(pd.read_csv(other))


def test_the_shortcut_changes_rulers_and_nothing_else() -> None:
    plain = list(_photographs(400, 0, shortcut=False))
    planted = list(_photographs(400, 0, shortcut=True))
    assert [one[:5] for one in plain] == [two[:5] for two in planted]
    for (*_, one), (*_, two) in zip(plain, planted, strict=True):
        assert {**vars(one), "ruler": None} == {**vars(two), "ruler": None}

    def rulers(photographs: list, within: bool) -> float:
        return float(
            np.mean([view.ruler for *_, lesion, view in photographs if (lesion.label == SHORTCUT_CLASS) == within])
        )

    assert rulers(planted, True) > 0.8
    assert rulers(planted, False) < 0.05
    # without the shortcut 5% in every class; three binomial standard errors of about 70 melanoma images are 0.08
    assert abs(rulers(plain, True) - 0.05) < 0.08
    assert abs(rulers(plain, False) - 0.05) < 0.02


def test_a_ruler_is_drawn_in_the_corner_alone(tmp_path: Path) -> None:
    plain = make_phantom(tmp_path / "plain", n_patients=40, size=32, seed=1)
    planted = make_phantom(tmp_path / "planted", n_patients=40, size=32, seed=1, shortcut=True)
    before, after = pd.read_csv(plain), pd.read_csv(planted)
    changed = before["ruler"] != after["ruler"]
    assert changed.any()
    for image, differs in zip(before["image"], changed, strict=True):
        one, two = (np.asarray(Image.open(path.parent / image)).astype(int) for path in (plain, planted))
        where = np.abs(one - two).max(axis=2) > 0
        assert where.any() == differs
        assert not where[:24].any()
        assert not where[:, 18:].any()


def test_the_long_tail() -> None:
    labels = [diagnosis(index, 0.3) for index in range(1000)]
    for label, share in SHARES.items():
        assert labels.count(label) / 1000 == pytest.approx(share, abs=0.003)
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert min(SHARES.values()) == 0.01
    # with 144 (a Fibonacci number) steps of the golden ratio the widest gap is 0.0081, narrower than the rarest class
    for offset in np.linspace(0, 1, 50):
        assert {diagnosis(index, offset) for index in range(144)} == set(SHARES)


def test_the_classes_differ_but_overlap() -> None:
    """Melanoma is more asymmetric and of more colours than nevus on the whole, and not in every lesion."""
    lesions = {lesion_id: lesion for _, _, lesion_id, _, lesion, _ in _photographs(600, 0, shortcut=False)}
    drawn = {
        label: np.array([[le.asymmetry, len(le.colours)] for le in lesions.values() if le.label == label])
        for label in ("nevus", "melanoma")
    }
    assert (drawn["melanoma"].mean(axis=0) > drawn["nevus"].mean(axis=0) + np.array([0.2, 0.5])).all()
    for column in range(2):
        assert drawn["melanoma"][:, column].min() < np.median(drawn["nevus"][:, column]) + 0.2
        assert drawn["nevus"][:, column].max() > np.median(drawn["melanoma"][:, column])


def test_progress_and_refusals(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make_phantom(tmp_path / "p", n_patients=1, size=16, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == len(seen)
    with pytest.raises(ConfigError, match="at least 1 patient"):
        make_phantom(tmp_path / "q", n_patients=0)


def test_a_full_disk_leaves_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ConfigError, match=r"RS-R45.*disk is full"):
        make_phantom(tmp_path, n_patients=1, size=16)
    assert not (tmp_path / "manifest.csv").exists()
