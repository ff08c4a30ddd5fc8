"""What T4 and T6 say of networks whose weights and features were planted: each number is read from its row."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import raresight
from raresight.explain.cka import debiased
from raresight.explain.matching import match
from raresight.explain.network_facts import _alike_by_layer, _matched, between_facts, geometry_facts, geometry_rows
from raresight.explain.probe import ProbeSet, bands
from raresight.explain.separability import draw
from raresight.explain.tables import fact_rows
from raresight.explain.told import overlapping
from tests.unit.explain.test_look import net, probe_of

COUNTS = {"a": 10, "b": 100, "c": 1_000, "d": 10_000, "e": 40, "f": 400}
CLASSES = tuple(COUNTS)
N = np.array([COUNTS[name] for name in CLASSES], dtype=float)


def network(arm: str, seed: int, **seen: Any) -> Any:
    return SimpleNamespace(network=SimpleNamespace(arm=arm, seed=seed), layer="", seen=SimpleNamespace(**seen))


def planted(arm: str, seed: int, labels: np.ndarray, *, row: float, length: float) -> Any:
    """Head rows of length n^row, biases of 0.3 log n, and features of length 50 n^length; two layers."""
    rng = np.random.default_rng(seed)
    of = labels.argmax(axis=1)
    direction = rng.normal(size=(len(labels), 8))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    features = direction * (50 * N[of] ** length)[:, None]
    head = (np.eye(6, 8) * N[:, None] ** row, 0.3 * np.log(N))
    noise = rng.normal(size=(len(labels), 12))
    pooled = {"shallow": noise, "deep": 6 * labels @ rng.normal(size=(6, 12)) + noise}
    return network(
        arm, seed, features=features, head=head, logits=features @ head[0].T, pooled=pooled, names=("shallow", "deep")
    )


def look_at(*networks: Any, n: int = 360, **more: Any) -> Any:
    """Six classes by turns, two images a patient, of which the patient has the same class in both."""
    labels = np.eye(6)[np.arange(n) // 2 % 6]
    probe = ProbeSet(np.zeros((n, 1, 2, 2)), labels, np.arange(n) // 2, CLASSES)
    arms = list(dict.fromkeys(one.network.arm for one in networks))
    given = {"probe": probe, "counts": COUNTS, "kind": "exclusive", "drawn": draw(labels, probe.patients)}
    return SimpleNamespace(**given | {"looked": list(networks), "arms": arms, "baseline": arms[0]} | more)


def labels_of(n: int = 360) -> np.ndarray:
    return np.eye(6)[np.arange(n) // 2 % 6]


def t4(look: Any) -> list[dict[str, Any]]:
    lines = [line for one in look.looked for line in geometry_facts(look, one)]
    return geometry_rows(lines, baseline=look.baseline, bands=bands(CLASSES, look.counts))


def row_of(rows: list[dict[str, Any]], metric: str, **of: Any) -> dict[str, Any]:
    wanted = {"class": None, "seed": None} | of
    found = [one for one in rows if one["metric"] == metric and all(one[key] == v for key, v in wanted.items())]
    assert len(found) == 1, (metric, of, len(found))
    return found[0]


@pytest.fixture(scope="module")
def geometry() -> list[dict[str, Any]]:
    """The baseline's head follows frequency by the root and its features shrink; the other arm's the other way round.
    Seeds of an arm differ by 0.02 in the exponent."""
    labels = labels_of()
    base = [planted("base", s, labels, row=0.5 + 0.02 * s, length=-0.2) for s in (0, 1)]
    other = [planted("flat", s, labels, row=-0.1 + 0.02 * s, length=0.1) for s in (0, 1)]
    return t4(look_at(*base, *other))


def test_slopes_are_those_that_were_planted(geometry: list[dict[str, Any]]) -> None:
    for arm, head, feature in (("base", 0.51, -0.2), ("flat", -0.09, 0.1)):
        assert row_of(geometry, "head_norm_slope", arm=arm)["value"] == pytest.approx(head)
        assert row_of(geometry, "feature_norm_slope", arm=arm)["value"] == pytest.approx(feature)
        assert row_of(geometry, "bias_slope", arm=arm)["value"] == pytest.approx(0.3)
    assert row_of(geometry, "head_norm_slope", arm="flat")["difference"] == pytest.approx(-0.6)
    assert row_of(geometry, "feature_norm_slope", arm="flat")["difference"] == pytest.approx(0.3)


def test_lengths_stand_beside_what_they_rest_on(geometry: list[dict[str, Any]]) -> None:
    for name, n in COUNTS.items():
        head = row_of(geometry, "head_norm", arm="flat", **{"class": name})
        assert head["value"] == pytest.approx((n**-0.1 + n**-0.08) / 2)
        assert (head["n_images"], head["n_patients"]) == (n, None) and "those of training" in head["reason"]
        feature = row_of(geometry, "feature_norm", arm="flat", **{"class": name})
        assert feature["value"] == pytest.approx(50 * n**0.1)
        assert (feature["n_images"], feature["n_patients"]) == (60, 30)
        assert feature["band"] == {10: "tail", 40: "tail", 100: "middle", 400: "middle"}.get(n, "head")
    shuffled = row_of(geometry, "nc1_by_chance", arm="base")
    assert (shuffled["n_images"], shuffled["n_patients"]) == (180, 180)  # one image a patient


def test_probes_count_patients_with_the_finding_and_tell_their_standard_error(geometry: list[dict[str, Any]]) -> None:
    for name in CLASSES:
        shallow, deep = (
            row_of(geometry, "probe_ap", arm="base", layer=layer, **{"class": name}) for layer in ("shallow", "deep")
        )
        assert shallow["value"] < 0.5 and deep["value"] > 0.95
        assert (deep["n_images"], deep["n_patients"]) == (30, 30)  # of 150 that the probe is fitted and judged on
        assert 0.02 < float(shallow["reason"].rsplit("standard error over patients ", 1)[1]) < 0.15


def test_the_layer_where_rare_classes_come_apart_is_a_name(geometry: list[dict[str, Any]]) -> None:
    together = row_of(geometry, "tail_saturates_at", arm="base")
    assert (together["layer"], together["verdict"]) == ("deep", "seed 0: deep, seed 1: deep")
    assert together["value"] is together["low"] is together["difference"] is None and together["status"] == "ok"
    assert (together["n_seeds"], together["n_patients"], together["reason"]) == (2, 30, "")
    for seed in (0, 1):
        own = row_of(geometry, "tail_saturates_at", arm="base", seed=seed)
        assert (own["layer"], own["verdict"], own["status"]) == ("deep", "deep", "ok")


def test_seeds_that_do_not_agree_are_told_one_by_one() -> None:
    def line(seed: int, layer: str | None, reason: str = "") -> dict[str, Any]:
        about = {"arm": "base", "seed": seed, "metric": "tail_saturates_at", "value": None}
        return about | {"layer": layer, "reason": reason, "n_images": 12, "n_patients": 12}

    rows = geometry_rows([line(2, None, "by lot"), line(0, "l2"), line(1, "l3")], baseline="base")
    assert [one["seed"] for one in rows] == [None, 0, 1, 2]
    assert (rows[0]["layer"], rows[0]["verdict"]) == (None, "seed 0: l2, seed 1: l3, seed 2: none")
    assert (rows[0]["status"], rows[0]["reason"]) == ("ok", "by lot")
    assert [one["layer"] for one in rows[1:]] == ["l2", "l3", None] and rows[3]["status"] == "absent"


def test_two_classes_have_no_tail_and_no_angles() -> None:
    probe = replace(probe_of(80), patients=np.arange(80))
    features = np.random.default_rng(1).normal(size=(80, 5)) + 3 * probe.labels[:, :1]
    one = network("base", 0, features=features, head=(np.eye(2, 5), np.zeros(2)), logits=features[:, :2],
                  pooled={"l": features}, names=("l",))  # fmt: skip
    look = look_at(one, probe=probe, counts={"even": 90, "odd": 10}, drawn=draw(probe.labels, probe.patients))
    rows = geometry_rows(geometry_facts(look, one), baseline="base", bands=bands(probe.classes, look.counts))
    for metric in ("nc2_norms", "nc2_angles"):
        of = row_of(rows, metric, arm="base")
        assert of["value"] is None and of["reason"] == "two classes: always 0"
        assert not [line for line in rows if line["metric"].startswith(f"{metric}_by_chance")]
    for metric in ("tail_saturates_at", "minority_collapse"):
        of = row_of(rows, metric, arm="base")
        assert (of["value"], of["verdict"], of["reason"]) == (None, None, "no class of this task is in the tail")
        assert of["status"] == "absent"


def test_a_separation_within_strata_tells_how_many_images_it_speaks_of() -> None:
    """Of 40 images with a, 30 have no other finding, as 60 without a; 10 have b as well, as no image without a has."""
    labels = np.zeros((100, 2))
    labels[:40, 0], labels[:10, 1] = 1, 1
    probe = ProbeSet(np.zeros((100, 1, 2, 2)), labels, np.arange(100), ("a", "b"))
    logits = np.random.default_rng(0).normal(size=(100, 2)) + 2 * labels
    one = network("base", 0, features=logits, head=None, logits=logits, pooled={}, names=())
    look = look_at(one, probe=probe, kind="independent", drawn=draw(labels, probe.patients))
    rows = geometry_rows(geometry_facts(look, one), baseline="base")
    of = row_of(rows, "d_prime_stratified", arm="base", **{"class": "a"})
    assert of["value"] is not None and of["n_patients"] == 40
    assert "75% of its images stand beside others with the same other findings" in of["reason"]


def test_pairs_of_units_made_on_the_images_they_are_judged_on_are_not_those_on_unseen_ones() -> None:
    """Units of noise: 24 images let them be paired well; on the other half the pairs are worth nothing."""
    rng = np.random.default_rng(3)
    units = [rng.normal(size=(24, 40)) for _ in range(2)]
    probe = replace(probe_of(24), patients=np.arange(24))
    networks = [network(arm, 0, pooled={"l": x}, names=("l",)) for arm, x in zip("ab", units, strict=True)]
    for one in networks:
        one.layer = "l"
    look = look_at(*networks, probe=probe, layer="l")
    rows = fact_rows("between", pd.DataFrame(_matched(look)), baseline=None)
    found = match(*units, shared_initialisation=False, patients=probe.patients, draws=1, names=("explain",))
    seen, unseen = (row_of(rows, metric, arm="a", other="b") for metric in ("unit_match", "unit_match_unseen"))
    assert seen["value"] == pytest.approx(found.quality.value) and seen["value"] > 0.4
    assert unseen["value"] == pytest.approx(found.held_out.value) and abs(unseen["value"]) < 0.2
    chance = row_of(rows, "unit_match_by_chance", arm="a", other="b")
    assert chance["value"] == pytest.approx(found.chance[0]) and abs(chance["value"] - seen["value"]) < 0.1
    assert (chance["n_images"], chance["n_patients"]) == (24, 24)


def layered(arm: str, seed: int, *, shared: float, names: tuple[str, ...] = ("l1", "l2", "l3")) -> Any:
    """The last layer but one is the same in all networks, as far as `shared`; the others are each network's own, and
    the deepest is the shallowest turned and stretched."""
    rng = np.random.default_rng([seed, ord(arm[0])])
    common = np.random.default_rng(9).normal(size=(200, 6))
    pooled = {name: rng.normal(size=(200, 6)) for name in names}
    pooled[names[-2]] = shared * common + (1 - shared) * pooled[names[-2]]
    pooled[names[-1]] = 3 * pooled[names[0]] @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + 1
    return network(arm, seed, pooled=pooled, names=names)


def test_likeness_is_told_layer_by_layer_between_networks_and_within_them() -> None:
    networks = [layered("a", s, shared=1.0) for s in (0, 1, 2)] + [layered("b", s, shared=0.6) for s in (0, 1, 2)]
    look = look_at(*networks)
    rows = np.arange(0, 200, 2)
    table = fact_rows("between", pd.DataFrame(_alike_by_layer(look, rows)), baseline=None)
    overlapping(table)
    value = {(one["arm"], one["other"], one["layer"], one["other_layer"]): one for one in table}
    assert len(value) == len(table) == 3 * 3 + 2 * 3  # three pairs of arms at three layers; three pairs of layers each
    for arm, other in (("a", "a"), ("b", "b"), ("a", "b")):
        for layer in ("l1", "l3"):
            assert abs(value[arm, other, layer, layer]["value"]) < 0.1
    assert value["a", "a", "l2", "l2"]["value"] == pytest.approx(1.0)
    assert 0.3 < value["a", "b", "l2", "l2"]["value"] < 0.95
    pairs = [debiased(networks[s].seen.pooled["l2"][rows], networks[3 + s].seen.pooled["l2"][rows]) for s in range(3)]
    assert value["a", "b", "l2", "l2"]["value"] == pytest.approx(np.mean(pairs))
    for arm in "ab":
        assert value[arm, arm, "l1", "l3"]["value"] == pytest.approx(1.0)
        assert abs(value[arm, arm, "l1", "l2"]["value"]) < 0.1
    within, seeds = value["a", "a", "l1", "l2"], value["b", "b", "l2", "l2"]
    assert within["n_seeds"] == 3 and within["low"] is not None  # a network a seed
    assert seeds["low"] is None and "share networks" in seeds["reason"]
    assert all((one["n_images"], one["n_patients"], one["class"]) == (100, 100, None) for one in table)


def test_layers_are_matched_from_the_deepest_and_others_left_out() -> None:
    deeper = layered("b", 0, shared=1.0, names=("x0", "x1", "x2", "x3"))
    shorter = layered("c", 0, shared=1.0, names=("y2", "y3"))
    lines = _alike_by_layer(look_at(layered("a", 0, shared=1.0), deeper, shorter), np.arange(0, 200, 2))
    said = {(line["arm"], line["other"], line["layer"], line["other_layer"]): line["value"] for line in lines}
    assert set(said) == {
        ("a", "b", "l1", "l1"), ("a", "b", "l2", "l2"), ("a", "b", "l3", "l3"),
        ("a", "c", "l2", "l2"), ("a", "c", "l3", "l3"), ("b", "c", "l2", "l2"), ("b", "c", "l3", "l3"),
        ("a", "a", "l1", "l2"), ("a", "a", "l1", "l3"), ("a", "a", "l2", "l3"),
        ("b", "b", "l1", "l2"), ("b", "b", "l1", "l3"), ("b", "b", "l2", "l3"), ("c", "c", "l2", "l3"),
    }  # fmt: skip
    assert said["a", "b", "l2", "l2"] == pytest.approx(1.0)


def test_a_look_says_all_of_it() -> None:
    arms = {"plain": [net(0), net(1)], "other": [net(2), net(3)]}
    look = raresight.look(arms=arms, probe=probe_of(40), counts={"even": 100, "odd": 10}).run(["geometry"])
    rows = look.tables()["between"]
    layers = [layer.name for layer in look.looked[0].seen.layers]
    assert len(layers) == 2
    said = {
        (r["arm"], r["other"], r["layer"], r["other_layer"]) for r in rows if r["metric"] == "cka" and not r["class"]
    }
    within = {(arm, arm, *layers) for arm in arms}
    pairs = [("plain", "plain"), ("other", "other"), ("plain", "other")]
    same = {(*pair, layer, layer) for pair in pairs for layer in layers}
    assert said == within | same | {(*pair, "features", None) for pair in pairs}
    assert len(between_facts(look)) >= len(rows)
    maps = [row for row in rows if row["metric"] == "map_spearman"]
    assert maps and all(row["n_patients"] is not None and row["n_patients"] <= 20 for row in maps)
