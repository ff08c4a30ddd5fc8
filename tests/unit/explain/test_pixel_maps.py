"""Maps on the image itself in a look: for annotated findings alone, measured as others are, and no verdict on them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from looked_into import Small
from torch import nn

import raresight
from raresight.core.errors import ConfigError
from raresight.explain.alignment import measure
from raresight.explain.attribution import integrated_gradients, occlusion
from raresight.explain.pixel_maps import NOT_GATED, PLACE, pixel_maps
from raresight.explain.probe import ProbeSet, Regions
from raresight.explain.store import Asked, Network, see


def probe_of(n: int = 12, size: int = 8, spatial: int = 2) -> ProbeSet:
    """Two classes by turns, the last two images not annotated; a bright corner is the finding."""
    rng = np.random.default_rng(2)
    shape = (size,) * spatial
    images = rng.random((n, 1, *shape)).astype(np.float32) * 0.3
    masks = np.zeros((n, *shape), dtype=bool)
    for i in range(n):
        masks[i][(slice(0, size // 2) if i % 2 else slice(size // 2, size),) * spatial] = True
        images[i, 0][masks[i]] += 0.6
    rows = np.arange(n - 2)
    regions = Regions.of(rows, rows % 2, masks[: n - 2])
    return ProbeSet(images, np.eye(2)[np.arange(n) % 2], np.arange(n), ("even", "odd"), None, regions, "val")


def made(seed: int = 0, spatial: int = 2) -> nn.Module:
    return Small(2, spatial=spatial, seed=seed)


pytest.importorskip("captum")


@pytest.mark.parametrize(("method", "spatial"), [("integrated_gradients", 2), ("occlusion", 2), ("occlusion", 3)])
def test_maps_are_captums_of_each_findings_own_class(method: str, spatial: int, tmp_path: Path) -> None:
    probe, model = probe_of(spatial=spatial), made(spatial=spatial)
    seen = see(Network("a", 0, lambda: model), probe, Asked(), tmp_path / "val", probe_sha256="p")
    which, told = np.array([1, 2, 5, 8]), []
    maps = pixel_maps(
        seen, probe, which, method, lambda: model, tmp_path, probe_sha256="p", advance=lambda *said: told.append(said)
    )
    assert maps.shape == (12, 2, *[8] * spatial) and told[-1] == (4, 4)
    found = maps[np.array([8, 5, 1]), np.array([0, 1, 1])]
    x = torch.from_numpy(probe.pixels(np.array([8, 5, 1])))
    label = torch.tensor([0, 1, 1])
    window = 1 if spatial == 2 else 2  # a seventh, a quarter of 8
    expected = (
        integrated_gradients(model, x, label) if spatial and method != "occlusion"
        else occlusion(model, x, label, window=window)
    ).numpy()  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=2e-3 * expected.max(), rtol=2e-3)
    assert expected.max() > 0


def test_a_stopped_call_goes_on_with_the_class_where_it_was(tmp_path: Path) -> None:
    probe, model = probe_of(), made()
    seen = see(Network("a", 0, lambda: model), probe, Asked(), tmp_path / "val", probe_sha256="p")
    calls: list[int] = []

    def once() -> nn.Module:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return model

    which = np.arange(10)
    with pytest.raises(KeyboardInterrupt):
        pixel_maps(seen, probe, which, "occlusion", once, tmp_path, probe_sha256="p")
    assert len(list(tmp_path.glob("val-occlusion-*.npz"))) == 1
    pixel_maps(seen, probe, which, "occlusion", once, tmp_path, probe_sha256="p")
    pixel_maps(seen, probe, which, "occlusion", once, tmp_path, probe_sha256="p")
    assert len(calls) == 3 and len(list(tmp_path.glob("val-occlusion-*.npz"))) == 2
    pixel_maps(seen, probe, which, "occlusion", once, tmp_path, probe_sha256="other images")
    assert len(calls) == 5


@pytest.mark.parametrize("spatial", [2, 3])
def test_measured_beside_the_maps_of_a_layer(spatial: int) -> None:
    """T2's figure of occlusion is what Captum's map scores by hand; T5 and the limits say that it is not gated."""
    probe, models = probe_of(spatial=spatial), [made(0, spatial), made(1, spatial)]
    look = raresight.look(arms={"plain": [models[0]], "other": [models[1]]}, probe=probe, methods=("occlusion",))
    tables = look.run(["alignment"]).tables()
    assert look.choices["method"] == "grad_cam" and look.methods == ("grad_cam", "hires_cam")
    assert {row["method"] for row in tables["alignment"]} == {"grad_cam", "hires_cam", "occlusion", "random"}
    regions = probe.regions
    assert regions is not None
    mine = np.flatnonzero(regions.label == 1)
    x = torch.from_numpy(probe.pixels(regions.row[mine]))
    maps = occlusion(models[1], x, 1, window=1 if spatial == 2 else 2).numpy()
    expected = measure(maps, regions.masks(mine), tau=0.5)
    place = ("other", "odd", "occlusion", "all")
    of = [row for row in tables["alignment"] if (row["arm"], row["class"], row["method"], row["cases"]) == place]
    said = {row["metric"]: row for row in of}
    for name in ("mass", "rank", "pixel_ap"):
        assert said[name]["value"] == pytest.approx(expected[name].mean(), abs=5e-3), name
    assert said["mass"]["layer"] == PLACE and NOT_GATED in said["mass"]["reason"] and not said["mass"]["greyed"]
    gate = [row for row in tables["gate"] if row["method"] == "occlusion"]
    assert [(row["arm"], row["verdict"]) for row in gate] == [("plain", "not gated"), ("other", "not gated")]
    assert any("occlusion: measured beside grad_cam" in limit for limit in look.limits)
    assert {row["method"] for row in tables["verdict"] if row["metric"] == "alignment"} == {"grad_cam"}
    cuts = [row for row in look.choices["tau"] if row["method"] == "occlusion"]
    assert {row["half"] for row in cuts} == {0, 1}
    assert (look.rows["method"] == "occlusion").sum() == 2 * 10  # each finding once a network: its own class alone


def test_what_is_seen_of_a_network_stays_the_same(tmp_path: Path) -> None:
    """Caches of calls without Captum stay good, and the second call with it makes nothing again."""
    probe, model = probe_of(), made()
    given: dict[str, Any] = {"arms": {"plain": [model]}, "probe": probe, "cache": tmp_path}
    raresight.look(**given).run(["alignment"])
    seen = tmp_path / "cache/plain/seed-0/val/seen.json"
    before = seen.stat().st_mtime_ns
    both = ("grad_cam", "hires_cam", "integrated_gradients")
    raresight.look(**given, methods=both).run(["alignment"])
    assert seen.stat().st_mtime_ns == before
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npz")}
    assert len([path for path in kept if "integrated" in path.name]) == 2
    raresight.look(**given, methods=both).run(["alignment"])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npz")} == kept


def test_without_captum_it_is_said_before_any_network_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "captum"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "captum", None)

    def never() -> nn.Module:
        raise AssertionError("made")

    with pytest.raises(ConfigError) as error:
        raresight.look(arms={"plain": [never]}, probe=probe_of(), methods=("grad_cam", "integrated_gradients"))
    problem = error.value.problems[0]
    assert problem.code == "RS-X01" and "integrated gradients" in problem.found
    assert problem.remedy == "pip install 'raresight[explain]'"


def test_a_volume_network_of_monai() -> None:
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    model = nets.DenseNet(3, 1, 2, init_features=4, growth_rate=4, block_config=(2, 2), bn_size=2)
    probe = probe_of(4, 16, spatial=3)
    look = raresight.look(arms={"dense": [model]}, probe=probe, methods=("integrated_gradients", "occlusion"))
    rows = look.run(["alignment"]).rows
    assert rows[rows["method"].isin(["integrated_gradients", "occlusion"])]["mass"].between(0, 1).all()
    assert rows.groupby("method").size().to_dict() == dict.fromkeys(
        ("grad_cam", "hires_cam", "integrated_gradients", "occlusion", "random"), 2
    )
