"""An arm as written in study.yaml."""

from __future__ import annotations

import pytest

from raresight.core.arm import Arm, StrategySpec
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
