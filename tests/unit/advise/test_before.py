"""Advice before a run: what fits severity, kind, preset, noise and size; never what cannot be built."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from raresight.advise.before import NOISES, advise
from raresight.advise.ready import BY_NAME, READY
from raresight.core.arm import Arm, check_sources
from raresight.core.severity import BANDS, severity
from raresight.core.task import Kind, Task

BY_BAND = {"balanced": 0.3, "mild": 0.12, "moderate": 0.05, "severe": 0.01, "extreme": 0.001}
GRID = list(itertools.product(BY_BAND, ("exclusive", "independent"), ("dermoscopy", "chest", "none"), NOISES, (12, 50)))


def row(name: str, prevalence: float, groups: int) -> dict[str, Any]:
    about = {"name": name, "prevalence": prevalence, "severity": severity(prevalence), "n_patients": 2 * groups}
    return about | {"parts": {"train": {"n_images": 3 * groups, "n_patients": groups}}}


def advice(band: str, kind: Kind = "exclusive", preset: str = "dermoscopy", noise: str = "none", groups: int = 50):  # type: ignore[no-untyped-def]
    task = Task(kind, ("mel", "nv"), ("mel",))
    rows = [row("mel", BY_BAND[band], groups), row("nv", 0.5, 900)]
    return advise({"classes": rows, "group_by": "lesion_id"}, task, preset, noise=noise)


def test_the_bands_are_all_of_them() -> None:
    assert list(BY_BAND) == [name for _, name in BANDS]


@pytest.mark.parametrize(("band", "kind", "preset", "noise", "groups"), GRID)
def test_arms_parse_fit_and_give_reasons(band: str, kind: Kind, preset: str, noise: str, groups: int) -> None:
    found = advice(band, kind, preset, noise, groups)
    arms = [Arm.parse(name, entry["strategies"]) for name, entry in found["arms"].items()]
    check_sources(arms)
    assert [arm.name for arm in arms[:2]] == ["baseline", "threshold_moved"]
    for name, entry in found["arms"].items():
        ready = BY_NAME[name.removeprefix("head_")]
        assert entry["why"] and entry["evidence"] and entry["cost"]
        assert kind in ready.kinds and band in ready.severities
        assert preset != "none" or not any("augment" in str(method) for method in entry["strategies"])
        assert set(ready.parts) <= set(found["arms"]), "a hybrid stands beside its parts"
    assert all(entry["what"] and entry["why"] and entry["evidence"] for entry in found["avoid"])


def test_moderate_and_extreme_have_their_hybrids() -> None:
    moderate, extreme = advice("moderate")["arms"], advice("extreme")["arms"]
    assert moderate["moderate_hybrid"]["strategies"] == ["heavy_augment", {"focal": {"gamma": 2}}]
    assert "smote" in moderate and "extreme_hybrid" not in moderate
    assert extreme["extreme_hybrid"]["strategies"] == ["heavy_augment", "borderline_smote", {"focal": {"gamma": 2}}]
    assert "smote" not in extreme and "moderate_hybrid" not in extreme
    assert extreme["head_borderline_smote"]["strategies"] == [{"frozen": "baseline"}, "borderline_smote"]
    assert list(extreme)[2].startswith("head_"), "cheap ones first"


def test_ten_training_groups_are_the_least_that_can_be_judged() -> None:
    assert len(advice("extreme", groups=10)["arms"]) > 2
    nine = advice("extreme", groups=9)
    assert list(nine["arms"]) == ["baseline", "threshold_moved"] and nine["decides"] is None
    assert any("no method can be judged for 'mel' (9 training groups" in note for note in nine["notes"])


def test_scarce_cases_bring_heads_and_thirty_groups_do_not() -> None:
    assert any(name.startswith("head_") for name in advice("moderate", groups=29)["arms"])
    assert not any(name.startswith("head_") for name in advice("moderate", groups=30)["arms"])


def test_the_most_severe_critical_class_that_can_be_judged_decides() -> None:
    task = Task("exclusive", ("a", "b", "c", "d"), ("a", "b", "c"))
    rows = [row("a", 0.001, 5), row("b", 0.05, 40), row("c", 0.01, 40), row("d", 0.001, 40)]
    found = advise({"classes": rows}, task, "dermoscopy")
    assert found["decides"] == "c", "a has too few patients, d is not critical"
    assert {entry["class"]: entry["severity"] for entry in found["classes"]}["d"] == "extreme"


def test_much_noise_leaves_out_what_multiplies_wrong_labels() -> None:
    assert "cost_sensitive" in advice("moderate", noise="some")["arms"]
    noisy = advice("moderate", noise="much")
    assert not {"cost_sensitive", "smote"} & set(noisy["arms"]) and "moderate_hybrid" in noisy["arms"]
    assert any("wrong rare label" in entry["why"] for entry in noisy["avoid"])


def test_what_not_to_try_follows_the_preset_and_the_severity() -> None:
    chest = {entry["what"] for entry in advice("extreme", "independent", "chest")["avoid"]}
    skin = {entry["what"] for entry in advice("moderate")["avoid"]}
    assert {"horizontal flips", "CutMix", "focal alone, as the answer", "plain SMOTE"} <= chest
    assert not {"horizontal flips", "focal alone, as the answer", "plain SMOTE"} & skin
    assert "CutMix" not in {entry["what"] for entry in advice("moderate", preset="histology")["avoid"]}


def test_without_a_split_seven_tenths_of_the_groups_are_reckoned_with() -> None:
    task = Task("exclusive", ("mel", "nv"), ("mel",))
    planned = {key: value for key, value in row("mel", 0.05, 7).items() if key != "parts"}  # 14 groups: 9 trained on
    found = advise({"classes": [planned | {"parts": {}}, row("nv", 0.5, 90)]}, task, "dermoscopy")
    assert found["classes"][0]["n_training_groups"] == 9 and not found["classes"][0]["counted"]


def test_every_ready_arm_builds_for_its_kinds() -> None:
    pytest.importorskip("torch")
    from raresight.strategies import build

    for ready in READY:
        for kind in ready.kinds:
            build(Arm.parse(ready.name, list(ready.strategies)), Task(kind, ("mel", "nv", "df")))
