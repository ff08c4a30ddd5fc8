"""The cache decodes once, rebuilds what changed, notices damage, survives a kill and never invents a picture."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raresight.core.errors import ConfigError, DataError
from raresight.core.manifest import Manifest
from raresight.data import cache as cache_module
from raresight.data import cache_row, cache_store
from raresight.data.cache import build_cache, open_cache
from raresight.data.cache_row import dhash
from raresight.data.transforms import decode, resize

N = 12


def picture(seed: int, height: int = 20, width: int = 26) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def manifest_of(images: list[str]) -> Manifest:
    return Manifest(pd.DataFrame({"case": [f"c{place}" for place in range(len(images))], "image": images}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for seed in range(N):
        Image.fromarray(picture(seed)).save(tmp_path / "images" / f"{seed}.png")
    return tmp_path


@pytest.fixture
def manifest() -> Manifest:
    return manifest_of([f"images/{seed}.png" for seed in range(N)])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Images that are decoded from here on, by name."""
    names: list[str] = []
    real = cache_module.prepare

    def counting(row, content, **settings):  # type: ignore[no-untyped-def]
        names.append(row.image)
        return real(row, content, **settings)

    monkeypatch.setattr(cache_module, "prepare", counting)
    return names


def pixels_file(folder: Path) -> Path:
    (found,) = folder.glob("*/pixels-*.npy")
    return found


def test_rows_are_the_resized_pictures_in_order(root: Path, manifest: Manifest) -> None:
    cache = build_cache(manifest, root, root / "cache", size=16, channels=3)
    assert isinstance(cache.pixels, np.memmap)
    assert (cache.pixels.shape, cache.pixels.dtype) == ((N, 16, 16, 3), np.uint8)
    assert cache.cases.tolist() == list(manifest.cases)
    for seed in range(N):
        assert np.array_equal(cache.pixels[seed], resize(picture(seed), 16))
    assert cache.rows(["c3", "c0", "c3"]).tolist() == [3, 0, 3]
    assert list(cache.facts) == ["case", "file_sha256", "pixel_hash", "dhash", "width", "height"]
    assert set(zip(cache.facts["width"], cache.facts["height"], strict=True)) == {(26, 20)}
    assert cache.problems == []
    # the array is a plain .npy, readable without us
    assert np.array_equal(np.load(pixels_file(root / "cache")), cache.pixels)
    with pytest.raises(ValueError, match="read-only"):
        cache.pixels[0] = 0


def test_nothing_changed_means_nothing_written(root: Path, manifest: Manifest, decoded: list[str]) -> None:
    first = build_cache(manifest, root, root / "cache", size=16, channels=3)
    before = {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*.*")}
    decoded.clear()
    again = build_cache(manifest, root, root / "cache", size=16, channels=3)
    assert decoded == []
    assert {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*.*")} == before
    assert again.facts.equals(first.facts)


def test_a_changed_image_alone_is_decoded_again(root: Path, manifest: Manifest, decoded: list[str]) -> None:
    build_cache(manifest, root, root / "cache", size=16, channels=3)
    decoded.clear()
    Image.fromarray(picture(99)).save(root / "images" / "5.png")
    os.utime(root / "images" / "7.png", ns=(1, 1))  # touched, the same bytes: known again by its hash
    cache = build_cache(manifest, root, root / "cache", size=16, channels=3)
    assert decoded == ["images/5.png"]
    assert np.array_equal(cache.pixels[5], resize(picture(99), 16))
    assert np.array_equal(cache.pixels[7], resize(picture(7), 16))
    assert len(list((root / "cache").glob("*/pixels-*.npy"))) == 1  # the old one is gone


def test_another_manifest_reuses_what_it_shares(root: Path, manifest: Manifest, decoded: list[str]) -> None:
    build_cache(manifest, root, root / "cache", size=16, channels=3)
    decoded.clear()
    Image.fromarray(picture(50)).save(root / "images" / "new.png")
    shutil.move(root / "images" / "2.png", root / "images" / "moved.png")
    images = ["images/new.png", "images/9.png", "images/moved.png", "images/0.png", "images/0.png"]
    cache = build_cache(manifest_of(images), root, root / "cache", size=16, channels=3)
    assert decoded == ["images/new.png"]
    for row, seed in enumerate((50, 9, 2, 0, 0)):
        assert np.array_equal(cache.pixels[row], resize(picture(seed), 16))


def test_settings_have_caches_of_their_own(root: Path, manifest: Manifest, decoded: list[str]) -> None:
    build_cache(manifest, root, root / "cache", size=16, channels=3)
    grey = build_cache(manifest, root, root / "cache", size=8, channels=1)
    assert grey.pixels.shape == (N, 8, 8, 1)
    decoded.clear()
    assert build_cache(manifest, root, root / "cache", size=16, channels=3).pixels.shape == (N, 16, 16, 3)
    assert decoded == []
    assert open_cache(root / "cache").pixels.shape == (N, 16, 16, 3)  # the one that was built last


def test_16_bit_sources_give_a_16_bit_cache(root: Path) -> None:
    deep = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    Image.fromarray(deep).save(root / "images" / "deep.png")
    Image.fromarray(np.full((8, 8), 255, dtype=np.uint8)).save(root / "images" / "white.png")
    cache = build_cache(manifest_of(["images/deep.png", "images/white.png"]), root, root / "c", size=8, channels=1)
    assert cache.pixels.dtype == np.uint16
    assert np.array_equal(cache.pixels[0, ..., 0], deep)
    assert np.unique(cache.pixels[1]).tolist() == [65535]  # 8-bit white stays white


def test_bad_images_are_quarantined_by_row_and_never_black(root: Path, decoded: list[str]) -> None:
    (root / "images" / "empty.png").write_bytes(b"")
    (root / "images" / "page.jpg").write_bytes(b"<html>not found</html>")
    (root / "images" / "cut.png").write_bytes((root / "images" / "1.png").read_bytes()[:900])
    images = [
        "images/0.png",
        "images/empty.png",
        "images/page.jpg",
        "images/cut.png",
        "images/none.png",
        "images/1.png",
    ]
    for _ in range(2):  # built, then opened again
        cache = build_cache(manifest_of(images), root, root / "cache", size=16, channels=3)
        assert cache.cases.tolist() == ["c0", "c5"]
        assert cache.pixels.min(axis=(1, 2, 3)).shape == (2,)
        assert np.array_equal(cache.pixels[1], resize(picture(1), 16))
        assert [(p.code, p.level, p.row, p.file) for p in cache.problems] == [
            ("RS-I21", "quarantine", 3, "images/empty.png"),
            ("RS-I22", "quarantine", 4, "images/page.jpg"),
            ("RS-I21", "quarantine", 5, "images/cut.png"),
            ("RS-I21", "quarantine", 6, "images/none.png"),
        ]
    assert "c1" not in cache
    with pytest.raises(DataError, match="1 cases have no picture in the cache: c1"):
        cache.rows(["c0", "c1"])
    decoded.clear()
    Image.fromarray(picture(40)).save(root / "images" / "empty.png")  # mended
    cache = build_cache(manifest_of(images), root, root / "cache", size=16, channels=3)
    assert decoded == ["images/empty.png"]
    assert cache.cases.tolist() == ["c0", "c1", "c5"]


def test_conversions_are_counted(root: Path) -> None:
    for place in range(3):
        Image.new("RGBA", (8, 8), (9, 9, 9, 100)).save(root / "images" / f"a{place}.png")
    images = ["images/0.png", *(f"images/a{place}.png" for place in range(3))]
    (problem,) = build_cache(manifest_of(images), root, root / "cache", size=8, channels=3).problems
    assert (problem.code, problem.level, problem.row) == ("RS-I24", "warning", 3)
    assert problem.found.startswith("alpha: 3 images")


def test_a_cache_of_nothing_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"RS-I21 images/x\.png, row 2"):
        build_cache(manifest_of(["images/x.png"]), root, root / "cache", size=8, channels=3)
    with pytest.raises(ConfigError, match="no readable image cache"):
        open_cache(root / "cache")


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_damage_is_noticed_and_only_the_bad_rows_are_rebuilt(
    root: Path, manifest: Manifest, decoded: list[str], damage: str
) -> None:
    good = np.array(build_cache(manifest, root, root / "cache", size=16, channels=3).pixels)
    path, row_bytes = pixels_file(root / "cache"), 16 * 16 * 3
    start = path.stat().st_size - N * row_bytes
    with path.open("rb+") as stream:
        if damage == "flip":
            stream.seek(start + 4 * row_bytes + 100)
            value = stream.read(1)[0]
            stream.seek(-1, os.SEEK_CUR)
            stream.write(bytes([value ^ 1]))  # one bit of row 4
        else:
            stream.truncate(start + (N - 2) * row_bytes + 5)  # rows 10 and 11 are not whole
    with pytest.raises(DataError, match=r"RS-I21.*rows of the image cache"):
        open_cache(root / "cache")
    decoded.clear()
    cache = build_cache(manifest, root, root / "cache", size=16, channels=3)
    assert sorted(decoded) == (["images/4.png"] if damage == "flip" else ["images/10.png", "images/11.png"])
    assert np.array_equal(cache.pixels, good)


@pytest.mark.parametrize("name", ["index.json", "rows-1.parquet", "pixels-1.npy"])
def test_a_ruined_file_of_the_cache_means_a_new_build(root: Path, manifest: Manifest, name: str) -> None:
    good = np.array(build_cache(manifest, root, root / "cache", size=16, channels=3).pixels)
    (found,) = (root / "cache").glob(f"*/{name}")
    found.write_bytes(b"ruined")
    assert np.array_equal(build_cache(manifest, root, root / "cache", size=16, channels=3).pixels, good)


def test_an_interrupted_build_is_taken_up_where_it_stopped(
    root: Path, manifest: Manifest, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_STRETCH", 3)

    def stop(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(manifest, root, root / "cache", size=16, channels=3, progress=stop)
    assert not list((root / "cache").glob("*/index.json"))
    (journal,) = (root / "cache").glob("*/partial.jsonl")
    with journal.open("a") as stream:
        stream.write('{"row": 6, "image": "images/6.p')  # a line that the kill cut in half
    (pixels,) = (root / "cache").glob("*/partial.npy")
    with pixels.open("ab") as stream:
        stream.write(b"half a row")
    decoded.clear()
    counts: list[tuple[int, int]] = []
    cache = build_cache(
        manifest, root, root / "cache", size=16, channels=3, progress=lambda done, total: counts.append((done, total))
    )
    assert sorted(decoded) == sorted(f"images/{seed}.png" for seed in range(6, N))
    assert counts == [(6, N), (9, N), (12, N)]
    for seed in range(N):
        assert np.array_equal(cache.pixels[seed], resize(picture(seed), 16))
    assert not list((root / "cache").glob("*/partial*"))


def test_killed_builds_end_in_the_same_cache(tmp_path: Path) -> None:
    """SIGKILL at several moments, then a build that is left alone: the same bytes as one that was never killed."""
    (tmp_path / "images").mkdir()
    images = [f"images/{seed}.png" for seed in range(60)]
    for seed, image in enumerate(images):
        Image.fromarray(picture(seed, 60, 60)).save(tmp_path / image)
    manifest = manifest_of(images)
    manifest.save(tmp_path / "manifest.csv")
    program = (
        "import sys; from pathlib import Path; from raresight.core.manifest import Manifest\n"
        "from raresight.data import cache\n"
        "cache._STRETCH = 2; root = Path(sys.argv[1]); \n"
        "cache.build_cache(Manifest.load(root / 'manifest.csv'), root, root / 'cache', size=32, channels=3,\n"
        "                  threads=1, progress=lambda done, total: print(done, flush=True))\n"
    )
    reached = []
    for stretches in (3, 7, 5):
        child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(stretches):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        journals = (tmp_path / "cache").glob("*/partial.jsonl")
        reached.append(sum(path.read_bytes().count(b"\n") for path in journals))
    assert 0 < reached[0] < reached[1] < reached[2] <= len(images)  # no kill lost what an earlier one had left
    killed = build_cache(manifest, tmp_path, tmp_path / "cache", size=32, channels=3)
    whole = build_cache(manifest, tmp_path, tmp_path / "whole", size=32, channels=3)
    assert np.array_equal(killed.pixels, whole.pixels)
    assert killed.facts.equals(whole.facts)


def test_a_full_disk_is_said_and_the_old_cache_stands(
    root: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_cache(manifest, root, root / "cache", size=16, channels=3)
    before = {path.name for path in (root / "cache").rglob("*.*")}
    good = np.array(open_cache(root / "cache").pixels)
    Image.fromarray(picture(99)).save(root / "images" / "5.png")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache_store.Partial, "append", full)
        with pytest.raises(ConfigError, match=r"RS-R45.*disk is full") as caught:
            build_cache(manifest, root, root / "cache", size=16, channels=3)
        assert "free some space" in caught.value.problems[0].remedy
    with monkeypatch.context() as patch:  # and where there is too little room, before a picture is decoded
        patch.setattr(cache_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
        with pytest.raises(ConfigError, match="RS-R45"):
            build_cache(manifest, root, root / "cache", size=16, channels=3)
    assert {path.name for path in (root / "cache").rglob("*.*")} == before
    assert np.array_equal(open_cache(root / "cache").pixels, good)


def test_members_of_an_array_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"train_images": np.stack([picture(s) for s in range(4)]), "val_images": np.stack([picture(9)[..., 0]])}
    np.savez(root / "set.npz", **arrays)
    loads: list[object] = []
    real = cache_row.array_of
    monkeypatch.setattr(cache_row, "array_of", lambda *args: loads.append(args[1]) or real(*args))
    images = ["set.npz#train_images[2]", "set.npz#train_images[0]", "set.npz#train_images[7]"]
    images += ["set.npz#val_images[0]", "set.npz#none[0]"]
    cache = build_cache(manifest_of(images), root, root / "cache", size=16, channels=3)
    assert cache.cases.tolist() == ["c0", "c1", "c3"]
    assert np.array_equal(cache.pixels[0], resize(picture(2), 16))
    assert np.array_equal(cache.pixels[1], resize(picture(0), 16))
    assert np.array_equal(cache.pixels[2, ..., 1], resize(picture(9)[..., :1], 16)[..., 0])
    assert [(p.code, p.row) for p in cache.problems] == [("RS-I21", 4), ("RS-I21", 6)]
    assert sorted(loads) == ["none", "train_images", "val_images"]  # the reading threads share one
    # the same picture as a file has the same pixel hash
    as_file = build_cache(manifest_of(["images/2.png"]), root, root / "other", size=16, channels=3)
    assert as_file.facts["pixel_hash"][0] == cache.facts["pixel_hash"][0]


def test_a_full_disk_while_an_array_is_unpacked_is_no_fault_of_the_pictures(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(root / "set.npz", images=np.stack([picture(s) for s in range(4)]))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_row, "array_of", full)
    with pytest.raises(ConfigError, match=r"RS-R45.*disk is full"):
        build_cache(manifest_of(["set.npz#images[0]"]), root, root / "cache", size=16, channels=3)


def test_pixel_hash_sees_through_the_container(root: Path) -> None:
    """Equal where the network would see the same: another format, or a difference that the resize takes away."""
    Image.fromarray(picture(0)).save(root / "images" / "0.tif")
    almost, other = picture(0), picture(0)
    almost[3, 3, 0] ^= 1
    other[3, 3, 0] ^= 128
    Image.fromarray(almost).save(root / "images" / "almost.png")
    Image.fromarray(other).save(root / "images" / "other.png")
    Image.fromarray(np.pad(picture(0), ((0, 0), (4, 4), (0, 0)))).save(root / "images" / "wider.png")
    images = ["images/0.png", "images/0.tif", "images/almost.png", "images/other.png", "images/wider.png"]
    cache = build_cache(manifest_of(images), root, root / "cache", size=8, channels=3)
    facts = cache.facts
    assert facts["file_sha256"].nunique() == 5
    assert facts["pixel_hash"][0] == facts["pixel_hash"][1] == facts["pixel_hash"][2]
    assert len(facts["pixel_hash"][0]) == 32
    assert facts["pixel_hash"].nunique() == 3  # other pixels, and another size of the picture
    assert np.array_equal(cache.pixels[0], cache.pixels[2])
    assert not np.array_equal(cache.pixels[0], cache.pixels[3])
    assert facts["dhash"][0] == facts["dhash"][2]


def test_pictures_that_show_nothing_are_no_copies_of_each_other(root: Path) -> None:
    """Empty slices of two patients must not weld them together; a copy of one file under two names still must.

    1% of 255 is 2.55: a range of 2 shows nothing, a range of 3 does.
    """
    for level in (0, 2, 3):
        almost = np.zeros((16, 16, 3), dtype=np.uint8)
        almost[0, 0] = level
        Image.fromarray(almost).save(root / "images" / f"{level}.png")
        Image.fromarray(almost).save(root / "images" / f"{level}.tif")
        shutil.copy(root / "images" / f"{level}.png", root / "images" / f"{level}-copy.png")
    names = [f"images/{level}{end}" for level in (0, 2, 3) for end in (".png", "-copy.png", ".tif")]
    cache = build_cache(manifest_of(names), root, root / "cache", size=16, channels=3)
    codes = pd.factorize(cache.facts["pixel_hash"])[0].reshape(3, 3)
    assert codes.tolist() == [[0, 0, 1], [2, 2, 3], [4, 4, 4]]


def test_dhash_of_a_ramp() -> None:
    """Getting darker to the right sets every bit (left > right), getting brighter none."""
    ramp = np.repeat(np.linspace(0, 255, 90).astype(np.uint8)[None, :], 40, axis=0)[..., None]
    assert dhash(ramp) == "0" * 16
    assert dhash(ramp[:, ::-1]) == "f" * 16
    assert dhash(np.ascontiguousarray(ramp[:, ::-1]).astype(np.uint16) * 257) == "f" * 16


def test_settings_are_on_record(root: Path, manifest: Manifest) -> None:
    build_cache(manifest, root, root / "cache", size=16, channels=3)
    assert json.loads((root / "cache" / "current.json").read_text())["settings"] == {
        "format": 3,
        "size": 16,
        "channels": 3,
        "dtype": "uint8",
    }


def test_real_images_give_the_known_duplicate(data_root: Path, tmp_path: Path) -> None:
    """The data set's own notes: ISIC_0029861 and ISIC_0024366 are pixel-identical; every file is 200 x 150."""
    names = ["ISIC_0024306", "ISIC_0024366", "ISIC_0029861"]
    manifest = manifest_of([f"images/{name}.jpg" for name in names])
    cache = build_cache(manifest, data_root / "ham10000", tmp_path, size=64, channels=3)
    assert cache.facts["pixel_hash"].nunique() == 2
    assert cache.facts["pixel_hash"][1] == cache.facts["pixel_hash"][2]
    assert cache.facts[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[200, 150]]
    whole = decode(data_root / "ham10000" / "images" / f"{names[0]}.jpg", channels=3).pixels
    assert np.array_equal(cache.pixels[0], resize(whole, 64))
