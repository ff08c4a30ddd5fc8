"""An arm as written in study.yaml."""

from __future__ import annotations

import pytest

from raresight.core.arm import Arm, StrategySpec
from raresight.core.config import parse_config
from raresight.core.errors import ConfigError


def test_names_and_settings_in_order() -> None:
    arm = Arm.parse("hybrid", ["heavy_augment", {"focal": {"gamma": 2}}, {"ema": None}, "my.module:Loss"])
    assert arm.strategies == (
        StrategySpec("heavy_augment"),
        StrategySpec("focal", {"gamma": 2}),
        StrategySpec("ema"),
        StrategySpec("my.module:Loss"),
    )
    assert [s.as_yaml() for s in arm.strategies[:2]] == ["heavy_augment", {"focal": {"gamma": 2}}]
    assert arm.as_dict()["strategies"][1] == {"name": "focal", "settings": {"gamma": 2}}
    assert arm.predictions is None


def test_the_baseline_is_an_empty_list() -> None:
    assert Arm.parse("baseline", []).strategies == ()


def test_an_arm_trained_elsewhere() -> None:
    arm = Arm.parse("mine", {"predictions": {"val": "V.csv", "test": "T.csv"}})
    assert (arm.predictions, arm.strategies) == ({"val": "V.csv", "test": "T.csv"}, ())


@pytest.mark.parametrize(
    "written",
    ["focal", None, {"focal": {}}, [["focal"]], [{"focal": 2}], [{"focal": {}, "ema": {}}], [3], {"predictions": "x"}],
)
def test_anything_else_is_refused_by_name(written: object) -> None:
    with pytest.raises(ConfigError) as error:
        Arm.parse("mine", written)
    assert error.value.problems[0].column == "arms.mine"
    assert error.value.problems[0].code == "RS-C33"


def test_where_the_network_comes_from() -> None:
    heads = Arm.parse("heads", ["smote", {"frozen": "baseline"}, {"focal": {"gamma": 2}}])
    assert (heads.frozen, heads.backbone) == ("baseline", None)
    assert [spec.name for spec in heads.strategies] == ["smote", "focal"]
    assert heads.as_dict()["frozen"] == "baseline" and "backbone" not in heads.as_dict()
    other = Arm.parse("other", [{"backbone": "resnet18+cbam"}])
    assert (other.frozen, other.backbone, other.strategies) == (None, "resnet18+cbam", ())
    assert other.as_dict()["backbone"] == "resnet18+cbam" and "frozen" not in other.as_dict()
    assert set(Arm.parse("plain", ["focal"]).as_dict()) == {"name", "strategies"}


@pytest.mark.parametrize(
    ("written", "code", "words"),
    [
        (["frozen"], "RS-C34", "{frozen: baseline}"),
        ([{"backbone": None}], "RS-C34", "{backbone: resnet18+se}"),
        ([{"frozen": ["baseline"]}], "RS-C34", "is not a name"),
        ([{"frozen": {"arm": "baseline"}}], "RS-C34", "is not a name"),
        ([{"frozen": "a"}, {"frozen": "b"}], "RS-C35", "'frozen' stands twice"),
        ([{"backbone": "a"}, "focal", {"backbone": "b"}], "RS-C35", "'backbone' stands twice"),
        ([{"frozen": "a"}, {"backbone": "b"}], "RS-C35", "stand together"),
        ([{"backbone": "b"}, {"frozen": "a"}], "RS-C35", "stand together"),
    ],
)
def test_a_network_written_wrongly_is_refused(written: list, code: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Arm.parse("mine", written)
    (problem,) = error.value.problems
    assert problem.code == code and words in str(problem) and problem.column.startswith("arms.mine.")


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("basline", "RS-C33", "did you mean 'baseline'?"),
        ("zzz", "RS-C33", "name one of baseline, other"),
        ("mine", "RS-C35", "'mine' names itself"),
        ("heads", "RS-C35", "write {frozen: baseline}"),
        ("outside", "RS-C35", "was trained elsewhere"),
    ],
)
def test_a_frozen_arm_names_a_whole_arm_of_the_study(source: str, code: str, words: str) -> None:
    arms = {
        "mine": [{"frozen": source}],
        "baseline": [],
        "heads": [{"frozen": "baseline"}],
        "outside": {"predictions": {"val": "V.csv"}},
        "other": [{"backbone": "resnet10t"}],
    }
    with pytest.raises(ConfigError) as error:
        parse_config({"task": {"kind": "exclusive", "classes": ["a", "b"]}, "arms": arms})
    (problem,) = error.value.problems
    assert problem.code == code and words in str(problem) and problem.column == "arms.mine.frozen"


def test_the_settings_of_an_arm_have_its_network() -> None:
    arms = {"baseline": [], "big": [{"backbone": "resnet50"}], "heads": [{"frozen": "big"}], "few": ["focal"]}
    config = parse_config({"task": {"kind": "exclusive", "classes": ["a", "b"]}, "arms": arms})
    networks = {arm.name: config.for_arm(arm).model.backbone for arm in config.parsed_arms}
    assert networks == {"baseline": "resnet18", "big": "resnet50", "heads": "resnet50", "few": "resnet18"}
    assert config.for_arm(config.parsed_arms[1]).train == config.train


def test_a_budget_is_how_many_times_the_study_s_steps_an_arm_trains() -> None:
    arms = {"baseline": [], "twice": [{"budget": 2}, "ema"], "once": [{"budget": 1}], "most": [{"budget": 100}]}
    task = {"kind": "exclusive", "classes": ["a", "b"]}
    config = parse_config({"task": task, "train": {"epochs": 30, "warmup": 0.1}, "arms": arms})
    by_name = {arm.name: arm for arm in config.parsed_arms}
    assert {name: arm.budget for name, arm in by_name.items()} == {"baseline": 1, "twice": 2, "once": 1, "most": 100}
    assert by_name["twice"].strategies == (StrategySpec("ema"),)
    assert (by_name["twice"].as_dict()["budget"], "budget" in by_name["once"].as_dict()) == (2, False)
    trains = {name: config.for_arm(arm).train for name, arm in by_name.items()}
    assert {name: (t.epochs, t.steps) for name, t in trains.items()} == {
        "baseline": (30, None),
        "twice": (60, None),
        "once": (30, None),
        "most": (3000, None),
    }
    assert trains["twice"] == config.train.model_copy(update={"epochs": 60})  # warm-up is a share, and stays one
    counted = parse_config({"task": task, "train": {"epochs": 30, "steps": 500}, "arms": arms})
    found = counted.for_arm(by_name["twice"]).train
    assert (found.steps, found.epochs) == (1000, 60)
    assert counted.for_arm(by_name["once"]) is counted


def test_a_budget_goes_with_a_network_of_the_arm_s_own() -> None:
    arms = {"big": ["focal", {"budget": 3}, {"backbone": "resnet50"}], "heads": [{"frozen": "big"}]}
    config = parse_config({"task": {"kind": "exclusive", "classes": ["a", "b"]}, "arms": arms})
    big, heads = (config.for_arm(arm) for arm in config.parsed_arms)
    assert (big.model.backbone, big.train.epochs) == ("resnet50", 90)
    assert (heads.model.backbone, heads.train.epochs) == ("resnet50", 30)  # the budget was the network's


@pytest.mark.parametrize(
    ("written", "code", "words"),
    [
        ([{"budget": 0}], "RS-C34", "budget: 0 is not a whole number from 1 to 100"),
        ([{"budget": 101}], "RS-C34", "budget: 101 is not"),
        ([{"budget": -1}], "RS-C34", "budget: -1 is not"),
        ([{"budget": 1.5}], "RS-C34", "budget: 1.5 is not"),
        ([{"budget": 2.0}], "RS-C34", "budget: 2.0 is not"),
        ([{"budget": True}], "RS-C34", "budget: True is not"),
        ([{"budget": "two"}], "RS-C34", "budget: 'two' is not"),
        ([{"budget": [1, 2]}], "RS-C34", r"budget: \[1, 2\] is not"),
        (["budget"], "RS-C34", "'budget' without a number"),
        ([{"budget": None}], "RS-C34", "'budget' without a number"),
        ([{"budget": 2}, {"budget": 2}], "RS-C35", "'budget' stands twice"),
        ([{"budget": 1}, "ema", {"budget": 3}], "RS-C35", "'budget' stands twice"),
        ([{"budget": 2}, {"frozen": "baseline"}], "RS-C35", "'frozen' and 'budget' stand together"),
        ([{"frozen": "baseline"}, {"budget": 1}], "RS-C35", "'frozen' and 'budget' stand together"),
    ],
)
def test_a_budget_written_wrongly_is_refused(written: list, code: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Arm.parse("mine", written)
    (problem,) = caught.value.problems
    assert (problem.code, problem.column) == (code, "arms.mine.budget")


def test_a_list_is_a_grid_whose_last_list_moves_fastest() -> None:
    arm = Arm.parse("mine", ["ema", {"focal": {"gamma": [1, 2]}}, {"logit_adjustment": {"tau": [0.5, 1.0]}}])
    assert arm.has_grid and not Arm.parse("plain", ["ema", {"focal": {"gamma": 2}}]).has_grid
    values = [[spec.settings for spec in candidate.strategies[1:]] for candidate in arm.candidates]
    assert values == [[{"gamma": gamma}, {"tau": tau}] for gamma, tau in [(1, 0.5), (1, 1.0), (2, 0.5), (2, 1.0)]]
    assert not arm.candidates[0].has_grid
    assert arm.tuned(arm.candidates[2]) == {"focal": {"gamma": 2}, "logit_adjustment": {"tau": 0.5}}
    assert Arm.parse("plain", ["focal"]).candidates == (Arm.parse("plain", ["focal"]),)


@pytest.mark.parametrize(
    ("values", "words"), [([], "holds no value"), ([[1], [2]], "holds a list"), (list(range(17)), "17 candidates")]
)
def test_grids_that_are_none(values: list, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Arm.parse("mine", [{"focal": {"gamma": values}}])
    assert error.value.problems[0].code == "RS-C34" and words in str(error.value)
    assert len(Arm.parse("mine", [{"focal": {"gamma": list(range(16))}}]).candidates) == 16
