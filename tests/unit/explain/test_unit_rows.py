"""T3 read from the table, of a planted network of which everything is known by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

import raresight
from raresight.explain.ablate import split_halves
from raresight.explain.dissect import Dissection
from raresight.explain.dissected import beyond_chance, dissected, unit_facts
from raresight.explain.legacy import legacy_concept_count
from raresight.explain.look import Look
from raresight.explain.probe import ProbeSet, Regions
from raresight.explain.tables import Row
from raresight.explain.thresholds import Thresholds
from raresight.explain.unit_auroc import auroc_of_units
from raresight.explain.unit_null import UnitNull

N, UNITS, SIDE = 120, 32, 8
CLASSES = ("used", "unused")


class Net(nn.Module):
    """Channel u of the image, doubled, is unit u. Units 0 and 1 make the first logit; unit 4, turned round, the second.

    With `around` the second logit is made of the image's channel 4 itself, past the layer.
    """

    def __init__(self, *, around: bool = False) -> None:
        super().__init__()
        self.layer = nn.Conv2d(UNITS, UNITS, 1, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(2 * torch.eye(UNITS)[:, :, None, None])
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        a = self.layer(x).mean((2, 3))
        second = x[:, 4].mean((1, 2)) if self.around else a[:, 4]
        return torch.stack([a[:, 0] + a[:, 1], -second], 1)


@cache
def planted() -> ProbeSet:
    """A third of the images has each class, a third none. Units 0 and 1 fire in the masks of the first, 2 and 3 in
    those of the second; unit 4 is lower all over images with the second; the others are noise."""
    rng = np.random.default_rng(0)
    label = np.arange(N) % 3
    masks = np.zeros((N, SIDE, SIDE), dtype=bool)
    images = 0.3 * rng.random((N, UNITS, SIDE, SIDE))
    for i in range(N):
        y, x = rng.integers(0, SIDE - 3, 2)
        masks[i, y : y + 4, x : x + 4] = True
        if label[i] < 2:
            images[i, 2 * label[i] : 2 * label[i] + 2, masks[i]] += 0.6
        if label[i] != 1:
            images[i, 4] += 0.3
    labels = np.eye(3)[label][:, :2]
    drawn = np.flatnonzero(label < 2)
    regions = Regions.of(drawn, label[drawn], masks[drawn])
    return ProbeSet(images.astype(np.float32), labels, np.arange(N), CLASSES, None, regions, "val")


@cache
def looked(*, around: bool = False) -> tuple[Look, list[Row]]:
    look = raresight.look(arms={"plain": [Net(around=around)]}, probe=planted(), layers="layer").run(["dissect"])
    return look, look.tables()["dissection"]


def found(metric: str, name: str | None = None, *, around: bool = False) -> Row:
    (one,) = [row for row in looked(around=around)[1] if row["metric"] == metric and row["class"] == name]
    return one


def lost(*names: object) -> float:
    """What AP loses where every image comes to have the same logit: 1 less the prevalence, mean over halves."""
    probe = planted()
    side = split_halves(probe.patients, probe.labels, *names)
    return float(np.mean([1 - probe.labels[side == half, 0].mean() for half in (0, 1)]))


def test_a_class_loses_all_without_the_detectors_that_its_logit_is_made_of() -> None:
    for around in (False, True):
        row = found("ablation_detectors", "used", around=around)
        assert row["value"] == pytest.approx(lost("explain", "detectors"))
        assert (row["layer"], row["n_images"], row["n_patients"]) == ("layer", 40, 40)


def test_a_class_loses_nothing_without_detectors_that_the_head_does_not_use() -> None:
    """Past the layer nothing is lost by any units; where unit 4 is used, it is at times among the others."""
    assert found("detectors", "unused")["value"] >= 2
    assert found("ablation_detectors", "unused", around=True)["value"] == 0
    assert -0.4 < found("ablation_detectors", "unused")["value"] <= 0


def test_the_best_features_before_the_head_are_told_of_the_features() -> None:
    row, other = found("ablation_excess", "used"), found("ablation_excess", "unused")
    assert row["layer"] == other["layer"] == "features"
    probe = planted()
    rows = probe.balanced(100, "units")
    side = split_halves(probe.patients[rows], probe.labels[rows], "explain")
    expected = np.mean([1 - probe.labels[rows][side == half, 0].mean() for half in (0, 1)])
    assert row["value"] == pytest.approx(expected)
    assert other["value"] < 0


def test_counts_and_shares() -> None:
    counts = [found("detectors_beyond_chance", name)["value"] for name in CLASSES]
    assert all(2 <= count <= 4 for count in counts)
    assert [found("detectors", name)["value"] for name in CLASSES] == counts
    assert found("detecting")["value"] == pytest.approx(sum(counts) / UNITS)
    assert found("concepts")["value"] == 2
    assert found("dead")["value"] == 0
    assert all(2 <= found("units_for_class", name)["value"] <= 4 for name in CLASSES)
    look, _ = looked()
    seen = look.looked[0].seen
    oracle = legacy_concept_count(seen.activations["layer"], planted().take(seen.kept), names=("explain",))
    for k, name in enumerate(CLASSES):
        count, excess = found("legacy_concept_count", name), found("legacy_excess", name)
        assert count["value"] == pytest.approx(oracle.count[oracle.label == k].mean())
        assert excess["value"] == pytest.approx(oracle.excess[oracle.label == k].mean())
        assert count["value"] > excess["value"] + 0.5
        assert count["n_patients"] == excess["n_patients"] == 40


def test_the_best_unit_and_the_best_by_chance() -> None:
    look, rows = looked()
    probe, pooled = planted(), look.looked[0].seen.pooled["layer"]
    of = probe.balanced(100, "units")
    for k, name in enumerate(CLASSES):
        best, null = found("best_unit_auroc", name), found("null_best_unit_auroc", name)
        assert best["value"] == max(roc_auc_score(probe.labels[of, k], pooled[of, u]) for u in range(UNITS)) == 1
        assert "by chance too" in best["reason"]
        rng = np.random.default_rng(k)
        dealt = [rng.permutation(probe.labels[of, k]) for _ in range(200)]
        highest = [auroc_of_units(pooled[of], y == 1).max() for y in dealt]
        assert null["value"] == pytest.approx(np.mean(highest), abs=0.01)
        assert 0.5 < null["low"] < null["value"] < null["high"] < 0.9
        assert (null["n_images"], null["n_patients"], null["n_seeds"]) == (40, 40, 1)
        for metric in ("best_excess", "best_normalised"):
            mine, chance = found(metric, name), found(f"null_{metric}", name)
            assert mine["value"] > chance["high"] > chance["value"] > 0
            assert mine["n_patients"] == chance["n_patients"] == 40
    assert {row["layer"] for row in rows if row["metric"].startswith("null_")} == {"layer"}


def test_the_highest_by_chance_are_means_over_the_dealings() -> None:
    look, _ = looked()
    one = look.looked[0]
    dissection = dissected(one.seen, look.probe, "layer", 0.005, look.home(one.network))
    null = beyond_chance(one.seen, look.probe, "layer", dissection, look.home(one.network))
    for metric, values in (("best_excess", null.top_excess), ("best_normalised", null.top_normalised)):
        expected = values.mean(axis=0)[:2].tolist()
        assert [found(f"null_{metric}", name)["value"] for name in CLASSES] == pytest.approx(expected)


def test_each_class_has_as_many_units_taken_away_as_detect_it() -> None:
    """Where no unit shows the second class, there is nothing to take away for it, and all the same for the first."""
    images = np.array(planted().images)
    images[:, 2:4] = 0.3 * np.random.default_rng(2).random((N, 2, SIDE, SIDE))
    probe = replace(planted(), images=images)
    look = raresight.look(arms={"plain": [Net()]}, probe=probe, layers="layer").run(["dissect"])
    rows = {row["class"]: row for row in look.tables()["dissection"] if row["metric"] == "ablation_detectors"}
    assert rows["used"]["value"] == pytest.approx(lost("explain", "detectors"))
    assert (rows["unused"]["value"], rows["unused"]["reason"]) == (None, "no detector")


def test_of_one_patient_nothing_can_be_beyond_chance() -> None:
    probe = replace(planted(), patients=np.zeros(N))
    look = raresight.look(arms={"plain": [Net()]}, probe=probe, layers="layer").run(["dissect"])
    rows = {(row["metric"], row["class"]): row for row in look.tables()["dissection"]}
    by_class = ("detectors_beyond_chance", "best_excess", "units_for_class", "null_best_unit_auroc", "null_best_excess")
    for metric, name in [(m, c) for m in (*by_class, "ablation_detectors") for c in CLASSES]:
        assert rows[metric, name]["value"] is None and "one patient" in rows[metric, name]["reason"], metric
    for metric in ("concepts", "detecting"):
        assert rows[metric, None]["value"] is None and "one patient" in rows[metric, None]["reason"]
    assert rows["best_normalised", "used"]["value"] == found("best_normalised", "used")["value"]
    assert rows["best_normalised", "used"]["n_patients"] == 1
    assert rows["dead", None]["value"] == 0


def test_a_class_without_a_detector_and_a_network_that_is_not_made(tmp_path: Path) -> None:
    """Noise has no detectors: no reason to make the network; the ablation of the first network is only read again."""
    probe = planted()
    noise = replace(probe, images=np.random.default_rng(1).random(probe.images.shape).astype(np.float32))
    made: list[int] = []

    def make() -> nn.Module:
        made.append(1)
        return Net()

    for given, name in ((noise, "noise"), (probe, "planted")):
        for turn in range(2):
            look = raresight.look(arms={"plain": [make]}, probe=given, layers="layer", cache=tmp_path / name)
            look.run(["dissect"])
            made.clear()
            rows = [row for row in look.tables()["dissection"] if row["metric"] == "ablation_detectors"]
            assert len(made) == (name == "planted" and not turn), (name, turn)
            if name == "noise":
                assert [(row["value"], row["reason"]) for row in rows] == [(None, "no detector")] * 2


def test_unit_facts_by_hand() -> None:
    """Unit 0 shares 6 of 10 pixels with class a, 0 with b; unit 1 shares 2 with each; nobody drew c."""
    dissection = Dissection(
        ("a", "b", "c"), Thresholds(np.zeros(2), np.full(2, 0.1), 0.1, 100), (4, 4), (4, 4),
        area=np.array([[8, 4], [0, 4], [0, 0]]), row=np.array([0, 1]), concept=np.array([0, 1]),
        shared=np.array([[6, 2], [0, 2]]), inside=np.array([10, 6]), known=np.ones((3, 3), dtype=bool),
    )  # fmt: skip
    iou = np.array([[6 / 12, 0.0, np.nan], [2 / 16, 2 / 12, np.nan]])
    mean = np.array([[0.1, 0.05, np.nan], [0.1, 0.05, np.nan]])
    high = np.array([[0.2, 0.2, np.nan], [0.3, 0.3, np.nan]])
    p = np.array([[0.01, 0.9, np.nan], [0.5, 0.4, np.nan]])
    ceiling = dissection.ceiling
    none = np.zeros((0, 3))
    null = UnitNull(iou, ceiling, mean, high, p, p, np.full(3, 200), np.ones(3, bool), "known", 0.05, none, none, none)
    lines = unit_facts(dissection, null, np.array(["x", "x", "y"]))
    said = {(line["metric"], line.get("class")): line for line in lines}
    value = {key: line["value"] for key, line in said.items()}
    assert value["best_normalised", "a"] == pytest.approx(0.5 / 0.8)
    assert value["best_normalised", "b"] == pytest.approx((2 / 12) / (6 / 8))
    assert value["best_excess", "a"] == pytest.approx(0.4) and value["best_excess", "b"] == pytest.approx(1 / 6 - 0.05)
    assert [value["detectors_beyond_chance", name] for name in "abc"] == [1, 0, None]
    assert value["concepts", None] == 1 and value["detecting", None] == 0.5
    assert said["best_excess", "c"]["reason"] == "nobody drew where it lies" == said["best_normalised", "c"]["reason"]
    assert [said["best_excess", name]["n_patients"] for name in "abc"] == [1, 1, 0]
    plain = {line["metric"]: line["value"] for line in unit_facts(dissection, None, np.array(["x", "x", "y"]))}
    assert plain["concepts"] == 2 and plain["detecting"] == 1  # by the published rule, above 0.04
    assert "best_excess" not in plain


def test_average_precision_of_the_planted_logits_is_one() -> None:
    """What `lost` takes for granted."""
    probe = planted()
    with torch.no_grad():
        logits = Net()(torch.from_numpy(np.asarray(probe.images))).numpy()
    assert [average_precision_score(probe.labels[:, k], logits[:, k]) for k in range(2)] == [1, 1]


def test_where_all_findings_have_a_class_in_common_images_without_a_finding_lack_it() -> None:
    """On films of two collections every film with a finding may be one of pneumonia too."""
    labels = np.array([[1, 1]] * 4 + [[1, 0]] * 4 + [[0, 0]] * 8, dtype=float)
    probe = ProbeSet(np.zeros((16, 1, 4, 4), np.float32), labels, np.arange(16), ("common", "rare"))
    rows = probe.balanced(6, "units")
    assert (labels[rows, 0] == 1).sum() >= 6 and (labels[rows, 0] == 0).sum() == 6
    everywhere = ProbeSet(np.zeros((8, 1, 4, 4), np.float32), labels[:8], np.arange(8), ("common", "rare"))
    assert (labels[everywhere.balanced(6, "units"), 0] == 1).all()
