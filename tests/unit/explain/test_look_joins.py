"""Which rows, classes, halves of the patients and units belong together, and what a greyed arm's rows say."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import raresight
from raresight.core.files import read_json
from raresight.explain.called import cut_at
from raresight.explain.choices import choose_cuts, halves, rows_kept
from raresight.explain.collapse import by_chance
from raresight.explain.draws import Draws
from raresight.explain.network_facts import _alike, _maps_alike, _pairs, geometry_facts
from raresight.explain.probe import ProbeSet, Regions, bands
from raresight.explain.ranked_pairs import detector_figures
from raresight.explain.separability import draw
from raresight.explain.store import Asked, Network, see
from raresight.explain.tables import row
from raresight.explain.told import called, classes_of, gate_table, grey, overlapping
from raresight.explain.unit_null import UnitNull
from tests.unit.explain.test_look import net, probe_of

RNG = np.random.default_rng(4)


def looked(probe: ProbeSet, counts: dict[str, int], **seen: Any) -> tuple[Any, Any]:
    """A look at one network, of which only what is in `seen` is known."""
    one = SimpleNamespace(seen=SimpleNamespace(**seen), network=SimpleNamespace(arm="plain", seed=0))
    drawn = draw(probe.labels, probe.patients)
    return SimpleNamespace(probe=probe, counts=counts, kind="exclusive", drawn=drawn, looked=[one]), one


def value(lines: list[dict[str, Any]], metric: str, name: str | None = None) -> Any:
    found = [line["value"] for line in lines if line["metric"] == metric and line.get("class") == name]
    assert len(found) == 1, (metric, found)
    return found[0]


def test_rare_classes_are_told_by_name_not_by_their_place() -> None:
    """The two rarest of six stand first and third: their rows are equal (cosine 1), all others at right angles."""
    n = 60
    labels = np.eye(6)[np.arange(n) % 6]
    probe = ProbeSet(np.zeros((n, 1, 2, 2)), labels, np.arange(n), tuple("abcdef"))
    counts = {"a": 2, "b": 500, "c": 1, "d": 400, "e": 90, "f": 30}
    weight = np.eye(6)
    weight[2] = weight[0]
    features = labels * 3.0 + RNG.normal(size=(n, 6))
    look, one = looked(
        probe, counts, features=features, head=(weight, np.zeros(6)), logits=features, pooled={}, names=()
    )
    lines = geometry_facts(look, one)
    assert value(lines, "minority_collapse") == pytest.approx(1.0)
    assert [name for name, band in bands(probe.classes, counts).items() if band == "tail"] == ["a", "c"]
    for k, name in enumerate(probe.classes):  # the rows' lengths, and the features' mean lengths of each class
        assert value(lines, "head_norm", name) == pytest.approx(1.0)
        mean = np.linalg.norm(features[k::6], axis=1).mean()
        assert value(lines, "feature_norm", name) == pytest.approx(mean)
    shuffled = by_chance(
        features,
        labels,
        kind="exclusive",
        patients=probe.patients,
        names=("explain",),
        tail=np.array([1, 0, 1, 0, 0, 0]),
    )
    assert value(lines, "nc1_by_chance") == pytest.approx(shuffled["nc1"][1])
    assert value(lines, "nc1_by_chance_low") == pytest.approx(shuffled["nc1"][0])
    assert value(lines, "nc1") < value(lines, "nc1_by_chance_low") < value(lines, "nc1_by_chance")


def test_without_counts_no_class_is_called_rare() -> None:
    assert bands(("a", "b", "c"), {}) == {}
    probe = probe_of(24)
    look, one = looked(
        probe, {}, features=RNG.normal(size=(24, 3)), head=(np.eye(2, 3), np.zeros(2)), logits=probe.labels,
        pooled={}, names=(),
    )  # fmt: skip
    lines = geometry_facts(look, one)
    assert value(lines, "minority_collapse") is None
    look.which = np.arange(24)
    assert [entry["band"] for entry in classes_of(look)] == [None, None]


def test_a_half_of_the_patients_is_called_by_the_other_half() -> None:
    """Labels and scores of one half may be anything: its cut comes from the other."""
    n = 40
    labels = (np.arange(n) % 2 == 0).astype(float)[:, None]
    probe = ProbeSet(np.zeros((n, 1, 2, 2)), labels, np.arange(n) // 2)
    side = halves(probe.patients)
    score = RNG.normal(size=(n, 1))
    seen = SimpleNamespace(scores=score)
    one: Any = SimpleNamespace(chosen_on=seen, seen=seen)
    look: Any = SimpleNamespace(probe=probe, choose=probe, kind="independent", crossed=True)
    found = called(look, one)
    for half in (0, 1):
        cut = cut_at(labels[side != half, 0], score[side != half, 0])
        np.testing.assert_array_equal(found[side == half, 0], score[side == half, 0] >= cut)
    other = ProbeSet(np.zeros((n, 1, 2, 2)), np.where(side[:, None] == 0, 1 - labels, labels), probe.patients)
    flipped = called(SimpleNamespace(probe=other, choose=other, kind="independent", crossed=True), one)  # type: ignore[arg-type]
    np.testing.assert_array_equal(flipped[side == 0], found[side == 0])
    assert (flipped[side == 1] != found[side == 1]).any()
    apart: Any = SimpleNamespace(probe=probe, choose=probe, kind="independent", crossed=False)
    np.testing.assert_array_equal(called(apart, one), score >= cut_at(labels[:, 0], score[:, 0]))
    absent = ProbeSet(np.zeros((n, 1, 2, 2)), np.zeros((n, 1)), probe.patients)
    none: Any = SimpleNamespace(probe=absent, choose=absent, kind="independent", crossed=False)
    assert np.isnan(called(none, one)).all()


def test_a_class_without_a_cut_takes_that_of_the_same_half() -> None:
    """Class b is drawn in half 0 alone, so half 0 cannot be cut by it: it takes class a's cut for half 0, and nothing
    that was chosen on half 0."""
    n = 40
    patients = np.arange(n)
    side = halves(patients)
    label = np.where((side == 0) & (np.arange(n) % 3 == 0), 1, 0)
    masks = np.zeros((n, 8, 8), dtype=bool)
    masks[:, :4] = True
    maps = np.zeros((n, 2, 8, 8), dtype=np.float32)
    maps[:, :, :4] = 1.0
    spill = np.where(side == 0, 0.7, 0.3)  # outside the mask: cut above it
    maps[:, :, 4:] = spill[:, None, None, None]
    probe = ProbeSet(np.zeros((n, 1, 8, 8)), np.eye(2)[label], patients, ("a", "b"), None,
                     Regions.of(np.arange(n), label, masks))  # fmt: skip
    seen: Any = SimpleNamespace(maps={("l", "m"): maps}, arm="plain")
    cuts = choose_cuts({"plain": [seen]}, probe, "l", ("m",), crossed=True)
    assert cuts.share[("plain", "m", "a", 0)] == pytest.approx(0.35)  # by half 1
    assert cuts.share[("plain", "m", "a", 1)] == pytest.approx(0.75)
    assert cuts.share[("plain", "m", "b", 1)] == pytest.approx(0.75)
    assert cuts.share[("plain", "m", "b", 0)] == pytest.approx(0.35)
    assert cuts.origin[("plain", "m", "b", 0)] == "the arm's other classes"


def test_a_unit_counts_for_the_class_it_is_furthest_beyond_chance_of() -> None:
    """Unit 0 detects the small class alone, though its IoU with the large one is higher; unit 1 both, the small one
    (.1 - .02)/(.2 - .02) beyond chance against (.5 - .45)/(.9 - .45); unit 2 the large one."""
    inter = np.array([[40.0, 10], [50, 10], [80, 1]])[None].repeat(12, 0)
    union = np.full((12, 3, 2), 100.0)
    high = np.array([[np.inf, 0.05], [0.47, 0.05], [0.47, np.inf]])
    mean, ceiling = np.tile([0.45, 0.02], (3, 1)), np.tile([0.9, 0.2], (3, 1))
    has = np.ones((12, 2), dtype=bool)
    draws = Draws(np.arange(12), resamples=32)
    rule = {"threshold": high, "chance": mean, "ceiling": ceiling}
    made = detector_figures(inter, union, np.arange(12), draws, has=has, **rule)
    assert [figure.value for figure in made] == [1, 2]
    assert all((figure.resampled == figure.value).all() for figure in made)
    iou = inter[0] / union[0]
    p = np.where(np.isinf(high), 1.0, 0.001)
    null = UnitNull(iou, ceiling, mean, np.where(np.isinf(high), 1.0, high), p, p, np.full(2, 200),
                    np.ones(2, bool), "known", 0.05, *[np.zeros((0, 2))] * 3)  # fmt: skip
    assert list(null.detectors.count) == [1, 2]
    raw = detector_figures(inter, union, np.arange(12), draws, has=has, threshold=high)
    assert [figure.value for figure in raw] == [2, 1]
    level = np.tile([0.4, 0.1], (3, 1))  # unit 0 is at both, and beyond none
    at = detector_figures(inter, union, np.arange(12), draws, has=has, threshold=level)
    assert [figure.value for figure in at] == [2, 0]
    full = replace(null, ceiling=mean)  # no room: what passes there still counts
    assert list(full.detectors.count) == [
        figure.value
        for figure in detector_figures(inter, union, np.arange(12), draws, has=has, **(rule | {"ceiling": mean}))
    ]


def test_greyed_rows_keep_their_numbers_and_pairs_of_seeds_get_no_interval() -> None:
    rows = [
        row(table="geometry", arm="cb", metric="nc1", value=0.4, p=0.01, p_adjusted=0.02),
        row(table="geometry", arm="bce", metric="nc1", value=0.5),
        row(table="between", arm="bce", other="cb", metric="cka", value=0.9, low=0.8, high=0.95),
        row(table="between", arm="bce", other="bce", metric="cka", value=0.9, low=0.8, high=0.95, p_level=0.1),
        row(table="gate", arm="bce", metric="gate", greyed=True),
    ]
    grey(rows, {"cb": "its maps do not follow its weights"})
    assert [one["greyed"] for one in rows] == [True, False, True, False, True]
    assert rows[0]["p_adjusted"] == 0.02 and rows[0]["value"] == 0.4
    overlapping(rows)
    assert rows[2]["low"] == 0.8 and rows[3]["low"] is rows[3]["high"] is rows[3]["p_level"] is None
    assert rows[3]["value"] == 0.9 and "share networks" in rows[3]["reason"]


def test_an_arm_that_failed_is_grey_in_every_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raresight.explain import look as module

    def failed(look: Any, method: str, layer: str = "") -> Any:
        rows, _ = gate_table(look, method, layer)
        return rows, {"other": "seed 0: planted"} if method == look.methods[0] and layer in ("", look.layer) else {}

    monkeypatch.setattr(module, "gate_table", failed)
    arms = {"plain": [net(0)], "other": [net(1)]}
    look = raresight.look(arms=arms, probe=probe_of(40), counts={"even": 100, "odd": 10}, cache=tmp_path / "cache")
    found = look.run(["alignment", "dissect", "geometry"]).report(tmp_path / "out")
    for table in ("dissection", "geometry", "between", "verdict"):
        for one in found["tables"][table]:
            about = "other" in (one["arm"], one["other"])
            rests = table != "verdict" or one["metric"] in ("verdict", "auroc", "detectors", "d_prime")
            assert one["greyed"] == about or not rests, one
    assert not any(one["greyed"] for one in found["tables"]["alignment"] if one["method"] == "random")
    flags = [one for one in found["tables"]["verdict"] if one["metric"] == "verdict"]
    assert flags and all(one["status"] == "not_trusted" for one in flags)
    # Patients go by pseudonyms, and the key lies beside.
    assert found["cases"] and not any({"case", "patient"} & set(case) for case in found["cases"])
    assert read_json(tmp_path / "out/explain.json") == found
    with (tmp_path / "out/cases_key.csv").open(encoding="utf-8") as stream:
        key = list(csv.DictReader(stream))
    assert [line["pseudonym"] for line in key] == [case["name"] for case in found["cases"]]
    assert all(line["patient"] == str(int(line["case"]) // 2) for line in key)


def test_pairs_are_of_the_same_seed_across_arms() -> None:
    networks = [("b", 2), ("b", 0), ("b", 5), ("a", 0), ("a", 1), ("a", 2)]
    look: Any = SimpleNamespace(
        arms=["b", "a"],
        looked=[SimpleNamespace(network=SimpleNamespace(arm=arm, seed=seed)) for arm, seed in networks],
    )
    told = [(arm, other, networks[a], networks[b]) for arm, other, _, a, b in _pairs(look)]
    assert told == [
        ("b", "b", ("b", 0), ("b", 2)),
        ("b", "b", ("b", 0), ("b", 5)),
        ("b", "b", ("b", 2), ("b", 5)),
        ("a", "a", ("a", 0), ("a", 1)),
        ("a", "a", ("a", 0), ("a", 2)),
        ("a", "a", ("a", 1), ("a", 2)),
        ("b", "a", ("b", 0), ("a", 0)),
        ("b", "a", ("b", 2), ("a", 2)),
    ]


def test_a_network_with_fewer_layers_than_the_place_chosen_is_mapped_at_its_shallowest(tmp_path: Path) -> None:
    asked = Asked(mapped=(-3,), methods=("grad_cam",))
    seen = see(Network("plain", 0, lambda: net(0)), probe_of(4), asked, tmp_path / "seen", probe_sha256="x")
    assert len(seen.names) == 2 and set(seen.maps) == {(seen.names[0], "grad_cam")}


def test_found_is_read_from_the_row_of_the_image() -> None:
    from raresight.explain.told import all_rows

    n = 20
    labels = np.eye(2)[np.arange(n) % 2]
    probe = ProbeSet(np.zeros((n, 1, 2, 2)), labels, np.arange(n), ("a", "b"))
    score = np.where(labels == 1, 1.0, 0.0)
    score[6, 0] = -1.0  # the image of row 6 is missed
    seen = SimpleNamespace(scores=score)
    rows = pd.DataFrame({"row": [6, 3, 2], "class": ["a", "b", "a"]}, index=[5, 1, 9])
    one: Any = SimpleNamespace(chosen_on=seen, seen=seen, rows=rows)
    look: Any = SimpleNamespace(probe=probe, choose=probe, kind="independent", crossed=False, looked=[one])
    found = all_rows(look)
    assert found["found"].tolist() == [0.0, 1.0, 1.0]
    assert found["ranked"].tolist() == [-1.0, 1.0, 1.0] and found["cut"].tolist() == [1.0, 1.0, 1.0]
    exclusive = all_rows(SimpleNamespace(**vars(look) | {"kind": "exclusive"}))  # type: ignore[arg-type]
    assert exclusive["ranked"].tolist() == [-1.0, 1.0, 1.0]  # scores 0 and 1: the odds of a class are their difference


def test_units_are_judged_on_images_with_a_region_and_on_images_without_any_finding() -> None:
    """Rows 0 to 3 have a region; 4 to 6 a finding that nobody drew; 7 and 8 none; of 9 one label is not known."""
    labels = np.array([[1, 0]] * 4 + [[0, 1]] * 3 + [[0, 0]] * 2 + [[0, np.nan]])
    regions = Regions.of(np.arange(4), np.zeros(4, int), np.ones((4, 2, 2)))
    probe = ProbeSet(np.zeros((10, 1, 2, 2)), labels, np.arange(10), ("a", "b"), None, regions)
    assert list(rows_kept(probe)) == [0, 1, 2, 3, 7, 8]


def test_layers_of_an_arm_go_by_the_baselines_names_from_the_deepest() -> None:
    """Two layers beside the baseline's three; class a can be read from the deepest alone."""
    probe = replace(probe_of(60), patients=np.arange(60))
    deep = probe.labels * 4 + RNG.normal(size=(60, 2))
    pooled = {"x1": RNG.normal(size=(60, 2)), "x2": deep}
    look, one = looked(probe, {}, features=deep, head=None, logits=deep, pooled=pooled, names=("x1", "x2"))
    look.looked = [SimpleNamespace(seen=SimpleNamespace(names=("l1", "l2", "l3")))]
    found = {
        line["layer"]: line["value"]
        for line in geometry_facts(look, one)
        if line["metric"] == "probe_ap" and line["class"] == "even"
    }
    assert set(found) == {"l2", "l3"} and found["l3"] > 0.9 > found["l2"]


def test_likeness_of_two_networks_is_that_of_the_class_it_is_said_of() -> None:
    """Features and maps agree on class even; on class odd features are unrelated and maps the other way round."""
    probe = probe_of(80)
    x = RNG.normal(size=(80, 6))
    even = probe.labels[:, 0] == 1
    maps = RNG.random((80, 2, 4, 4)).astype(np.float32)
    features = np.where(even[:, None], x, RNG.normal(size=x.shape))
    turned = np.where(even[:, None, None, None], maps, 1 - maps)
    probe = replace(probe, patients=np.arange(80))
    look: Any = SimpleNamespace(
        probe=probe, arms=["plain", "other"], layer="l", methods=("m",), which=np.arange(80),
        looked=[
            SimpleNamespace(
                network=SimpleNamespace(arm=arm, seed=3), layer="l",
                seen=SimpleNamespace(features=f, maps={("l", "m"): m}),
            )
            for arm, f, m in (("plain", x, maps), ("other", features, turned))
        ],
    )  # fmt: skip
    for name, rows, alike in (("even", np.flatnonzero(even), 1.0), ("odd", np.flatnonzero(~even), 0.0)):
        line = _alike(look, rows, name)[0]
        assert (line["arm"], line["other"], line["class"], line["n_images"]) == ("plain", "other", name, 40)
        assert line["value"] == pytest.approx(alike, abs=0.12)
    said = {line["class"]: line for line in _maps_alike(look)}
    assert said["even"]["value"] == pytest.approx(1.0) and said["odd"]["value"] < -0.9
    assert said["even"]["n_images"] == 20 == said["even"]["n_patients"]
    look.probe = replace(probe, patients=np.arange(80) // 4)  # two images of class even a patient
    assert [line["n_patients"] for line in _maps_alike(look)] == [10, 10]


def test_with_one_patient_nothing_can_be_beyond_chance_and_that_is_no_zero() -> None:
    probe = replace(probe_of(12), patients=np.zeros(12))
    look = raresight.look(arms={"plain": [net(0)]}, probe=probe, counts={"even": 9, "odd": 3}).run(["dissect"])
    rows = look.tables()["dissection"]
    ours = [one for one in rows if one["metric"] == "detectors"]
    assert len(ours) == 2 and all(one["value"] is None and one["status"] == "absent" for one in ours)
    published = [one for one in rows if one["metric"] == "detectors_04"]
    assert published and all(one["value"] is not None for one in published)
