"""Alignment at the chosen layer and at the last one: whose maps, whose gate, whose name, and a look taken twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import raresight
from raresight.core.errors import ConfigError
from raresight.core.files import write_json
from raresight.explain import look as module
from raresight.explain import settled, told
from raresight.explain.aligned import aligned
from raresight.explain.chance import corrected
from raresight.explain.choices import choose_cuts
from raresight.explain.probe import ProbeSet, Regions
from raresight.explain.told import LAST_MEASURES, alignment_table, gate_table, sides_of
from tests.unit.explain.test_look import net, probe_of

SHALLOW, DEEP = "1", "3"  # the two layers of `net` that keep places apart


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shallow layer is the one that lies best on the findings."""
    monkeypatch.setattr(settled, "choose_layer", lambda rows: (SHALLOW, {SHALLOW: 0.2, DEEP: 0.1}))


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """No class is greyed for its empty maps, of which networks with random weights have many; all maps pass."""

    def passed(seen: Any, probe: Any, layers: Any, methods: Any, model: Any, folder: Path) -> dict[str, Any]:
        said = {"passed": True, "reason": "", "facts": []}
        return {layer: dict.fromkeys(methods, said) for layer in layers}

    monkeypatch.setattr(told, "mostly_empty", lambda rows: {})
    monkeypatch.setattr(module, "gates", passed)


def scattered() -> ProbeSet:
    """As `probe_of`, with findings that lie somewhere else in every patient, so that chance is not all there is."""
    probe = probe_of(24)
    assert probe.regions is not None
    masks = probe.regions.masks(np.arange(24))
    images = probe.pixels(np.arange(24)).copy()
    for i in range(24):
        masks[i] = np.roll(masks[i], 3 * (i // 2), axis=1)
        images[i] = np.roll(images[i], 3 * (i // 2), axis=2)
    regions = Regions.of(np.arange(24), np.arange(24) % 2, masks)
    return ProbeSet(images, probe.labels, probe.patients, probe.classes, None, regions, "val")


def looked(cache: Path, **more: Any) -> Any:
    arms = {"plain": [net(0), net(1)], "other": [net(2), net(3)]}
    return raresight.look(arms=arms, probe=scattered(), counts={"even": 100, "odd": 10}, cache=cache, **more)


@pytest.mark.usefixtures("shallow")
def test_rows_of_both_layers_hold_each_layers_own_maps(tmp_path: Path) -> None:
    look = looked(tmp_path).run(["alignment"])
    assert look.measured == (SHALLOW, DEEP) and look.choices["last_layer"] == DEEP and look.layer == SHALLOW
    for turn, layer in enumerate(look.measured):
        for one in look.looked:
            mine = look.rows.query("arm == @one.network.arm and seed == @one.network.seed and layer == @layer")
            assert set(mine["method"]) - {"random"} == {"grad_cam", "hires_cam"}
            direct = aligned(one.seen, look.probe, look.which, [layer], ["hires_cam"], look.cuts[turn], None)
            got = mine[mine["method"] == "hires_cam"]
            pd.testing.assert_series_equal(got["mass"].reset_index(drop=True), direct["mass"])
            assert list(got["tau"]) == list(direct["tau"])
        for arm in look.arms:
            of_arm = {arm: [one.seen for one in look.looked if one.network.arm == arm]}
            cuts = choose_cuts(of_arm, look.probe, layer, ["grad_cam"], crossed=True).share
            assert cuts == {key: look.cuts[turn].share[key] for key in cuts} and len(cuts) == 4
    assert look.cuts[0].share != look.cuts[1].share
    random = look.rows[look.rows["method"] == "random"]
    assert set(random["layer"]) == {SHALLOW} and set(random["arm"]) == {"plain"}
    deep = look.rows[(look.rows["layer"] == DEEP) & (look.rows["method"] == "grad_cam")]["mass"].to_numpy()
    flat = look.rows[(look.rows["layer"] == SHALLOW) & (look.rows["method"] == "grad_cam")]["mass"].to_numpy()
    assert not np.allclose(deep, flat)
    for layer, cut in zip(look.measured, look.cuts, strict=True):
        of_layer = [row for row in look.choices["tau"] if row["layer"] == layer]
        assert of_layer and of_layer == [row | {"layer": layer} for row in cut.as_rows()]


def test_layer_and_cuts_are_settled_on_validation_by_the_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by: list[pd.DataFrame] = []

    def chosen(rows: pd.DataFrame) -> tuple[str, dict[str, float]]:
        judged_by.append(rows)
        return SHALLOW, {}

    monkeypatch.setattr(settled, "choose_layer", chosen)
    validation = probe_of(16)
    look = looked(tmp_path, choose=validation).run(["alignment"])
    (rows,) = judged_by
    assert len(rows) == 2 * 2 * 16 and set(rows["arm"]) == {"plain"} and set(rows["method"]) == {"grad_cam"}
    assert look.choices["layer_from"].startswith("highest on validation: grad_cam of plain")
    for layer, cuts in zip(look.measured, look.cuts, strict=True):
        for arm in look.arms:
            shown = {arm: [one.chosen_on for one in look.looked if one.network.arm == arm]}
            assert {len(one.logits) for one in shown[arm]} == {16}
            wanted = choose_cuts(shown, validation, layer, ["hires_cam"], crossed=False).share
            assert wanted == {key: cuts.share[key] for key in wanted} and len(wanted) == 2
    assert len(look.rows.query("method == 'grad_cam'")) == 2 * 4 * 24


@pytest.mark.usefixtures("shallow", "spoken")
def test_the_verdict_counts_both_and_the_last_is_of_the_last_layer(tmp_path: Path) -> None:
    look = looked(tmp_path / "cache").run(["alignment"])
    found = look.report(tmp_path / "out", pictures=False)
    maps = look.rows[(look.rows["layer"] == SHALLOW) & (look.rows["method"] == "grad_cam")]
    known = set(corrected(maps["mass"].to_numpy(), maps["mass_0"].to_numpy()).round(9).tolist())
    shown = [said["alignment"] for case in found["cases"] for said in case["arms"].values()]
    assert shown and {round(value, 9) for value in shown} <= known  # beside the cases, the chosen layer's alone
    told = {(row["metric"], row["arm"], row["class"]): row for row in found["tables"]["verdict"]}
    differ = 0
    for row in found["tables"]["alignment"]:
        if (row["metric"], row["method"], row["cases"], row["seed"]) == ("mass_corrected", "grad_cam", "all", None):
            metric = "alignment" if row["layer"] == SHALLOW else "alignment_last"
            assert told[metric, row["arm"], row["class"]]["value"] == row["value"]
            differ += told["alignment", row["arm"], row["class"]]["value"] != row["value"]
    assert differ
    for metric in ("alignment", "alignment_last"):
        assert told[metric, "other", "odd"]["family"] == "look" and told[metric, "plain", "odd"]["family"] == ""
    at_last = {row["metric"] for row in found["tables"]["alignment"] if row["layer"] == DEEP}
    assert at_last == {"mass", "mass_corrected", "no_evidence"} and LAST_MEASURES == ("mass",)


def test_a_class_is_grey_where_more_than_half_of_its_maps_are_empty() -> None:
    empty = {("a", "x"): [1, 1, 0], ("a", "y"): [1, 0], ("b", "x"): [0, 0, 1], ("b", "y"): [1, 1]}
    rows = [{"arm": arm, "class": name, "empty": float(one)} for (arm, name), some in empty.items() for one in some]
    found = told.mostly_empty(pd.DataFrame(rows))
    assert set(found) == {("a", "x"), ("b", "y")} and found["a", "x"].startswith("67% of the maps")
    assert found["b", "y"].startswith("100% of the maps")


@pytest.mark.usefixtures("shallow", "spoken")
def test_only_the_class_whose_maps_are_empty_is_grey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = looked(tmp_path / "cache").run(["alignment"])
    assert look.tasks == ("alignment", "sanity") and all(one.gates for one in look.looked)  # the check comes along
    monkeypatch.setattr(told, "mostly_empty", lambda rows: {("other", "odd"): "planted"})
    rows = alignment_table(look, sides_of(look, {}))
    for row in rows:
        mine = (row["arm"], row["class"]) == ("other", "odd") and row["method"] in ("grad_cam", "hires_cam")
        assert row["greyed"] == (mine and row["metric"] != "no_evidence"), row
    assert any(row["greyed"] and "planted" in row["reason"] for row in rows)


@pytest.mark.usefixtures("shallow", "spoken")
def test_each_layer_has_its_own_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(seen: Any, probe: Any, layers: Any, methods: Any, model: Any, folder: Path) -> dict[str, Any]:
        def said(layer: str, method: str) -> dict[str, Any]:
            fails = seen.arm == "other" and layer == DEEP and method == "grad_cam"
            return {"passed": not fails, "reason": "planted" if fails else "", "facts": []}

        return {layer: {method: said(layer, method) for method in methods} for layer in layers}

    monkeypatch.setattr(module, "gates", planted)
    look = looked(tmp_path / "cache").run(["alignment", "sanity"])
    assert gate_table(look, "grad_cam")[1] == {} == gate_table(look, "hires_cam", DEEP)[1]
    assert set(gate_table(look, "grad_cam", DEEP)[1]) == {"other"}
    for row in alignment_table(look, sides_of(look, {})):
        assert row["greyed"] == ((row["arm"], row["layer"], row["method"]) == ("other", DEEP, "grad_cam")), row
    found = look.report(tmp_path / "out", pictures=False)
    empty = [row for row in found["tables"]["gate"] if row["metric"] == "empty_maps"]
    assert len(empty) == 2 * 2 * 4 and {(row["n_images"], row["n_patients"]) for row in empty} == {(24, 12)}
    for row in empty:
        seen = next(one.seen for one in look.looked if (one.network.arm, one.network.seed) == (row["arm"], row["seed"]))
        silent = ~seen.maps[row["layer"], row["method"]].any(axis=(2, 3))
        shares = [silent[look.probe.labels[:, k] == 1, k].mean() for k in (0, 1)]
        assert row["value"] == pytest.approx(np.mean(shares))
    gate = [row for row in found["tables"]["gate"] if row["metric"] == "gate" and row["seed"] is None]
    assert {(row["layer"], row["method"], row["arm"]) for row in gate if row["greyed"]} == {(DEEP, "grad_cam", "other")}
    assert len(gate) == 2 * 2 * 2  # layers, kinds of maps, arms
    for row in found["tables"]["verdict"]:
        assert row["greyed"] == (row["metric"] == "alignment_last" and row["arm"] == "other"), row
        if row["metric"] == "verdict":
            assert row["verdict"] is not None and "maps not trusted" not in row["reason"]


def test_a_layer_named_alone_and_a_chosen_layer_that_is_the_last_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "choose_layer", lambda rows: (DEEP, {SHALLOW: 0.1, DEEP: 0.2}))
    assert looked(tmp_path / "auto").run(["alignment"]).measured == (DEEP,)
    for layers in (SHALLOW, DEEP):
        look = looked(tmp_path / layers, layers=layers).run(["alignment"])
        assert look.measured == (layers,) and look.choices["last_layer"] == layers
        assert set(look.rows["layer"]) == {layers}


@pytest.mark.usefixtures("shallow")
def test_class_activation_maps_are_told_where_they_are_defined(tmp_path: Path) -> None:
    """Only the last layer goes by a mean into a linear head, and there all three kinds are one."""
    look = looked(tmp_path / "cache", methods=("grad_cam", "cam")).run(["alignment", "sanity"])
    assert set(look.rows.query("method == 'cam'")["layer"]) == {DEEP}
    both = look.rows[look.rows["layer"] == DEEP].pivot_table(
        index=["arm", "seed", "case"], columns="method", values="mass"
    )
    np.testing.assert_allclose(both["cam"], both["grad_cam"], rtol=1e-4)
    found = look.report(tmp_path / "out", pictures=False)
    gate = {(row["layer"], row["method"]) for row in found["tables"]["gate"] if row["metric"] == "gate"}
    assert gate == {(SHALLOW, "grad_cam"), (DEEP, "grad_cam"), (DEEP, "cam")}


def test_a_look_taken_twice_says_the_same(tmp_path: Path) -> None:
    look = looked(tmp_path)
    once = look.run(["alignment"])
    rows, limits, networks = once.rows.copy(), list(once.limits), len(once.looked)
    twice = look.run(["alignment"])
    pd.testing.assert_frame_equal(rows, twice.rows)
    assert twice.limits == limits and len(twice.looked) == networks == 4


def test_another_prior_of_equal_sum_is_another_prior(tmp_path: Path) -> None:
    """Rows that were kept for one anatomical prior are not taken for another's."""
    prior = np.zeros((2, 16, 16), dtype=np.float32)
    prior[:, :4, :4] = 1
    first = looked(tmp_path, prior=prior).run(["alignment"]).rows
    second = looked(tmp_path, prior=prior[:, ::-1, ::-1].copy()).run(["alignment"]).rows
    assert not np.allclose(first["mass_prior"], second["mass_prior"])


def test_where_nothing_is_kept_apart_nothing_is_aligned(tmp_path: Path) -> None:
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2))
    look = raresight.look(arms={"plain": [flat]}, probe=probe_of(24), counts={"even": 9, "odd": 3}, cache=tmp_path)
    found = look.run(["alignment", "geometry"]).report(tmp_path / "out", pictures=False)
    assert found["choices"]["layer"] is found["choices"]["last_layer"] is None and not len(look.rows)
    write_json(tmp_path / "choices.json", found["choices"])


@pytest.mark.usefixtures("shallow")
def test_faithfulness_is_of_the_chosen_layers_maps(tmp_path: Path) -> None:
    both = looked(tmp_path / "both").run(["alignment", "faithfulness"])
    alone = looked(tmp_path / "alone", layers=SHALLOW).run(["alignment", "faithfulness"])
    last = looked(tmp_path / "last", layers=DEEP).run(["alignment", "faithfulness"])
    gain = [table.faithful["deletion_gain"].to_numpy() for table in (both, alone, last)]
    np.testing.assert_array_equal(gain[0], gain[1])
    assert not np.allclose(gain[0], gain[2])


def test_a_probe_that_cannot_be_looked_at_is_refused_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    probe = scattered()
    blank = ProbeSet(probe.images, np.zeros_like(probe.labels), probe.patients, probe.classes)
    with pytest.raises(ConfigError, match=r"RS-R48.*no label is 1"):
        raresight.look(arms={"plain": [net(0)]}, probe=blank)
    images = probe.pixels(np.arange(24)).copy()
    images[-1, 0, 3, 3] = np.nan
    broken = ProbeSet(images, probe.labels, probe.patients, probe.classes, None, probe.regions)
    with pytest.raises(ConfigError, match="1 of 24 images of a batch hold values that are not finite"):
        raresight.look(arms={"plain": [net(0)]}, probe=broken, cache=tmp_path).run(["alignment"])
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(("methods", "second"), [(("grad_cam", "hires_cam"), "hires_cam"), (("hires_cam",), None)])
def test_the_verdict_asks_the_second_kind_of_map(
    methods: tuple[str, ...], second: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def spied(*rows: Any, **given: Any) -> list[Any]:
        asked.update(given)
        return []

    monkeypatch.setattr(module, "verdict_rows", spied)
    look = looked(tmp_path, methods=methods).run(["alignment"])
    look.tables()
    assert (asked["method"], asked["second"]) == (methods[0], second)
    assert (asked["layer"], asked["last"]) == (look.layer, look.measured[-1])


def test_maps_on_the_image_are_not_greyed_by_the_gate_of_others(tmp_path: Path) -> None:
    look = looked(tmp_path).run(["alignment"])
    chosen = (look.rows["method"] == "grad_cam") & (look.rows["layer"] == look.layer)
    look.rows = look.rows[chosen].assign(method="occlusion", layer="image")
    rows = alignment_table(look, sides_of(look, {"other": "planted"}))
    assert {row["arm"] for row in rows} == {"plain", "other"} and not any(row["greyed"] for row in rows)
