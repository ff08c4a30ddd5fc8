"""What is chosen before anything is measured, and a look into anybody's networks, in two dimensions and three."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import raresight
from raresight.core.errors import ConfigError
from raresight.explain.called import cut_at, scores
from raresight.explain.choices import Cuts, choose_layer, few_regions, halves, rows_kept
from raresight.explain.probe import ProbeSet, Regions
from raresight.explain.tried import judged


def probe_of(n: int = 12, size: int = 16, *, spatial: int = 2, drawn: bool = True) -> ProbeSet:
    """Two classes by turns, two images a patient; the finding of class k is a bright corner k."""
    rng = np.random.default_rng(1)
    shape = (size,) * spatial
    images = rng.random((n, 1, *shape)).astype(np.float32) * 0.2
    masks = np.zeros((n, *shape), dtype=bool)
    for i in range(n):
        corner = slice(0, size // 2) if i % 2 else slice(size // 2, size)
        masks[i][(corner,) * spatial] = True
        images[i, 0][masks[i]] += 0.6
    labels = np.eye(2)[np.arange(n) % 2]
    regions = Regions.of(np.arange(n), np.arange(n) % 2, masks) if drawn else None
    return ProbeSet(images, labels, np.arange(n) // 2, ("even", "odd"), None, regions, "val")


def net(seed: int, spatial: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    conv, pool = ((nn.Conv2d, nn.AdaptiveAvgPool2d), (nn.Conv3d, nn.AdaptiveAvgPool3d))[spatial - 2]
    return nn.Sequential(
        conv(1, 6, 3, stride=2, padding=1), nn.ReLU(), conv(6, 8, 3, stride=2, padding=1), nn.ReLU(),
        pool(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip


def test_scores_rank_as_probabilities_do() -> None:
    z = np.array([[1.0, 2.0, 0.5], [3.0, -1.0, 0.0]])
    prob = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(scores(z, "exclusive"), np.log(prob / (1 - prob)))
    np.testing.assert_array_equal(scores(z, "independent"), z)
    np.testing.assert_array_equal(scores(z[:, :1], "exclusive"), z[:, :1])


def test_cut_where_sensitivity_and_specificity_are_highest() -> None:
    """Called from 2 on: 2 of 2 found, 2 of 3 others not; from 3 on 1/2 + 1: less. Unknown labels have no say."""
    target = np.array([1.0, 1.0, 0.0, 0.0, 0.0, np.nan])
    score = np.array([3.0, 2.0, 2.0, 1.0, 0.0, 9.0])
    assert cut_at(target, score) == 2.0
    assert cut_at(np.array([1.0, 0.0, 1.0, 0.0]), np.array([4.0, 3.0, 2.0, 1.0])) == 4.0  # of equals the highest
    assert np.isnan(cut_at(np.zeros(3), np.arange(3.0))) and np.isnan(cut_at(np.ones(3), np.arange(3.0)))


def test_the_layer_with_most_mass_beyond_chance() -> None:
    """Layer a: (.6 - .5)/.5 = .2 and (.5 - .1)/.9; layer b: .4 and .1: means of classes .322 and .25."""
    rows = pd.DataFrame(
        [
            ("a", "x", 0.6, 0.5),
            ("a", "y", 0.5, 0.1),
            ("b", "x", 0.7, 0.5),
            ("b", "y", 0.19, 0.1),
            ("b", "y", np.nan, 0.9),
        ],
        columns=["layer", "class", "mass", "mass_0"],
    )
    best, figures = choose_layer(rows)
    assert best == "a"
    assert figures == pytest.approx({"a": (0.2 + 0.4 / 0.9) / 2, "b": (0.4 + 0.1) / 2})
    rows.loc[rows["layer"] == "b", ["mass", "mass_0"]] = (
        rows.loc[rows["layer"] == "a", ["mass", "mass_0"]].mean().tolist()
    )
    rows.loc[rows["layer"] == "a", ["mass", "mass_0"]] = (
        rows.loc[rows["layer"] == "b", ["mass", "mass_0"]].iloc[0].tolist()
    )
    assert choose_layer(rows)[0] == "b"  # of equals the deepest
    assert choose_layer(rows.assign(mass=np.nan)) == ("", {})


def test_regions_and_images_that_count() -> None:
    probe = probe_of(12)
    probe = ProbeSet(probe.images, probe.labels, np.array([0] * 8 + [1, 1, 2, 2]), probe.classes, None, probe.regions)
    which = few_regions(probe, 3)
    assert probe.regions is not None
    for k in (0, 1):
        mine = which[probe.regions.label[which] == k]
        assert len(mine) == 3 and len(set(probe.patients[probe.regions.row[mine]])) == 3  # every patient once
    assert list(which) == sorted(which) and len(few_regions(probe, 100)) == 12
    assert list(rows_kept(probe)) == list(range(12)) and not len(rows_kept(probe_of(drawn=False)))
    rows, labels = judged(probe, 2, "gate")
    assert sorted(labels) == [0, 1] and all(probe.labels[rows, labels] == 1) and len(set(probe.patients[rows])) == 2


def test_halves_keep_patients_whole() -> None:
    patients = np.array(["a", "b", "a", "c", "d", "b"])
    side = halves(patients)
    assert side[0] == side[2] and side[1] == side[5] and sorted(side[[0, 1, 3, 4]]) == [0, 0, 1, 1]
    cuts = Cuts({("arm", "m", "x", 0): 0.3, ("arm", "m", "x", 1): 0.7}, {}, crossed=True)
    np.testing.assert_array_equal(cuts.of("arm", "m", "x", np.array([1, 0])), [0.7, 0.3])


def test_looking_into_anybodys_networks(tmp_path: Path) -> None:
    arms = {"plain": [net(0), net(1)], "other": [lambda: net(2), lambda: net(3)]}
    probe = probe_of(40)
    counts = {"even": 100, "odd": 10}
    look = raresight.look(arms=arms, probe=probe, counts=counts, cache=tmp_path / "cache")
    found = look.run(["alignment", "dissect", "geometry"]).report(tmp_path / "out")
    assert found == json.loads((tmp_path / "out/explain.json").read_text(encoding="utf-8"))
    assert found["baseline"] == "plain" and found["arms"] == ["plain", "other"] and found["dims"] == 2
    assert [entry["n_regions"] for entry in found["classes"]] == [20, 20]
    assert {row["metric"] for row in found["tables"]["verdict"]} >= {"auroc", "alignment", "detectors", "verdict"}
    assert any("one set of images" in limit for limit in found["limits"])
    halved = {row.get("half") for row in found["choices"]["tau"]}
    assert halved == {0, 1}
    again = raresight.look(arms=arms, probe=probe, counts=counts, cache=tmp_path / "cache")
    assert again.run(["alignment", "dissect", "geometry"]).report(tmp_path / "again") == found


def test_volumes_and_nothing_drawn(tmp_path: Path) -> None:
    arms = {"plain": [net(0, 3)], "other": [net(1, 3)]}
    probe, choose = probe_of(16, 8, spatial=3, drawn=False), probe_of(8, 8, spatial=3, drawn=False)
    found = raresight.look(arms=arms, probe=probe, choose=choose).run().report(tmp_path)
    assert found["dims"] == 3 and not found["tables"]["alignment"]
    assert any("nobody drew" in limit for limit in found["limits"])
    assert {row["metric"] for row in found["tables"]["dissection"]} >= {"best_unit_auroc", "ablation_excess"}
    assert all("slice" in case for case in found["cases"]) and found["cases"]
    maps = np.load(tmp_path / "cases.npz")["maps"]
    assert maps.shape[1:] == (2, 2, 2)


def test_volumes_with_masks(tmp_path: Path) -> None:
    arms = {"plain": [net(0, 3)], "other": [net(1, 3)]}
    found = raresight.look(arms=arms, probe=probe_of(24, 8, spatial=3)).run(["alignment"]).report(tmp_path)
    value = {row["metric"] for row in found["tables"]["alignment"] if row["value"] is not None}
    assert {"hit", "mass", "mass_corrected", "iou"} <= value


def test_one_network_alone(tmp_path: Path) -> None:
    """Nothing to compare it with: no verdict, no likeness but that of its own layers; everything else stands."""
    found = raresight.look(arms={"plain": [net(0)]}, probe=probe_of(24)).run(["alignment", "dissect", "geometry"])
    tables = found.report(tmp_path)["tables"]
    inside = [(row["metric"], row["arm"], row["other"], row["n_seeds"]) for row in tables["between"]]
    assert (
        inside == [("cka", "plain", "plain", 1)]
        and tables["between"][0]["layer"] != tables["between"][0]["other_layer"]
    )
    assert not [row for row in tables["verdict"] if row["metric"] == "verdict"]
    assert tables["alignment"] and tables["dissection"] and tables["geometry"]


@pytest.mark.parametrize("arms", [{}, {"plain": []}])
def test_nothing_to_look_into(arms: dict[str, list[nn.Module]]) -> None:
    with pytest.raises(ConfigError, match="RS-R48"):
        raresight.look(arms=arms, probe=probe_of())


def test_a_baseline_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="the baseline 'bce' is none of plain"):
        raresight.look(arms={"plain": [net(0)]}, probe=probe_of(), baseline="bce")
