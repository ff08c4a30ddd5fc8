"""study.yaml: the contract's example is read, and each wrong entry is named with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from raresight.core.config import SplitSection, load_config, parse_config
from raresight.core.errors import ConfigError

EXAMPLE = """
data: {manifest: data/manifest.csv, root: ../images, uncertain: ignore, no_finding: drop}
task: {kind: exclusive, classes: [akiec, bcc, bkl, df, mel, nv, vasc], critical: [mel, bcc, akiec]}
split: {train: 0.7, val: 0.1, test: 0.2, group: lesion_id, seed: 0}
decision: {unit: lesion, column: lesion_id, aggregate: max}
image: {size: 224, preset: dermoscopy}
model: {backbone: resnet18, pretrained: true}
train: {epochs: 30, batch: 64, lr: 1.0e-3, precision: auto, select: macro_auprc}
seeds: [0, 1, 2]
arms:
  baseline: []
  cost_sensitive: [class_weights]
  focal: [{focal: {gamma: [0.5, 1, 2, 5]}}]
  hybrid: [heavy_augment, borderline_smote, focal]
  mine: {predictions: {val: V.csv, test: T.csv}}
costs: {missed: {mel: 20, bcc: 10, akiec: 10}, prevalence: {mel: 0.02}}
accept: {mel: {sensitivity_low: 0.85, alarms_per_1000_max: 150}}
"""
MINIMAL = {"task": {"kind": "exclusive", "classes": ["a", "b"]}}


def problems(written: dict) -> dict:
    with pytest.raises(ConfigError) as error:
        parse_config(written)
    assert error.value.exit_code == 2
    return {p.column: p for p in error.value.problems}


def test_the_example_of_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(EXAMPLE)
    config = load_config(path)
    assert config.problem.critical == ("mel", "bcc", "akiec")
    assert [arm.name for arm in config.parsed_arms] == ["baseline", "cost_sensitive", "focal", "hybrid", "mine"]
    assert config.split.group == "lesion_id"
    assert config.train.lr == 1e-3
    assert config.accept["mel"].alarms_per_1000_max == 150


def test_defaults_are_those_of_the_docs() -> None:
    config = parse_config(MINIMAL)
    assert (config.split.train, config.split.val, config.split.test) == (0.7, 0.1, 0.2)
    assert (config.split.group, config.seeds, config.arms) == ("patient_id", [0], {"baseline": []})
    assert config.data.uncertain == "refuse"


def test_an_unknown_key_names_the_nearest_at_every_depth() -> None:
    assert "'split'" in problems(MINIMAL | {"splt": {}})["splt"].remedy
    assert "'group'" in problems(MINIMAL | {"split": {"grup": "x"}})["split.grup"].remedy
    found = problems(MINIMAL | {"accept": {"a": {"sensitivty_low": 0.9}}})
    assert "'sensitivity_low'" in found["accept.a.sensitivty_low"].remedy


def test_every_wrong_entry_is_told_at_once() -> None:
    found = problems(MINIMAL | {"train": {"batch": 0, "lr": -1, "select": "accuracy"}, "image": {"size": 4}})
    assert set(found) == {"train.batch", "train.lr", "train.select", "image.size"}
    assert {p.code for p in found.values()} == {"RS-C34"}
    assert "given: 0" in found["train.batch"].found
    assert "macro_auprc" in found["train.select"].found


def test_a_missing_task_is_named() -> None:
    assert problems({})["task"].remedy == "add 'task'"
    with pytest.raises(ConfigError, match="add 'task'"):
        parse_config(None)
    assert problems(MINIMAL | {1: 2, "arms": {3: []}})  # keys that are no text are told, not tripped over


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": 0.8, "val": 0.1, "test": 0.2}, "is 1.1; the three shares must sum to 1"),
        ({"folds": 1}, "one fold leaves nothing to train on"),
        ({"train": 0.0, "val": 0.5, "test": 0.5}, "nothing to train on"),
        ({"train": 0.0, "val": 0.0, "test": 1.0, "folds": 5}, "nothing to train on"),
    ],
)
def test_shares_that_cannot_be(split: dict, message: str) -> None:
    assert message in problems(MINIMAL | {"split": split})["split"].found


def test_shares_in_floating_point_sum_to_one() -> None:
    assert SplitSection(train=0.7, val=0.2, test=0.1).folds == 0  # 0.7 + 0.2 + 0.1 = 0.9999999999999999


def test_names_that_are_no_classes() -> None:
    found = problems(MINIMAL | {"costs": {"missed": {"A": 3}}})
    assert "did you mean 'a'" in next(iter(found.values())).found
    named = {"task": {"kind": "exclusive", "classes": ["mel", "nv"], "critical": ["mell"]}}
    assert "'mel'" in problems(named)["task.critical"].remedy


def test_nothing_is_named_twice() -> None:
    found = problems({"task": {"kind": "exclusive", "classes": ["a", "b", "a"]}})
    assert "classes named twice: a" in found["task"].found
    assert "one run twice" in next(iter(problems(MINIMAL | {"seeds": [0, 1, 0]}).values())).found


@pytest.mark.parametrize("lr", [float("inf"), float("nan"), "fast", None, 0])
def test_a_learning_rate_is_a_positive_number(lr: object) -> None:
    assert problems(MINIMAL | {"train": {"lr": lr}})["train.lr"].code == "RS-C34"


def test_expected_cost_needs_the_costs_of_critical_classes() -> None:
    written = {"task": {"kind": "exclusive", "classes": ["a", "b"], "critical": ["a"]}}
    found = problems(written | {"train": {"select": "expected_cost"}})
    assert "missing ['a']" in next(iter(found.values())).found
    parse_config(written | {"train": {"select": "expected_cost"}, "costs": {"missed": {"a": 5}}})


def test_an_unknown_preset_names_the_nearest() -> None:
    assert "did you mean 'dermoscopy'" in problems(MINIMAL | {"image": {"preset": "dermoscpy"}})["image"].found


def test_files_that_are_no_study(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="raresight init") as missing:
        load_config(tmp_path / "study.yaml")
    assert missing.value.problems[0].code == "RS-C01"
    with pytest.raises(ConfigError, match="RS-C01"):
        load_config(tmp_path)  # a folder is no file
    for text in ("a: [1, 2\nb: 3", "a:\t- b\n - c: ]"):
        (tmp_path / "study.yaml").write_text(text)
        with pytest.raises(ConfigError, match="RS-C02"):
            load_config(tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(ConfigError):
        load_config(tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_text("just a sentence")
    with pytest.raises(ConfigError, match="RS-C34"):
        load_config(tmp_path / "study.yaml")


@pytest.mark.parametrize(
    ("costs", "place", "code", "found", "remedy"),
    [
        ({"matrix": {"a": {"b": -2}}}, "costs.matrix.a.b", "RS-C37", "cheaper than the correct answer", "0 or more"),
        ({"matrix": {"a": {"b": "dear"}}}, "costs.matrix.a.b", "RS-C37", "'dear' is not a cost", "{SAID: cost}"),
        ({"matrix": {"a": 20}}, "costs.matrix.a", "RS-C37", "20 is not a row of costs", "{SAID: cost}"),
        ({"matrix": [[0, 1], [1, 0]]}, "costs.matrix", "RS-C37", "not a table of classes", "write matrix"),
        ({"missed": 20}, "costs.missed", "RS-C37", "20 is not a table of classes", "write missed"),
        ({"missed": {"a": 0}}, "costs.missed.a", "RS-C37", "a cost of 0", "above 0"),
        ({"referral": 0}, "costs.referral", "RS-C37", "a referral that costs 0", "above 0"),
        ({"prevalence": {"a": 5}}, "costs.prevalence.a", "RS-C39", "5 lies outside", "did you mean 0.05 (5%)?"),
        ({"mised": {}}, "costs.mised", "RS-C33", "unknown key 'mised'", "did you mean 'missed'?"),
    ],
)
def test_costs_that_make_no_sense(costs: dict, place: str, code: str, found: str, remedy: str) -> None:
    problem = problems(MINIMAL | {"costs": costs})[place]
    assert problem.code == code and found in problem.found and remedy in problem.remedy


def test_a_misspelt_floor_is_named() -> None:
    found = problems(MINIMAL | {"decision": {"floors": {"a": {"sensitivty": 0.9}}}})
    assert "'sensitivity'" in found["decision.floors.a.sensitivty"].remedy
