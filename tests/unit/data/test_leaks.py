"""The leak proof: identical and nearly identical pictures across a cut, and only those."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from raresight.core.folds import Folds
from raresight.core.manifest import Manifest
from raresight.data import near_duplicates as near
from raresight.data.leaks import leaks


def study(parts: str, patients: str | None = None, fold: list[int] | None = None) -> tuple[Manifest, Folds]:
    """One letter a case: t(rain), v(al), e (test)."""
    cases = [f"c{i}" for i in range(len(parts))]
    names = {"t": "train", "v": "val", "e": "test"}
    manifest = Manifest(pd.DataFrame({"case": cases, "patient_id": list(patients or map(str, range(len(parts))))}))
    table = {"case": cases, "unit": manifest.column("patient_id"), "part": [names[p] for p in parts]}
    return manifest, Folds(pd.DataFrame(table | {"fold": fold or [-1] * len(parts)}))


def facts(hashes: list[int | None], pixels: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(len(hashes))],
            "pixel_hash": pixels or [f"p{i}" for i in range(len(hashes))],
            "dhash": ["" if h is None else f"{h:016x}" for h in hashes],
        }
    )


def test_four_bits_apart_is_near_and_five_is_not() -> None:
    manifest, folds = study("ttee")
    report = leaks(manifest, folds, facts([0, 0xFFFF << 40, 0b1111, 0b11111]), group_by="patient_id")
    assert report["near_duplicate_pairs"] == [
        {"case_a": "c2", "case_b": "c0", "part_a": "test", "part_b": "train", "distance": 4, "correlation": None}
    ]
    assert report["n_compared"] == 4
    assert report["verified"] is False
    assert "not verified" in report["method"]
    assert report["problems"] == []  # a mere candidate is not worth a warning


def test_pairs_within_a_part_are_no_leak() -> None:
    manifest, folds = study("ttt")
    assert leaks(manifest, folds, facts([7, 7, 7]), group_by="patient_id")["near_duplicate_pairs"] == []


def test_folds_are_places_of_their_own() -> None:
    manifest, folds = study("ttt", fold=[0, 0, 1])
    report = leaks(manifest, folds, facts([7, 7, 7]), group_by="patient_id")
    assert {(p["part_a"], p["part_b"]) for p in report["near_duplicate_pairs"]} == {("fold-0", "fold-1")}
    assert report["n_near_duplicate_pairs"] == 2


def test_thumbnails_verify() -> None:
    """c0 and c1 are one picture with a little noise; c2 has the same hash and other pixels."""
    rng = np.random.default_rng(0)
    picture, other = rng.normal(size=(2, 16, 16))
    thumbnails = np.stack([picture, 2 * picture + 3 + 0.05 * other, other])
    manifest, folds = study("tee")
    report = leaks(manifest, folds, facts([5, 5, 5]), group_by="patient_id", thumbnails=thumbnails)
    (pair,) = report["near_duplicate_pairs"]
    assert {pair["case_a"], pair["case_b"]} == {"c0", "c1"}
    expected = np.corrcoef(thumbnails[0].ravel(), thumbnails[1].ravel())[0, 1]
    assert pair["correlation"] == pytest.approx(expected, abs=5e-5)
    assert [p["code"] for p in report["problems"]] == ["RS-M07"]
    assert "reported, not joined" in report["method"]
    json.dumps(report, allow_nan=False)


def test_constant_pictures_match_only_their_like() -> None:
    thumbnails = np.stack([np.full((16, 16), v) for v in (0.0, 0.0, 9.0)])
    manifest, folds = study("tev")
    report = leaks(manifest, folds, facts([0, 0, 0]), group_by="patient_id", thumbnails=thumbnails)
    assert [{p["case_a"], p["case_b"]} for p in report["near_duplicate_pairs"]] == [{"c0", "c1"}]


def test_identical_pixels_are_listed_apart_from_near_ones() -> None:
    manifest, folds = study("teett", "01234")
    report = leaks(manifest, folds, facts([1, 1, 1, 9, 9], ["x", "x", "y", "z", "z"]), group_by="patient_id")
    assert report["identical_pairs_across"] == [{"case_a": "c0", "case_b": "c1", "part_a": "train", "part_b": "test"}]
    assert {(p["case_a"], p["case_b"]) for p in report["near_duplicate_pairs"] if p["distance"] == 0} == {("c2", "c0")}
    assert report["identical_sets_within"] == 1  # c3 and c4: one picture, two patients, one part
    assert [p["code"] for p in report["problems"]] == ["RS-M06"]


def test_one_patient_twice_with_one_picture_is_no_wrong_id() -> None:
    manifest, folds = study("tt", "11")
    assert leaks(manifest, folds, facts([1, 1], ["x", "x"]), group_by="patient_id")["identical_sets_within"] == 0


def test_shared_patients_are_counted_and_named() -> None:
    manifest, folds = study("teev", "1123")
    report = leaks(manifest, folds, None, group_by="patient_id")
    assert report["patients_shared"] == 1
    assert report["patients"] == [{"column": "patient_id", "id": "1", "parts": ["test", "train"]}]
    assert "ids only" in report["method"]
    assert report["n_compared"] == 0


def test_unread_pictures_are_left_out() -> None:
    manifest, folds = study("te")
    report = leaks(manifest, folds, facts([None, 3]), group_by="patient_id")
    assert (report["n_compared"], report["near_duplicate_pairs"]) == (1, [])
    nothing_read = leaks(manifest, folds, facts([]), group_by="patient_id")
    assert (nothing_read["n_compared"], nothing_read["near_duplicate_pairs"]) == (0, [])


def test_every_pair_is_found_and_no_other() -> None:
    """Against all pairs by Python's own bit count, with few enough distinct hashes for ties."""
    rng = np.random.default_rng(1)
    hashes = [int(h) for h in rng.integers(0, 1 << 9, 150)]
    place = rng.choice(np.array(["test", "train", "val"], dtype=object), 150)
    pixels = np.array([f"p{i // 2}" for i in range(150)], dtype=object)
    found = near.near_duplicates(np.array([f"{h:016x}" for h in hashes], dtype=object), pixels, place)
    expected = {
        (frozenset((i, j)), (hashes[i] ^ hashes[j]).bit_count())
        for i in range(150)
        for j in range(i)
        if place[i] != place[j] and pixels[i] != pixels[j] and (hashes[i] ^ hashes[j]).bit_count() <= 4
    }
    pairs = [(frozenset((int(a), int(b))), int(d)) for a, b, d in zip(found.a, found.b, found.distance, strict=True)]
    assert len(pairs) == len(set(pairs)) > 1000
    assert set(pairs) == expected


def test_limits_are_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    dhash = np.array([f"{h:016x}" for h in (1, 1, 3, 3)], dtype=object)
    place = np.array(["test", "train", "test", "train"], dtype=object)
    pixels = np.array(list("abcd"), dtype=object)
    monkeypatch.setattr(near, "MOST_COMPARISONS", 3)
    few = near.near_duplicates(dhash, pixels, place)
    assert set(few.distance) == {0}
    assert "equal hashes only" in few.method
    monkeypatch.setattr(near, "MOST_CANDIDATES", 1)
    stopped = near.near_duplicates(dhash, pixels, place)
    assert len(stopped.a) == 1
    assert "stopped at 1 candidates" in stopped.method


def test_seven_thousand_pictures_are_all_compared() -> None:
    rng = np.random.default_rng(2)
    n = 7508
    manifest, folds = study("".join(rng.choice(list("ttttttteev"), n)))
    hashes = [int(h) for h in rng.integers(0, 1 << 63, n)]
    report = leaks(manifest, folds, facts(hashes), group_by="patient_id", thumbnails=rng.random((n, 16, 16)))
    assert report["n_compared"] == n
